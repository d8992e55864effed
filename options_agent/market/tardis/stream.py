"""A gzip of CSV as a stream of Arrow batches: memory holds a few blocks, however long the file.

Values stay text, but symbol and the two instants: only the few rows that are kept are ever converted.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.csv as pa_csv

from options_agent.market.tardis.header import FETCH_AGAIN, DamagedFileError, header_of, strangers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from options_agent.market.tardis.header import Dataset

_BLOCK_BYTES: Final = 1 << 20
_INSTANTS: Final = ("timestamp", "local_timestamp")
SYMBOL: Final = pa.dictionary(pa.int32(), pa.string())


@dataclass(slots=True)
class Read:
    """How far a stream is: rows and compressed bytes so far, of `size` bytes; and columns it has that nobody published."""

    size: int = 0
    rows: int = 0
    bytes: int = 0
    strangers: tuple[str, ...] = ()


class _Counted(io.RawIOBase):
    """A file that says how much of it was read."""

    def __init__(self, path: Path, read: Read) -> None:
        self._file = path.open("rb", buffering=0)
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._file.readinto(buffer)
        self._read.bytes += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def batches(
    path: Path, dataset: Dataset, read: Read, told: Callable[[], None] | None = None, *, block_bytes: int = _BLOCK_BYTES
) -> Iterator[pa.RecordBatch]:
    """The columns of `dataset.read`, in file order; nothing where the file says that there is no data.

    Args:
        path: a fetched gzip.
        dataset: which data type it is.
        read: is kept up to date while the batches come.
        told: called after every batch; what it raises ends the stream.
        block_bytes: text parsed at a time; must hold the longest line.

    Raises:
        DamagedFileError: the file is truncated or corrupt, or a line does not fit the header.
        ChangedHeaderError: a column that is read is missing.
    """
    names = header_of(path, dataset)
    if not names:
        return
    read.size, read.strangers = path.stat().st_size, tuple(strangers(names, dataset))
    types = {name: pa.int64() if name in _INSTANTS else SYMBOL if name == "symbol" else pa.string() for name in dataset.read}
    convert = pa_csv.ConvertOptions(include_columns=list(dataset.read), column_types=types, strings_can_be_null=True)
    options = pa_csv.ReadOptions(block_size=block_bytes)
    try:
        with (
            _Counted(path, read) as raw,
            pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "gzip") as text,
            pa_csv.open_csv(text, read_options=options, convert_options=convert) as stream,
        ):
            for batch in stream:
                read.rows += batch.num_rows
                yield batch
                if told is not None:
                    told()
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        raise DamagedFileError(
            f"the file is truncated or corrupt after {read.rows:,} rows: {str(error).splitlines()[0]}", place=str(path), remedy=FETCH_AGAIN
        ) from error
