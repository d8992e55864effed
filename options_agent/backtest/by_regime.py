"""A run broken down by regime: trades by the regime known at their entry, equity by the regime of each step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from options_agent.backtest.metrics import max_drawdown, sharpe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from options_agent.backtest.result import BacktestResult

UNKNOWN: Final = "unknown"
#: Fewer trades than this in a regime say nothing; the tables grey them.
SMALL_SAMPLE: Final = 10

REGIME_SCHEMA: Final = pa.schema(
    [
        ("regime", pa.string()),
        ("trades", pa.int64()),
        ("win_rate", pa.float64()),
        ("profit_coin", pa.float64()),
        ("return_coin", pa.float64()),
        ("return_usd", pa.float64()),
        ("max_drawdown_coin", pa.float64()),
        ("max_drawdown_usd", pa.float64()),
        ("sharpe_coin", pa.float64()),
        ("hours", pa.float64()),
        ("small_sample", pa.bool_()),
    ]
)


def regime_performance(result: BacktestResult, labels: pa.Table) -> pa.Table:
    """`REGIME_SCHEMA`, one row a regime that occurred, most hours first.

    A step of the equity belongs to the regime known at its start, so returns of regimes compound to the run's: the product of
    (1 + return) over regimes is 1 + the total. Drawdown and Sharpe are of the equity chained over the regime's own steps. A trade
    belongs to the regime known at its entry.

    Args:
        result: any run.
        labels: `ts` and `regime`, as `regimes.label` writes them; may be empty.
    """
    ts = _micros(result.equity, "ts")
    of_step = _as_of(labels, ts)
    coin, usd = (result.equity[n].to_numpy() for n in ("equity_coin", "equity_usd"))
    trades = result.trades.to_pylist()
    of_trade = _as_of(labels, _micros(result.trades, "opened_at")) if trades else np.empty(0, dtype=object)
    rows: list[dict[str, Any]] = []
    for regime in dict.fromkeys([*of_step[:-1].tolist(), *of_trade.tolist()]):
        steps = np.flatnonzero(of_step[:-1] == regime)
        closed = [t for t, r in zip(trades, of_trade, strict=True) if r == regime and t["closed_at"] is not None]
        won = sum(t["profit_coin"] > 0 for t in closed)
        chained, chained_usd = _chained(coin, steps), _chained(usd, steps)
        rows.append(
            {
                "regime": regime,
                "trades": len(closed),
                "win_rate": won / len(closed) if closed else math.nan,
                "profit_coin": float(sum(t["profit_coin"] for t in closed)),
                "return_coin": float(chained[-1] - 1),
                "return_usd": float(chained_usd[-1] - 1),
                "max_drawdown_coin": max_drawdown(chained),
                "max_drawdown_usd": max_drawdown(chained_usd),
                "sharpe_coin": sharpe(_own_clock(ts, steps), chained),
                "hours": float((ts[steps + 1] - ts[steps]).sum() / 3.6e9),
                "small_sample": len(closed) < SMALL_SAMPLE,
            }
        )
    return pa.Table.from_pylist(sorted(rows, key=lambda r: -r["hours"]), schema=REGIME_SCHEMA)


def _as_of(labels: pa.Table, ts: NDArray[np.int64]) -> NDArray[np.object_]:
    """The regime last known at each time."""
    if labels.num_rows == 0:
        return np.full(ts.size, UNKNOWN, dtype=object)
    known = _micros(labels, "ts")
    names = np.array(labels["regime"].to_pylist(), dtype=object)
    at = np.searchsorted(known, ts, side="right") - 1
    return np.where(at >= 0, names[np.maximum(at, 0)], UNKNOWN)


def _chained(values: NDArray[np.float64], steps: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.append(1.0, np.cumprod(values[steps + 1] / values[steps]))


def _own_clock(ts: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Times of the chained equity, with the hours of other regimes cut out."""
    return np.append(0, np.cumsum(ts[steps + 1] - ts[steps])).astype(np.int64)


def _micros(table: pa.Table, name: str) -> NDArray[np.int64]:
    return np.asarray(table[name].combine_chunks().cast(pa.int64()), dtype=np.int64)
