"""Defects put into the synthetic market on purpose, and where: rows spoilt in the ways quality judges, snapshots lost.

Both are functions of the seed and of time, so that a test can count what should have been caught.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.compiled import compiled
from options_agent.market.synthetic.surface import round_up, uniform

if TYPE_CHECKING:
    import datetime as dt

    from numpy.typing import NDArray

#: Kinds of spoilt rows. Each breaks the rule of quality it is named for, and no other by intent; `locked` is a warning there.
KINDS: Final = (
    "missing_field",
    "not_positive",
    "expired",
    "stale",
    "time_backwards",
    "crossed",
    "locked",
    "off_tick",
    "absurd_iv",
    "mark_band",
    "mark_model",
    "duplicate",
    "smile_outlier",
    "static_arbitrage",
)
_LONGEST_OUTAGE: Final = 4


@dataclass(frozen=True, slots=True)
class InjectedDefect:
    """A row spoilt on purpose."""

    snapshot: dt.datetime
    instrument: str
    kind: str


@compiled(keep=False)
def spoilt_kinds(seed: np.uint64, keys: NDArray[np.uint64], snapshot_us: NDArray[np.int64], rate: float, kinds: int) -> NDArray[np.int64]:
    """(rows,) index of the defect each row gets, -1 for none."""
    out = np.full(keys.size, -1, dtype=np.int64)
    for i in range(keys.size):
        if uniform(seed, keys[i], np.uint64(snapshot_us[i]), np.uint64(11)) < rate:
            out[i] = int(uniform(seed, keys[i], np.uint64(snapshot_us[i]), np.uint64(12)) * kinds)
    return out


def spoil(values: NDArray[np.float64], ts_us: NDArray[np.int64], kinds: NDArray[np.int64], step_us: int) -> None:
    """Spoil the rows of a quote block in place; columns as in `surface.quote_rows`.

    `duplicate` and `expired` change which rows there are and are the caller's. `step_us` is the spacing of the grid.
    """
    bid, ask, mark, mark_iv = 0, 1, 2, 7
    for i in np.flatnonzero(kinds >= 0):
        row = values[i]
        match KINDS[kinds[i]]:
            case "missing_field":
                row[[bid, ask, mark, mark_iv, 3, 4, 5, 6]] = np.nan
            case "not_positive":  # a recorder's zero for none
                row[bid] = 0.0
            case "stale":
                ts_us[i] -= 3 * 3_600_000_000
            case "time_backwards":
                ts_us[i] -= step_us + 5_000_000
            case "crossed":
                row[ask] = np.fmax(row[ask], 0.0010)
                row[bid] = round_up(row[ask] + 0.0002)
            case "locked":
                row[bid] = row[ask] = np.fmax(row[bid], 0.0001)
            case "off_tick":
                row[bid] = np.fmax(row[bid], 0.0001) + 0.00003
                if not row[ask] > row[bid]:
                    row[ask] = np.nan
            case "absurd_iv":
                row[mark_iv] = 25.0
            case "mark_band":
                row[mark] = 1.3 * np.fmax(row[mark], 0.0) + 0.15
            case "mark_model":  # without an ask no band contains it
                row[mark] = np.fmax(row[mark], 0.0) + 0.03
                row[ask] = np.nan
            case "smile_outlier":
                row[mark_iv] = min(row[mark_iv] * 1.5 + 0.4, 8.0)
                row[mark] = np.nan
            case "static_arbitrage":  # a bid nobody would show, and no mark to tell
                row[bid] = round_up(1.5 * np.fmax(row[mark], 0.0) + 0.1)
                row[ask] = round_up(row[bid] + 0.001)
                row[[mark, 5, 6]] = np.nan
            case _:
                pass


def outages(seed: int, underlying_key: int, grid_us: NDArray[np.int64], step_us: int, rate: float) -> NDArray[np.bool_]:
    """(snapshots,) whether each grid time's snapshot is lost: outages start at random and last one to four intervals."""
    lost = np.zeros(grid_us.size, dtype=np.bool_)
    key = np.uint64(seed & (2**64 - 1))
    for back in range(_LONGEST_OUTAGE):
        starts = grid_us - back * step_us
        for i, at in enumerate(starts):
            if uniform(key, np.uint64(underlying_key), np.uint64(at), np.uint64(21)) < rate:
                length = 1 + int(_LONGEST_OUTAGE * uniform(key, np.uint64(underlying_key), np.uint64(at), np.uint64(22)) ** 2)
                lost[i] |= length > back
    return lost
