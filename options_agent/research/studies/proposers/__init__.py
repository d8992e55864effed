"""Who proposes: random search, TPE, a language model and its placebo, and two controls that do not search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from options_agent.errors import SettingsError

if TYPE_CHECKING:
    from options_agent.research.studies.proposals import Proposer
    from options_agent.settings import Settings
    from options_agent.strategies.rules import Strategy


def proposer(name: str, strategy: Strategy, settings: Settings) -> Proposer:
    """A proposer by the name a declaration gives it.

    Raises:
        SettingsError: there is none of that name.
    """
    if name == "random":
        from options_agent.research.studies.proposers.random_search import RandomSearch

        return RandomSearch()
    if name == "tpe":
        from options_agent.research.studies.proposers.tpe import Tpe

        return Tpe()
    if name in {"model", "placebo"}:
        from options_agent.research.studies.proposers.model import Model

        return Model(name, settings, shuffled=name == "placebo")
    if name == "best_fixed":
        from options_agent.research.studies.proposers.fixed import BestFixed

        return BestFixed(strategy)
    raise SettingsError(f"there is no proposer {name!r}", remedy="random, tpe, model, placebo, best_fixed")
