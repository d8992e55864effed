"""Columns of a day that hold one value in every row: told in the file's header instead of stored.

A chain of one family, source and region has a dozen of them (a recorder without greeks has more). As columns they cost a
day of few rows more than its prices do: a page, a line of the footer, and a look at each on reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Types whose values JSON holds without loss; by the name that stands in the header, which is Arrow's own.
_TYPES: Final = {str(kind): kind for kind in (pa.string(), pa.float64(), pa.bool_(), pa.timestamp("us", tz="UTC"))}


@dataclass(frozen=True, slots=True)
class Constant:
    """A column by its place among all columns, type, nullability, and value as JSON holds it: a float in hex, an instant as an integer."""

    position: int
    type: str
    nullable: bool
    value: Any

    @property
    def field_type(self) -> pa.DataType:
        """The Arrow type."""
        return _TYPES[self.type]

    def column(self, rows: int) -> pa.Array:
        """The column it stands for."""
        if self.value is None:
            return pa.nulls(rows, self.field_type)
        value = float.fromhex(self.value) if pa.types.is_floating(self.field_type) else self.value
        return pa.repeat(pa.scalar(value, self.field_type), rows)


def without_constants(table: pa.Table) -> tuple[pa.Table, dict[str, Constant]]:
    """The columns that vary, and the others by name; a table of no rows has none, and one column is always left.

    `with_constants(*without_constants(table), table.column_names)` is `table` bit for bit.
    """
    found: dict[str, Constant] = {}
    if len(table):
        for position, (field, column) in enumerate(zip(table.schema, table.columns, strict=True)):
            if str(field.type) in _TYPES and (only := _only_value(column.combine_chunks())) is not None:
                found[field.name] = Constant(position, str(field.type), field.nullable, only[0])
    if len(found) == table.num_columns and found:
        del found[table.column_names[0]]
    return table.drop_columns(list(found)), found


def with_constants(table: pa.Table, constants: Mapping[str, Constant], names: list[str], rows: int | None = None) -> pa.Table:
    """The columns `names`, in that order, of a table and of what is constant beside it.

    Args:
        table: its metadata stays.
        constants: by name; those that `names` does not ask for are left out.
        names: what is wanted.
        rows: of the constant columns; by default the table's.
    """
    count = len(table) if rows is None else rows
    arrays: list[pa.Array | pa.ChunkedArray] = []
    fields = []
    for name in names:
        if (constant := constants.get(name)) is None:
            arrays.append(table.column(name))
            fields.append(table.schema.field(name))
        else:
            arrays.append(constant.column(count))
            fields.append(pa.field(name, constant.field_type, constant.nullable))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=table.schema.metadata))


def _only_value(column: pa.Array) -> tuple[Any] | None:
    """The one value of a column of at least one row, as JSON holds it; None where there are two, or where JSON would lose something."""
    if column.null_count:
        return (None,) if column.null_count == len(column) else None
    if pa.types.is_floating(column.type):
        values = column.to_numpy()
        same = bool((values.view(np.int64) == values[:1].view(np.int64)).all()) and bool(np.isfinite(values[0]))
        return (float(values[0]).hex(),) if same else None
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return (column[0].as_py(),) if pc.all(pc.equal(column, column[0])).as_py() else None
