"""The box judged by ccxt, unmodified but for the URL: its market-data calls, its log-in, its reading of our errors."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ccxt.async_support as rest
import ccxt.pro as streams
import pytest

from options_agent.contracts import parse_option
from tests.servers.exchange import RunningBox, running_box


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running_box(tmp_path_factory.mktemp("ccxt"), limits=20) as running:
        yield running


@asynccontextmanager
async def client(box: RunningBox, kind: Any = rest.deribit, **options: Any) -> AsyncIterator[Any]:
    exchange = kind({"enableRateLimit": False, **options})
    exchange.urls["api"] = {"rest": box.url, "ws": box.url.replace("http", "ws")}
    if kind is not rest.deribit:
        exchange.urls["api"]["ws"] = box.url.replace("http", "ws") + "/ws/api/v2"
    try:
        yield exchange
    finally:
        await exchange.close()


async def spend(exchange: Any) -> None:
    for _ in range(30):
        await exchange.public_get_get_time()


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), 120))


def a_market(exchange: Any, **wanted: Any) -> Any:
    return next(m for m in exchange.markets.values() if all(m[name] == value for name, value in wanted.items()))


def test_markets_are_what_their_names_say(box: RunningBox) -> None:
    async def work() -> None:
        async with client(box) as exchange:
            markets = await exchange.load_markets()
            assert len(markets) > 1_000
            for market in markets.values():
                if not market["option"]:
                    continue
                option = parse_option(market["id"])
                assert market["strike"] == float(option.strike)
                assert market["expiry"] == option.expiry.timestamp() * 1_000
                assert market["optionType"] == {"C": "call", "P": "put"}[option.right]
                assert market["settle"] == market["base"] == option.underlying
                assert market["inverse"]
            assert {m["type"] for m in markets.values()} == {"option", "future", "swap"}

    run(work)


def test_prices_books_and_greeks_agree_with_each_other(box: RunningBox) -> None:
    async def work() -> None:
        async with client(box) as exchange:
            await exchange.load_markets()
            chain = await exchange.fetch_option_chain("BTC")
            quoted = [s for s, each in chain.items() if each["bidPrice"] and each["askPrice"] and 0.01 < each["bidPrice"] < 0.1]
            for symbol in quoted:  # the market goes on: a bid or an ask may have gone since
                ticker, greeks = await exchange.fetch_ticker(symbol), await exchange.fetch_greeks(symbol)
                book, option = await exchange.fetch_order_book(symbol), await exchange.fetch_option(symbol)
                if ticker["bid"] and ticker["ask"] and book["bids"] and book["asks"]:
                    break
            assert ticker["bid"] < ticker["ask"]
            assert book["bids"][0][0] < book["asks"][0][0]
            assert -1 < greeks["delta"] < 1
            assert greeks["gamma"] > 0
            assert greeks["markImpliedVolatility"] == pytest.approx(float(option["info"]["mark_iv"]), rel=0.05)
            tickers = await exchange.fetch_tickers(None, {"code": "BTC"})
            assert set(chain) <= set(tickers)
            assert (await exchange.fetch_open_interest(symbol))["openInterestAmount"] is not None

    run(work)


def test_history_and_state(box: RunningBox) -> None:
    async def work() -> None:
        async with client(box) as exchange:
            await exchange.load_markets()
            perpetual = a_market(exchange, swap=True, base="BTC")["symbol"]
            now = await exchange.fetch_time()
            assert abs(now / 1_000 - dt.datetime.now(dt.UTC).timestamp()) < 60
            assert (await exchange.fetch_status())["status"] == "ok"
            assert {"BTC", "ETH"} <= set(await exchange.fetch_currencies())
            bars = await exchange.fetch_ohlcv(perpetual, "1h")
            assert len(bars) > 100
            assert all(low <= min(first, last) and max(first, last) <= high for _, first, high, low, last, _ in bars)
            assert all(b[0] - a[0] == 3_600_000 for a, b in itertools.pairwise(bars))
            assert len(await exchange.fetch_funding_rate_history(perpetual)) > 100
            assert "fundingRate" in await exchange.fetch_funding_rate(perpetual)
            assert len(await exchange.fetch_volatility_history("BTC")) > 10
            trades = [t for m in list(exchange.markets.values())[:40] if m["option"] for t in await exchange.fetch_trades(m["symbol"])]
            assert trades
            assert all(t["side"] in {"buy", "sell"} and t["price"] > 0 and t["amount"] > 0 for t in trades)

    run(work)


def test_a_signed_private_call_is_let_in_and_a_wrong_key_is_not(box: RunningBox) -> None:
    async def work() -> None:
        async with client(box, apiKey="box", secret="box-secret") as known:
            with pytest.raises(rest.BadRequest, match="Method not found"):  # trading is yet to come: the door was open
                await known.private_get_get_positions()
        async with client(box, apiKey="box", secret="wrong") as stranger:
            with pytest.raises(rest.AuthenticationError):
                await stranger.private_get_get_positions()

    run(work)


def test_errors_become_ccxts_own(box: RunningBox, tmp_path: Path) -> None:
    async def work(poor: RunningBox) -> None:
        async with client(poor) as exchange:
            with pytest.raises(rest.ExchangeError, match="13020"):
                await exchange.public_get_ticker({"instrument_name": "BTC-1JAN20-1-C"})
            with pytest.raises(rest.BadRequest):
                await exchange.public_get_ticker()
            with pytest.raises(rest.DDoSProtection):  # 100 at once and 20 a second, by fewer connections than 33
                await asyncio.gather(*(exchange.public_get_get_time() for _ in range(15)), *(spend(exchange) for _ in range(8)))
            await asyncio.sleep(2)
            await asyncio.to_thread(poor.fault, maintenance=True)
            with pytest.raises(rest.ExchangeNotAvailable):
                await exchange.public_get_get_time()

    with running_box(tmp_path, limits=1) as poor:
        run(lambda: work(poor))


def test_its_streams_follow_the_market(tmp_path: Path) -> None:
    """Its order books check nothing, so ours are checked against the answer of `get_order_book`."""

    async def work(fast: RunningBox) -> None:
        async with client(fast, streams.deribit) as exchange:
            await exchange.load_markets()
            perpetual = a_market(exchange, swap=True, base="BTC")["symbol"]
            option = a_market(exchange, option=True, base="ETH")["symbol"]
            assert (await exchange.watch_ticker(perpetual))["last"] > 0
            assert (await exchange.watch_ticker(option))["symbol"] == option
            book = await exchange.watch_order_book(perpetual)
            assert book["bids"][0][0] < book["asks"][0][0]

    with running_box(tmp_path, speed=300, settings={"EXCHANGE__EVERY_SECONDS": "300"}) as fast:
        run(lambda: work(fast))
