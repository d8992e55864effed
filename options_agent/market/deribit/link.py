"""Keeping a connection: opened, subscribed, watched, and opened again with backoff and jitter when it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import ExchangeError
from options_agent.market.deribit.replies import MAINTENANCE, TOO_MANY_REQUESTS, RefusalError
from options_agent.market.deribit.socket import Socket

if TYPE_CHECKING:
    from options_agent.market.clock import Clock
    from options_agent.market.deribit.pacing import Pacer
    from options_agent.settings import Settings

_DICE: Final = random.Random()  # noqa: S311 - jitter

#: What is told of the connection: kind of event, and why.
Told = Callable[[str, str], None]


@dataclass(slots=True)
class Link:
    """A connection that comes back. `up` is set while the socket is open and `opened` has done its work on it."""

    settings: Settings
    clock: Clock
    pacer: Pacer
    listener: Callable[[str, Any], None]
    opened: Callable[[Socket], Awaitable[None]]
    told: Told
    up: asyncio.Event = field(default_factory=asyncio.Event)
    socket: Socket | None = None
    cause: str = "never connected"
    connections: int = 0
    lost_at: int | None = None
    """when the last connection ended, microseconds of market time"""

    async def keep(self) -> None:
        """Connect, and again whenever the connection ends, until cancelled."""
        failures = 0
        while True:
            try:
                await self._once()
                failures = 0
            except ExchangeError as error:
                self.cause = _cause(error)
                failures += 1
            self.told("rate_limited" if self.cause == "rate_limited" else "disconnected", self.cause)
            limits = self.settings.deribit
            wait = min(limits.backoff_seconds * 2.0 ** min(failures, 16), limits.backoff_most_seconds)
            await self.clock.sleep(wait * _DICE.uniform(0.5, 1.0))

    async def _once(self) -> None:
        """One connection, from its opening to its end.

        Raises:
            ExchangeError: it could not be opened, or what is done on opening failed.
        """
        try:
            async with Socket(self.settings, self.pacer, self.listener) as socket:
                self.socket = socket
                await self.opened(socket)
                self.connections += 1
                self.told("connected", f"connection {self.connections}")
                self.up.set()
                await socket.watch()
                self.cause = socket.reason
        except RefusalError as error:
            if error.code == TOO_MANY_REQUESTS:
                self.pacer.drained(self.clock.seconds())
            raise
        finally:
            if self.socket is not None:
                self.lost_at = self.clock.now_us()
            self.up.clear()
            self.socket = None


def _cause(error: ExchangeError) -> str:
    if isinstance(error, RefusalError):
        return {TOO_MANY_REQUESTS: "rate_limited", MAINTENANCE: "maintenance"}.get(error.code, str(error.code))
    return error.message
