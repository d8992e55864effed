"""The risk of a joint book: correlation overall, by regime and rolling, what each run contributes, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.aligned import iso
from options_agent.backtest.bootstrap import RESAMPLES, block_length, indices, interval
from options_agent.backtest.by_regime import SMALL_DAYS, as_of
from options_agent.backtest.metrics.grid import LEAST_RETURNS, YEAR_DAYS, midnights
from options_agent.backtest.metrics.returns import expected_shortfall, volatility
from options_agent.backtest.uncertainty import CONFIDENCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Numbers of one piece of resampling.
_PIECE: Final = 500_000


@dataclass(frozen=True)
class Risk:
    """Days of a joint book.

    Attributes:
        days: (d,) the midnight each begins with, microseconds UTC.
        returns: (runs, d) of each run by itself; empty where a run was lost, or under ten days.
        underlyings: (runs, d) of its index.
        parts: (runs, d) what each earned over the book's equity at the day's start: they sum to the book's return.
        book: (d,) the book's return.
        edges: what the broken days at both ends multiply the book's growth by.
        labels: of the runs.
        window: of the rolling correlation, days.
        seed: of the intervals.
    """

    days: NDArray[np.int64]
    returns: Floats
    underlyings: Floats
    parts: Floats
    book: Floats
    edges: float
    labels: tuple[str, ...]
    window: int
    seed: int

    def document(self, labels: Mapping[str, pa.Table]) -> dict[str, Any]:
        """Everything, as plain data.

        Returns:
            `days`; `correlation`: by pair `runs` with its interval and `underlyings`; `by_regime`: of each underlying with labels, by the
            regime known when the day began; `rolling`: by pair, over the `window` days up to each midnight; `risk`: `volatility`,
            `expected_shortfall` and what each run contributes (they sum to it), `diversification_ratio`; `intervals` of the book's
            headlines, of the correlations (with them) and of the ratio, from days drawn for all runs at once.
        """
        return {
            "days": int(self.days.size),
            "correlation": self._pairs(np.ones(self.days.size, dtype=bool)),
            "by_regime": {underlying: self._by_regime(table) for underlying, table in labels.items()},
            "rolling": {"window_days": self.window, "pairs": self._rolling()},
            "risk": contributions(self.parts, self.labels),
            "intervals": self.intervals(),
        }

    def _pairs(self, chosen: NDArray[np.bool_]) -> list[dict[str, Any]]:
        out = []
        for a, b in combinations(range(len(self.labels)), 2):
            known = self.returns.size > 0
            x, y = (self.returns[i, chosen] if known else np.empty(0) for i in (a, b))
            low, high = correlation_interval(x, y, self.seed) or (None, None)
            runs = {"value": correlation(x, y), "low": low, "high": high}
            index = correlation(self.underlyings[a, chosen], self.underlyings[b, chosen])
            out.append({"pair": [self.labels[a], self.labels[b]], "runs": runs, "underlyings": index})
        return out

    def _by_regime(self, table: pa.Table) -> list[dict[str, Any]]:
        of_day = as_of(table, self.days)
        names = sorted(dict.fromkeys(of_day.tolist()), key=lambda name: -int((of_day == name).sum()))
        counts = {name: int((of_day == name).sum()) for name in names}
        return [{"regime": n, "days": counts[n], "small_sample": counts[n] < SMALL_DAYS, "pairs": self._pairs(of_day == n)} for n in names]

    def _rolling(self) -> list[dict[str, Any]]:
        out = []
        for a, b in combinations(range(len(self.labels)), 2):
            values = rolling_correlation(self.returns[a], self.returns[b], self.window) if self.returns.size else np.empty(0)
            ends = np.append(self.days[1:], self.days[-1:] + 86_400_000_000) if values.size else self.days[:0]
            points = [{"at": iso(int(at)), "value": float(v)} for at, v in zip(ends, values, strict=True) if math.isfinite(v)]
            out.append({"pair": [self.labels[a], self.labels[b]], "values": points})
        return out

    def intervals(self) -> dict[str, list[float] | None]:
        """Of the book's return, Sharpe ratio and largest drawdown over midnights, volatility, and the diversification ratio.

        The same days are drawn for every run in each resample, in blocks as long as the most persistent of them asks for; the book of a
        resample earns what it earned on those days with the weights it had, and on the broken days at both ends what it did.
        """
        names = ("return_usd", "sharpe_usd", "max_drawdown_usd", "volatility_usd", "diversification_ratio")
        n = self.book.size
        if n < LEAST_RETURNS or not (self.book > -1).all():
            return dict.fromkeys(names)
        block, random = max(block_length(x) for x in (*self.parts, self.book)), np.random.default_rng(self.seed)
        at_once = max(1, _PIECE // n)
        sizes = (min(at_once, RESAMPLES - done) for done in range(0, RESAMPLES, at_once))
        pieces = [self._resampled(indices(n, block, size, random)) for size in sizes]
        found = {}
        for name, *columns in zip(names, *pieces, strict=True):
            within = interval(np.concatenate(columns), CONFIDENCE)
            found[name] = list(within) if within else None
        return found

    def _resampled(self, order: NDArray[np.int64]) -> tuple[Floats, ...]:
        drawn = self.book[order]
        deviation = drawn.std(axis=1, ddof=1)
        deviation[np.ptp(drawn, axis=1) == 0] = np.nan
        wealth = np.concatenate((np.ones((order.shape[0], 1)), np.cumprod(1 + drawn, axis=1)), axis=1)
        fall = np.max(1 - wealth / np.maximum.accumulate(wealth, axis=1), axis=1)
        alone = np.sum([part[order].std(axis=1, ddof=1) for part in self.parts], axis=0)
        year = math.sqrt(YEAR_DAYS)
        return wealth[:, -1] * self.edges - 1, drawn.mean(axis=1) / deviation * year, fall, deviation * year, alone / deviation


def daily_risk(
    ts: NDArray[np.int64],
    values: Floats,
    index: Floats,
    gains: Floats,
    equity: Floats,
    labels: Sequence[str],
    window_days: int,
    seed: int,
) -> Risk:
    """Days of a book between the UTC midnights of its range; none under ten of them. Arrays as in `joint.Book`."""
    edges = midnights(ts)
    at = np.searchsorted(ts, edges, side="right") - 1
    enough = edges.size > LEAST_RETURNS
    at, edges = (at, edges) if enough else (at[:0], edges[:0])
    none = np.empty((len(labels), 0))
    alive = enough and bool((values[:, at] > 0).all())
    whole = enough and bool((equity[at] > 0).all())
    parts = np.diff(gains[:, at], axis=1) / equity[at[:-1]] if whole else none
    return Risk(
        edges[:-1],
        values[:, at[1:]] / values[:, at[:-1]] - 1 if alive else none,
        index[:, at[1:]] / index[:, at[:-1]] - 1,
        parts,
        equity[at[1:]] / equity[at[:-1]] - 1 if whole else none[0],
        float(equity[-1] / equity[0] / (equity[at[-1]] / equity[at[0]])) if whole else math.nan,
        tuple(labels),
        window_days,
        seed,
    )


def correlation(x: Floats, y: Floats) -> float:
    """Pearson's, of ten returns or more; NaN under that, or where one of them does not move."""
    if x.size < LEAST_RETURNS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    a, b = x - x.mean(), y - y.mean()
    return float(np.clip(a @ b / math.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def correlation_interval(x: Floats, y: Floats, seed: int) -> tuple[float, float] | None:
    """Of the correlation, from the same days drawn for both (paired stationary bootstrap); None where it is not defined."""
    if not math.isfinite(correlation(x, y)):
        return None
    random, n, block = np.random.default_rng(seed), x.size, max(block_length(x), block_length(y))
    at_once, found = max(1, _PIECE // n), []
    for done in range(0, RESAMPLES, at_once):
        order = indices(n, block, min(at_once, RESAMPLES - done), random)
        a, b = x[order], y[order]
        still = (np.ptp(a, axis=1) == 0) | (np.ptp(b, axis=1) == 0)
        a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            one = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
        found.append(np.where(still, np.nan, np.clip(one, -1.0, 1.0)))
    return interval(np.concatenate(found), CONFIDENCE)


def rolling_correlation(x: Floats, y: Floats, window: int) -> Floats:
    """At each day, of the `window` days that end with it; NaN before there are as many, or where one does not move."""
    out = np.full(x.size, np.nan)
    if window < 2 or x.size < window:
        return out
    a, b = (np.lib.stride_tricks.sliding_window_view(v, window) for v in (x, y))
    still = (np.ptp(a, axis=1) == 0) | (np.ptp(b, axis=1) == 0)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    out[window - 1 :] = np.where(still, np.nan, np.clip(found, -1.0, 1.0))
    return out


def contributions(parts: Floats, labels: Sequence[str]) -> dict[str, Any]:
    """What each run contributes to the book's volatility and expected shortfall: the parts sum to the whole (Euler's theorem).

    Args:
        parts: (runs, days) what each earned over the book's equity at the day's start; their sum is the book's return.
        labels: of the runs.

    Returns:
        `volatility` (a year) and `expected_shortfall` (a day, below 0 is a loss) of the book; `components`, one a run: `volatility` is
        covariance with the book over the book's deviation (Litterman 1996), `expected_shortfall` the mean over the book's own worst days
        (Tasche 1999), `volatility_share` and `expected_shortfall_share` of the whole. `diversification_ratio`: deviations of the parts
        summed over the book's (Choueifaty and Coignard 2008), 1 where nothing is diversified.
    """
    n = parts.shape[1]
    book = parts.sum(axis=0)
    nothing = n < LEAST_RETURNS
    moves = not nothing and np.ptp(book) > 0
    whole = volatility(book) if moves else math.nan
    centred = book - book.mean() if n else book
    deviation = math.sqrt(float(centred @ centred) / (n - 1)) if moves else math.nan
    by_volatility = (parts @ centred) / (n - 1) / deviation * math.sqrt(YEAR_DAYS) if moves else np.full(len(labels), math.nan)
    shortfall = math.nan if nothing else expected_shortfall(book)
    worst = np.argsort(book, kind="stable")[: int((n - 1) * 0.05) + 1]
    by_shortfall = np.full(len(labels), math.nan) if nothing else parts[:, worst].mean(axis=1)
    alone = float(parts.std(axis=1, ddof=1).sum()) if moves else math.nan
    components = [
        {
            "label": label,
            "volatility": float(v),
            "volatility_share": float(v) / whole,
            "expected_shortfall": float(s),
            "expected_shortfall_share": float(s) / shortfall if shortfall != 0 else math.nan,
        }
        for label, v, s in zip(labels, by_volatility, by_shortfall, strict=True)
    ]
    return {
        "volatility": whole,
        "expected_shortfall": shortfall,
        "diversification_ratio": alone / deviation,
        "components": components,
    }
