"""Credit pools against a slow obvious account of them, in whole thousandths."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from options_agent.exchange.credits import Account

CALLS = st.lists(
    st.tuples(st.sampled_from(["public/ticker", "public/subscribe", "public/get_instruments", "private/buy"]), st.integers(0, 3_000))
)
#: Cost, size and refill a second, as the exchange's page on limits has them.
RULES = {
    "public/ticker": (500, 50_000, 10_000),
    "public/subscribe": (3_000, 30_000, 10_000),
    "public/get_instruments": (10_000, 50_000, 10_000),
    "private/buy": (1, 20, 5),
}


@given(calls=CALLS)
def test_a_call_is_paid_exactly_when_the_pool_can(calls: list[tuple[str, int]]) -> None:
    account, levels, now = Account(), {name: Fraction(size) for name, (_, size, _) in RULES.items()}, Fraction(0)
    for method, pause in calls:
        now += Fraction(pause, 1_000)
        for name, (_, size, refill) in RULES.items():
            levels[name] = min(Fraction(size), levels[name] + Fraction(pause, 1_000) * refill)
        cost = RULES[method][0]
        allowed = account.charge(method, float(now))
        if abs(levels[method] - cost) < Fraction(1, 1_000):
            return  # too near to call in floats
        assert allowed is (levels[method] >= cost)
        levels[method] -= cost if allowed else 0


def test_twenty_a_second_and_a_hundred_at_once() -> None:
    account = Account()
    assert sum(account.charge("public/ticker", 0.0) for _ in range(150)) == 100
    assert sum(account.charge("public/ticker", 1.0) for _ in range(150)) == 20
    assert account.refused == 50 + 130


def test_without_limits_nothing_is_refused() -> None:
    account = Account()
    assert all(account.charge("public/get_instruments", 0.0, 0.0) for _ in range(1_000))
