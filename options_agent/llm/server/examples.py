"""Chat JSONL as every provider takes it, read into examples; nothing but the messages is known to who trains on them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from options_agent.errors import DataError
from options_agent.llm.server.reading import read_situation, user_text

if TYPE_CHECKING:
    from options_agent.llm.server.reading import Situation

LEAST_EXAMPLES: Final = 10


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt as read, the action of the assistant's last message, its weight, and both texts: the user's and the reason given."""

    situation: Situation
    action: str
    weight: float
    prompt: str = ""
    rationale: str = ""


def read_examples(data: bytes, place: str = "training file") -> list[Example]:
    """Read chat JSONL; the last message's `weight` counts, 1 where it has none.

    Raises:
        DataError: under ten lines, a line that is not chat JSON, or whose last message is not the assistant's JSON with an action.
    """
    lines = [line for line in data.decode("utf-8", errors="replace").splitlines() if line.strip()]
    if len(lines) < LEAST_EXAMPLES:
        raise DataError(f"{len(lines)} examples, at least {LEAST_EXAMPLES} are needed", place=place)
    found = []
    for number, line in enumerate(lines, 1):
        try:
            messages = json.loads(line)["messages"]
            last = messages[-1]
            if last["role"] != "assistant":
                raise ValueError("the last message is not the assistant's")
            weight = float(last.get("weight", 1.0))
            if not 0 <= weight < float("inf"):
                raise ValueError(f"weight {weight} is not a number from 0")
            answered, asked = json.loads(last["content"]), messages[:-1]
            rationale = str(answered.get("rationale", ""))
            found.append(Example(read_situation(asked), str(answered["action"]), weight, user_text(asked), rationale))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise DataError(
                f"line {number} is no example: {error}", place=place, remedy="messages that end with JSON that has an action"
            ) from None
    return found


def something_to_learn(examples: list[Example]) -> None:
    """Raises:
    DataError: every example that counts has the same action.
    """
    if len({e.action for e in examples if e.weight > 0}) < 2:
        raise DataError(f"every example answers {examples[0].action!r}: there is nothing to learn", place="training file")
