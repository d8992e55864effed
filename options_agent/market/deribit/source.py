"""Source `deribit` behind the protocol of all sources: a live chain now, and of the past only what the exchange keeps."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import DataError
from options_agent.lake.events import events
from options_agent.lake.receipts import fingerprint
from options_agent.market.clock import WALL
from options_agent.market.deribit.harvester import Harvested, harvest
from options_agent.market.deribit.history import dvol_table, funding_table, index_table
from options_agent.market.deribit.http import Caller
from options_agent.market.deribit.market_time import clock_of, in_market_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import pyarrow as pa

    from options_agent.lake.store import Lake
    from options_agent.settings import Network, Settings

VERSION: Final = 1


def harvest_now(settings: Settings, lake: Lake) -> Harvested:
    """One snapshot of every underlying, the newest grid time; the schedule's way into `harvester.harvest`.

    Raises:
        ServiceError: the network is synthetic and no box answers.
        StorageError: the lake cannot be written.
    """

    async def once() -> Harvested:
        clock = await clock_of(settings)
        return await harvest(in_market_time(settings, clock), lake, clock=clock, snapshots=1)

    return asyncio.run(once())


def harvester_runs(settings: Settings, lake: Lake, now: dt.datetime) -> bool:
    """Whether a long-running harvester of this region wrote that it was alive within two intervals, and not that it stopped."""
    told = events(lake, (now - dt.timedelta(days=1)).date(), now.date(), "deribit", settings.region)
    signs = [event for event in told if event.kind in {"started", "alive", "connected", "stopped"}]
    recent = now - 2 * dt.timedelta(minutes=settings.live_interval_minutes)
    return bool(signs) and signs[-1].kind != "stopped" and signs[-1].at >= recent


@dataclass(frozen=True, slots=True)
class DeribitSource:
    """The exchange of the settings' network. Chains of the past cannot be had from it: `snapshots` is empty, `prices`, `dvol` and
    `funding` are its history.
    """

    settings: Settings
    name: str = "deribit"
    live: bool = True

    @property
    def network(self) -> Network:
        """The settings' own."""
        return self.settings.network

    def underlyings(self) -> tuple[str, ...]:
        """Those of the settings: the exchange lists them by currency."""
        return self.settings.underlyings

    def span(self, underlying: str) -> tuple[dt.datetime, dt.datetime] | None:
        """None: the market has no end."""
        return None

    def interval(self, underlying: str) -> dt.timedelta:
        """The grid of the live harvest."""
        return dt.timedelta(minutes=self.settings.live_interval_minutes)

    def snapshots(self, underlying: str, start: dt.datetime, end: dt.datetime) -> Iterator[pa.Table]:
        """Nothing: what was not harvested live is gone (a vendor has it: source `tardis`)."""
        return iter(())

    def latest(self, underlying: str, now: dt.datetime) -> pa.Table | None:
        """Not by itself: a sweep is written as it is taken."""
        raise DataError(
            "the live chain is harvested into a lake, not handed out",
            place=self.settings.exchange_url,
            remedy="call market.deribit.source.harvest_now, or run `options-agent harvest`",
        )

    def prices(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """Closes of the perpetual every five minutes and delivery prices. Raises ExchangeError."""
        return self._ask(index_table, underlying, start, end)

    def dvol(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """Hourly bars of the volatility index. Raises ExchangeError."""
        return self._ask(dvol_table, underlying, start, end)

    def funding(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """Hourly funding of the perpetual. Raises ExchangeError."""
        return self._ask(funding_table, underlying, start, end)

    def fingerprint(self, underlying: str, start: dt.datetime, end: dt.datetime) -> str:
        """Of the range alone: the past of an exchange does not change."""
        return fingerprint("deribit", VERSION, self.settings.network, self.settings.exchange_url, underlying, start, end)

    def _ask(self, what: Callable[..., Awaitable[pa.Table]], underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        async def ask() -> Any:
            clock = await clock_of(self.settings) if self.settings.network == "synthetic" else WALL
            async with Caller(self.settings, clock) as caller:
                return await what(caller, underlying, start, end)

        return asyncio.run(ask())
