"""Portfolio margin of an inverse account: what the worst of a table of moves would cost. Exact and slow, for reports.

The exchange revalues the whole account at nine prices and three volatilities, and at eight far prices. Its figures and the answer this
is checked against are in the API's documentation of `private/pme/simulate`; what it leaves open is said at each parameter
and in docs/costs.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.errors import DataError
from options_agent.pricing.black76 import greeks, price_coin

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_DAYS_A_YEAR: Final = 365.0


@dataclass(frozen=True, slots=True)
class RiskModel:
    """Parameters of the risk table, decimals; those of BTC by default.

    Attributes:
        price_range: the farthest move of the main table.
        steps: equal steps to each side, beside no move.
        volatility_up, volatility_down: a volatility v becomes v (1 + up f) and v (1 - down f), f = (30 / days)^power.
        volatility_least: what v becomes going up is at least this (unsettled: whether before or after the rise).
        power_under, power_over: the power with less than 30 days left, and with more.
        days_least: fewer days count as so many, or f has no bound (assumed).
        far_moves: moves of the extended table, at the raised volatility only. Futures move no farther than the price range there.
        far_share: share of the extended table's results that counts.
        dampener_usd: each result of the extended table is brought nearer to 0 by up to (move / price range - 1) times this, USD.
        roll_move: per year to expiry, and `roll_least` at the least: what each expiry's deltas cost beside the table.
        maintenance: maintenance margin as a share of initial.
    """

    price_range: float = 0.16
    steps: int = 4
    volatility_up: float = 0.50
    volatility_down: float = 0.25
    volatility_least: float = 0.50
    power_under: float = 0.30
    power_over: float = 0.13
    days_least: float = 1.0
    far_moves: tuple[float, ...] = (-0.66, -0.33, 0.50, 1.0, 2.0, 3.0, 4.0, 5.0)
    far_share: float = 1.0
    dampener_usd: float = 100_000.0
    roll_move: float = 0.075
    roll_least: float = 0.01
    maintenance: float = 0.8


@dataclass(frozen=True, slots=True)
class PortfolioMargin:
    """A portfolio's margin, coin.

    Attributes:
        initial, maintenance: coin.
        worst_move: the price move of the worst result, decimal; `worst_volatility` its volatility: `up`, `same`, `down`.
        roll_shock: what deltas by expiry add, coin.
        table: (2 steps + 1, 3) results at moves ascending and volatility up, same, down; coin.
        far: (far moves,) results of the extended table after the dampener, coin.
    """

    initial: float
    maintenance: float
    worst_move: float
    worst_volatility: str
    roll_shock: float
    table: NDArray[np.float64]
    far: NDArray[np.float64]


def portfolio_margin(
    *,
    index: float,
    contracts: ArrayLike = (),
    call: ArrayLike = (),
    strike: ArrayLike = (),
    forward: ArrayLike = (),
    volatility: ArrayLike = (),
    days: ArrayLike = (),
    futures: ArrayLike = (),
    futures_days: ArrayLike = (),
    model: RiskModel | None = None,
) -> PortfolioMargin:
    """Margin of inverse options and futures of one coin held together.

    Args:
        index: USD.
        contracts: (n,) options, coins, negative where sold.
        call, strike, forward, volatility, days: (n,) right, USD, USD of the expiry, decimal a year, days left.
        futures: (m,) coins, negative where sold, of perpetuals and dated futures.
        futures_days: (m,) days left, 0 for a perpetual.
        model: parameters; those of BTC by default.

    Returns:
        Initial margin: the largest loss of the two tables plus the roll shock. The shock of very large deltas (from about
        20 million USD on) and margin of open orders are not in it.

    Raises:
        DataError: columns of differing length, or a price, volatility or time that is not finite and above 0 (days: at least 0).
    """
    model = model or RiskModel()
    size, strikes, forwards, vols, left = _columns(contracts, strike, forward, volatility, days)
    calls = np.asarray(call, dtype=np.bool_).reshape(-1)
    held, held_days = _columns(futures, futures_days)
    if calls.size != size.size:
        raise DataError("portfolio margin of columns that differ in length", remedy="one right an option")
    positive = (strikes, forwards, vols, np.array([index], dtype=np.float64))
    priced = all((column > 0).all() and np.isfinite(column).all() for column in positive)
    if not priced or not all((column >= 0).all() and np.isfinite(column).all() for column in (left, held_days)):
        raise DataError(
            "portfolio margin asked with a price or volatility at or below 0, or a time below 0", remedy="leave expired options out"
        )

    years = left / _DAYS_A_YEAR
    power = np.where(left < 30, model.power_under, model.power_over)
    factor = (30 / np.maximum(left, model.days_least)) ** power
    raised = np.maximum(vols * (1 + model.volatility_up * factor), model.volatility_least)
    lowered = np.maximum(vols * (1 - model.volatility_down * factor), 0.0)
    now = price_coin(forwards, strikes, years, vols, calls)

    def options_at(move: float, shocked: NDArray[np.float64]) -> float:
        return float(size @ (price_coin(forwards * (1 + move), strikes, years, shocked, calls) - now))

    def futures_at(move: float) -> float:
        return float(held.sum() * (1 - 1 / (1 + move)))

    moves = np.linspace(-model.price_range, model.price_range, 2 * model.steps + 1)
    table = np.array([[options_at(m, v) + futures_at(m) for v in (raised, vols, lowered)] for m in moves])
    within = np.clip(model.far_moves, -model.price_range, model.price_range)
    far = np.array([options_at(m, raised) + futures_at(near) for m, near in zip(model.far_moves, within, strict=True)])
    softened = (np.abs(model.far_moves) / model.price_range - 1) * model.dampener_usd / index
    far = model.far_share * np.sign(far) * np.maximum(np.abs(far) - np.maximum(softened, 0.0), 0.0)

    roll = _roll_shock(size * greeks(forwards, strikes, years, vols, calls)[1], left, held, held_days, model)
    row, column = np.unravel_index(int(np.argmin(table)), table.shape)
    worst, at, how = table[row, column], moves[row], ("up", "same", "down")[int(column)]
    if far.size and far.min() < worst:
        worst, at, how = far.min(), model.far_moves[int(np.argmin(far))], "up"
    initial = max(-float(worst), 0.0) + roll
    return PortfolioMargin(initial, model.maintenance * initial, float(at), how, roll, table, far)


def _roll_shock(
    deltas: NDArray[np.float64],
    days: NDArray[np.float64],
    futures: NDArray[np.float64],
    futures_days: NDArray[np.float64],
    model: RiskModel,
) -> float:
    """Coin: of each expiry, the net delta's size times the move assumed between expiries."""
    every, when = np.concatenate([deltas, futures]), np.concatenate([days, futures_days])
    total = 0.0
    for expiry in np.unique(when):
        move = max(model.roll_least, model.roll_move * expiry / _DAYS_A_YEAR)
        total += abs(float(every[when == expiry].sum())) * move
    return total


def _columns(*columns: ArrayLike) -> list[NDArray[np.float64]]:
    flat = [np.asarray(column, dtype=np.float64).reshape(-1) for column in columns]
    if len({column.size for column in flat}) > 1:
        raise DataError("portfolio margin of columns that differ in length", remedy="one value a position in every column")
    return flat
