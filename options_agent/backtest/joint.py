"""Several runs as one book in USD: BTC and ETH, any strategies, on the time they share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa

from options_agent.backtest.aligned import Range, common_range, cut, iso, plain
from options_agent.backtest.bootstrap import SEED
from options_agent.backtest.by_regime import ENTRY
from options_agent.backtest.joint_risk import daily_risk
from options_agent.backtest.metrics import DAY_US, METRICS, measure
from options_agent.backtest.metrics.evidence import paid_in
from options_agent.backtest.metrics.grid import midnights
from options_agent.backtest.metrics.trades import settles_in_usd
from options_agent.backtest.saved_runs import times
from options_agent.backtest.uncertainty import odds_above, spread
from options_agent.compiled import compiled
from options_agent.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from options_agent.backtest.aligned import Cut
    from options_agent.backtest.saved_runs import SavedRun

    Floats = NDArray[np.float64]

Rebalance = Literal["never", "daily"]
#: Of the rolling correlation.
WINDOW_DAYS: Final = 30
#: Of a capital of 1, what is left of nothing by rounding.
ROUNDING: Final = 1e-12
#: Columns of a run's equity in coins that a book adds up in USD.
_IN_COIN: Final = ("initial_margin", "delta", "vega", "theta")
#: Columns of what moved at a snapshot, and the metrics that sum them: in a book, USD at the index of their own time.
_FLOWS: Final = {"hedge_fee": "hedge_costs", "perpetual_pnl": "hedge_profit", "funding": "funding"}


@dataclass(frozen=True)
class Book:
    """Runs as one account in USD on the union of their snapshots; between its own snapshots a run stands at its value last known.

    Attributes:
        ts: (n,) microseconds UTC; the first stands twice where runs begin there: before and after their first decisions.
        values: (runs, n) equity of each run by itself, USD.
        index: (runs, n) of its underlying, USD.
        units: (runs, n) how much of each run is held from each time on; 0 after it was lost.
        gains: (runs, n) what each has earned the book since the start, USD; they sum to `equity` less its first value.
        equity: (n,) of the book, USD; starts at the sum of the runs' own.
        hold: (n,) the underlyings held in the same weights by the same rule, from 1.
        weights: (runs,) at the start.
    """

    ts: NDArray[np.int64]
    values: Floats
    index: Floats
    units: Floats
    gains: Floats
    equity: Floats
    hold: Floats
    weights: Floats


def joint_book(
    runs: Sequence[SavedRun],
    labels: Mapping[str, pa.Table],
    weights: Sequence[float] | None = None,
    rebalance: Rebalance = "never",
    window_days: int = WINDOW_DAYS,
    among: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """A book of several runs as plain data for JSON: None is what is not defined.

    Args:
        runs: two or more, as `saved_runs.load_run` reads them.
        labels: regimes (`ts`, `regime`) by underlying; one without labels is one unknown regime.
        weights: shares of the capital at the start, one a run; they are scaled to sum to 1. Equal by default.
        rebalance: `never`: the split drifts. `daily`: back to the weights at each UTC midnight, free of cost.
        window_days: of the rolling correlation.
        among: every report that was looked at; the deflated Sharpe ratio of the book counts them, and the runs' own.

    Returns:
        `runs`, `range`, `weights`, `rebalance`, `capital_usd`, `notes`; `metrics` as in docs/metrics.md with the book's money in USD (what
        is asked in coin has no meaning and is left out), `intervals` of their headlines and `odds` of its Sharpe ratio; `daily` (date,
        equity, weight of each run); and what `joint_risk.daily_risk` finds.

    Raises:
        DataError: fewer than two runs, weights that are none, a run without equity or lost before the shared time, or no shared time.
    """
    shares = _weights(runs, weights)
    within, parts, notes = _shared(runs)
    book = build_book([part.equity for part in parts], within, shares, rebalance)
    lost = [run.label for run, units in zip(runs, book.units, strict=True) if not units[-1] > 0]
    notes += [f"{label} lost everything within the shared time and earns nothing from then on." for label in lost]
    if not all(part.readable for part in parts):
        notes.append("Trades or fills of a run cannot be read: metrics of trades and costs are left out.")
    risk = daily_risk(book.ts, book.values, book.index, book.gains, book.equity, [r.label for r in runs], window_days, SEED)
    regimes = {u: labels[u] for u in dict.fromkeys(run.underlying for run in runs) if u in labels}
    edges = midnights(book.ts)
    at = np.searchsorted(book.ts, edges, side="right") - 1
    whole = np.where(book.equity[at] > 0, book.equity[at], np.nan)
    held = book.units[:, at] * book.values[:, at] / whole
    metrics = book_metrics(book, parts)
    looks = list({r["run"]: r["metrics"] for r in [*among, *(run.report for run in runs)]}.values())
    found: dict[str, Any] = plain(
        {
            "runs": [
                {"label": r.label, "run": r.run, "strategy": r.strategy, "underlying": r.underlying, "status": r.report["status"]}
                for r in runs
            ],
            "range": within.as_dict(),
            "weights": shares.tolist(),
            "rebalance": rebalance,
            "capital_usd": float(book.equity[0]),
            "notes": notes,
            "metrics": metrics,
            "odds": {
                "probabilistic_sharpe_usd": odds_above(metrics, "usd"),
                "deflated_sharpe_usd": odds_above(metrics, "usd", len(looks), spread(looks, "usd", metrics["days"])),
                "looks": len(looks),
            },
            "daily": [
                {"at": iso(int(day)), "equity_usd": float(book.equity[k]), "weights": share.tolist()}
                for day, k, share in zip(edges, at, held.T, strict=True)
            ],
            **risk.document(regimes),
        }
    )
    return found


def build_book(equities: Sequence[pa.Table], within: Range, weights: Floats, rebalance: Rebalance) -> Book:
    """The book of runs cut to `within` (`aligned.cut_equity`).

    Args:
        equities: each with `ts`, `index`, `equity_usd`.
        within: the range they are cut to.
        weights: (runs,) above 0, sum 1.
        rebalance: as for `joint_book`.
    """
    stamps = [times(table, "ts") for table in equities]
    ts = np.unique(np.concatenate(stamps))
    ts = ts[(ts >= within.start) & (ts <= within.end)]
    values, index = (
        np.stack([_as_of(ts, t, table[n]) for t, table in zip(stamps, equities, strict=True)]) for n in ("equity_usd", "index")
    )
    paid = [paid_in(table).get("usd") for table in equities]
    if any(one is not None for one in paid):  # the book begins before the first decisions, too
        first = np.array([value if one is None else one for one, value in zip(paid, values[:, 0], strict=True)])
        ts, values, index = np.append(ts[:1], ts), np.column_stack((first, values)), np.column_stack((index[:, 0], index))
    moves = np.zeros(ts.size, dtype=np.bool_)
    if rebalance == "daily":
        moves[np.searchsorted(ts, midnights(ts), side="right") - 1] = True
    units, gains, growth = _hold(values, weights, moves)
    capital = float(values[:, 0].sum())
    hold = _hold(index, weights, moves)[2]
    return Book(ts, values, index, units * capital, gains * capital, growth * capital, hold, weights)


@compiled(keep=False)
def _hold(values: Floats, weights: Floats, rebalance: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Units (runs, n), gains (runs, n) and equity (n,) of a capital of 1; what falls to 0 or below is not held again."""
    runs, n = values.shape
    units, gains, equity = np.zeros((runs, n)), np.zeros((runs, n)), np.ones(n)
    dead = np.zeros(runs, dtype=np.bool_)
    for t in range(n):
        if t > 0:
            equity[t] = equity[t - 1]
            for i in range(runs):
                earned = units[i, t - 1] * (values[i, t] - values[i, t - 1])
                gains[i, t] = gains[i, t - 1] + earned
                equity[t] += earned
                units[i, t] = units[i, t - 1]
            if abs(equity[t]) < ROUNDING:
                equity[t] = 0.0
        living = 0.0
        for i in range(runs):
            dead[i] = dead[i] or not values[i, t] > 0.0 or not equity[t] > 0.0
            if dead[i]:
                units[i, t] = 0.0
            else:
                living += weights[i]
        if t == 0 or rebalance[t]:
            for i in range(runs):
                if not dead[i]:
                    units[i, t] = weights[i] / living * equity[t] / values[i, t]
    return units, gains, equity


def book_metrics(book: Book, parts: Sequence[Cut]) -> dict[str, float]:
    """Every metric of the table of the book, money in USD; those in coin are left out, as is gamma (per USD of different indices).

    A trade counts by what of its run was held at its opening, a fill by what was held at its time; amounts of coin are valued at the index
    of their own time. Turnover is USD of underlying traded a year over mean equity; margin and greeks are summed in USD.
    """
    readable = all(part.readable for part in parts)
    none = next((part for part in parts if not part.readable), parts[0])
    trades, fills = (_trades(book, parts), _fills(book, parts)) if readable else (none.trades, none.fills)
    with np.errstate(divide="ignore", invalid="ignore"):  # margin over an equity of nothing
        found = measure(trades, _account(book, parts), fills)
    if not readable:
        found |= {m.name: math.nan for m in METRICS if m.family in ENTRY or m.family == "turnover"}
    usd = {name: value for name, value in found.items() if not name.endswith("_coin") and name != "gamma_average"}
    in_usd = {f"{name}_usd": found[f"{name}_coin"] for name in ("premium", "premium_sold", *_FLOWS.values())}
    return usd | in_usd


def _account(book: Book, parts: Sequence[Cut]) -> pa.Table:
    """The equity table of the book, in which coin means USD: the table of metrics then gives its numbers in USD."""
    columns: dict[str, Any] = {"ts": book.ts, "index": book.hold, "equity_coin": book.equity, "equity_usd": book.equity}
    for name in ("open_positions", "stale_marks"):
        columns[name] = sum(
            _as_of(book.ts, times(p.equity, "ts"), p.equity[name]) * (u > 0) for p, u in zip(parts, book.units, strict=True)
        )
    for name in _IN_COIN:
        if all(name in part.equity.column_names for part in parts):
            stood = np.stack([_as_of(book.ts, times(part.equity, "ts"), part.equity[name]) for part in parts])
            columns[name] = np.where(book.units > 0, stood * book.index * book.units, 0.0).sum(axis=0)
    for name in _FLOWS:
        if all(name in part.equity.column_names for part in parts):
            columns[name] = np.zeros(book.ts.size)
            for part, units, index in zip(parts, book.units, book.index, strict=True):
                at = _place(book, times(part.equity, "ts"))
                usd = part.equity[name].to_numpy() * (1.0 if settles_in_usd(part.fills) else index[at])
                np.add.at(columns[name], at, usd * units[np.maximum(at - 1, 0)])  # by what was held until then
    return pa.table(columns)


def _trades(book: Book, parts: Sequence[Cut]) -> pa.Table:
    tables = []
    for i, part in enumerate(parts):
        t = part.trades
        opened, closed = _place(book, times(t, "opened_at")), _place(book, times(t, "closed_at"))
        scale, index = book.units[i, opened], book.index[i]
        profit = t["profit_usd"].to_numpy() * scale
        columns = {name: t[name] for name in ("opened_at", "closed_at", "exit")} | {"profit_coin": profit, "profit_usd": profit}
        for name, at in (("premium_coin", opened), ("closing_coin", closed), ("payoff_coin", closed)):
            columns[name] = t[name].to_numpy() * scale * index[at]
        tables.append(pa.table(columns))
    return pa.concat_tables(tables, promote_options="permissive").sort_by("opened_at")


def _fills(book: Book, parts: Sequence[Cut]) -> pa.Table:
    """Contracts in USD of underlying, prices as a share of it: their product is USD."""
    tables = []
    for i, part in enumerate(parts):
        f = part.fills
        scale, index = book.units[i, _place(book, times(f, "ts"))], f["index"].to_numpy()
        coin = 1 / index if settles_in_usd(f) else np.ones(f.num_rows)
        columns = {
            "kind": f["kind"],
            "contracts": f["contracts"].to_numpy() * index * scale,
            "price": f["price"].to_numpy() * coin,
            "fee": f["fee"].to_numpy() * coin * index * scale,
            "index": np.ones(f.num_rows),
            "mid": f["mid"].to_numpy(zero_copy_only=False) * coin if "mid" in f.column_names else np.full(f.num_rows, math.nan),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables, promote_options="permissive")


def _place(book: Book, ts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where in the book each time falls; the start for one before it."""
    return np.maximum(np.searchsorted(book.ts, ts, side="right") - 1, 0)


def _as_of(at: NDArray[np.int64], ts: NDArray[np.int64], values: pa.ChunkedArray) -> Floats:
    known: Floats = np.asarray(values.to_numpy(), dtype=np.float64)
    found: Floats = known[np.searchsorted(ts, at, side="right") - 1]
    return found


def _weights(runs: Sequence[SavedRun], weights: Sequence[float] | None) -> Floats:
    if len(runs) < 2:
        raise DataError("a joint book is of two runs or more", remedy="give another run; `options-agent report` lists them")
    found = np.full(len(runs), 1.0) if weights is None else np.asarray(weights, dtype=np.float64)
    if found.shape != (len(runs),) or not np.isfinite(found).all() or not (found > 0).all():
        raise DataError(
            f"weights {', '.join(f'{w:g}' for w in found.ravel())} for {len(runs)} runs", remedy="give one number above 0 for each run"
        )
    scaled: Floats = found / found.sum()
    return scaled


def _shared(runs: Sequence[SavedRun]) -> tuple[Range, list[Cut], list[str]]:
    """The time that all runs share, each cut to it, and what there is to say of them."""
    notes = [
        f"{run.label} ({run.who}) is inconclusive: {'; '.join(run.report.get('status_reasons', []))}."
        for run in runs
        if run.report["status"] != "ok"
    ]
    for run in runs:
        if run.ts.size < 2:
            raise DataError(
                f"{run.label} ({run.who}) has no equity: {'; '.join(run.problems) or 'its table is empty'}",
                place=str(run.path),
                remedy="run the backtest again, over days that have quotes",
            )
        notes += [f"{run.label} ({run.who}): {problem}." for problem in run.problems]
    within = common_range(runs)
    if within is None:
        spans = "; ".join(f"{run.label} {iso(int(run.ts[0]))} to {iso(int(run.ts[-1]))}" for run in runs)
        raise DataError(f"the runs share no time: {spans}", place=str(runs[0].path), remedy="run them over the same days")
    parts = []
    for run in runs:
        part = cut(run, within)
        if part is None or not part.equity["equity_usd"][0].as_py() > 0:
            raise DataError(
                f"{run.label} ({run.who}) had lost everything before the time the runs share",
                place=str(run.path),
                remedy="run them over the same days, or leave it out",
            )
        left = (within.start - int(run.ts[0]) + int(run.ts[-1]) - within.end) / DAY_US
        if left >= 0.1:
            notes.append(f"{run.label} ({run.who}) covers {left:.1f} days more than the runs share; they are left out.")
        if part.before:
            notes.append(f"Trades of {run.label} that were open at the start are in equity, not among the trades: {part.before}.")
        parts.append(part)
    return within, parts, notes
