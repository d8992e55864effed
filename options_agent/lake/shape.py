"""Tables held against a schema: what somebody wants written, and what was read."""

from __future__ import annotations

import pyarrow as pa

from options_agent.errors import DataError


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
