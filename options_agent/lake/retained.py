"""Days that were deleted here after the archive proved to hold them: archived, not lost.

Reads the receipts that `retention` leaves, so that readers and gap reports can tell such a day from a hole.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from options_agent.lake import layout
from options_agent.lake.raw import SnapshotFile
from options_agent.lake.receipts import read_receipt
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
    found = {}
    for path in lake.files.find(layout.receipt_folder(STAGE, underlying)):
        day = dt.date.fromisoformat(path.rsplit("/", 1)[-1].removesuffix(".json"))
        if (start is None or day >= start) and (end is None or day <= end) and (retained := retained_day(lake, underlying, day)):
            found[day] = retained
    return dict(sorted(found.items()))


def retained_day(lake: Lake, underlying: str, day: dt.date) -> RetainedDay | None:
    """What of one day lies in the archive only; None where nothing does."""
    receipt = read_receipt(lake, STAGE, underlying, day.isoformat())
    if receipt is None:
        return None
    layers = tuple(layer for layer in recorded_layers(receipt) if not lake.files.find(layout.day_folder(layer, underlying, day)))
    if not layers:
        return None
    snapshots: tuple[SnapshotFile, ...] = ()
    sweeps: tuple[SweepNote, ...] = ()
    if "raw" in layers:
        snapshots = tuple(
            SnapshotFile(dt.datetime.fromisoformat(at), source, region, "", 0) for at, source, region in receipt.details["snapshots"]
        )
        sweeps = tuple(SweepNote(dt.datetime.fromisoformat(at), *rest) for at, *rest in receipt.details.get("sweeps", ()))
    return RetainedDay(underlying, day, layers, snapshots, sweeps, receipt.details["archive"], receipt.details["manifest"])


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
