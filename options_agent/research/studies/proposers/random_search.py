"""Random search: the least that any other proposer must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from options_agent.research.studies.proposals import Proposal

if TYPE_CHECKING:
    from options_agent.research.studies.proposals import View


@dataclass(frozen=True, slots=True)
class RandomSearch:
    """Points drawn independently."""

    name: str = "random"

    def propose(self, view: View, count: int) -> list[Proposal]:
        """Points by the view's seed."""
        random = np.random.default_rng(view.seed)
        return [Proposal(view.space.sample(random)) for _ in range(count)]
