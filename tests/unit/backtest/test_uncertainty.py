"""Uncertainty: agrees with arch and purgedcv, with slow plain versions, and covers what it says it covers."""

from __future__ import annotations

import json
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.backtest.bootstrap import RESAMPLES, Days, block_length, days_of, indices, interval, resample
from options_agent.backtest.metrics import max_drawdown
from options_agent.backtest.metrics.grid import DAY_US
from options_agent.backtest.overfitting import backtest_overfitting, best_by_luck, deflated_sharpe, probabilistic_sharpe
from options_agent.backtest.uncertainty import HEADLINES, daily_sharpe, deflated, odds_above, uncertainty
from options_agent.errors import DataError
from options_agent.strategies.catalogue import CATALOGUE
from tests.conftest import REPOSITORY
from tests.unit.backtest.test_metrics import START_US, equity_of
from tests.unit.backtest.worlds import random_world

PEERS = json.loads((REPOSITORY / "tests" / "data" / "peer_metrics.json").read_text())
SERIES = PEERS["series"]


def flat_days(returns: np.ndarray) -> Days:
    """Days that go straight from their start to their end."""
    growth = 1 + returns
    return Days(growth, np.maximum(growth, 1), np.minimum(growth, 1), np.maximum(-returns, 0))


def corrected_moments(r: np.ndarray) -> tuple[float, float]:
    """Skew and kurtosis less 3, corrected for the size of the sample as purgedcv does."""
    n, centred = r.size, r - r.mean()
    second = np.mean(centred**2)
    skew, kurtosis = np.mean(centred**3) / second**1.5, np.mean(centred**4) / second**2 - 3
    return skew * math.sqrt(n * (n - 1)) / (n - 2), (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * kurtosis + 6)


@pytest.mark.parametrize("name", SERIES)
def test_the_block_length_is_that_of_arch(name: str) -> None:
    returns, peer = np.array(SERIES[name]["returns"]), SERIES[name]["uncertainty"]
    assert block_length(returns) == pytest.approx(max(1.0, peer["arch.optimal_block_length"]), rel=1e-9)
    assert block_length(returns**2) == pytest.approx(max(1.0, peer["arch.optimal_block_length of squares"]), rel=1e-9)


@pytest.mark.parametrize("name", SERIES)
def test_quantiles_of_the_resampled_sharpe_ratio_are_those_of_arch(name: str) -> None:
    returns, peer = np.array(SERIES[name]["returns"]), SERIES[name]["uncertainty"]["arch.StationaryBootstrap sharpe quantiles"]
    found = resample(flat_days(returns), block_length(returns), seed=1, resamples=20_000).sharpe
    spread = float(np.std(found))
    for level, value in peer.items():
        # five deviations of the difference of two sampled quantiles, whose density is at least a tenth of 1 / spread here
        error = 5 * math.sqrt(2 * float(level) * (1 - float(level)) / 20_000) / 0.1 * spread
        assert float(np.quantile(found, float(level))) == pytest.approx(value, abs=error)


@pytest.mark.parametrize("name", SERIES)
def test_probabilistic_and_deflated_sharpe_ratios_are_those_of_purgedcv(name: str) -> None:
    returns, peer = np.array(SERIES[name]["returns"]), SERIES[name]["uncertainty"]
    skew, kurtosis = corrected_moments(returns)
    seen = (returns.mean() / returns.std(), returns.size, skew, kurtosis)
    assert probabilistic_sharpe(*seen) == pytest.approx(peer["purgedcv.probabilistic_sharpe_ratio"], abs=1e-12)
    assert probabilistic_sharpe(*seen, 0.05) == pytest.approx(peer["purgedcv.probabilistic_sharpe_ratio over 0.05"], abs=1e-12)
    for trials, value in peer["purgedcv.deflated_sharpe_ratio"].items():
        assert deflated_sharpe(*seen, int(trials), 0.004) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("study", PEERS["overfitting"], ids=lambda s: f"{len(s['returns'])}x{len(s['returns'][0])}")
def test_the_probability_of_overfitting_is_that_of_purgedcv_split_by_split(study: dict) -> None:
    returns = np.array(study["returns"])
    found = backtest_overfitting(returns, np.arange(len(returns)), study["blocks"])
    assert found.probability == pytest.approx(study["pbo"], abs=1e-12)
    assert found.slope == pytest.approx(study["slope"], rel=1e-9)
    assert len(found.logits) == study["combinations"]
    # the peer leaves the combination out of the sample, as we do, so that splits come in the same order
    assert found.logits == pytest.approx(np.array(study["logits"]), abs=1e-9)


def plain_overfitting(returns: np.ndarray, blocks: int) -> float:
    """CSCV as the paper tells it, one split and one configuration at a time."""
    parts, below = np.array_split(np.arange(len(returns)), blocks), []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[b] for b in range(blocks) if b not in chosen])
        outside = np.concatenate([parts[b] for b in chosen])
        sharpes = [[column.mean() / column.std(ddof=1) for column in returns[rows].T] for rows in (inside, outside)]
        best = int(np.argmax(sharpes[0]))
        rank = sum(s <= sharpes[1][best] for s in sharpes[1])
        below.append(rank / (returns.shape[1] + 1) < 0.5)
    return float(np.mean(below))


@given(st.integers(0, 10_000), st.integers(2, 7), st.sampled_from([2, 4, 6]), st.integers(0, 9))
@hypothesis_settings(max_examples=40)
def test_the_probability_of_overfitting_is_that_of_a_plain_loop(seed: int, configurations: int, blocks: int, more: int) -> None:
    returns = np.random.default_rng(seed).normal(0.001, 0.01, (4 * blocks + more, configurations))
    assert backtest_overfitting(returns, np.arange(len(returns)), blocks).probability == pytest.approx(plain_overfitting(returns, blocks))


@given(st.integers(0, 1_000), st.floats(1e-3, 1e3))
@hypothesis_settings(max_examples=20)
def test_neither_the_order_nor_the_scale_of_configurations_matters_to_overfitting(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    returns, at = random.normal(0, 0.01, (48, 6)), np.arange(48)
    found, order = backtest_overfitting(returns, at, 6), random.permutation(6)
    other = backtest_overfitting(returns[:, order] * scale, at, 6)
    assert other.probability == found.probability
    assert (order[other.chosen] == found.chosen).all()


def test_a_real_edge_is_no_overfitting_and_noise_is_a_coin_toss() -> None:
    random = np.random.default_rng(3)
    noise = [backtest_overfitting(random.normal(0, 0.01, (240, 20)), np.arange(240), 8).probability for _ in range(60)]
    assert 0.4 < float(np.mean(noise)) < 0.6
    edged = random.normal(0, 0.01, (240, 20))
    edged[:, 7] += 0.01
    found = backtest_overfitting(edged, np.arange(240), 8)
    assert found.probability == 0
    assert set(found.chosen) == {7}


@pytest.mark.parametrize(
    ("shape", "times", "blocks", "words"),
    [
        ((8, 96), 96, 8, "do not fit 96 times"),  # transposed
        ((96,), 96, 8, "do not fit"),
        ((96, 1), 96, 8, "too few"),
        ((15, 4), 15, 8, "too few"),
        ((96, 4), 96, 7, "cannot be halved"),
        ((96, 4), 96, 0, "cannot be halved"),
    ],
)
def test_a_matrix_of_the_wrong_shape_is_refused(shape: tuple[int, ...], times: int, blocks: int, words: str) -> None:
    with pytest.raises(DataError, match=words):
        backtest_overfitting(np.random.default_rng(0).normal(size=shape), np.arange(times), blocks)


def test_returns_that_are_not_finite_and_times_that_do_not_ascend_are_refused() -> None:
    returns = np.random.default_rng(0).normal(size=(32, 3))
    with pytest.raises(DataError, match="ascend"):
        backtest_overfitting(returns, np.arange(32)[::-1], 4)
    returns[3, 1] = np.nan
    with pytest.raises(DataError, match="finite"):
        backtest_overfitting(returns, np.arange(32), 4)


@given(st.floats(-0.3, 0.3), st.integers(20, 2_000), st.integers(2, 5_000), st.floats(1e-6, 0.05))
def test_more_trials_and_more_spread_deflate_more(sharpe: float, days: int, trials: int, variance: float) -> None:
    seen = (sharpe, days, -1.0, 4.0)
    one, some, more = (deflated_sharpe(*seen, n, variance) for n in (1, trials, 2 * trials))
    assert one == probabilistic_sharpe(*seen)
    assert 0 <= more <= some <= one <= 1
    assert deflated_sharpe(*seen, trials, 2 * variance) <= some
    assert (one > 0.5) == (sharpe > 0) or one == 0.5


def test_the_best_of_many_by_luck_is_what_many_draws_show() -> None:
    draws = np.random.default_rng(5).normal(0, 0.1, (4_000, 100)).max(axis=1)
    assert best_by_luck(100, 0.01) == pytest.approx(float(draws.mean()), rel=0.02)
    assert math.isnan(probabilistic_sharpe(math.nan, 100, 0, 0))
    assert math.isnan(probabilistic_sharpe(1.0, 100, 6.0, 0.0))  # moments that the approximation does not bear


def test_skill_less_best_of_many_pass_the_plain_odds_and_not_the_deflated_ones() -> None:
    random, plain, strict = np.random.default_rng(8), 0, 0
    for _ in range(200):
        returns = random.normal(0, 0.01, (500, 20))
        sharpes = returns.mean(axis=0) / returns.std(axis=0)
        best, spread = float(sharpes.max()), float(sharpes.var(ddof=1))
        plain += probabilistic_sharpe(best, 500, 0, 0) > 0.95
        strict += deflated_sharpe(best, 500, 0, 0, 20, spread) > 0.95
    assert plain > 100  # 64 % in expectation: 1 - 0.95**20
    assert strict <= 4


@given(st.integers(2, 30), st.floats(1, 20), st.integers(0, 99))
def test_indices_are_blocks_that_follow_on_and_wrap(n: int, block: float, seed: int) -> None:
    order = indices(n, block, 7, np.random.default_rng(seed))
    assert order.shape == (7, n)
    assert ((order >= 0) & (order < n)).all()
    random = np.random.default_rng(seed)
    starts, begins = random.integers(0, n, (7, n)), random.random((7, n)) < 1 / block
    for r in range(7):
        place = starts[r, 0]
        for t in range(n):
            place = starts[r, t] if t == 0 or begins[r, t] else (place + 1) % n
            assert order[r, t] == place


def test_blocks_are_as_long_as_asked_in_the_mean() -> None:
    order = indices(400, 8.0, 500, np.random.default_rng(1))
    joined = np.mean((order[:, 1:] - order[:, :-1]) % 400 == 1)
    assert 1 / (1 - joined) == pytest.approx(8.0, rel=0.05)


@given(st.integers(0, 10_000), st.integers(45, 99), st.sampled_from([1, 2, 3, 4, 6]))
def test_days_in_their_own_order_have_the_drawdown_of_every_snapshot(seed: int, snapshots: int, a_day: int) -> None:
    ts = START_US + DAY_US // a_day * np.arange(snapshots)
    path = np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.05, snapshots)))
    days, whole = days_of(ts, path), (snapshots - 1) // a_day * a_day + 1
    if days is None:
        assert whole < 10 * a_day + 1
        return
    ends = np.cumprod(days.growth)
    assert ends[-1] == pytest.approx(path[whole - 1] / path[0])
    begins = np.append(1.0, ends[:-1])
    before = np.append(1.0, np.maximum.accumulate(begins * days.high)[:-1])
    deepest = np.maximum(days.fall, 1 - begins * days.low / before).max()
    assert deepest == pytest.approx(max_drawdown(path[:whole]), abs=1e-12)


def test_resampled_headlines_are_those_of_the_days_put_in_that_order() -> None:
    random = np.random.default_rng(2)
    ts = START_US + DAY_US // 4 * np.arange(121)
    path = np.exp(np.cumsum(random.normal(0, 0.02, 121)))
    days = days_of(ts, path)
    assert days is not None
    found = resample(days, 3.0, seed=9, resamples=5)
    order = indices(30, 3.0, 5, np.random.default_rng(9))
    pieces = [path[4 * d : 4 * d + 5] / path[4 * d] for d in range(30)]
    for r in range(5):
        plain = [1.0]
        for d in order[r]:
            plain += list(plain[-1] * pieces[d][1:])
        daily = np.array(plain)[::4]
        returns = daily[1:] / daily[:-1] - 1
        assert found.growth[r] == pytest.approx(plain[-1])
        assert found.drawdown[r] == pytest.approx(max_drawdown(np.array(plain)))
        assert found.sharpe[r] == pytest.approx(returns.mean() / returns.std(ddof=1) * math.sqrt(365))


def coverage(persistence: float, block: float | None, samples: int = 250, days: int = 150) -> float:
    """Share of AR(1) samples whose 90 % interval holds the true Sharpe ratio; blocks by the series itself unless told."""
    random, held = np.random.default_rng(5), 0
    for n in range(samples):
        shocks = random.normal(0, 0.02 * math.sqrt(1 - persistence**2), days)
        returns = np.empty(days)
        returns[0] = random.normal(0, 0.02)
        for t in range(1, days):
            returns[t] = persistence * returns[t - 1] + shocks[t]
        returns += 0.002
        drawn = resample(flat_days(returns), block or block_length(returns), seed=n, resamples=400)
        low, high = interval(drawn.sharpe, 0.9) or (0.0, 0.0)
        held += low <= 0.1 * math.sqrt(365) <= high
    return held / samples


def test_intervals_cover_what_they_say_within_the_small_sample_they_have() -> None:
    """Two deviations of the share over 250 samples are 0.04."""
    assert 0.85 < coverage(0.0, None) < 0.95
    persistent = coverage(0.3, None)
    assert 0.80 < persistent < 0.92
    assert persistent > coverage(0.3, 1.0) + 0.03  # days drawn one by one know nothing of persistence


def test_the_section_of_a_run_is_whole_seeded_and_holds_its_own_numbers() -> None:
    run = random_world(7, snapshots=300).play(CATALOGUE["covered_call"])
    section = uncertainty(run.equity, run.metrics, 5)
    assert section == uncertainty(run.equity, run.metrics, 5)
    assert section != uncertainty(run.equity, run.metrics, 6)
    assert section["resamples"] == RESAMPLES
    assert set(section["intervals"]) == {f"{name}_{c}" for name in HEADLINES for c in ("coin", "usd")}
    for name, (low, high) in section["intervals"].items():
        assert low < high
        if not name.startswith("max_drawdown"):
            assert low < run.metrics[name] < high
    assert 0 < section["probabilistic_sharpe"]["coin"] < 1


def test_a_run_too_short_for_a_ratio_has_no_interval_and_no_odds() -> None:
    run = random_world(7, snapshots=4).play(CATALOGUE["covered_call"])
    section = uncertainty(run.equity, run.metrics, 5)
    assert set(section["intervals"].values()) == {None} == set(section["probabilistic_sharpe"].values())
    idle = equity_of(np.ones(30))
    quiet = uncertainty(idle, {"days": 29.0}, 5)
    assert quiet["intervals"]["sharpe_coin"] is None
    assert quiet["intervals"]["return_coin"] == [0.0, 0.0]
    assert quiet["block_days"]["coin"] == 1.0


def test_every_run_looked_at_deflates_the_others_those_without_a_number_too() -> None:
    sharpes = (2.0, 1.0, -1.0)
    reports = [
        {"run": str(n), "metrics": {"sharpe_coin": s, "days": 200.0, "skew_coin": -0.5, "kurtosis_coin": 2.0}}
        for n, s in enumerate(sharpes)
    ]
    alone, three = deflated(reports[:1]), deflated(reports)
    assert alone["0"] == odds_above(reports[0]["metrics"], "coin")
    assert three["0"] < alone["0"]
    # looks at a month that lie as many standard errors from 0 as those at two hundred days add looks, and no other spread
    further = math.sqrt(200 / 30) * math.sqrt((200 / 199) / (30 / 29))
    month = [
        {"run": f"m{n}", "metrics": r["metrics"] | {"days": 30.0, "sharpe_coin": s * further}}
        for n, (r, s) in enumerate(zip(reports, sharpes, strict=True))
    ]
    again = [r | {"run": f"t{n}"} for n, r in enumerate(reports)]
    assert deflated([*reports, *month])["0"] == pytest.approx(deflated([*reports, *again])["0"], rel=1e-12)
    unknown = {"run": "x", "metrics": {"sharpe_coin": None, "days": 3.0}}
    four = deflated([*reports, unknown])
    assert "x" not in four
    assert four["0"] < three["0"]
    assert daily_sharpe(reports[0]["metrics"], "coin") == pytest.approx(2 / math.sqrt(365) * math.sqrt(200 / 199))
