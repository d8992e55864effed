"""Small files in each recorder's format, made here so that the tests stand without recorded data.

Two contracts of BTC, one without a bid, at a few instants; every builder takes what a test wants to be different.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from options_agent.contracts import option_name

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
EXPIRY = dt.datetime(2026, 3, 27, 8, tzinfo=dt.UTC)
STRIKES = (80_000.0, 90_000.0)


def hours(count: int, start: dt.datetime = START) -> list[dt.datetime]:
    return [start + dt.timedelta(hours=n, seconds=3) for n in range(count)]


def names(underlying: str = "BTC", strikes: Sequence[float] = STRIKES) -> list[str]:
    return [option_name(underlying, EXPIRY, strike, right) for strike in strikes for right in ("C", "P")]


def epoch_ms(at: dt.datetime) -> int:
    return round(at.timestamp() * 1_000)


def deribit_sweeps(at: Sequence[dt.datetime], underlying: str = "BTC", instruments: Sequence[str] | None = None) -> pl.DataFrame:
    """The multi-hourly recorder's columns; the last instrument of every sweep has no bid and a mark of 0."""
    own = list(instruments or names(underlying))
    rows = [(stamp, name, n == len(own) - 1) for stamp in at for n, name in enumerate(own)]
    return pl.DataFrame(
        {
            "timestamp": pl.Series([row[0] for row in rows], dtype=pl.Datetime("us", "UTC")),
            "instrument_name": [row[1] for row in rows],
            "underlying": [85_400.25] * len(rows),
            "underlying_name": ["index_price"] * len(rows),
            "option_type": ["call"] * len(rows),
            "bid_price": [None if row[2] else 0.0105 for row in rows],
            "ask_price": [0.0125] * len(rows),
            "mark_price": [0.0 if row[2] else 0.01153 for row in rows],
            "implied_volatility": [0.4523] * len(rows),
            "delta": [0.31] * len(rows),
            "vega": [55.5] * len(rows),
            "open_interest": [12.5] * len(rows),
            "volume": [3.0] * len(rows),
            "currency": [underlying] * len(rows),
            "index_price": [85_000.5] * len(rows),
        },
        schema_overrides={"bid_price": pl.Float64},
    )


def write_sweeps_csv(frame: pl.DataFrame, path: Path) -> None:
    """As the recorder wrote them before they were packed: ISO text with an offset."""
    frame.with_columns(pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00")).write_csv(path)


def tardis_hours(at: Sequence[dt.datetime]) -> pl.DataFrame:
    """Thinned vendor ticks, volatilities in percent; the put's ask volatility is the vendor's 999 for none."""
    stamps = [round(stamp.timestamp() * 1_000_000) for stamp in at for _ in ("call", "put")]
    kinds = ["call", "put"] * len(at)
    return pl.DataFrame(
        {
            "ts_us": stamps,
            "asset": ["btc"] * len(stamps),
            "expiry_us": [round(EXPIRY.timestamp() * 1_000_000)] * len(stamps),
            "strike": [80_000.0] * len(stamps),
            "opt_type": kinds,
            "mark_iv": [62.89] * len(stamps),
            "bid_iv": [None if kind == "put" else 60.0 for kind in kinds],
            "ask_iv": [999.0 if kind == "put" else 65.0 for kind in kinds],
            "mark_price": [0.0 if kind == "put" else 0.0696 for kind in kinds],
            "underlying_price": [85_400.25] * len(stamps),
            "delta": [0.5] * len(stamps),
            "open_interest": [2.4] * len(stamps),
        }
    )


def tickers(at: Sequence[dt.datetime], *, nested: bool = False) -> pl.DataFrame:
    """Ticker replies, a sweep for each of `at`, appended; rows a second apart; one row has no bid, written as 0.0."""
    own = names()
    rows = [(at_row + dt.timedelta(seconds=n), name, n == 0) for at_row in at for n, name in enumerate(own)]
    greeks = {"vega": 76.4, "theta": -34.0, "rho": -80.7, "gamma": 2e-05, "delta": -0.49}
    shared = {
        "timestamp": [epoch_ms(stamp) for stamp, *_ in rows],
        "instrument_name": [name for _, name, _ in rows],
        "underlying_price": [85_400.25] * len(rows),
        "index_price": [85_000.5] * len(rows),
        "mark_price": [0.0115] * len(rows),
        "mark_iv": [95.07] * len(rows),
        "open_interest": [562.7] * len(rows),
        "best_bid_price": [0.0 if no_bid else 0.0105 for *_, no_bid in rows],
        "best_bid_amount": [0.0 if no_bid else 0.4 for *_, no_bid in rows],
        "bid_iv": [0.0 if no_bid else 93.0 for *_, no_bid in rows],
        "best_ask_price": [0.0125] * len(rows),
        "best_ask_amount": [1.5] * len(rows),
        "ask_iv": [97.5] * len(rows),
    }
    if nested:
        own_stats = str({"volume": 8.2, "price_change": None})
        return pl.DataFrame({**shared, "stats": [own_stats] * len(rows), "greeks": [str(greeks)] * len(rows)})
    return pl.DataFrame({**shared, "stats.volume": [8.2] * len(rows), **{f"greeks.{k}": [v] * len(rows) for k, v in greeks.items()}})


def book_reply(at: dt.datetime) -> pl.DataFrame:
    """One book summary reply; its option types and strikes are columns nobody reads."""
    own = names("ETH", (2_200.0, 2_400.0))
    return pl.DataFrame(
        {
            "creation_timestamp": [epoch_ms(at) + n for n in range(len(own))],
            "instrument_name": own,
            "underlying_price": [2_241.65] * len(own),
            "estimated_delivery_price": [2_222.19] * len(own),
            "mark_price": [0.0853] * len(own),
            "bid_price": [None, 0.08, 0.08, 0.08],
            "ask_price": [0.09] * len(own),
            "open_interest": [965.0] * len(own),
            "volume": [1.0] * len(own),
        }
    )


def book_harvest(at: dt.datetime, columns: int, underlying: str = "XRP_USDC") -> pl.DataFrame:
    """The drifting recorder: 8, 14 or 20 columns. Decimal strikes defeated its parser, so its own strike is null."""
    own = names(underlying, (0.625, 2.0))
    frame = pl.DataFrame(
        {
            "harvest_time": pl.Series([at] * len(own), dtype=pl.Datetime("us", "UTC")),
            "instrument_name": own,
            "mark_price": [0.4173] * len(own),
            "underlying_price": [2.0018] * len(own),
            "underlying_index": ["index_price"] * len(own),
            "open_interest": [170_000.0] * len(own),
            "volume": [0.0] * len(own),
            "mark_iv": [88.67] * len(own),
        }
    )
    if columns >= 14:
        frame = frame.drop("underlying_index").with_columns(
            underlying=pl.lit(None, pl.String),
            expiry=pl.lit(None, pl.String),
            expiry_timestamp=pl.lit(None, pl.Float64),
            option_type=pl.lit(None, pl.String),
            strike=pl.lit(None, pl.Float64),
            best_bid_price=pl.lit(None, pl.Float64),
            best_ask_price=pl.lit(0.43),
        )
    if columns >= 20:
        frame = frame.with_columns(
            **{name: pl.lit(None, pl.Float64) for name in ("bid_iv", "ask_iv", "greek_delta", "greek_gamma", "greek_theta", "greek_vega")}
        )
    assert len(frame.columns) == columns
    return frame


def tardis_chain(at: Sequence[dt.datetime]) -> str:
    """The vendor's options_chain CSV as text: symbols upper-cased, an empty cell for none."""
    header = (
        "exchange,symbol,timestamp,local_timestamp,type,strike_price,expiration,open_interest,last_price,bid_price,bid_amount,bid_iv,"
        "ask_price,ask_amount,ask_iv,mark_price,mark_iv,underlying_index,underlying_price,delta,gamma,vega,theta,rho"
    )
    expiry = round(EXPIRY.timestamp() * 1_000_000)
    lines = [
        f"deribit,{symbol},{stamp - 900},{stamp},put,9875,{expiry},0.1,0.0295,,,,0.0235,15.2,68.94,0.0221,62.89,"
        f"SYN.BTC,9756.36,-0.61752,0.00103,2.24964,-53.05655,-0.22796"
        for stamp in (round(one.timestamp() * 1_000_000) for one in at)
        for symbol in ("BTC-27MAR26-9875-P", "XRP_USDC-27MAR26-0D625-C")
    ]
    return "\n".join([header, *lines]) + "\n"


def write_prices(folder: Path, start: dt.datetime = START, bars: int = 60) -> None:
    """Hourly closes by bar OPEN, newest-first daily DVOL in percent, funding in percent per 8 hours."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = [start + dt.timedelta(hours=n) for n in range(bars)]
    pl.DataFrame(
        {
            "asset": ["BTC"] * bars + ["ETH"] * bars,
            "ts": pl.Series(opened * 2, dtype=pl.Datetime("us", "UTC")),
            "open": [None] * (2 * bars),
            "close": [85_000.0 + n for n in range(bars)] + [2_200.0 + n for n in range(bars)],
            "source": ["some_deribit_perp"] * bars + ["other_binance_spot"] * bars,
        },
        schema_overrides={"open": pl.Float64},
    ).write_parquet(folder / "bars.parquet")
    days = [f"{start - dt.timedelta(days=n):%Y-%m-%d}" for n in range(-3, 4)]
    pl.DataFrame({"date": days, "symbol": ["BTC"] * 7, **{name: [47.5] * 7 for name in ("open", "high", "low", "close")}}).write_csv(
        folder / "btc_dvol.csv"
    )
    instants = [epoch_ms(start + dt.timedelta(hours=8 * n)) for n in range(6)]
    pl.DataFrame({"t_ms": instants, "funding_rate_pct": [0.01] * 6}).write_csv(folder / "btcusdt_funding_8h.csv")
