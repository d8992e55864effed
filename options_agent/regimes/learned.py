"""The learned labelling: a Gaussian mixture refitted as time goes on, each label from a model of the past alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from options_agent.regimes.surface import Floats, Ints

DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True)
class WalkForward:
    """How the mixture is fitted: states, days between fits, days of past it needs, rows it is fitted on at most."""

    states: int = 3
    refit_days: float = 7.0
    least_days: float = 21.0
    most_rows: int = 3_000
    seed: int = 7


def walk_forward_states(ts: Ints, features: Floats, volatility: Floats, plan: WalkForward | None = None) -> NDArray[np.int64]:
    """State of each row by the latest model fitted before it.

    Fits fall on fixed calendar times (multiples of the refit interval since the epoch), so that adding later rows moves
    none. States are numbered by the mean volatility of their members: 0 is the calmest in every fit.

    Args:
        ts: (rows,) microseconds, ascending.
        features: (rows, n) standardised inside; rows with a NaN get no label and train no model.
        volatility: (rows,) realised volatility, decimal, the yardstick of the order.

    Returns:
        (rows,) state, or -1 where there is none.
    """
    plan = plan or WalkForward()
    states = np.full(ts.size, -1, dtype=np.int64)
    usable = np.isfinite(features).all(axis=1)
    if not usable.any():
        return states
    step = int(plan.refit_days * DAY_US)
    period = ts // step
    for current in np.unique(period):
        fitted_at = int(current) * step
        rows = np.flatnonzero((period == current) & usable)
        past = np.flatnonzero((ts < fitted_at) & usable)
        if rows.size == 0 or past.size < 20 * plan.states or ts[past[-1]] - ts[past[0]] < plan.least_days * DAY_US:
            continue
        states[rows] = _label(features, volatility, past, rows, plan)
    return states


def _label(features: Floats, volatility: Floats, past: Ints, rows: Ints, plan: WalkForward) -> NDArray[np.int64]:
    from sklearn.mixture import GaussianMixture

    thinned = past[:: -(-past.size // plan.most_rows)]
    training = features[thinned]
    centre, scale = training.mean(axis=0), training.std(axis=0)
    scale[scale == 0] = 1.0
    model = GaussianMixture(plan.states, covariance_type="full", reg_covar=1e-4, n_init=1, random_state=plan.seed)
    members = model.fit_predict((training - centre) / scale)
    level = [volatility[thinned][members == s].mean() if (members == s).any() else np.inf for s in range(plan.states)]
    rank = np.empty(plan.states, dtype=np.int64)
    rank[np.argsort(level, kind="stable")] = np.arange(plan.states)
    return np.asarray(rank[model.predict((features[rows] - centre) / scale)], dtype=np.int64)
