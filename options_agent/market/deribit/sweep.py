"""One snapshot of one chain: from the socket where it is up, completed or wholly made by a sweep over HTTP, written with its gaps.

What is cheaper: a socket pays once for every five hundred contracts and then hears them all; HTTP pays for every contract and
sweep (800 contracts at 20 a second are 40 seconds of skew), or once for a summary without greeks, sizes and bid and ask volatility.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from options_agent.errors import ExchangeError
from options_agent.lake.raw import write_snapshot
from options_agent.lake.sweeps import note_of, with_sweep
from options_agent.market.deribit.chain import currency_of, index_of
from options_agent.market.deribit.replies import NOT_FOUND, RefusalError, as_documented

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from options_agent.lake.store import Lake
    from options_agent.market.clock import Clock
    from options_agent.market.deribit.chain import LiveChain
    from options_agent.market.deribit.http import Caller
    from options_agent.market.deribit.link import Link
    from options_agent.settings import Settings

#: How often it is looked whether the socket has told every contract, market seconds.
_LOOK_EVERY: Final = 0.5
#: And not oftener than this in wall seconds, however fast the market's time goes.
_LEAST_WALL: Final = 0.05
#: Looks without one more contract after which nearly all are taken for all that will come.
_QUIET_LOOKS: Final = 3
#: Tickers asked for at once over HTTP.
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot that was taken, or missed (`rows` 0). `missing`: listed contracts without a row; `skew_seconds`: of its rows' `ts`."""

    underlying: str
    snapshot: dt.datetime
    rows: int
    missing: int
    transport: str
    skew_seconds: float
    cause: str | None = None


@dataclass(slots=True)
class Sweeper:
    """Takes the snapshots of one grid time. The summary of a currency is asked for once, for all its families.

    One that begins late (a schedule's run takes its time to start) has as long for its work as one that begins in time.
    """

    settings: Settings
    clock: Clock
    chain: LiveChain
    caller: Caller
    link: Link
    index_told: Callable[[str, float, int], None]
    """called with family, price (USD) and when it was heard (microseconds) of an index price that was asked for"""
    _summed: dict[str, int] = field(default_factory=dict)
    _begun: dt.datetime = field(init=False)

    def __post_init__(self) -> None:
        self._begun = self.clock.now()

    async def take(self, lake: Lake, underlying: str, at: dt.datetime) -> Taken:
        """Take, write and describe the snapshot of a family at a grid time.

        Raises:
            ExchangeError: not one row could be had.
            StorageError: it cannot be written.
        """
        started, limits = self.clock.now(), self.settings.deribit
        since = self.counts_from(at)
        due = max(at, self._begun - dt.timedelta(seconds=limits.settle_seconds))
        deadline = due + dt.timedelta(seconds=limits.sweep_seconds)
        socket = await self._heard(underlying, at, since, deadline)
        transport = "websocket" if socket else "http"
        failure = await self._ask(underlying, at, since, deadline, whole=limits.transport == "http" and not socket)
        if failure is not None and not socket:
            raise failure
        table = self.chain.table(underlying, at, heard_since=since, network=self.settings.network, region=self.settings.region)
        if table is None:
            if not self.chain.expected(underlying, at):
                raise ExchangeError(f"no option of {underlying} is listed", place=self.caller.url, remedy="check OPTIONS_AGENT_UNDERLYINGS")
            raise failure or ExchangeError(
                f"no quote of {underlying} was heard", place=self.caller.url, remedy="it is tried again at the next grid time"
            )
        cause = str(failure.message) if failure else "listed, but the exchange tells nothing of them"
        table = with_sweep(
            table,
            expected=self.chain.expected(underlying, at),
            transport=transport,
            started=started,
            ended=self.clock.now(),
            cause=cause,
        )
        await asyncio.to_thread(write_snapshot, lake, table)
        return _taken(table, underlying, at)

    def counts_from(self, at: dt.datetime) -> int:
        """From when on rows count, microseconds: fresh ones, and none from before a connection that was lost before the grid time."""
        fresh = self.clock.now_us() - round(self.settings.deribit.fresh_seconds * 1e6)
        lost = self.link.lost_at
        return max(fresh, lost) if lost is not None and lost < at.timestamp() * 1e6 else fresh

    async def _heard(self, underlying: str, at: dt.datetime, since: int, deadline: dt.datetime) -> bool:
        """Wait, not past half of the deadline, until the socket is up and has told every contract; whether it told any."""
        if self.settings.deribit.transport == "http":
            return False
        patience = deadline - dt.timedelta(seconds=self.settings.deribit.sweep_seconds / 2)
        left, looks = -1, 0
        while self.clock.now() < patience and (not self.link.up.is_set() or self.chain.stale(underlying, at, since)):
            former, left = left, self.chain.stale(underlying, at, since)
            looks = looks + 1 if left == former else 0
            if self.link.up.is_set() and looks >= _QUIET_LOOKS and left < len(self.chain.expected(underlying, at)) // 20:
                break  # nearly all are there and no more are coming: the summary tells of the rest, without sizes and greeks
            await self.clock.sleep(max(_LOOK_EVERY, _LEAST_WALL * self.clock.speed))
        return self.link.up.is_set()

    async def _ask(self, underlying: str, at: dt.datetime, since: int, deadline: dt.datetime, *, whole: bool) -> ExchangeError | None:
        """Ask for what was not heard: tickers one by one where HTTP is the transport and time allows, and the summary.

        The summary is asked for even where everything listed was heard: it tells of what was listed since.
        """
        failure: ExchangeError | None = None
        try:
            await self._index(underlying)
            if whole:
                failure = await self._tickers(underlying, at, since, deadline)
            currency = currency_of(underlying)
            if currency not in self._summed:
                told = await self.caller.call("public/get_book_summary_by_currency", {"currency": currency, "kind": "option"}, tries=2)
                with as_documented("public/get_book_summary_by_currency", self.caller.url):
                    self.chain.hear_summary(told, self.clock.now_us(), since)
                self._summed[currency] = self.clock.now_us()
        except ExchangeError as error:
            return error
        return failure

    async def _index(self, underlying: str) -> None:
        known = self.chain.index.get(underlying)
        if known is None or self.clock.now_us() - known[1] > self.settings.deribit.fresh_seconds * 1e6:
            told = await self.caller.call("public/get_index_price", {"index_name": index_of(underlying)}, tries=2)
            with as_documented("public/get_index_price", self.caller.url):
                price = float(told["index_price"])
            self.index_told(underlying, price, self.clock.now_us())

    async def _tickers(self, underlying: str, at: dt.datetime, since: int, deadline: dt.datetime) -> ExchangeError | None:
        """Every contract's ticker, paced, until the deadline; returns the last failure, if any."""
        names = iter(self.chain.expected(underlying, at))
        failures: list[ExchangeError] = []

        async def work() -> None:
            for name in names:
                if self.clock.now() >= deadline or len(failures) > _AT_ONCE:
                    return
                try:
                    data = await self.caller.call("public/ticker", {"instrument_name": name}, tries=2)
                    with as_documented("public/ticker", self.caller.url):
                        self.chain.hear_ticker(data, self.clock.now_us())
                except RefusalError as error:
                    if error.code != NOT_FOUND:
                        failures.append(error)
                except ExchangeError as error:
                    failures.append(error)

        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
        return failures[-1] if failures else None


def _taken(table: pa.Table, underlying: str, at: dt.datetime) -> Taken:
    note = note_of(table) or {}
    return Taken(underlying, at, table.num_rows, len(note["missing"]), note["transport"], note["skew_seconds"], note["cause"])
