"""Values of decisions, redaction and drift: by hand, and against planted secrets."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from collections import Counter

import pytest

from options_agent.llm.datasheet import MOST_A_REGIME, leakage_checks
from options_agent.llm.drift import drift
from options_agent.llm.prompts import load_prompt
from options_agent.llm.redaction import redact
from options_agent.llm.training import Decision, best_action, build_examples, week_bounds

WEEK = "2026-W05"
MONDAY, NEXT = week_bounds(WEEK)
#: Put together here, so that no scanner takes this file for a leak.
SECRETS = (
    "sk-" + "proj-abcdefghijklmnop1234",
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "postgresql://desk:" + "hunter2@db:5432/x",
    "Bearer " + "abcdef1234567890",
    "api_key=" + "q9w8e7r6",
    "client_secret: " + "zzTOPzz1",
    "account id: " + "DB-771234",
    "eyJ" + "hbGciOiJIUzI1." + "eyJzdWIiOiIx.c2ln",
)


def decision(hours: float, unrealised: float, *, hold: float | None = 0.01, days: float = 3.0, **more: object) -> Decision:
    at = MONDAY + dt.timedelta(hours=hours)
    values = None if hold is None else {"hold": hold, "close": 0.0}
    known = None if hold is None else at + dt.timedelta(days=days)
    one = Decision(
        at, "BTC", "calls", "Sell.", "calm", ("hold", "close"), "hold", "So.", {"index": 6e4 + 200 * hours, "unrealised": unrealised}
    )
    return dataclasses.replace(one, **{"values": values, "known_at": known} | more)  # type: ignore[arg-type]


@pytest.mark.parametrize("secret", SECRETS)
def test_planted_secrets_do_not_reach_a_message(secret: str) -> None:
    telling = secret.rsplit(maxsplit=1)[-1].rsplit("://", maxsplit=1)[-1].rsplit("=", maxsplit=1)[-1].split("@", maxsplit=1)[0]
    text, count = redact(f"Sell calls. {secret} and go on.")
    assert count == 1
    assert telling not in text
    assert text.endswith("and go on.")
    examples = build_examples([decision(1, 0.1, rules=f"x {secret}", rationale=f"y {secret}")], WEEK, load_prompt())
    assert examples.redacted == 2
    assert telling not in json.dumps([examples.train, examples.hindsight_train])


def test_ordinary_words_are_left_alone_and_known_values_go() -> None:
    text = "Sell the 0.25-delta call; take profit at 50 %, account for fees, token prices at https://example.org/x?a=1."
    assert redact(text) == (text, 0)
    assert redact("it is plain-word", ["plain-word"]) == ("it is [redacted]", 1)


def test_altering_the_values_changes_no_message_of_the_expert() -> None:
    some = [decision(h, h / 100) for h in range(0, 160, 8)]
    other = [dataclasses.replace(d, values={"hold": -9.0, "close": 0.0}, known_at=d.at + dt.timedelta(days=9)) for d in some]
    one, two = (build_examples(x, WEEK, load_prompt()) for x in (some, other))
    assert json.dumps([one.train, one.validation]) == json.dumps([two.train, two.validation])
    assert one.hindsight_train != two.hindsight_train


def test_hindsight_takes_the_best_and_its_questions_are_the_experts() -> None:
    examples = build_examples([decision(1, 0.1, hold=-0.2), decision(2, 0.9, hold=None)], WEEK, load_prompt())
    assert json.loads(examples.hindsight_train[0]["messages"][-1]["content"])["action"] == "close"
    assert examples.hindsight_train[0]["messages"][:-1] == examples.train[0]["messages"][:-1]
    assert [v["hindsight_line"] for v in examples.values] == [0, None]
    assert best_action(decision(1, 0.1, hold=0.0)) == "hold"


def test_labels_known_only_after_validation_began_are_left_out_of_train() -> None:
    examples = build_examples([decision(1, 0.1), decision(100, 0.2), decision(150, 0.3)], WEEK, load_prompt())
    assert (len(examples.train), len(examples.hindsight_train), examples.purged) == (2, 1, 1)
    assert set(leakage_checks(examples).values()) == {"passed"}
    late = tuple(v | {"known_at": NEXT.isoformat()} for v in examples.values)
    assert (
        leakage_checks(dataclasses.replace(examples, values=late))["hindsight labels of train are known before validation began"]
        == "failed"
    )


def test_what_stood_in_an_earlier_week_is_a_duplicate() -> None:
    again = decision(1, 0.1)
    former = dataclasses.replace(again, at=again.at - dt.timedelta(days=7))
    assert build_examples([former, again], WEEK, load_prompt()).duplicates == 1


def test_a_regime_is_capped_over_the_whole_week_and_by_nothing_that_comes_later() -> None:
    every = [decision(6 * step + 1, 0.1, state={"index": 100.0 * (40 * step + n)}) for step in range(28) for n in range(40)]
    whole = build_examples(every, WEEK, load_prompt())
    given = len(whole.train) + len(whole.validation)
    assert 0.95 * MOST_A_REGIME <= given <= MOST_A_REGIME
    assert whole.capped == len(every) - given
    assert len(whole.validation) >= 50
    days = Counter(o["decided_at"][:10] for o in whole.outcomes)
    assert len(days) == 7
    assert min(days.values()) >= 40
    cut = MONDAY + dt.timedelta(days=3)
    changed = [d if d.at < cut else dataclasses.replace(d, state={"index": 1e6 + d.state["index"]}) for d in every]  # type: ignore[operator]
    other = build_examples(changed, WEEK, load_prompt())
    past = sum(o["decided_at"] < cut.isoformat() for o in whole.outcomes)
    assert other.train[:past] == whole.train[:past]
    assert other.train != whole.train


def test_drift_is_none_for_the_same_and_by_the_formula_for_others() -> None:
    same = drift({"x": [float(n) for n in range(100)]}, {"x": [float(n) for n in range(100)]})
    assert same["x"] == {"psi": 0.0, "says": "stable"}
    words = drift({"a": ["hold"] * 50 + ["close"] * 50}, {"a": ["hold"] * 90 + ["close"] * 10})
    assert words["a"]["psi"] == pytest.approx((0.5 - 0.9) * math.log(0.5 / 0.9) + (0.5 - 0.1) * math.log(0.5 / 0.1), abs=1e-4)
    assert words["a"]["says"] == "much"
    assert drift({"x": [1.0]}, {})["x"]["psi"] is None
