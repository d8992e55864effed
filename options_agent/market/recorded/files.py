"""Opening recorded files: which there are, their column names, and their tables. What columns mean is not known here.

Damage is an error that names the file: a truncated gzip or Parquet must not pass for a short day.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from options_agent.errors import DataError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from pathlib import Path

#: Name endings of files that never hold a table of quotes, and what is said of them.
_NOT_TABLES: Final = {
    ".json": "JSON: exchange replies or traffic, not a table of quotes",
    ".jsonl": "JSON: exchange replies or traffic, not a table of quotes",
    ".md": "a text for people",
    ".txt": "a text for people",
    ".rst": "a text for people",
    ".html": "a text for people",
    ".log": "a log",
    ".png": "a picture",
}
_DAMAGED: Final = "fetch or copy the file again, or move it out of the folder"


def list_files(path: Path) -> list[Path]:
    """The file itself, or every file below a folder, sorted; hidden files and folders are left out.

    Raises:
        DataError: nothing is there, or the folder holds no file.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError("there is no such file or folder", place=str(path), remedy="name a file or folder of recorded chains")
    found = sorted(
        file for file in path.rglob("*") if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not found:
        raise DataError("the folder is empty", place=str(path), remedy="name a folder that holds Parquet or CSV files of option chains")
    return found


def why_not_a_table(path: Path) -> str | None:
    """Why a file is left alone without looking inside, or None where it must be looked into."""
    name = path.name.lower()
    if is_parquet(path) or name.endswith((".csv", ".csv.gz")):
        return None
    ending = path.suffix.lower()
    if ending in _NOT_TABLES:
        return _NOT_TABLES[ending]
    if not ending[1:].isalpha():  # DERIBIT.0, LICENSE
        return "no ending that a table has"
    raise DataError(
        f"files ending in {ending!r} are not read",
        place=str(path),
        remedy="recorded tables are .parquet, .csv or .csv.gz: convert or move it",
    )


def is_parquet(path: Path) -> bool:
    """Whether the name says Parquet."""
    return path.suffix.lower() in {".parquet", ".pq"}


def column_names(path: Path) -> tuple[str, ...]:
    """Names of the columns, in order; none for a gzip of nothing, which vendors write for "no data".

    Raises:
        DataError: the file is empty, truncated or corrupt.
    """
    if path.stat().st_size == 0:
        raise DataError("the file has no content at all", place=str(path), remedy=_DAMAGED)
    if is_parquet(path):
        return tuple(_parquet(path).schema_arrow.names)
    try:
        with _open_text(path) as stream:
            header = stream.readline()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    if not header.strip():
        if path.suffix.lower() == ".gz":
            return ()
        raise DataError("the CSV is empty, not even a header", place=str(path), remedy=_DAMAGED)
    return tuple(next(csv.reader([header])))


def row_count(path: Path) -> int | None:
    """Rows of a Parquet file from its footer; None for CSV, which has to be read."""
    return int(_parquet(path).metadata.num_rows) if is_parquet(path) else None


def read_columns(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """The named columns that are there. CSV values come as text, "" as null; Parquet values as typed.

    Raises:
        DataError: the file is truncated or corrupt, or a CSV row does not have the header's columns.
    """
    present = column_names(path)
    wanted = [name for name in columns if name in present]
    if is_parquet(path):
        try:
            return pl.scan_parquet(path, glob=False).select(wanted).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _damaged(path, error) from error
    data = _read_csv_bytes(path)
    _check_last_row(path, data, len(present))
    try:
        return pl.read_csv(io.BytesIO(data), columns=[present.index(name) for name in wanted], infer_schema=False, raise_if_empty=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"the CSV cannot be parsed: {_first_line(error)}", place=str(path), remedy=_DAMAGED) from error


def read_parquet_between(path: Path, columns: Sequence[str], time: str, first: dt.datetime | int, last: dt.datetime | int) -> pl.DataFrame:
    """The named columns of a Parquet file's rows with `first` <= `time` < `last`, without holding the others.

    Raises:
        DataError: the file is truncated or corrupt.
    """
    present = column_names(path)
    inside = (pl.col(time) >= first) & (pl.col(time) < last)
    try:
        return pl.scan_parquet(path, glob=False).filter(inside).select([c for c in columns if c in present]).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _damaged(path, error) from error


def content_hash(path: Path) -> str:
    """SHA-256 of the content; computed once per version (size and modification time) of the file."""
    stat = path.stat()
    return _content_hash(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=65_536)
def _content_hash(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _open_text(path: Path) -> io.TextIOBase:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _read_csv_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix.lower() == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from error


def _check_last_row(path: Path, data: bytes, width: int) -> None:
    """A last line without newline may be whole or cut: it is whole when it has every column."""
    if data.endswith(b"\n"):
        return
    last = data[data.rfind(b"\n") + 1 :].decode("utf-8", "replace")
    if len(next(csv.reader([last]), [])) < width:
        row = data.count(b"\n")
        raise DataError(f"the CSV ends in the middle of row {row}: {last[:60]!r}", place=f"{path}, row {row}", remedy=_DAMAGED)


def _damaged(path: Path, error: Exception) -> DataError:
    kind = "Parquet" if is_parquet(path) else "gzip" if path.suffix.lower() == ".gz" else "CSV"
    return DataError(f"the {kind} file is truncated or corrupt: {_first_line(error)}", place=str(path), remedy=_DAMAGED)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
