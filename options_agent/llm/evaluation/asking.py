"""Asking models for decisions, side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from options_agent.llm.client import AnswerError, complete
from options_agent.llm.evaluation.scores import Answered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from options_agent.llm.evaluation.scores import HeldOut
    from options_agent.llm.prompts import Prompt
    from options_agent.settings import Settings

#: Policies that are no model: what the rules did, and never trading.
RULES, HOLD = "rule-based", "always-hold"
THREADS: Final = 4
FEATURE: Final = "evaluation"


def ask(settings: Settings, model: str, decisions: Sequence[HeldOut], prompt: Prompt, version: str) -> list[Answered]:
    """A model's answers, in the decisions' order. Output that cannot be used is an answer without an action.

    Raises:
        BudgetError, ServiceError, UnknownPriceError: as `complete`; what was asked is in the ledger.
    """
    if model == RULES:
        return [Answered(d.expert) for d in decisions]
    if model == HOLD:
        return [Answered(next((a for a in d.actions if a in {"hold", "skip"}), d.actions[0])) for d in decisions]

    def one(decision: HeldOut) -> Answered:
        return ask_one(settings, model, decision.messages, decision.actions, prompt, version)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, decisions))


def ask_one(
    settings: Settings, model: str, messages: Sequence[Mapping[str, str]], actions: Sequence[str], prompt: Prompt, version: str
) -> Answered:
    """One answer; the schema allows the allowed actions only."""
    schema: dict[str, Any] = prompt.response_schema | {
        "properties": prompt.response_schema["properties"] | {"action": {"enum": list(actions)}}
    }
    try:
        found = complete(settings, FEATURE, messages, schema=schema, prompt=version, model=model, max_tokens=200)
    except AnswerError as error:
        return Answered(None, error.message)
    return Answered(str((found.content or {})["action"]), "", found.cost_usd, found.seconds, found.tokens_in + found.tokens_out)
