"""Raw quotes: one immutable file a snapshot, or a day of them compacted into one; readers see no difference.

Clean and quarantined days and the series are in `store`, the compaction itself in `compaction`.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from options_agent.errors import DataError
from options_agent.lake import encoding, layout
from options_agent.lake.files import FileRecord, sha256_of
from options_agent.lake.shape import as_stored
from options_agent.lake.sweeps import SweepNote, note_bytes, note_in, noted
from options_agent.quotes import QUOTE_SCHEMA, sort_quotes

if TYPE_CHECKING:
    from options_agent.lake.root import Lake


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """Where one raw snapshot lies: a file of its own, or (`bytes` its share) the compacted file of its day."""

    snapshot: dt.datetime
    source: str
    region: str
    path: str
    bytes: int


def write_snapshot(lake: Lake, table: pa.Table, *, replace: bool = False) -> FileRecord:
    """Write one raw snapshot: the rows of one underlying, source and region that answer for one grid time.

    Idempotent: the same rows again write nothing and give the same record. What a harvester says of its sweep
    (`sweeps.with_sweep`) is kept with the file.

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
    data = _snapshot_bytes(table)
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
        contents = _compacted(lake, underlying, day)
        total = sum(content.rows for content in contents) or 1
        for content in contents:
            share = found[compacted] * content.rows // total
            snapshots[content.key] = SnapshotFile(*content.key, compacted, share)
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
        as_stored(encoding.from_bytes(data, place=lake.files.place(path)), QUOTE_SCHEMA, lake.files.place(path))
        for path, data in zip(small, lake.files.read_many(list(small)), strict=True)
    ]
    compacted = layout.day_path("raw", underlying, day)
    if compacted in found:
        place = lake.files.place(compacted)
        table = as_stored(encoding.from_bytes(lake.files.read(compacted), place=place), QUOTE_SCHEMA, place)
        tables.append(_without(table, set(small.values())))
    if not tables:
        return QUOTE_SCHEMA.empty_table()
    return encoding.quote_order(pa.concat_tables(tables))


def sweeps(lake: Lake, underlying: str, day: dt.date) -> list[SweepNote]:
    """What harvesters said of the sweeps of a day, in time order; snapshots of sources that cannot know have no note.

    Raises:
        DataError: a file is damaged.
        StorageError: a file cannot be read.
    """
    notes = {content.key: content.sweep for content in _compacted(lake, underlying, day)}
    small = {
        path: key
        for path in lake.files.find(layout.day_folder("raw", underlying, day))
        if (key := layout.parse_snapshot_name(path.rsplit("/", 1)[-1]))
    }
    for (path, key), data in zip(small.items(), lake.files.read_many(list(small)), strict=True):
        notes[key] = note_in(data, place=lake.files.place(path))
    return [SweepNote(*key, note) for key, note in sorted(notes.items()) if note is not None]


def rows_by_snapshot(lake: Lake, underlying: str, day: dt.date) -> dict[str, int]:
    """Rows of every grid time of a raw day (ISO), all harvesters together.

    Raises:
        DataError: a file is damaged.
        StorageError: a file cannot be read.
    """
    rows = {content.key: content.rows for content in _compacted(lake, underlying, day)}
    found = lake.files.find(layout.day_folder("raw", underlying, day))
    small = {path: key for path in found if (key := layout.parse_snapshot_name(path.rsplit("/", 1)[-1]))}
    for (path, key), data in zip(small.items(), lake.files.read_many(list(small)), strict=True):
        rows[key] = encoding.summary_of(data, place=lake.files.place(path)).rows
    totals: dict[str, int] = {}
    for (at, _, _), count in sorted(rows.items()):
        totals[at.isoformat()] = totals.get(at.isoformat(), 0) + count
    return totals


def raw_fingerprint(lake: Lake, underlying: str, day: dt.date) -> str:
    """SHA-256 (hex) over the snapshots of a raw day and their bytes: the same before and after compaction.

    Raises:
        DataError: the compacted file is damaged.
        StorageError: a file cannot be read.
    """
    hashes = compacted_hashes(lake, underlying, day)
    small = [
        path for path in lake.files.find(layout.day_folder("raw", underlying, day)) if layout.parse_snapshot_name(path.rsplit("/", 1)[-1])
    ]
    hashes |= {path: sha256_of(data) for path, data in zip(small, lake.files.read_many(small), strict=True)}
    return sha256_of(json.dumps(sorted(hashes.items())).encode())


def compacted_hashes(lake: Lake, underlying: str, day: dt.date) -> dict[str, str]:
    """SHA-256 of each raw snapshot file that now lies in its day's one file, by the path it had.

    Raises:
        DataError: the compacted file is damaged.
        StorageError: it cannot be read.
    """
    return {layout.snapshot_path(underlying, *content.key): content.sha256 for content in _compacted(lake, underlying, day)}


def contents_of(rows: pa.Table, told: list[SweepNote]) -> list[list[object]]:
    """The note a compacted file carries: instant, source, region, rows and SHA-256 of each snapshot as a file of its own, and its sweep.

    Args:
        rows: raw rows in QUOTE order.
        told: the day's sweeps.
    """
    keys = rows.select(["snapshot", "source", "region"]).group_by(["snapshot", "source", "region"], use_threads=False).aggregate([])
    notes = {(note.snapshot, note.source, note.region): note.note for note in told}
    contents: list[list[object]] = []
    for key in sorted((row["snapshot"], row["source"], row["region"]) for row in keys.to_pylist()):
        own, note = rows.filter(_is_of(rows, *key)), notes.get(key)
        digest = sha256_of(_snapshot_bytes(noted(own, note)))
        contents.append([key[0].astimezone(dt.UTC).isoformat(), key[1], key[2], len(own), digest, *([note] if note else [])])
    return contents


@dataclass(frozen=True, slots=True)
class _Content:
    """A snapshot within a compacted file: its key, rows, the SHA-256 of the file it was, and its sweep."""

    key: tuple[dt.datetime, str, str]
    rows: int
    sha256: str
    sweep: dict[str, Any] | None = None


def _compacted(lake: Lake, underlying: str, day: dt.date) -> list[_Content]:
    """What the compacted file of a day holds, from its footer; nothing where there is none."""
    path = layout.day_path("raw", underlying, day)
    if (data := lake.files.read_or_none(path)) is None:
        return []
    notes = encoding.summary_of(data, place=lake.files.place(path)).notes.get("snapshots", [])
    return [_Content((dt.datetime.fromisoformat(at), source, region), rows, *rest) for at, source, region, rows, *rest in notes]


def _is_of(table: pa.Table, snapshot: dt.datetime, source: str, region: str) -> pa.ChunkedArray:
    """Mask of the rows of one snapshot."""
    harvester = pc.and_(pc.equal(table.column("source"), source), pc.equal(table.column("region"), region))
    return pc.and_(harvester, pc.equal(table.column("snapshot"), pa.scalar(snapshot, table.schema.field("snapshot").type)))


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
    rows = table.filter(_is_of(table, snapshot, source, region))
    if not len(rows):
        return None
    note = next((c.sweep for c in _compacted(lake, underlying, snapshot.date()) if c.key == (snapshot, source, region)), None)
    return _snapshot_bytes(noted(as_stored(encoding.in_time_order(rows), QUOTE_SCHEMA, lake.files.place(path)), note))


def _snapshot_bytes(table: pa.Table) -> bytes:
    """The file of a snapshot of its own: a function of its rows and its sweep alone."""
    metadata = {**(QUOTE_SCHEMA.metadata or {}), **note_bytes(table)}
    return encoding.snapshot_bytes(sort_quotes(table).replace_schema_metadata(metadata))


def _without(table: pa.Table, keys: set[tuple[dt.datetime, str, str]]) -> pa.Table:
    """Rows whose (snapshot, source, region) is not in `keys`."""
    for key in keys:
        table = table.filter(pc.invert(_is_of(table, *key)))
    return table
