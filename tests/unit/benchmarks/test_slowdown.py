"""A slow-down is told from noise: found where it is planted, not where it is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.slowdown import judge

SESSIONS, PAIRS, TRIALS = 6, 8, 150


def noisy(seed: int, slower: float) -> list[list[tuple[float, float]]]:
    """Times of two versions under load both feel, a bias of each process, jitter, and now and then a disturbed call."""
    random = np.random.default_rng(seed)
    sessions = []
    for _ in range(SESSIONS):
        bias = random.normal(0, 0.02)
        pairs = []
        for _ in range(PAIRS):
            load = math.exp(random.normal(0, 0.3))  # shared: they are timed one after the other
            old, new = (load * math.exp(random.normal(0, 0.03)) for _ in range(2))
            if random.random() < 0.1:
                new *= 1 + random.exponential(1.0)
            if random.random() < 0.1:
                old *= 1 + random.exponential(1.0)
            pairs.append((old, new * slower * math.exp(bias)))
        sessions.append(pairs)
    return sessions


def share(word: str, slower: float) -> float:
    return sum(judge(noisy(seed, slower)).word == word for seed in range(TRIALS)) / TRIALS


def test_a_planted_slow_down_of_thirty_percent_is_found() -> None:
    assert share("slower", 1.3) >= 0.95


def test_equal_versions_give_no_false_alarm() -> None:
    assert share("same", 1.0) == 1.0


def test_a_slow_down_below_the_threshold_is_let_pass() -> None:
    assert share("slower", 1.05) == 0.0


def test_a_speed_up_is_called_faster() -> None:
    assert share("faster", 1 / 1.3) >= 0.95


def test_without_noise_the_ratio_is_exact_and_the_interval_a_point() -> None:
    verdict = judge([[(2.0, 2.6)] * 4] * 3)
    assert verdict.ratio == pytest.approx(1.3)
    assert verdict.low == pytest.approx(1.3)
    assert verdict.high == pytest.approx(1.3)
    assert verdict.word == "slower"


def test_the_threshold_is_the_callers() -> None:
    times = [[(1.0, 1.3)] * 4] * 3
    assert judge(times, threshold=0.5).word == "same"
    assert judge(times, threshold=0.2).word == "slower"


def test_the_same_times_give_the_same_interval() -> None:
    assert judge(noisy(3, 1.1)) == judge(noisy(3, 1.1))


def test_one_disturbed_session_raises_no_alarm() -> None:
    times = [[(1.0, 1.01)] * PAIRS for _ in range(SESSIONS - 1)]
    assert judge([*times, [(1.0, 3.0)] * PAIRS]).word == "same"


@pytest.mark.parametrize("sessions", [[], [[]], [[], []]], ids=["no session", "an empty session", "empty sessions"])
def test_no_times_are_refused(sessions: list[list[tuple[float, float]]]) -> None:
    with pytest.raises(ValueError, match="at least one session"):
        judge(sessions)
