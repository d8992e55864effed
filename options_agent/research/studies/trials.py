"""Playing a study's points over its training and its validation days. The holdout is no part of anything here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.grid import Configuration, configurations
from options_agent.backtest.metrics.grid import midnights
from options_agent.backtest.sweep import play_points
from options_agent.backtest.sweep_summary import SUMMARY
from options_agent.errors import OptionsAgentError, SettingsError
from options_agent.research.studies.splits import DAY_US, folds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from options_agent.backtest.history import History
    from options_agent.research.studies.declaration import Study
    from options_agent.settings import Settings
    from options_agent.strategies.rules import Strategy

YEAR: Final = 365
PARTS: Final = ("train", "validation")
#: What playing one point may raise; what concerns the machine (memory, disk) ends the run, which goes on later.
_FAILS: Final = (OptionsAgentError, ArithmeticError, ValueError, LookupError)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the time: its history, what strategies may ask of it, and the ends of its days (microseconds)."""

    history: History
    features: Mapping[str, NDArray[np.float64]]
    days: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ground:
    """What trials are played on."""

    study: Study
    strategy: Strategy
    settings: Settings
    train: Part
    validation: Part


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trial's numbers by part, status, and daily returns in coin (train days + validation days,).

    `status`: ok, inconclusive (too few trades, or an objective that is not defined), or failed (it cannot be played; `reason` says why,
    its returns are NaN). All of them are looks.
    """

    status: str
    train: dict[str, float]
    validation: dict[str, float]
    returns: NDArray[np.float64]
    reason: str = ""


def ground_of(study: Study, settings: Settings) -> Ground:
    """Build the histories of training and validation, each from its own days only.

    Raises:
        SettingsError: the strategy's rules are not those that were declared.
        DataError: there are no clean quotes of a part.
    """
    strategy = declared_strategy(study, settings)
    return Ground(study, strategy, settings, *(part_of(getattr(study.splits, name), study, strategy, settings) for name in PARTS))


def declared_strategy(study: Study, settings: Settings) -> Strategy:
    """The strategy a study searches about.

    Raises:
        SettingsError: its rules, or the costs, changed since the declaration.
    """
    from options_agent.research.studies.declaration import costs_sha256, rules_sha256
    from options_agent.strategies.files import find_strategy

    if costs_sha256(settings) != study.costs_sha256:
        raise SettingsError(
            f"capital or costs are not what they were when study {study.name!r} was declared",
            place="OPTIONS_AGENT_BACKTEST__...",
            remedy="restore them, or declare a new study",
        )
    strategy = find_strategy(study.strategy, settings)
    if rules_sha256(strategy) != study.rules_sha256:
        raise SettingsError(
            f"{study.strategy} is not what it was when study {study.name!r} was declared",
            remedy="restore its rules, or declare a new study",
        )
    return strategy


def part_of(days: tuple[Any, Any], study: Study, strategy: Strategy, settings: Settings) -> Part:
    """The history of some days, from their own quotes only.

    Raises:
        DataError: there are no clean quotes of them.
    """
    from options_agent.backtest.history import build_history
    from options_agent.backtest.runner import known_features
    from options_agent.lake.store import open_lake

    lake = open_lake(settings)
    history = build_history(lake, study.underlying, *days, settings)
    features = known_features(lake, history) if strategy.features else {}
    return Part(history, features, midnights(np.ascontiguousarray(history.known_at))[1:])


def configuration(ground: Ground, values: Mapping[str, Any]) -> Configuration:
    """The strategy and costs of a point.

    Raises:
        SettingsError: no sound strategy.
    """
    found = configurations(ground.strategy, ground.settings.backtest, {name: [value] for name, value in values.items()})
    return found.points[0]


def play_trials(ground: Ground, points: Sequence[Mapping[str, Any]]) -> list[Outcome]:
    """Play points side by side. One that cannot be played fails alone: it neither ends the study nor goes uncounted."""
    try:
        return _together(ground, points)
    except _FAILS as error:
        if len(points) > 1:
            return [outcome for point in points for outcome in play_trials(ground, [point])]
        days = ground.train.days.size + ground.validation.days.size
        return [Outcome("failed", {}, {}, np.full(days, np.nan), f"{type(error).__name__}: {error}")]


def _together(ground: Ground, points: Sequence[Mapping[str, Any]]) -> list[Outcome]:
    playable = [configuration(ground, values) for values in points]
    parts = [(part, play_points(part.history, playable, part.features)) for part in (ground.train, ground.validation)]
    closed, trades = SUMMARY.index("closed_trades"), []
    for _, numbers in parts:
        trades.append(numbers.table[:, closed])
    found = []
    for n in range(len(points)):
        told = [_numbers(ground.study, numbers.table[n]) for _, numbers in parts]
        returns = [numbers.returns[0, n] for _, numbers in parts]
        told[0] |= _walked(returns[0], ground.train.days, ground.study.embargo_days)
        enough = sum(t[n] for t in trades) >= ground.settings.backtest.min_trades
        usable = all(name in part for part in told for name, _ in ground.study.objectives)
        status = "ok" if enough and usable else "inconclusive"
        found.append(Outcome(status, told[0], told[1], np.concatenate(returns)))
    return found


def _numbers(study: Study, row: NDArray[np.float64]) -> dict[str, float]:
    """Objectives first, in their order, then what a person asks next; only what is defined."""
    names = dict.fromkeys([name for name, _ in study.objectives] + ["return_coin", "max_drawdown_coin", "closed_trades", "win_rate"])
    return {name: round(float(value), 10) for name in names if np.isfinite(value := row[SUMMARY.index(name)])}


def _walked(returns: NDArray[np.float64], days: NDArray[np.int64], embargo: int) -> dict[str, float]:
    """The worst Sharpe ratio of purged walk-forward folds within training: one good month makes no strategy."""
    sharpes = []
    for _, test in folds(days, embargo):
        piece = returns[test]
        spread = float(np.std(piece, ddof=1)) if piece.size > 1 else 0.0
        if np.isfinite(piece).all() and spread > 0:
            sharpes.append(float(np.mean(piece)) / spread * np.sqrt(YEAR))
    return {"worst_fold_sharpe": round(min(sharpes), 6)} if sharpes else {}


def by_regime(ground: Ground, returns: NDArray[np.float64], days: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """A trial's days by the regime known at the start of each: how many, and their mean return in coin (decimal a day).

    Args:
        returns, days: (days,) daily returns and the ends of their days, microseconds.
    """
    from options_agent.backtest.runner import regime_labels
    from options_agent.lake.store import open_lake

    table = regime_labels(open_lake(ground.settings), ground.study.underlying)
    if not table.num_rows:
        return {}
    known = np.asarray(table["ts"].combine_chunks().cast("int64"))
    names = table["regime"].to_pylist()
    starts = days - DAY_US
    at = np.searchsorted(known, starts, side="right") - 1
    labels = np.array([names[i] if i >= 0 else "unknown" for i in at.tolist()])
    return {
        str(regime): {"days": int((labels == regime).sum()), "mean_daily_return": round(float(np.nanmean(returns[labels == regime])), 8)}
        for regime in np.unique(labels)
        if np.isfinite(returns[labels == regime]).any()
    }
