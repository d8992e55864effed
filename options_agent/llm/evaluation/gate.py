"""The gate: whether a challenger may take the champion's place, and what it lacked where it may not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from options_agent.llm.evaluation.scores import Difference, Score


@dataclass(frozen=True, slots=True)
class Gate:
    """What a challenger must show on held-out decisions.

    Attributes:
        margin: how much less regret than the champion, coin a decision; the interval's far end must be beyond it, not the mean alone.
        least_valid: share of usable output.
        least_decisions: fewer held-out decisions prove nothing.
        most_cost: USD a decision, None: any.
        play_tolerance: how far the return when played may lie below the champion's, decimal of the capital.
    """

    margin: float = 0.0
    least_valid: float = 0.99
    least_decisions: int = 100
    most_cost: float | None = None
    play_tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class Passage:
    """The gate's answer; `lacking` in sentences, empty where it is open."""

    passed: bool
    lacking: tuple[str, ...]


def judge(gate: Gate, challenger: Score, apart: Difference, played: tuple[float, float] | None = None) -> Passage:
    """Whether the challenger passes.

    Args:
        apart: regret of the challenger less the champion's.
        played: return in coin of challenger and champion when played through the engine, where it was.
    """
    lacking = []
    if challenger.decisions < gate.least_decisions:
        lacking.append(f"{challenger.decisions} held-out decisions, {gate.least_decisions} are asked for")
    if challenger.valid < gate.least_valid:
        lacking.append(f"{challenger.valid:.1%} of its output can be used, {gate.least_valid:.1%} is asked for")
    if apart.high is None:
        lacking.append(f"{apart.days} days of decisions support no interval")
    elif not apart.high < -gate.margin:
        lacking.append(
            f"its regret is {apart.regret:+.6f} coin a decision against {apart.against}, between {apart.low:+.6f} and {apart.high:+.6f}: "
            f"not surely below -{gate.margin:g}"
        )
    if gate.most_cost is not None and challenger.cost_usd > gate.most_cost:
        lacking.append(f"it costs {challenger.cost_usd:.6f} USD a decision, {gate.most_cost:g} is allowed")
    if played is not None and played[0] < played[1] - gate.play_tolerance:
        lacking.append(f"played it returned {played[0]:+.2%} in coin, the champion {played[1]:+.2%}")
    return Passage(not lacking, tuple(lacking))
