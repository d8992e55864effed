"""The pacer against the exchange's own accounting: whoever keeps to it is never refused."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.exchange.credits import Account
from options_agent.market.clock import Clock
from options_agent.market.deribit.pacing import POOLS, Pacer, pool_of

METHODS = ("public/ticker", "public/subscribe", "public/get_instruments", "public/get_book_summary_by_currency", "private/buy")


@given(
    calls=st.lists(st.tuples(st.sampled_from(METHODS), st.floats(0.0, 5.0)), max_size=300),
    share=st.floats(0.3, 1.0),
)
def test_who_waits_as_told_is_never_refused(calls: list[tuple[str, float]], share: float) -> None:
    pacer, account = Pacer(Clock(), share), Account()
    now = 1_000.0
    for method, pause in calls:
        now += pause
        wait = pacer.reserve(method, now)
        now += wait
        assert account.charge(method, now + 1e-9), f"{method} at {now}"


@given(share=st.floats(0.3, 1.0), method=st.sampled_from(METHODS))
def test_a_burst_is_served_at_once_and_then_at_the_refill(share: float, method: str) -> None:
    pacer = Pacer(Clock(), share)
    cost, size, refill = POOLS[pool_of(method)]
    at_once = max(int(size * share / cost + 1e-9), 1)
    waits = [pacer.reserve(method, 0.0) for _ in range(at_once + 3)]
    assert all(wait == pytest.approx(0.0, abs=1e-9) for wait in waits[:at_once])
    assert waits[-1] - waits[-2] == pytest.approx(cost / (refill * share))


def test_pools_are_apart() -> None:
    pacer = Pacer(Clock(), 1.0)
    while not pacer.reserve("public/subscribe", 0.0):
        pass
    assert pacer.reserve("public/ticker", 0.0) == 0.0


def test_after_a_refusal_it_begins_from_nothing() -> None:
    pacer = Pacer(Clock(), 1.0)
    pacer.drained(0.0)
    assert pacer.reserve("public/ticker", 0.0) == pytest.approx(0.05)


def test_waiting_is_in_market_time() -> None:
    clock = Clock(speed=20.0, origin=1, began=0.0)
    pacer = Pacer(clock, 1.0)
    pacer.drained(clock.seconds())
    asyncio.run(asyncio.wait_for(pacer.pay("public/get_instruments"), 5.0))  # a market second is a twentieth of the wall's
    assert pacer.waited_seconds > 0
