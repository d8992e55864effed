"""Sweeps of the exchange's `ticker` replies, flattened (`greeks.delta`) or with the dicts written out as strings.

Units: milliseconds UTC per row, volatilities in percent, prices in coin. A missing side is 0.0 in price, size and
volatility. Appending recorders put several sweeps into one file.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

import polars as pl

from options_agent.errors import DataError
from options_agent.market.recorded.columns import Columns
from options_agent.market.recorded.family import ChainFormat, sweep_starts

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHARED: Final = frozenset(
    {"timestamp", "instrument_name", "underlying_price", "mark_price", "mark_iv", "best_bid_price", "best_ask_price", "bid_iv", "ask_iv"}
)
_OPTIONAL: Final = ("index_price", "open_interest", "best_bid_amount", "best_ask_amount")
_GREEKS: Final = ("delta", "gamma", "vega", "theta")


def decode_flat(columns: Columns) -> pl.DataFrame:
    """Rows of a flattened file, in its order."""
    ts, name = columns.instant("timestamp", "ms"), columns.text("instrument_name")
    bid, ask = columns.given("best_bid_price"), columns.given("best_ask_price")
    nothing = pl.Series([None], dtype=pl.Float64)
    values = {
        "bid_size": columns.given("best_bid_amount").zip_with(bid.is_not_null(), nothing),
        "ask_size": columns.given("best_ask_amount").zip_with(ask.is_not_null(), nothing),
        "bid_iv": columns.volatility("bid_iv", percent=True).zip_with(bid.is_not_null(), nothing),
        "ask_iv": columns.volatility("ask_iv", percent=True).zip_with(ask.is_not_null(), nothing),
    }
    return pl.DataFrame(
        {
            "ts": ts,
            "snapshot": sweep_starts(ts, name),
            "name": name,
            "bid": bid,
            "ask": ask,
            "mark": columns.given("mark_price"),
            **values,
            "mark_iv": columns.volatility("mark_iv", percent=True),
            **{greek: columns.number(f"greeks.{greek}") for greek in _GREEKS},
            "forward": columns.given("underlying_price"),
            "index": columns.given("index_price"),
            "open_interest": columns.number("open_interest"),
            "volume_24h": columns.number("stats.volume"),
        }
    )


def decode_nested(columns: Columns) -> pl.DataFrame:
    """Rows of a file whose `stats` and `greeks` are Python dicts in strings."""
    table = columns.table
    for name, members in (("greeks", _GREEKS), ("stats", ("volume",))):
        if name in table.columns:
            table = table.with_columns(_members(columns, name, members))
    return decode_flat(Columns(table, columns.place))


def _members(columns: Columns, name: str, members: Sequence[str]) -> list[pl.Series]:
    found: dict[str, list[float | None]] = {member: [] for member in members}
    for row, text in enumerate(columns.table[name].to_list(), start=1):
        try:
            parsed = ast.literal_eval(text) if text else {}
            for member in members:
                value = parsed.get(member)
                found[member].append(None if value is None else float(value))
        except (ValueError, SyntaxError, AttributeError, TypeError):
            raise DataError(
                f"{name} is not a dict of numbers: {str(text)[:60]!r}",
                place=f"{columns.place}, column {name!r}, row {row}",
                remedy="mend or remove the row, or fetch the file again",
            ) from None
    return [pl.Series(f"{name}.{member}", values, pl.Float64) for member, values in found.items()]


FLAT: Final = ChainFormat(
    name="flattened tickers",
    about="sweeps of ticker replies with greeks and volatilities, one column a member",
    required=_SHARED | {"greeks.delta", "greeks.gamma", "greeks.vega", "greeks.theta"},
    optional=(*_OPTIONAL, "stats.volume"),
    keys=("timestamp", "instrument_name", "index_price"),
    decode=decode_flat,
)

NESTED: Final = ChainFormat(
    name="nested tickers",
    about="sweeps of ticker replies with stats and greeks as dicts in strings",
    required=_SHARED | {"greeks", "stats"},
    optional=_OPTIONAL,
    keys=("timestamp", "instrument_name", "index_price"),
    decode=decode_nested,
)
