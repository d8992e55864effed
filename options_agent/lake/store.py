"""The lake's verbs: write a snapshot, read a day, read a range.

Raw holds one immutable file a snapshot until its day is compacted; clean and quarantine hold one file a day.
Paths are in `layout`, bytes in `files`, Parquet in `encoding`, compaction in `compaction`.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from options_agent.errors import DataError
from options_agent.lake import encoding, layout
from options_agent.lake.files import FileRecord, Files, open_files, sha256_of
from options_agent.lake.merging import MERGE_COLUMNS, merge_regions
from options_agent.quotes import CLEAN_SCHEMA, QUARANTINE_SCHEMA, QUOTE_SCHEMA, sort_quotes
from options_agent.series import SERIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from options_agent.lake.layout import DayLayer, Layer, SeriesName
    from options_agent.settings import Settings

_SCHEMAS: Final[dict[str, pa.Schema]] = {"clean": CLEAN_SCHEMA, "quarantine": QUARANTINE_SCHEMA}
_READERS: Final = 2


@dataclass(frozen=True)
class Lake:
    """A lake of one network: where its root is and how to get at it. Make one with `open_lake`."""

    root: str
    network: str
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    files: Files = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", open_files(f"{self.root.rstrip('/')}/{self.network}", self.storage_options))


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """Where one raw snapshot lies: a file of its own, or (`bytes` its share) the compacted file of its day."""

    snapshot: dt.datetime
    source: str
    region: str
    path: str
    bytes: int


def open_lake(settings: Settings) -> Lake:
    """The lake the settings name; nothing is created or reached before the first read or write."""
    return Lake(settings.lake_url, settings.network, settings.storage_options)


def write_snapshot(lake: Lake, table: pa.Table, *, replace: bool = False) -> FileRecord:
    """Write one raw snapshot: the rows of one underlying, source and region that answer for one grid time.

    Idempotent: the same rows again write nothing and give the same record.

    Args:
        lake: where to.
        table: `QUOTE_SCHEMA`, any row order, at least one row.
        replace: take the new rows where other rows of this snapshot are already there.

    Raises:
        DataError: the schema does not fit, the table is empty or holds several snapshots, or the snapshot is
            already there with other rows and `replace` is false.
        StorageError: it cannot be written (disk full, denied, unreachable).
    """
    if not table.schema.equals(QUOTE_SCHEMA):
        raise DataError(
            f"a raw snapshot has the quote schema, not {table.schema.names}", remedy="build it with options_agent.quotes.quote_table"
        )
    snapshot, underlying, source, region = _one_of_each(table)
    path = layout.snapshot_path(underlying, snapshot, source, region)
    data = encoding.snapshot_bytes(sort_quotes(table))
    record = FileRecord(path, len(table), len(data), sha256_of(data))
    if (present := lake.files.read_or_none(path)) is not None:
        if present == data:
            return record
    else:
        present = _compacted_snapshot(lake, underlying, snapshot, source, region)
        if present == data:
            day = lake.files.read(layout.day_path("raw", underlying, snapshot.date()))
            return FileRecord(layout.day_path("raw", underlying, snapshot.date()), len(table), len(day), sha256_of(day))
    if present is not None and not replace:
        raise DataError(
            f"snapshot {snapshot:%Y-%m-%d %H:%M:%S}Z of {underlying} from {source}/{region} is already there with other rows",
            place=lake.files.place(path),
            remedy="raw snapshots are immutable: pass replace=True to take the new rows, or write under another region",
        )
    lake.files.write(path, data)
    return record


def snapshot_files(lake: Lake, underlying: str, day: dt.date) -> list[SnapshotFile]:
    """Every raw snapshot of a day in time order, whether still a file of its own or compacted.

    Raises:
        StorageError: the folder cannot be read.
        DataError: the compacted file is damaged.
    """
    found = lake.files.find(layout.day_folder("raw", underlying, day))
    snapshots: dict[tuple[dt.datetime, str, str], SnapshotFile] = {}
    compacted = layout.day_path("raw", underlying, day)
    if compacted in found:
        contents = encoding.summary_of(lake.files.read(compacted), place=lake.files.place(compacted)).notes.get("snapshots", [])
        total = sum(rows for *_, rows in contents) or 1
        for text, source, region, rows in contents:
            key = (dt.datetime.fromisoformat(text), str(source), str(region))
            snapshots[key] = SnapshotFile(*key, compacted, found[compacted] * rows // total)
    for path, size in found.items():
        if own := layout.parse_snapshot_name(path.rsplit("/", 1)[-1]):
            snapshots[own] = SnapshotFile(*own, path, size)
    return [snapshots[key] for key in sorted(snapshots)]


def read_raw_day(lake: Lake, underlying: str, day: dt.date) -> pa.Table:
    """All raw rows of a day, of every source and region, unmerged, in QUOTE order; empty where there are none.

    Where a snapshot lies in the compacted file and in a file of its own (a compaction was cut short, or the
    snapshot was replaced later), the file of its own counts and the other copy does not.

    Raises:
        DataError: a file is truncated, corrupt or of another schema; it is named. `set_aside` moves it away.
        StorageError: a file cannot be read.
    """
    found = lake.files.find(layout.day_folder("raw", underlying, day))
    small = {path: key for path in found if (key := layout.parse_snapshot_name(path.rsplit("/", 1)[-1]))}
    tables = [
        _as_stored(encoding.from_bytes(data, place=lake.files.place(path)), QUOTE_SCHEMA, lake.files.place(path))
        for path, data in zip(small, lake.files.read_many(list(small)), strict=True)
    ]
    compacted = layout.day_path("raw", underlying, day)
    if compacted in found:
        place = lake.files.place(compacted)
        table = _as_stored(encoding.from_bytes(lake.files.read(compacted), place=place), QUOTE_SCHEMA, place)
        tables.append(_without(table, set(small.values())))
    if not tables:
        return QUOTE_SCHEMA.empty_table()
    return encoding.quote_order(pa.concat_tables(tables))


def write_day(lake: Lake, layer: DayLayer, underlying: str, day: dt.date, table: pa.Table) -> FileRecord:
    """Write a clean or quarantined day: one file, a function of its rows alone, replacing the former one.

    Raises:
        DataError: the table does not have the layer's schema.
        StorageError: it cannot be written.
    """
    path = layout.day_path(layer, underlying, day)
    table = _as_schema(table, _SCHEMAS[layer], lake.files.place(path))
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
        DataError: a file is damaged or lacks a column.
        StorageError: a file cannot be read.
    """
    full = QUOTE_SCHEMA if layer == "raw" else _SCHEMAS[layer]
    schema = _chosen(full, columns)
    wanted = [day for day in days(lake, layer, underlying) if start <= day <= end]
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


def write_series(lake: Lake, name: SeriesName, underlying: str, day: dt.date, table: pa.Table) -> FileRecord:
    """Write one day of prices, DVOL or funding, replacing what was there. Rows are sorted by `ts`.

    Raises:
        DataError: the table does not have the series' schema.
        StorageError: it cannot be written.
    """
    path = layout.series_path(name, underlying, day)
    table = _as_schema(table, SERIES[name], lake.files.place(path))
    data = encoding.snapshot_bytes(table.take(pc.sort_indices(table, sort_keys=[("ts", "ascending")])))
    if lake.files.read_or_none(path) != data:
        lake.files.write(path, data)
    return FileRecord(path, len(table), len(data), sha256_of(data))


def read_series(
    lake: Lake, name: SeriesName, underlying: str, start: dt.date | dt.datetime | None = None, end: dt.date | dt.datetime | None = None
) -> pa.Table:
    """A series by `ts`, from `start` to `end`: dates are inclusive days, an aware `end` instant is exclusive.

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
        _as_stored(encoding.from_bytes(data, place=lake.files.place(path)), schema, lake.files.place(path))
        for path, data in zip(paths, lake.files.read_many(paths), strict=True)
    ]
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    if start is not None:
        table = table.filter(pc.greater_equal(table.column("ts"), _instant(start)))
    if end is not None:
        bound = end if isinstance(end, dt.datetime) else end + margin
        table = table.filter(pc.less(table.column("ts"), _instant(bound)))
    return table.take(pc.sort_indices(table, sort_keys=[("ts", "ascending")]))


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
    table = encoding.in_time_order(encoding.from_bytes(data, place=place, columns=columns))
    if several:
        table = merge_regions(table)
    return _as_stored(table.select(schema.names), schema, place)


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


def _as_schema(table: pa.Table, schema: pa.Schema, place: str) -> pa.Table:
    """A table somebody wants written, cast where that loses nothing."""
    if table.schema.equals(schema, check_metadata=True):
        return table
    _require_names(table, schema, place)
    try:
        return table.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise DataError(f"columns do not fit the schema: {error}", place=place, remedy="cast them first") from error


def _as_stored(table: pa.Table, schema: pa.Schema, place: str) -> pa.Table:
    """A table that was read: its types are the schema's own, or the file is not what it says it is."""
    _require_names(table, schema, place)
    if differing := [field.name for field, found in zip(schema, table.schema, strict=True) if field.type != found.type]:
        raise DataError(
            f"columns {differing} are of another type than the schema's", place=place, remedy="set the file aside, write it again"
        )
    return pa.Table.from_arrays(table.columns, schema=schema)


def _require_names(table: pa.Table, schema: pa.Schema, place: str) -> None:
    if table.column_names != schema.names:
        missing, unknown = sorted(set(schema.names) - set(table.column_names)), sorted(set(table.column_names) - set(schema.names))
        raise DataError(
            f"columns do not fit the schema: missing {missing}, unknown {unknown}",
            place=place,
            remedy="give every column of the schema in its order (options_agent.quotes, options_agent.series)",
        )


def _one_of_each(table: pa.Table) -> tuple[dt.datetime, str, str, str]:
    values = []
    for name in ("snapshot", "underlying", "source", "region"):
        distinct = pc.unique(table.column(name)).to_pylist()
        if len(distinct) != 1:
            raise DataError(
                f"a raw snapshot has one {name}, not {len(distinct)}: {distinct[:3]}", remedy="split the table, and write no empty snapshot"
            )
        values.append(distinct[0])
    return values[0], values[1], values[2], values[3]


def _compacted_snapshot(lake: Lake, underlying: str, snapshot: dt.datetime, source: str, region: str) -> bytes | None:
    """What the file of a snapshot's own would hold, had its day not been compacted; None where it was never there."""
    path = layout.day_path("raw", underlying, snapshot.date())
    if (data := lake.files.read_or_none(path)) is None:
        return None
    table = encoding.from_bytes(data, place=lake.files.place(path))
    mask = pc.and_(pc.equal(table.column("source"), source), pc.equal(table.column("region"), region))
    rows = table.filter(pc.and_(mask, pc.equal(table.column("snapshot"), pa.scalar(snapshot, table.schema.field("snapshot").type))))
    if not len(rows):
        return None
    return encoding.snapshot_bytes(sort_quotes(_as_stored(encoding.in_time_order(rows), QUOTE_SCHEMA, lake.files.place(path))))


def _without(table: pa.Table, keys: set[tuple[dt.datetime, str, str]]) -> pa.Table:
    """Rows whose (snapshot, source, region) is not in `keys`."""
    for snapshot, source, region in keys:
        same = pc.and_(pc.equal(table.column("source"), source), pc.equal(table.column("region"), region))
        same = pc.and_(same, pc.equal(table.column("snapshot"), pa.scalar(snapshot, table.schema.field("snapshot").type)))
        table = table.filter(pc.invert(same))
    return table


def _instant(at: dt.date | dt.datetime) -> pa.Scalar:
    if isinstance(at, dt.datetime):
        if at.tzinfo is None:
            raise DataError(f"{at} is naive", remedy="attach UTC; every time here is UTC-aware")
        return pa.scalar(at.astimezone(dt.UTC), pa.timestamp("us", tz="UTC"))
    return pa.scalar(dt.datetime.combine(at, dt.time(), dt.UTC), pa.timestamp("us", tz="UTC"))
