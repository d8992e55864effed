"""Tables to Parquet bytes and back, without loss: the encodings of raw snapshots and of whole days.

A day lies contract-major (expiry, strike, right, then time), its prices as scaled integers where that is bitwise
exact, each column in the layout that compresses best (`packing`), and one that never varies in the header only
(`constants`). Equal tables give equal bytes: nothing of the clock
or the machine goes in. Paths are not known here.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from options_agent.errors import DataError
from options_agent.lake import packing
from options_agent.lake.constants import Constant, with_constants, without_constants

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

#: Contract-major order. The stable sort of its rows by `ts` is the QUOTE order, which is what readers get.
CONTRACT_MAJOR: Final = ("expiry", "strike", "right", "instrument", "ts", "snapshot", "source", "region")

_KEY: Final = b"encoding"
_SEAL: Final = b"crc32="
#: Decimals and divisor, coarsest first; with a divisor of 100 a scale has two digits more than its decimals say.
_SCALES: Final = tuple(
    sorted([*((d, 1.0) for d in range(10)), *((d, 100.0) for d in range(8))], key=lambda s: s[0] + (2.1 if s[1] > 1 else 0))
)
_EXACT: Final = 2.0**53
_NEGATIVE_ZERO: Final = np.float64(-0.0).view(np.int64)
#: How days are encoded. 1: scaled integers, Parquet's own deltas and dictionaries. 2: layouts by `packing`, some columns steps.
#: 3: columns that never vary are in the header only.
ENCODING_VERSION: Final = 3


@dataclass(frozen=True, slots=True)
class Scale:
    """How a float column became integers: value = integer / 10**decimals / divisor; `negative_zero` stands for -0.0.

    The divisor is 100 where a source's percentages became decimals: 46.55 / 100 is not the float nearest 0.4655.
    """

    decimals: int
    divisor: float = 1.0
    negative_zero: int | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """Rows, schema name and version, and the notes a day was written with."""

    rows: int
    schema: str
    schema_version: str
    notes: dict[str, Any]


def snapshot_bytes(table: pa.Table) -> bytes:
    """One raw snapshot as Parquet: Zstandard, columns as they are. For many small files, quickly written and read."""
    strings = [field.name for field in table.schema if pa.types.is_string(field.type)]
    return _parquet(table.combine_chunks(), table.schema.metadata or {}, level=1, dictionary=strings, encodings={})


def day_bytes(table: pa.Table, notes: dict[str, Any] | None = None) -> bytes:
    """A whole day as Parquet: contract-major, scaled integers, Zstandard. `notes` (JSON) are kept in the footer."""
    varying, constants = without_constants(contract_major(table))
    encoded, scales = encode(varying)
    packed, layout = packing.packed(encoded, scales)
    header = {
        "version": ENCODING_VERSION,
        "scales": {name: [s.decimals, s.divisor, s.negative_zero] for name, s in scales.items()},
        "steps": layout.steps,
        "constants": {name: [c.position, c.type, c.nullable, c.value] for name, c in constants.items()},
        "notes": notes or {},
    }
    metadata = {**(table.schema.metadata or {}), _KEY: json.dumps(header, sort_keys=True, separators=(",", ":")).encode()}
    return _parquet(packed, metadata, level=9, dictionary=layout.dictionary, encodings=layout.encodings)


def from_bytes(data: bytes, *, place: str, columns: Sequence[str] | None = None, in_time: bool = False) -> pa.Table:
    """The table in Parquet bytes of either kind, floats as floats again.

    Args:
        data: a whole Parquet file.
        place: where it came from; named in errors.
        columns: the columns wanted, in that order; all by default.
        in_time: rows in the QUOTE order (`columns` must have `ts`), not as they lie (a day: contract-major).

    Raises:
        DataError: the bytes are truncated, corrupt or no Parquet, or a column is not in the file.
    """
    try:
        _require_seal(data)
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            metadata = file.metadata.metadata
            header = _header(metadata)
            if (version := header.get("version", 1)) > ENCODING_VERSION:
                raise DataError(
                    f"a day of encoding {version}; this release reads up to {ENCODING_VERSION}",
                    place=place,
                    remedy="install a newer release",
                )
            constants = {name: Constant(*constant) for name, constant in header.get("constants", {}).items()}
            names = _all_names(file.schema_arrow.names, constants)
            if columns is not None and (missing := [name for name in columns if name not in names]):
                raise DataError(f"no column {missing} in the file; it has {names}", place=place, remedy="ask for columns it has")
            wanted = names if columns is None else list(columns)
            rows, stored = file.metadata.num_rows, [name for name in wanted if name not in constants]
            table = file.read(columns=None if columns is None else stored, use_threads=False)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise DataError(
            f"not a whole Parquet file ({len(data):,} bytes): {error}",
            place=place,
            remedy="set it aside (lake.store.set_aside), then harvest the snapshot again or restore the day from the archive",
        ) from error
    table = decode(table, {name: Scale(*scale) for name, scale in header.get("scales", {}).items()}, header.get("steps", ()))
    if in_time and "ts" not in constants:
        table = in_time_order(table)
    return with_constants(table, constants, wanted, rows)


def _all_names(stored: list[str], constants: dict[str, Constant]) -> list[str]:
    """Names of all columns in the order of the table that was written."""
    names = list(stored)
    for name, constant in sorted(constants.items(), key=lambda item: item[1].position):
        names.insert(constant.position, name)
    return names


def summary_of(data: bytes, *, place: str) -> Summary:
    """What the footer of a Parquet file of either kind says; no rows are read.

    Raises:
        DataError: the bytes are no whole Parquet file.
    """
    try:
        _require_seal(data)
        footer = pq.read_metadata(pa.BufferReader(data))
        metadata = footer.metadata or {}
        return Summary(
            rows=footer.num_rows,
            schema=metadata.get(b"schema", b"").decode(),
            schema_version=metadata.get(b"schema_version", b"").decode(),
            notes=dict(_header(metadata).get("notes", {})),
        )
    except (pa.ArrowException, ValueError, OSError) as error:
        raise DataError(
            f"not a whole Parquet file ({len(data):,} bytes): {error}", place=place, remedy="set it aside and write the day again"
        ) from error


def contract_major(table: pa.Table) -> pa.Table:
    """Rows by `CONTRACT_MAJOR` (those of its columns that are there), stable; nulls last."""
    keys = [(name, "ascending") for name in CONTRACT_MAJOR if name in table.column_names]
    return table.combine_chunks().take(pc.sort_indices(table, sort_keys=keys)) if keys else table


def quote_order(table: pa.Table) -> pa.Table:
    """Rows in the QUOTE order, whatever order they are in: `in_time_order(contract_major(table))` in one sort."""
    keys = [("ts", "ascending")] + [(name, "ascending") for name in CONTRACT_MAJOR if name in table.column_names and name != "ts"]
    return table.take(pc.sort_indices(table, sort_keys=keys))


def in_time_order(table: pa.Table) -> pa.Table:
    """Rows of a contract-major table by `ts`, stable: exactly the QUOTE order. Nulls last."""
    times = table.column("ts").cast(pa.int64())
    values = pc.fill_null(times, np.iinfo(np.int64).max).to_numpy()
    return table.combine_chunks().take(pa.array(np.argsort(values, kind="stable")))


def encode(table: pa.Table) -> tuple[pa.Table, dict[str, Scale]]:
    """Float columns as the smallest scaled integers that restore them bitwise; other columns untouched.

    `decode(*encode(table))` equals `table` bit for bit, nulls, NaN and -0.0 included: a column that no scale
    up to 10**-9 restores (more digits, NaN, infinities, beyond 2**53) stays as it is.
    """
    arrays, scales = [], {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_float64(column.type) and (packed := _packed(column.combine_chunks())) is not None:
            column, scales[name] = packed
        arrays.append(column)
    fields = [pa.field(field.name, array.type, field.nullable) for field, array in zip(table.schema, arrays, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=table.schema.metadata)), scales


def decode(table: pa.Table, scales: dict[str, Scale], steps: Collection[str] = ()) -> pa.Table:
    """The inverse of `encode`; scales of columns that are not in `table` are ignored. Columns in `steps` are `packing`'s."""
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key not in {_KEY, b"seal"}}
    arrays, fields = [], []
    for field, column in zip(table.schema, table.columns, strict=True):
        if (scale := scales.get(field.name)) is not None:
            integers = column.combine_chunks()
            column = _unpacked(packing.unstepped(integers) if field.name in steps else integers, scale)
        arrays.append(column)
        fields.append(pa.field(field.name, column.type, field.nullable))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata or None))


def _packed(column: pa.Array) -> tuple[pa.Array, Scale] | None:
    missing = np.asarray(column.is_null())
    values = np.where(missing, 0.0, pc.fill_null(column, 0.0).to_numpy())
    bits = values.view(np.int64)
    is_negative_zero = bits == _NEGATIVE_ZERO
    bits = np.where(is_negative_zero, 0, bits)
    if not len(values) or not np.isfinite(values).all():
        return None
    scale, integers = _smallest_scale(values, bits)
    if scale is None:
        return None
    sentinel = int(integers.max()) + 1 if is_negative_zero.any() else None
    if sentinel is not None:
        integers[is_negative_zero] = sentinel
    small = np.abs(integers).max() < 2**31 - 1
    array = pa.array(integers.astype(np.int32 if small else np.int64), mask=missing if missing.any() else None)
    return array, Scale(scale.decimals, scale.divisor, sentinel)


def _smallest_scale(values: np.ndarray, bits: np.ndarray) -> tuple[Scale | None, np.ndarray]:
    """The coarsest scale that restores `values` (whose bit patterns are `bits`), and the integers on it."""
    largest = float(np.abs(values).max())
    probe = values[:: max(1, len(values) // 64)]
    for decimals, divisor in _SCALES:
        factor = 10.0**decimals
        if largest * divisor * factor >= _EXACT or not (np.rint(probe * divisor * factor) / factor / divisor == probe).all():
            continue
        integers = np.rint(values * divisor * factor).astype(np.int64)
        if np.array_equal((integers / factor / divisor).view(np.int64), bits):
            return Scale(decimals, divisor), integers
    return None, np.empty(0, np.int64)


def _unpacked(column: pa.Array, scale: Scale) -> pa.Array:
    if column.offset:
        column = column.take(pa.array(np.arange(len(column))))
    validity, numbers = column.buffers()
    # what lies under a null is any number; the validity of the integers is that of the floats
    integers = np.frombuffer(numbers, column.type.to_pandas_dtype(), len(column))
    values = integers / 10.0**scale.decimals
    if scale.divisor != 1.0:
        values /= scale.divisor
    if scale.negative_zero is not None:
        values[integers == scale.negative_zero] = -0.0
    return pa.Array.from_buffers(pa.float64(), len(column), [validity, pa.py_buffer(values)], column.null_count)


def _parquet(table: pa.Table, metadata: dict[bytes, bytes], *, level: int, dictionary: list[str], encodings: dict[str, str]) -> bytes:
    """One row group, no statistics (whole days are read), no Arrow schema (its types are Parquet's own)."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema.remove_metadata(),
        compression="zstd",
        compression_level=level,
        use_dictionary=dictionary,
        column_encoding=encodings or None,
        write_statistics=False,
        store_schema=False,
    ) as writer:
        try:
            writer.write_table(table.replace_schema_metadata(None), row_group_size=max(len(table), 1))
        except pa.ArrowInvalid as error:
            raise DataError(f"the table cannot be written: {error}", remedy="a column that may not be null holds a null") from error
        writer.add_key_value_metadata(
            {key.decode(): value.decode() for key, value in sorted(metadata.items())} | {"seal": f"{_SEAL.decode()}{0:08x}"}
        )
    return _sealed(bytes(sink.getvalue()))


def _header(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    raw = (metadata or {}).get(_KEY)
    return dict(json.loads(raw)) if raw else {}


def _sealed(data: bytes) -> bytes:
    """The file with its own CRC-32 in its footer, computed with zeros in that place.

    Parquet's page checksums leave page headers and the footer unguarded, and one flipped digit of a scale would
    move every price of a column. A seal over every byte guards all of it; other Parquet readers see a note.
    """
    at = data.rindex(_SEAL) + len(_SEAL)
    return data[:at] + b"%08x" % zlib.crc32(data) + data[at + 8 :]


def _require_seal(data: bytes) -> None:
    """Raise ArrowInvalid where the bytes are not those that were sealed."""
    at = data.rfind(_SEAL) + len(_SEAL)
    view = memoryview(data)
    checksum = zlib.crc32(view[at + 8 :], zlib.crc32(b"00000000", zlib.crc32(view[:at])))
    if at < len(_SEAL) or data[at : at + 8] != b"%08x" % checksum:
        raise pa.ArrowInvalid("its bytes are not those that were written (the checksum differs)")
