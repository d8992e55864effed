"""The space takes its own points and refuses all others with a reason."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from options_agent.errors import SettingsError
from options_agent.research.studies.space import Parameter, ProposalError, SearchSpace

SPACE = SearchSpace(
    (
        Parameter("legs.sold.target", "float", 0.08, 0.4, 0.01),
        Parameter("entry.days", "float", 2.0, 30.0, log=True),
        Parameter("entry.max_open", "int", 1, 4),
        Parameter("exit.take_profit", "choice", values=(0.25, 0.5, None)),
    )
)


@given(st.integers(0, 10_000))
def test_what_is_drawn_is_a_point_in_canonical_form_and_fits_the_schema(seed: int) -> None:
    point = SPACE.sample(np.random.default_rng(seed))
    assert SPACE.check(point) == point
    assert SPACE.check(dict(reversed(point.items()))) == point
    Draft202012Validator(SPACE.schema()).validate(json.loads(json.dumps(point)))


@given(st.floats(0.08, 0.4))
def test_a_step_makes_near_values_one_point(value: float) -> None:
    rounded = SPACE.parameters[0].canonical(value)
    assert abs(rounded - value) <= 0.005 + 1e-9
    assert SPACE.parameters[0].canonical(rounded) == rounded


GOOD = {"legs.sold.target": 0.2, "entry.days": 7, "entry.max_open": 2, "exit.take_profit": None}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"legs.sold.target": 0.41}, "outside 0.08 to 0.4"),
        ({"legs.sold.target": "far"}, "no number"),
        ({"legs.sold.target": True}, "no number"),
        ({"legs.sold.target": float("nan")}, "no number"),
        ({"entry.max_open": 2.5}, "no whole number"),
        ({"exit.take_profit": 0.3}, "none of"),
        ({"exit.stop_loss": 2.0}, "there is no parameter exit.stop_loss"),
    ],
)
def test_what_is_no_point_is_refused_with_the_reason(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ProposalError, match=why):
        SPACE.check(GOOD | change)


def test_a_point_has_every_parameter_and_is_an_object() -> None:
    with pytest.raises(ProposalError, match=r"missing: entry\.days"):
        SPACE.check({k: v for k, v in GOOD.items() if k != "entry.days"})
    with pytest.raises(ProposalError, match="not list"):
        SPACE.check([1, 2])


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "float", "low": 1.0, "high": 1.0},
        {"kind": "float", "low": 0.0, "high": float("inf")},
        {"kind": "float", "low": 0.0, "high": 1.0, "log": True},
        {"kind": "float", "low": 0.0, "high": 1.0, "step": 2.0},
        {"kind": "choice"},
        {"kind": "choice", "values": (1, 1)},
    ],
)
def test_bounds_that_bound_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="not usable"):
        Parameter("x", **wrong)


def test_the_hash_is_of_everything_and_points_are_counted() -> None:
    other = SearchSpace((*SPACE.parameters[:3], Parameter("exit.take_profit", "choice", values=(0.25, 0.5))))
    assert other.sha256 != SPACE.sha256
    assert SearchSpace(SPACE.parameters).sha256 == SPACE.sha256
    assert SearchSpace((SPACE.parameters[0], *SPACE.parameters[2:])).points == 33 * 4 * 3
    assert SPACE.points == float("inf")
