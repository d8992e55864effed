"""Chains recorded every few hours as `timestamp, instrument_name, underlying, ..., index_price` (Parquet and CSV).

Units: prices in coin (USDC for linear families), `implied_volatility` decimal, one `timestamp` (start of the sweep)
for all rows of a sweep. A missing side is null. `underlying` is the forward of the row's expiry; its name is no key
(`index_price` for near expiries). There are no sizes, no bid or ask volatility, no gamma and theta.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from options_agent.market.recorded.family import ChainFormat

if TYPE_CHECKING:
    from options_agent.market.recorded.columns import Columns


def decode(columns: Columns) -> pl.DataFrame:
    """Rows of the file, in its order."""
    ts = columns.instant("timestamp")
    return pl.DataFrame(
        {
            "ts": ts,
            "snapshot": ts.dt.truncate("1m"),
            "name": columns.text("instrument_name"),
            "bid": columns.given("bid_price"),
            "ask": columns.given("ask_price"),
            "mark": columns.given("mark_price"),
            "mark_iv": columns.volatility("implied_volatility", percent=False),
            "delta": columns.number("delta"),
            "vega": columns.number("vega"),
            "forward": columns.given("underlying"),
            "index": columns.given("index_price"),
            "open_interest": columns.number("open_interest"),
            "volume_24h": columns.number("volume"),
        }
    )


FORMAT: Final = ChainFormat(
    name="deribit sweeps",
    about="full chains every few hours: bid, ask, mark, mark IV, delta, vega, index",
    required=frozenset({"timestamp", "instrument_name", "underlying", "bid_price", "ask_price", "mark_price", "implied_volatility"}),
    optional=("delta", "vega", "index_price", "open_interest", "volume"),
    keys=("timestamp", "instrument_name", "index_price"),
    decode=decode,
    time=("timestamp", None),
)
