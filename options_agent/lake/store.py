"""The lake's verbs: write a snapshot, read a day, read a range.

Raw holds one immutable file a snapshot until its day is compacted (`raw`); clean and quarantine hold one file a day.
Paths are in `layout`, bytes in `files`, Parquet in `encoding`, compaction in `compaction`.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from options_agent.errors import DataError
from options_agent.lake import encoding, layout
from options_agent.lake.files import FileRecord, sha256_of
from options_agent.lake.merging import MERGE_COLUMNS, merge_regions
from options_agent.lake.raw import SnapshotFile, raw_fingerprint, read_raw_day, snapshot_files, write_snapshot
from options_agent.lake.retained import retained_days
from options_agent.lake.root import Lake, open_lake
from options_agent.lake.shape import as_schema, as_stored, columns_of
from options_agent.quotes import CLEAN_SCHEMA, QUARANTINE_SCHEMA, QUOTE_SCHEMA
from options_agent.series import SERIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from options_agent.lake.layout import DayLayer, Layer, SeriesName

#: The whole public face of the lake; what concerns raw snapshots only lives in `raw`.
__all__ = [
    "Lake",
    "SnapshotFile",
    "days",
    "open_lake",
    "raw_fingerprint",
    "read_day",
    "read_range",
    "read_raw_day",
    "read_series",
    "set_aside",
    "snapshot_files",
    "underlyings",
    "write_day",
    "write_series",
    "write_snapshot",
]

_SCHEMAS: Final[dict[str, pa.Schema]] = {"clean": CLEAN_SCHEMA, "quarantine": QUARANTINE_SCHEMA}
_READERS: Final = 2


def write_day(lake: Lake, layer: DayLayer, underlying: str, day: dt.date, table: pa.Table) -> FileRecord:
    """Write a clean or quarantined day: one file, a function of its rows alone, replacing the former one.

    Raises:
        DataError: the table does not have the layer's schema.
        StorageError: it cannot be written.
    """
    path = layout.day_path(layer, underlying, day)
    table = as_schema(table, _SCHEMAS[layer], lake.files.place(path))
    regions = sorted(region for region in pc.unique(table.column("region")).to_pylist() if region is not None)
    data = encoding.day_bytes(table, {"regions": regions})
    if lake.files.read_or_none(path) != data:
        lake.files.write(path, data)
    return FileRecord(path, len(table), len(data), sha256_of(data))


def read_day(lake: Lake, layer: Layer, underlying: str, day: dt.date, columns: Sequence[str] | None = None) -> pa.Table:
    """A day exactly as it was written (no merging of regions), in QUOTE order; empty where there is none.

    Raises:
        DataError: the file is damaged or lacks a column.
        StorageError: it cannot be read.
    """
    if layer == "raw":
        table = read_raw_day(lake, underlying, day)
        return table if columns is None else table.select(list(columns))
    data = lake.files.read_or_none(layout.day_path(layer, underlying, day))
    schema = _chosen(_SCHEMAS[layer], columns)
    return schema.empty_table() if data is None else _read(lake, layer, layout.day_path(layer, underlying, day), data, schema, merge=False)


def read_range(lake: Lake, layer: Layer, underlying: str, start: dt.date, end: dt.date, columns: Sequence[str] | None = None) -> pa.Table:
    """Days `start` to `end`, both inclusive, in QUOTE order. Clean rows of several regions are merged.

    The rule of the merge is `merging.merge_regions`. One chunk a day; ask for the columns you need.

    Raises:
        DataError: a file is damaged or lacks a column, or a day of the range lies in the archive only.
        StorageError: a file cannot be read.
    """
    full = QUOTE_SCHEMA if layer == "raw" else _SCHEMAS[layer]
    schema = _chosen(full, columns)
    wanted = [day for day in days(lake, layer, underlying) if start <= day <= end]
    if away := [day for day, retained in retained_days(lake, underlying, start, end).items() if layer in retained.layers]:
        raise DataError(
            f"{len(away)} {layer} days of {underlying} in that range lie in the archive only, the first {away[0]}",
            place=lake.files.place(layout.underlying_folder(layer, underlying)),
            remedy=f"options-agent archive restore {underlying} {away[0]}, and so on; or read a range without them",
        )
    tables = _read_days(lake, layer, underlying, wanted, _chosen(full, list(dict.fromkeys([*schema.names, "ts"]))))
    if not tables:
        return schema.empty_table()
    if _overlapping(tables):  # rows of a day were known after the next day's first: order by every key, across days
        keys = [name for name in full.names if name in {*schema.names, *encoding.CONTRACT_MAJOR}]
        table = pa.concat_tables(_read_days(lake, layer, underlying, wanted, _chosen(full, keys)))
        return encoding.quote_order(table).select(schema.names)
    return pa.concat_tables(tables).select(schema.names)


def days(lake: Lake, layer: Layer, underlying: str) -> list[dt.date]:
    """Days of which the layer holds at least one file, ascending."""
    found = lake.files.find(layout.underlying_folder(layer, underlying))
    return sorted({day for path in found if path.endswith(".parquet") and (day := layout.day_of(path))})


def underlyings(lake: Lake, layer: Layer) -> list[str]:
    """Underlyings the layer has a folder for, sorted."""
    return [name.removeprefix("underlying=") for name in lake.files.folders(f"{layer}/quotes") if name.startswith("underlying=")]


def write_series(lake: Lake, name: SeriesName, underlying: str, day: dt.date, table: pa.Table, region: str | None = None) -> FileRecord:
    """Write one day of a series, replacing what was there. Rows are sorted by `ts`.

    With a `region`, the file is that harvester's own, beside the day's and others': none of them overwrites another's.

    Raises:
        DataError: the table does not have the series' schema.
        StorageError: it cannot be written.
    """
    path = layout.series_path(name, underlying, day, region)
    table = as_schema(table, SERIES[name], lake.files.place(path))
    data = encoding.snapshot_bytes(table.take(pc.sort_indices(table, sort_keys=[("ts", "ascending")])))
    if lake.files.read_or_none(path) != data:
        lake.files.write(path, data)
    return FileRecord(path, len(table), len(data), sha256_of(data))


def read_series(
    lake: Lake, name: SeriesName, underlying: str, start: dt.date | dt.datetime | None = None, end: dt.date | dt.datetime | None = None
) -> pa.Table:
    """A series by `ts`, from `start` to `end`: dates are inclusive days, an aware `end` instant is exclusive.

    Rows that several files of a day tell alike (same instant, source and kind) are one row: the day's file before regions' by name.

    Raises:
        DataError: a file is damaged.
        StorageError: a file cannot be read.
    """
    schema = SERIES[name]
    found = [path for path in lake.files.find(layout.series_folder(name, underlying)) if path.endswith(".parquet")]
    first = start.date() if isinstance(start, dt.datetime) else start
    last = end.date() if isinstance(end, dt.datetime) else end
    # a day's file may end with a value known at the next midnight, so the neighbours are read and cut by instant
    margin = dt.timedelta(days=1)
    paths = [
        path
        for path in found
        if (day := layout.day_of(path)) and (first is None or day >= first - margin) and (last is None or day <= last + margin)
    ]
    tables = [
        as_stored(encoding.from_bytes(data, place=lake.files.place(path)), schema, lake.files.place(path))
        for path, data in zip(paths, lake.files.read_many(paths), strict=True)
    ]
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    if len({path.rpartition("/")[0] for path in paths}) < len(paths):
        table = _told_once(table)
    if start is not None:
        table = table.filter(pc.greater_equal(table.column("ts"), _instant(start)))
    if end is not None:
        bound = end if isinstance(end, dt.datetime) else end + margin
        table = table.filter(pc.less(table.column("ts"), _instant(bound)))
    return table.take(pc.sort_indices(table, sort_keys=[("ts", "ascending")]))


def _told_once(table: pa.Table) -> pa.Table:
    """The first of the rows that agree in everything but the values."""
    keys = [name for name in table.column_names if not pa.types.is_floating(table.schema.field(name).type)]
    numbered = table.select(keys).append_column("row", pa.array(range(len(table)), pa.int64()))
    first = numbered.group_by(keys, use_threads=False).aggregate([("row", "min")])["row_min"].combine_chunks()
    return table.take(first.take(pc.sort_indices(first)))


def set_aside(lake: Lake, path: str, reason: str) -> str:
    """Move a damaged file to `quarantine/files/`, with a note saying why, so that readers no longer meet it.

    Args:
        lake: whose file it is.
        path: relative to `{root}/{network}`, or the full place an error named.
        reason: one line, for the note.

    Returns:
        The new relative path.

    Raises:
        StorageError: it cannot be moved.
    """
    relative = path.removeprefix(lake.files.url).lstrip("/")
    target = f"quarantine/files/{relative}"
    note = {"path": relative, "reason": reason, "set_aside_at": dt.datetime.now(dt.UTC).isoformat()}
    lake.files.write(f"{target}.note.json", json.dumps(note, sort_keys=True, indent=1).encode() + b"\n")
    lake.files.move(relative, target)
    return target


def _read(lake: Lake, layer: str, path: str, data: bytes, schema: pa.Schema, *, merge: bool) -> pa.Table:
    place = lake.files.place(path)
    several = merge and len(encoding.summary_of(data, place=place).notes.get("regions", ())) > 1
    needed = {*schema.names, "ts", *(MERGE_COLUMNS if several else ())}
    columns = [name for name in _SCHEMAS[layer].names if name in needed]
    table = columns_of(data, _SCHEMAS[layer], columns, place, in_time=True)
    if several:
        table = merge_regions(table)
    return as_stored(table.select(schema.names), schema, place)


def _read_days(lake: Lake, layer: Layer, underlying: str, wanted: list[dt.date], schema: pa.Schema) -> list[pa.Table]:
    """Each day's rows in QUOTE order, regions merged in clean; days without rows are left out."""

    def read(day: dt.date) -> pa.Table:
        if layer == "raw":
            return read_raw_day(lake, underlying, day).select(schema.names)
        path = layout.day_path(layer, underlying, day)
        return _read(lake, layer, path, lake.files.read(path), schema, merge=layer == "clean")

    with ThreadPoolExecutor(_READERS) as pool:  # Parquet decoding leaves the interpreter lock
        return [table for table in pool.map(read, wanted) if len(table)]


def _overlapping(tables: list[pa.Table]) -> bool:
    """Whether a day's last row was known after the next day's first."""
    edges = [(table.column("ts")[0].value, table.column("ts")[-1].value) for table in tables]
    return any(a is None or b is None or a > b for (_, a), (b, _) in itertools.pairwise(edges))


def _chosen(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    if columns is None:
        return schema
    if unknown := [name for name in columns if name not in schema.names]:
        raise DataError(f"no column {unknown} in this layer", remedy=f"it has {schema.names}")
    return pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)


def _instant(at: dt.date | dt.datetime) -> pa.Scalar:
    if isinstance(at, dt.datetime):
        if at.tzinfo is None:
            raise DataError(f"{at} is naive", remedy="attach UTC; every time here is UTC-aware")
        return _scalar(at)
    return _scalar(dt.datetime.combine(at, dt.time(), dt.UTC))


def _scalar(at: dt.datetime) -> pa.Scalar:
    # from a number: from a datetime with a zone pyarrow imports pandas first, a second and a half
    micros = (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    return pa.scalar(micros, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
