"""Credits as the exchange counts them: a pool that refills, costs a request draws on it, and an empty one ends the session.

The same arithmetic paces our own client (`market.deribit.pacing`), from the other side: it waits where this refuses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

#: Methods with a pool of their own beside the common one: cost, size, refill a second (credits).
SUBSCRIBE: Final = ("subscribe", 3_000.0, 30_000.0, 10_000.0)
INSTRUMENTS: Final = ("get_instruments", 10_000.0, 50_000.0, 10_000.0)
COMMON: Final = ("request", 500.0, 50_000.0, 10_000.0)
#: Orders: 5 a second, burst 20.
MATCHING: Final = ("matching", 1.0, 20.0, 5.0)
_OF_METHOD: Final = {
    "public/subscribe": SUBSCRIBE,
    "private/subscribe": SUBSCRIBE,
    "public/get_instruments": INSTRUMENTS,
    **{
        f"private/{name}": MATCHING
        for name in ("buy", "sell", "edit", "cancel", "cancel_all", "cancel_by_label", "cancel_all_by_currency", "close_position")
    },
}


@dataclass(slots=True)
class Pool:
    """A leaky bucket in credits; `at` is the market second it was last brought up to date."""

    size: float
    refill: float
    level: float
    at: float

    def take(self, cost: float, now: float) -> bool:
        """Draw `cost`; False, and nothing drawn, where there is not enough."""
        self.level = min(self.size, self.level + max(now - self.at, 0.0) * self.refill)
        self.at = now
        if self.level < cost:
            return False
        self.level -= cost
        return True


@dataclass(slots=True)
class Account:
    """The pools of one payer: an API key, or an address where nobody logged in."""

    pools: dict[str, Pool] = field(default_factory=dict)
    refused: int = 0
    charged: int = 0

    def charge(self, method: str, now: float, scale: float = 1.0) -> bool:
        """Pay for a call at market second `now`; False where the pool is drained.

        Args:
            method: `public/ticker`.
            now: market seconds.
            scale: how many times larger the pools are than the exchange's (0 = no limits).
        """
        if not scale:
            return True
        self.charged += 1
        name, cost, size, refill = _OF_METHOD.get(method, COMMON)
        pool = self.pools.setdefault(name, Pool(size * scale, refill * scale, size * scale, now))
        if pool.take(cost, now):
            return True
        self.refused += 1
        return False
