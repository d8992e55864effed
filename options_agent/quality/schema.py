"""The pandera schema of clean quotes, made from `options_agent.quotes.FIELDS`: the last look before a table is trusted.

Rows that break a rule never get here (they are in quarantine); a failure means a table of another kind, or a fault of ours.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from options_agent.errors import DataError
from options_agent.quotes import COMPUTED_FIELDS, FIELDS, Field

if TYPE_CHECKING:
    import pandera.polars as pandera

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
    """The schema of a quote table, `clean` with the flags quality adds."""
    import pandera.polars as pandera

    fields = (*FIELDS, *COMPUTED_FIELDS) if clean else FIELDS
    return pandera.DataFrameSchema(
        {field.name: pandera.Column(_polars_type(field), nullable=field.nullable, checks=_checks(field)) for field in fields},
        strict=True,
        ordered=True,
        name="clean_quotes" if clean else "quotes",
    )


def check_quotes(table: pa.Table, *, place: str, clean: bool = False) -> None:
    """Check a whole table against its schema: names, order, types, nulls, choices, signs.

    Args:
        table: quotes, or clean quotes with `clean`.
        place: file or stage, named in errors.

    Raises:
        DataError: it does not fit; the message names each column, what failed and the first rows.
    """
    import polars as pl
    from pandera.errors import SchemaErrors

    if len(set(table.column_names)) != len(table.column_names):
        raise DataError(f"a column name occurs twice: {table.column_names}", place=place, remedy="keep one of each")
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise DataError("not a table", place=place, remedy="pass a pyarrow Table")
    try:
        quote_schema(clean=clean).validate(frame, lazy=True)
    except SchemaErrors as failure:
        raise DataError(
            f"the table does not fit the quote schema: {_summary(failure)}",
            place=place,
            remedy="map the source's columns to options_agent.quotes.FIELDS (docs/data-dictionary.md)",
        ) from None


def _checks(field: Field) -> list[Any]:
    import pandera.polars as pandera

    if field.name in CHOICES:
        return [pandera.Check.isin(list(CHOICES[field.name]))]
    if field.name in ABOVE_ZERO:
        return [pandera.Check.gt(0.0)]
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
        found = rows.setdefault((str(case["column"] or case["failure_case"]), str(case["check"])), [])
        if case["index"] is not None:
            found.append(int(case["index"]))
    clauses = []
    for (column, check), indices in rows.items():
        where = f" in {len(indices)} rows (first {', '.join(map(str, indices[:_SHOWN]))})" if indices else ""
        clauses.append(f"column {column!r}: {check} fails{where}")
    return "; ".join(clauses)
