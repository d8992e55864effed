"""Fits the fill model on recorded markets and prints what `options_agent/backtest/slippage.py` and docs/slippage.md hold.

Run: python scripts/calibrate_slippage.py FOLDER, where FOLDER has `deribit_6h_2026/*.parquet` (chains with both sides),
`samples/btc_options_data-*.csv.gz` (whole order books) and `option_trades/deribit_btc_trades_2022-01-01.csv`. Spreads are fitted on the
first months and judged on the last, what size costs on one day's books and judged on the next's; the rate of a resting order's fills is
counted from trades, with an interval by resampling instruments.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console

from options_agent.backtest.slippage import BOOK_IMPACT, DAYS, DELTAS, SPREADS, model_half_spread
from options_agent.settings import BacktestSettings

FITTED_BEFORE = "2026-03-15"
#: Orders that the books are walked with, in sizes of the touch, and those that the curve is fitted on: beyond, the books are too thin.
SIZES = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0)
FITTED_SIZES = SIZES[1:6]
MONTHS = {m: n for n, m in enumerate(["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], 1)}


def chains(folder: Path) -> pl.DataFrame:
    """Two-sided quotes with a mark: days to expiry, absolute delta, mark and spread in coin."""
    table = pl.concat([pl.read_parquet(path) for path in sorted((folder / "deribit_6h_2026").glob("*.parquet"))])
    at, expiry = pl.col("timestamp").dt.replace_time_zone(None), pl.col("expiry_datetime").dt.replace_time_zone(None)
    found = table.select(
        pl.col("currency"),
        at.alias("at"),
        ((expiry - at).dt.total_seconds() / 86_400).alias("days"),
        pl.col("delta").abs().alias("delta"),
        pl.col("mark_price").alias("mark"),
        pl.col("bid_price").alias("bid"),
        pl.col("ask_price").alias("ask"),
    )
    return found.filter(
        (pl.col("bid") > 0) & (pl.col("ask") > 0) & (pl.col("mark") > 0) & (pl.col("days") > 0) & pl.col("delta").is_not_null()
    )


def places(days: np.ndarray, delta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the table."""
    return np.searchsorted(DAYS, days, side="right"), np.searchsorted(DELTAS, delta, side="right")


def fit(table: pl.DataFrame) -> np.ndarray:
    """Median spread over mark by days and delta; a cell of under fifty quotes takes its row's median."""
    row, column = places(table["days"].to_numpy(), table["delta"].to_numpy())
    share = ((table["ask"] - table["bid"]) / table["mark"]).to_numpy()
    out = np.empty((len(DAYS) + 1, len(DELTAS) + 1))
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            own = share[(row == r) & (column == c)]
            out[r, c] = np.median(own) if own.size >= 50 else np.median(share[row == r])
    return np.round(out, 3)


def judge(table: pl.DataFrame, model: np.ndarray) -> tuple[float, float, float, float]:
    """Quantiles of modelled over true spread (10, 50, 90 %), and the share of all spread that the model charges."""
    half = np.array([model_half_spread.py_func(model, d, a, m) for d, a, m in table.select("days", "delta", "mark").iter_rows()])
    true = (table["ask"] - table["bid"]).to_numpy()
    low, middle, high = np.quantile(2 * half / true, (0.1, 0.5, 0.9))
    return float(low), float(middle), float(high), float(2 * half.sum() / true.sum())


def books(path: Path) -> list[tuple[float, list[tuple[float, float]]]]:
    """Half the spread, coin, and levels (price, contracts) of either side, best first, of the books with both sides and a usual delta."""
    found = []
    for row in pl.read_csv(path, infer_schema_length=0).iter_rows(named=True):
        bids, asks = ast.literal_eval(row["bids"]), ast.literal_eval(row["asks"])
        delta = abs(ast.literal_eval(row["greeks"])["delta"])
        if bids and asks and asks[0][0] > bids[0][0] and DELTAS[0] <= delta < DELTAS[-1]:
            half = (asks[0][0] - bids[0][0]) / 2
            found += [(half, bids), (half, asks)]
    return found


def walked(half: float, levels: list[tuple[float, float]], size: float) -> float:
    """Half-spreads beyond the touch that an order of `size` touches pays on average; infinite where the book is thinner."""
    order = left = size * levels[0][1]
    paid = 0.0
    for price, contracts in levels:
        taken = min(left, contracts)
        paid += taken * price
        left -= taken
        if left <= 1e-9:
            return abs(paid / order - levels[0][0]) / half
    return float("inf")


def medians(found: list[tuple[float, list[tuple[float, float]]]], sizes: tuple[float, ...]) -> np.ndarray:
    """Of `walked` by size; a book that is too thin counts as dearer than any."""
    costs = np.sort([[walked(half, levels, size) for half, levels in found] for size in sizes], axis=1)
    middle: np.ndarray = costs[:, (len(found) - 1) // 2]
    return middle


def fit_impact(found: list[tuple[float, list[tuple[float, float]]]]) -> tuple[float, float]:
    """Impact and its power: a line through the logarithms of the medians."""
    power, level = np.polyfit(np.log(FITTED_SIZES), np.log(medians(found, FITTED_SIZES)), 1)
    return round(float(np.exp(level)), 2), round(float(power), 1)


def resting_rates(folder: Path) -> list[tuple[str, int, int, float, float, float]]:
    """By days to expiry: instruments, trades, fills an hour and side of an instrument that traded at all, with a 90 % interval."""
    trades = pl.read_csv(folder / "option_trades" / "deribit_btc_trades_2022-01-01.csv")
    hours = (trades["t"].max() - trades["t"].min()) / 3.6e6  # type: ignore[operator]
    counted: dict[str, dict[str, int]] = {}
    start = np.datetime64(int(trades["t"].min()), "ms")  # type: ignore[arg-type]
    for name in trades["instrument_name"]:
        day, month, year = re.match(r"BTC-(\d+)([A-Z]{3})(\d\d)-", name).groups()  # type: ignore[union-attr]
        expiry = np.datetime64(f"20{year}-{MONTHS[month]:02d}-{int(day):02d}T08:00")
        left = (expiry - start) / np.timedelta64(1, "D")
        bucket = "under 3" if left < 3 else "3 to 10" if left < 10 else "10 to 35" if left < 35 else "over 35"
        counted.setdefault(bucket, {}).setdefault(name, 0)
        counted[bucket][name] += 1
    random, found = np.random.default_rng(1), []
    for bucket in ("under 3", "3 to 10", "10 to 35", "over 35"):
        counts = np.array(list(counted[bucket].values()))
        rates = counts / hours / 2
        drawn = random.choice(rates, (2_000, rates.size)).mean(axis=1)
        found.append((bucket, counts.size, int(counts.sum()), float(rates.mean()), *map(float, np.quantile(drawn, (0.05, 0.95)))))
    return found


def main() -> None:
    """Print the table, its judgement, what size costs, and the rates."""
    say = Console(width=200).print
    folder = Path(sys.argv[1])
    table = chains(folder)
    early, late = (
        table.filter(test)
        for test in (pl.col("at") < pl.lit(FITTED_BEFORE).str.to_datetime(), pl.col("at") >= pl.lit(FITTED_BEFORE).str.to_datetime())
    )
    model = fit(early)
    say(f"{early.height:,} quotes fitted, {late.height:,} judged")
    say("SPREADS =", model.tolist())
    say("as shipped" if np.array_equal(model, np.array(SPREADS)) else "NOT as shipped")
    for currency in ("BTC", "ETH"):
        for words, which in (("out of the money", pl.col("delta") < DELTAS[-1]), ("all", pl.lit(True))):
            low, middle, high, whole = judge(late.filter((pl.col("currency") == currency) & which), model)
            say(f"{currency} {words}: modelled over true {low:.2f} / {middle:.2f} / {high:.2f} (10, 50, 90 %), of all {whole:.2f}")
    fitted, judged = (books(path) for path in sorted((folder / "samples").glob("btc_options_data-*.csv.gz")))
    impact, power = fit_impact(fitted)
    touch = float(np.median([levels[0][1] for _, levels in fitted + judged]))
    own = BacktestSettings()
    say(f"impact {impact:g}, power {power:g}; median touch {touch:.1f} contracts of {len(fitted) + len(judged)} sides of books")
    say("as shipped" if (impact, power, round(touch)) == (BOOK_IMPACT, own.impact_power, own.assumed_depth) else "NOT as shipped")
    for size, one, other in zip(SIZES, medians(fitted, SIZES), medians(judged, SIZES), strict=True):
        thin = np.mean([np.isinf(walked(half, levels, size)) for half, levels in fitted + judged])
        say(f"{size:g} touches: fitted {one:.2f}, judged {other:.2f}, model {impact * size**power:.2f} half-spreads; {thin:.0%} too thin")
    for bucket, instruments, trades, rate, low, high in resting_rates(folder):
        say(f"{bucket} days: {instruments} instruments, {trades} trades, {rate:.2f} an hour and side ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
