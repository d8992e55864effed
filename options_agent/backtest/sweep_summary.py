"""Runs' headline numbers straight from their tapes, compiled, by the metrics' own functions: what a sweep keeps of each configuration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.backtest.codes import FILL_OPEN, FILL_SETTLE
from options_agent.backtest.metrics.drawdown import max_drawdown
from options_agent.backtest.metrics.exposure import held_over_time
from options_agent.backtest.metrics.grid import LEAST_RETURNS
from options_agent.backtest.metrics.returns import growth, kurtosis, sharpe_of, skew, sortino
from options_agent.backtest.metrics.trades import mean, profit_factor, total
from options_agent.backtest.tape import E_EQUITY, E_IM, E_OPEN, Tapes
from options_agent.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Each is the metric of that name (docs/metrics.md), or said here: `liquidations`; `model_fills`, fills by the fill model.
SUMMARY: Final = (
    "trades",
    "closed_trades",
    "return_coin",
    "return_usd",
    "sharpe_coin",
    "sharpe_usd",
    "sortino_coin",
    "max_drawdown_coin",
    "max_drawdown_usd",
    "skew_coin",
    "skew_usd",
    "kurtosis_coin",
    "kurtosis_usd",
    "days",
    "win_rate",
    "profit_factor",
    "average_trade_coin",
    "worst_trade_coin",
    "average_days_held",
    "fees_coin",
    "exposure",
    "margin_peak",
    "liquidations",
    "model_fills",
)


@compiled(keep=False, nogil=True, error_model="numpy")
def summarise(
    known_at: NDArray[np.int64],
    index: NDArray[np.float64],
    settled: NDArray[np.float64],
    midnights: NDArray[np.int64],
    linear: bool,
    capital: NDArray[np.float64],
    tapes: Tapes,
    numbers: NDArray[np.float64],
    returns: NDArray[np.float64],
) -> None:
    """Fill `numbers` (runs, `SUMMARY`) and `returns` (2, runs, days), those in coin and in USD; NaN where one is not defined.

    Args:
        known_at, index: (snapshots,) microseconds, USD.
        settled: (contracts,) delivery prices, USD.
        midnights: (days + 1,) snapshots that were the last known at the UTC midnights.
        linear: whether prices are USDC.
        capital: (runs, 2) coin and USD paid in.
        tapes: as the loop left them.
        numbers, returns: what is filled.
    """
    for k in range(numbers.shape[0]):
        equity, held = tapes.equity[k, E_EQUITY], tapes.equity[k, E_OPEN]
        in_usd = equity * index
        daily_coin, daily_usd = daily_of(equity, midnights), daily_of(in_usd, midnights)
        if daily_coin.size:
            returns[0, k] = daily_coin
        if daily_usd.size:
            returns[1, k] = daily_usd
        opened, profits, days, fees = closed_of(index, settled, linear, tapes.fills[k, : tapes.counts[k, 0]], tapes.counts[k, 2])
        margin = math.nan
        for n in range(equity.size):
            share = tapes.equity[k, E_IM, n] / equity[n]
            margin = share if math.isnan(margin) else max(margin, share)
        row = numbers[k]
        row[0], row[1] = opened, profits.size
        since = preceded(capital[k, 0] + capital[k, 1] / index[0], equity)
        since_usd = preceded(capital[k, 0] * index[0] + capital[k, 1], in_usd)
        row[2], row[3] = growth(since), growth(since_usd)
        row[4], row[5], row[6] = sharpe_of(daily_coin), sharpe_of(daily_usd), sortino(daily_coin)
        row[7], row[8] = max_drawdown(since), max_drawdown(since_usd)
        row[9], row[10], row[11], row[12] = skew(daily_coin), skew(daily_usd), kurtosis(daily_coin), kurtosis(daily_usd)
        row[13], row[14], row[15] = daily_coin.size, mean(profits > 0.0), profit_factor(profits)
        row[16], row[17] = mean(profits), profits.min() if profits.size else math.nan
        row[18], row[19] = mean(days), total(fees)
        row[20], row[21] = held_over_time(known_at, held > 0.0), margin
        row[22], row[23] = tapes.counts[k, 4], tapes.counts[k, 3]


@compiled(keep=False)
def preceded(first: float, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`first`, then the values."""
    out = np.empty(values.size + 1)
    out[0], out[1:] = first, values
    return out


@compiled(keep=False, error_model="numpy")
def daily_of(equity: NDArray[np.float64], midnights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns between midnights, as `metrics.grid.daily_returns` has them."""
    if midnights.size <= LEAST_RETURNS:
        return np.empty(0)
    out = np.empty(midnights.size - 1)
    for n in range(midnights.size):
        if not equity[midnights[n]] > 0.0:
            return np.empty(0)
        if n > 0:
            out[n - 1] = equity[midnights[n]] / equity[midnights[n - 1]] - 1.0
    return out


@compiled(keep=False, error_model="numpy")
def closed_of(
    index: NDArray[np.float64], settled: NDArray[np.float64], linear: bool, fills: NDArray[np.float64], trades: int
) -> tuple[int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """How many trades were opened, the closed ones' profit (coin) and days, in the order they were opened; and every fill's fee (coin)."""
    live, profit, seen = np.zeros(trades, np.int64), np.zeros(trades), np.zeros(trades, np.int64)
    began, ended, fees = np.zeros(trades), np.zeros(trades), np.empty(len(fills))
    for n in range(len(fills)):
        trade, coin = int(fills[n, 0]), 1.0
        if linear:
            coin = 1.0 / (settled[int(fills[n, 5])] if fills[n, 2] == FILL_SETTLE else index[int(fills[n, 3])])
        fees[n] = fills[n, 8] * coin if linear else fills[n, 8]
        profit[trade] += (-fills[n, 6] * fills[n, 7] - fills[n, 8]) * coin
        live[trade] += 1 if fills[n, 2] == FILL_OPEN else -1
        if seen[trade] == 0:
            began[trade] = fills[n, 9]
        seen[trade], ended[trade] = 1, fills[n, 9]
    over = (seen == 1) & (live == 0)
    return seen.sum(), profit[over], (ended - began)[over] / 1e6 / 86_400.0, fees
