"""Which strikes the synthetic exchange lists: a grid around the spot at listing, extended as the spot moves.

A strike once listed stays until its expiry. Decided at 08:00 UTC each day, from the spots of the days before.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from options_agent.contracts import EXPIRY_TIME, expiry_kind, listed_expiries, option_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ladder:
    """Strikes of an expiry: (step, reach) rungs as shares of the spot; finer steps nearer."""

    rungs: tuple[tuple[float, float], ...]


#: Counted on real chains: dailies reach some 10 %, quarterlies down to a fifth and up to four times the spot.
LADDERS: dict[str, Ladder] = {
    "daily": Ladder(((0.0115, 0.09),)),
    "weekly": Ladder(((0.0135, 0.15),)),
    "monthly": Ladder(((0.022, 0.16), (0.06, 0.55))),
    "quarterly": Ladder(((0.055, 0.40), (0.2, 2.2))),
}
#: The finest step an exchange lists, USD.
FINEST: dict[str, float] = {"BTC": 500.0, "ETH": 25.0}


@dataclass(frozen=True, slots=True)
class Contract:
    """A listed option of the synthetic exchange."""

    instrument: str
    expiry: dt.datetime
    strike: float
    right: str


@dataclass(frozen=True, slots=True)
class Board:
    """The contracts of a session as columns, each (contracts,): names, times in microseconds, strikes, rights, keys.

    `sweep_order` is the place of the contract's expiry in a sweep; `key` is stable across processes.
    """

    instrument: pa.Array
    expiry_us: NDArray[np.int64]
    strike: NDArray[np.float64]
    right: pa.Array
    is_call: NDArray[np.bool_]
    key: NDArray[np.uint64]
    sweep_order: NDArray[np.int64]


def board(contracts: Sequence[Contract]) -> Board:
    """Columns of a session's contracts."""
    expiry = np.array([round(c.expiry.timestamp()) * 1_000_000 for c in contracts], dtype=np.int64)
    return Board(
        instrument=pa.array([c.instrument for c in contracts]),
        expiry_us=expiry,
        strike=np.array([c.strike for c in contracts]),
        right=pa.array([c.right for c in contracts]),
        is_call=np.array([c.right == "C" for c in contracts]),
        key=np.array([_key(c.instrument) for c in contracts], dtype=np.uint64),
        sweep_order=np.unique(expiry, return_inverse=True)[1].astype(np.int64),
    )


def _key(instrument: str) -> int:
    """64 bits of the name's hash; the built-in one differs from process to process."""
    return int.from_bytes(hashlib.blake2b(instrument.encode(), digest_size=8).digest(), "little")


def nice_step(raw: float) -> float:
    """The nearest step an exchange would list: 1, 2, 5 times a power of ten, and 25 instead of 20."""
    power = 10.0 ** math.floor(math.log10(raw))
    second = 2.0 if power >= 100.0 else 2.5
    return min((power * m for m in (1.0, second, 5.0, 10.0)), key=lambda s: abs(math.log(s / raw)))


class Listings:
    """Contracts listed on a day, from the spots at 08:00 of the days since each expiry was first listed."""

    def __init__(self, underlying: str, spot_at_eight: Callable[[dt.date], float]) -> None:
        self._underlying = underlying
        self._spot = spot_at_eight
        self._first: dict[dt.datetime, dt.date] = {}
        self._spots: dict[dt.date, float] = {}

    def contracts(self, at: dt.datetime) -> list[Contract]:
        """Contracts open at `at`, by expiry, strike, right."""
        session = at.date() if at.timetz() >= EXPIRY_TIME else at.date() - dt.timedelta(days=1)
        found = []
        for expiry in listed_expiries(at):
            for strike in self._strikes(expiry, session):
                found += [Contract(option_name(self._underlying, expiry, strike, right), expiry, strike, right) for right in ("C", "P")]
        return found

    def _strikes(self, expiry: dt.datetime, session: dt.date) -> Sequence[float]:
        first = self._first_listed(expiry)
        spots = [self._spot_of(first + dt.timedelta(days=n)) for n in range(max((session - first).days, 0) + 1)]
        low, high, start = min(spots), max(spots), spots[0]
        strikes: set[float] = set()
        for share, reach in LADDERS[expiry_kind(expiry)].rungs:
            step = max(nice_step(start * share), FINEST[self._underlying])
            least, most = math.ceil(low * max(1 - reach, 0.2) / step), math.floor(high * (1 + reach) / step)
            strikes.update(round(n * step, 4) for n in range(max(least, 1), most + 1))
        return sorted(strikes)

    def _first_listed(self, expiry: dt.datetime) -> dt.date:
        """The first day whose session lists the expiry, walking back from it."""
        if expiry not in self._first:
            day = expiry.date() - dt.timedelta(days=1)
            while expiry in listed_expiries(dt.datetime.combine(day - dt.timedelta(days=1), EXPIRY_TIME)):
                day -= dt.timedelta(days=1)
            self._first[expiry] = day
        return self._first[expiry]

    def _spot_of(self, day: dt.date) -> float:
        if day not in self._spots:
            self._spots[day] = self._spot(day)
        return self._spots[day]
