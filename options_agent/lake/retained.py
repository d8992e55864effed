"""Days that were deleted here after the archive proved to hold them: archived, not lost.

Reads the receipts that `retention` leaves, so that readers and gap reports can tell such a day from a hole.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from options_agent.lake import layout
from options_agent.lake.raw import SnapshotFile
from options_agent.lake.receipts import read_receipt, receipts
from options_agent.lake.sweeps import SweepNote

if TYPE_CHECKING:
    from options_agent.lake.layout import Layer
    from options_agent.lake.receipts import Receipt
    from options_agent.lake.root import Lake

STAGE: Final = "retention"


@dataclass(frozen=True, slots=True)
class RetainedDay:
    """A day of which at least one layer lies in the archive only.

    `layers` are those absent here; `snapshots` the raw snapshots the day had, with no path, where raw is absent, and `sweeps`
    what was said of them; `archive` and `manifest` say where the bytes are.
    """

    underlying: str
    day: dt.date
    layers: tuple[Layer, ...]
    snapshots: tuple[SnapshotFile, ...]
    sweeps: tuple[SweepNote, ...]
    archive: str
    manifest: str


def retained_days(lake: Lake, underlying: str, start: dt.date | None = None, end: dt.date | None = None) -> dict[dt.date, RetainedDay]:
    """Days of an underlying that are archived and no longer here, ascending; `start` to `end` inclusive, all by default.

    A layer of which any file lies here (restored, harvested again, or a deletion cut short) is not counted as absent.

    Raises:
        DataError: a receipt is damaged.
        StorageError: the lake cannot be read.
    """
    told = {dt.date.fromisoformat(receipt.partition): receipt for receipt in receipts(lake, STAGE, underlying)}
    wanted = {day: told[day] for day in sorted(told) if (start is None or day >= start) and (end is None or day <= end)}
    here: dict[Layer, set[dt.date | None]] = {}  # one listing a layer, not one a day
    for layer in {layer for receipt in wanted.values() for layer in recorded_layers(receipt)}:
        here[layer] = {layout.day_of(path) for path in lake.files.find(layout.underlying_folder(layer, underlying))}
    found = {
        day: _retained(receipt, day, tuple(layer for layer in recorded_layers(receipt) if day not in here[layer]))
        for day, receipt in wanted.items()
    }
    return {day: one for day, one in found.items() if one is not None}


def retained_day(lake: Lake, underlying: str, day: dt.date) -> RetainedDay | None:
    """What of one day lies in the archive only; None where nothing does."""
    receipt = read_receipt(lake, STAGE, underlying, day.isoformat())
    if receipt is None:
        return None
    absent = tuple(layer for layer in recorded_layers(receipt) if not lake.files.find(layout.day_folder(layer, underlying, day)))
    return _retained(receipt, day, absent)


def _retained(receipt: Receipt, day: dt.date, absent: tuple[Layer, ...]) -> RetainedDay | None:
    if not absent:
        return None
    details = receipt.details
    snapshots: tuple[SnapshotFile, ...] = ()
    sweeps: tuple[SweepNote, ...] = ()
    if "raw" in absent:
        snapshots = tuple(SnapshotFile(dt.datetime.fromisoformat(at), source, region, "", 0) for at, source, region in details["snapshots"])
        sweeps = tuple(SweepNote(dt.datetime.fromisoformat(at), *rest) for at, *rest in details["sweeps"])
    return RetainedDay(receipt.underlying, day, absent, snapshots, sweeps, details["archive"], details["manifest"])


def retained_snapshots(lake: Lake, underlying: str, day: dt.date) -> list[SnapshotFile]:
    """The raw snapshots of a day that lies in the archive only, in time order, without path; empty where raw is here or never was."""
    retained = retained_day(lake, underlying, day)
    return list(retained.snapshots) if retained else []


def is_retained(lake: Lake, layer: Layer, underlying: str, day: dt.date) -> bool:
    """Whether a layer of a day lies in the archive only."""
    retained = retained_day(lake, underlying, day)
    return retained is not None and layer in retained.layers


def recorded_layers(receipt: Receipt) -> tuple[Layer, ...]:
    """The layers that a retention receipt says were deleted."""
    return tuple(receipt.details["layers"])
