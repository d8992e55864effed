"""Delivery prices: the exchange's own where it was recorded, else its 30-minute index average, else the nearest price, said.

The chain itself cannot settle: an option's last quote is hours before its expiry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

MINUTE_US: Final = 60_000_000
METHODS: Final = ("none", "index_30m_average", "nearest_price", "too_far", "delivery_price")
NONE, AVERAGE, NEAREST, TOO_FAR, DELIVERED = range(5)
#: Kinds of prices, as `history.PRICE_KINDS` numbers them.
INDEX, DELIVERY = 1, 2
#: The average is taken where the window has this many index prices and none of its gaps is longer than this.
LEAST_POINTS: Final = 3
LONGEST_GAP_US: Final = 11 * MINUTE_US
#: The exchange publishes a delivery price within this time of the expiry.
PUBLISHED_WITHIN_US: Final = 60 * MINUTE_US


@dataclass(frozen=True, slots=True)
class Settlement:
    """Delivery prices of expiries, each (expiries,).

    Attributes:
        price: USD, NaN where there is no price at all.
        known_at: microseconds, when the desk could know it; never before the expiry.
        method: index into `METHODS`.
        distance: minutes between the expiry and the price taken; 0 for the average and the exchange's own.
    """

    price: NDArray[np.float64]
    known_at: NDArray[np.int64]
    method: NDArray[np.int64]
    distance: NDArray[np.float64]

    def of(self, which: NDArray[np.int64]) -> Settlement:
        """Those of the expiries at these places."""
        return Settlement(self.price[which], self.known_at[which], self.method[which], self.distance[which])


def settle(
    expiry_us: NDArray[np.int64],
    ts_us: NDArray[np.int64],
    price: NDArray[np.float64],
    kind: NDArray[np.int8],
    *,
    window_minutes: int,
    max_distance_minutes: int,
) -> Settlement:
    """Delivery price of each expiry.

    Args:
        expiry_us: (expiries,) microseconds.
        ts_us, price: (prices,) ascending in time; USD.
        kind: (prices,) `INDEX`, `DELIVERY` or other; only index prices are averaged.
        window_minutes: length of the average, up to and including the expiry.
        max_distance_minutes: a nearest price farther than this is marked `too_far`.
    """
    own, index = kind == DELIVERY, kind == INDEX
    rest, n = ~own, expiry_us.size
    found = Settlement(np.full(n, np.nan), np.array(expiry_us, np.int64), np.zeros(n, np.int64), np.full(n, np.nan))
    _settle(
        np.ascontiguousarray(expiry_us),
        ts_us[own],
        price[own],
        ts_us[index],
        price[index],
        ts_us[rest],
        price[rest],
        window_minutes * MINUTE_US,
        max_distance_minutes,
        found.price,
        found.known_at,
        found.method,
        found.distance,
    )
    return found


@compiled()
def _settle(
    expiry_us: NDArray[np.int64],
    own_ts: NDArray[np.int64],
    own_price: NDArray[np.float64],
    index_ts: NDArray[np.int64],
    index_price: NDArray[np.float64],
    ts: NDArray[np.int64],
    price: NDArray[np.float64],
    window: int,
    farthest: int,
    out: NDArray[np.float64],
    known: NDArray[np.int64],
    method: NDArray[np.int64],
    distance: NDArray[np.float64],
) -> None:
    """Fill the last four, which hold what is true where there is no price."""
    for i in range(expiry_us.size):
        expiry = expiry_us[i]
        at = np.searchsorted(own_ts, expiry)
        if at < own_ts.size and own_ts[at] <= expiry + PUBLISHED_WITHIN_US:
            out[i], known[i], method[i], distance[i] = own_price[at], own_ts[at], DELIVERED, 0.0
            continue
        first, last = np.searchsorted(index_ts, expiry - window, side="right"), np.searchsorted(index_ts, expiry, side="right")
        longest, former, total = 0, expiry - window, 0.0
        for j in range(first, last):
            longest, former = max(longest, index_ts[j] - former), index_ts[j]
            total += index_price[j]
        longest = max(longest, expiry - former)
        if last - first >= LEAST_POINTS and longest <= LONGEST_GAP_US:
            out[i], method[i], distance[i] = total / (last - first), AVERAGE, 0.0
            continue
        if ts.size == 0:
            continue
        best = np.searchsorted(ts, expiry)
        if best == ts.size or (best > 0 and expiry - ts[best - 1] <= ts[best] - expiry):
            best -= 1
        away = abs(ts[best] - expiry)
        out[i], distance[i] = price[best], away / MINUTE_US
        method[i] = NEAREST if distance[i] <= farthest else TOO_FAR
        # only when as much time has passed after the expiry is it sure that no nearer price will come
        known[i] = expiry + away
