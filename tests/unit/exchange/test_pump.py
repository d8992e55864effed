"""What subscribers hear, round by round, at stepped market times and over a real socket pair."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from options_agent.exchange import channels, wire
from options_agent.exchange.credits import Account
from options_agent.exchange.server import Box, make_box
from options_agent.exchange.session import Session
from options_agent.market.clock import clock_at
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.settings import SyntheticSettings

START = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)


class Listener:
    """A session of the box and what came out at the other end of its socket."""

    def __init__(self, box: Box, session: Session, reader: asyncio.StreamReader) -> None:
        self.box, self.session, self.reader = box, session, reader

    def subscribe(self, *names: str) -> None:
        for name in names:
            channel = channels.parse(name, self.box.market)
            assert channel is not None
            self.box.pump.subscribe(self.session, channel)

    async def heard(self) -> list[dict[str, Any]]:
        """Everything written so far, as the params of its messages."""
        self.session.flush(self.box.market.faults, self.box.pump.dice)
        self.session.transport.write(b"\x81\x03end")
        told: list[dict[str, Any]] = []
        while True:
            _, size = await self.reader.readexactly(2)
            if size > 125:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8))
            text = await self.reader.readexactly(size)
            if text == b"end":
                return told
            told.append(json.loads(text)["params"])


@asynccontextmanager
async def listener(box: Box) -> AsyncIterator[Listener]:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=theirs)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    session = Session(transport, Account())
    box.pump.sessions.add(session)
    try:
        yield Listener(box, session, reader)
    finally:
        box.pump.leave(session)
        transport.close()
        writer.close()


def opened(seed: int = 0) -> Box:
    second = dt.timedelta(seconds=1)
    source = SyntheticSource(SyntheticSettings(defect_rate=0.0, outage_rate=0.0), interval=second, live_interval=second)
    box = make_box(source, ("BTC",), clock_at(START, 1e-9))
    box.switch({"seed": seed})
    return box


def step(box: Box, seconds: float) -> None:
    """A round at so many market seconds after the start."""
    box.market.feed.clock = clock_at(START + dt.timedelta(seconds=seconds), 1e-9)
    box.pump.round()


def an_option(box: Box) -> str:
    return next(name for name, each in box.market.feed.listed.items() if each.kind == "option" and each.row["bid"] and each.row["ask"])


def laid_over(messages: list[dict[str, Any]]) -> tuple[dict[float, float], dict[float, float], int]:
    """The book a careful client keeps of a channel's messages; every change must start where the one before ended."""
    bids: dict[float, float] = {}
    asks: dict[float, float] = {}
    last = None
    for message in (each["data"] for each in messages):
        if message["type"] == "snapshot":
            bids, asks = {}, {}
        else:
            assert message["prev_change_id"] == last
        last = message["change_id"]
        for side, book in (("bids", bids), ("asks", asks)):
            for action, price, size in message[side]:
                assert (price in book) is (action != "new")
                book.pop(price) if action == "delete" else book.__setitem__(price, size)
    assert last is not None
    return bids, asks, last


@pytest.mark.parametrize("interval", ["raw", "100ms", "agg2"])
def test_a_book_can_be_kept_whatever_the_interval_and_whenever_one_joins(interval: str) -> None:
    async def work() -> None:
        box = opened()
        name = an_option(box)
        channel = f"book.{name}.{interval}"
        async with listener(box) as early, listener(box) as late, listener(box) as other:
            early.subscribe(channel)
            other.subscribe(f"book.{name}.{'agg2' if interval == '100ms' else '100ms'}")
            for tenth in range(1, 150):
                step(box, tenth * 0.3)
                if tenth == 70:
                    late.subscribe(channel)
                if tenth % 11 == 0:  # someone asks for the book in between
                    wire.order_book(box.market.feed.listed[name], 0, 5)
            step(box, 60.0)
            step(box, 62.0)
            book = box.market.feed.listed[name].book
            for each in (early, late, other):
                told = await each.heard()
                assert len(told) > 20
                assert laid_over(told) == (book.bids, book.asks, book.change_id)

    asyncio.run(work())


def test_a_lost_change_shows_in_the_change_ids() -> None:
    async def work() -> None:
        box = opened()
        name = an_option(box)
        async with listener(box) as one:
            one.subscribe(f"book.{name}.100ms")
            box.switch({"book_gap": 0.5})
            for second in range(1, 40):
                step(box, second)
            ids = [(m["data"].get("prev_change_id"), m["data"]["change_id"]) for m in await one.heard()]
            gaps = sum(former != last for (_, last), (former, _) in itertools.pairwise(ids))
            assert 3 < gaps < len(ids)

    asyncio.run(work())


def test_slow_channels_say_the_newest_once_an_interval() -> None:
    async def work() -> None:
        box = opened()
        name = an_option(box)
        async with listener(box) as one:
            one.subscribe(f"ticker.{name}.agg2")
            await one.heard()
            for tenth in range(1, 101):
                step(box, tenth / 10)
            told = [m["data"]["timestamp"] for m in await one.heard()]
            assert 9 <= len(told) <= 11
            assert all(b - a >= 1_000 for a, b in itertools.pairwise(told))

    asyncio.run(work())


def test_the_same_seed_spoils_the_same_messages() -> None:
    async def work(seed: int) -> list[tuple[str, int]]:
        box = opened(seed)
        async with listener(box) as one:
            one.subscribe(*(f"ticker.{name}.100ms" for name in sorted(box.market.feed.listed)[:50]))
            await one.heard()
            box.switch({"drop": 0.2, "duplicate": 0.2, "late": 0.1, "reorder": 0.5})
            for second in range(1, 12):
                step(box, second)
            return [(m["data"]["instrument_name"], m["data"]["timestamp"]) for m in await one.heard()]

    runs = [asyncio.run(work(seed)) for seed in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]
    assert len(runs[0]) > 200


def test_maintenance_is_told_before_the_sockets_go() -> None:
    async def work() -> None:
        box = opened()
        async with listener(box) as one:
            one.subscribe("platform_state")
            box.switch({"maintenance": True})
            frames = await one.reader.read()  # to the end of the socket
            said = [
                json.loads(b"{" + part.split(b"}}}")[0] + b"}}}") for part in frames.split(b"\x81")[1:] for part in [part.split(b"{", 1)[1]]
            ]
            assert [m["params"]["data"] for m in said] == [{"maintenance": False}, {"maintenance": True}]

    asyncio.run(work())


def test_a_name_that_would_break_the_message_is_no_channel() -> None:
    box = opened()
    assert channels.parse('trades.option.B"C.100ms', box.market) is None
    assert channels.parse("trades.option.BTC.100ms", box.market) is not None
    assert channels.parse(f'book.{an_option(box)}.no"ne.10.100ms', box.market) is None
