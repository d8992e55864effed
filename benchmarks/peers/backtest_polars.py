"""A covered call over a year of hourly chains, written by hand in vectorised Polars: the script the engine is measured against.

Run alone, `backtest_polars.py QUOTES.parquet ...` reads what it needs and prints the result. Under `bench_backtest.py` it plays opened
tables on request (`backtest.py`). The rules are the engine's for the catalogue's covered call: at the first snapshot at or after 08:00
UTC of a day with nothing open, sell as many calls as the coins cover, on the expiry nearest 7 days (4 to 11), delta nearest 0.25, at
the bid; buy back at the ask at half the premium or at three times it; else the delivery price settles. The exchange's fees; equity at
every hour. Every possible entry and its exit are found at once; only the account walks from trade to trade.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

DAY_US, HOUR_US = 86_400_000_000, 3_600_000_000
LOT = {"BTC": 0.1, "ETH": 1.0}
CAPITAL = {"BTC": 1.0, "ETH": 10.0}
COLUMNS = ("ts", "snapshot", "instrument", "expiry", "strike", "right", "bid", "ask", "mark", "delta")
TAKER, CAP, DELIVERY = 0.0003, 0.125, 0.00015


def scan(path):
    """Only the columns and rows that a weekly call can need."""
    near = (pl.col("expiry") - pl.col("ts")) <= pl.duration(days=11)
    return pl.scan_parquet(path).select(COLUMNS).filter((pl.col("right") == "C") & near)


def read(path):
    """The whole year's rows, opened: what the play starts from. Instruments are numbered once, times are integers, rows lie by time."""
    times = [pl.col(name).dt.timestamp("us") for name in ("ts", "snapshot", "expiry")]
    frame = pl.read_parquet(path, columns=list(COLUMNS))
    call = (pl.col("right") == "C").alias("call")
    return frame.with_columns(*times, call, pl.col("instrument").cast(pl.Categorical)).drop("right").rechunk()


def chosen(calls):
    """By day, the first hour from 08:00 on at which a call passes, and the call: a frame of entries in order of time."""
    found, left = [], None
    for hour in range(8, 24):
        at = calls.filter(pl.col("snapshot") % DAY_US == hour * HOUR_US)
        if left is not None:
            at = at.filter((pl.col("snapshot") // DAY_US).is_in(left))
        days = (pl.col("expiry") - pl.col("ts")) / DAY_US
        within = at.with_columns(left=days, away=(days - 7.0).abs()).filter((pl.col("left") >= 4.0) & (pl.col("left") <= 11.0))
        nearest = within.filter(pl.col("away") == pl.col("away").min().over("snapshot"))
        nearest = nearest.filter(pl.col("expiry") == pl.col("expiry").min().over("snapshot"))
        nearest = nearest.with_columns(miss=(pl.col("delta").abs() - 0.25).abs()).filter(pl.col("miss") <= 0.12)
        best = nearest.sort("snapshot", "miss", "strike").unique("snapshot", keep="first", maintain_order=True)
        wide = (pl.col("ask") > 0) & (pl.col("ask") - pl.col("bid") > 0.5 * 0.5 * (pl.col("bid") + pl.col("ask")))
        passed = best.filter((pl.col("bid") > 0) & ~wide.fill_null(False) & (pl.col("bid") >= 0.0005))
        found.append(passed)
        everyone = set(at["snapshot"].unique() // DAY_US) if left is None else set(left)
        left = sorted(everyone - set(passed["snapshot"] // DAY_US))
        if not left:
            break
    return pl.concat(found).sort("snapshot")


def play(name, frame, prices):
    """Trades and hourly equity of one underlying."""
    calls = frame
    if "call" in frame.columns:
        calls = frame.lazy().filter(pl.col("call") & (pl.col("expiry") - pl.col("ts") <= 11 * DAY_US)).drop("call").collect()
    entries = chosen(calls).select(
        "snapshot", "ts", "instrument", "expiry", "strike", premium="bid", entry=pl.int_range(pl.len()), opened_mark="mark"
    )
    rows = calls.join(entries.select("instrument").unique(), on="instrument", how="semi")
    paths = entries.select("entry", "instrument", "premium", opened="snapshot").join(
        rows.select("instrument", "snapshot", "ts", "ask", "mark"), on="instrument"
    )
    paths = paths.filter(pl.col("snapshot") > pl.col("opened"))
    profit = pl.col("premium") - pl.col("ask")
    taken, stopped = profit >= 0.5 * pl.col("premium"), -profit >= 2.0 * pl.col("premium")
    exits = paths.filter((pl.col("ask") > 0) & (taken | stopped)).sort("entry", "snapshot")
    exits = exits.unique("entry", keep="first", maintain_order=True)
    why = pl.when(taken).then(pl.lit("take_profit")).otherwise(pl.lit("stop"))
    exits = exits.select("entry", closed="snapshot", closed_ts="ts", cost="ask", exit=why)
    table = entries.join(exits, on="entry", how="left", maintain_order="left")
    return _account(name, table, paths, frame, prices)


def _account(name, table, paths, frame, prices):
    """One position at a time, in order; then cash and marks by the hour."""
    coin, free_from, trades, moves = CAPITAL[name], -1, [], []
    delivery = dict(prices.filter(pl.col("kind") == "delivery").select("ts", "price").iter_rows())
    end = frame["snapshot"][-1]
    columns = ("entry", "snapshot", "ts", "instrument", "expiry", "strike", "premium", "closed", "closed_ts", "cost", "exit")
    for entry, snapshot, ts, instrument, expiry, strike, premium, closed, closed_ts, cost, exit_ in table.select(columns).iter_rows():
        # a position that ends at or before this day's 08:00 leaves the day free; one that ends later has used it up
        if max(free_from, -1) > snapshot // DAY_US * DAY_US + 8 * HOUR_US:
            continue
        units = int(coin / LOT[name] + 1e-9) * LOT[name]
        if units <= 0:
            continue
        fee = min(TAKER, CAP * premium) * units
        flow = units * premium - fee
        moves.append((snapshot, flow))
        coin += flow
        if closed is None and expiry <= end:
            price = delivery[expiry]
            worth = max(price - strike, 0.0) / price
            rate = DELIVERY if (expiry // DAY_US + 3) % 7 == 4 else 0.0
            paid = -units * worth - min(rate, CAP * worth) * units
            free_from, exit_, when, known = expiry, "settled", expiry, expiry
        elif closed is None:
            trades.append((entry, ts, None, instrument, units, None, flow))
            free_from = 2**62
            break
        else:
            paid = -units * cost - min(TAKER, CAP * cost) * units
            free_from, when, known = closed, closed, closed_ts
        moves.append((when, paid))
        coin += paid
        trades.append((entry, ts, known, instrument, units, exit_, flow + paid))
    kinds = {"entry": pl.Int64, "opened": pl.Int64, "closed": pl.Int64, "instrument": pl.String}
    kinds |= {"units": pl.Float64, "exit": pl.String, "profit": pl.Float64}
    trades = pl.DataFrame(trades, schema=kinds, orient="row")
    return trades, _equity(trades, table, paths, moves, frame, CAPITAL[name])


def _equity(trades, table, paths, moves, frame, capital):
    """Coin by snapshot: cash and the position at its last mark."""
    clock = frame.select(pl.col("snapshot").rle().struct.field("value").alias("snapshot"))  # rows lie by time
    cash = pl.DataFrame(moves, schema={"snapshot": pl.Int64, "flow": pl.Float64}, orient="row").group_by("snapshot").agg(pl.sum("flow"))
    held = trades.select("entry", "units", "exit").join(table.select("entry", "snapshot", "expiry", "opened_mark", "closed"), on="entry")
    until = pl.when(pl.col("exit") == "settled").then("expiry").otherwise(pl.coalesce("closed", pl.lit(2**62)))
    held = held.select("entry", "units", opened_at="snapshot", until=until, first="opened_mark")
    marks = paths.join(held, on="entry").filter((pl.col("mark") > 0) & (pl.col("snapshot") < pl.col("until")))
    values = [
        marks.select("snapshot", value=-pl.col("units") * pl.col("mark")),
        held.select(snapshot="opened_at", value=-pl.col("units") * pl.col("first")),
        held.filter(~pl.col("until").is_in(held["opened_at"].implode())).select(snapshot="until", value=pl.lit(0.0)),
    ]
    curve = clock.join(pl.concat(values), on="snapshot", how="left", maintain_order="left")
    curve = curve.join(cash, on="snapshot", how="left", maintain_order="left")
    coin = capital + pl.col("flow").fill_null(0.0).cum_sum()
    return curve.select("snapshot", equity=coin + pl.col("value").forward_fill().fill_null(0.0))


def prices_of(path):
    """Index and delivery prices beside the quotes."""
    beside = Path(path).with_name(f"{Path(path).stem}-prices.parquet")
    return pl.read_parquet(beside, columns=["ts", "price", "kind"]).with_columns(pl.col("ts").dt.timestamp("us"))


def main() -> None:
    """The whole job as a script: read, play, print."""
    for path in sys.argv[1:]:
        name = Path(path).name.split("-")[0]
        times = [pl.col(column).dt.timestamp("us") for column in ("ts", "snapshot", "expiry")]
        frame = scan(path).with_columns(*times, pl.col("instrument").cast(pl.Categorical)).drop("right").collect()
        trades, equity = play(name, frame, prices_of(path))
        done = trades.filter(pl.col("closed").is_not_null())
        fall = equity.select((1 - pl.col("equity") / pl.col("equity").cum_max()).max()).item()
        won = (done["profit"] > 0).mean()
        last = equity["equity"][-1]
        print(f"{name}: {len(done)} trades, {last / CAPITAL[name] - 1:+.4%} in coin, won {won:.1%}, deepest fall {fall:.2%}")


if __name__ == "__main__":
    main()
