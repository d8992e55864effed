"""Staying under the exchange's credit limits: every call waits until the pool it draws on can pay for it.

The exchange ends the session of who overdraws, so a share of each pool is left alone (`credit_share`): its clock and ours do not
run alike, and others may call from the same address.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from options_agent.market.clock import Clock

#: Pools by name: what a call costs, the pool's size, its refill a second, all in credits. From the exchange's page on rate limits.
POOLS: Final[dict[str, tuple[float, float, float]]] = {
    "request": (500.0, 50_000.0, 10_000.0),
    "subscribe": (3_000.0, 30_000.0, 10_000.0),
    "get_instruments": (10_000.0, 50_000.0, 10_000.0),
    "matching": (1.0, 20.0, 5.0),
}
_POOL_OF: Final = {
    "public/subscribe": "subscribe",
    "private/subscribe": "subscribe",
    "public/get_instruments": "get_instruments",
    **{
        f"private/{name}": "matching"
        for name in ("buy", "sell", "edit", "cancel", "cancel_all", "cancel_by_label", "cancel_all_by_currency", "close_position")
    },
}


def pool_of(method: str) -> str:
    """The pool a method draws on."""
    return _POOL_OF.get(method, "request")


@dataclass(slots=True)
class Pacer:
    """Pools as this client sees them. Market seconds; calls are served in the order they came."""

    clock: Clock
    share: float = 0.8
    waited_seconds: float = 0.0
    _levels: dict[str, tuple[float, float]] = field(default_factory=dict)

    async def pay(self, method: str) -> None:
        """Return when the call may be sent."""
        if (wait := self.reserve(method, self.clock.seconds())) > 0:
            self.waited_seconds += wait
            await self.clock.sleep(wait)

    def reserve(self, method: str, now: float) -> float:
        """Draw a call's cost at market second `now`, into debt where need be; returns the seconds until it is covered."""
        name = pool_of(method)
        cost, size, refill = POOLS[name]
        size, refill = max(size * self.share, cost), refill * self.share
        level, at = self._levels.get(name, (size, now))
        level = min(size, level + max(now - at, 0.0) * refill) - cost
        self._levels[name] = (level, max(now, at))
        return max(-level / refill, 0.0)

    def drained(self, now: float) -> None:
        """The exchange says the pools are empty: begin from nothing."""
        self._levels = {name: (min(self._levels.get(name, (0.0, now))[0], 0.0), now) for name in POOLS}
