"""The live harvester: a connection that is kept, and at every grid time a snapshot of each chain, written with how whole it is.

The schedule and the long-running command call the same `harvest`: the one for a single snapshot, the other until it is stopped.
Killed at any instant it loses the snapshot in flight and nothing else. A lake that cannot be written for a while costs the snapshots of
that while, not the harvest.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import DataError, ExchangeError, OptionsAgentError, StorageError
from options_agent.lake.raw import snapshot_files
from options_agent.market.clock import WALL
from options_agent.market.deribit.beside import Beside, index_name_of, price_of
from options_agent.market.deribit.books import OrderBook, heal_book
from options_agent.market.deribit.chain import LiveChain, currency_of, index_of
from options_agent.market.deribit.http import Caller
from options_agent.market.deribit.journal import Journal
from options_agent.market.deribit.link import Link
from options_agent.market.deribit.replies import INVALID_PARAMS, MAINTENANCE, RefusalError, as_documented, contracts_of
from options_agent.market.deribit.sweep import Sweeper, Taken

if TYPE_CHECKING:
    from collections.abc import Callable

    from options_agent.lake.store import Lake
    from options_agent.market.clock import Clock
    from options_agent.market.deribit.socket import Socket
    from options_agent.settings import Settings

log = logging.getLogger("options_agent.harvest")

SOURCE: Final = "deribit"
#: A listing is asked for anew this long after the last time, whatever the channel of states said.
_RELIST: Final = dt.timedelta(hours=1)
#: Seconds between the exchange's clock and ours beyond which it is said.
_CLOCK_TOLERANCE: Final = 5.0


@dataclass(slots=True)
class Harvested:
    """What a harvest did.

    `refused`: calls that the exchange answered with an error of its own, also where asking again helped. `clock_offset_seconds`: how far
    the exchange's clock was ahead of ours when it was last compared.
    """

    snapshots: int = 0
    partial: int = 0
    missed: int = 0
    rows: int = 0
    connections: int = 0
    notifications: int = 0
    refused: int = 0
    books_healed: int = 0
    clock_offset_seconds: float = 0.0
    last: dict[str, dt.datetime] = field(default_factory=dict)


async def harvest(
    settings: Settings,
    lake: Lake,
    *,
    clock: Clock = WALL,
    stop: asyncio.Event | None = None,
    snapshots: int | None = None,
    told: Callable[[Taken], None] | None = None,
) -> Harvested:
    """Take a snapshot of every underlying at each grid time, until stopped or `snapshots` grid times are done.

    Args:
        settings: network, underlyings, region, `live_interval_minutes` and the group `deribit`.
        lake: where to; its network must be the settings'.
        clock: the market's clock: the wall's but for a box that runs fast.
        stop: set it to end after the snapshot in flight.
        snapshots: how many grid times; the first is the one just past. None = until stopped.
        told: called after each snapshot that was taken or missed.

    Raises:
        SettingsError, DataError: the settings and the lake do not belong together.
        StorageError: the lake cannot be written at the start, or, with `snapshots`, at any time; what was written stays whole.
    """
    return await _Harvester(settings, lake, clock, stop or asyncio.Event(), told).run(snapshots)


@dataclass(slots=True)
class _Harvester:
    settings: Settings
    lake: Lake
    clock: Clock
    stop: asyncio.Event
    told: Callable[[Taken], None] | None
    done: Harvested = field(default_factory=Harvested)
    chain: LiveChain = field(init=False)
    beside: Beside = field(init=False)
    caller: Caller = field(init=False)
    link: Link = field(init=False)
    journal: Journal = field(init=False)
    _families: dict[str, str] = field(init=False)
    _listed_at: dt.datetime | None = None
    _unlisted: dict[str, RefusalError] = field(default_factory=dict)
    _news: asyncio.Queue[tuple[dt.datetime, str, str]] = field(default_factory=asyncio.Queue)
    _connection_state: str = ""
    _writes: asyncio.Queue[tuple[str, str, Any]] = field(default_factory=asyncio.Queue)
    _relist: asyncio.Event = field(default_factory=asyncio.Event)
    _in_maintenance: bool = False
    _books: dict[str, OrderBook] = field(init=False)
    _healing: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.journal = Journal(self.lake, SOURCE, self.settings.region, self.clock)
        self.chain = LiveChain(self.settings.underlyings)
        self.beside = Beside(self.lake, self.settings.region, self.settings.deribit.prices_seconds)
        self.caller = Caller(self.settings, self.clock)
        self.link = Link(self.settings, self.clock, self.caller.pacer, self._hear, self._opened, self._connection)
        self._families = {index_of(u): u for u in self.settings.underlyings}
        self._books = {f"{u}-PERPETUAL": OrderBook(f"{u}-PERPETUAL") for u in self.settings.underlyings}

    async def run(self, snapshots: int | None) -> Harvested:
        self.journal.record("started", detail=f"network {self.settings.network}, {', '.join(self.settings.underlyings)}")
        self.journal.patient = snapshots is None
        async with self.caller:
            tasks = [asyncio.create_task(work) for work in (self._write_series(), self._follow_listing())]
            if self.settings.deribit.transport != "http":
                tasks.append(asyncio.create_task(self.link.keep()))
            try:
                await self._snapshots(snapshots, tasks)
            finally:
                tasks += self._healing.values()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                with contextlib.suppress(OptionsAgentError):
                    await self._flush_series()
                    self.journal.record("stopped")
        self.done.connections = self.link.connections
        self.done.refused += self.caller.refused
        return self.done

    async def _snapshots(self, wanted: int | None, tasks: list[asyncio.Task[None]]) -> None:
        """Grid time after grid time. A task that died is a fault of ours: it ends the harvest with its error."""
        step = dt.timedelta(minutes=self.settings.live_interval_minutes)
        at = first_grid_time(self.clock.now(), step, past=wanted is not None)
        taken = 0
        while not self.stop.is_set() and (wanted is None or taken < wanted):
            if not await self._until(at + dt.timedelta(seconds=self.settings.deribit.settle_seconds)):
                return
            for task in tasks:
                if task.done() and not task.cancelled() and (error := task.exception()):
                    raise error
            await self._take(at)
            taken += 1
            now = _floor(self.clock.now(), step)
            while at + step <= now and wanted is None and at + step < now:  # a pause, or a clock that runs faster than the work
                at += step
                self._missed(at, "the harvester was behind")
            at += step

    async def _until(self, at: dt.datetime) -> bool:
        """Wait for a market time; False where the harvest is to stop first."""
        sleeping, stopping = asyncio.create_task(self.clock.sleep_until(at)), asyncio.create_task(self.stop.wait())
        await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (sleeping, stopping):
            task.cancel()
        return not self.stop.is_set()

    async def _take(self, at: dt.datetime) -> None:
        """The snapshots of one grid time, all families; each that cannot be had is a known miss."""
        sweeper = Sweeper(self.settings, self.clock, self.chain, self.caller, self.link, self._index_told)
        served = set(self.settings.underlyings)
        for underlying in self.settings.underlyings:
            try:
                if await asyncio.to_thread(self._present, underlying, at):  # started again within the same interval
                    continue
                await self._listing_known(underlying)
                taken = await sweeper.take(self.lake, underlying, at)
            except ExchangeError as error:
                self._note_refusal(error)
                self._missed(at, self._why(error), underlying)
                served.discard(underlying)
                continue
            except DataError:
                if not await asyncio.to_thread(self._present, underlying, at):
                    raise
                continue  # another harvester of this very name was faster
            except StorageError as error:
                self.journal.bear(error)
                self._missed(at, f"the lake cannot be written: {error.message}", underlying)
                continue
            self._count(taken)
        if self.chain.learnt:
            self._relist.set()
        for underlying in sorted(served):  # of the others nothing is to be had now; the series look back
            try:
                for failure in await self.beside.hourly(self.caller, underlying, self.clock.now()):
                    log.warning("series of %s: %s", underlying, failure)
            except StorageError as error:
                self.journal.bear(error)
        self._record_news()
        self.journal.record("alive")

    def _count(self, taken: Taken) -> None:
        if self._in_maintenance:
            self._in_maintenance = False
            self.journal.record("maintenance_ended")
        self.done.snapshots += 1
        self.done.rows += taken.rows
        self.done.last[taken.underlying] = taken.snapshot
        if taken.missing:
            self.done.partial += 1
            self.journal.record("snapshot_partial", taken.underlying, f"{taken.snapshot.isoformat()} lacks {taken.missing}: {taken.cause}")
        if self.told is not None:
            self.told(taken)

    def _missed(self, at: dt.datetime, why: str, underlying: str | None = None) -> None:
        for family in (underlying,) if underlying else self.settings.underlyings:
            self.done.missed += 1
            self.journal.record("snapshot_missed", family, f"{at.isoformat()}: {why}")
            if self.told is not None:
                self.told(Taken(family, at, 0, 0, "none", 0.0, why))

    def _why(self, error: ExchangeError) -> str:
        if self._in_maintenance:
            return "maintenance"
        return error.message if self.link.up.is_set() else f"{error.message}; socket: {self.link.cause}"

    def _note_refusal(self, error: ExchangeError) -> None:
        if isinstance(error, RefusalError) and error.code == MAINTENANCE and not self._in_maintenance:
            self._in_maintenance = True
            self.journal.record("maintenance_began", detail=error.message)

    def _present(self, underlying: str, at: dt.datetime) -> bool:
        files = snapshot_files(self.lake, underlying, at.date())
        return any(file.snapshot == at and file.source == SOURCE and file.region == self.settings.region for file in files)

    async def _opened(self, socket: Socket) -> None:
        """What is done on a fresh socket: log in, heartbeats, the listing, every ticker and index, the perpetuals' books.

        An answer that needs no key comes first: of another network it ends the connection before a key was sent there.
        """
        for book in self._books.values():
            book.sound = False
        await socket.call("public/test")
        await socket.log_in()
        await socket.beat()
        await self._list_all()
        had = [u for u in self.settings.underlyings if currency_of(u) not in self._unlisted]
        await socket.subscribe(
            [
                *(f"ticker.{name}.agg2" for name in self.chain.contracts),
                *(f"deribit_price_index.{index_of(u)}" for u in had),
                *(f"book.{u}-PERPETUAL.100ms" for u in had),
                *sorted({f"instrument.state.option.{currency_of(u)}" for u in had}),
                "platform_state",
            ]
        )

    async def _listing_known(self, underlying: str) -> None:
        if self._listed_at is None:
            await self._list_all()
        if (refused := self._unlisted.get(currency_of(underlying))) is not None:
            raise refused

    async def _list_all(self) -> tuple[list[str], list[str]]:
        """Ask for the listing of every currency; returns the new and the gone contracts.

        A currency that the exchange does not have is remembered as such, and costs the others nothing.

        Raises:
            ExchangeError: the exchange refused or did not answer.
        """
        new: list[str] = []
        gone: list[str] = []
        for currency in sorted({currency_of(u) for u in self.settings.underlyings}):
            self._unlisted.pop(currency, None)
            try:
                listed = await self.caller.call("public/get_instruments", {"currency": currency, "kind": "option", "expired": False})
            except RefusalError as error:
                if error.code != INVALID_PARAMS:
                    raise
                self._unlisted[currency] = error
                continue
            place = f"{self.caller.url}/public/get_instruments"
            with as_documented("public/get_instruments", place):
                found = self.chain.list_contracts(currency, contracts_of(listed, place=place))
            new += found[0]
            gone += found[1]
        before = self.clock.now()
        exchange_ms = await self.caller.call("public/get_time")
        between = before + (self.clock.now() - before) / 2
        with as_documented("public/get_time", self.caller.url):
            self.done.clock_offset_seconds = round(exchange_ms / 1e3 - between.timestamp(), 3)
        if abs(self.done.clock_offset_seconds) > _CLOCK_TOLERANCE * max(self.clock.speed, 1.0):
            log.warning("the exchange's clock is %.1f s ahead of ours: `ts` is by ours, synchronise it", self.done.clock_offset_seconds)
        self._listed_at = self.clock.now()
        return new, gone

    async def _follow_listing(self) -> None:
        """Subscribe what is newly listed, when the exchange says so and once an hour."""
        while True:
            waiting = [asyncio.create_task(self._relist.wait()), asyncio.create_task(self.clock.sleep(_RELIST.total_seconds()))]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            self._relist.clear()
            with contextlib.suppress(ExchangeError):
                new, _ = await self._list_all()
                new += [name for name in self.chain.learnt if name in self.chain.contracts]
                self.chain.learnt.clear()
                if new and self.link.socket is not None:
                    await self.link.socket.subscribe([f"ticker.{name}.agg2" for name in new])

    def _hear(self, channel: str, data: Any) -> None:
        """A notification came in."""
        self.done.notifications += 1
        ts = self.clock.now_us()
        if channel.startswith("ticker."):
            self.chain.hear_ticker(data, ts)
        elif (name := index_name_of(channel)) is not None:
            if (price := price_of(data)) is not None and (underlying := self._families.get(name)) is not None:
                self._index_told(underlying, price, ts)
        elif channel.startswith("book."):
            book = self._books[data["instrument_name"]]
            if not book.hear(data) and book.instrument not in self._healing:
                self._healing[book.instrument] = asyncio.create_task(self._heal(book))
        elif channel.startswith("instrument.state."):
            if data.get("state") in {"created", "open", "started"} and data.get("instrument_name") not in self.chain.contracts:
                self._relist.set()
            elif data.get("state") in {"closed", "settled", "terminated", "deactivated", "delivered", "archivized", "inactive"}:
                self.chain.delist(data.get("instrument_name", ""))
        elif channel == "platform_state" and data.get("maintenance"):
            self._in_maintenance = True
            self._news.put_nowait((self.clock.now(), "maintenance_began", "announced on platform_state"))

    def _index_told(self, underlying: str, price: float, ts: int) -> None:
        """An index price was heard or asked for: the chain's own from now on, and in the series `prices` where one is due."""
        self.chain.index[underlying] = (price, ts)
        if (row := self.beside.hear_index(underlying, price, self._books[f"{underlying}-PERPETUAL"].mid, ts)) is not None:
            self._writes.put_nowait(("prices", underlying, row))

    async def _heal(self, book: OrderBook) -> None:
        """A change was lost: begin the book anew from a snapshot."""
        try:
            if await heal_book(self.caller, book):
                self.done.books_healed += 1
        finally:
            self._healing.pop(book.instrument, None)

    def _connection(self, kind: str, detail: str) -> None:
        """The connection came up, or ended, or could not be made: told once until that changes."""
        if kind == "rate_limited":
            self.done.refused += 1
        state = kind if kind == "connected" else f"{kind} {detail}"
        if kind == "connected" or state != self._connection_state:
            self._news.put_nowait((self.clock.now(), kind, detail))
            log.info("%s: %s", kind, detail)
        self._connection_state = state

    def _record_news(self) -> None:
        while not self._news.empty():
            at, kind, detail = self._news.get_nowait()
            self.journal.record(kind, detail=detail, at=at)

    async def _write_series(self) -> None:
        while True:
            write = await self._writes.get()
            try:
                await self._write_one(write)
            except StorageError as error:
                self.journal.bear(error)
                self._writes.put_nowait(write)
                await self.clock.sleep(self.settings.deribit.backoff_most_seconds)

    async def _flush_series(self) -> None:
        while not self._writes.empty():
            await self._write_one(self._writes.get_nowait())

    async def _write_one(self, write: tuple[str, str, Any]) -> None:
        name, underlying, rows = write
        await self.beside.keep(name, underlying, rows)  # type: ignore[arg-type]


def first_grid_time(now: dt.datetime, step: dt.timedelta, *, past: bool) -> dt.datetime:
    """The grid time a harvest that starts `now` begins with: the one just `past`, or the next."""
    return _floor(now, step) if past else _floor(now, step) + step


def _floor(at: dt.datetime, step: dt.timedelta) -> dt.datetime:
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (at - midnight) // step * step
