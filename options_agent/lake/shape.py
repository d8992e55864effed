"""Tables held against a schema: what somebody wants written, and what was read, of whatever version.

Old files are read for ever. Every file names its schema and version; a reader brings older rows up to the version in
force by the steps in `UPGRADES`. To change a schema: raise its version, add the step, and keep a file of the former
version (tests/data/schema_versions). Files are not rewritten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from options_agent.errors import DataError
from options_agent.lake import encoding

if TYPE_CHECKING:
    from collections.abc import Sequence

Step = Callable[[pa.Table], pa.Table]

#: (schema, version) to the step that makes the next version of such a table: all columns in, all columns out. Types and
#: order are the next schema's; a column that did not exist is null, or what its absence meant.
UPGRADES: Final[dict[tuple[str, int], Step]] = {}


def as_schema(table: pa.Table, schema: pa.Schema, place: str) -> pa.Table:
    """A table somebody wants written, cast where that loses nothing."""
    if table.schema.equals(schema, check_metadata=True):
        return table
    _require_names(table, schema, place)
    try:
        return table.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise DataError(f"columns do not fit the schema: {error}", place=place, remedy="cast them first") from error


def as_stored(table: pa.Table, schema: pa.Schema, place: str) -> pa.Table:
    """A table that was read, upgraded: its types are the schema's own, or the file is not what it says it is."""
    table = upgraded(table, schema, place)
    _require_names(table, schema, place)
    if differing := [field.name for field, found in zip(schema, table.schema, strict=True) if field.type != found.type]:
        raise DataError(
            f"columns {differing} are of another type than the schema's", place=place, remedy="set the file aside, write it again"
        )
    return pa.Table.from_arrays(table.columns, schema=schema)


def columns_of(data: bytes, schema: pa.Schema, columns: Sequence[str], place: str, *, in_time: bool = False) -> pa.Table:
    """Some columns of a stored file, rows in the order of `encoding.from_bytes`.

    An older file is read whole, for its columns may be made of others.

    Raises:
        DataError: the file is damaged, newer than this release, or no step upgrades it.
    """
    summary = encoding.summary_of(data, place=place)
    if summary.schema == _name(schema) and summary.schema_version != str(_version(schema)):
        return upgraded(encoding.from_bytes(data, place=place, in_time=in_time), schema, place).select(list(columns))
    return encoding.from_bytes(data, place=place, columns=columns, in_time=in_time)


def upgraded(table: pa.Table, schema: pa.Schema, place: str) -> pa.Table:
    """A whole table of an older version of `schema`, step by step in the version in force. Others are given back as they are.

    Raises:
        DataError: the table is of a newer version, or a step is missing.
    """
    metadata = table.schema.metadata or {}
    if metadata.get(b"schema", b"").decode() != _name(schema):
        return table
    version, wanted = int(metadata.get(b"schema_version", b"1")), _version(schema)
    if version > wanted:
        raise DataError(f"{_name(schema)} of version {version}; this release knows {wanted}", place=place, remedy="install a newer release")
    while version < wanted:
        step = UPGRADES.get((_name(schema), version))
        if step is None:
            raise DataError(
                f"no step from version {version} of {_name(schema)}", place=place, remedy="add it to options_agent.lake.shape.UPGRADES"
            )
        table, version = step(table), version + 1
    return table.replace_schema_metadata({**metadata, b"schema_version": str(wanted).encode()})


def _name(schema: pa.Schema) -> str:
    return str((schema.metadata or {}).get(b"schema", b"").decode())


def _version(schema: pa.Schema) -> int:
    return int((schema.metadata or {}).get(b"schema_version", b"1"))


def _require_names(table: pa.Table, schema: pa.Schema, place: str) -> None:
    if table.column_names != schema.names:
        missing, unknown = sorted(set(schema.names) - set(table.column_names)), sorted(set(table.column_names) - set(schema.names))
        raise DataError(
            f"columns do not fit the schema: missing {missing}, unknown {unknown}",
            place=place,
            remedy="give every column of the schema in its order (options_agent.quotes, options_agent.series)",
        )
