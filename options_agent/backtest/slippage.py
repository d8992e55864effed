"""What a fill costs where the book does not say: the model's half-spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from options_agent.backtest.tape import inner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@inner
def model_half_spread(model: NDArray[np.float64], dte: float, abs_delta: float, mark: float) -> float:
    """Half the spread a quote would have, coin; never under half a tick."""
    share = 0.167 if dte < 1.0 else 0.087 if dte < 10.0 else 0.046 if dte < 35.0 else 0.025
    tick = 0.0001 if mark <= 0.005 else 0.0005
    return max(0.5 * share * mark, 0.5 * tick)
