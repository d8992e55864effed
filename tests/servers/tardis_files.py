"""The vendor's files, made: its published headers, its units and its order, from a quote table or from row to row."""

from __future__ import annotations

import datetime as dt
import io
from typing import TYPE_CHECKING

import polars as pl

from options_agent.market.tardis.header import DERIVATIVE_TICKER, OPTIONS_CHAIN, TRADES

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

#: As the vendor publishes it, spelt out once more so that a change of ours is noticed.
CHAIN_HEADER = (
    "exchange,symbol,timestamp,local_timestamp,type,strike_price,expiration,open_interest,last_price,bid_price,bid_amount,bid_iv,"
    "ask_price,ask_amount,ask_iv,mark_price,mark_iv,underlying_index,underlying_price,delta,gamma,vega,theta,rho"
)
TICKER_HEADER = ",".join(DERIVATIVE_TICKER.columns)
TRADES_HEADER = ",".join(TRADES.columns)
#: The vendor's own example row, of 2020-06-08.
GOLDEN = (
    "deribit,BTC-9JUN20-9875-P,1591574399413000,1591574400196008,put,9875,1591689600000000,0.1,0.0295,0.0205,15.1,55.91,0.0235,15.2,"
    "68.94,0.02210436,62.89,SYN.BTC-9JUN20,9756.36,-0.61752,0.00103,2.24964,-53.05655,-0.22796"
)
LATENCY_US = 787_008


def micros(at: dt.datetime) -> int:
    """Microseconds since 1970."""
    return (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def chain_csv(quotes: pa.Table) -> str:
    """A quote table as the vendor would have recorded it; `ts` becomes the arrival, the exchange's own time lies before it."""
    frame = pl.DataFrame(pl.from_arrow(quotes)).with_row_index("row").sort("ts", "row")
    synthetic = pl.format("SYN.{}", pl.col("instrument").str.extract(r"^([^-]+-[^-]+)-"))
    made = frame.select(
        exchange=pl.lit("deribit"),
        symbol=pl.col("instrument").str.to_uppercase(),
        timestamp=pl.col("ts").dt.epoch("us") - LATENCY_US,
        local_timestamp=pl.col("ts").dt.epoch("us"),
        type=pl.when(pl.col("right") == "C").then(pl.lit("call")).otherwise(pl.lit("put")),
        strike_price=pl.col("strike"),
        expiration=pl.col("expiry").dt.epoch("us"),
        open_interest=pl.col("open_interest"),
        last_price=pl.lit(None, pl.Float64),
        bid_price=pl.col("bid"),
        bid_amount=pl.col("bid_size"),
        bid_iv=(pl.col("bid_iv") * 100).round(2),
        ask_price=pl.col("ask"),
        ask_amount=pl.col("ask_size"),
        ask_iv=(pl.col("ask_iv") * 100).round(2),
        mark_price=pl.col("mark"),
        mark_iv=(pl.col("mark_iv") * 100).round(2),
        underlying_index=pl.when(pl.col("forward") == pl.col("index")).then(pl.lit("index_price")).otherwise(synthetic),
        underlying_price=pl.col("forward"),
        delta=pl.col("delta"),
        gamma=pl.col("gamma"),
        vega=pl.col("vega"),
        theta=pl.col("theta"),
        rho=pl.lit(None, pl.Float64),
    )
    assert tuple(made.columns) == OPTIONS_CHAIN.columns
    return _csv(made)


def hourly_csv(path: Path, day: dt.date) -> str:
    """A day of the real hourly chains as the vendor's ticks; what the thinned file no longer tells is an empty cell."""
    start = micros(dt.datetime.combine(day, dt.time(), dt.UTC))
    rows = pl.read_parquet(path).filter(pl.col("ts_us").is_between(start, start + 86_400_000_000, closed="left")).sort("ts_us")
    date = pl.from_epoch("expiry_us", "us").dt.strftime("%-d%b%y").str.to_uppercase()
    strike = pl.col("strike").cast(pl.Int64)
    right = pl.when(pl.col("opt_type").str.to_uppercase().str.starts_with("C")).then(pl.lit("C")).otherwise(pl.lit("P"))
    coin = pl.col("asset").str.to_uppercase()
    none = pl.lit(None, pl.Float64)
    given = {n: pl.col(n) if n in rows.columns else none for n in ("bid_iv", "ask_iv", "delta", "open_interest")}
    made = rows.select(
        exchange=pl.lit("deribit"),
        symbol=pl.format("{}-{}-{}-{}", coin, date, strike, right),
        timestamp=pl.col("ts_us") - LATENCY_US,
        local_timestamp=pl.col("ts_us"),
        type=pl.when(right == "C").then(pl.lit("call")).otherwise(pl.lit("put")),
        strike_price=pl.col("strike"),
        expiration=pl.col("expiry_us"),
        open_interest=given["open_interest"],
        last_price=none,
        bid_price=none,
        bid_amount=none,
        bid_iv=given["bid_iv"],
        ask_price=none,
        ask_amount=none,
        ask_iv=given["ask_iv"],
        mark_price=pl.col("mark_price"),
        mark_iv=pl.col("mark_iv"),
        underlying_index=pl.format("SYN.{}-{}", coin, date),
        underlying_price=pl.col("underlying_price"),
        delta=given["delta"],
        gamma=none,
        vega=none,
        theta=none,
        rho=none,
    )
    return _csv(made)


def ticker_csv(underlying: str, prices: pa.Table, funding: pa.Table) -> str:
    """A perpetual's ticker from index prices and funding: the mark a little above the index, every row a full one."""
    frame = pl.DataFrame(pl.from_arrow(prices)).filter(pl.col("kind") == "index").sort("ts")
    rates = pl.DataFrame(pl.from_arrow(funding)).select("ts", "rate_8h").sort("ts")
    both = frame.join_asof(rates, on="ts", strategy="backward")
    stamp = pl.col("ts").dt.epoch("us")
    made = both.select(
        exchange=pl.lit("deribit"),
        symbol=pl.lit(f"{underlying}-PERPETUAL"),
        timestamp=stamp - LATENCY_US,
        local_timestamp=stamp,
        funding_timestamp=pl.lit(None, pl.Int64),
        funding_rate=pl.col("rate_8h"),
        predicted_funding_rate=pl.lit(None, pl.Float64),
        open_interest=pl.lit(1000.0),
        last_price=pl.col("price"),
        index_price=pl.col("price"),
        mark_price=pl.col("price") * 1.0002,
    )
    return _csv(made)


def trades_csv(quotes: pa.Table, each: int = 50) -> str:
    """A trade at the mark of every so many quotes."""
    frame = pl.DataFrame(pl.from_arrow(quotes)).filter(pl.col("mark").is_not_null()).sort("ts", "instrument").gather_every(each)
    stamp = pl.col("ts").dt.epoch("us")
    made = frame.with_row_index("row").select(
        exchange=pl.lit("deribit"),
        symbol=pl.col("instrument").str.to_uppercase(),
        timestamp=stamp - LATENCY_US,
        local_timestamp=stamp,
        id=pl.format("{}", pl.col("row") + 1),
        side=pl.when(pl.col("row") % 2 == 0).then(pl.lit("buy")).otherwise(pl.lit("sell")),
        price=pl.col("mark"),
        amount=pl.lit(0.1),
    )
    return _csv(made)


def _csv(frame: pl.DataFrame) -> str:
    stream = io.StringIO()
    frame.write_csv(stream)
    return stream.getvalue()
