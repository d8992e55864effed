"""Scores of answers against values known later, their paired intervals, and the gate."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.errors import DataError
from options_agent.llm.evaluation.gate import Gate, judge
from options_agent.llm.evaluation.scores import Answered, HeldOut, difference, regrets, score

START = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)


def decision(n: int, hold: float, close: float, expert: str = "hold") -> HeldOut:
    values = {"hold": hold, "close": close}
    regime = "bull-calm" if n % 2 else "bear-stormy"
    return HeldOut(f"d{n}", START + dt.timedelta(hours=6 * n), (), ("hold", "close"), expert, values, "covered_call", "BTC", regime)


def said(*actions: str | None) -> list[Answered]:
    return [Answered(action, cost_usd=0.001, seconds=0.5) for action in actions]


def test_numbers_of_a_small_case_by_hand() -> None:
    decisions = [decision(0, 0.01, 0.02), decision(1, -0.03, 0.0, "close"), decision(2, 0.005, 0.005), decision(3, 0.04, 0.0)]
    found = score("m", decisions, said("close", "hold", "hold", None))
    assert found.regret == pytest.approx((0 + 0.03 + 0 + 0) / 4)
    assert found.value == pytest.approx((0.02 - 0.03 + 0.005 + 0.04) / 4)
    assert (found.valid, found.agreement) == (0.75, 0.5)
    assert found.by_regime == pytest.approx({"bear-stormy": 0.0, "bull-calm": 0.015})
    assert (found.cost_usd, found.seconds) == (0.001, 0.5)


def test_what_cannot_be_used_counts_as_doing_nothing() -> None:
    entry = HeldOut("e", START, (), ("open", "skip"), "open", {"open": 0.02, "skip": 0.0}, "s", "BTC", "r")
    assert regrets([entry], said("sell everything")).tolist() == [0.02]
    assert score("m", [entry], said("sell everything")).valid == 0.0


moves = st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.sampled_from(["hold", "close", None])), min_size=1, max_size=30)


@given(moves)
def test_regret_is_never_negative_and_the_best_choice_has_none(rows: list[tuple[float, float, str | None]]) -> None:
    decisions = [decision(n, hold, close) for n, (hold, close, _) in enumerate(rows)]
    assert (regrets(decisions, said(*(action for *_, action in rows))) >= 0).all()
    best = said(*("hold" if hold >= close else "close" for hold, close, _ in rows))
    assert regrets(decisions, best).sum() == 0


@given(st.integers(0, 50))
@hypothesis_settings(max_examples=10)
def test_a_difference_turns_its_sign_with_its_sides_and_is_nothing_between_equals(seed: int) -> None:
    random = np.random.default_rng(seed)
    decisions = [decision(n, *random.normal(0, 0.01, 2)) for n in range(120)]
    one, two = (said(*random.choice(["hold", "close"], 120)) for _ in range(2))
    there, back = (difference(decisions, ("a", a), ("b", b), seed=1) for a, b in ((one, two), (two, one)))
    assert there.regret == pytest.approx(-back.regret)
    assert there.low is not None
    assert back.high is not None
    assert there.low == pytest.approx(-back.high)
    assert there.low <= there.regret <= (there.high or 0)
    same = difference(decisions, ("a", one), ("b", one))
    assert (same.regret, same.low, same.high) == (0, 0, 0)


def test_a_real_advantage_is_found_and_luck_is_not() -> None:
    random = np.random.default_rng(5)
    decisions = [decision(n, *random.normal(0, 0.01, 2)) for n in range(400)]
    best = ["hold" if d.values["hold"] > d.values["close"] else "close" for d in decisions]
    good = said(*(b if random.random() < 0.8 else "hold" for b in best))
    coin = said(*random.choice(["hold", "close"], 400))
    found = difference(decisions, ("good", good), ("coin", coin))
    assert found.high is not None
    assert found.high < 0
    other = difference(decisions, ("coin", coin), ("other", said(*random.choice(["hold", "close"], 400))))
    assert other.low is not None
    assert other.high is not None
    assert other.low < 0 < other.high


def test_few_days_support_no_interval_and_missing_values_are_refused() -> None:
    decisions = [decision(n, 0.0, 0.1) for n in range(8)]
    assert difference(decisions, ("a", said(*["hold"] * 8)), ("b", said(*["close"] * 8))).low is None
    with pytest.raises(DataError, match="7 answers to 8"):
        score("m", decisions, said(*["hold"] * 7))
    lacking = HeldOut("x", START, (), ("hold", "close"), "hold", {"hold": 0.0}, "s", "BTC", "r")
    with pytest.raises(DataError, match="no value of close"):
        regrets([lacking], said("hold"))


def test_the_gate_opens_past_its_margin_only_and_says_what_is_lacking() -> None:
    random = np.random.default_rng(1)
    decisions = [decision(n, *random.normal(0, 0.01, 2)) for n in range(200)]
    best = said(*("hold" if d.values["hold"] > d.values["close"] else "close" for d in decisions))
    hold = said(*["hold"] * 200)
    apart, mine = difference(decisions, ("best", best), ("hold", hold)), score("best", decisions, best)
    assert judge(Gate(margin=0.001), mine, apart, (0.05, 0.01)).passed
    assert "not surely below" in judge(Gate(margin=0.05), mine, apart).lacking[0]
    assert "played it returned" in judge(Gate(), mine, apart, (0.01, 0.05)).lacking[0]
    assert "held-out decisions" in judge(Gate(least_decisions=1_000), mine, apart).lacking[0]
    assert "USD a decision" in judge(Gate(most_cost=0.0005), mine, apart).lacking[0]
    assert not judge(Gate(), score("hold", decisions, hold), difference(decisions, ("hold", hold), ("best", best))).passed
    unsure = score("mute", decisions, said(*[None] * 200))
    assert "can be used" in judge(Gate(), unsure, apart).lacking[0]
