"""The search space of a study: typed, bounded parameters, declared before the first trial and known by their hash."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from options_agent.errors import OptionsAgentError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

Kind = Literal["float", "int", "choice"]


class ProposalError(OptionsAgentError):
    """A proposal that is no point of the space; the message is what its proposer is told."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One field that is searched, named as a sweep's grid names it (`legs.sold.target`, `entry.days`, `costs.crossing`).

    Attributes:
        low, high: bounds, inclusive, of a number; `step`: the grid it is rounded to, from `low` on; `log`: drawn evenly by ratio.
        values: of a choice; null is a rule that is off.
    """

    name: str
    kind: Kind
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False
    values: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        problem = ""
        if self.kind == "choice":
            problem = "" if self.values and len(set(map(repr, self.values))) == len(self.values) else "a choice has values, each once"
        elif self.low is None or self.high is None or not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            problem = "a number has finite bounds, low under high"
        elif self.log and self.low <= 0:
            problem = "what is drawn by ratio is above 0"
        elif self.step is not None and not 0 < self.step <= self.high - self.low:
            problem = "a step is above 0 and fits between the bounds"
        if problem:
            raise SettingsError(f"parameter {self.name!r} is not usable: {problem}", remedy="correct the declaration of the study")

    def canonical(self, value: Any) -> Any:
        """The value as the space has it: typed, on its step.

        Raises:
            ProposalError: of another type, not finite, out of bounds, or none of the choices.
        """
        if self.kind == "choice":
            for known in self.values:
                if known == value and isinstance(known, bool) == isinstance(value, bool):
                    return known
            raise ProposalError(f"{self.name}: {value!r} is none of {list(self.values)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ProposalError(f"{self.name}: {value!r} is no number")
        low, high = float(self.low or 0.0), float(self.high or 0.0)
        if not low <= value <= high:
            raise ProposalError(f"{self.name}: {value:g} lies outside {low:g} to {high:g}")
        if self.kind == "int":
            if value != int(value):
                raise ProposalError(f"{self.name}: {value:g} is no whole number")
            return int(value)
        if self.step is not None:
            value = min(low + round((value - low) / self.step) * self.step, high)
        return round(float(value), 10)

    def draw(self, random: np.random.Generator) -> Any:
        """A value at random."""
        if self.kind == "choice":
            return self.values[int(random.integers(len(self.values)))]
        low, high = float(self.low or 0.0), float(self.high or 0.0)
        if self.kind == "int":
            return int(random.integers(int(low), int(high) + 1))
        value = math.exp(random.uniform(math.log(low), math.log(high))) if self.log else float(random.uniform(low, high))
        return self.canonical(min(max(value, low), high))

    def schema(self) -> dict[str, Any]:
        """As JSON schema."""
        if self.kind == "choice":
            return {"enum": list(self.values)}
        return {"type": "integer" if self.kind == "int" else "number", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Parameters in their order."""

    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        names = [p.name for p in self.parameters]
        if not names or len(set(names)) != len(names):
            raise SettingsError("a search space has parameters, each once", remedy="correct the declaration of the study")

    @property
    def sha256(self) -> str:
        """Identity of the space."""
        return hashlib.sha256(json.dumps([asdict(p) for p in self.parameters], sort_keys=True).encode()).hexdigest()

    def check(self, values: Any) -> dict[str, Any]:
        """The point in canonical form, its parameters in the space's order.

        Raises:
            ProposalError: it is no point of the space; says why.
        """
        if not isinstance(values, dict):
            raise ProposalError(f"a proposal is an object of parameters, not {type(values).__name__}")
        known = {p.name for p in self.parameters}
        if unknown := sorted(map(str, values.keys() - known)):
            raise ProposalError(f"there is no parameter {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        if missing := [p.name for p in self.parameters if p.name not in values]:
            raise ProposalError(f"missing: {', '.join(missing)}")
        return {p.name: p.canonical(values[p.name]) for p in self.parameters}

    def key(self, values: Mapping[str, Any]) -> str:
        """Identity of a canonical point."""
        return json.dumps([values[p.name] for p in self.parameters])

    def sample(self, random: np.random.Generator) -> dict[str, Any]:
        """A point at random, canonical."""
        return {p.name: p.draw(random) for p in self.parameters}

    def schema(self) -> dict[str, Any]:
        """JSON schema of a point: every parameter, nothing else."""
        properties = {p.name: p.schema() for p in self.parameters}
        return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}

    @property
    def points(self) -> float:
        """How many points there are; infinite where a number has no step."""
        count = 1.0
        for p in self.parameters:
            if p.kind == "choice":
                count *= len(p.values)
            elif p.kind == "int":
                count *= int(p.high or 0) - int(p.low or 0) + 1
            elif p.step is None:
                return math.inf
            else:
                count *= math.floor((float(p.high or 0) - float(p.low or 0)) / p.step + 1e-9) + 1
        return count
