"""The models that need no training: one that does nothing, and one that follows a few rules of thumb."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from options_agent.llm.server.reading import Situation

HOLD, RULES, PROPOSER, DECODER = "desk-hold", "desk-rules", "desk-proposer", "desk-decoder"
IDLE: Final = ("hold", "skip", "wait", "none")
#: Rules of thumb: half the premium is enough, thrice of it too much to lose, and a spread of a third eats the trade.
TAKE, STOP, WIDEST = 0.5, -2.0, 0.33


def do_nothing(situation: Situation) -> tuple[str, str]:
    """The action that trades nothing, and why."""
    idle = [action for action in situation.actions if action in IDLE]
    if idle or not situation.actions:
        return (idle or ["hold"])[0], "Nothing is ever traded."
    return situation.actions[0], "No allowed action does nothing: this is the first of them."


def rules_of_thumb(situation: Situation) -> tuple[str, str]:
    """An action by the numbers in the prompt, and which of them decided."""
    bid, ask, unrealised = situation.number("bid"), situation.number("ask"), situation.number("unrealised")
    if "open" in situation.actions:
        if bid is None or ask is None or bid <= 0:
            return "skip", "There is no bid and ask to trade against."
        spread = (ask - bid) / ((ask + bid) / 2)
        return (
            ("open", f"The spread of {spread:.0%} is fair.") if spread <= WIDEST else ("skip", f"The spread of {spread:.0%} is too wide.")
        )
    if "close" in situation.actions and unrealised is not None:
        if unrealised >= TAKE:
            return "close", f"{unrealised:.0%} of the premium is kept already."
        if unrealised <= STOP:
            return "close", f"The loss is {-unrealised:.1f} times the premium."
        return "hold", f"{unrealised:.0%} of the premium is neither enough nor too little."
    return do_nothing(situation)


def as_answer(action: str, rationale: str) -> str:
    """The JSON a decision is answered with."""
    return json.dumps({"action": action, "rationale": rationale})
