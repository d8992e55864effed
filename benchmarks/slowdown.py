"""Whether something became slower by more than noise, from paired times of two versions that took turns.

Times come in sessions (a process of each version), each of several pairs. Processes differ among themselves by a few percent for reasons of
their own (where memory lies), so sessions are what is drawn anew first, and pairs within them second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DRAWS: Final = 4_000
#: Of the interval about each kernel's ratio; five kernels are judged at once, so it is wider than the usual 95 %.
CONFIDENCE: Final = 0.99
#: How much slower is too much, where no other threshold is given.
THRESHOLD: Final = 0.10
Word = Literal["slower", "faster", "same"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Time of the new version over that of the old one.

    Attributes:
        ratio: median over sessions of each session's median; 1.3 is 30 % slower.
        low, high: bootstrap interval of it at `CONFIDENCE`.
        word: `slower` where all of the interval lies above 1 + threshold, `faster` where all of it lies below 1 / (1 + threshold).
    """

    ratio: float
    low: float
    high: float
    word: Word


def judge(sessions: Sequence[Sequence[tuple[float, float]]], threshold: float = THRESHOLD, seed: int = 0) -> Verdict:
    """The verdict on one kernel.

    Args:
        sessions: per session, pairs of seconds (old, new), all positive; sessions of equal length.
        threshold: decimal.
        seed: of the bootstrap.

    Raises:
        ValueError: no session, or no pair in one.
    """
    logs = np.log([[new / old for old, new in session] for session in sessions])
    if logs.ndim != 2 or logs.size == 0:
        raise ValueError("times of at least one session of at least one pair are needed, all sessions of one length")
    drawn = _drawn(logs, np.random.default_rng(seed))
    tail = 0.5 * (1 - CONFIDENCE)
    low, high = np.exp(np.quantile(drawn, [tail, 1 - tail]))
    # the middle of the sessions' middles: one disturbed process does not move it
    ratio = float(np.exp(np.median(np.median(logs, axis=1))))
    word: Word = "slower" if low > 1 + threshold else "faster" if high < 1 / (1 + threshold) else "same"
    return Verdict(ratio, float(low), float(high), word)


def _drawn(logs: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """(draws,) the statistic of sessions drawn with replacement, and of pairs drawn within each."""
    sessions, pairs = logs.shape
    which = random.integers(sessions, size=(DRAWS, sessions, 1))
    within = random.integers(pairs, size=(DRAWS, sessions, pairs))
    medians: NDArray[np.float64] = np.median(np.median(logs[which, within], axis=2), axis=1)
    return medians
