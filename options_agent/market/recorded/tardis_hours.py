"""Hourly chains thinned from a vendor's ticks: `ts_us, asset, expiry_us, strike, opt_type, mark_iv, bid_iv, ...`.

Units: microseconds UTC, volatilities in percent, mark in coin. There are no bid and ask prices: they stay null, and
their volatilities are kept. A row answers for the full hour after its `ts_us`, which may be as old as an hour;
rows at or after their own expiry are kept for quality to judge. `underlying_price` is a forward, so there is no index.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import polars as pl

from options_agent.market.recorded.family import ChainFormat
from options_agent.market.recorded.instruments import names_of_parts

if TYPE_CHECKING:
    from options_agent.market.recorded.columns import Columns


def decode(columns: Columns) -> pl.DataFrame:
    """Rows of the file, in its order; names are built from asset, expiry, strike and type."""
    ts = columns.instant("ts_us", "us")
    coin = columns.text("asset").str.to_uppercase()
    return pl.DataFrame(
        {
            "ts": ts,
            "snapshot": (ts + dt.timedelta(hours=1, microseconds=-1)).dt.truncate("1h"),
            "name": names_of_parts(coin, columns.instant("expiry_us", "us"), columns.number("strike"), columns.right("opt_type")),
            "mark": columns.given("mark_price"),
            "bid_iv": columns.volatility("bid_iv", percent=True),
            "ask_iv": columns.volatility("ask_iv", percent=True),
            "mark_iv": columns.volatility("mark_iv", percent=True),
            "delta": columns.number("delta"),
            "forward": columns.given("underlying_price"),
            "open_interest": columns.number("open_interest"),
        }
    )


def strays(snapshots: pl.DataFrame) -> pl.Series:
    """Snapshots at the first instant of a month that nothing in the file leads up to within a day.

    A file of the month's first day ends in some rows stamped in the month's last second: the vendor's next day
    leaking in, a part of a chain. In a file that covers the whole month they are its last hour and stay.
    """
    before = snapshots.sort("underlying", "snapshot").with_columns(
        alone=(pl.col("snapshot") - pl.col("snapshot").shift(1).over("underlying") > dt.timedelta(days=1)).fill_null(value=False)
    )
    marked = snapshots.join(
        before.select("underlying", "snapshot", "alone"), on=["underlying", "snapshot"], how="left", maintain_order="left"
    )
    return marked.select(pl.col("alone") & (pl.col("snapshot") == pl.col("snapshot").dt.truncate("1mo")))["alone"]


FORMAT: Final = ChainFormat(
    name="tardis hours",
    about="hourly chains with mark, bid and ask IV; no bid or ask price, no index",
    required=frozenset({"ts_us", "asset", "expiry_us", "strike", "opt_type", "mark_iv", "mark_price", "underlying_price"}),
    optional=("bid_iv", "ask_iv", "delta", "open_interest"),
    keys=("ts_us", "asset", "expiry_us", "strike", "opt_type"),
    decode=decode,
    time=("ts_us", "us"),
    strays=strays,
)
