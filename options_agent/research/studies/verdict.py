"""What a study is worth once every look is counted: raw and corrected numbers of each trial, and whether it discovered anything.

The benchmark is doing nothing: a return of 0 in coin. All trials share one resampling of days, so what they have in common is kept.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.bootstrap import block_length, indices
from options_agent.backtest.metrics.grid import YEAR_DAYS
from options_agent.backtest.overfitting import backtest_overfitting, deflated_sharpe, probabilistic_sharpe
from options_agent.durable import plain_json
from options_agent.errors import DataError
from options_agent.research.studies.splits import folds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: What is aimed at: of studies without an edge, at most this share discovers; kept for several structures, not by TPE about one strangle.
LEVEL: Final = 0.05
#: The p that is asked for. Resampled days of sold options say too little of the crashes that were not there: who asks for `LEVEL` is wrong
#: in 8 to 10 % of searches about one short strangle on a fair market (docs/false-discovery.md).
ASKED: Final = 0.025
RESAMPLES: Final = 1_000
#: Fewer days bear no verdict.
LEAST_DAYS: Final = 20
#: Fewer days of the past choose nothing.
LEAST_PAST: Final = 10
#: The deviation of a resample counts as at least this share of the sample's: a trial of few trades has resamples with none.
FLOOR: Final = 0.5
#: Trials whose own persistence is measured for the length of blocks.
_PERSISTENCE_OF: Final = 200
RULE: Final = (
    "discovered if, over all looks, Hansen's consistent SPA p, White's reality check p and the chosen trial's Romano-Wolf p"
    " are at most {level:.1%}; the chosen trial is the conclusive one with the best Sharpe ratio"
)


@dataclass(frozen=True, slots=True)
class TrialVerdict:
    """A trial, raw and corrected.

    Attributes:
        number, status: as the study has them; status `constant` or `undefined` where the returns bear no Sharpe ratio.
        mean: of the daily returns, coin, decimal.
        sharpe: annualised, population's deviation.
        psr: probability that its true Sharpe ratio is above 0, had it been the only look.
        deflated: the same above what luck gives the best of all looks.
        adjusted_p: of its mean being at most 0, all looks counted (Romano-Wolf, stepped down).
    """

    number: int
    status: str
    mean: float | None
    sharpe: float | None
    psr: float | None
    deflated: float | None
    adjusted_p: float | None


@dataclass(frozen=True, slots=True)
class Snooping:
    """Tests of the best of many means against 0, each over all of them. `adjusted`: (trials,) stepped-down p."""

    reality_check: float
    spa_lower: float
    spa_consistent: float
    spa_upper: float
    adjusted: Floats


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a study may claim.

    Attributes:
        looks: all that was tried, also what failed; `measured` of them have returns that vary.
        days, block: observations, and the mean block of the bootstrap in days.
        overfitting: probability that the best in sample is below the median out of it; None where there is no choice or no time.
        walk_forward: annualised Sharpe ratio of choosing the best of the past again and again and holding it over the stretch that follows,
            `embargo_days` purged between; None where it was not asked for or the days are too few.
        reality_check, spa_lower, spa_consistent, spa_upper: p of no trial being better than doing nothing; None without a measured trial.
        chosen: number of the conclusive trial with the best Sharpe ratio.
        discovered: by `rule`.
        words: what the numbers allow to say.
        trials: in the order given.
    """

    looks: int
    measured: int
    days: int
    block: float
    resamples: int
    level: float
    overfitting: float | None
    walk_forward: float | None
    reality_check: float | None
    spa_lower: float | None
    spa_consistent: float | None
    spa_upper: float | None
    chosen: int | None
    discovered: bool
    rule: str
    words: str
    trials: tuple[TrialVerdict, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain: dict[str, Any] = plain_json(asdict(self))
        return plain


def verdict(
    returns: Floats,
    at: NDArray[np.int64],
    *,
    looks: int | None = None,
    numbers: Sequence[int] | None = None,
    statuses: Sequence[str] | None = None,
    mean_life_days: float = 1.0,
    embargo_days: int | None = None,
    level: float = ASKED,
    resamples: int = RESAMPLES,
    seed: int = 0,
    blocks: int | None = None,
) -> Verdict:
    """Judge a study.

    Args:
        returns: (days, trials) daily returns in coin, train and validation; columns with NaN (failed, ruined) stay looks without numbers.
        at: (days,) microseconds, ascending.
        looks: all trials of all proposers, also those without a column here; at least, and by default, the columns.
        numbers: of the trials; 0, 1, ... by default.
        statuses: `ok` trials may be chosen, others (`inconclusive`, `failed`) only count; all `ok` by default.
        mean_life_days: of the trades: blocks are no shorter on average.
        embargo_days: of the purged walk-forward, as long as a trade can live; None: there is none.
        level: the p that a discovery asks for.
        resamples, seed: of the bootstrap; the same seed gives the same numbers.
        blocks: of the cross-validation; 16, or 8 under 64 days.

    Raises:
        DataError: shapes do not fit, times do not ascend, or fewer looks than columns.
    """
    days, trials = _check(returns, at, looks, numbers, statuses)
    looks = trials if looks is None else looks
    named = list(range(trials)) if numbers is None else list(numbers)
    given = ["ok"] * trials if statuses is None else list(statuses)
    bearing = [_bears(returns[:, n]) for n in range(trials)]
    enough: NDArray[np.bool_] = np.array([status == "" for status in bearing], np.bool_)
    known = np.ascontiguousarray(returns[:, enough])
    block = study_block(known, mean_life_days)
    found = None
    adjusted = np.full(trials, np.nan)
    if known.shape[1]:
        found = snooping(known, indices(days, block, resamples, np.random.default_rng(seed)), block=block)
        # looks whose returns are not here are charged as if they were more groups like those that are
        found = _charged(found, looks / known.shape[1])
        adjusted[enough] = found.adjusted
    rows = _rows(returns, named, given, bearing, adjusted, looks)
    able = [n for n, row in enumerate(rows) if enough[n] and given[n] == "ok"]
    chosen = max(able, key=lambda n: (rows[n].sharpe or 0.0, -n), default=None)
    # both, since sellers who met no crash look good in ratio more easily than in ratio and money
    discovered = bool(found and chosen is not None and max(found.spa_consistent, found.reality_check, adjusted[chosen]) <= level)
    probability = _overfitting(known, at, blocks)
    return Verdict(
        looks=looks,
        measured=int(enough.sum()),
        days=days,
        block=block,
        resamples=resamples,
        level=level,
        overfitting=probability,
        walk_forward=None if embargo_days is None else walked_forward(known, at, embargo_days),
        reality_check=found.reality_check if found else None,
        spa_lower=found.spa_lower if found else None,
        spa_consistent=found.spa_consistent if found else None,
        spa_upper=found.spa_upper if found else None,
        chosen=None if chosen is None else named[chosen],
        discovered=discovered,
        rule=RULE.format(level=level),
        words=_words(looks, days, None if chosen is None else rows[chosen], found, probability, discovered, level),
        trials=tuple(rows),
    )


def study_block(returns: Floats, mean_life_days: float) -> float:
    """Mean block in days: the trades' mean life or the trials' own persistence, whichever is longer; at most a quarter of the days."""
    days, trials = returns.shape
    picked = np.unique(np.linspace(0, trials - 1, min(trials, _PERSISTENCE_OF)).astype(int)) if trials else np.empty(0, int)
    own = float(np.mean([block_length(returns[:, n]) for n in picked])) if picked.size else 1.0
    return float(max(1.0, min(max(own, mean_life_days if math.isfinite(mean_life_days) else 1.0), days / 4)))


def walked_forward(returns: Floats, at: NDArray[np.int64], embargo_days: int) -> float | None:
    """Annualised Sharpe ratio of who chooses by the past: in each purged fold the trial with the best Sharpe ratio so far is held next.

    Trials were proposed by who had seen all these days, so this flatters; what it takes out is the choice of the best among them.

    Args:
        returns: (days, trials), finite. at: (days,) ends of days, microseconds.
        embargo_days: days of the past nearer to a test than this take no part in its choice.

    Returns:
        None where under `LEAST_DAYS` days are tested, or none is choosable.
    """
    held = []
    for past, test in folds(at, embargo_days):
        known = returns[past]
        spread = known.std(axis=0)
        if past.size < LEAST_PAST or not (spread > 0).any():
            continue
        best = int(np.argmax(np.where(spread > 0, known.mean(axis=0) / np.where(spread > 0, spread, 1.0), -np.inf)))
        held.append(returns[test, best])
    if not held or sum(piece.size for piece in held) < LEAST_DAYS:
        return None
    whole = np.concatenate(held)
    deviation = float(whole.std())
    return float(whole.mean()) / deviation * math.sqrt(YEAR_DAYS) if deviation > 0 else None


def snooping(
    returns: Floats, order: NDArray[np.int64], *, block: float = 1.0, floor: float | None = FLOOR, studentised: bool = True
) -> Snooping:
    """White's reality check (2000), Hansen's SPA (2005), and Romano and Wolf's stepped-down p (2005) centred as the consistent SPA is.

    The SPA compares Sharpe ratios: means over the deviation of the days, a resample's over its own (percentile t), widened by what
    blocks of `block` days in a sample this short hide of the variance. Hansen's deviation of the mean, estimated trial by trial from
    the few blocks there are, made of luck a discovery in a third of 60 fair studies of sold options, whose returns are skewed to the
    left: a sample without a crash has a high mean and a low deviation (docs/false-discovery.md).

    Args:
        returns: (days, trials), finite and each varied.
        order: (resamples, days) places of days.
        block: their mean block.
        floor: least share of the sample's deviation that a resample's counts as; None: it always counts as the sample's.
        studentised: False compares plain means, as the reality check always does.
    """
    days, resamples = returns.shape[0], order.shape[0]
    mean, scale = returns.mean(axis=0), returns.std(axis=0)
    unit = (returns - mean) / scale
    weights = np.zeros((resamples, days))
    np.add.at(weights, (np.arange(resamples)[:, None], order), 1.0 / days)
    moved = weights @ unit  # in deviations of the sample
    poor = mean / scale < -math.sqrt(2 * math.log(math.log(days))) * moved.std(axis=0)
    wide, own, tested = 1.0, np.ones(1), mean
    if studentised:
        tested = mean / scale
        wide = 1 / math.sqrt(1 - (2 * block - 1) / days)
        if floor is not None:
            own = np.maximum(np.sqrt(np.maximum(weights @ unit**2 - moved**2, 0.0)), floor)

    def drawn(kept: Floats) -> Floats:
        """`kept`: what a poor trial keeps of its own bad mean."""
        found: Floats = (moved * wide + kept) * (1.0 if studentised else scale) / own
        return found

    def p(kept: Floats) -> float:
        return float(np.mean(np.maximum(drawn(kept).max(axis=1), 0.0) >= max(float(tested.max()), 0.0)))

    consistent, lower = np.where(poor, mean / scale, 0.0), np.minimum(mean / scale, 0.0)
    reality = float(np.mean((moved * scale).max(axis=1) >= float(mean.max())))
    return Snooping(reality, p(lower), p(consistent), p(np.zeros_like(mean)), _stepped_down(tested, drawn(consistent)))


def _stepped_down(tested: Floats, drawn: Floats) -> Floats:
    """(trials,) of each the share of resamples whose best among it and all worse ones is as good; never below a better trial's."""
    order = np.argsort(-tested, kind="stable")
    best = np.maximum.accumulate(np.maximum(drawn[:, order], 0.0)[:, ::-1], axis=1)[:, ::-1]
    stepped = np.maximum.accumulate(np.mean(best >= np.maximum(tested[order], 0.0), axis=0))
    found = np.empty_like(stepped)
    found[order] = stepped
    return found


def _charged(found: Snooping, times: float) -> Snooping:
    """The same after `times` as many looks (Sidak)."""

    def more(p: Any) -> Any:
        return 1 - (1 - p) ** max(times, 1.0)

    return Snooping(
        more(found.reality_check),
        more(found.spa_lower),
        more(found.spa_consistent),
        more(found.spa_upper),
        np.asarray(more(found.adjusted)),
    )


def _bears(returns: Floats) -> str:
    """Why a trial's returns bear no Sharpe ratio; empty where they do."""
    if not returns.size or not np.isfinite(returns).all():
        return "undefined"
    if np.ptp(returns) <= 1e-12 * np.abs(returns).max():  # what is left of a constant is rounding
        return "constant"
    return "" if returns.size >= LEAST_DAYS else "too short"


def _rows(returns: Floats, numbers: list[int], given: list[str], bearing: list[str], adjusted: Floats, looks: int) -> list[TrialVerdict]:
    days, enough = returns.shape[0], [n for n, why in enumerate(bearing) if not why]
    known = returns[:, enough] if enough else np.empty((1, 0))
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    unit = (known - mean) / deviation
    sharpe, skew, kurtosis = mean / deviation, (unit**3).mean(axis=0), (unit**4).mean(axis=0) - 3
    variance = float(np.var(sharpe, ddof=1)) if len(enough) > 1 else 0.0
    rows = [
        TrialVerdict(
            number, why if status == "ok" else status, None if why == "undefined" else float(column.mean()), None, None, None, None
        )
        for number, status, why, column in zip(numbers, given, bearing, returns.T, strict=True)
    ]
    for k, n in enumerate(enough):
        moments = (float(sharpe[k]), days, float(skew[k]), float(kurtosis[k]))
        psr, deflated = probabilistic_sharpe(*moments), deflated_sharpe(*moments, looks, variance)
        annual = moments[0] * math.sqrt(YEAR_DAYS)
        rows[n] = TrialVerdict(numbers[n], given[n], float(mean[k]), annual, _known(psr), _known(deflated), float(adjusted[n]))
    return rows


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _overfitting(known: Floats, at: NDArray[np.int64], blocks: int | None) -> float | None:
    """Of trials that differ: among equal ones there is no choice that could be wrong."""
    if known.shape[1] < 2 or np.ptp(known, axis=1).max() == 0:
        return None
    blocks = blocks or (16 if at.size >= 64 else 8)
    return backtest_overfitting(known, at, blocks).probability if at.size >= 2 * blocks else None


def _words(
    looks: int, days: int, best: TrialVerdict | None, found: Snooping | None, overfitting: float | None, discovered: bool, level: float
) -> str:
    seen = f"{looks:,} look{'s' if looks != 1 else ''} on {days:,} days"
    if best is None or found is None:
        return f"After {seen} no trial bears a number: nothing may be said, and doing nothing stands."
    luck = (
        f"luck alone would show a best trial this good in {found.spa_consistent:.1%} of such studies by Sharpe ratio, "
        f"in {found.reality_check:.1%} by mean return"
    )
    head = f"After {seen} the best is trial {best.number}, Sharpe ratio {best.sharpe:.2f} before any correction; {luck}."
    end = (
        f"Both are within {level:.1%}: trial {best.number} may be called better than doing nothing here, and the holdout be asked."
        if discovered
        else "That is not evidence: nothing here may be called better than doing nothing."
    )
    wrong = (
        ""
        if overfitting is None
        else f" Chosen on one half of the time, the best came out below the median of the other in {overfitting:.0%}."
    )
    return f"{head} {end}{wrong}"


def _check(
    returns: Floats, at: NDArray[np.int64], looks: int | None, numbers: Sequence[int] | None, statuses: Sequence[str] | None
) -> tuple[int, int]:
    place, remedy = "verdict", "pass (days, trials) with the time of each day, and a number and a status a trial"
    if returns.ndim != 2 or at.shape != returns.shape[:1]:
        raise DataError(f"returns of shape {returns.shape} do not fit {at.size} times", place=place, remedy=remedy)
    if at.size > 1 and not (np.diff(at) > 0).all():
        raise DataError("times of the days do not ascend", place=place, remedy=remedy)
    for given in (numbers, statuses):
        if given is not None and len(given) != returns.shape[1]:
            raise DataError(f"{len(given)} names for {returns.shape[1]} trials", place=place, remedy=remedy)
    if looks is not None and looks < returns.shape[1]:
        raise DataError(f"{looks} looks are fewer than the {returns.shape[1]} trials", place=place, remedy="count every look")
    return returns.shape[0], returns.shape[1]
