"""The proposer of studies: inside the space, never a point twice, the same for the same prompt, and better than chance."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from options_agent.llm.server.proposer import propose

SPACE = {
    "type": "object",
    "properties": {
        "delta": {"type": "number", "minimum": 0.05, "maximum": 0.5},
        "days": {"type": "integer", "minimum": 1, "maximum": 30},
        "side": {"enum": ["call", "put"]},
    },
}


def asked(trials: list[dict[str, Any]], count: int, *, space: Any = SPACE, way: str = "max", seed: int = 0) -> list[dict[str, Any]]:
    study = {"space": space, "objectives": [["sharpe_coin", way]], "trials": trials, "refused": [], "ask": count}
    text = propose([{"role": "user", "content": f"Study:\n```json\n{json.dumps(study)}\n```"}], seed)
    return list(json.loads(text)["proposals"])


def trial(values: dict[str, Any], way: str = "max") -> dict[str, Any]:
    worth = -(((values["delta"] - 0.2) / 0.1) ** 2) - abs(values["days"] - 10) / 10
    worth = worth if way == "max" else -worth
    return {"values": values, "train": {"other": 1e9, "sharpe_coin": worth}, "validation": {"sharpe_coin": worth}}


def test_proposals_are_points_of_the_space_and_none_comes_twice() -> None:
    values = [p["values"] for p in asked([], 40)]
    assert all(0.05 <= v["delta"] <= 0.5 and v["days"] in range(1, 31) and v["side"] in {"call", "put"} for v in values)
    assert len({json.dumps(v) for v in values}) == 40
    assert asked([], 3) == asked([], 3)
    assert asked([], 3) != asked([], 3, seed=1)


def test_a_small_space_is_tried_through_and_then_nothing_is_proposed() -> None:
    space = {"type": "object", "properties": {"side": {"enum": ["call", "put", "both"]}}}
    first = asked([], 10, space=space)
    assert sorted(p["values"]["side"] for p in first) == ["both", "call", "put"]
    assert asked([{"values": p["values"], "train": {}, "validation": {}} for p in first], 5, space=space) == []


@pytest.mark.parametrize("way", ["max", "min"])
def test_after_some_trials_it_goes_where_the_objective_is_good(way: str) -> None:
    trials = [trial(p["values"], way) for p in asked([], 40)]
    learned = [p for p in asked(trials, 15, way=way) if "What mattered" in p["hypothesis"]]
    assert len(learned) >= 8
    far = [abs(p["values"]["delta"] - 0.2) for p in learned]
    assert np.mean(far) < 0.5 * np.mean([abs(t["values"]["delta"] - 0.2) for t in trials])
    assert "delta" in learned[0]["hypothesis"]


def test_a_prompt_without_a_study_gets_no_proposals() -> None:
    assert json.loads(propose([{"role": "user", "content": "Good morning"}], None)) == {"proposals": []}
