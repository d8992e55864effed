"""Books from streams that lose, repeat and shuffle changes: sound means equal to the exchange's, always."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from options_agent.exchange.books import changes
from options_agent.market.deribit.books import OrderBook

NAME = "BTC-PERPETUAL"


def history(seed: int, length: int) -> list[tuple[dict[float, float], dict[str, Any]]]:
    """Bids after each change, and the message that told it; the first is a snapshot."""
    dice = random.Random(seed)
    bids: dict[float, float] = {100.0: 1.0}
    told = [(dict(bids), {"type": "snapshot", "instrument_name": NAME, "change_id": 10, "bids": [["new", 100.0, 1.0]], "asks": []})]
    for n in range(length):
        after = dict(bids)
        for _ in range(dice.randrange(1, 4)):
            price = 95.0 + dice.randrange(10)
            if dice.random() < 0.3:
                after.pop(price, None)
            else:
                after[price] = float(dice.randrange(1, 9))
        message = {"type": "change", "instrument_name": NAME, "prev_change_id": 10 + 3 * n, "change_id": 13 + 3 * n}
        told.append((after, message | {"bids": changes(bids, after), "asks": []}))
        bids = after
    return told


def snapshot(told: list[tuple[dict[float, float], dict[str, Any]]], at: int) -> dict[str, Any]:
    bids, message = told[at]
    return {"bids": [[price, size] for price, size in bids.items()], "asks": [], "change_id": message["change_id"]}


@given(seed=st.integers(0, 10_000), lost=st.sets(st.integers(1, 30), max_size=8), twice=st.sets(st.integers(1, 30), max_size=8))
def test_a_sound_book_is_the_exchanges_whatever_was_lost_or_repeated(seed: int, lost: set[int], twice: set[int]) -> None:
    told = history(seed, 30)
    book = OrderBook(NAME)
    for at, (bids, message) in enumerate(told):
        if at in lost:
            continue
        for _ in range(2 if at in twice else 1):
            if not book.hear(message):
                assert book.best == (None, None)
                assert book.heal(snapshot(told, at))
        assert book.sound
        assert book.bids == bids
    assert book.gaps == book.healed


@given(seed=st.integers(0, 10_000), behind=st.integers(1, 12))
def test_a_snapshot_older_than_what_waits_is_joined_by_it_and_one_too_old_is_asked_for_again(seed: int, behind: int) -> None:
    told = history(seed, 30)
    book = OrderBook(NAME)
    book.hear(told[0][1])
    for _, message in told[10:20]:
        assert not book.hear(message)
    joined = book.heal(snapshot(told, 20 - behind))
    assert joined is (20 - behind >= 9)
    if joined:
        assert book.bids == told[19][0]
    else:
        assert not book.sound
        assert book.heal(snapshot(told, 19))
        assert book.bids == told[19][0]


def test_nothing_is_read_before_the_first_snapshot() -> None:
    told = history(1, 5)
    book = OrderBook(NAME)
    assert not book.hear(told[2][1])
    assert book.mid is None
    assert book.hear(told[0][1])
    assert book.best == (100.0, None)
