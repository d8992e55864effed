"""What the block kernels take: contiguous columns of doubles, at least a block long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from options_agent.pricing.elementary import BLOCK

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_NUMBER, _TRUTH = np.dtype(np.float64), np.dtype(np.bool_)


def columns(numbers: tuple[ArrayLike, ...], is_call: ArrayLike) -> tuple[list[NDArray[Any]], int]:
    """The columns as kernels want them, and how many rows are the caller's; copies only what does not fit already.

    One layout of arguments also means one compilation: slices, read-only arrays and integers would each bring their own. Short
    columns are filled up with quarters, an option like any other (even its price is one), whose result nobody reads.

    Raises:
        ValueError: the columns differ in length.
    """
    made = [_ready(column, _NUMBER) for column in numbers] + [_ready(is_call, _TRUTH)]
    rows = made[0].size
    if any(column.shape != (rows,) for column in made):
        raise ValueError(f"columns of one length each expected, got shapes {[column.shape for column in made]}")
    if rows < BLOCK:
        made = [np.concatenate([column, np.full(BLOCK - rows, 0.25).astype(column.dtype)]) for column in made]
    return made, rows


def _ready(column: ArrayLike, dtype: np.dtype[Any]) -> NDArray[Any]:
    if isinstance(column, np.ndarray) and column.dtype == dtype and column.flags.carray:
        return column  # as it mostly is: asking numpy would cost as much as a hundred options
    return np.require(column, dtype, ["C", "A", "W"])
