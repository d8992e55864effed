"""A raw day's many small files become one, verified before the small ones go.

Killed at any point, the day reads the same rows: while both forms lie there, a file of its own counts before the
compacted copy of its snapshot (`raw.read_raw_day`), and running again finishes the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from options_agent.errors import DataError, StorageError
from options_agent.lake import encoding, layout
from options_agent.lake.files import FileRecord, sha256_of
from options_agent.lake.raw import contents_of, read_raw_day, snapshot_files, sweeps

if TYPE_CHECKING:
    import datetime as dt

    import pyarrow as pa

    from options_agent.lake.root import Lake


def compact_raw_day(lake: Lake, underlying: str, day: dt.date) -> FileRecord:
    """Put a raw day into one file, read it back, compare every row, and only then remove the small files.

    A snapshot that is written while this runs keeps its file and joins at the next compaction. Doing it again is
    harmless, and does nothing where no small file has come.

    Raises:
        DataError: the day has no snapshots, or a small file is damaged (nothing is removed).
        StorageError: the day cannot be written, or does not read back as it was (nothing is removed).
    """
    path = layout.day_path("raw", underlying, day)
    folder = layout.day_folder("raw", underlying, day)
    small = {p: lake.files.read(p) for p in lake.files.find(folder) if layout.parse_snapshot_name(p.rsplit("/", 1)[-1])}
    rows = read_raw_day(lake, underlying, day)
    if not len(rows):
        raise DataError(f"{underlying} has no raw snapshots on {day}", place=lake.files.place(folder), remedy="harvest the day first")
    data = encoding.day_bytes(rows, {"snapshots": contents_of(rows, sweeps(lake, underlying, day))})
    if lake.files.read_or_none(path) != data:
        lake.files.write(path, data)
    _verify(lake, path, rows)
    lake.files.settle(path)
    for small_path, seen in small.items():
        if lake.files.read_or_none(small_path) == seen:  # replaced meanwhile: newer rows, they stay
            lake.files.delete(small_path)
    return FileRecord(path, len(rows), len(data), sha256_of(data))


def is_compacted(lake: Lake, underlying: str, day: dt.date) -> bool:
    """Whether every raw snapshot of the day lies in its one file."""
    files = snapshot_files(lake, underlying, day)
    return bool(files) and {file.path for file in files} == {layout.day_path("raw", underlying, day)}


def _verify(lake: Lake, path: str, rows: pa.Table) -> None:
    place = lake.files.place(path)
    written = encoding.from_bytes(lake.files.read(path), place=place, in_time=True)
    if not _same(written, rows):
        raise StorageError(
            "the compacted day does not read back as it was written; the small files were kept",
            place=place,
            remedy="check the disk; delete the compacted file and run again",
        )


def _same(left: pa.Table, right: pa.Table) -> bool:
    """Equal rows, NaN equal to itself."""
    if len(left) != len(right) or left.column_names != right.column_names:
        return False
    return all(
        a.combine_chunks().equals(b.combine_chunks()) or _bits(a) == _bits(b) for a, b in zip(left.columns, right.columns, strict=True)
    )


def _bits(column: pa.ChunkedArray) -> list[object]:
    return [value.hex() if isinstance(value, float) else value for value in column.to_pylist()]
