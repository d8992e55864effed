"""A control that does not search: the strategy as it stands in the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from options_agent.research.studies.proposals import Proposal
from options_agent.research.studies.space import ProposalError

if TYPE_CHECKING:
    from options_agent.research.studies.proposals import View
    from options_agent.strategies.rules import Strategy


@dataclass(frozen=True, slots=True)
class BestFixed:
    """Proposes the catalogue's own parameters, once."""

    strategy: Strategy
    name: str = "best_fixed"

    def propose(self, view: View, count: int) -> list[Proposal]:
        """The one point; where the space does not hold it, its nearest in each parameter."""
        if view.trials or not count:
            return []
        return [Proposal({p.name: _nearest(p, own_value(self.strategy, p.name)) for p in view.space.parameters}, "as the catalogue has it")]


def own_value(strategy: Strategy, name: str) -> Any:
    """What the strategy has in a field of the grid; None where it has none."""
    if name == "entry.days":
        return strategy.entry.dte_target
    found: Any = strategy
    for part in name.split("."):
        if part == "sold":
            found = next((leg for leg in strategy.legs if leg.side == "sell" and leg.by == "delta"), None)
        elif isinstance(found, tuple):
            found = found[int(part)] if part.isdigit() and int(part) < len(found) else None
        else:
            found = getattr(found, part, None)
    return found


def _nearest(p: Any, value: Any) -> Any:
    if p.kind == "choice":
        numbers = [v for v in p.values if isinstance(v, (int, float)) and isinstance(value, (int, float))]
        return value if value in p.values else min(numbers, key=lambda v: abs(v - value)) if numbers else p.values[0]
    if not isinstance(value, (int, float)):
        return p.canonical(p.low if p.kind == "int" else (p.low + p.high) / 2)
    try:
        return p.canonical(value)
    except ProposalError:
        return p.canonical(min(max(value, p.low), p.high) if p.kind == "float" else round(min(max(value, p.low), p.high)))
