"""Two accounts of one market: what a source (or region) has of a day against what another has, row by row.

Backfilled and harvested rows of the same hour should agree; where they do not, this says in which rows and by how much.
Rows meet by snapshot and instrument. Only snapshots that both have are compared; the others are counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from options_agent.contracts import tick_at
from options_agent.errors import DataError
from options_agent.lake.merging import merge_regions
from options_agent.lake.raw import raw_fingerprint, read_raw_day, snapshot_files
from options_agent.lake.receipts import Receipt, fingerprint, read_receipt, write_receipt

if TYPE_CHECKING:
    import datetime as dt

    import pyarrow as pa

    from options_agent.lake.store import Lake

STAGE: Final = "agreement"
AGREEMENT_VERSION: Final = 1
PRICES: Final = ("bid", "ask", "mark")
VOLATILITIES: Final = ("bid_iv", "ask_iv", "mark_iv")
COMPARED: Final = (*PRICES, *VOLATILITIES)
_KEYS: Final = ("snapshot", "instrument")
_WORST: Final = 5
_SIDE: Final = re.compile(r"^(?P<source>[a-z0-9_]+)(?:/(?P<region>[a-z0-9]+))?$")


@dataclass(frozen=True, slots=True)
class Side:
    """One account: a source, and a region of it, or (None) the best rows of all its regions."""

    source: str
    region: str | None = None

    def __str__(self) -> str:
        return self.source if self.region is None else f"{self.source}/{self.region}"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What is no disagreement: `ticks` of the price's own tick (a thousandth of the price where none is known), `volatility` decimal."""

    ticks: float = 1.0
    volatility: float = 0.005


def parse_side(text: str) -> Side:
    """`deribit`, or `deribit/eu1`.

    Raises:
        DataError: it is neither.
    """
    if not (found := _SIDE.match(text)):
        raise DataError(f"{text!r} names no source", remedy="write a source, or source/region: tardis, deribit/eu1")
    return Side(found["source"], found["region"])


def sides_of(lake: Lake, underlying: str, day: dt.date) -> list[Side]:
    """Sources and regions that the raw lake has of a day."""
    files = snapshot_files(lake, underlying, day)
    return [Side(source, region) for source, region in sorted({(file.source, file.region) for file in files})]


def compare(lake: Lake, underlying: str, day: dt.date, left: Side, right: Side, tolerance: Tolerance | None = None) -> Receipt:
    """Compare two accounts of a day and keep the outcome as a receipt of stage `agreement`.

    Args:
        lake: whose raw rows.
        underlying: the family.
        day: UTC.
        left: one account.
        right: the other; differences are right minus left.
        tolerance: beyond which a difference counts.

    Returns:
        Counts of `snapshots` (that both have), `matched`, `only_left`, `only_right` and, per compared column, `beyond:...`;
        details: `share_matched` (of the rows of either in common snapshots), `seconds_apart`, per column its numbers of
        values and differences, the worst rows, and snapshots and expiries where something disagrees.

    Raises:
        DataError: an account has no rows of the day, or a file is damaged.
        StorageError: the lake cannot be read or written.
    """
    tolerance = tolerance or Tolerance()
    partition = f"{day}@{left}+{right}".replace("/", ".")
    mark = fingerprint(AGREEMENT_VERSION, raw_fingerprint(lake, underlying, day), str(left), str(right), tolerance)
    former = read_receipt(lake, STAGE, underlying, partition)
    if former is not None and former.fingerprint == mark:
        return former
    rows = read_raw_day(lake, underlying, day)
    ours, theirs = (_of_side(rows, side, lake, underlying, day) for side in (left, right))
    counts, details = agreement_of(ours, theirs, underlying, tolerance)
    receipt = Receipt(STAGE, underlying, partition, mark, counts, (), {"left": str(left), "right": str(right), **details})
    write_receipt(lake, receipt)
    return receipt


def agreement_of(left: pl.DataFrame, right: pl.DataFrame, underlying: str, tolerance: Tolerance) -> tuple[dict[str, int], dict[str, Any]]:
    """Counts and details of two frames of quotes, one row a snapshot and instrument each. See `compare`."""
    both = sorted(set(left["snapshot"].unique()) & set(right["snapshot"].unique()))
    left_only, right_only = (frame["snapshot"].n_unique() - len(both) for frame in (left, right))
    columns = [*_KEYS, "ts", "expiry", *COMPARED]
    ours, theirs = (frame.filter(pl.col("snapshot").is_in(both)).select(columns) for frame in (left, right))
    met = ours.join(theirs.drop("expiry"), on=list(_KEYS), how="inner", suffix="_right").sort(_KEYS)
    lone = {
        "only_left": ours.join(theirs, on=list(_KEYS), how="anti").sort(_KEYS),
        "only_right": theirs.join(ours, on=list(_KEYS), how="anti").sort(_KEYS),
    }
    met = met.with_columns(_beyond(met, name, underlying, tolerance) for name in COMPARED)
    disagrees = pl.any_horizontal(f"{name}_beyond" for name in COMPARED)
    counts = {"snapshots": len(both), "matched": met.height, **{name: frame.height for name, frame in lone.items()}}
    counts |= {"disagreeing": met.select(disagrees.sum()).item() or 0}
    counts |= {f"beyond:{name}": int(met[f"{name}_beyond"].sum()) for name in COMPARED}
    total = met.height + sum(frame.height for frame in lone.values())
    apart = (met["ts_right"] - met["ts"]).dt.total_microseconds() / 1e6
    details = {
        "share_matched": met.height / total if total else 0.0,
        "snapshots_only_left": left_only,
        "snapshots_only_right": right_only,
        "seconds_apart": _spread(apart),
        "tolerance": {"ticks": tolerance.ticks, "volatility": tolerance.volatility},
        "columns": {name: _column(met, name) for name in COMPARED},
        "lone_rows": {name: _rows(frame.select(*_KEYS)) for name, frame in lone.items()},
        "snapshots": _where(met, lone, "snapshot", disagrees),
        "expiries": _where(met, lone, "expiry", disagrees),
    }
    return counts, details


def _of_side(rows: pa.Table, side: Side, lake: Lake, underlying: str, day: dt.date) -> pl.DataFrame:
    frame = pl.DataFrame(pl.from_arrow(rows)).with_row_index("row")
    own = frame.filter(source=side.source) if side.region is None else frame.filter(source=side.source, region=side.region)
    if own.is_empty():
        there = ", ".join(str(found) for found in sides_of(lake, underlying, day)) or "nothing"
        raise DataError(
            f"the raw lake has no rows of {underlying} on {day} from {side}", place=lake.root, remedy=f"of that day there is {there}"
        )
    if side.region is None and own["region"].n_unique() > 1:
        own = pl.DataFrame(pl.from_arrow(merge_regions(rows.take(own["row"].to_arrow()))))
    return own


def _beyond(met: pl.DataFrame, name: str, underlying: str, tolerance: Tolerance) -> pl.Series:
    """Whether the two values differ by more than is tolerated, or only one of them is there."""
    ours, theirs = met[name], met[f"{name}_right"]
    if name in PRICES:
        higher = pl.select(pl.max_horizontal(ours, theirs)).to_series()
        ticks = [tick_at(underlying, price) if price is not None else None for price in higher]
        allowed = pl.Series([tolerance.ticks * t if t else None for t in ticks], dtype=pl.Float64).fill_null(higher.abs() * 1e-3)
    else:
        allowed = pl.Series([tolerance.volatility]).extend_constant(tolerance.volatility, max(met.height - 1, 0)).head(met.height)
    differs = ((theirs - ours).abs() > allowed + 1e-12).fill_null(value=False)
    return (differs | (ours.is_null() != theirs.is_null())).alias(f"{name}_beyond")


def _column(met: pl.DataFrame, name: str) -> dict[str, Any]:
    ours, theirs = met[name], met[f"{name}_right"]
    difference = theirs - ours
    worst = met.with_columns(by=difference.abs()).filter(pl.col("by") > 0).sort("by", *_KEYS, descending=[True, False, False]).head(_WORST)
    return {
        "both": int((ours.is_not_null() & theirs.is_not_null()).sum()),
        "only_left": int((ours.is_not_null() & theirs.is_null()).sum()),
        "only_right": int((ours.is_null() & theirs.is_not_null()).sum()),
        "equal": int((difference == 0).sum()),
        "beyond": int(met[f"{name}_beyond"].sum()),
        "difference": _spread(difference.drop_nulls()),
        "worst": [
            {
                "snapshot": row["snapshot"].isoformat(),
                "instrument": row["instrument"],
                "left": row[name],
                "right": row[f"{name}_right"],
                "seconds_apart": (row["ts_right"] - row["ts"]).total_seconds(),
            }
            for row in worst.iter_rows(named=True)
        ],
    }


def _spread(values: pl.Series) -> dict[str, float | None]:
    """Of the absolute values their median, 99th percentile and greatest; and the plain mean, which tells a bias."""
    if values.is_empty():
        return {"median": None, "p99": None, "max": None, "mean": None}
    size = values.abs()
    numbers = {"median": size.median(), "p99": size.quantile(0.99), "max": size.max(), "mean": values.mean()}
    return {name: float(value) for name, value in numbers.items()}  # type: ignore[arg-type]


def _where(met: pl.DataFrame, lone: dict[str, pl.DataFrame], key: str, disagrees: pl.Expr) -> list[dict[str, Any]]:
    """Snapshots or expiries where something disagrees, with the numbers of rows."""
    found = met.group_by(key).agg(matched=pl.len(), disagreeing=disagrees.sum())
    for name, frame in lone.items():
        found = found.join(frame.group_by(key).agg(pl.len().alias(name)), on=key, how="full", coalesce=True)
    found = found.fill_null(0).filter(pl.col("disagreeing") + pl.col("only_left") + pl.col("only_right") > 0).sort(key)
    return [{**row, key: row[key].isoformat()} for row in found.iter_rows(named=True)]


def _rows(frame: pl.DataFrame) -> list[list[str]]:
    """The first lone rows, as snapshot and instrument."""
    return [[row["snapshot"].isoformat(), row["instrument"]] for row in frame.head(_WORST).iter_rows(named=True)]
