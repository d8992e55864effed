"""Time cut into training, validation and a locked holdout, with an embargo between them; and purged folds inside training."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from options_agent.research.studies.space import SearchSpace
    from options_agent.strategies.rules import Strategy

Days = tuple[dt.date, dt.date]
#: A part shorter than this supports nothing.
LEAST_DAYS: Final = 10
DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Splits:
    """First and last day of each part, both inclusive; between two parts lie `embargo_days` that nobody sees."""

    train: Days
    validation: Days
    holdout: Days
    embargo_days: int


def split(start: dt.date, end: dt.date, embargo_days: int, *, train_share: float = 0.5, validation_share: float = 0.25) -> Splits:
    """Cut [start, end] by time: shares of the days that the two embargoes leave, the rest is the holdout.

    Raises:
        SettingsError: shares that leave no holdout, or too few days.
    """
    if not (0 < train_share < 1 and 0 < validation_share < 1 and train_share + validation_share < 1):
        raise SettingsError("shares of training and validation leave room for a holdout", remedy="for instance 0.5 and 0.25")
    days = (end - start).days + 1 - 2 * embargo_days
    train, validation = math.floor(days * train_share), math.floor(days * validation_share)
    if min(train, validation, days - train - validation) < LEAST_DAYS:
        raise SettingsError(
            f"{(end - start).days + 1} days with two embargoes of {embargo_days} leave a part under {LEAST_DAYS} days",
            remedy="a longer range, or a space of shorter expiries",
        )

    def part(first: dt.date, length: int) -> Days:
        return first, first + dt.timedelta(days=length - 1)

    gap = dt.timedelta(days=embargo_days + 1)
    training = part(start, train)
    validating = part(training[1] + gap, validation)
    return Splits(training, validating, (validating[1] + gap, end), embargo_days)


def longest_life_days(strategy: Strategy, space: SearchSpace) -> int:
    """Days that a trade of any point of the space can live: the farthest expiry it may sell or buy. The least embargo."""
    from options_agent.backtest.grid import DAYS, DAYS_AROUND

    lives = [strategy.entry.dte_max, *(leg.dte or 0.0 for leg in (*strategy.legs, *strategy.assigned_legs))]
    if strategy.exit.roll is not None:
        lives.append(strategy.exit.roll.dte_max or 0.0)
    for p in space.parameters:
        most = max((v for v in p.values if isinstance(v, (int, float))), default=0.0) if p.kind == "choice" else float(p.high or 0.0)
        if p.name == DAYS:
            lives.append(most * DAYS_AROUND["max"])
        elif p.name.endswith(("dte", "dte_max", "dte_target", "dte_min")):
            lives.append(most)
    return math.ceil(max(lives))


def folds(at: NDArray[np.int64], embargo_days: int, count: int = 4) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Purged walk-forward: (past, test) places of daily observations, each test behind its past with the embargo's days left out between.

    Args:
        at: (days,) microseconds, ends of days, ascending.
        embargo_days: a day of the past nearer to the test than this is left out.
        count: tests; the first of `count + 1` equal stretches is past only.
    """
    import numpy as np

    edges = np.linspace(0, at.size, count + 2).astype(int)
    found = []
    for n in range(1, count + 1):
        test = np.arange(edges[n], edges[n + 1])
        if test.size == 0:
            continue
        past = np.flatnonzero(at < at[test[0]] - embargo_days * DAY_US)
        if past.size:
            found.append((past, test))
    return found


def as_dict(splits: Splits) -> dict[str, Any]:
    """Plain data."""
    parts = {name: [day.isoformat() for day in getattr(splits, name)] for name in ("train", "validation", "holdout")}
    return parts | {"embargo_days": splits.embargo_days}
