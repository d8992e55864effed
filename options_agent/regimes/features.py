"""Causal features: trend and realised volatility from prices, implied volatility, skew and slope from chains.

The feature at time t uses prices and rows with ts <= t only. Realised volatility comes from prices, never from an
implied one. A window that is not filled gives null, not a number from half of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.contracts import SECONDS_PER_YEAR
from options_agent.errors import DataError
from options_agent.quotes import UTC_US
from options_agent.regimes.surface import constant_maturity, smile_points

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from options_agent.regimes.surface import Floats, Ints

DAY_US: Final = 86_400_000_000
HOUR_US: Final = 3_600_000_000
YEAR_US: Final = SECONDS_PER_YEAR * 1e6

#: Which price series realised volatility is measured on, best first; series are never mixed within a window.
SETTLING_DAYS: Final = 2
KINDS: Final = ("index", "perpetual", "spot", "chain")

CHAIN_COLUMNS: Final = ("ts", "snapshot", "expiry", "strike", "right", "mark_iv", "delta", "forward")

FEATURES: Final = ("price", "trend_return", "trend_score", "realised_vol", "implied_vol", "skew", "term_slope")


@dataclass(frozen=True, slots=True)
class Windows:
    """Lengths, in days, and the share of a window's hours that must have a fresh price."""

    trend_days: float = 10.0
    realised_days: float = 10.0
    coverage: float = 0.9
    near_days: float = 7.0
    mid_days: float = 30.0
    far_days: float = 90.0


def features(chain: pa.Table, prices: pa.Table, windows: Windows | None = None) -> pa.Table:
    """Features at each snapshot of a chain.

    Args:
        chain: clean quotes of one underlying with `CHAIN_COLUMNS`, any order.
        prices: `PRICE_SCHEMA` of the same underlying, any order, any kinds.

    Returns:
        One row per snapshot, ascending: `ts` (when the snapshot's last row was known), `price` (USD), `trend_return`
        (log return over the window), `trend_score` (that return over its realised standard deviation), `realised_vol`,
        `implied_vol` (30 days, at the money), `skew` (25-delta put minus call IV near 30 days), `term_slope` (90-day
        minus 7-day IV); volatilities are decimal per year, null where a window or wing is not filled.
    """
    windows = windows or Windows()
    known, implied, skew, slope = _chain_features(chain, windows)
    price, trend, score, realised = _price_features(known, prices, windows)
    columns = {"price": price, "trend_return": trend, "trend_score": score, "realised_vol": realised}
    columns |= {"implied_vol": implied, "skew": skew, "term_slope": slope}
    arrays = [pa.array(known, pa.int64()).cast(pa.timestamp("us")).cast(UTC_US)]
    arrays += [pa.array(columns[name], pa.float64(), from_pandas=True) for name in FEATURES]
    return pa.Table.from_arrays(arrays, names=["ts", *FEATURES])


def _chain_features(chain: pa.Table, windows: Windows) -> tuple[Ints, Floats, Floats, Floats]:
    if chain.num_rows == 0:
        none = np.empty(0)
        return np.empty(0, np.int64), none, none, none
    ts, snapshot, expiry = (_micros(chain, name) for name in ("ts", "snapshot", "expiry"))
    strike, iv, delta, forward = (_floats(chain, name) for name in ("strike", "mark_iv", "delta", "forward"))
    is_call = np.asarray(pc.equal(chain["right"], "C").combine_chunks())
    order = np.lexsort((strike, expiry, snapshot))
    snapshot, expiry, strike = snapshot[order], expiry[order], strike[order]
    smile_starts = _starts((snapshot[1:] != snapshot[:-1]) | (expiry[1:] != expiry[:-1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        moneyness = np.log(strike / forward[order])
    points = smile_points(np.append(smile_starts, order.size), moneyness, iv[order], delta[order], is_call[order])
    snapshot_starts = _starts(snapshot[smile_starts][1:] != snapshot[smile_starts][:-1])
    offsets = np.append(snapshot_starts, smile_starts.size)
    row_starts = smile_starts[snapshot_starts]
    known = np.maximum.reduceat(ts[order], row_starts)
    years = (expiry[smile_starts] - np.repeat(known, np.diff(offsets))) / YEAR_US
    near, mid, far = (
        constant_maturity(offsets, years, points[:, 0], d / 365.0) for d in (windows.near_days, windows.mid_days, windows.far_days)
    )
    wings = points[:, 1] - points[:, 2]
    skew = _nearest(offsets, years, wings, windows.mid_days / 365.0)
    # two sweeps may end at the same instant only if their snapshots do not; keep time strictly ascending for as-of joins
    by_time = np.argsort(known, kind="stable")
    return known[by_time], mid[by_time], skew[by_time], (far - near)[by_time]


def _price_features(known: Ints, prices: pa.Table, windows: Windows) -> tuple[Floats, Floats, Floats, Floats]:
    now = _as_of(known, prices)
    ts, price, spacing = _one_kind(prices)
    if ts.size == 0 or known.size == 0 or known[-1] < ts[0] + spacing:
        blank = np.full(known.size, np.nan)
        return now, blank, blank.copy(), blank.copy()
    hours = np.arange(ts[0] - ts[0] % spacing + spacing, known[-1] + 1, spacing)
    at = np.searchsorted(ts, hours, side="right") - 1
    fresh = (hours - ts[at]) < spacing
    logs = np.log(price[at])
    squared = np.append(0.0, np.cumsum(np.append(0.0, np.diff(logs) ** 2)))
    counted = np.append(0, np.cumsum(fresh))
    realised = _realised(known, hours, squared, counted, spacing, windows)
    steps = int(windows.trend_days * DAY_US // spacing)
    last = np.searchsorted(hours, known, side="right") - 1
    first = last - steps
    filled = (first >= 0) & (_share(counted, first, last) >= windows.coverage)
    trend = np.where(filled, logs[np.maximum(last, 0)] - logs[np.maximum(first, 0)], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = trend / (realised * np.sqrt(windows.trend_days / 365.0))
    return now, trend, score, realised


def _realised(known: Ints, hours: Ints, squared: Floats, counted: Ints, spacing: int, windows: Windows) -> Floats:
    """Root of the summed squared log returns of the window, annualised with 365 days."""
    steps = int(windows.realised_days * DAY_US // spacing)
    last = np.searchsorted(hours, known, side="right") - 1
    first = last - steps
    total = squared[np.maximum(last, 0) + 1] - squared[np.maximum(first, 0) + 1]
    filled = (first >= 0) & (_share(counted, first, last) >= windows.coverage)
    return np.where(filled, np.sqrt(np.maximum(total, 0.0) * YEAR_US / (steps * spacing)), np.nan)


def _share(counted: Ints, first: Ints, last: Ints) -> Floats:
    first, last = np.maximum(first, 0), np.maximum(last, 0)
    return np.asarray((counted[last + 1] - counted[first]) / np.maximum(last - first + 1, 1), dtype=np.float64)


def _one_kind(prices: pa.Table) -> tuple[Ints, Floats, int]:
    """Times, prices and grid (microseconds) of the preferred kind there is enough of.

    Kind and grid are settled by the first days alone, which no filled window ends in, so that later prices change
    neither.
    """
    if prices.num_rows == 0:
        return np.empty(0, np.int64), np.empty(0), HOUR_US
    everything = _micros(prices, "ts")
    settled = everything.min() + SETTLING_DAYS * DAY_US
    early = prices.filter(pa.array(everything <= settled))
    hours = {k: np.unique(_micros(early.filter(pc.equal(early["kind"], k)), "ts") // HOUR_US).size for k in KINDS}
    kind = next((k for k in KINDS if hours[k] and 2 * hours[k] >= max(hours.values())), None)
    if kind is None:
        raise DataError(f"no price is of a kind known here: {pc.unique(prices['kind']).to_pylist()}", remedy=f"one of {KINDS}")
    part = prices.filter(pc.equal(prices["kind"], kind))
    ts, price = _in_time_order(part)
    return ts, price, _grid(ts[ts <= settled])


def _in_time_order(prices: pa.Table) -> tuple[Ints, Floats]:
    ts, price = _micros(prices, "ts"), _floats(prices, "price")
    order = np.argsort(ts, kind="stable")
    return ts[order], price[order]


def _as_of(known: Ints, prices: pa.Table) -> Floats:
    """The last price of any kind at each known time, NaN before the first."""
    if prices.num_rows == 0:
        return np.full(known.size, np.nan)
    ts, price = _in_time_order(prices)
    latest = np.searchsorted(ts, known, side="right") - 1
    return np.where(latest >= 0, price[np.maximum(latest, 0)], np.nan)


def _grid(ts: Ints) -> int:
    """An hour, or the series' own spacing where it is coarser, in microseconds."""
    typical = int(np.median(np.diff(ts))) if ts.size > 1 else HOUR_US
    return max(HOUR_US, -(-typical // HOUR_US) * HOUR_US)


def _nearest(offsets: Ints, years: Floats, values: Floats, target: float) -> Floats:
    out = np.full(offsets.size - 1, np.nan)
    for s in range(offsets.size - 1):
        part = slice(offsets[s], offsets[s + 1])
        usable = np.isfinite(values[part]) & (years[part] > 0)
        if usable.any():
            distance = np.where(usable, np.abs(np.log(np.maximum(years[part], 1e-9) / target)), np.inf)
            out[s] = values[part][int(np.argmin(distance))]
    return out


def _starts(changes: NDArray[np.bool_]) -> Ints:
    return np.append(0, np.flatnonzero(changes) + 1).astype(np.int64)


def _micros(table: pa.Table, name: str) -> Ints:
    return np.asarray(table[name].combine_chunks().cast(pa.int64()), dtype=np.int64)


def _floats(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].combine_chunks().to_numpy(zero_copy_only=False), dtype=np.float64)
