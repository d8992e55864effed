"""Coming back after a lost connection: how long it waits, and what it tells."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from options_agent.market.clock import Clock
from options_agent.market.deribit.link import Link
from options_agent.market.deribit.pacing import Pacer
from options_agent.settings import load_settings

ATTEMPTS = 12


@dataclass(frozen=True, slots=True)
class CountingClock(Clock):
    """Waits nothing, and remembers what it was asked to wait; after some attempts the test is over."""

    waits: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        if len(self.waits) >= ATTEMPTS:
            raise asyncio.CancelledError
        await asyncio.sleep(0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_wait_doubles_to_its_most_with_jitter_and_the_loss_is_told_each_time(tmp_path: Path) -> None:
    settings = load_settings(
        home=tmp_path,
        network="synthetic",
        deribit={"url": f"http://127.0.0.1:{_free_port()}", "backoff_seconds": 1.0, "backoff_most_seconds": 60.0},
        _env_file=None,
    )
    clock, told = CountingClock(), list[tuple[str, str]]()
    nothing: Any = None
    link = Link(settings, clock, Pacer(clock), nothing, nothing, lambda kind, why: told.append((kind, why)))

    async def work() -> None:
        task = asyncio.create_task(link.keep())
        await asyncio.wait([task])

    asyncio.run(work())
    for attempt, wait in enumerate(clock.waits, 1):
        most = min(2.0**attempt, 60.0)
        assert most / 2 <= wait <= most
    assert len(set(clock.waits[6:])) > 1, "harvesters that lost the exchange together do not come back together"
    assert {kind for kind, _ in told} == {"disconnected"}
    assert all("cannot be opened" in why for _, why in told)
    assert (link.connections, link.lost_at) == (0, None), "nothing was ever connected, so nothing was lost"
