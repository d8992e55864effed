"""Standard margin of short options and of perpetuals, by the exchange's formulas, contract by contract.

Long options need nothing and no leg is offset against another. Margin of whole portfolios is in `portfolio_margin`.
Sources, worked examples and what is unsettled: docs/costs.md. The exchange's own `get_margins` is the arbiter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from options_agent.backtest.tape import inner
from options_agent.compiled import compiled
from options_agent.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Shares of the forward: at the money, at the least, and what keeps a position.
INITIAL: Final = 0.15
INITIAL_LEAST: Final = 0.10
MAINTENANCE: Final = 0.075
#: Shares of a perpetual's coins. From the exchange's page on linear perpetuals (BTC: 2 % and 1 %, and 0.005 % more for each coin
#: held); taken for inverse ones and for ETH as well, which is unsettled.
PERPETUAL_INITIAL: Final = 0.02
PERPETUAL_MAINTENANCE: Final = 0.01
PERPETUAL_PER_COIN: Final = 0.00005


@inner
def short_margin(call: bool, strike: float, forward: float, mark: float) -> tuple[float, float]:
    """Initial and maintenance margin of one inverse option sold, coin per contract of one coin.

    `strike`, `forward`: USD. `mark`: coin. With OTM the out-of-the-money amount, USD:

        call: initial = max(0.15 - OTM / forward, 0.10) + mark; maintenance = 0.075 + mark
        put:  maintenance = max(0.075, 0.075 mark) + mark; initial = max(max(0.15 - OTM / forward, 0.10) + mark, maintenance)
    """
    out = strike - forward if call else forward - strike
    initial = max(INITIAL - max(out, 0.0) / forward, INITIAL_LEAST) + mark
    if call:
        return initial, MAINTENANCE + mark
    maintenance = max(MAINTENANCE, MAINTENANCE * mark) + mark
    return max(initial, maintenance), maintenance


@inner
def linear_short_margin(call: bool, strike: float, forward: float, mark: float) -> tuple[float, float]:
    """Initial and maintenance margin of one linear option sold, USDC per coin of contract.

    All in USDC. The inverse formulas times the forward: shares of the forward where those have shares of a coin, the mark as it is.
    """
    out = strike - forward if call else forward - strike
    initial = max(INITIAL * forward - max(out, 0.0), INITIAL_LEAST * forward) + mark
    if call:
        return initial, MAINTENANCE * forward + mark
    maintenance = max(MAINTENANCE * forward, MAINTENANCE * mark) + mark
    return max(initial, maintenance), maintenance


def standard_margin(
    call: ArrayLike,
    strike: ArrayLike,
    forward: ArrayLike,
    mark: ArrayLike,
    contracts: ArrayLike = -1.0,
    settlement: Literal["coin", "usdc"] = "coin",
) -> NDArray[np.float64]:
    """Initial and maintenance margin of each option position, no offset between them.

    Args:
        call: whether a call.
        strike: USD.
        forward: USD, of the option's own expiry, above 0.
        mark: coin (`usdc`: USDC) per contract of one coin.
        contracts: coins, negative where sold. Bought ones need nothing.
        settlement: `coin` for inverse options, `usdc` for linear ones.

    Returns:
        (..., 2) in the shape the arguments broadcast to: initial, maintenance; coin (`usdc`: USDC). NaN where a sold one's forward or
        mark is NaN.

    Raises:
        DataError: the arguments do not broadcast, or a forward is not above 0.
    """
    try:
        columns = np.broadcast_arrays(call, strike, forward, mark, contracts)
    except ValueError as error:
        raise DataError(
            f"margin of arrays that do not fit each other: {error}", remedy="pass arrays of one shape, or single numbers"
        ) from error
    if (columns[2] <= 0).any():
        raise DataError("margin asked with a forward at or below 0", remedy="pass the forward of each option's expiry, USD")
    shape = columns[0].shape
    flat = [np.ascontiguousarray(column, dtype=np.float64).reshape(-1) for column in columns[1:]]
    out = np.empty((flat[0].size, 2))
    _fill(np.ascontiguousarray(columns[0], dtype=np.bool_).reshape(-1), flat[0], flat[1], flat[2], flat[3], settlement == "usdc", out)
    return out.reshape(*shape, 2)


def perpetual_margin(coins: ArrayLike, per_coin: float = PERPETUAL_PER_COIN) -> NDArray[np.float64]:
    """Initial and maintenance margin of perpetual positions in coin, (..., 2); `coins` held or sold short.

    (2 % + size x `per_coin`) x size, maintenance 1 % likewise; size in coins.
    """
    size = np.abs(np.asarray(coins, dtype=np.float64))
    more = per_coin * size
    return np.stack([(PERPETUAL_INITIAL + more) * size, (PERPETUAL_MAINTENANCE + more) * size], axis=-1)


@compiled()
def _fill(
    call: NDArray[np.bool_],
    strike: NDArray[np.float64],
    forward: NDArray[np.float64],
    mark: NDArray[np.float64],
    contracts: NDArray[np.float64],
    linear: bool,
    out: NDArray[np.float64],
) -> None:
    """Fill `out` (n, 2); see `standard_margin`."""
    for i in range(strike.size):
        out[i] = 0.0
        sold = -contracts[i]
        if np.isnan(forward[i]) or np.isnan(mark[i]) or np.isnan(strike[i]):
            out[i] = np.nan if sold > 0 else 0.0
        elif sold > 0:
            if linear:
                initial, maintenance = linear_short_margin(call[i], strike[i], forward[i], mark[i])
            else:
                initial, maintenance = short_margin(call[i], strike[i], forward[i], mark[i])
            out[i, 0] = sold * initial
            out[i, 1] = sold * maintenance
