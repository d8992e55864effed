"""Instrument columns of a whole table from its unique names: parsed once each, joined back."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import polars as pl

from options_agent.contracts import Option, format_name, option_name, parse_name
from options_agent.errors import DataError
from options_agent.market.recorded.columns import INSTANT

if TYPE_CHECKING:
    import datetime as dt

_Parts = tuple[str, str, str, "str | None", "dt.datetime | None", "float | None", "str | None", "str | None"]

_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "name": pl.String,
    "kind": pl.String,
    "underlying": pl.String,
    "instrument": pl.String,
    "expiry": INSTANT,
    "strike": pl.Float64,
    "right": pl.String,
    "settlement": pl.String,
}


def resolve(rows: pl.DataFrame, place: str) -> tuple[pl.DataFrame, Counter[str]]:
    """Replace column `name` by underlying, instrument (canonical), expiry, strike, right and settlement.

    Returns:
        The rows that are options, and how many of each other kind of instrument were left out.

    Raises:
        DataError: a name is none of the exchange's; the row is named.
    """
    known = pl.DataFrame([_parts(name, rows, place) for name in rows["name"].unique(maintain_order=True).to_list()], _SCHEMA, orient="row")
    left_out = Counter[str]()
    joined = rows.join(known, on="name", how="left", maintain_order="left")
    if known["kind"].n_unique() > 1 or (known.height and known["kind"][0] != "option"):
        counts = joined.filter(pl.col("kind") != "option").group_by("kind").len()
        left_out.update({f"{kind}, not an option": count for kind, count in counts.iter_rows()})
        joined = joined.filter(pl.col("kind") == "option")
    return joined.drop("name", "kind"), left_out


def names_of_parts(coin: pl.Series, expiry: pl.Series, strike: pl.Series, right: pl.Series) -> pl.Series:
    """Option names from their parts (strike in USD, right C or P), built once per contract."""
    parts = pl.DataFrame({"coin": coin, "expiry": expiry, "strike": strike, "right": right})
    unique = parts.unique(maintain_order=True)
    names = [option_name(c, e, k, "C" if r == "C" else "P") for c, e, k, r in unique.iter_rows()]
    return parts.join(unique.with_columns(pl.Series("name", names, pl.String)), on=parts.columns, how="left", maintain_order="left")["name"]


def _parts(
    name: str, rows: pl.DataFrame, place: str
) -> tuple[str, str, str, str | None, dt.datetime | None, float | None, str | None, str | None]:
    try:
        instrument = parse_name(name)
        if isinstance(instrument, Option):
            own = (format_name(instrument), instrument.expiry, float(instrument.strike), instrument.right, instrument.settlement)
            return (name, "option", instrument.underlying, *own)
        return (name, type(instrument).__name__.lower(), instrument.underlying, None, None, None, None, None)
    except DataError as error:
        row = int((rows["name"] == name).arg_max() or 0) + 1
        raise DataError(error.message, place=f"{place}, instrument of row {row}", remedy=error.remedy) from None
