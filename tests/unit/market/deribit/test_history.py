"""The exchange's own history: which server is asked for which trades, in how many calls, and that none comes twice or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from options_agent.lake.receipts import read_receipt
from options_agent.lake.store import open_lake, read_series
from options_agent.market.clock import clock_at
from options_agent.market.deribit.backfill import backfill_history
from options_agent.market.deribit.history import delivery_table
from options_agent.market.deribit.http import Caller
from options_agent.market.sources import day_range
from options_agent.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = dt.date(2026, 3, 3)
START, END = day_range(DAY)
LONG_AFTER = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)


def milliseconds(at: dt.datetime) -> int:
    return int(at.timestamp() * 1000)


def trades_between(start: dt.datetime, count: int, step: dt.timedelta, first: int = 0) -> list[dict[str, Any]]:
    """Trades of two families, ascending; every third shares its millisecond with the one before."""
    return [
        {
            "trade_id": f"BTC-{first + n}",
            "timestamp": milliseconds(start + step * (n - (n % 3 == 2))),
            "instrument_name": "BTC-27MAR26-90000-C",
            "price": 0.05,
            "amount": 1.0,
            "direction": "buy",
        }
        for n in range(count)
    ]


@dataclass(slots=True)
class Exchange:
    """A server of the methods that history asks for. It never says that there is more, as the real one sometimes does not."""

    trades: list[dict[str, Any]] = field(default_factory=list)
    deliveries: list[dict[str, Any]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    broken: bool = False
    url: str = ""

    def answer(self, method: str, params: dict[str, Any]) -> Any:
        self.asked[method] += 1
        if method.endswith("last_trades_by_currency_and_time"):
            assert params["include_old"] is True
            found = [t for t in self.trades if params["start_timestamp"] <= t["timestamp"] <= params["end_timestamp"]]
            return {"trades": found[: params["count"]], "has_more": False}
        if method.endswith("get_delivery_prices"):
            return {"data": self.deliveries[params["offset"] : params["offset"] + params["count"]]}
        return {"get_funding_rate_history": []}.get(method.rsplit("/", 1)[-1], {})


@contextlib.contextmanager
def serving(exchange: Exchange) -> Iterator[Exchange]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            ask = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = {"result": exchange.answer(ask["method"], ask["params"])}
            if exchange.broken and "last_trades" in ask["method"]:
                answer = {"error": {"code": 11051, "message": "system_maintenance"}}
            body = orjson.dumps({"jsonrpc": "2.0", "id": ask["id"], "testnet": False, **answer})
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    exchange.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield exchange
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def main() -> Iterator[Exchange]:
    """The exchange."""
    with serving(Exchange()) as server:
        yield server


@pytest.fixture
def past() -> Iterator[Exchange]:
    """Its server of past trades."""
    with serving(Exchange()) as server:
        yield server


def settings_of(home: Path, main: Exchange, past: Exchange) -> Settings:
    return load_settings(
        home=home,
        source="deribit",
        network="mainnet",
        underlyings=("BTC",),
        deribit={"url": main.url, "history_url": past.url, "backoff_seconds": 0.01},
        _env_file=None,
    )


def test_mainnets_trades_of_past_days_are_on_a_host_of_their_own_and_other_networks_have_one_host() -> None:
    mainnet = load_settings(source="deribit", network="mainnet", _env_file=None)
    assert (mainnet.exchange_url, mainnet.history_url) == ("https://www.deribit.com", "https://history.deribit.com")
    testnet = load_settings(source="deribit", network="testnet", _env_file=None)
    assert testnet.history_url == testnet.exchange_url
    with pytest.raises(Exception, match="is mainnet's, the network is testnet"):
        load_settings(source="deribit", network="testnet", deribit={"history_url": mainnet.history_url}, _env_file=None)


def test_trades_of_old_days_come_from_the_server_of_past_trades_page_by_page(tmp_path: Path, main: Exchange, past: Exchange) -> None:
    past.trades = trades_between(START, 2_501, dt.timedelta(seconds=30))
    settings = settings_of(tmp_path, main, past)
    lake = open_lake(settings)
    (done,) = backfill_history(settings, lake, [DAY], clock=clock_at(LONG_AFTER, 1.0))
    stored = read_series(lake, "trades", "BTC")["trade_id"].to_pylist()
    assert sorted(stored) == sorted(t["trade_id"] for t in past.trades)
    assert done.receipt.counts["trades"] == 2_501
    assert not any("last_trades" in method for method in main.asked)


def test_of_the_last_day_the_exchange_itself_is_asked_too_and_no_trade_counts_twice(tmp_path: Path, main: Exchange, past: Exchange) -> None:
    every = trades_between(START, 1_440, dt.timedelta(minutes=1))
    past.trades, main.trades = every[:1_300], every[900:]  # one is late, the other forgets
    settings = settings_of(tmp_path, main, past)
    lake = open_lake(settings)
    backfill_history(settings, lake, [DAY], clock=clock_at(END + dt.timedelta(minutes=30), 1.0))
    stored = read_series(lake, "trades", "BTC")
    assert sorted(stored["trade_id"].to_pylist()) == sorted(t["trade_id"] for t in every)
    assert stored["ts"].to_pylist() == sorted(stored["ts"].to_pylist())


def test_many_days_at_once_each_get_their_receipt_and_a_refusal_leaves_only_what_is_whole(
    tmp_path: Path, main: Exchange, past: Exchange
) -> None:
    days = [DAY + dt.timedelta(days=n) for n in range(12)]
    past.trades = [t for n, day in enumerate(days) for t in trades_between(day_range(day)[0], 20, dt.timedelta(minutes=5), first=1_000 * n)]
    settings = settings_of(tmp_path, main, past)
    lake, clock = open_lake(settings), clock_at(LONG_AFTER, 1.0)
    past.broken = True
    with pytest.raises(Exception, match="maintenance"):
        backfill_history(settings, lake, days, clock=clock)
    assert all(read_receipt(lake, "history", "BTC", day.isoformat()) is None for day in days)
    past.broken = False
    done = backfill_history(settings, lake, days, clock=clock)
    assert [one.day for one in done] == days
    assert {one.receipt.counts["trades"] for one in done} == {20}
    asked = past.asked.total()
    assert all(one.done_before for one in backfill_history(settings, lake, days, clock=clock))
    assert past.asked.total() == asked


@pytest.mark.parametrize("missing", [0, 7, 250])
def test_a_delivery_price_of_two_years_ago_takes_a_few_calls_however_many_came_since(
    tmp_path: Path, main: Exchange, past: Exchange, missing: int
) -> None:
    newest = LONG_AFTER.date() - dt.timedelta(days=1)
    known = [newest - dt.timedelta(days=n) for n in range(1_500) if not 10 <= n < 10 + missing]
    main.deliveries = [{"date": f"{day}", "delivery_price": 50_000.0 + day.toordinal()} for day in known]
    day = newest - dt.timedelta(days=730)

    async def ask() -> list[float]:
        async with Caller(settings_of(tmp_path, main, past), clock_at(LONG_AFTER, 1.0)) as caller:
            table = await delivery_table(caller, "BTC", *day_range(day))
            return [float(price) for price in table["price"].to_pylist()]

    assert asyncio.run(ask()) == [50_000.0 + day.toordinal()]
    assert main.asked["public/get_delivery_prices"] <= 2 + missing // 100 + 1
