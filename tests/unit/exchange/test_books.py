"""Changes of a book, laid over what was told before, are the book."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from options_agent.exchange.books import Book, changes, ladder

LEVELS = st.dictionaries(st.integers(1, 40).map(float), st.integers(1, 9).map(float), max_size=12)


@given(before=LEVELS, after=LEVELS)
def test_changes_turn_one_into_the_other(before: dict[float, float], after: dict[float, float]) -> None:
    book = dict(before)
    for action, price, size in changes(before, after):
        assert (price in book) is (action != "new")
        if action == "delete":
            del book[price]
        else:
            book[price] = size
    assert book == after


def test_a_book_is_told_from_its_first_refresh_on_and_only_when_it_moved() -> None:
    row = {"bid": 0.01, "ask": 0.02, "bid_size": 2.0, "ask_size": 3.0}
    book = Book()
    assert book.refresh(row, 0.0005, 100) is None, "the snapshot is its own message"
    assert book.change_id == 100
    assert book.refresh(row, 0.0005, 100) is None
    book.dirty = True
    assert book.refresh(row, 0.0005, 100) is None, "the same quote again"
    book.dirty = True
    former, bids, asks = book.refresh({**row, "bid": 0.0105}, 0.0005, 100) or (0, [], [])
    assert former == 100
    assert book.change_id > former
    assert asks == []
    assert ["new", 0.0105, 2.0] in bids


def test_levels_go_away_from_the_best_price_and_stop_at_zero() -> None:
    assert ladder(None, 1.0, 0.1) == {}
    assert list(ladder(0.0010, 1.0, -0.0005)) == [0.001, 0.0005]
    assert all(b > a for a, b in zip(ladder(0.01, 1.0, 0.0005), list(ladder(0.01, 1.0, 0.0005))[1:], strict=False))
