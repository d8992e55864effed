"""Sweeps of the exchange's book summaries: a CSV stamped by `creation_timestamp`, and Parquet by `harvest_time`.

Units: volatilities in percent, prices in coin (USDC for linear families), amounts as the exchange gives them. The
reply has no greeks, no bid or ask volatility and no sizes. The Parquet recorder's schema drifted (8, 14 or 20
columns) and its own strike is null where the name has a decimal one: only the name is believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from options_agent.market.recorded.family import ChainFormat, sweep_starts

if TYPE_CHECKING:
    from options_agent.market.recorded.columns import Columns


def decode_reply(columns: Columns) -> pl.DataFrame:
    """Rows of the reply as it came, stamped row by row in milliseconds.

    `estimated_delivery_price` is the index until the last half hour before an expiry; taken as the index it would
    be wrong just there, so there is none.
    """
    ts, name = columns.instant("creation_timestamp", "ms"), columns.text("instrument_name")
    return pl.DataFrame({"ts": ts, "snapshot": sweep_starts(ts, name), "name": name, **_values(columns)})


def decode_harvest(columns: Columns) -> pl.DataFrame:
    """Rows of a harvester that stamps a whole reply with one `harvest_time`."""
    ts = columns.instant("harvest_time")
    return pl.DataFrame({"ts": ts, "snapshot": ts.dt.truncate("1m"), "name": columns.text("instrument_name"), **_values(columns)})


def _values(columns: Columns) -> dict[str, pl.Series]:
    return {
        "bid": columns.given("best_bid_price", "bid_price"),
        "ask": columns.given("best_ask_price", "ask_price"),
        "mark": columns.given("mark_price"),
        "bid_iv": columns.volatility("bid_iv", percent=True),
        "ask_iv": columns.volatility("ask_iv", percent=True),
        "mark_iv": columns.volatility("mark_iv", percent=True),
        **{greek: columns.number(f"greek_{greek}") for greek in ("delta", "gamma", "vega", "theta")},
        "forward": columns.given("underlying_price"),
        "open_interest": columns.number("open_interest"),
        "volume_24h": columns.number("volume"),
    }


_OPTIONAL: Final = (
    *("best_bid_price", "best_ask_price", "bid_price", "ask_price", "bid_iv", "ask_iv", "volume"),
    *("greek_delta", "greek_gamma", "greek_vega", "greek_theta"),
)

REPLY: Final = ChainFormat(
    name="book summary",
    about="one book summary reply: bid, ask, mark, forward; no volatility, no greeks",
    required=frozenset(
        {"creation_timestamp", "instrument_name", "underlying_price", "mark_price", "bid_price", "ask_price", "open_interest"}
    ),
    optional=("volume", "mark_iv"),
    keys=("creation_timestamp", "instrument_name"),
    decode=decode_reply,
)

HARVEST: Final = ChainFormat(
    name="book summary harvest",
    about="book summaries every 15 minutes, one file a family and snapshot: mark IV, later bid and ask too",
    required=frozenset({"harvest_time", "instrument_name", "mark_price", "underlying_price", "mark_iv", "open_interest"}),
    optional=_OPTIONAL,
    keys=("harvest_time", "instrument_name"),
    decode=decode_harvest,
    time=("harvest_time", None),
)
