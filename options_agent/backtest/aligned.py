"""Runs on the time they share: the common range, each run cut to it, and the snapshots that only some of them have."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from options_agent.backtest.metrics import drawdown_dates, max_drawdown, measure
from options_agent.backtest.metrics.evidence import since_paid_in
from options_agent.backtest.saved_runs import times
from options_agent.backtest.uncertainty import uncertainty
from options_agent.quotes import UTC_US

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from options_agent.backtest.metrics.drawdown import Drawdown
    from options_agent.backtest.saved_runs import SavedRun

#: Two snapshots are one where they lie no farther apart than this, nor than a quarter of the usual spacing: sweeps take seconds.
SAME_SNAPSHOT_US: Final = 300_000_000
#: A step this many times the usual one is a hole.
HOLE: Final = 3.0
#: Columns of the equity that hold what moved at a snapshot, not what stood: a row carried to an edge moves nothing again.
DEPOSITS: Final = ("deposited_coin", "deposited_usd")
FLOWS: Final = ("perpetual_pnl", "funding", "hedge_fee", "swapped_coin", "swapped_usd", *DEPOSITS)


@dataclass(frozen=True, slots=True)
class Range:
    """A range of time, microseconds UTC; `start` is before `end`."""

    start: int
    end: int

    @property
    def days(self) -> float:
        """Length in days."""
        return (self.end - self.start) / 86_400e6

    def as_dict(self) -> dict[str, Any]:
        """For the document."""
        return {"start": iso(self.start), "end": iso(self.end), "days": self.days}


@dataclass(frozen=True)
class Cut:
    """A run within a range.

    Attributes:
        equity: from the range's start to its end, with the value last known at either edge where no snapshot stands on it.
        trades: those opened within; one that ends after the range counts as open.
        fills: those within; they may be of trades that were opened before.
        before, after: trades that were open at the start, and at the end.
        readable: whether the run's trades and fills could be read; both tables are empty where not.
    """

    equity: pa.Table
    trades: pa.Table
    fills: pa.Table
    before: int
    after: int
    readable: bool


def iso(us: int | None) -> str | None:
    """Microseconds UTC in words for JSON."""
    return None if us is None else (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=int(us))).isoformat()


def common_range(runs: Sequence[SavedRun]) -> Range | None:
    """The time that all runs with an equity cover; None where they share no time, or fewer than two have an equity."""
    known = [run.ts for run in runs if run.ts.size]
    if len(known) < 2:
        return None
    start, end = max(int(ts[0]) for ts in known), min(int(ts[-1]) for ts in known)
    return Range(start, end) if start < end else None


def cut(run: SavedRun, within: Range) -> Cut | None:
    """A run within a range that its equity covers; None where it has no equity."""
    if run.equity is None or not run.ts.size:
        return None
    trades, fills = run.trades, run.fills
    if trades is None or fills is None:
        return Cut(cut_equity(run.equity, within), _NO_TRADES, _NO_FILLS, 0, 0, readable=False)
    opened, closed = times(trades, "opened_at"), times(trades, "closed_at")
    still = closed == np.iinfo(np.int64).min
    begin = begin_of(run.ts, within)
    inside = (opened >= begin) & (opened <= within.end)
    late = ~still & (closed > within.end)
    rows = trades.set_column(
        trades.schema.get_field_index("closed_at"), "closed_at", pa.array(closed, pa.int64(), mask=still | late).cast(UTC_US)
    )
    at = times(fills, "ts")
    return Cut(
        cut_equity(run.equity, within),
        rows.filter(pa.array(inside)),
        fills.filter(pa.array((at >= begin) & (at <= within.end))),
        int(((opened < begin) & (still | (closed >= begin))).sum()),
        int(((opened <= within.end) & (still | late)).sum()),
        readable=True,
    )


def begin_of(ts: NDArray[np.int64], within: Range) -> int:
    """Where a range begins for a run: with its own first snapshot where that is the range's, some seconds early by another clock."""
    own = ts.size > 0 and 0 <= within.start - int(ts[0]) <= SAME_SNAPSHOT_US and (ts.size == 1 or int(ts[1]) > within.start)
    return int(ts[0]) if own else within.start


def cut_equity(equity: pa.Table, within: Range) -> pa.Table:
    """Rows of a range that begins and ends exactly where it says, by the value last known at the edges; nothing is looked up ahead.

    Where it begins with the run's own first snapshot, what was paid in there is kept, so that the first entries' costs are in it.
    """
    ts = times(equity, "ts")
    first, last = (int(np.searchsorted(ts, at, side="right")) - 1 for at in (within.start, within.end))
    rows = np.arange(first, last + 1)
    stamps = np.maximum(ts[rows], within.start)
    if stamps[-1] < within.end:
        rows, stamps = np.append(rows, last), np.append(stamps, within.end)
    found = equity.take(pa.array(rows))
    carried = stamps != ts[rows]
    for name in FLOWS:
        if name in found.column_names:
            still = carried.copy()
            still[:1] &= not (name in DEPOSITS and begin_of(ts, within) == ts[0])
            moved = np.where(still, 0.0, found[name].to_numpy())
            found = found.set_column(found.schema.get_field_index(name), name, pa.array(moved))
    return found.set_column(found.schema.get_field_index("ts"), "ts", pa.array(stamps, pa.int64()).cast(UTC_US))


def measured(run: SavedRun, part: Cut) -> dict[str, Any]:
    """Metrics of a cut with their intervals, as the report of a run of just that range would have them.

    Returns:
        `metrics` (None where one is not defined), `uncertainty` and `drawdowns`; the counts of trades that cross the edges.
    """
    metrics = measure(part.trades, part.equity, part.fills)
    if not part.readable:
        metrics |= dict.fromkeys(_OF_TRADES, float("nan"))
    found: dict[str, Any] = plain(
        {
            "metrics": metrics | of_capital(metrics, part.equity),
            "uncertainty": uncertainty(part.equity, metrics),
            "drawdowns": {c: None if fall is None else _dated(fall) for c, fall in drawdown_dates(part.equity).items()},
            "snapshots": int(np.isin(times(part.equity, "ts"), run.ts).sum()),
            "open_at_start": part.before,
            "open_at_end": part.after,
        }
    )
    return found


def of_capital(metrics: Mapping[str, float | None], equity: pa.Table) -> dict[str, float]:
    """What compares between coins and sizes: `profit_usd`, and what was paid as a share of the equity at the start, in USD."""
    usd = since_paid_in(equity, "usd")[1]
    shares = {}
    for name in ("fees", "slippage", "hedge_costs"):
        paid = metrics.get(f"{name}_usd")
        shares[f"{name}_share"] = math.nan if paid is None or not usd[0] > 0 else float(paid / usd[0])
    return shares | {"profit_usd": float(usd[-1] - usd[0])}


def plain(value: Any) -> Any:
    """JSON has no NaN: what is not defined is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def _dated(fall: Drawdown) -> dict[str, Any]:
    dates = {name: iso(getattr(fall, name)) for name in ("peak_at", "trough_at", "recovered_at")}
    return {"depth": fall.depth, **dates, "days": fall.days}


def tolerance(runs: Sequence[SavedRun]) -> int:
    """How far apart two runs' times may lie and still be one snapshot, microseconds."""
    steps = [spacing(run.ts) for run in runs if run.ts.size > 1]
    return int(min([SAME_SNAPSHOT_US, *(step / 4 for step in steps)]))


def spacing(ts: NDArray[np.int64]) -> float:
    """The usual (median) step, microseconds; 0 of fewer than two times."""
    return float(np.median(np.diff(ts))) if ts.size > 1 else 0.0


def lacking(mine: NDArray[np.int64], theirs: NDArray[np.int64], near: int) -> NDArray[np.bool_]:
    """For each of `mine` (ascending), whether `theirs` has nothing within `near` microseconds of it."""
    if theirs.size == 0:
        return np.ones(mine.size, bool)
    after = np.searchsorted(theirs, mine)
    distance = np.minimum(
        np.abs(mine - theirs[np.clip(after - 1, 0, theirs.size - 1)]), np.abs(mine - theirs[np.clip(after, 0, theirs.size - 1)])
    )
    return np.asarray(distance > near)


def inside(ts: NDArray[np.int64], within: Range) -> NDArray[np.int64]:
    """Those of a range, its edges included."""
    return ts[(ts >= within.start) & (ts <= within.end)]


def holes(ts: NDArray[np.int64], within: Range) -> list[tuple[int, int]]:
    """Stretches of a range without a snapshot, much longer than the usual step: (last before, first after)."""
    step = spacing(ts)
    found = inside(ts, within)
    if step == 0 or found.size < 2:
        return []
    wide = np.flatnonzero(np.diff(found) > HOLE * step)
    return [(int(found[i]), int(found[i + 1])) for i in wide]


def drawdowns_on_shared(runs: Sequence[SavedRun], within: Range) -> dict[str, dict[str, float]]:
    """Largest drawdowns seen at snapshots that every run has: {label: {coin, usd}}; empty where there are none such."""
    near = tolerance(runs)
    known = [run for run in runs if run.equity is not None and run.ts.size]
    found = {}
    for run in known:
        keep = (run.ts >= within.start) & (run.ts <= within.end)
        for other in known:
            keep &= ~lacking(run.ts, other.ts, near)
        if not keep.any() or run.equity is None:
            return {}
        found[run.label] = {c: max_drawdown(run.equity[f"equity_{c}"].to_numpy()[keep]) for c in ("coin", "usd")}
    return found


_NO_TRADES: Final = pa.table(
    {
        "opened_at": pa.array([], UTC_US),
        "closed_at": pa.array([], UTC_US),
        "exit": pa.array([], pa.string()),
        **{
            name: pa.array([], pa.float64())
            for name in ("premium_coin", "closing_coin", "payoff_coin", "fees_coin", "profit_coin", "profit_usd")
        },
    }
)
_NO_FILLS: Final = pa.table(
    {"kind": pa.array([], pa.string()), **{name: pa.array([], pa.float64()) for name in ("contracts", "price", "fee", "index", "mid")}}
)
#: What a run whose trades cannot be read does not have: zeros would be a claim.
_OF_TRADES: Final = (
    "trades",
    "closed_trades",
    "losing_streak",
    "fees_coin",
    "fees_usd",
    "premium_coin",
    "premium_sold_coin",
    "turnover",
)
