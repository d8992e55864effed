"""A language model as proposer, and its placebo: the same model, shown the same trials with their results dealt out anew."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.llm.client import AnswerError, complete
from options_agent.llm.prompts import render
from options_agent.llm.registry import prompt_in_use
from options_agent.research.studies.proposals import Proposal
from options_agent.research.studies.proposers.tpe import mean_objective

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from options_agent.research.studies.proposals import SeenTrial, View
    from options_agent.settings import Settings

PROMPT: Final = "study"
#: Trials shown of many: the best, the worst and the newest.
SHOWN_BEST, SHOWN_WORST, SHOWN_NEW, SHOWN_REFUSED = 60, 10, 30, 15
TOKENS_A_PROPOSAL: Final = 300


@dataclass(frozen=True, slots=True)
class Model:
    """Asks through `llm.client`, feature `study`. Output that cannot be used is one refused proposal with the reason."""

    name: str
    settings: Settings
    shuffled: bool = False

    def propose(self, view: View, count: int) -> Sequence[Proposal]:
        """Points of one answer; see `Proposer`."""
        seen = dealt_anew(view) if self.shuffled else view
        prompt, version = prompt_in_use(PROMPT, self.settings)
        variables = {"exchange": "Deribit", "currency": "coin", "strategy": seen.strategy_in_words}
        messages = render(prompt, variables | {"study": json.dumps(shown(seen, count)), "count": str(count)})
        schema = answer_schema(prompt.response_schema, view.space.schema())
        try:
            answer = complete(
                self.settings,
                "study",
                messages,
                schema=schema,
                prompt=version,
                max_tokens=TOKENS_A_PROPOSAL * count + 100,
                seed=view.seed % 2**31,
            )
        except AnswerError as error:
            return [Proposal({}, f"unusable answer: {error.message}")]
        proposals: list[dict[str, Any]] = (answer.content or {}).get("proposals", [])
        return [Proposal(p["values"], p["hypothesis"]) for p in proposals[:count]]


def answer_schema(schema: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """The prompt's answer schema with the space's in the place of `values`; what cannot be said strictly (bounds) is checked afterwards."""
    content: dict[str, Any] = json.loads(json.dumps(schema))
    loose = {name: {k: v for k, v in rule.items() if k not in {"minimum", "maximum"}} for name, rule in point["properties"].items()}
    content["properties"]["proposals"]["items"]["properties"]["values"] = dict(point) | {"properties": loose}
    return content


def shown(view: View, count: int) -> dict[str, Any]:
    """What the prompt holds of a view, as plain data."""
    name, way = view.objectives[0]
    sign = 1.0 if way == "max" else -1.0

    def worth(trial: SeenTrial) -> float:
        found = mean_objective(trial, name)
        return -np.inf if found is None else sign * found

    ranked = sorted(view.trials, key=worth, reverse=True)
    kept = {t.number for t in (*ranked[:SHOWN_BEST], *ranked[-SHOWN_WORST:], *view.trials[-SHOWN_NEW:])}
    trials = [
        {"values": dict(t.values), "status": t.status, "train": dict(t.train), "validation": dict(t.validation)}
        for t in view.trials
        if t.number in kept
    ]
    refused = [{"values": r.values, "reason": r.reason} for r in view.refusals[-SHOWN_REFUSED:]]
    return {
        "space": view.space.schema(),
        "objectives": [list(o) for o in view.objectives],
        "trials": trials,
        "refused": refused,
        "regimes": {k: dict(v) for k, v in view.regimes.items()},
        "attributions": dict(view.attributions),
        "remaining": view.remaining,
        "ask": count,
    }


def dealt_anew(view: View) -> View:
    """The view with results permuted among its trials: whoever learns from it learns nothing."""
    order = np.random.default_rng(view.seed).permutation(len(view.trials))
    trials = tuple(
        replace(t, status=view.trials[o].status, train=view.trials[o].train, validation=view.trials[o].validation)
        for t, o in zip(view.trials, order.tolist(), strict=True)
    )
    return replace(view, trials=trials, regimes={}, attributions={})
