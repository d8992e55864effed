"""Which contracts a raw day holds, snapshot by snapshot, without its prices: what gaps in the listing are found from."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from options_agent.errors import DataError
from options_agent.lake import encoding, layout
from options_agent.lake.sweeps import SweepNote, note_in

if TYPE_CHECKING:
    from options_agent.lake.root import Lake

COLUMNS: Final = ("snapshot", "instrument", "source", "region")


@dataclass(frozen=True, slots=True)
class Presence:
    """A raw day as (snapshot, instrument, source, region) rows in no particular order, and what was said of its sweeps.

    `damaged` are the paths of files that could not be read; their rows are in none of the others.
    """

    rows: pa.Table
    sweeps: tuple[SweepNote, ...]
    damaged: tuple[str, ...]


def read_presence(lake: Lake, underlying: str, day: dt.date) -> Presence:
    """Which contracts were there on a raw day, of every source and region, whether compacted or not.

    A file of its own counts before the same snapshot in the compacted file, as everywhere. Files that cannot be read are named,
    not raised: judging sets them aside.

    Raises:
        StorageError: the lake cannot be listed or read.
    """
    found = lake.files.find(layout.day_folder("raw", underlying, day))
    small = {path: key for path in found if (key := layout.parse_snapshot_name(path.rsplit("/", 1)[-1]))}
    tables: list[pa.Table] = []
    notes: dict[tuple[dt.datetime, str, str], dict[str, Any]] = {}
    damaged: list[str] = []
    own: set[tuple[dt.datetime, str, str]] = set()
    for (path, key), data in zip(small.items(), lake.files.read_many(list(small)), strict=True):
        try:
            tables.append(_columns(data, lake.files.place(path)))
            if (note := note_in(data, place=lake.files.place(path))) is not None:
                notes[key] = note
            own.add(key)
        except DataError:
            damaged.append(path)
    compacted = layout.day_path("raw", underlying, day)
    if compacted in found:
        try:
            table, told = _compacted(lake, compacted)
            tables.append(_without(table, own & told.keys()))
            notes = {key: note for key, note in told.items() if note is not None and key not in own} | notes
        except DataError:
            damaged.append(compacted)
    rows = pa.concat_tables(tables) if tables else pa.table({name: pa.array([], pa.string()) for name in COLUMNS})
    return Presence(rows, tuple(SweepNote(*key, note) for key, note in sorted(notes.items())), tuple(damaged))


def _compacted(lake: Lake, path: str) -> tuple[pa.Table, dict[tuple[dt.datetime, str, str], dict[str, Any] | None]]:
    """The columns of a compacted day, and every snapshot in it with its sweep's note."""
    data, place = lake.files.read(path), lake.files.place(path)
    contents = encoding.summary_of(data, place=place).notes.get("snapshots", [])
    told = {(dt.datetime.fromisoformat(at), source, region): rest[1] if rest[1:] else None for at, source, region, _, *rest in contents}
    return _columns(data, place), told


def _columns(data: bytes, place: str) -> pa.Table:
    return encoding.from_bytes(data, place=place, columns=COLUMNS).replace_schema_metadata(None)


def _without(table: pa.Table, keys: set[tuple[dt.datetime, str, str]]) -> pa.Table:
    for at, source, region in keys:
        harvester = pc.and_(pc.equal(table["source"], source), pc.equal(table["region"], region))
        table = table.filter(pc.invert(pc.and_(harvester, pc.equal(table["snapshot"], pa.scalar(at, table["snapshot"].type)))))
    return table
