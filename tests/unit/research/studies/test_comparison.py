"""Who proposes better, said plainly and only where the interval says so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from options_agent.research.studies.comparison import difference, words


def test_words_follow_the_interval() -> None:
    better, none, worse = (0.5, 0.2, 0.8), (0.1, -0.2, 0.4), (-0.5, -0.8, -0.2)
    told = words({"model less tpe": worse, "model less random": better, "model less placebo": none})
    assert told.startswith("The model is beaten by tpe")
    assert "the model beats random" in told
    assert "is not told apart from placebo" in told
    assert words({"tpe less random": better}) == "No model was among the proposers."


def test_a_difference_needs_three_seeds_and_lies_in_its_interval() -> None:
    assert np.isnan(difference(np.array([1.0, np.nan, 2.0]))[0])
    values = np.random.default_rng(0).normal(0.5, 0.1, 12)
    mean, low, high = difference(values)
    assert low < mean < high
    assert mean == pytest.approx(0.5, abs=0.1)
    assert low > 0
    expected = ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    _, wider, _ = difference(values, 5)
    assert wider == pytest.approx(ttest_1samp(values, 0.0).confidence_interval(0.99).low)


def test_five_comparisons_of_equals_rarely_tell_any_apart() -> None:
    random, wrong = np.random.default_rng(1), 0
    for _ in range(400):
        finals = random.exponential(1.0, (6, 12))  # skewed, as the best of a search is
        wrong += any(not low <= 0 <= high for _, low, high in (difference(finals[0] - other, 5) for other in finals[1:]))
    assert wrong <= 30  # 20 are expected at most
