"""Delivery prices: the exchange's 30-minute index average where the price series allows, else the nearest price, said.

The chain itself cannot settle: an option's last quote is hours before its expiry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MINUTE_US: Final = 60_000_000
METHODS: Final = ("none", "index_30m_average", "nearest_price", "too_far")
NONE, AVERAGE, NEAREST, TOO_FAR = range(4)
#: The average is taken where the window has this many index prices and none of its gaps is longer than this.
LEAST_POINTS: Final = 3
LONGEST_GAP_US: Final = 11 * MINUTE_US


@dataclass(frozen=True, slots=True)
class Settlement:
    """Delivery prices of expiries, each (expiries,).

    Attributes:
        price: USD, NaN where there is no price at all.
        known_at: microseconds, when the desk could know it; never before the expiry.
        method: index into `METHODS`.
        distance: minutes between the expiry and the price taken; 0 for the average.
    """

    price: NDArray[np.float64]
    known_at: NDArray[np.int64]
    method: NDArray[np.int64]
    distance: NDArray[np.float64]


def settle(
    expiry_us: NDArray[np.int64],
    ts_us: NDArray[np.int64],
    price: NDArray[np.float64],
    is_index: NDArray[np.bool_],
    *,
    window_minutes: int,
    max_distance_minutes: int,
) -> Settlement:
    """Delivery price of each expiry.

    Args:
        expiry_us: (expiries,) microseconds.
        ts_us, price: (prices,) ascending in time; USD.
        is_index: (prices,) whether the price is the exchange's index; only those are averaged.
        window_minutes: length of the average, up to and including the expiry.
        max_distance_minutes: a nearest price farther than this is marked `too_far`.
    """
    n = expiry_us.size
    out = Settlement(np.full(n, np.nan), expiry_us.copy(), np.zeros(n, dtype=np.int64), np.full(n, np.nan))
    index_ts, index_price = ts_us[is_index], price[is_index]
    window = window_minutes * MINUTE_US
    for i, expiry in enumerate(expiry_us):
        first, last = np.searchsorted(index_ts, expiry - window, side="right"), np.searchsorted(index_ts, expiry, side="right")
        inside = index_ts[first:last]
        if inside.size >= LEAST_POINTS and np.diff(np.concatenate([[expiry - window], inside, [expiry]])).max() <= LONGEST_GAP_US:
            out.price[i], out.method[i], out.distance[i] = index_price[first:last].mean(), AVERAGE, 0.0
            continue
        if ts_us.size == 0:
            continue
        after = int(np.searchsorted(ts_us, expiry))
        candidates = [j for j in (after - 1, after) if 0 <= j < ts_us.size]
        best = min(candidates, key=lambda j: abs(int(ts_us[j]) - int(expiry)))
        distance = abs(int(ts_us[best]) - int(expiry)) / MINUTE_US
        out.price[i], out.distance[i] = price[best], distance
        out.method[i] = NEAREST if distance <= max_distance_minutes else TOO_FAR
        # only when as much time has passed after the expiry is it sure that no nearer price will come
        out.known_at[i] = int(expiry) + abs(int(ts_us[best]) - int(expiry))
    return out
