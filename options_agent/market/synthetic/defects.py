"""Defects put into the synthetic market on purpose, and where: rows spoilt in the ways quality judges, snapshots lost.

Both are functions of the seed and of time, so that a test can count what should have been caught.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit

from options_agent.market.synthetic.surface import uniform

if TYPE_CHECKING:
    import datetime as dt

    from numpy.typing import NDArray

#: Kinds of spoilt rows. Each breaks the rule of quality it is named for, and no other by intent.
KINDS: Final = ("crossed", "off_tick", "absurd_iv", "mark_band", "smile_outlier", "missing_field", "stale", "duplicate")
_LONGEST_OUTAGE: Final = 4


@dataclass(frozen=True, slots=True)
class InjectedDefect:
    """A row spoilt on purpose."""

    snapshot: dt.datetime
    instrument: str
    kind: str


@njit(cache=True)
def spoilt_kinds(seed: np.uint64, keys: NDArray[np.uint64], snapshot_us: NDArray[np.int64], rate: float, kinds: int) -> NDArray[np.int64]:
    """(rows,) index of the defect each row gets, -1 for none."""
    out = np.full(keys.size, -1, dtype=np.int64)
    for i in range(keys.size):
        if uniform(seed, keys[i], np.uint64(snapshot_us[i]), np.uint64(11)) < rate:
            out[i] = int(uniform(seed, keys[i], np.uint64(snapshot_us[i]), np.uint64(12)) * kinds)
    return out


def spoil(values: NDArray[np.float64], ts_us: NDArray[np.int64], kinds: NDArray[np.int64]) -> None:
    """Spoil the rows of a quote block in place; columns as in `surface.quote_rows`. Duplicates are added by the caller."""
    bid, ask, mark, mark_iv = 0, 1, 2, 7
    for i in np.flatnonzero(kinds >= 0):
        row = values[i]
        match KINDS[kinds[i]]:
            case "crossed":
                row[ask] = max(row[ask], 0.0010) if np.isfinite(row[ask]) else 0.0010
                row[bid] = row[ask] + 0.0010 if row[ask] > 0.005 else row[ask] + 0.0002
            case "off_tick":
                row[bid] = (row[bid] if np.isfinite(row[bid]) else 0.0001) + 0.00003
                if not row[ask] > row[bid]:
                    row[ask] = np.nan
            case "absurd_iv":
                row[mark_iv] = 25.0
            case "mark_band":
                row[mark] = (row[mark] if np.isfinite(row[mark]) else 0.0) + 0.15
            case "smile_outlier":
                row[mark_iv] = min(row[mark_iv] * 1.5 + 0.4, 8.0)
                row[mark] = np.nan
            case "missing_field":
                row[[bid, ask, mark, mark_iv, 3, 4, 5, 6]] = np.nan
            case "stale":
                ts_us[i] -= 3 * 3_600_000_000
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
