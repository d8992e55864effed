"""The live chain: what was heard when, what a snapshot holds of it, and what it may not hold."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.market.deribit.chain import LiveChain
from options_agent.market.deribit.replies import contracts_of

AT = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
T = int(AT.timestamp()) * 1_000_000
NAMES = ("BTC-2MAR26-60000-C", "BTC-2MAR26-60000-P", "BTC-27MAR26-70000-C")


def chain() -> LiveChain:
    made = LiveChain(("BTC",))
    made.list_contracts(
        "BTC", contracts_of([{"kind": "option", "instrument_name": name, "tick_size": 0.0001} for name in NAMES], place="x")
    )
    made.index["BTC"] = (60_000.0, T)
    return made


def ticker(name: str, bid: float, stamp: int = 0) -> dict[str, Any]:
    return {
        "instrument_name": name,
        "timestamp": T // 1_000 + stamp,
        "best_bid_price": bid,
        "best_ask_price": bid + 0.001,
        "mark_price": bid,
        "best_bid_amount": 5.0,
        "best_ask_amount": 5.0,
        "bid_iv": 50.0,
        "ask_iv": 52.0,
        "mark_iv": 51.0,
        "underlying_price": 60_010.0,
        "index_price": 60_000.0,
        "open_interest": 1.0,
        "stats": {"volume": 1.0},
        "greeks": {"delta": 0.5, "gamma": 1e-5, "vega": 10.0, "theta": -5.0},
    }


def taken(made: LiveChain, since: int = T - 60_000_000) -> dict[str, dict[str, Any]]:
    table = made.table("BTC", AT, heard_since=since, network="synthetic", region="eu1")
    return {} if table is None else {row["instrument"]: row for row in table.to_pylist()}


def test_a_row_says_when_it_was_heard_and_for_which_grid_time_it_answers() -> None:
    made = chain()
    made.hear_ticker(ticker(NAMES[0], 0.02), T - 5_000_000)
    row = taken(made)[NAMES[0]]
    assert row["ts"] == AT - dt.timedelta(seconds=5)
    assert row["snapshot"] == AT
    assert (row["bid"], row["strike"], row["right"], row["region"]) == (0.02, 60_000.0, "C", "eu1")


def test_what_was_heard_too_long_ago_is_not_in_the_snapshot() -> None:
    made = chain()
    made.hear_ticker(ticker(NAMES[0], 0.02), T - 61_000_000)
    assert taken(made) == {}
    assert made.stale("BTC", AT, T - 60_000_000) == 3


def test_a_late_ticker_does_not_put_the_clock_back() -> None:
    made = chain()
    made.hear_ticker(ticker(NAMES[0], 0.03, stamp=10), T)
    made.hear_ticker(ticker(NAMES[0], 0.02, stamp=5), T + 1)
    assert taken(made)[NAMES[0]]["bid"] == 0.03


@pytest.mark.parametrize("ahead_seconds", [150, 600, 86_400 * 365])
def test_a_clock_of_the_exchange_that_was_ahead_for_a_while_makes_no_contract_deaf(ahead_seconds: int) -> None:
    made = chain()
    made.hear_ticker(ticker(NAMES[0], 0.03, stamp=ahead_seconds * 1_000), T)
    made.hear_ticker(ticker(NAMES[0], 0.02, stamp=1_000), T + 1)
    assert taken(made)[NAMES[0]]["bid"] == 0.02


def test_a_summary_confirms_an_old_row_or_replaces_it() -> None:
    made = chain()
    made.hear_ticker(ticker(NAMES[0], 0.02), T - 100_000_000)
    made.hear_ticker(ticker(NAMES[1], 0.02), T - 100_000_000)
    same = {"instrument_name": NAMES[0], "bid_price": 0.02, "ask_price": 0.02 + 0.001, "mark_price": 0.02, "underlying_price": 60_020.0}
    moved = same | {"instrument_name": NAMES[1], "bid_price": 0.025, "mark_price": 0.026}
    assert made.hear_summary([same, moved], T, T - 60_000_000) == 2
    rows = taken(made)
    assert rows[NAMES[0]]["delta"] == 0.5, "the row still stands"
    assert rows[NAMES[0]]["ts"] == AT
    assert rows[NAMES[1]]["bid"] == 0.025
    assert rows[NAMES[1]]["delta"] is None, "greeks of another price are not its own"
    assert rows[NAMES[1]]["index"] == 60_000.0


def test_an_expired_contract_is_neither_expected_nor_taken() -> None:
    made = chain()
    later = dt.datetime(2026, 3, 2, 8, tzinfo=dt.UTC)
    for name in NAMES:
        made.hear_ticker(ticker(name, 0.02), T)
    assert made.expected("BTC", later) == [NAMES[2]]
    table = made.table("BTC", later, heard_since=0, network="synthetic", region="eu1")
    assert table is not None
    assert table["instrument"].to_pylist() == [NAMES[2]]


def test_a_delisted_contract_is_forgotten_and_a_stranger_not_learnt() -> None:
    made = chain()
    made.hear_ticker(ticker(NAMES[0], 0.02), T)
    listed = contracts_of([{"kind": "option", "instrument_name": NAMES[1], "tick_size": 0.0001}], place="x")
    new, gone = made.list_contracts("BTC", listed)
    assert (new, sorted(gone)) == ([], [NAMES[2], NAMES[0]])
    made.hear_ticker(ticker("BTC-2MAR26-1-C", 0.02), T)
    assert taken(made) == {}


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(-200, 0), st.integers(1, 50)), max_size=40))
def test_a_snapshot_holds_of_each_contract_the_newest_by_the_exchanges_stamp(heard: list[tuple[str, int, int]]) -> None:
    made = chain()
    newest: dict[str, tuple[int, float]] = {}
    for order, (name, stamp, price) in enumerate(heard):
        made.hear_ticker(ticker(name, price / 1_000, stamp), T + order)
        if name not in newest or stamp >= newest[name][0]:
            newest[name] = (stamp, price / 1_000)
    assert {name: row["bid"] for name, row in taken(made).items()} == {name: bid for name, (_, bid) in newest.items()}


def test_a_contract_that_only_the_summary_tells_of_is_expected_from_then_on() -> None:
    made = chain()
    new = "BTC-27MAR26-75000-P"
    made.hear_summary([{"instrument_name": new, "bid_price": 0.01, "mark_price": 0.011}, {"instrument_name": "ETH-27MAR26-1-C"}], T, T)
    assert new in made.expected("BTC", AT)
    assert made.learnt == [new]
    assert taken(made)[new]["strike"] == 75_000.0
