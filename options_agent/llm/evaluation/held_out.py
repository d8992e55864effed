"""Decisions that no model was trained on: of weeks later than all it saw, each with the value of every action known by now."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from options_agent.backtest.runner import current_reports
from options_agent.errors import DataError
from options_agent.llm.decisions import decisions_of, journal_decisions
from options_agent.llm.evaluation.scores import HeldOut
from options_agent.llm.training import chat_messages, near_key, week_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from options_agent.llm.prompts import Prompt
    from options_agent.llm.training import Decision
    from options_agent.settings import Settings


def held_out_decisions(settings: Settings, weeks: Sequence[str]) -> list[Decision]:
    """Decisions of the weeks, oldest first: with values, and no near-duplicate of anything decided before or among them.

    Raises:
        DataError: there is none, or a report cannot be read.
    """
    spans = [week_bounds(week) for week in weeks]
    if not spans:
        raise DataError("no held-out weeks are named", remedy="train first (`options-agent train`), or name weeks")
    first = min(start for start, _ in spans)
    every = [d for report in current_reports(settings) if report["status"] == "ok" for d in decisions_of(report, settings)]
    live = [d for some in journal_decisions(settings).values() for d in some]  # models learn from them, too
    seen = {near_key(d) for d in [*every, *live] if d.at < first}
    found = []
    for decision in sorted(every, key=lambda d: (d.at, d.underlying, d.strategy, d.action)):
        key = near_key(decision)
        if decision.values is None or key in seen or not any(start <= decision.at < end for start, end in spans):
            continue
        seen.add(key)
        found.append(decision)
    if not found:
        raise DataError(
            f"weeks {', '.join(weeks)} hold no decision whose actions' values are known", remedy="weeks with backtests behind them"
        )
    return found


def as_held_out(decisions: Sequence[Decision], prompt: Prompt) -> list[HeldOut]:
    """The decisions as a prompt shows them."""
    return [
        HeldOut(
            near_key(d),
            d.at,
            tuple(chat_messages(d, prompt)[0]),
            d.actions,
            d.action,
            dict(d.values or {}),
            d.strategy,
            d.underlying,
            d.regime,
        )
        for d in decisions
    ]


def sha256_of(decisions: Sequence[Decision]) -> str:
    """Identity of a set of held-out decisions: figures are compared on the same ones only."""
    return hashlib.sha256("".join(near_key(d) for d in decisions).encode()).hexdigest()
