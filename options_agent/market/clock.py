"""The clock of a market: the wall's for a real exchange, a faster or displaced one for the exchange in a box."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from dataclasses import dataclass, field

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """Market time as a straight line through wall time. What is paced, scheduled and stamped goes by it; time-outs of sockets do not.

    `origin` is the market time in microseconds since 1970 at the wall instant `began` (`time.time()`, seconds); `speed` is market
    seconds per wall second. Processes that share the three numbers share the clock.
    """

    speed: float = 1.0
    origin: int = 0
    began: float = 0.0
    _wall: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_wall", not self.origin)

    def now_us(self) -> int:
        """Microseconds since 1970."""
        if self._wall:
            return time.time_ns() // 1_000
        return self.origin + round((time.time() - self.began) * self.speed * 1e6)

    def now(self) -> dt.datetime:
        """UTC."""
        return _EPOCH + dt.timedelta(microseconds=self.now_us())

    def seconds(self) -> float:
        """Market seconds on a scale of its own: for differences."""
        return self.now_us() / 1e6

    async def sleep(self, seconds: float) -> None:
        """Wait market seconds."""
        await asyncio.sleep(max(seconds, 0.0) / self.speed)

    async def sleep_until(self, at: dt.datetime) -> None:
        """Wait until market time `at`; returns at once where it is past."""
        while (left := (at - self.now()).total_seconds()) > 0:
            await self.sleep(left)


#: The wall's clock.
WALL = Clock()


def clock_at(start: dt.datetime, speed: float) -> Clock:
    """A clock that reads `start` now and runs `speed` times as fast as the wall's."""
    return Clock(speed, round((start - _EPOCH) / dt.timedelta(microseconds=1)), time.time())
