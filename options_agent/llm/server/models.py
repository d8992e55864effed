"""Which models there are, and what each answers to a chat."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from options_agent.errors import DataError
from options_agent.llm.server.decoder import writing
from options_agent.llm.server.policies import DECODER, HOLD, PROPOSER, RULES, as_answer, do_nothing, rules_of_thumb
from options_agent.llm.server.proposer import propose
from options_agent.llm.server.reading import read_situation, user_text
from options_agent.llm.server.shapes import longest_rationale, narrowed
from options_agent.llm.server.student import load
from options_agent.llm.server.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from options_agent.llm.server.reading import Situation

BUILT_IN = (HOLD, RULES, PROPOSER, DECODER)


def models_in(folder: Path) -> list[dict[str, Any]]:
    """Every model, as the protocol lists them; `shutdown_dates.json` in the folder, date by model, says which are to end."""
    found = [{"id": name, "object": "model", "created": 1_767_225_600, "owned_by": "options-agent"} for name in BUILT_IN]
    for path in sorted((folder / "trained").glob("*/model.json")):
        about = json.loads(path.read_text(encoding="utf-8"))
        found.append({"id": about["id"], "object": "model", "created": about["created"], "owned_by": "this desk"})
    ending = folder / "shutdown_dates.json"
    dates: dict[str, str] = json.loads(ending.read_text(encoding="utf-8")) if ending.is_file() else {}
    return [model | ({"shutdown_date": dates[model["id"]]} if model["id"] in dates else {}) for model in found]


def answer(folder: Path, model: str, messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any] | None, seed: int | None) -> str:
    """The text a model answers.

    Raises:
        WireError: there is no such model, or it cannot answer by the schema asked for.
    """
    if model == PROPOSER:
        text = propose(messages, seed)
    else:
        situation = narrowed(read_situation(messages), schema)
        if model == HOLD:
            action, why = do_nothing(situation)
        elif model == RULES:
            action, why = rules_of_thumb(situation)
        else:
            action, why = _trained(str(folder), model)(situation, user_text(messages))
        text = as_answer(action, why[: longest_rationale(schema)])
    if schema is not None:
        from jsonschema import Draft202012Validator

        problem = next(Draft202012Validator(dict(schema)).iter_errors(json.loads(text)), None)
        if problem is not None:
            raise WireError(400, f"model {model!r} cannot answer by this schema: {problem.message[:200]}", param="response_format")
    return text


def delete_model(folder: Path, model: str) -> None:
    """Forget a trained model.

    Raises:
        WireError: there is none, or it is built in.
    """
    if model in BUILT_IN:
        raise WireError(403, f"Model {model!r} belongs to the server", param="model")
    if model not in {m["id"] for m in models_in(folder)}:
        raise WireError(404, f"The model {model!r} does not exist", param="model", code="model_not_found")
    (trained_folder(folder, model) / "model.json").unlink(missing_ok=True)
    _trained.cache_clear()


def trained_folder(folder: Path, model: str) -> Path:
    """Where a trained model lies."""
    return folder / "trained" / "".join(c if c.isalnum() or c in "-_." else "_" for c in model)


@lru_cache(maxsize=8)
def _trained(folder: str, model: str) -> Callable[[Situation, str], tuple[str, str]]:
    """What a trained model decides on a prompt, as read and as it stands."""
    path = trained_folder(Path(folder), model)
    if model == DECODER:
        why = "knows nothing before it is trained: fine-tune it, and ask the model that comes of it"
        raise WireError(400, f"Model {model} {why}", param="model", code="model_not_available")
    if not (path / "model.json").is_file():
        raise WireError(404, f"The model {model!r} does not exist", param="model", code="model_not_found")
    try:
        if (path / writing.MEANING).is_file():
            decoder = writing.load(path)
            return lambda situation, text: decoder.decide(text, situation.actions)
        student = load(path)
        return lambda situation, _: student.decide(situation)
    except DataError as error:
        raise WireError(500, str(error)) from None
