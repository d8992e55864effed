"""What models' answers to the same decisions were worth: regret first, agreement second, with paired intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.bootstrap import RESAMPLES, block_length, indices, interval
from options_agent.errors import DataError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CONFIDENCE: Final = 0.95
#: Fewer days than this support no interval.
LEAST_DAYS: Final = 10
#: What an answer that cannot be used counts as: the choice that trades nothing.
IDLE: Final = ("hold", "skip")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A decision that no model was trained on.

    Attributes:
        id: identifies it for ever.
        at: when it was made.
        messages: what a model is shown: system and user.
        actions: what is allowed.
        expert: what the strategy's own rules did.
        values: coin by allowed action, known only later; never shown.
        strategy, underlying, regime: what it belongs to.
    """

    id: str
    at: dt.datetime
    messages: tuple[Mapping[str, str], ...]
    actions: tuple[str, ...]
    expert: str
    values: Mapping[str, float]
    strategy: str
    underlying: str
    regime: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A model's answer to one of them: `action` None where its output could not be used, and `problem` says why."""

    action: str | None
    problem: str = ""
    cost_usd: float = 0.0
    seconds: float = 0.0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Score:
    """A model over all decisions.

    Attributes:
        model: its name.
        decisions, valid: how many, and the share with usable output.
        regret: mean of the best action's value less the chosen one's, coin a decision; what could not be used counts as doing nothing.
        value: mean of the chosen action's value, coin a decision.
        agreement: share that chose what the rules did.
        cost_usd, seconds: mean of a decision.
        by_regime: mean regret by regime.
    """

    model: str
    decisions: int
    valid: float
    regret: float
    value: float
    agreement: float
    cost_usd: float
    seconds: float
    by_regime: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean regret of `model` less that of `against`, coin a decision; below 0 it is better. `low`, `high` are None of few days."""

    model: str
    against: str
    regret: float
    low: float | None
    high: float | None
    days: int


def chosen(decision: HeldOut, answer: Answered) -> str:
    """The action an answer counts as."""
    if answer.action in decision.actions:
        return str(answer.action)
    idle = [action for action in decision.actions if action in IDLE]
    return idle[0] if idle else decision.actions[0]


def score(model: str, decisions: Sequence[HeldOut], answers: Sequence[Answered]) -> Score:
    """Judge one model's answers, in the decisions' order.

    Raises:
        DataError: there is none, or their numbers differ.
    """
    lost = regrets(decisions, answers)
    taken = [chosen(d, a) for d, a in zip(decisions, answers, strict=True)]
    regimes = sorted({d.regime for d in decisions})
    return Score(
        model,
        len(decisions),
        float(np.mean([a.action in d.actions for d, a in zip(decisions, answers, strict=True)])),
        float(lost.mean()),
        float(np.mean([d.values[action] for d, action in zip(decisions, taken, strict=True)])),
        float(np.mean([d.expert == action for d, action in zip(decisions, taken, strict=True)])),
        float(np.mean([a.cost_usd for a in answers])),
        float(np.mean([a.seconds for a in answers])),
        {r: float(lost[[d.regime == r for d in decisions]].mean()) for r in regimes},
    )


def regrets(decisions: Sequence[HeldOut], answers: Sequence[Answered]) -> Floats:
    """(decisions,) value of the best allowed action less that of the chosen one, coin; 0 or more.

    Raises:
        DataError: there is none, their numbers differ, or a decision lacks the value of an action.
    """
    if not decisions or len(decisions) != len(answers):
        raise DataError(f"{len(answers)} answers to {len(decisions)} decisions", remedy="evaluate the same decisions with every model")
    for decision in decisions:
        if missing := [a for a in decision.actions if a not in decision.values]:
            raise DataError(f"no value of {', '.join(missing)} is known", place=f"decision {decision.id}", remedy="leave it out")
    return np.array([max(d.values[a] for a in d.actions) - d.values[chosen(d, given)] for d, given in zip(decisions, answers, strict=True)])


def difference(
    decisions: Sequence[HeldOut], model: tuple[str, Sequence[Answered]], against: tuple[str, Sequence[Answered]], seed: int = 0
) -> Difference:
    """How much less (or more) one model regrets than another, decision by decision.

    The days of the decisions are drawn again in blocks (stationary bootstrap), the same for both, so that what the two have in common
    cancels and decisions of one day stay together.
    """
    apart = regrets(decisions, model[1]) - regrets(decisions, against[1])
    days, of = np.unique([d.at.date().toordinal() for d in decisions], return_inverse=True)
    total, count = np.bincount(of, apart), np.bincount(of).astype(np.float64)
    found: tuple[float, float] | None = None
    if days.size >= LEAST_DAYS:
        drawn = indices(days.size, block_length(total / count), RESAMPLES, np.random.default_rng(seed))
        found = interval(total[drawn].sum(axis=1) / count[drawn].sum(axis=1), CONFIDENCE)
    low, high = found or (None, None)
    return Difference(model[0], against[0], float(apart.mean()), low, high, int(days.size))


def as_row(one: Score) -> dict[str, Any]:
    """A score for tables and MLflow, without its regimes."""
    names = ("model", "decisions", "valid", "regret", "value", "agreement", "cost_usd", "seconds")
    return {name: getattr(one, name) for name in names}
