"""Which models there are, and what each answers to a chat."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from options_agent.llm.server.policies import HOLD, PROPOSER, RULES, as_answer, do_nothing, rules_of_thumb
from options_agent.llm.server.proposer import propose
from options_agent.llm.server.reading import read_situation
from options_agent.llm.server.student import load
from options_agent.llm.server.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from options_agent.llm.server.student import Student

BUILT_IN = (HOLD, RULES, PROPOSER)


def models_in(folder: Path) -> list[dict[str, Any]]:
    """Every model, as the protocol lists them."""
    found = [{"id": name, "object": "model", "created": 1_767_225_600, "owned_by": "options-agent"} for name in BUILT_IN]
    for path in sorted((folder / "trained").glob("*/model.json")):
        about = json.loads(path.read_text(encoding="utf-8"))
        found.append({"id": about["id"], "object": "model", "created": about["created"], "owned_by": "this desk"})
    return found


def answer(folder: Path, model: str, messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any] | None, seed: int | None) -> str:
    """The text a model answers.

    Raises:
        WireError: there is no such model, or it cannot answer by the schema asked for.
    """
    if model == PROPOSER:
        text = propose(messages, seed)
    else:
        situation = read_situation(messages)
        if model == HOLD:
            action, why = do_nothing(situation)
        elif model == RULES:
            action, why = rules_of_thumb(situation)
        else:
            action, why = _student(str(folder), model).decide(situation)
        text = as_answer(action, why)
    if schema is not None:
        from jsonschema import Draft202012Validator

        problem = next(Draft202012Validator(dict(schema)).iter_errors(json.loads(text)), None)
        if problem is not None:
            raise WireError(400, f"model {model!r} cannot answer by this schema: {problem.message[:200]}", param="response_format")
    return text


def trained_folder(folder: Path, model: str) -> Path:
    """Where a trained model lies."""
    return folder / "trained" / "".join(c if c.isalnum() or c in "-_." else "_" for c in model)


@lru_cache(maxsize=8)
def _student(folder: str, model: str) -> Student:
    path = trained_folder(Path(folder), model)
    if not (path / "model.json").is_file():
        raise WireError(404, f"The model {model!r} does not exist", param="model", code="model_not_found")
    return load(path)
