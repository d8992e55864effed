"""How BTC and ETH move together as known at each time, and how much smaller that makes an entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
#: A window with less than this share of its returns says nothing.
LEAST_COVERAGE: Final = 0.5


def causal_correlation(
    known_at: NDArray[np.int64],
    ts_a: NDArray[np.int64],
    price_a: NDArray[np.float64],
    ts_b: NDArray[np.int64],
    price_b: NDArray[np.float64],
    window_days: float = 30.0,
    step_hours: float = 8.0,
) -> NDArray[np.float64]:
    """Correlation of log returns of two prices over the window before each time; NaN where under half of it is covered.

    Args:
        known_at: (n,) microseconds, ascending.
        ts_a, price_a, ts_b, price_b: prices by when they were known, ascending; USD.
        window_days, step_hours: length of the window and of its returns.
    """
    out = np.full(known_at.size, np.nan)
    if known_at.size == 0 or ts_a.size == 0 or ts_b.size == 0:
        return out
    step = int(step_hours * HOUR_US)
    grid = np.arange(min(ts_a[0], ts_b[0]) // step * step, known_at[-1] + 1, step)
    a, b = _returns(grid, ts_a, price_a, step), _returns(grid, ts_b, price_b, step)
    both = np.isfinite(a) & np.isfinite(b)
    a, b = np.where(both, a, 0.0), np.where(both, b, 0.0)
    sums = [np.append(0.0, np.cumsum(x)) for x in (both.astype(np.float64), a, b, a * a, b * b, a * b)]
    last = np.searchsorted(grid[1:], known_at, side="right")  # returns that had ended by then
    width = round(window_days * DAY_US / step)
    n, sa, sb, aa, bb, ab = (s[last] - s[np.maximum(last - width, 0)] for s in sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        cov, va, vb = ab - sa * sb / n, aa - sa * sa / n, bb - sb * sb / n
        found = cov / np.sqrt(va * vb)
    return np.where((n >= LEAST_COVERAGE * width) & np.isfinite(found), np.clip(found, -1.0, 1.0), np.nan)


def _returns(grid: NDArray[np.int64], ts: NDArray[np.int64], price: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """Log returns between grid times; NaN where an end has no price of its own step."""
    at = np.searchsorted(ts, grid, side="right") - 1
    fresh = (at >= 0) & (grid - ts[np.maximum(at, 0)] < step)
    level = np.where(fresh, np.log(price[np.maximum(at, 0)]), np.nan)
    return np.diff(level)


def size_factor(correlation: NDArray[np.float64], full_below: float = 0.5, least: float = 0.5) -> NDArray[np.float64]:
    """What an entry's size is multiplied by: 1 up to `full_below` (under 1), falling in a line to `least` at a correlation of 1.

    An unknown correlation counts as 1: the prudent choice.

    Raises:
        SettingsError: `full_below` is not under 1.
    """
    if not full_below < 1.0:
        raise SettingsError(f"full_below={full_below:g} leaves no room to fall in", remedy="a correlation under 1")
    known = np.where(np.isfinite(correlation), correlation, 1.0)
    return 1.0 - (1.0 - least) * np.clip((known - full_below) / (1.0 - full_below), 0.0, 1.0)
