"""What a request may ask of an answer's shape, and what is refused as the provider refuses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from options_agent.llm.prompts import load_prompt
from options_agent.llm.server.models import answer, models_in
from options_agent.llm.server.shapes import schema_of
from options_agent.llm.server.wire import WireError

STRICT: dict[str, Any] = load_prompt("decision").response_schema
MESSAGES = [{"role": "user", "content": "State:\n- unrealised profit, share of premium: 0.9\n\nAllowed actions: hold, close."}]


def asked(schema: Any, *, strict: bool = True) -> dict[str, Any] | None:
    inner = {"name": "answer", "strict": strict, "schema": schema}
    return schema_of({"type": "json_schema", "json_schema": inner}, inner)


def test_a_strict_schema_leaves_nothing_open() -> None:
    assert asked(STRICT) == STRICT
    open_ended = {
        "type": "object",
        "properties": {"a": {"type": "object", "properties": {}}},
        "required": ["a"],
        "additionalProperties": False,
    }
    for wrong in ({**STRICT, "additionalProperties": True}, {**STRICT, "required": ["action"]}, open_ended, {"type": "no type"}):
        with pytest.raises(WireError, match="Invalid schema"):
            asked(wrong)
    assert asked(open_ended, strict=False) == open_ended
    assert schema_of(None, None) is None
    with pytest.raises(WireError, match="not available"):
        schema_of({"type": "grammar"}, None)


def test_an_answer_keeps_to_the_actions_and_lengths_of_the_schema(tmp_path: Path) -> None:
    properties = {"action": {"enum": ["hold", "roll"]}, "rationale": {"type": "string", "maxLength": 5}}
    said = json.loads(answer(tmp_path, "desk-rules", MESSAGES, {**STRICT, "properties": properties}, None))
    assert said["action"] == "hold"
    assert len(said["rationale"]) == 5
    with pytest.raises(WireError, match="no action of the schema"):
        answer(tmp_path, "desk-rules", MESSAGES, {**STRICT, "properties": {"action": {"enum": ["dance"]}}}, None)


def test_a_model_that_is_to_end_says_when(tmp_path: Path) -> None:
    (tmp_path / "shutdown_dates.json").write_text(json.dumps({"desk-rules": "2027-01-06"}))
    assert {m["id"]: m.get("shutdown_date") for m in models_in(tmp_path)} == {
        "desk-hold": None,
        "desk-rules": "2027-01-06",
        "desk-proposer": None,
        "desk-decoder": None,
    }
