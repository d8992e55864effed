"""The box's messages beside recorded ones of the real exchange: the same members of the same types, message by message.

What the exchange came to send after a recording was made is allowed for by name, each with when it is first seen in other recordings.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from options_agent.exchange import channels
from options_agent.exchange.methods import METHODS
from options_agent.exchange.server import Box, make_box
from options_agent.exchange.session import notification
from options_agent.market.clock import clock_at
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.settings import SyntheticSettings

NOW = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
#: Members in none of the older recordings: instruments of 2021 had few; `state` and the rest are in the exchange's documentation of 2025.
LATER = {
    "instrument": {
        *("instrument_id", "instrument_type", "price_index", "underlying_type", "counter_currency", "settlement_currency", "state"),
        *("tick_size_steps", "block_trade_min_trade_amount", "block_trade_tick_size", "max_leverage", "max_liquidation_commission"),
        *("future_type", "max_non_default_leverage"),
    },
    "ticker": {"volume_usd", "volume_notional"},
    "order_book": {"volume_usd", "volume_notional", "interest_value"},
    "trade": {"contracts"},
}
#: Members of recorded messages that belong to what the box does not have: combos, request-for-quote and liquidations.
ABSENT = {"rfq", "combo_trade_id", "combo_id", "liquidation", "block_trade_id"}


@pytest.fixture(scope="module")
def box() -> Box:
    second = dt.timedelta(seconds=1)
    source = SyntheticSource(SyntheticSettings(defect_rate=0.0, outage_rate=0.0), interval=second, live_interval=second)
    return make_box(source, ("BTC", "ETH"), clock_at(NOW, 1.0))


@pytest.fixture
def recorded(market_data: Path) -> Path:
    return market_data / "api_json"


def differences(ours: Any, theirs: Any, more: frozenset[str] | set[str], place: str = "") -> Iterator[str]:
    """Where a value of ours has not the shape of theirs; lists by their first members."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in theirs.keys() - ours.keys() - ABSENT:
            yield f"{place}.{name} is missing"
        for name in ours.keys() - theirs.keys() - more:
            yield f"{place}.{name} is not theirs"
        for name in theirs.keys() & ours.keys():
            yield from differences(ours[name], theirs[name], more, f"{place}.{name}")
    elif isinstance(theirs, list) and isinstance(ours, list):
        if theirs and ours:
            yield from differences(ours[0], theirs[0], more, f"{place}[0]")
    elif None not in (ours, theirs) and kind(ours) != kind(theirs):
        yield f"{place} is {kind(ours)}, theirs {kind(theirs)}"


def kind(value: Any) -> str:
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def trimmed(recorded: Path, name: str) -> Any:
    return json.loads((recorded / "trimmed" / f"{name}.json").read_text(encoding="utf-8"))


def answered(box: Box, method: str, **params: Any) -> Any:
    return json.loads(orjson.dumps(METHODS[f"public/{method}"](box.market, params)))


def an_option(box: Box, underlying: str = "BTC") -> str:
    return next(
        n for n, each in box.market.feed.listed.items() if each.underlying == underlying and each.row["bid"] and each.kind == "option"
    )


def told(box: Box, name: str) -> Any:
    channel = channels.parse(name, box.market)
    assert channel is not None
    frame = notification(name, channels.at_once(channel, box.market))
    return json.loads(frame[frame.index(b"{") :])


METHOD_CASES: list[tuple[str, str, dict[str, Any], str]] = [
    ("http_get_instrument", "get_instrument", {"instrument_name": "BTC-PERPETUAL"}, "instrument"),
    ("http_get_instrument_option", "get_instrument", {"instrument_name": "OPTION"}, "instrument"),
    ("http_get_instruments", "get_instruments", {"currency": "BTC", "kind": "future"}, "instrument"),
    ("http_get_expirations_btc_option", "get_expirations", {"currency": "btc", "kind": "option"}, ""),
    ("http_get_order_book", "get_order_book", {"instrument_name": "BTC-PERPETUAL"}, "order_book"),
    ("http_get_time", "get_time", {}, ""),
    ("http_get_tradingview_chart_data", "get_tradingview_chart_data", {"instrument_name": "BTC-PERPETUAL", "resolution": "60"}, ""),
    ("http_get_last_trades", "get_last_trades_by_currency", {"currency": "BTC"}, "trade"),
]


@pytest.mark.parametrize(("file", "method", "params", "kind_of"), METHOD_CASES, ids=[case[0] for case in METHOD_CASES])
def test_answers_have_the_recorded_shape(recorded: Path, box: Box, file: str, method: str, params: dict[str, Any], kind_of: str) -> None:
    stamp = int(NOW.timestamp() * 1_000)
    if "resolution" in params:
        params = params | {"start_timestamp": stamp - 86_400_000, "end_timestamp": stamp}
    if params.get("instrument_name") == "OPTION":
        params = {"instrument_name": an_option(box)}
    more = LATER.get(kind_of, set()) | ({"iv"} if kind_of == "trade" else set())  # theirs is of a perpetual
    assert sorted(differences(answered(box, method, **params), trimmed(recorded, file)["result"], more)) == []


STREAM_CASES: list[tuple[str, str, str]] = [
    ("ws_ticker", "ticker.BTC-PERPETUAL.100ms", "ticker"),
    ("ws_quote", "quote.BTC-PERPETUAL", ""),
    ("ws_book_snapshot", "book.BTC-PERPETUAL.100ms", ""),
    ("ws_book_grouped_snapshot", "book.BTC-PERPETUAL.none.10.100ms", ""),
    ("ws_chart", "chart.trades.BTC-PERPETUAL.1", ""),
    ("ws_volatility_index", "deribit_volatility_index.btc_usd", ""),
]


@pytest.mark.parametrize(("file", "channel", "kind_of"), STREAM_CASES, ids=[case[0] for case in STREAM_CASES])
def test_streams_have_the_recorded_shape(recorded: Path, box: Box, file: str, channel: str, kind_of: str) -> None:
    theirs = trimmed(recorded, file)
    theirs["params"]["data"].pop("prev_change_id", None) if "snapshot" in file else None  # null in one recording, absent in the others
    assert sorted(differences(told(box, channel), theirs, LATER.get(kind_of, set()))) == []


def test_a_book_change_has_the_recorded_shape(recorded: Path, box: Box) -> None:
    listed = box.market.feed.listed["BTC-PERPETUAL"]
    change = (1, [["new", 1.0, 2.0]], [["delete", 3.0, 0.0]])
    channel = channels.parse("book.BTC-PERPETUAL.100ms", box.market)
    assert channel is not None
    ours = json.loads(orjson.dumps(channels.of_instrument(channel, listed, 0, change)))
    assert sorted(differences(ours, trimmed(recorded, "ws_book_delta")["params"]["data"], set())) == []


def test_option_tickers_and_books_have_the_shape_of_recorded_traffic(recorded: Path, box: Box) -> None:
    seen: dict[str, int] = {}
    name = an_option(box)
    listed = box.market.feed.listed[name]
    for line in (recorded / "recorded" / "DERIBIT.ws.1.0").read_text(encoding="utf-8").splitlines():
        message = json.loads(line[line.index("{") :]) if "{" in line and '"subscription"' in line else None
        if message is None:
            continue
        data = message["params"]["data"]
        topic = str(message["params"]["channel"]).split(".")[0] + str(data.get("type", ""))
        if topic == "bookchange":
            channel = channels.parse(f"book.{name}.raw", box.market)
            assert channel is not None
            ours = json.loads(orjson.dumps(channels.of_instrument(channel, listed, 0, (1, [["new", 1.0, 2.0]], [["new", 3.0, 1.0]]))))
        else:
            ours = told(box, f"{topic.removesuffix('snapshot')}.{name}.raw")["params"]["data"]
        assert sorted(differences(ours, data, LATER["ticker"])) == []
        seen[topic] = seen.get(topic, 0) + 1
    assert seen.keys() == {"ticker", "booksnapshot", "bookchange"}
    assert sum(seen.values()) > 100


def test_instruments_have_the_shape_of_recorded_replies(recorded: Path, box: Box) -> None:
    compared = 0
    ours = {each["kind"]: each for each in answered(box, "get_instruments", currency="BTC")}
    for line in (recorded / "recorded" / "DERIBIT.0").read_text(encoding="utf-8").splitlines():
        if "get_instruments" not in line:
            continue
        for theirs in json.loads(line[line.index("{") :])["result"][:200]:
            if theirs["kind"] in ours:
                more = LATER["instrument"] | ({"option_type", "strike"} if theirs["kind"] == "option" else set())
                assert sorted(differences(ours[theirs["kind"]], theirs, more)) == []
                compared += 1
    assert compared > 300


def test_an_error_has_the_recorded_shape(recorded: Path) -> None:
    from options_agent.exchange.errors import RpcError

    theirs = trimmed(recorded, "ws_error")["error"]
    assert RpcError(theirs["code"]).reply()["message"] == theirs["message"]
