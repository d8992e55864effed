"""Replies of the exchange, recorded and made, as quote values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from options_agent.errors import ExchangeError
from options_agent.market.deribit.replies import (
    VALUES,
    RefusalError,
    as_documented,
    contracts_of,
    require_network,
    result_of,
    summary_values,
    ticker_values,
)
from tests.conftest import REPOSITORY

RECORDED = REPOSITORY.parent / "shared" / "data" / "api_json" / "recorded"
recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason="no recorded traffic beside the repository")


def lines(name: str) -> list[dict]:
    found = []
    for line in (Path(RECORDED) / name).read_text(encoding="utf-8").splitlines():
        start = line.find("{")
        if start >= 0:
            found.append(json.loads(line[start:]))
    return found


@recorded
def test_recorded_instruments_are_contracts_and_futures_are_left_out() -> None:
    replies = [each for each in lines("DERIBIT.0") if isinstance(each.get("result"), list)]
    assert sum(len(reply["result"]) for reply in replies) > 500
    for reply in replies:
        found = contracts_of(reply["result"], place="recorded")
        options = [each for each in reply["result"] if each["kind"] == "option"]
        assert len(found) == len(options)
        for each in options:
            contract = found[each["instrument_name"]]
            assert float(contract.option.strike) == each["strike"]
            assert contract.expiry.timestamp() * 1_000 == each["expiration_timestamp"]
            assert contract.option.right == each["option_type"][0].upper()


@recorded
def test_recorded_tickers_give_the_values_they_hold() -> None:
    tickers = [
        each["params"]["data"] for each in lines("DERIBIT.ws.1.0") if str(each.get("params", {}).get("channel", "")).startswith("ticker.")
    ]
    assert len(tickers) > 20
    for data in tickers:
        row = dict(zip(VALUES, ticker_values(data), strict=True))
        assert row["bid"] == (data["best_bid_price"] or None)
        assert row["ask"] == (data["best_ask_price"] or None)
        assert row["bid_iv"] is None if row["bid"] is None else row["bid_iv"] == pytest.approx(data["bid_iv"] / 100) or not data["bid_iv"]
        assert row["mark_iv"] == pytest.approx(data["mark_iv"] / 100)
        assert row["delta"] == data["greeks"]["delta"]
        assert row["forward"] == data["underlying_price"]
        assert row["index"] == data["index_price"]


def test_nothing_is_null_and_never_zero() -> None:
    data = {
        "best_bid_price": 0.0,
        "best_ask_price": None,
        "mark_price": 0.0,
        "best_bid_amount": 0.0,
        "bid_iv": 0.0,
        "ask_iv": 999.0,
        "mark_iv": 61.5,
        "greeks": {"delta": 0.0, "gamma": 0.0, "vega": 0.0, "theta": 0.0},
        "underlying_price": 60_000.0,
        "index_price": 60_001.0,
        "open_interest": 0.0,
        "stats": {"volume": None},
    }
    row = dict(zip(VALUES, ticker_values(data), strict=True))
    assert [name for name, value in row.items() if value is None] == [
        "bid", "ask", "mark", "bid_size", "ask_size", "bid_iv", "ask_iv", "volume_24h"
    ]  # fmt: skip
    assert row["delta"] == 0.0
    assert row["open_interest"] == 0.0


def test_a_summary_has_neither_greeks_nor_sizes() -> None:
    row = dict(zip(VALUES, summary_values({"bid_price": 0.01, "ask_price": None, "mark_price": 0.011, "mark_iv": 50.0}, 1.5), strict=True))
    assert row["bid"] == 0.01
    assert row["index"] == 1.5
    assert row["mark_iv"] == 0.5
    assert row["delta"] is row["bid_size"] is row["ask"] is None


def test_errors_are_told_apart_by_code() -> None:
    with pytest.raises(RefusalError) as refused:
        result_of({"error": {"code": 11051, "message": "system_maintenance"}}, place="x")
    assert refused.value.code == 11051
    assert "maintenance" in str(refused.value.remedy)


NO_REPLIES: list[object] = [
    *[["nothing"], {}, None, "<html>", 5, {"message": "502"}],
    *[{"error": "gone"}, {"error": {"message": "no code"}}, {"error": None, "id": 1}],
]


@pytest.mark.parametrize("page", NO_REPLIES)
def test_what_is_no_reply_is_the_exchanges_failure_and_not_ours(page: object) -> None:
    with pytest.raises(ExchangeError, match="not a JSON-RPC reply"):
        result_of(page, place="x")


def test_a_result_without_what_it_should_have_is_a_failure_too() -> None:
    result: Any = {"price": None}
    with (
        pytest.raises(ExchangeError, match="the answer to public/get_index_price is not as documented"),
        as_documented("public/get_index_price", "x"),
    ):
        float(result["index_price"])


@pytest.mark.parametrize(("network", "testnet"), [("mainnet", True), ("testnet", False), ("synthetic", False)])
def test_an_answer_of_another_network_is_refused(network: str, testnet: bool) -> None:
    with pytest.raises(ExchangeError, match=f"this desk is set to {network}"):
        require_network(network, {"result": 1, "testnet": testnet}, "x")
    require_network(network, {"result": 1, "testnet": not testnet}, "x")
