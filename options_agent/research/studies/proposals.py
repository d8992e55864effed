"""What a proposer is shown and what it answers: one protocol for all, and no state, so that a study can go on anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from options_agent.research.studies.space import SearchSpace


@dataclass(frozen=True, slots=True)
class Proposal:
    """A point to try, and why in words."""

    values: Any
    hypothesis: str = ""


@dataclass(frozen=True, slots=True)
class SeenTrial:
    """A trial of the same proposer as it is shown. `status`: ok, inconclusive (too few trades) or failed; numbers by objective."""

    number: int
    values: Mapping[str, Any]
    hypothesis: str
    status: str
    train: Mapping[str, float]
    validation: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A proposal that was no trial, and what its proposer is told."""

    proposer: str
    values: Any
    reason: str


@dataclass(frozen=True, slots=True)
class View:
    """All a proposer knows. Nothing of the holdout is in it, nor of days after the validation's end.

    Attributes:
        objectives: names with `max` or `min`, the first counts most.
        strategy_in_words: the strategy that is searched about.
        trials: its own trials, oldest first.
        refusals: its own refused proposals.
        regimes: by regime, numbers of its best trial in training and validation.
        attributions: share of P&L by component, of its best trial.
        remaining: trials left. seed: of this question; the same view gets the same answer.
    """

    space: SearchSpace
    objectives: tuple[tuple[str, str], ...]
    strategy_in_words: str
    trials: tuple[SeenTrial, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    regimes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    attributions: Mapping[str, float] = field(default_factory=dict)
    remaining: int = 0
    seed: int = 0


class Proposer(Protocol):
    """Whoever proposes."""

    @property
    def name(self) -> str:
        """By which trials are counted."""
        ...

    def propose(self, view: View, count: int) -> Sequence[Proposal]:
        """Up to `count` points to try next; fewer, or none, ends nothing by itself.

        Raises:
            ServiceError: whoever is asked does not answer; the study can go on later.
            BudgetError: asking would pass a budget.
        """
        ...
