"""What stands beside the headline numbers of a run: intervals, the odds that its Sharpe ratio is above 0, and above luck."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.bootstrap import RESAMPLES, SEED, block_length, days_of, interval, resample
from options_agent.backtest.metrics.evidence import CURRENCIES, since_paid_in
from options_agent.backtest.metrics.grid import YEAR_DAYS
from options_agent.backtest.overfitting import deflated_sharpe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

#: Of the intervals.
CONFIDENCE: Final = 0.9
#: Metrics that are given an interval, each in coin and in USD.
HEADLINES: Final = ("return", "sharpe", "max_drawdown")


def uncertainty(equity: pa.Table, metrics: Mapping[str, float], seed: int = SEED) -> dict[str, Any]:
    """The `uncertainty` section of a report.

    Intervals are quantiles of a stationary bootstrap of whole days, NaN-free or None: under ten days there is none. That of the return
    keeps the broken days at both ends as they were.

    Args:
        equity: the run's.
        metrics: the run's, as `measure` gives them.
        seed: of the resampling.
    """
    intervals: dict[str, list[float] | None] = {}
    blocks: dict[str, float | None] = {}
    for currency in CURRENCIES:
        ts, values = since_paid_in(equity, currency)
        days = days_of(ts, values)
        if days is None:
            blocks[currency] = None
            intervals |= {f"{name}_{currency}": None for name in HEADLINES}
            continue
        blocks[currency] = block = block_length(days.growth - 1)
        drawn = resample(days, block, seed)
        edges = values[-1] / values[0] / float(np.prod(days.growth))
        for name, numbers in zip(HEADLINES, (drawn.growth * edges - 1, drawn.sharpe, drawn.drawdown), strict=True):
            found = interval(numbers, CONFIDENCE)
            intervals[f"{name}_{currency}"] = list(found) if found else None
    return {
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "seed": seed,
        "block_days": blocks,
        "intervals": intervals,
        "probabilistic_sharpe": {c: odds_above(metrics, c) for c in CURRENCIES},
    }


def odds_above(metrics: Mapping[str, float | None], currency: str, trials: int = 1, variance: float = 0.0) -> float | None:
    """Probability that the true Sharpe ratio is above 0, or above the luck of the best of `trials`; None where it has none.

    Args:
        metrics: a run's or a report's.
        currency: `coin` or `usd`.
        trials: runs looked at.
        variance: of their daily Sharpe ratios.
    """
    names = ("days", f"skew_{currency}", f"kurtosis_{currency}")
    sharpe, rest = daily_sharpe(metrics, currency), [metrics.get(name) for name in names]
    numbers = [math.nan if v is None else v for v in (sharpe, *rest)]
    odds = deflated_sharpe(numbers[0], numbers[1], numbers[2], numbers[3], trials, variance)
    return odds if math.isfinite(odds) else None


def daily_sharpe(metrics: Mapping[str, float | None], currency: str) -> float | None:
    """The Sharpe ratio a day with the population's deviation, from a run's metrics; None where it has none."""
    annual, days = metrics.get(f"sharpe_{currency}"), metrics.get("days")
    if annual is None or not days or not math.isfinite(annual):
        return None
    return annual / math.sqrt(YEAR_DAYS) * math.sqrt(days / (days - 1))


def deflated(reports: Sequence[Mapping[str, Any]], currency: str = "coin") -> dict[str, float]:
    """Deflated Sharpe ratio of each report's run among all of them: every one was looked at, those without a number too.

    Returns:
        By run; without those that have no Sharpe ratio.
    """
    looks = [r["metrics"] for r in reports]
    known = [r for r in reports if daily_sharpe(r["metrics"], currency) is not None]
    of_a_day = spread(looks, currency, 1.0)  # once: a folder of a year of nights holds ten thousand reports
    odds = ((r["run"], odds_above(r["metrics"], currency, len(reports), of_a_day / r["metrics"]["days"])) for r in known)
    return {run: found for run, found in odds if found is not None}


def spread(looks: Sequence[Mapping[str, Any]], currency: str, days: float | None) -> float:
    """Variance of the daily Sharpe ratios of all looks, each brought to `days`: by luck alone it falls as one over them.

    Without that, looks at a few weeks would make the luck of a whole year's run out to be theirs.
    """
    known = [s * math.sqrt(m["days"] / days) for m in looks if days and (s := daily_sharpe(m, currency)) is not None]
    return float(np.var(known, ddof=1)) if len(known) > 1 else 0.0


def above_luck(reports: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each run, beside its other numbers: `deflated_sharpe_coin` and `_usd` among all of them (where it has one), and `looks`."""
    odds = {currency: deflated(reports, currency) for currency in CURRENCIES}
    return {
        r["run"]: {f"deflated_sharpe_{c}": found[r["run"]] for c, found in odds.items() if r["run"] in found}
        | {"looks": float(len(reports))}
        for r in reports
    }
