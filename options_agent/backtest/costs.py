"""Fees as versioned data: what the exchange charged at the time, not what it charges today."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.contracts import expiry_kind
from options_agent.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FeeVersion:
    """Option fees from a day on, coin per contract of one coin (inverse).

    Attributes:
        rate: coin per contract, maker and taker alike; at most `cap` of the option's price.
        delivery: coin per contract in the money at expiry; at most `delivery_cap` of the payoff. Dailies deliver free.
        source: where the figures are from.
    """

    effective_from: dt.date
    rate: float
    cap: float
    delivery: float
    delivery_cap: float
    source: str


SCHEDULES: Final[dict[str, tuple[FeeVersion, ...]]] = {
    "deribit": (
        FeeVersion(
            dt.date(2016, 1, 1), 0.0004, 0.20, 0.00015, 0.125, "archived fee page of 2016-2018; delivery as today, for want of a source"
        ),
        FeeVersion(
            dt.date(2019, 1, 1), 0.0004, 0.125, 0.00015, 0.125, "archived fee page, about 2019; delivery as today, for want of a source"
        ),
        FeeVersion(dt.date(2020, 1, 1), 0.0003, 0.125, 0.00015, 0.125, "fee page: options 0.03 %, delivery 0.015 %, cap 12.5 %"),
    ),
    "none": (FeeVersion(dt.date(2000, 1, 1), 0.0, 0.0, 0.0, 0.0, "no fees: for comparison only"),),
}


def schedule(name: str) -> tuple[FeeVersion, ...]:
    """A fee schedule by name.

    Raises:
        SettingsError: unknown name.
    """
    try:
        return SCHEDULES[name]
    except KeyError:
        raise SettingsError(
            f"no fee schedule named {name!r}", place="backtest.fee_schedule", remedy=f"one of {', '.join(SCHEDULES)}"
        ) from None


def version_at(versions: Sequence[FeeVersion], day: dt.date) -> FeeVersion:
    """The version in force on a day: the latest that is effective; the first where the day is before all."""
    effective = [v for v in versions if v.effective_from <= day]
    return effective[-1] if effective else versions[0]


def trading_fees(versions: Sequence[FeeVersion], at_us: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, 2) rate and cap in force at each time (microseconds)."""
    starts = np.array([_midnight_us(v.effective_from) for v in versions])
    which = np.maximum(np.searchsorted(starts, at_us, side="right") - 1, 0)
    return np.array([(v.rate, v.cap) for v in versions])[which]


def delivery_fees(versions: Sequence[FeeVersion], expiry_us: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, 2) delivery rate and cap of each expiry (microseconds); zero for dailies."""
    table = np.zeros((expiry_us.size, 2))
    for expiry in np.unique(expiry_us):
        at = dt.datetime.fromtimestamp(int(expiry) / 1e6, tz=dt.UTC)
        if expiry_kind(at) != "daily":
            version = version_at(versions, at.date())
            table[expiry_us == expiry] = (version.delivery, version.delivery_cap)
    return table


def _midnight_us(day: dt.date) -> int:
    return int(dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC).timestamp()) * 1_000_000
