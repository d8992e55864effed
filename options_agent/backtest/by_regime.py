"""A run broken down by regime: every metric, of trades by the regime known at their entry, of equity by the regime of each step."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from options_agent.backtest.bootstrap import SEED, block_length, days_of, headlines, indices, interval
from options_agent.backtest.metrics import max_drawdown, sharpe
from options_agent.backtest.metrics.evidence import CURRENCIES, Evidence, paid_in
from options_agent.backtest.metrics.grid import DAY_US
from options_agent.backtest.metrics.table import METRICS
from options_agent.backtest.uncertainty import CONFIDENCE, HEADLINES
from options_agent.durable import write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from options_agent.backtest.result import BacktestResult

UNKNOWN: Final = "unknown"
#: Fewer trades than this in a regime say nothing; the tables grey them.
SMALL_SAMPLE: Final = 10
#: Fewer days of a regime's own time than this say nothing of its equity.
SMALL_DAYS: Final = 30
#: Resamples of a regime's days: fewer than of a run's, since there are many regimes to a report.
RESAMPLES: Final = 300

#: Families of metrics that are sums or means over trades and their fills: conditional on the regime known at the trade's entry.
ENTRY: Final = frozenset(
    {"trades", "closed_trades", "win_rate", "profit_factor", "payoff_ratio", "expectancy", "average_trade", "average_win", "average_loss"}
    | {"best_trade", "worst_trade", "losing_streak", "average_days_held", "assignment_rate", "fees", "slippage"}
    | {"premium_coin", "premium_sold_coin", "premium_captured"}
)
#: Families over time that need the account as it stood, not chained from 1.
HELD: Final = frozenset(
    {"turnover", "exposure", "average_positions", "margin_average", "delta_average", "gamma_average", "vega_average", "theta_average"}
)
#: Families over the snapshots themselves.
SEEN: Final = frozenset({"most_positions", "stale_share", "margin_peak", "hedge_costs", "hedge_profit", "funding"})
#: Families that rest on what happens within days, not on daily returns: their sample is the regime's time.
TIMED: Final = (
    HELD | SEEN | {"return", "hold_return_usd", "days", "max_drawdown", "max_drawdown_days", "time_under_water", "longest_under_water"}
)

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

#: One row a regime and metric: `sample` counts `unit` (closed trades, or days of the regime's own time); null where not defined.
METRIC_SCHEMA: Final = pa.schema(
    [
        ("regime", pa.string()),
        ("condition", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("sample", pa.float64()),
        ("unit", pa.string()),
        ("small_sample", pa.bool_()),
    ]
)


def regime_performance(result: BacktestResult, labels: pa.Table) -> pa.Table:
    """`REGIME_SCHEMA`, one row a regime that occurred, most hours first.

    A step of the equity belongs to the regime known at its start, so returns of regimes compound to the run's: the product of
    (1 + return) over regimes is 1 + the total; what entries at the very first snapshot cost is of the regime known then. Drawdown and
    Sharpe are of the equity chained over the regime's own steps. A trade belongs to the regime known at its entry.

    Args:
        result: any run.
        labels: `ts` and `regime`, as `regimes.label` writes them; may be empty.
    """
    ts = _micros(result.equity, "ts")
    of_step = as_of(labels, ts)
    coin, usd = (result.equity[n].to_numpy() for n in ("equity_coin", "equity_usd"))
    paid = paid_in(result.equity)
    of_trade, profit, closed = _of_trades(result.trades, labels)
    rows: list[dict[str, Any]] = []
    for regime in _occurring(of_step[:-1], of_trade):
        steps = np.flatnonzero(of_step[:-1] == regime)
        profits = profit[closed & (of_trade == regime)]
        chained, chained_usd = _chained(coin, steps, paid.get("coin")), _chained(usd, steps, paid.get("usd"))
        rows.append(
            {
                "regime": regime,
                "trades": profits.size,
                "win_rate": float((profits > 0).mean()) if profits.size else math.nan,
                "profit_coin": float(profits.sum()),
                "return_coin": float(chained[-1] - 1),
                "return_usd": float(chained_usd[-1] - 1),
                "max_drawdown_coin": max_drawdown(chained) if chained[-1] == chained[-1] else math.nan,
                "max_drawdown_usd": max_drawdown(chained_usd) if chained_usd[-1] == chained_usd[-1] else math.nan,
                "sharpe_coin": sharpe(_path_clock(_own_clock(ts, steps), chained), chained),
                "hours": float((ts[steps + 1] - ts[steps]).sum() / 3.6e9),
                "small_sample": profits.size < SMALL_SAMPLE,
            }
        )
    return pa.Table.from_pylist(sorted(rows, key=lambda r: -r["hours"]), schema=REGIME_SCHEMA)


@np.errstate(divide="ignore", invalid="ignore")  # margin over an equity of nothing
def regime_metrics(result: BacktestResult, labels: pa.Table, seed: int = SEED) -> pa.Table:
    """`METRIC_SCHEMA`: every metric of the table, once for each regime that occurred, most time first.

    Metrics of trades and fills (`ENTRY`) are over the trades whose entry fell in the regime, whenever they ended. The others are over
    the path: the steps of the equity that began in the regime, chained on a clock that stands still in other regimes, so that a day of
    it is 24 hours of the regime. `most_positions`, `margin_peak`, `stale_share` and what a hedge moved are over the snapshots in the
    regime. Headlines have bootstrap intervals from ten such days on. A regime in which the account stood at or below zero has no path
    metrics.

    Args:
        result: any run.
        labels: as for `regime_performance`.
        seed: of the intervals.
    """
    ts = _micros(result.equity, "ts")
    of_step = as_of(labels, ts)
    of_trade, _, closed = _of_trades(result.trades, labels)
    fill_trade, fill_regime = result.fills["trade"].to_numpy(), as_of(labels, _micros(result.fills, "ts"))
    number = result.trades["trade"].to_numpy()
    columns: dict[str, list[Any]] = {name: [] for name in METRIC_SCHEMA.names}
    span = {regime: float(_own_clock(ts, np.flatnonzero(of_step[:-1] == regime))[-1]) for regime in _occurring(of_step[:-1], of_trade)}
    for regime in sorted(span, key=lambda name: -span[name]):
        mine = of_trade == regime
        steps = np.flatnonzero(of_step[:-1] == regime)
        clock = _own_clock(ts, steps)
        trades = result.trades.filter(pa.array(mine))
        entry = Evidence(trades, result.equity, result.fills.filter(pa.array(np.isin(fill_trade, number[mine]))))
        path = Evidence(trades, _path(result.equity, clock, steps), result.fills)
        held = Evidence(trades, _held(result.equity, clock, steps), result.fills.filter(pa.array(fill_regime == regime)))
        seen = Evidence(trades, result.equity.filter(pa.array(of_step == regime)), result.fills)
        intervals = _intervals(path, seed)
        ruined = {currency for currency in CURRENCIES if not math.isfinite(path.equity(currency)[-1])}
        over, time, days = float((closed & mine).sum()), span[regime] / DAY_US, float(path.returns("usd").size)
        for metric in METRICS:
            on_entry = metric.family in ENTRY
            of = entry if on_entry else seen if metric.family in SEEN else held if metric.family in HELD else path
            lost = of is path and metric.name != metric.family and metric.name.rsplit("_", 1)[-1] in ruined
            value = metric.function(of) if on_entry or (steps.size and not lost) else math.nan
            sample = over if on_entry else time if metric.family in TIMED else days
            small = sample < (SMALL_SAMPLE if on_entry else SMALL_DAYS)
            known = (regime, "entry" if on_entry else "path", metric.name, value if math.isfinite(value) else None)
            within = intervals.get(metric.name) or (None, None)
            for column, one in zip(columns.values(), (*known, *within, sample, "trades" if on_entry else "days", small), strict=True):
                column.append(one)
    return pa.table(columns, schema=METRIC_SCHEMA)


def save_regimes(table: pa.Table, folder: Path) -> Path:
    """Write `regimes.parquet` beside the other tables of a run; the same table is the same bytes.

    Raises:
        StorageError: it cannot be written.
    """
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    path = folder / "regimes.parquet"
    write_bytes(path, stream.getvalue())
    return path


def compact(table: pa.Table) -> dict[str, Any]:
    """`METRIC_SCHEMA` for the report: `regimes` names the places of every list below it.

    Returns:
        `regimes`; `trades`, `days` (of the regime's own time), `small` by condition; `metrics` by condition and name; `intervals` by name.
    """
    rows = table.to_pylist()
    regimes = list(dict.fromkeys(row["regime"] for row in rows))
    out: dict[str, Any] = {"regimes": regimes, "trades": [], "days": [], "small": {}, "metrics": {"entry": {}, "path": {}}, "intervals": {}}
    for row in rows:
        out["metrics"][row["condition"]].setdefault(row["metric"], []).append(row["value"])
        if row["metric"] in _INTERVALS:
            out["intervals"].setdefault(row["metric"], []).append(None if row["low"] is None else [row["low"], row["high"]])
        if row["metric"] == "closed_trades":
            out["trades"].append(int(row["sample"]))
            out["small"].setdefault("entry", []).append(row["small_sample"])
        if row["metric"] == "return_coin":
            out["days"].append(row["sample"])
            out["small"].setdefault("path", []).append(row["small_sample"])
    return out


def heat(table: pa.Table, metrics: Iterable[str] = ()) -> tuple[list[str], list[tuple[str, str, list[dict[str, Any] | None]]]]:
    """`METRIC_SCHEMA` as metric x regime.

    Args:
        table: of a run.
        metrics: which, by name or by family (`sharpe` is `sharpe_coin` and `sharpe_usd`); all by default.

    Returns:
        Regimes, most time first; for each metric its name, its condition and one cell a regime: the row of the table, None where
        the table has none.
    """
    wanted = set(metrics)
    names = [m.name for m in METRICS if not wanted or {m.name, m.family} & wanted]
    rows = {(row["metric"], row["regime"]): row for row in table.to_pylist()}
    regimes = list(dict.fromkeys(regime for _, regime in rows))
    family = {m.name: m.family for m in METRICS}
    cells = [(name, "entry" if family[name] in ENTRY else "path", [rows.get((name, regime)) for regime in regimes]) for name in names]
    return regimes, cells


_INTERVALS: Final = frozenset(f"{name}_{currency}" for name in HEADLINES for currency in CURRENCIES)


def _intervals(path: Evidence, seed: int) -> dict[str, tuple[float, float] | None]:
    """Of the headlines, the same days drawn in coin and in USD; that of the return keeps the broken day at the end as it was."""
    days = {c: days_of(path.ts, path.equity(c)) for c in CURRENCIES if np.isfinite(path.equity(c)).all()}
    known = {currency: one for currency, one in days.items() if one is not None}
    if not known:
        return {}
    block = max(block_length(one.growth - 1) for one in known.values())
    order = indices(next(iter(known.values())).growth.size, block, RESAMPLES, np.random.default_rng(seed))
    found: dict[str, tuple[float, float] | None] = {}
    for currency, one in known.items():
        values = path.equity(currency)
        sharpes, growth, falls = headlines(one, order)
        edges = values[-1] / values[0] / float(np.prod(one.growth))
        for name, numbers in zip(HEADLINES, (growth * edges - 1, sharpes, falls), strict=True):
            found[f"{name}_{currency}"] = interval(numbers, CONFIDENCE)
    return found


def _path(equity: pa.Table, clock: NDArray[np.int64], steps: NDArray[np.int64]) -> pa.Table:
    """Equity and index chained from 1 over the steps, from what was paid in where they include the first; margin in proportion."""
    paid = paid_in(equity)
    before = {"equity_coin": paid.get("coin"), "equity_usd": paid.get("usd"), "index": float(equity["index"][0].as_py()) if paid else None}
    chained = {name: _chained(equity[name].to_numpy(), steps, one) for name, one in before.items()}
    if "initial_margin" in equity.column_names:
        share = equity["initial_margin"].to_numpy()[steps] / equity["equity_coin"].to_numpy()[steps]  # of what each step began with
        ahead = chained["index"].size - share.size - 1
        chained["initial_margin"] = np.concatenate([np.full(ahead, np.nan), share, [np.nan]]) * chained["equity_coin"]
    return pa.table({"ts": _path_clock(clock, chained["index"])} | chained)


def _held(equity: pa.Table, clock: NDArray[np.int64], steps: NDArray[np.int64]) -> pa.Table:
    """The rows that steps started from; the last stands twice, to end the last step."""
    rows = equity.take(pa.array(np.append(steps, steps[-1:])))
    return rows.set_column(rows.column_names.index("ts"), "ts", pa.array(clock[: rows.num_rows]))


def _of_trades(trades: pa.Table, labels: pa.Table) -> tuple[NDArray[np.object_], NDArray[np.float64], NDArray[np.bool_]]:
    """By trade: the regime known at its entry, its profit in coin, whether it is over."""
    closed = np.asarray(trades["closed_at"].is_valid())
    return as_of(labels, _micros(trades, "opened_at")), trades["profit_coin"].to_numpy(), closed


def _occurring(of_step: NDArray[np.object_], of_trade: NDArray[np.object_]) -> list[str]:
    return list(dict.fromkeys([*of_step.tolist(), *of_trade.tolist()]))


def as_of(labels: pa.Table, ts: NDArray[np.int64]) -> NDArray[np.object_]:
    """The regime last known at each time (microseconds); `UNKNOWN` before the first label and where a label is null."""
    if labels.num_rows == 0:
        return np.full(ts.size, UNKNOWN, dtype=object)
    known = _micros(labels, "ts")
    names = np.array([name or UNKNOWN for name in labels["regime"].to_pylist()], dtype=object)
    at = np.searchsorted(known, ts, side="right") - 1
    return np.where(at >= 0, names[np.maximum(at, 0)], UNKNOWN)


def _chained(values: NDArray[np.float64], steps: NDArray[np.int64], before: float | None = None) -> NDArray[np.float64]:
    """1, then after each step; all NaN where a step starts from nothing (after ruin a share of it means nothing).

    Where `before` stood ahead of the first value and the steps include the first, it is a step of its own that takes no time.
    """
    begins = before is not None and steps.size > 0 and steps[0] == 0
    if not (values[steps] > 0).all():
        return np.full(steps.size + 1 + begins, np.nan)
    growth = values[steps + 1] / values[steps]
    return np.append(1.0, np.cumprod(np.append(values[0] / before, growth) if begins else growth))


def _path_clock(clock: NDArray[np.int64], chained: NDArray[np.float64]) -> NDArray[np.int64]:
    """The clock of a chain, which may have a step without time at its start."""
    return clock if clock.size == chained.size else np.append(clock[:1], clock)


def _own_clock(ts: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Times of the chained equity, with the hours of other regimes cut out."""
    return np.append(0, np.cumsum(ts[steps + 1] - ts[steps])).astype(np.int64)


def _micros(table: pa.Table, name: str) -> NDArray[np.int64]:
    return np.asarray(table[name].combine_chunks().cast(pa.int64()), dtype=np.int64)
