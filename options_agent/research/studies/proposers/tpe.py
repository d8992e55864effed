"""Tree-structured Parzen estimator by Optuna, rebuilt from the trials it is shown each time it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from options_agent.research.studies.proposals import Proposal

if TYPE_CHECKING:
    from options_agent.research.studies.proposals import SeenTrial, View
    from options_agent.research.studies.space import Parameter


@dataclass(frozen=True, slots=True)
class Tpe:
    """With one objective or several (Optuna's multi-objective TPE); what it maximises is the mean of the parts it is shown."""

    name: str = "tpe"

    def propose(self, view: View, count: int) -> list[Proposal]:
        """Ask `count` times; points asked for but not told of are counted as bad, so that a batch spreads."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        ways: list[Any] = ["maximize" if way == "max" else "minimize" for _, way in view.objectives]
        sampler = optuna.samplers.TPESampler(seed=view.seed % 2**32, constant_liar=True, multivariate=True)
        study = optuna.create_study(directions=ways, sampler=sampler)
        distributions = {p.name: _distribution(p) for p in view.space.parameters}
        for trial in view.trials:
            values = [mean_objective(trial, name) for name, _ in view.objectives]
            told = [v for v in values if v is not None]
            state = optuna.trial.TrialState.COMPLETE if len(told) == len(values) else optuna.trial.TrialState.FAIL
            params = {p.name: _shown(p, trial.values[p.name]) for p in view.space.parameters}
            study.add_trial(
                optuna.trial.create_trial(
                    params=params, distributions=distributions, values=told if len(told) == len(values) else None, state=state
                )
            )
        found = []
        for _ in range(count):
            asked = study.ask(distributions)
            found.append(Proposal({p.name: _value(p, asked.params[p.name]) for p in view.space.parameters}))
        return found


def mean_objective(trial: SeenTrial, name: str) -> float | None:
    """Mean of the parts that are shown (training alone where validation is kept back); None where it is missing in one."""
    parts = [part for part in (trial.train, trial.validation) if part]
    known = [part[name] for part in parts if name in part]
    return sum(known) / len(known) if known and len(known) == len(parts) and trial.train else None


def _distribution(p: Parameter) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if p.kind == "choice":
        return CategoricalDistribution(tuple(range(len(p.values))))
    low, high = float(p.low or 0.0), float(p.high or 0.0)
    if p.kind == "int":
        return IntDistribution(int(low), int(high), log=p.log)
    return FloatDistribution(low, high, log=p.log)  # the space rounds to its step


def _shown(p: Parameter, value: Any) -> Any:
    return p.values.index(value) if p.kind == "choice" else value


def _value(p: Parameter, shown: Any) -> Any:
    return p.values[shown] if p.kind == "choice" else shown
