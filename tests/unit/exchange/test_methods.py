"""The public methods by themselves: whatever they are given they answer, or refuse by a code of the exchange."""

from __future__ import annotations

import datetime as dt
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from options_agent.exchange.errors import RpcError
from options_agent.exchange.methods import METHODS, Market
from options_agent.exchange.server import make_box
from options_agent.market.clock import clock_at
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.settings import SyntheticSettings

START = dt.datetime(2026, 3, 2, 7, 45, tzinfo=dt.UTC)
_HOUR_MS = 3_600_000
_NOW_MS = int(START.timestamp() * 1_000)

ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(allow_nan=True), st.text(max_size=5), st.just([]), st.just({})
)
WANTED: dict[str, st.SearchStrategy[Any]] = {
    "currency": st.sampled_from(["BTC", "btc", "any", "USDC", "FOO"]),
    "kind": st.sampled_from(["option", "future", "any"]),
    "instrument_name": st.sampled_from(["BTC-PERPETUAL", "BTC-27MAR26-100000-C", "BTC-1JAN20-1-C"]),
    "instrument_id": st.integers(100_000, 100_100),
    "index_name": st.sampled_from(["btc_usd", "eth_usd"]),
    "start_timestamp": st.integers(_NOW_MS - 2 * _HOUR_MS, _NOW_MS),
    "end_timestamp": st.integers(_NOW_MS - 2 * _HOUR_MS, _NOW_MS + 30 * 24 * _HOUR_MS),
    "resolution": st.sampled_from(["5", "60", "3600", "1D"]),
    "length": st.sampled_from(["8h", "24h"]),
    "range": st.sampled_from(["1h", "1d"]),
    "count": st.integers(1, 20),
    "offset": st.integers(0, 20),
    "depth": st.integers(1, 10),
    "sorting": st.sampled_from(["asc", "desc", "default"]),
    "type": st.sampled_from(["delivery", "settlement"]),
    "continuation": st.sampled_from(["none", "2026-02-27.3", "20.x"]),
    "search_start_timestamp": st.integers(_NOW_MS - 48 * _HOUR_MS, _NOW_MS),
    "expired": st.booleans(),
}
CALLS = st.fixed_dictionaries({}, optional={name: st.one_of(values, values, values, ODD) for name, values in WANTED.items()})


@pytest.fixture(scope="module")
def market() -> Market:
    source = SyntheticSource(
        SyntheticSettings(defect_rate=0.0, outage_rate=0.0), interval=dt.timedelta(minutes=15), live_interval=dt.timedelta(minutes=15)
    )
    return make_box(source, ("BTC",), clock_at(START, 1e-9)).market


@pytest.mark.parametrize("name", sorted(METHODS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(params=CALLS)
def test_a_method_answers_or_refuses_by_a_code(market: Market, name: str, params: dict[str, Any]) -> None:
    code = None
    try:
        orjson.dumps(METHODS[name](market, params))
    except RpcError as refusal:
        code = refusal.code
    assert code in {None, -32602, 13020}


@pytest.mark.parametrize("first", [0, 1_000_000_000_000])
def test_a_range_that_begins_before_the_market_did_is_answered_with_what_there_is(market: Market, first: int) -> None:
    ranged = {"instrument_name": "BTC-PERPETUAL", "currency": "BTC", "start_timestamp": first, "end_timestamp": _NOW_MS}
    bars = METHODS["public/get_tradingview_chart_data"](market, ranged | {"resolution": "5"})
    assert 4_900 <= len(bars["ticks"]) <= 5_001, "the newest five thousand"
    assert bars["ticks"][-1] <= _NOW_MS
    oldest = METHODS["public/get_last_trades_by_currency_and_time"](market, ranged | {"count": 3})
    assert len(oldest["trades"]) == 3
    assert oldest["has_more"]
    newest = METHODS["public/get_last_trades_by_currency_and_time"](market, ranged | {"count": 3, "sorting": "desc"})
    stamps = [each["timestamp"] for each in newest["trades"]]
    assert stamps == sorted(stamps, reverse=True)
    assert stamps[0] > oldest["trades"][-1]["timestamp"]


def test_bars_of_an_option_are_its_trades_and_not_the_index(market: Market) -> None:
    day = {"start_timestamp": _NOW_MS - 8 * _HOUR_MS, "end_timestamp": _NOW_MS, "currency": "BTC", "count": 1_000}
    trades = METHODS["public/get_last_trades_by_currency_and_time"](market, day)["trades"]
    name = trades[0]["instrument_name"]
    if name not in market.feed.listed:
        name = next(each["instrument_name"] for each in trades if each["instrument_name"] in market.feed.listed)
    own = [each for each in trades if each["instrument_name"] == name]
    bars = METHODS["public/get_tradingview_chart_data"](market, day | {"instrument_name": name, "resolution": "60"})
    assert bars["status"] == "ok"
    assert sum(bars["volume"]) == pytest.approx(sum(each["amount"] for each in own))
    assert (bars["open"][0], bars["close"][-1]) == (own[0]["price"], own[-1]["price"])
    assert max(bars["high"]) == max(each["price"] for each in own)
    assert min(bars["low"]) == min(each["price"] for each in own)
    assert all(low <= close <= high for low, close, high in zip(bars["low"], bars["close"], bars["high"], strict=True))


@pytest.mark.parametrize("method", ["get_instruments", "get_book_summary_by_currency", "get_last_trades_by_currency", "get_expirations"])
def test_a_currency_the_exchange_does_not_have_is_refused_and_one_without_contracts_is_empty(market: Market, method: str) -> None:
    with pytest.raises(RpcError) as refused:
        METHODS[f"public/{method}"](market, {"currency": "FOO"})
    assert (refused.value.code, refused.value.data["param"]) == (-32602, "currency")
    told = METHODS[f"public/{method}"](market, {"currency": "SOL"})
    assert not (told["trades"] if isinstance(told, dict) and "trades" in told else told)
