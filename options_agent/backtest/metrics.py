"""Metrics of a run, each defined here once; returns are decimals, coin amounts in coin.

| metric | definition |
|---|---|
| trades, closed_trades | structures opened; of those closed or settled |
| return_coin, return_usd | equity at the end over equity at the start, less 1, in coin and in USD at the index |
| max_drawdown_coin, max_drawdown_usd | largest fall from a running peak of the equity, as a share of that peak |
| sharpe_coin, sharpe_usd | mean over deviation of daily returns, times sqrt(365), of the equity last known at UTC midnights |
| win_rate | share of closed trades with a profit above zero, in coin, after fees |
| profit_factor | coin won over coin lost in closed trades |
| average_trade_coin, average_days_held | means over closed trades |
| fees_coin, premium_coin | fees paid; premium taken in less premium paid |
| assignment_rate | share of closed trades that settled in the money |
| exposure | share of snapshots with an open position |
| stale_share | share of snapshots where a held leg had no fresh mark |
| hold_return_usd | return of the coin itself: index at the end over index at the start, less 1 |
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAY_US = 86_400_000_000


def measure(trades: pa.Table, equity: pa.Table, fills: pa.Table) -> dict[str, float]:
    """Every metric of the module's table; NaN where one is not defined."""
    closed = [t for t in trades.to_pylist() if t["closed_at"] is not None]
    profits = np.array([t["profit_coin"] for t in closed])
    coin, usd, index = (equity[n].to_numpy() for n in ("equity_coin", "equity_usd", "index"))
    ts = np.asarray(equity["ts"].combine_chunks().cast(pa.int64()))
    won, lost = float(profits[profits > 0].sum()), float(-profits[profits < 0].sum())
    settled = [t for t in closed if t["exit"] == "settled"]
    signed = fills["contracts"].to_numpy()
    traded = np.array([k in {"open", "close"} for k in fills["kind"].to_pylist()], dtype=bool)
    flow = -(signed * fills["price"].to_numpy()) if fills.num_rows else np.empty(0)
    return {
        "trades": float(trades.num_rows),
        "closed_trades": float(len(closed)),
        "return_coin": _growth(coin),
        "return_usd": _growth(usd),
        "max_drawdown_coin": max_drawdown(coin),
        "max_drawdown_usd": max_drawdown(usd),
        "sharpe_coin": sharpe(ts, coin),
        "sharpe_usd": sharpe(ts, usd),
        "win_rate": _mean(profits > 0),
        "profit_factor": won / lost if lost > 0 else math.nan,
        "average_trade_coin": _mean(profits),
        "average_days_held": _mean(np.array([(t["closed_at"] - t["opened_at"]).total_seconds() / 86_400 for t in closed])),
        "fees_coin": float(fills["fee"].to_numpy().sum()) if fills.num_rows else 0.0,
        "premium_coin": float(flow[traded].sum()) if fills.num_rows else 0.0,
        "assignment_rate": len([t for t in settled if t["payoff_coin"] > 0]) / len(closed) if closed else math.nan,
        "exposure": _mean(equity["open_positions"].to_numpy() > 0),
        "stale_share": _mean(equity["stale_marks"].to_numpy() > 0),
        "hold_return_usd": _growth(index),
    }


def max_drawdown(values: NDArray[np.float64]) -> float:
    """Largest fall from a running peak, as a share of the peak; of equity, so never beyond 1 while equity is positive."""
    if values.size == 0:
        return math.nan
    peak = np.maximum.accumulate(values)
    return float(np.max((peak - values) / peak))


def daily(ts: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value last known at each UTC midnight of the range: a regular grid for ratios; the broken days at both ends are left out."""
    if values.size == 0:
        return values
    midnights = np.arange(-(-ts[0] // DAY_US) * DAY_US, ts[-1] + 1, DAY_US)
    return values[np.searchsorted(ts, midnights, side="right") - 1]


def sharpe(ts: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    """Annualised Sharpe ratio of daily returns of `values`; NaN under ten days, without variation, or after ruin."""
    grid = daily(ts, values)
    if grid.size < 11 or not (grid > 0).all():
        return math.nan
    returns = grid[1:] / grid[:-1] - 1
    deviation = float(returns.std(ddof=1))
    return float(returns.mean() / deviation * math.sqrt(365)) if deviation > 0 else math.nan


def _growth(values: NDArray[np.float64]) -> float:
    return float(values[-1] / values[0] - 1) if values.size else math.nan


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if values.size else math.nan
