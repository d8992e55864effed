"""The pandera schema of clean quotes, made from `options_agent.quotes.FIELDS`: the last look before a table is trusted.

Rows that break a rule never get here (they are in quarantine); a failure means a table of another kind, or a fault of ours.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from options_agent.errors import DataError
from options_agent.quotes import COMPUTED_FIELDS, FIELDS, Field

if TYPE_CHECKING:
    import pandera.polars as pandera
    import polars as pl

#: The values a text column may take.
CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "right": ("C", "P"),
    "settlement": ("coin", "usdc"),
    "network": ("mainnet", "testnet", "synthetic"),
}
#: Prices that are above zero wherever they are given.
ABOVE_ZERO: Final = ("strike", "bid", "ask", "forward", "index")
_SHOWN: Final = 5


@cache
def quote_schema(*, clean: bool) -> pandera.DataFrameSchema:
    """The schema of a quote table, `clean` with the flags quality adds: names, order, types, nulls, choices, signs."""
    return _schema(clean=clean, values=True)


def check_quotes(table: pa.Table, *, place: str, clean: bool = False) -> None:
    """Check a whole table against its schema.

    Pandera asks each column apart, which costs more than judging a day. So the structure is asked of pandera, the values
    in one pass of Polars over the same fields, and only where that fails the full schema says what is wrong where.

    Args:
        table: quotes, or clean quotes with `clean`.
        place: file or stage, named in errors.

    Raises:
        DataError: it does not fit; the message names each column, what failed and the first rows.
    """
    import polars as pl

    errors = _pandera().errors
    if len(set(table.column_names)) != len(table.column_names):
        raise DataError(f"a column name occurs twice: {table.column_names}", place=place, remedy="keep one of each")
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise DataError("not a table", place=place, remedy="pass a pyarrow Table")
    try:
        _structure(clean=clean).validate(frame.lazy())
        if frame.select(pl.all_horizontal(_values_fit(clean=clean))).item():
            return
    except errors.SchemaError:
        pass  # the full schema names every fault, not only the first
    try:
        quote_schema(clean=clean).validate(frame, lazy=True)
    except errors.SchemaErrors as failure:
        raise DataError(
            f"the table does not fit the quote schema: {_summary(failure)}",
            place=place,
            remedy="map the source's columns to options_agent.quotes.FIELDS (docs/data-dictionary.md)",
        ) from None


@cache
def _structure(*, clean: bool) -> pandera.DataFrameSchema:
    return _schema(clean=clean, values=False)


def _schema(*, clean: bool, values: bool) -> pandera.DataFrameSchema:
    library = _pandera()
    columns = {
        field.name: library.Column(
            _polars_type(field), nullable=field.nullable if values else True, checks=_checks(field) if values else []
        )
        for field in _fields(clean=clean)
    }
    made: pandera.DataFrameSchema = library.DataFrameSchema(columns, strict=True, ordered=True, name="clean_quotes" if clean else "quotes")
    return made


def _pandera() -> Any:
    """Pandera, without the switch it throws for pyspark: PYARROW_IGNORE_TIMEZONE makes Arrow misread zones, here and in every child."""
    switch = os.environ.get("PYARROW_IGNORE_TIMEZONE")
    import pandera.polars as pandera

    if switch is None:
        os.environ.pop("PYARROW_IGNORE_TIMEZONE", None)
    return pandera


def _values_fit(*, clean: bool) -> list[pl.Expr]:
    """One truth per condition of `quote_schema` on values."""
    import polars as pl

    fields = _fields(clean=clean)
    return [
        *(pl.col(field.name).null_count() == 0 for field in fields if not field.nullable),
        *(pl.col(name).is_in(list(choices)).all() for name, choices in CHOICES.items()),
        *((pl.col(name) > 0.0).all() for name in ABOVE_ZERO),
    ]


def _fields(*, clean: bool) -> tuple[Field, ...]:
    return (*FIELDS, *COMPUTED_FIELDS) if clean else FIELDS


def _checks(field: Field) -> list[Any]:
    check = _pandera().Check
    if field.name in CHOICES:
        return [check.isin(list(CHOICES[field.name]))]
    if field.name in ABOVE_ZERO:
        return [check.gt(0.0)]
    return []


def _polars_type(field: Field) -> Any:
    import polars as pl

    if pa.types.is_timestamp(field.type):
        return pl.Datetime("us", "UTC")
    return {pa.float64(): pl.Float64, pa.string(): pl.String, pa.bool_(): pl.Boolean}[field.type]


def _summary(failure: Any) -> str:
    """`column 'right': isin(['C', 'P']) fails in 3 rows (first 4, 9, 12)`, one clause per column and check."""
    rows: dict[tuple[str, str], list[int]] = {}
    for case in failure.failure_cases.iter_rows(named=True):
        check = str(case["check"])
        column = case["failure_case"] if check.startswith("column_") else case["column"]  # a column there is none of, or too many
        found = rows.setdefault((str(column), check), [])
        if case["index"] is not None:
            found.append(int(case["index"]))
    clauses = []
    for (column, check), indices in rows.items():
        where = f" in {len(indices)} rows (first {', '.join(map(str, indices[:_SHOWN]))})" if indices else ""
        clauses.append(f"column {column!r}: {check} fails{where}")
    return "; ".join(clauses)
