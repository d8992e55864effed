"""Where everything in the lake lies: pure functions from names to relative paths and back.

Every path here is relative to `{root}/{network}` and uses `/`. No input or output happens in this module.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Final, Literal

from options_agent.errors import DataError

Layer = Literal["raw", "clean", "quarantine"]
DayLayer = Literal["clean", "quarantine"]
SeriesName = Literal["prices", "dvol", "funding", "trades"]

DAY_FILE: Final = "day.parquet"
_NAME: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.@+=-]*$")
_UNDERLYING: Final = re.compile(r"^[A-Z0-9]+(?:_[A-Z0-9]+)*$")
_SNAPSHOT: Final = re.compile(r"^(?P<snapshot>\d{8}T\d{6}Z)-(?P<source>[A-Za-z0-9_.]+)-(?P<region>[A-Za-z0-9_.]+)\.parquet$")
_PART: Final = re.compile(r"^[A-Za-z0-9_.]+$")


def underlying_folder(layer: Layer, underlying: str) -> str:
    """`clean/quotes/underlying=BTC`."""
    return f"{layer}/quotes/underlying={_checked_underlying(underlying)}"


def day_folder(layer: Layer, underlying: str, day: dt.date) -> str:
    """`clean/quotes/underlying=BTC/day=2026-01-31`."""
    return f"{underlying_folder(layer, underlying)}/day={day:%Y-%m-%d}"


def day_path(layer: Layer, underlying: str, day: dt.date) -> str:
    """The one file of a clean or quarantined day, or of a compacted raw day."""
    return f"{day_folder(layer, underlying, day)}/{DAY_FILE}"


def snapshot_path(underlying: str, snapshot: dt.datetime, source: str, region: str) -> str:
    """The immutable raw file of one snapshot.

    Raises:
        DataError: `snapshot` is naive or finer than a second, or a name would not survive in a path.
    """
    for part, name in (("source", source), ("region", region)):
        if not _PART.match(name):
            raise DataError(
                f"{part} {name!r} cannot be part of a file name",
                remedy="use letters, digits, `_` and `.` only (a dash separates the parts)",
            )
    at = _checked_instant(snapshot)
    return f"{day_folder('raw', underlying, at.date())}/{at:%Y%m%dT%H%M%SZ}-{source}-{region}.parquet"


def parse_snapshot_name(name: str) -> tuple[dt.datetime, str, str] | None:
    """Snapshot, source and region of a raw file's name; None where it is not one (a day file, a stranger)."""
    if not (m := _SNAPSHOT.match(name)):
        return None
    return dt.datetime.strptime(m["snapshot"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC), m["source"], m["region"]


def is_snapshot(path: str) -> bool:
    """Whether a path is that of a raw snapshot's own file."""
    return path.startswith("raw/quotes/underlying=") and parse_snapshot_name(path.rsplit("/", 1)[-1]) is not None


def series_folder(name: SeriesName, underlying: str) -> str:
    """`raw/prices/underlying=BTC`."""
    return f"raw/{name}/underlying={_checked_underlying(underlying)}"


def series_path(name: SeriesName, underlying: str, day: dt.date, region: str | None = None) -> str:
    """One day of a series: the day's file, or that of one live harvester beside it."""
    file = DAY_FILE if region is None else f"{_checked_name('region', region)}.parquet"
    return f"{series_folder(name, underlying)}/day={day:%Y-%m-%d}/{file}"


def receipt_folder(stage: str, underlying: str | None = None) -> str:
    """`receipts/quality/underlying=BTC`, or the whole stage's folder."""
    folder = f"receipts/{_checked_name('stage', stage)}"
    return folder if underlying is None else f"{folder}/underlying={_checked_name('underlying', underlying)}"


def receipt_path(stage: str, underlying: str, partition: str) -> str:
    """One receipt: `receipts/quality/underlying=BTC/2026-01-31.json`."""
    return f"{receipt_folder(stage, underlying)}/{_checked_name('partition', partition)}.json"


def day_of(path: str) -> dt.date | None:
    """The day a path lies under (its `day=` folder), or None."""
    for part in path.split("/"):
        if part.startswith("day="):
            try:
                return dt.date.fromisoformat(part.removeprefix("day="))
            except ValueError:
                return None
    return None


def _checked_underlying(underlying: str) -> str:
    if not _UNDERLYING.match(underlying):
        raise DataError(f"{underlying!r} is not an instrument family", remedy="use the family in the exchange's names: BTC, ETH, BTC_USDC")
    return underlying


def _checked_name(what: str, name: str) -> str:
    if not _NAME.match(name):
        raise DataError(f"{what} {name!r} cannot be part of a path", remedy="use letters, digits and any of `_.@+=-`")
    return name


def _checked_instant(snapshot: dt.datetime) -> dt.datetime:
    if snapshot.tzinfo is None:
        raise DataError(f"snapshot {snapshot} is naive", remedy="attach UTC; every time here is UTC-aware")
    at = snapshot.astimezone(dt.UTC)
    if at.microsecond:
        raise DataError(f"snapshot {at.isoformat()} lies between seconds", remedy="snapshots are grid times: floor them to the grid")
    return at
