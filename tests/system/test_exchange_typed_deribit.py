"""The box judged by typed-deribit, which holds every answer against its own types: methods by HTTP and socket, and streams.

Its types call `underlying_index` of options a number; the exchange sends a name (recorded traffic shows it, see the last test), so those
calls are made with its validation off.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import typed_deribit.core.transport.http as their_http
import typed_deribit.core.transport.ws as their_socket
from typed_core.exceptions import ApiError
from typed_deribit import Deribit

from tests.conftest import REPOSITORY
from tests.servers.exchange import RunningBox, running_box

NOW = dt.datetime.now(dt.UTC)
AGO = NOW - dt.timedelta(hours=6)
PERPETUAL = {"instrument_name": "BTC-PERPETUAL"}
RANGE = {"start_timestamp": AGO, "end_timestamp": NOW}
#: Method to its parameters; `OPTION` stands for a listed option's name.
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("get_instruments", {"currency": "BTC", "kind": "option"}),
    ("get_book_summary_by_currency", {"currency": "BTC"}),
    ("get_book_summary_by_instrument", {"instrument_name": "OPTION"}),
    ("get_contract_size", {"instrument_name": "OPTION"}),
    ("get_currencies", {}),
    ("get_delivery_prices", {"index_name": "btc_usd", "count": 5}),
    ("get_expirations", {"currency": "BTC", "kind": "option"}),
    ("get_expirations", {"currency": "any", "kind": "any"}),
    ("get_funding_chart_data", {**PERPETUAL, "length": "8h"}),
    ("get_funding_rate_history", {**PERPETUAL, **RANGE}),
    ("get_funding_rate_value", {**PERPETUAL, **RANGE}),
    ("get_historical_volatility", {"currency": "ETH"}),
    ("get_index_chart_data", {"index_name": "eth_usd", "range": "1d"}),
    ("get_index_price", {"index_name": "btc_usd"}),
    ("get_index_price_names", {}),
    ("get_instrument", {"instrument_name": "OPTION"}),
    ("get_last_settlements_by_currency", {"currency": "BTC", "count": 5}),
    ("get_last_settlements_by_instrument", {"instrument_name": "OPTION"}),
    ("get_last_trades_by_currency", {"currency": "BTC"}),
    ("get_last_trades_by_currency_and_time", {"currency": "BTC", **RANGE, "count": 20}),
    ("get_last_trades_by_instrument", {"instrument_name": "OPTION"}),
    ("get_last_trades_by_instrument_and_time", {"instrument_name": "OPTION", **RANGE}),
    ("get_mark_price_history", {**PERPETUAL, **RANGE}),
    ("get_order_book", PERPETUAL),
    ("get_order_book", {"instrument_name": "OPTION", "validate": False}),
    ("get_supported_index_names", {}),
    ("get_trade_volumes", {}),
    ("get_tradingview_chart_data", {**PERPETUAL, **RANGE, "resolution": "60"}),
    ("get_volatility_index_data", {"currency": "BTC", **RANGE, "resolution": "3600"}),
    ("ticker", PERPETUAL),
    ("ticker", {"instrument_name": "OPTION", "validate": False}),
]
FAST = {"interval": "100ms"}
STREAMS: list[tuple[str, dict[str, Any]]] = [
    ("ticker", {**PERPETUAL, **FAST}),
    ("ticker", {"instrument_name": "OPTION", "interval": "agg2", "validate": False}),
    ("book", {"instrument_name": "OPTION", **FAST}),
    ("book_grouped", {"instrument_name": "OPTION", "group": "none", "depth": 10, **FAST}),
    ("quote", {"instrument_name": "OPTION"}),
    ("incremental_ticker", PERPETUAL),
    ("perpetual", {**PERPETUAL, **FAST}),
    ("chart_trades", {**PERPETUAL, "resolution": "5"}),
    ("mark_price_options", {"index_name": "btc_usd"}),
    ("price_index", {"index_name": "btc_usd"}),
    ("price_ranking", {"index_name": "btc_usd"}),
    ("price_statistics", {"index_name": "btc_usd"}),
    ("volatility_index", {"index_name": "btc_usd"}),
    ("estimated_expiration_price", {"index_name": "btc_usd"}),
    ("trades_by_kind_currency", {"kind": "option", "currency": "BTC", **FAST}),
    ("platform_state", {}),
    ("platform_state_public_methods", {}),
]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running_box(tmp_path_factory.mktemp("typed"), limits=20, speed=30, settings={"EXCHANGE__EVERY_SECONDS": "10"}) as running:
        yield running


@pytest.fixture
def judge(box: RunningBox, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], Coroutine[Any, Any, Any]]], Any]:
    """Runs work with a client of the box."""
    monkeypatch.setattr(their_http, "DERIBIT_HTTP_URL", f"{box.url}/api/v2")
    monkeypatch.setattr(their_socket, "DERIBIT_WS_URL", f"{box.url.replace('http', 'ws')}/ws/api/v2")

    async def with_client(work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        async with asyncio.timeout(60), Deribit.new(client_id="box", client_secret="box-secret") as client:
            return await work(client)

    return lambda work: asyncio.run(with_client(work))


async def parameters(client: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    if wanted.get("instrument_name") != "OPTION":
        return wanted
    chain = await client.market_data.get_book_summary_by_currency("BTC", kind="option")
    return wanted | {"instrument_name": next(each["instrument_name"] for each in chain if each["bid_price"] and each["ask_price"])}


@pytest.mark.parametrize("transport", ["http", "ws"])
@pytest.mark.parametrize(("method", "wanted"), METHODS, ids=[f"{name}-{n}" for n, (name, _) in enumerate(METHODS)])
def test_a_methods_answer_fits_its_types(judge: Any, method: str, wanted: dict[str, Any], transport: str) -> None:
    async def work(client: Any) -> Any:
        return await getattr(client.market_data, method)(**await parameters(client, wanted), transport=transport)

    assert judge(work) is not None


@pytest.mark.parametrize(("stream", "wanted"), STREAMS, ids=[f"{name}-{n}" for n, (name, _) in enumerate(STREAMS)])
def test_a_streams_messages_fit_its_types(judge: Any, stream: str, wanted: dict[str, Any]) -> None:
    async def work(client: Any) -> Any:
        async with getattr(client.streams.market_data, stream)(**await parameters(client, wanted)) as messages:
            return await anext(aiter(messages))

    assert judge(work) is not None


def test_channels_of_events_are_taken(judge: Any) -> None:
    async def work(client: Any) -> None:
        names = [
            "instrument.state.option.BTC",
            "instrument.creation.option.BTC",
            "announcements",
            "trades.BTC-PERPETUAL.100ms",
            "no.such.channel",
        ]
        taken = await client.ws_client.request("public/subscribe", params={"channels": names})
        assert taken == names[:4]

    judge(work)


def test_books_follow_their_change_ids(judge: Any) -> None:
    async def work(client: Any) -> None:
        async with client.streams.market_data.book("BTC-PERPETUAL", interval="100ms") as messages:
            following, last = aiter(messages), None
            for _ in range(2):
                message = await anext(following)
                assert message["type"] == ("snapshot" if last is None else "change")
                assert last is None or message["prev_change_id"] == last
                last = message["change_id"]

    judge(work)


def test_the_session_and_the_log_in(judge: Any) -> None:
    async def work(client: Any) -> None:
        assert abs(await client.supporting.get_time() / 1_000 - NOW.timestamp()) < 86_400
        assert (await client.supporting.status())["locked"] == "false"
        assert (await client.supporting.test())["version"] == (await client.supporting.hello(client_name="judge", client_version="1"))[
            "version"
        ]
        assert await client.session.set_heartbeat(interval=30) == await client.session.disable_heartbeat() == "ok"
        granted = await client.auth.authenticate(grant_type="client_credentials", client_id="box", client_secret="box-secret")
        renewed = await client.auth.authenticate(grant_type="refresh_token", refresh_token=granted["refresh_token"])
        assert renewed["access_token"] != granted["access_token"]
        with pytest.raises(ApiError):
            await client.auth.authenticate(grant_type="client_credentials", client_id="box", client_secret="wrong")

    judge(work)


def test_the_exchange_itself_sends_a_name_where_their_types_say_number() -> None:
    recorded = REPOSITORY.parent / "shared" / "data" / "api_json" / "recorded" / "DERIBIT.ws.1.0"
    if not recorded.is_file():
        pytest.skip("no recorded traffic beside the repository")
    messages = [json.loads(line[line.index("{") :]) for line in recorded.read_text(encoding="utf-8").splitlines() if "{" in line]
    told = [m["params"]["data"]["underlying_index"] for m in messages if str(m.get("params", {}).get("channel", "")).startswith("ticker.")]
    assert told
    assert all(isinstance(name, str) for name in told)
