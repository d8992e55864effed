"""Two equities day by day: the difference, its interval from the same days drawn for both, and correlation."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from options_agent.backtest.bootstrap import RESAMPLES, block_length, indices
from options_agent.backtest.paired import correlation, growth_on_days, paired
from options_agent.quotes import UTC_US

HOUR = 3_600_000_000


def table(usd: np.ndarray, *, hours: int = 6, start: int = 20_000 * 24, coin: np.ndarray | None = None) -> pa.Table:
    """An equity of values every few hours, from a midnight unless told otherwise."""
    ts = (start + hours * np.arange(usd.size)) * HOUR
    return pa.table({"ts": pa.array(ts, pa.int64()).cast(UTC_US), "equity_usd": usd, "equity_coin": usd if coin is None else coin})


def walk(seed: int, days: int = 60, drift: float = 0.0) -> np.ndarray:
    return 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(drift, 0.01, 4 * days + 1)))


def test_a_run_against_itself_differs_in_nothing() -> None:
    found = paired(table(walk(1)), table(walk(1)), seed=3)["usd"]
    assert found["return_difference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "odds": 0.5}
    assert found["sharpe_difference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "odds": 0.5}
    assert found["correlation"] == pytest.approx(1.0)
    assert found["tracking_error"] == 0
    assert found["equity_difference"]["most"] == found["equity_difference"]["least"] == 0


def test_swapping_the_runs_turns_every_sign() -> None:
    a, b = table(walk(1)), table(walk(2, drift=0.001))
    one, other = paired(a, b, seed=5)["usd"], paired(b, a, seed=5)["usd"]
    for name in ("return_difference", "sharpe_difference"):
        assert one[name]["value"] == pytest.approx(-other[name]["value"])
        assert one[name]["low"] == pytest.approx(-other[name]["high"])
        assert one[name]["odds"] == pytest.approx(1 - other[name]["odds"])
    assert one["correlation"] == pytest.approx(other["correlation"])


def test_the_same_days_are_drawn_for_both() -> None:
    """Against a slow reference that draws the days once and strikes both runs on them."""
    a, b = walk(1), walk(2, drift=0.0005)
    found = paired(table(a), table(b), seed=9)["usd"]
    days = [v[4::4] / v[:-4:4] for v in (a, b)]
    block = max(block_length(days[0] - 1), block_length(days[1] - 1), block_length(days[1] - days[0]))
    assert found["block_days"] == pytest.approx(block)
    drawn = indices(days[0].size, block, RESAMPLES, np.random.default_rng(9))
    growth = [np.array([math.prod(d[i] for i in row) for row in drawn]) for d in days]
    low, high = np.quantile(growth[1] - growth[0], (0.05, 0.95))
    assert found["return_difference"]["low"] == pytest.approx(low)
    assert found["return_difference"]["high"] == pytest.approx(high)
    ratio = [np.array([(d[row] - 1).mean() / (d[row] - 1).std(ddof=1) * math.sqrt(365) for row in drawn]) for d in days]
    low, high = np.quantile(ratio[1] - ratio[0], (0.05, 0.95))
    assert found["sharpe_difference"]["low"] == pytest.approx(low)
    assert found["sharpe_difference"]["high"] == pytest.approx(high)


def test_what_two_runs_share_cancels() -> None:
    market = walk(1)
    edge = np.exp(np.cumsum(np.random.default_rng(4).normal(0.0002, 0.0002, market.size)))
    found = paired(table(market), table(market * edge), seed=1)["usd"]["return_difference"]
    alone = paired(table(np.full(market.size, 100.0)), table(market * edge), seed=1)["usd"]["return_difference"]
    assert found["low"] > 0
    assert found["odds"] == 1.0
    assert found["high"] - found["low"] < 0.3 * (alone["high"] - alone["low"])


def test_an_interval_holds_zero_for_runs_that_differ_by_luck_alone() -> None:
    """90 % intervals of pairs without a true difference leave 0 out about one time in ten."""
    outside = 0
    for seed in range(60):
        gap = paired(table(walk(2 * seed)), table(walk(2 * seed + 1)), seed=seed)["usd"]["return_difference"]
        outside += not gap["low"] <= 0 <= gap["high"]
    assert outside <= 14


def test_too_few_days_and_equities_that_stand_still() -> None:
    short = paired(table(walk(1, days=8)), table(walk(2, days=8)), seed=1)["usd"]
    assert short["days"] == 0
    assert short["correlation"] is short["block_days"] is short["return_difference"]["low"] is None
    assert short["return_difference"]["value"] is not None
    still = paired(table(np.full(241, 100.0)), table(walk(1)), seed=1)["usd"]
    assert still["correlation"] is None
    assert still["sharpe_difference"]["value"] is None
    assert still["return_difference"]["low"] is not None


def test_currencies_are_apart() -> None:
    found = paired(table(walk(1), coin=walk(3)), table(walk(2), coin=walk(3)), seed=1)
    assert found["coin"]["return_difference"]["value"] == 0
    assert found["usd"]["return_difference"]["value"] != 0


def test_growth_is_told_at_the_start_at_midnights_and_at_the_end() -> None:
    at, growth = growth_on_days(table(np.array([2.0, 3.0, 4.0, 6.0, 8.0]), hours=9, start=20_000 * 24 + 10), "usd")
    assert ((at // HOUR) - 20_000 * 24).tolist() == [10, 24, 46]
    assert growth.tolist() == [1.0, 1.5, 4.0]


def test_correlation_is_pearsons() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 50))
    assert correlation(a, b) == pytest.approx(((a - a.mean()) * (b - b.mean())).mean() / a.std() / b.std())
    assert correlation(a, -2 * a) == pytest.approx(-1)
    assert math.isnan(correlation(a, np.ones(50)))
    assert math.isnan(correlation(a[:1], b[:1]))
    assert math.isnan(correlation(a, b[:9]))
