"""What a fill costs where the book does not say: the model's half-spread, fitted on recorded chains (docs/slippage.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from options_agent.backtest.tape import inner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Edges of the table: days to expiry, absolute delta.
DAYS: Final = (1.0, 3.0, 10.0, 35.0, 100.0)
DELTAS: Final = (0.05, 0.1, 0.2, 0.35, 0.65)
#: What size costs on recorded books: the setting `impact` that goes with the default `impact_power`. Off unless it is set.
BOOK_IMPACT: Final = 0.15
#: Median spread as a share of the mark, by days (rows) and delta: `python scripts/calibrate_slippage.py` fits it.
SPREADS: Final = (
    (0.691, 0.314, 0.205, 0.143, 0.111, 0.112),
    (0.504, 0.202, 0.131, 0.104, 0.065, 0.099),
    (0.396, 0.138, 0.107, 0.076, 0.046, 0.055),
    (0.304, 0.1, 0.079, 0.044, 0.025, 0.031),
    (0.253, 0.093, 0.052, 0.027, 0.017, 0.023),
    (0.207, 0.083, 0.044, 0.024, 0.017, 0.031),
)


@inner
def model_half_spread(model: NDArray[np.float64], dte: float, abs_delta: float, mark: float) -> float:
    """Half the spread a quote would have, coin; never under half a tick.

    `model`: (days, deltas) shares as `SPREADS`; `dte` days, `mark` coin.
    """
    row, column = 0, 0
    for edge in DAYS:
        if dte >= edge:
            row += 1
    for edge in DELTAS:
        if abs_delta >= edge:
            column += 1
    tick = 0.0001 if mark <= 0.005 else 0.0005
    half: float = max(0.5 * model[row, column] * mark, 0.5 * tick)
    return half
