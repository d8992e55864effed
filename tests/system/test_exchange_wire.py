"""The box's wire by hand: envelopes, errors by code, limits, log-in, heartbeats, and every fault as a client sees it."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from options_agent.exchange.control import ask
from tests.servers.exchange import RunningBox, running_box

MARCH = dt.datetime(2026, 3, 2, 7, 45, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running_box(tmp_path_factory.mktemp("wire"), limits=20, underlyings=("BTC",)) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_faults_left(request: pytest.FixtureRequest) -> Any:
    yield
    if "box" in request.fixturenames:
        off = {"drop": 0, "duplicate": 0, "late": 0, "reorder": 0, "latency_seconds": 0, "bad_gateway": 0, "too_many": 0, "book_gap": 0}
        request.getfixturevalue("box").fault(
            **off, half_frame=0, stalled=False, maintenance=False, down=False, vanished=[], clock_skew_seconds=0
        )


async def post(box: RunningBox, body: Any, path: str = "/api/v2", **headers: str) -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    async with aiohttp.ClientSession() as session, session.post(box.url + path, data=data, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def get(box: RunningBox, method: str, **params: Any) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{box.url}/api/v2/{method}", params=params) as answer:
        return dict(await answer.json(content_type=None))


def call(method: str, number: int = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


class Talker:
    """A web socket and what it was told."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.told: list[dict[str, Any]] = []
        self.number = 0

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        await self.socket.send_json(call(method, self.number, **params))
        while True:
            message = json.loads(await asyncio.wait_for(self.socket.receive_str(), 20))
            if message.get("id") == self.number:
                return dict(message)
            self.told.append(message)

    async def listen(self, seconds: float) -> list[dict[str, Any]]:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self.told.append(json.loads(await asyncio.wait_for(self.socket.receive_str(), left)))
            except (TimeoutError, TypeError):
                break
        return self.told


@asynccontextmanager
async def talker(box: RunningBox) -> AsyncIterator[Talker]:
    async with aiohttp.ClientSession() as session, session.ws_connect(box.url.replace("http", "ws") + "/ws/api/v2") as socket:
        yield Talker(socket)


def test_get_and_post_give_the_same_envelope(box: RunningBox) -> None:
    async def work() -> None:
        _, posted = await post(box, call("public/get_index_price", 7, index_name="btc_usd"))
        got = await get(box, "public/get_index_price", index_name="btc_usd")
        assert posted["id"] == 7
        assert posted["jsonrpc"] == got["jsonrpc"] == "2.0"
        assert posted["testnet"] is True
        assert posted["usOut"] - posted["usIn"] == posted["usDiff"] >= 0
        assert set(posted["result"]) == set(got["result"])
        _, by_path = await post(box, call("public/get_time"), path="/api/v2/public/get_time")
        assert isinstance(by_path["result"], int)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"jsonrpc": "2.0", "id": 1, "params": {}}, 11050),
        ([{"jsonrpc": "2.0", "id": 1, "method": "public/test"}], 11050),
        ("{nothing", -32700),
        ({"jsonrpc": "2.0", "id": 1, "method": "public/test", "params": [1]}, -32602),
        (call("public/none_such"), -32601),
        (call("public/ticker"), -32602),
        (call("public/get_instruments", currency=5), -32602),
        (call("public/get_last_trades_by_currency", currency="BTC", count=1_001), -32602),
        (call("public/get_volatility_index_data", currency="BTC", start_timestamp=0, end_timestamp=1, resolution="2"), -32602),
        (call("public/ticker", instrument_name="BTC-1JAN20-1-C"), 13020),
        (call("private/get_positions"), 13009),
        (call("private/get_positions", access_token="none"), 13009),
        (call("public/auth", grant_type="client_credentials", client_id="box", client_secret="no"), 13004),
        (call("public/auth", grant_type="password"), -32602),
    ],
)
def test_errors_have_the_exchanges_codes(box: RunningBox, body: Any, code: int) -> None:
    status, reply = asyncio.run(post(box, body))
    assert status == 400
    assert reply["error"]["code"] == code
    assert "result" not in reply
    if code == -32602 and isinstance(body, dict) and isinstance(body["params"], dict):
        assert reply["error"]["data"]["param"] in {*body["params"], "instrument_name"}


def test_logging_in_by_secret_signature_header_and_refresh(box: RunningBox) -> None:
    async def work() -> None:
        granted = (await post(box, call("public/auth", grant_type="client_credentials", client_id="box", client_secret="box-secret")))[1][
            "result"
        ]
        assert {"access_token", "refresh_token", "expires_in", "scope", "token_type"} <= set(granted)
        stamp, nonce = str((await get(box, "public/get_time"))["result"]), "n"
        signature = hmac.new(b"box-secret", f"{stamp}\n{nonce}\n".encode(), hashlib.sha256).hexdigest()
        signed = {"grant_type": "client_signature", "client_id": "box", "timestamp": stamp, "nonce": nonce, "signature": signature}
        assert "result" in (await post(box, call("public/auth", **signed)))[1]
        assert (await post(box, call("public/auth", **{**signed, "nonce": "m"})))[1]["error"]["code"] == 13004
        renewed = (await post(box, call("public/auth", grant_type="refresh_token", refresh_token=granted["refresh_token"])))[1]["result"]
        again = (await post(box, call("public/auth", grant_type="refresh_token", refresh_token=granted["refresh_token"])))[1]
        assert again["error"]["code"] == 13009, "a refresh token serves once"
        bearer = await post(box, call("private/get_positions"), Authorization=f"Bearer {renewed['access_token']}")
        assert bearer[1]["error"]["code"] == -32601, "let in, and the trading methods are yet to come"

    asyncio.run(work())


def test_raw_channels_want_a_log_in(box: RunningBox) -> None:
    async def work() -> None:
        async with talker(box) as stranger:
            both = ["ticker.BTC-PERPETUAL.100ms", "ticker.BTC-PERPETUAL.raw"]
            assert (await stranger.ask("public/subscribe", channels=both))["error"]["code"] == 13778
            assert (await stranger.ask("public/unsubscribe", channels=both))["result"] == [], "a refused call has subscribed nothing"
            await stranger.ask("public/auth", grant_type="client_credentials", client_id="box", client_secret="box-secret")
            assert (await stranger.ask("public/subscribe", channels=["ticker.BTC-PERPETUAL.raw"]))["result"] == ["ticker.BTC-PERPETUAL.raw"]
            assert (await stranger.ask("public/unsubscribe_all"))["result"] == "ok"

    asyncio.run(work())


def test_heartbeats_are_sent_and_ten_seconds_is_the_least(box: RunningBox) -> None:
    async def work() -> None:
        async with talker(box) as one:
            for odd in (9, "nan", 1e9, None):
                assert (await one.ask("public/set_heartbeat", interval=odd))["error"]["code"] == -32602
            assert (await one.ask("public/set_heartbeat", interval=10))["result"] == "ok"
            await one.listen(11.5)
            kinds = [m["params"]["type"] for m in one.told if m.get("method") == "heartbeat"]
            assert kinds == ["heartbeat", "test_request"]
            message = await asyncio.wait_for(one.socket.receive(), 15)  # the test goes unanswered
            while message.type not in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING}:
                message = await asyncio.wait_for(one.socket.receive(), 15)
            assert one.socket.close_code == 4000
        async with aiohttp.ClientSession() as session:
            reply = await (await session.get(f"{box.url}/api/v2/public/set_heartbeat", params={"interval": 10})).json(content_type=None)
            assert reply["error"]["code"] == -32601, "over HTTP there is no heartbeat"

    asyncio.run(work())


def test_a_drained_pool_answers_10028_and_closes(tmp_path: Path) -> None:
    async def work(poor: RunningBox) -> None:
        async with talker(poor) as one:
            replies: list[dict[str, Any]] = []
            while not replies or "error" not in replies[-1]:
                replies.append(await one.ask("public/get_time"))
            closing = await asyncio.wait_for(one.socket.receive(), 10)
            assert closing.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING}
            assert replies[-1]["error"]["code"] == 10028
            assert 100 <= len(replies) < 250

    with running_box(tmp_path, limits=1, underlyings=("BTC",)) as poor:
        asyncio.run(work(poor))
        assert poor.stats()["refused"] == 1


def test_the_thirty_third_connection_is_turned_away(box: RunningBox) -> None:
    async def work() -> None:
        url = box.url.replace("http", "ws") + "/ws/api/v2"
        async with aiohttp.ClientSession() as session:
            open_ones = [await session.ws_connect(url) for _ in range(32)]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(url)
            assert refused.value.status == 429
            for socket in open_ones:
                await socket.close()

    asyncio.run(work())


def test_idle_http_connections_count_until_they_are_closed(tmp_path: Path) -> None:
    async def work(own: RunningBox) -> None:
        async def status(session: aiohttp.ClientSession) -> int:
            async with session.get(f"{own.url}/api/v2/public/get_time") as answer:
                await answer.read()
                return answer.status

        sessions = [aiohttp.ClientSession() for _ in range(33)]
        assert [await status(session) for session in sessions[:32]] == [200] * 32
        assert await status(sessions[32]) == 429
        assert await status(sessions[0]) == 200, "who is in stays in"
        await sessions[1].close()
        async with asyncio.timeout(10):
            while await status(sessions[32]) != 200:
                await asyncio.sleep(0.05)
        for session in sessions:
            await session.close()

    with running_box(tmp_path, underlyings=("BTC",), limits=20) as own:
        asyncio.run(work(own))


def test_faults_of_requests(box: RunningBox) -> None:
    async def work() -> None:
        began = time.monotonic()
        box.fault(latency_seconds=0.3)
        await get(box, "public/get_time")
        assert time.monotonic() - began >= 0.3
        box.fault(latency_seconds=0, bad_gateway=1)
        async with aiohttp.ClientSession() as session, session.get(f"{box.url}/api/v2/public/get_time") as answer:
            assert answer.status == 502
            assert "Bad Gateway" in await answer.text()
        box.fault(bad_gateway=0, too_many=1)
        assert (await get(box, "public/get_time"))["error"]["code"] == 10028
        box.fault(too_many=0, maintenance=True)
        assert (await get(box, "public/get_time"))["error"]["code"] == 11051
        assert (await get(box, "public/status"))["result"]["locked"] == "true"
        box.fault(maintenance=False, clock_skew_seconds=90)
        assert (await get(box, "public/get_time"))["result"] / 1_000 - time.time() > 60
        box.fault(clock_skew_seconds=0, down=True)
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await get(box, "public/get_time")

    asyncio.run(work())


def test_faults_of_streams(box: RunningBox) -> None:
    names = [f"ticker.{name}.100ms" for name in sorted(each["instrument_name"] for each in asyncio.run(chain(box)))[:60]]

    async def told(seconds: float = 4.0) -> list[dict[str, Any]]:
        async with talker(box) as one:
            await one.ask("public/subscribe", channels=names)
            one.told.clear()
            await one.listen(seconds)
            return [m["params"]["data"] for m in one.told if m.get("method") == "subscription"]

    plain = asyncio.run(told())
    assert len(plain) > 60
    box.fault(duplicate=1.0)
    doubled = asyncio.run(told())
    stamps = [(each["instrument_name"], each["timestamp"]) for each in doubled]
    assert len(set(stamps)) * 2 == len(stamps)
    box.fault(duplicate=0, drop=1.0)
    assert asyncio.run(told(2.0)) == []
    box.fault(drop=0, reorder=1.0)
    order = [names.index(f"ticker.{each['instrument_name']}.100ms") for each in asyncio.run(told(3.0))]
    assert sum(a > b for a, b in itertools.pairwise(order)) > len(order) // 4
    box.fault(reorder=0, late=1.0)
    late = asyncio.run(told())
    assert late
    box.fault(late=0, stalled=True)
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(told(1.0), 3.0))
    box.fault(stalled=False, half_frame=1.0)

    async def cut() -> None:
        async with talker(box) as one:
            await one.socket.send_json(call("public/subscribe", channels=names))
            while (message := await asyncio.wait_for(one.socket.receive(), 20)).type is aiohttp.WSMsgType.TEXT:
                pass
            assert message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSE}
            assert one.socket.close_code in {1006, None}

    asyncio.run(cut())


async def chain(box: RunningBox) -> list[dict[str, Any]]:
    return list((await get(box, "public/get_book_summary_by_currency", currency="BTC", kind="option"))["result"])


def test_a_vanished_symbol_is_listed_and_not_told(box: RunningBox) -> None:
    async def work() -> None:
        name = (await chain(box))[0]["instrument_name"]
        box.fault(vanished=[name])
        assert name not in {each["instrument_name"] for each in await chain(box)}
        listed = (await get(box, "public/get_instruments", currency="BTC", kind="option"))["result"]
        assert name in {each["instrument_name"] for each in listed}
        assert (await get(box, "public/ticker", instrument_name=name))["error"]["code"] == 13020

    asyncio.run(work())


def test_contracts_expire_at_eight_and_say_so_in_the_middle_of_whatever_goes_on(tmp_path: Path) -> None:
    async def work(box: RunningBox) -> None:
        async with talker(box) as one:
            before = {each["instrument_name"] for each in await chain(box)}
            expiring = {name for name in before if "-2MAR26-" in name}
            assert expiring
            taken = await one.ask(
                "public/subscribe", channels=["instrument.state.option.BTC", *(f"ticker.{n}.100ms" for n in sorted(expiring))]
            )
            assert len(taken["result"]) == 1 + len(expiring)
            await one.listen(20)
            closed = [m["params"]["data"] for m in one.told if "state" in m.get("params", {}).get("channel", "")]
            assert {each["instrument_name"] for each in closed if each["state"] == "closed"} == expiring
            created = {each["instrument_name"] for each in closed if each["state"] == "created"}
            after = {each["instrument_name"] for each in await chain(box)}
            assert after == (before - expiring) | created
            assert created

    with running_box(tmp_path, speed=60, start=MARCH, underlyings=("BTC",), limits=20) as box:
        asyncio.run(work(box))


def test_faults_from_the_start_and_at_run_time_are_kept_among_the_incidents(tmp_path: Path) -> None:
    with running_box(tmp_path, underlyings=("BTC",), faults={"drop": 0.5, "seed": 3}) as box:
        assert ask(box.port, "faults")["drop"] == 0.5
        box.fault(drop=0.25)
        assert ask(box.port, "faults")["drop"] == 0.25
        assert [each["drop"] for each in box.stats()["incidents"]] == [0.5, 0.25]
