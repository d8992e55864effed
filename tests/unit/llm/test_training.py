"""Training examples hold what was known, once, on one side of the split, with the outcome kept apart."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.errors import DataError
from options_agent.lake.store import open_lake
from options_agent.llm.prompts import load_prompt
from options_agent.llm.training import Decision, build_examples, check_examples, week_bounds, weeks_between, write_week

WEEK = "2026-W05"
MONDAY, NEXT_MONDAY = week_bounds(WEEK)
ACTIONS = ("hold", "open", "close")


def _decision(hours: float = 1.0, action: str = "hold", index: float = 90_000.0, outcome: float | None = 0.01) -> Decision:
    at = MONDAY + dt.timedelta(hours=hours)
    return Decision(
        at=at,
        underlying="BTC",
        strategy="covered_call",
        rules="Sell the 0.25-delta call a week out.",
        regime="bull-calm",
        actions=ACTIONS,
        action=action,
        rationale=f"Index {index:g}.",
        state={"index": index, "delta": 0.25, "dte": 7.0, "bid": None},
        outcome_coin=outcome,
        outcome_at=at + dt.timedelta(days=7) if outcome is not None else None,
    )


@st.composite
def decisions(draw: st.DrawFn) -> list[Decision]:
    moments = draw(st.lists(st.integers(-48, 7 * 24 + 48), min_size=1, max_size=40))
    return [_decision(h, draw(st.sampled_from(ACTIONS)), 100.0 * draw(st.integers(800, 1000)), draw(st.floats(-1, 1))) for h in moments]


@given(decisions())
def test_every_decision_of_the_week_is_an_example_or_a_counted_duplicate(some: list[Decision]) -> None:
    examples = build_examples(some, WEEK, load_prompt())
    inside = [d for d in some if MONDAY <= d.at < NEXT_MONDAY]
    assert len(examples.train) + len(examples.validation) + examples.duplicates == len(inside)
    assert len(examples.outcomes) == len(examples.train) + len(examples.validation)
    check_examples(examples, ACTIONS)


@given(decisions(), st.floats(-5, 5))
def test_altering_the_outcome_changes_no_message(some: list[Decision], other: float) -> None:
    before = build_examples(some, WEEK, load_prompt())
    after = build_examples([dataclasses.replace(d, outcome_coin=other, outcome_at=None) for d in some], WEEK, load_prompt())
    assert before.train == after.train
    assert before.validation == after.validation


@given(decisions(), st.integers(0, 7 * 24))
def test_altering_the_future_changes_no_earlier_example(some: list[Decision], cut: int) -> None:
    moment = MONDAY + dt.timedelta(hours=cut)
    past = [d for d in some if d.at < moment]
    changed = [*past, *(dataclasses.replace(d, state={"index": 1.0}) for d in some if d.at >= moment)]
    whole = build_examples(changed, WEEK, load_prompt())
    alone = build_examples(past, WEEK, load_prompt())
    assert whole.train[: len(alone.train)] == alone.train
    assert whole.validation[: len(alone.validation)] == alone.validation


@given(decisions())
def test_validation_is_later_than_train_and_no_line_stands_in_both(some: list[Decision]) -> None:
    examples = build_examples(some, WEEK, load_prompt())
    times: dict[str, list[str]] = {"train": [], "validation": []}
    for outcome in examples.outcomes:
        times[outcome["split"]].append(outcome["decided_at"])
    assert max(times["train"], default="") < min(times["validation"], default="9")


def test_near_duplicates_are_dropped_and_counted() -> None:
    examples = build_examples([_decision(1.0), _decision(2.0, index=90_010.0), _decision(3.0, index=95_000.0)], WEEK, load_prompt())
    assert (len(examples.train), examples.duplicates) == (2, 1)


def test_an_action_that_was_not_allowed_is_refused() -> None:
    examples = build_examples([_decision(action="gamble")], WEEK, load_prompt())
    with pytest.raises(DataError, match="'gamble' is not allowed"):
        check_examples(examples, ACTIONS)


def test_a_week_is_written_with_hashes_and_only_again_when_its_inputs_change(settings) -> None:
    lake = open_lake(settings)
    some = [_decision(h, index=80_000.0 + 500 * h) for h in range(12)]
    first = write_week(lake, some, WEEK, inputs=["run1"])
    assert write_week(lake, [], WEEK, inputs=["run1"]) == first
    assert first.details["usable"]
    assert first.counts["train"] == 12
    lines = lake.files.read(f"training/week={WEEK}/train.jsonl").decode().splitlines()
    assert len(lines) == 12
    assert "outcome" not in "".join(lines)
    assert json.loads(lines[0])["messages"][-1]["role"] == "assistant"
    second = write_week(lake, some[:3], WEEK, inputs=["run2"])
    assert not second.details["usable"]
    assert "at least 10" in second.details["why_not"]


def test_weeks_cross_years_and_bad_ones_are_refused() -> None:
    assert weeks_between(dt.date(2025, 12, 28), dt.date(2026, 1, 5)) == ["2025-W52", "2026-W01", "2026-W02"]
    with pytest.raises(DataError, match="2026-W05"):
        week_bounds("week five")
