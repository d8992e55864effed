"""What a harvester must outlast to be left alone for a year: answers that are none, a lake that is away, a market without a series."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import random
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web

from options_agent.lake.events import events
from options_agent.lake.raw import read_raw_day, snapshot_files, sweeps
from options_agent.lake.store import open_lake, read_series
from options_agent.market.deribit.harvester import Harvested, harvest
from options_agent.market.deribit.market_time import clock_of, in_market_time
from options_agent.market.deribit.sweep import Taken
from options_agent.settings import Settings
from tests.servers.exchange import RunningBox, running_box
from tests.system.test_live_harvest import CALM, DAY, START, desk, harvested

JUNK: Final = (
    (503, "<html>upstream connect error</html>"),
    (200, ""),
    (200, "null"),
    (200, '{"message": "try later"}'),
    (200, '{"jsonrpc": "2.0", "error": "gone"}'),
    (200, '{"jsonrpc": "2.0", "error": {"message": "no code"}}'),
    (200, '{"jsonrpc": "2.0", "result": null}'),
    (200, '{"jsonrpc": "2.0", "result": []}'),
    (200, '{"jsonrpc": "2.0", "result": [null]}'),
    (200, '{"jsonrpc": "2.0", "result": {"data": "none", "ticks": [1], "close": []}}'),
    (200, '{"jsonrpc": "2.0", "result": "ok"}'),
)
FRAMES: Final = (
    "",
    "null",
    "[1, 2]",
    '{"id": [1], "result": 1}',
    '{"method": "heartbeat", "params": null}',
    '{"method": "subscription"}',
    '{"method": "subscription", "params": {"channel": "ticker.X.agg2", "data": {}}}',
    '{"method": "subscription", "params": {"channel": "book.NONE.100ms", "data": {}}}',
    '{"method": "subscription", "params": {"channel": "deribit_price_index.btc_usd", "data": [1]}}',
    '{"method": "subscription", "params": {"channel": "instrument.state.option.BTC", "data": null}}',
)


class JunkProxy:
    """A way to the box on which a share of the answers are replaced by what no exchange documents."""

    def __init__(self, box: RunningBox, seed: int) -> None:
        self.box, self.dice, self.share, self.spoilt = box, random.Random(seed), 0.0, 0

    async def open(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/ws/api/v2", self._socket)
        app.router.add_route("*", "/{path:.*}", self._http)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    async def _http(self, request: web.Request) -> web.Response:
        if self.dice.random() < self.share and "/api/v2" in request.path:
            self.spoilt += 1
            status, text = self.dice.choice(JUNK)
            return web.Response(status=status, text=text)
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, self.box.url + request.path_qs, data=await request.read()) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        ours = web.WebSocketResponse()
        await ours.prepare(request)
        async with aiohttp.ClientSession() as session, session.ws_connect(self.box.url.replace("http", "ws") + "/ws/api/v2") as theirs:

            async def up() -> None:
                async for message in ours:
                    await theirs.send_str(message.data)

            asking = asyncio.create_task(up())
            async for message in theirs:
                if self.dice.random() < self.share:
                    self.spoilt += 1
                    await ours.send_str(self.dice.choice(FRAMES))
                with contextlib.suppress(ConnectionError):
                    await ours.send_str(message.data)
            asking.cancel()
        return ours


async def endless(settings: Settings, stop: asyncio.Event, told: list[Taken]) -> Harvested:
    clock = await clock_of(settings)
    return await harvest(in_market_time(settings, clock), open_lake(settings), clock=clock, stop=stop, told=told.append)


def test_answers_that_are_none_end_nothing_and_lie_in_no_snapshot(tmp_path: Path) -> None:
    async def work(box: RunningBox) -> tuple[Harvested, list[Taken], int]:
        proxy, stop, told = JunkProxy(box, seed=5), asyncio.Event(), list[Taken]()
        runner = await proxy.open()
        settings = desk(
            tmp_path, box, underlyings=("BTC",), live_interval_minutes=5, deribit={"url": f"http://127.0.0.1:{runner.addresses[0][1]}"}
        )
        proxy.share = 0.4
        task = asyncio.create_task(endless(settings, stop, told))
        while len(told) < 6:
            assert not task.done(), task.exception()
            await asyncio.sleep(0.05)
        spoilt, proxy.share = proxy.spoilt, 0.0
        calm = len(told)
        while len(told) < calm + 3:
            assert not task.done(), task.exception()
            await asyncio.sleep(0.05)
        stop.set()
        done = await task
        await runner.cleanup()
        return done, told, spoilt

    with running_box(tmp_path, speed=240, start=START, settings=CALM, underlyings=("BTC",)) as box:
        done, told, spoilt = asyncio.run(work(box))
        settings = desk(tmp_path, box, underlyings=("BTC",))
    assert spoilt > 10
    lake = open_lake(settings)
    assert len(snapshot_files(lake, "BTC", DAY)) == done.snapshots == sum(one.rows > 0 for one in told)
    assert all(one.cause for one in told if not one.rows), "what was missed says why"
    assert [one.missing for one in told[-2:]] == [0, 0]
    assert min(one.rows for one in told[-2:]) > 500
    assert {len(note.note["missing"]) == 0 for note in sweeps(lake, "BTC", DAY)} >= {True}
    assert read_raw_day(lake, "BTC", DAY)["forward"].null_count == 0


def test_a_lake_that_is_away_for_a_while_costs_its_snapshots_and_not_the_harvest(tmp_path: Path) -> None:
    async def work(settings: Settings) -> tuple[Harvested, list[Taken]]:
        stop, told = asyncio.Event(), list[Taken]()
        task = asyncio.create_task(endless(settings, stop, told))

        async def until(snapshots: int) -> None:
            while len(told) < snapshots:
                assert not task.done(), task.exception()
                await asyncio.sleep(0.02)

        raw = Path(settings.home) / "lake/synthetic/raw"
        await until(2)
        raw.rename(raw.with_name("away"))
        raw.write_text("a file is where the folder was")
        await until(len(told) + 2)
        raw.unlink()
        raw.with_name("away").rename(raw)
        await until(len(told) + 2)
        stop.set()
        return await task, told

    with running_box(tmp_path, speed=240, start=START, settings=CALM, underlyings=("BTC",)) as box:
        settings = desk(tmp_path, box, underlyings=("BTC",), live_interval_minutes=5)
        done, told = asyncio.run(work(settings))
    lake = open_lake(settings)
    missed = [one for one in told if not one.rows]
    assert done.missed == len(missed) >= 1
    assert all("the lake cannot be written" in str(one.cause) for one in missed)
    assert told[-1].rows > 500
    assert {file.snapshot for file in snapshot_files(lake, "BTC", DAY)} == {one.snapshot for one in told if one.rows}
    kept = events(lake, DAY, DAY)
    assert [event.kind for event in kept if event.kind in {"started", "stopped"}] == ["started", "stopped"]
    assert [dt.datetime.fromisoformat(event.detail[:25]) for event in kept if event.kind == "snapshot_missed"] == [
        one.snapshot for one in missed
    ], "what happened meanwhile is told once the lake is back"


def test_the_delivery_price_of_a_day_is_kept_after_eight_and_once(tmp_path: Path) -> None:
    with running_box(tmp_path, speed=400, start=START + dt.timedelta(minutes=55), settings=CALM, underlyings=("BTC",)) as box:
        settings = desk(tmp_path, box, underlyings=("BTC",))
        before, _ = asyncio.run(harvested(settings, snapshots=1))
        after, _ = asyncio.run(harvested(settings, snapshots=3))
        with_index = {"method": "public/get_delivery_prices", "id": 1, "params": {"index_name": "btc_usd", "count": 3}}
        told = asyncio.run(_asked(box, with_index))["data"]
    assert before.snapshots + after.snapshots >= 3
    prices = read_series(open_lake(settings), "prices", "BTC")
    delivered = {row["ts"]: row["price"] for row in prices.to_pylist() if row["kind"] == "delivery"}
    eight = dt.datetime.combine(DAY, dt.time(8), dt.UTC)
    known = {eight - n * dt.timedelta(days=1): told[n]["delivery_price"] for n in range(3)}
    assert {eight, eight - dt.timedelta(days=1)} <= set(delivered), "today's, and yesterday's at the start"
    assert delivered.items() <= known.items()
    assert prices["kind"].to_pylist().count("delivery") == len(delivered)


@pytest.mark.parametrize(
    ("family", "cause"),
    [("DOGE", "the exchange refused with -32602"), ("SOL_USDC", "no option of SOL_USDC is listed"), ("BTC", "no option of BTC is listed")],
)
def test_a_family_the_exchange_does_not_have_costs_the_others_nothing(tmp_path: Path, family: str, cause: str) -> None:
    with running_box(tmp_path, speed=240, start=START, settings=CALM, underlyings=("ETH",)) as box:
        settings = desk(tmp_path, box, underlyings=(family, "ETH"))
        done, told = asyncio.run(harvested(settings, snapshots=2))
    assert [one.rows > 0 for one in told if one.underlying == "ETH"] == [True, True]
    causes = (cause, f"no option of {family} is listed")  # the latter where the socket already tells of the others
    assert [(one.rows, str(one.cause).startswith(causes)) for one in told if one.underlying == family] == [(0, True)] * 2
    assert done.connections == 1, "the socket was not lost for it"
    assert {one.transport for one in told if one.rows} == {"websocket"}
    lake = open_lake(settings)
    assert len(read_series(lake, "dvol", "ETH")) >= 8
    assert len(read_series(lake, "funding", "ETH")) >= 8


async def _asked(box: RunningBox, call: dict[str, Any]) -> Any:
    async with aiohttp.ClientSession() as session, session.post(f"{box.url}/api/v2", data=json.dumps(call)) as answer:
        return (await answer.json(content_type=None))["result"]
