"""How often a comparison errs and how often it sees what is there, looked at every day: mSPRT beside a t-test that is peeked at.

`python benchmarks/ab_power.py [--tests 2000] [--write]`. Daily differences of books are simulated with memory (AR 0.15), heavy tails
(Student t of 4) and clustered volatility (GARCH 0.08, 0.9); the variance is measured on a shadow period of `--shadow` days, as the
product does. `--laws` prints the error under other laws instead: stronger memory, and rare crashes that a shadow period may not hold.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np

from options_agent.research.ab.sequential import always_valid_p, mixing_for, variances

DAILY = 0.004  # deviation of a day's difference
LEAST_DAYS = 14


def differences(tests: int, days: int, random: np.random.Generator) -> np.ndarray:
    """(tests, days) of mean 0 and deviation `DAILY`."""
    burn = 100
    shocks = random.standard_t(4, (tests, days + burn)) / math.sqrt(2)
    variance, value, out = np.ones(tests), np.zeros(tests), np.empty((tests, days + burn))
    for day in range(days + burn):
        step = np.sqrt(variance) * shocks[:, day]
        variance = 0.02 + 0.08 * step**2 + 0.9 * variance
        value = 0.15 * value + step
        out[:, day] = value
    return DAILY * out[:, burn:] * math.sqrt(1 - 0.15**2)


def autocorrelated(tests: int, days: int, random: np.random.Generator, memory: float = 0.3) -> np.ndarray:
    """(tests, days) of mean 0: AR(1) of Student's t of 4."""
    shocks, value, out = random.standard_t(4, (tests, days + 100)) / math.sqrt(2), np.zeros(tests), np.empty((tests, days + 100))
    for day in range(days + 100):
        value = memory * value + shocks[:, day]
        out[:, day] = value
    return DAILY * out[:, 100:] * math.sqrt(1 - memory**2)


def crashing(tests: int, days: int, random: np.random.Generator, loss: float = 7.0, noise: float = 0.3) -> np.ndarray:
    """(tests, days) of mean 0: a loss on one day of fifty, small gains on the others, and normal noise."""
    crash = random.random((tests, days)) < 0.02
    found: np.ndarray = DAILY * (np.where(crash, -loss, loss * 0.02 / 0.98) + noise * random.standard_normal((tests, days)))
    return found


def errors_of_laws(tests: int, days: int, shadow: int) -> None:
    """Print how often each law, of mean 0, gets a verdict."""
    laws = {
        "AR 0.3, t of 4": autocorrelated,
        "crashes of 10 deviations": lambda *a: crashing(*a, loss=5.0, noise=0.5),
        "crashes of 23 deviations": crashing,
        "crashes of 70 deviations": lambda *a: crashing(*a, loss=7.0, noise=0.1),
    }
    for name, law in laws.items():
        found = 0
        for row in law(tests, shadow + days, np.random.default_rng(4242)):
            test = row[shadow:]
            p = always_valid_p(test, variances(row[:shadow], test), mixing_for(2 / math.sqrt(365) * DAILY))
            found += bool((p[LEAST_DAYS - 1 :] <= 0.05).any())
        low, high = interval(found, tests)
        print(f"{name}: {found / tests:.1%} ({low:.1%} to {high:.1%})")


def interval(hits: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson, 95 %."""
    from scipy.stats import beta

    return (float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0, float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0)


def main() -> None:
    """Print and, with --write, keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", type=int, default=2_000)
    parser.add_argument("--days", type=int, default=180)
    parser.add_argument("--shadow", type=int, default=60)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--laws", action="store_true")
    arguments = parser.parse_args()
    if arguments.laws:
        errors_of_laws(arguments.tests, arguments.days, arguments.shadow)
        return
    rows = []
    for sharpe in (0.0, 1.0, 1.5, 2.0, 3.0, 4.0):  # annual, of the difference
        random = np.random.default_rng(7)
        whole = differences(arguments.tests, arguments.shadow + arguments.days, random)
        effect = sharpe / math.sqrt(365) * DAILY
        found, days, peeked = 0, [], 0
        for row in whole:
            test = row[arguments.shadow :] + effect
            variance = variances(row[: arguments.shadow], test)
            crossed = np.flatnonzero(always_valid_p(test, variance, mixing_for(2 / math.sqrt(365) * DAILY)) <= 0.05)
            crossed = crossed[crossed >= LEAST_DAYS - 1] if crossed.size else crossed
            found += bool(crossed.size)
            days += [int(crossed[0]) + 1] if crossed.size else []
            count = np.arange(1, test.size + 1)
            mean = np.cumsum(test) / count
            spread = np.sqrt(np.maximum(np.cumsum(test**2) / count - mean**2, 1e-18) / count)
            peeked += bool((np.abs(mean / spread)[LEAST_DAYS - 1 :] > 1.96).any())
        n = arguments.tests
        row = {"sharpe_difference": sharpe, "tests": n, "msprt": found / n, "interval": interval(found, n), "peeked_t_test": peeked / n}
        row["median_days"] = float(np.median(days)) if days else None
        rows.append(row)
        low, high = row["interval"]  # type: ignore[misc]
        told = f"mSPRT {found / n:6.1%} ({low:.1%} to {high:.1%}), t-test peeked at {peeked / n:6.1%}, median day {row['median_days']}"
        print(f"Sharpe {sharpe:3.1f}: {told}")
    if arguments.write:
        path = Path(__file__).parent / "results" / "ab_power.json"
        path.write_text(json.dumps({"days": arguments.days, "shadow": arguments.shadow, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
