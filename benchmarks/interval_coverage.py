"""How often the 90 % intervals of `options_agent.backtest.bootstrap` hold the truth, on days whose process is known.

`docs/backtest.md` has the figures.

python benchmarks/interval_coverage.py [--samples 300]
"""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.backtest.bootstrap import Days, block_length, interval, resample

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LENGTHS: Final = (120, 365)
RESAMPLES: Final = 600


def normal(n: int, random: np.random.Generator) -> Floats:
    """Independent days."""
    return random.normal(0.001, 0.02, n)


def persistent(n: int, random: np.random.Generator) -> Floats:
    """Each day holds 0.3 of the one before."""
    noise, values = random.normal(0, 0.02 * math.sqrt(1 - 0.3**2), n + 50), np.zeros(n + 50)
    for t in range(1, n + 50):
        values[t] = 0.3 * values[t - 1] + noise[t]
    return 0.001 + values[50:]


def clustered(n: int, random: np.random.Generator) -> Floats:
    """GARCH(1, 1)."""
    variance, values = 0.0004, np.empty(n + 100)
    for t in range(n + 100):
        values[t] = math.sqrt(variance) * random.normal()
        variance = 0.0004 * 0.05 + 0.15 * values[t] ** 2 + 0.8 * variance
    return 0.001 + values[100:]


def seller(share: float) -> Callable[[int, np.random.Generator], Floats]:
    """Small gains, and on a share of the days a large loss."""

    def days(n: int, random: np.random.Generator) -> Floats:
        lost = random.random(n) < share
        return np.where(lost, -0.03 * random.standard_exponential(n), 0.0015 + 0.001 * random.normal(size=n))

    return days


PROCESSES: Final = {
    "independent, normal": normal,
    "persistent, 0.3": persistent,
    "clustered volatility": clustered,
    "a loss on 4 % of days": seller(0.04),
    "a loss on 1 % of days": seller(0.01),
}


def coverage(days: Callable[[int, np.random.Generator], Floats], length: int, samples: int, seed: int = 77) -> tuple[float, float]:
    """Shares of samples whose interval holds the true Sharpe ratio, and the median growth of the process."""
    random = np.random.default_rng(seed)
    long_run = np.concatenate([days(20_000, random) for _ in range(20)])
    sharpe = long_run.mean() / long_run.std() * math.sqrt(365)
    growth = math.exp(length * float(np.log1p(long_run).mean()))
    held = np.zeros(2)
    for n in range(samples):
        returns = days(length, random)
        value = 1 + returns
        flat = Days(value, np.maximum(value, 1.0), np.minimum(value, 1.0), np.maximum(-returns, 0.0))
        drawn = resample(flat, block_length(returns), n, RESAMPLES)
        for k, (numbers, truth) in enumerate(((drawn.sharpe, sharpe), (drawn.growth, growth))):
            within = interval(numbers, 0.9)
            held[k] += within is not None and within[0] <= truth <= within[1]
    return float(held[0] / samples), float(held[1] / samples)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=300)
    samples = parser.parse_args().samples
    for name, days in PROCESSES.items():
        for length in LENGTHS:
            sharpe, growth = coverage(days, length, samples)
            print(f"{name:24s} {length} days: Sharpe ratio {sharpe:.0%}, growth {growth:.0%}", flush=True)


if __name__ == "__main__":
    main()
