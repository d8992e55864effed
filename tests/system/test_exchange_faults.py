"""Faults and limits of the box as clients meet them: gaps in books, contracts leaving mid-sweep, the terminal's switches, the pools."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import typed_deribit.core.transport.ws as their_socket
from typed_deribit import Deribit

from options_agent.exchange import server
from options_agent.exchange.opening import box_of, serve_box
from options_agent.market.deribit.books import OrderBook
from options_agent.settings import load_settings
from tests.servers.exchange import RunningBox, running_box

SECRET = {"grant_type": "client_credentials", "client_id": "box", "client_secret": "box-secret"}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running_box(tmp_path_factory.mktemp("faults"), limits=20, speed=30, underlyings=("BTC",)) as running:
        yield running


@pytest.fixture(scope="module")
def frugal(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """At the exchange's own limits; so many market seconds a second that it refills at once is not wanted here."""
    with running_box(tmp_path_factory.mktemp("frugal"), limits=1, underlyings=("BTC",)) as running:
        yield running


async def get(
    session: aiohttp.ClientSession, url: str, method: str, headers: dict[str, str] | None = None, **params: Any
) -> dict[str, Any]:
    async with session.get(f"{url}/api/v2/{method}", params=params, headers=headers) as answer:
        return dict(await answer.json(content_type=None))


def test_a_gap_in_a_book_is_seen_by_the_change_ids(box: RunningBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(their_socket, "DERIBIT_WS_URL", f"{box.url.replace('http', 'ws')}/ws/api/v2")

    async def work() -> list[dict[str, Any]]:
        async with asyncio.timeout(60), Deribit.new(client_id="box", client_secret="box-secret") as client:
            chain = await client.market_data.get_book_summary_by_currency("BTC", kind="option", transport="ws")
            name = next(each["instrument_name"] for each in chain if each["bid_price"] and each["ask_price"])
            told: list[dict[str, Any]] = []
            async with client.streams.market_data.book(name, interval="100ms") as messages:
                async for message in messages:
                    told.append(dict(message))
                    if len(told) == 40:
                        break
            return told

    box.fault(book_gap=0)
    whole = asyncio.run(work())
    assert all(b["prev_change_id"] == a["change_id"] for a, b in itertools.pairwise(whole))
    box.fault(book_gap=0.3)
    torn = asyncio.run(work())
    box.fault(book_gap=0)
    lost = sum(b["prev_change_id"] != a["change_id"] for a, b in itertools.pairwise(torn))
    assert lost >= 3
    book = OrderBook("BTC-PERPETUAL")  # our own client notices the first
    for message in torn:
        book.hear(message)
    assert book.gaps >= 1


def test_contracts_that_leave_in_the_middle_of_a_sweep_are_missing_from_then_on(box: RunningBox) -> None:
    async def work() -> None:
        async with aiohttp.ClientSession() as session:
            listed = (await get(session, box.url, "public/get_instruments", currency="BTC", kind="option"))["result"]
            names = [each["instrument_name"] for each in listed][:80]
            leaving = set(names[50:60])
            answers = {}
            for n, name in enumerate(names):
                if n == 40:
                    await asyncio.to_thread(box.fault, expired=sorted(leaving))
                    await asyncio.sleep(0.5)
                answers[name] = await get(session, box.url, "public/ticker", instrument_name=name)
            assert {name for name, answer in answers.items() if answer.get("error", {}).get("code") == 13020} == leaving
            chain = (await get(session, box.url, "public/get_book_summary_by_currency", currency="BTC", kind="option"))["result"]
            assert not leaving & {each["instrument_name"] for each in chain}
            await asyncio.to_thread(box.fault, expired=[])

    asyncio.run(work())


def test_the_terminal_sets_faults_and_shows_them(box: RunningBox, tmp_path: Path) -> None:
    def said(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("options-agent")), "exchange", *words, "--port", str(box.port)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPTIONS_AGENT_")}
        return subprocess.run(
            command, check=False, env=environment | {"OPTIONS_AGENT_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60
        )

    done = said("fault", "drop=0.125", "vanished=BTC-1JAN30-1-C")
    assert done.returncode == 0, done.stderr
    assert "0.125" in done.stdout
    assert "BTC-1JAN30-1-C" in said("fault").stdout
    refused = said("fault", "dorp=1")
    assert refused.returncode != 0
    assert "dorp" in refused.stderr + refused.stdout
    assert "drop" in said("stats").stdout, "the incidents are kept"
    box.fault(drop=0, vanished=[])


def test_a_key_pays_for_itself_and_an_address_for_those_without_one(frugal: RunningBox) -> None:
    async def work() -> None:
        async with aiohttp.ClientSession() as session:
            token = (await get(session, frugal.url, "public/auth", None, **SECRET))["result"]["access_token"]
            bearer = {"Authorization": f"Bearer {token}"}
            # 10 instrument lists a second refill one; the pool holds five.
            drained = [
                (await get(session, frugal.url, "public/get_instruments", currency="BTC")).get("error", {}).get("code") for _ in range(12)
            ]
            assert drained[:5] == [None] * 5
            assert 10028 in drained
            paid = await get(session, frugal.url, "public/get_instruments", bearer, currency="BTC")
            assert "result" in paid, "the key's own pool is full"

    asyncio.run(work())


def test_subscriptions_draw_on_a_pool_of_ten(frugal: RunningBox) -> None:
    async def work() -> list[Any]:
        codes: list[Any] = []
        async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://127.0.0.1:{frugal.port}/ws/api/v2") as socket:
            for n in range(30):
                params = {"channels": ["platform_state"]}
                await socket.send_json({"jsonrpc": "2.0", "id": n, "method": "public/subscribe", "params": params})
            while (message := await asyncio.wait_for(socket.receive(), 20)).type is aiohttp.WSMsgType.TEXT:
                if "id" in (told := message.json()):
                    codes.append(told.get("error", {}).get("code"))
            return codes

    codes = asyncio.run(work())
    assert 10 <= codes.index(10028) <= 20
    assert codes[-1] == 10028, "and the socket was closed"


def test_an_http_connection_lives_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, so that its fifteen minutes can be made short."""
    monkeypatch.setattr(server, "HTTP_LIFE_SECONDS", 0.3)
    settings = load_settings(home=tmp_path, underlyings=("BTC",), _env_file=None)

    async def work() -> None:
        stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve_box(box_of(settings), 0, port.set_result, stop))
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{await port}/api/v2/public/get_time"
            kept = []
            for _ in range(8):
                async with session.get(url) as answer:
                    kept.append(answer.headers.get("Connection"))
                await asyncio.sleep(0.1)
            assert kept[0] is None
            assert "close" in kept
        stop.set()
        await serving

    asyncio.run(work())


def test_a_clock_that_is_off_is_off_in_every_stamp(box: RunningBox) -> None:
    async def work() -> None:
        async with aiohttp.ClientSession() as session:
            box.fault(clock_skew_seconds=0)
            before = (await get(session, box.url, "public/get_time"))["result"]
            box.fault(clock_skew_seconds=3_600)
            ticker = (await get(session, box.url, "public/ticker", instrument_name="BTC-PERPETUAL"))["result"]
            assert dt.timedelta(milliseconds=ticker["timestamp"] - before) > dt.timedelta(minutes=59)
            box.fault(clock_skew_seconds=0)

    asyncio.run(work())


def test_a_long_look_back_does_not_stop_the_market(box: RunningBox) -> None:
    async def work() -> None:
        async with aiohttp.ClientSession() as session:
            chain = (await get(session, box.url, "public/get_book_summary_by_currency", currency="BTC", kind="option"))["result"]
            now = (await get(session, box.url, "public/get_time"))["result"]
            params = {"instrument_name": chain[0]["instrument_name"], "start_timestamp": str(now - 8 * 86_400_000), "count": "1000"}
            long = asyncio.create_task(get(session, box.url, "public/get_last_trades_by_instrument_and_time", None, **params))
            for _ in range(5):
                assert "result" in await get(session, box.url, "public/get_time")
            assert not long.done()
            assert (await long)["result"]["has_more"] is False

    asyncio.run(work())
