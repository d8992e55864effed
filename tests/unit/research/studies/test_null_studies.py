"""A small version of benchmarks/false_discovery.py: fair games stay fair, and the verdict finds next to nothing in them."""

from __future__ import annotations

import numpy as np
import pytest

from options_agent.research.studies.null_studies import (
    FREE,
    Played,
    fair_market,
    flipped,
    interval,
    market,
    play,
    random_points,
    redrawn,
    search,
)
from options_agent.settings import BacktestSettings


@pytest.fixture(scope="module")
def fair() -> Played:
    return play(fair_market(1, days=60), 1, **FREE)


def test_marks_of_the_fair_market_are_the_means_of_their_payoffs() -> None:
    """Expectation by simulation: the same law, drawn at once from today to expiry."""
    from options_agent.research.studies.null_studies import FIRST, _fair_chain

    law, spot, strikes = (0.5, 12.0, -0.03, 0.04), 60_000.0, np.array([45_000.0, 58_000.0, 60_000.0, 63_000.0, 80_000.0])
    expiry = FIRST.replace(day=20, hour=8)
    chain = _fair_chain(FIRST, expiry, spot, strikes, law)
    years = (expiry - FIRST).total_seconds() / (365 * 86_400)
    vol, rate, jump, size = law
    random = np.random.default_rng(0)
    jumps = random.poisson(rate * years, 400_000)
    drift = vol**2 / 2 + rate * (np.exp(-jump + size**2 / 2) - 1)
    normal, other = random.standard_normal((2, jumps.size))
    end = spot * np.exp(drift * years + vol * np.sqrt(years) * normal + jump * jumps + size * np.sqrt(jumps) * other)
    assert np.mean(spot / end) == pytest.approx(1.0, abs=1e-3)
    for strike, right, mark in zip(*(chain[name].to_pylist() for name in ("strike", "right", "mark")), strict=True):
        paid = np.maximum(1 - strike / end, 0) if right == "C" else np.maximum(strike / end - 1, 0)
        assert mark == pytest.approx(paid.mean(), abs=5 * paid.std() / np.sqrt(paid.size) + 1e-9)


def test_flipping_and_redrawing_leave_a_mean_of_nothing(fair: Played) -> None:
    turned = np.mean([flipped(fair, seed).returns.mean(axis=0) for seed in range(400)], axis=0)
    drawn = np.mean([redrawn(fair, seed).returns.mean(axis=0) for seed in range(400)], axis=0)
    error = fair.returns.std(axis=0) * np.sqrt(12 / len(fair.returns) / 400)
    assert (np.abs(turned) < 5 * error).all()
    assert (np.abs(drawn) < 5 * error).all()
    np.testing.assert_allclose(np.abs(flipped(fair, 3).returns), np.abs(fair.returns))


def test_trials_are_the_same_from_the_same_seed_and_trade_enough(fair: Played) -> None:
    again = play(fair_market(1, days=60), 1, **FREE)
    np.testing.assert_array_equal(again.returns, fair.returns)
    assert np.isfinite(fair.returns).all()
    points = random_points(20, 1, BacktestSettings(**FREE))
    assert len({point.strategy.name for point in points}) > 2
    assert 1 < fair.life < 16


def test_thirty_fair_studies_discover_next_to_nothing_and_as_many_with_an_edge_do(fair: Played) -> None:
    """More than 5 of 30 has a chance of 1 in 300 at 5 %. The edge planted is a quarter of a day's deviation."""
    nulls = [redrawn(fair, seed) if seed % 2 else flipped(fair, seed) for seed in range(30)]
    found = [one.verdict(seed=seed, resamples=300, blocks=2).discovered for seed, one in enumerate(nulls)]
    assert sum(found) <= 5
    planted = [Played(one.returns + 0.3 * one.returns.std(axis=0), one.at, one.statuses, one.life) for one in nulls]
    power = [one.verdict(seed=seed, resamples=300, blocks=2).discovered for seed, one in enumerate(planted)]
    assert sum(power) >= sum(found) + 8


def test_a_search_has_distinct_trials_that_follow_what_came_before() -> None:
    history = fair_market(2, days=60)
    found, again = (search(history, "tpe", "short_strangle", 5, 16, **FREE) for _ in range(2))
    assert found.returns.shape == (59, 16)
    assert len(found.statuses) == 16
    np.testing.assert_array_equal(found.returns, again.returns)
    other = search(history, "tpe", "short_strangle", 5, 16)  # with costs paid the first round is the same, not what is learnt of it
    assert other.returns.shape == found.returns.shape
    assert other.returns.sum() < found.returns.sum()


def test_the_synthetic_market_plays_with_and_without_costs() -> None:
    history = market(1_000, 0.25, days=20)
    paid, free = play(history, 1, trials=4), play(history, 1, trials=4, **FREE)
    assert paid.returns.shape == free.returns.shape == (18, 4)
    assert (paid.returns.sum(axis=0) < free.returns.sum(axis=0)).mean() > 0.5


def test_intervals_are_the_exact_ones() -> None:
    assert interval(0, 200) == pytest.approx((0.0, 0.01827), abs=1e-4)
    assert interval(10, 200) == pytest.approx((0.0242, 0.0900), abs=1e-3)
