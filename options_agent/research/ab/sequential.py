"""The mixture sequential probability ratio test of a mean, and the confidence sequence it is the same as.

Robbins (1970), "Statistical methods related to the law of the iterated logarithm"; Johari, Koomen, Pekelis and Walsh (2017), "Peeking
at A/B tests". With S the sum of n differences of long-run variance V and a normal mixture of variance t^2 over the mean,
L_n = sqrt(V / (V + n t^2)) exp(t^2 S^2 / (2 V (V + n t^2))); whatever the day one stops, L passes 1/alpha with probability alpha at
most where the mean is 0. V is not known: it is measured on a shadow period
before the test and all days since, with Newey and West's weights.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Fewer days measure no variance.
LEAST_SHADOW: Final = 20


def long_run_variance(values: Floats, lags: int | None = None) -> float:
    """Variance of the sum over n, with Bartlett weights (Newey and West 1987); lags 4 (n / 100)^(2/9), at least 1.

    Raises:
        DataError: under `LEAST_SHADOW` values, or one that is not finite, or none that differ.
    """
    n = values.size
    if n < LEAST_SHADOW or not np.isfinite(values).all():
        raise DataError(f"{n} days of a shadow period measure no variance", remedy=f"{LEAST_SHADOW} whole days at least")
    lags = max(1, math.floor(4 * (n / 100) ** (2 / 9))) if lags is None else lags
    centred = values - values.mean()
    total = float(centred @ centred)
    for lag in range(1, min(lags, n - 1) + 1):
        total += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag])
    plain = float(centred @ centred) / n
    if plain == 0:
        raise DataError("the books of the shadow period never differ", remedy="other arms: these are one strategy")
    return max(total / n, 0.25 * plain)  # a negative autocorrelation of few days must not make a test too bold


def variances(shadow: Floats, test: Floats) -> Floats:
    """(days,) the long-run variance that each day of the test is judged by: of the shadow period and all days of the test so far.

    One day's variance where the test has none yet. A shadow period alone errs where volatility clusters: a calm one before a stormy test
    calls luck a discovery (docs/ab.md has both measured).

    Raises:
        DataError: as `long_run_variance` of the shadow period.
    """
    whole = np.concatenate((shadow, test))
    first = long_run_variance(shadow)
    return np.array([long_run_variance(whole[:day]) for day in range(shadow.size + 1, whole.size + 1)] or [first])


def log_ratio(sums: Floats, counts: Floats, variance: Floats | float, mixing: float) -> Floats:
    """Logarithm of L_n for sums of so many differences; `variance` of one, `mixing` the variance of the mixture."""
    spread = variance + counts * mixing
    found: Floats = 0.5 * np.log(variance / spread) + mixing * sums**2 / (2 * variance * spread)
    return found


def half_width(count: float, variance: float, mixing: float, alpha: float) -> float:
    """Half the width of the interval about the mean after `count` differences: where L would be 1/alpha."""
    spread = variance + count * mixing
    return math.sqrt(2 * variance * spread / mixing * (math.log(1 / alpha) + 0.5 * math.log(spread / variance))) / count


def always_valid_p(differences: Floats, variance: Floats | float, mixing: float) -> Floats:
    """(days,) p after each day: the least of 1 / L so far, never growing. `variance` of one difference, by day or once for all."""
    counts = np.arange(1, differences.size + 1, dtype=np.float64)
    logs = log_ratio(np.cumsum(differences), counts, variance, mixing)
    found: Floats = np.minimum(np.exp(-np.maximum.accumulate(logs)), 1.0)
    return found


def intervals(differences: Floats, variance: Floats | float, mixing: float, alpha: float) -> tuple[Floats, Floats]:
    """(days,) each: the ends of the confidence sequence after each day; all of them hold at once with probability 1 - alpha."""
    counts = np.arange(1, differences.size + 1, dtype=np.float64)
    mean, each = np.cumsum(differences) / counts, np.broadcast_to(variance, counts.shape)
    half = np.array([half_width(n, float(v), mixing, alpha) for n, v in zip(counts, each, strict=True)])
    return mean - half, mean + half


def mixing_for(effect: float) -> float:
    """Variance of the mixture for the effect one hopes to see: its square, near the best choice for it (Johari et al., section 5)."""
    return effect**2


def smallest_visible(days: int, variance: float, mixing: float, alpha: float, power: float = 0.8) -> float:
    """The mean difference a day that would be seen within so many days with that power: the interval's half, and normal noise."""
    from statistics import NormalDist

    return half_width(days, variance, mixing, alpha) + NormalDist().inv_cdf(power) * math.sqrt(variance / days)
