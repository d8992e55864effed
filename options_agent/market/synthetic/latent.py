"""The latent market: spot, variance and regime of each coin as a function of seed and time alone.

A Markov chain of regimes (calm, normal, storm) moves a level of volatility within days; a fast and a slow factor revert around it.
Spots are correlated, jump together now and then (more often when volatile), and are pulled weakly towards a slow level so that years
stay plausible. Days are drawn from generators keyed by (seed, day), so a day is the same whatever range it is asked in.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit

from options_agent.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


GENESIS: Final = dt.date(2019, 1, 1)
STEP_MINUTES: Final = 5
STEPS: Final = 24 * 60 // STEP_MINUTES
STEP_YEARS: Final = STEP_MINUTES / (365 * 24 * 60)

#: Coins of the market, their long-run spot (USD) and how much wilder than BTC they are.
COINS: Final[dict[str, tuple[float, float]]] = {"BTC": (78_000.0, 1.0), "ETH": (2_800.0, 1.28)}
_N: Final = len(COINS)
#: Per coin: log spot, fast and slow deviation of log-volatility; then what they share: regime, basis, log of the level, skew.
_STATE: Final = 3 * _N + 4

#: Diffusive volatility of the normal regime; the root of the mean variance of all regimes.
_NORMAL_VOL: Final = 0.50
_LONG_RUN: Final = 0.53
#: Jumps a year in the normal regime; their mean, and their deviation per unit of wildness.
_JUMPS: Final = 14.0
_JUMP_MEAN: Final = -0.012
_JUMP_SIZE: Final = 0.030


@dataclass(frozen=True, slots=True)
class DayPath:
    """One day on the five-minute grid, from 00:00 inclusive to 24:00 exclusive.

    Attributes:
        spot: (coins, steps) index price, USD.
        vol: (coins, steps) instantaneous volatility, jumps included, decimal per year.
        slow: (coins, steps) level that volatility reverts to within weeks, jumps included, decimal per year.
        long: (coins, steps) level expected in the long run, jumps included, decimal per year.
        regime: (steps,) 0 calm, 1 normal, 2 storm.
        basis: (steps,) annualised slope of the forward curve, decimal.
        skew: (steps,) correlation parameter of the smile; negative = puts dearer.
    """

    spot: NDArray[np.float64]
    vol: NDArray[np.float64]
    slow: NDArray[np.float64]
    long: NDArray[np.float64]
    regime: NDArray[np.int64]
    basis: NDArray[np.float64]
    skew: NDArray[np.float64]


class LatentMarket:
    """Paths of a seed. Keeps one small state per day; a path is walked again when asked for."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        first = np.zeros(_STATE)
        first[0 : 3 * _N : 3] = [np.log(level * 0.6) for level, _ in COINS.values()]
        first[3 * _N] = 1.0
        first[3 * _N + 1] = 0.06
        first[3 * _N + 2] = np.log(_NORMAL_VOL)
        self._states = [first]
        self._cached: tuple[int, DayPath] | None = None

    def day(self, day: dt.date) -> DayPath:
        """The path of a day.

        Raises:
            DataError: before the market's first day.
        """
        number = (day - GENESIS).days
        if number < 0:
            raise DataError(f"the synthetic market starts on {GENESIS}, not {day}", remedy="ask for a later range")
        if self._cached is not None and self._cached[0] == number:
            return self._cached[1]
        while len(self._states) <= number:
            self._walk(len(self._states) - 1)
        path = self._walk(number)
        self._cached = (number, path)
        return path

    def _walk(self, number: int) -> DayPath:
        """Walk a day from its opening state; the next day's opening state is kept."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed & (2**64 - 1), number]))
        normals = rng.standard_normal((STEPS, 3 * _N + 2))
        uniforms = rng.random((STEPS, _N + 2))
        jumps = rng.standard_normal((STEPS, _N))
        state = self._states[number].copy()
        levels = np.array([np.log(level) for level, _ in COINS.values()])
        wildness = np.array([w for _, w in COINS.values()])
        spot, vol, slow, long = (np.empty((_N, STEPS)) for _ in range(4))
        regime, basis, skew = np.empty(STEPS, dtype=np.int64), np.empty(STEPS), np.empty(STEPS)
        _steps(state, levels, wildness, normals, uniforms, jumps, spot, vol, slow, long, regime, basis, skew)
        if len(self._states) == number + 1:
            self._states.append(state)
        return DayPath(spot, vol, slow, long, regime, basis, skew)


@njit(cache=True)
def _steps(state, levels, wildness, normals, uniforms, jumps, spot, vol, slow, long, regime, basis, skew):  # type: ignore[no-untyped-def]
    """Walk a day in place; the state on return is the next day's opening."""
    coins = levels.size
    dt_years = 5.0 / (365.0 * 24.0 * 60.0)
    root = np.sqrt(dt_years)
    regime_vol = np.array([0.33, _NORMAL_VOL, 0.82])
    regime_drift = np.array([0.35, 0.05, -0.60])
    leave_per_year = np.array([365.0 / 30.0, 365.0 / 20.0, 365.0 / 9.0])
    for i in range(spot.shape[1]):
        r = int(state[3 * coins])
        regime[i] = r
        basis[i] = state[3 * coins + 1]
        level = np.exp(state[3 * coins + 2])
        wild = np.log(level / _NORMAL_VOL)
        skew[i] = min(max(-0.26 - 0.30 * wild + state[3 * coins + 3], -0.55), 0.55)
        jumps_per_year = _JUMPS * np.exp(2.8 * wild)
        common = normals[i, 0]
        jump_now = uniforms[i, 0] < jumps_per_year * dt_years
        for c in range(coins):
            around = level * wildness[c] * np.exp(state[3 * c + 2])
            v = around * np.exp(state[3 * c + 1])
            jump_variance = jumps_per_year * (_JUMP_MEAN**2 + (_JUMP_SIZE * wildness[c]) ** 2)
            slow[c, i] = np.sqrt(around * around + jump_variance)
            vol[c, i] = np.sqrt(v * v + jump_variance)
            long[c, i] = _LONG_RUN * wildness[c] * np.exp(0.7 * state[3 * c + 2])
            spot[c, i] = np.exp(state[3 * c])
            shock = common if c == 0 else 0.82 * common + np.sqrt(1.0 - 0.82**2) * normals[i, c]
            pull = 1.1 * (levels[c] - state[3 * c])
            jump = 0.0
            if jump_now:
                jump = _JUMP_MEAN + _JUMP_SIZE * wildness[c] * (0.85 * jumps[i, 0] + 0.53 * jumps[i, c])
            state[3 * c] += (pull + regime_drift[r] - 0.5 * v * v) * dt_years + v * root * shock + jump
            leverage = -0.35 * shock + 0.94 * normals[i, coins + c]
            state[3 * c + 1] += (-30.0 * state[3 * c + 1] - 0.13 * jumps_per_year) * dt_years + 1.4 * root * leverage
            state[3 * c + 2] += -3.0 * state[3 * c + 2] * dt_years + 0.6 * root * normals[i, 2 * coins + c]
            if jump != 0.0:
                state[3 * c + 1] += min(5.0 * abs(jump), 0.4)
        state[3 * coins + 1] += 8.0 * (0.06 - basis[i]) * dt_years + 0.12 * root * normals[i, 3 * coins]
        state[3 * coins + 2] += 250.0 * (np.log(regime_vol[r]) - state[3 * coins + 2]) * dt_years
        state[3 * coins + 3] += -15.0 * state[3 * coins + 3] * dt_years + 0.55 * root * normals[i, 3 * coins + 1]
        if uniforms[i, 1] < leave_per_year[r] * dt_years:
            if r == 1:
                state[3 * coins] = 0.0 if uniforms[i, 2] < 0.6 else 2.0
            else:
                state[3 * coins] = 1.0
