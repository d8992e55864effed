"""A sweep gives each configuration the single run's numbers, to the last bit, on one thread or many."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from options_agent.backtest.engine import run_backtest
from options_agent.backtest.grid import configurations, default_grid, parse_grid
from options_agent.backtest.metrics.grid import daily_returns
from options_agent.backtest.sweep import EarlyRejection, Swept, sweep
from options_agent.backtest.sweep_report import sweep_content, write_sweep
from options_agent.backtest.sweep_summary import SUMMARY
from options_agent.backtest.uncertainty import uncertainty
from options_agent.errors import SettingsError
from options_agent.settings import BacktestSettings
from options_agent.strategies.catalogue import CATALOGUE
from options_agent.strategies.rules import Leg, Strategy
from tests.unit.backtest.reference_agreement import features_of
from tests.unit.backtest.worlds import World, random_world, weekly, weekly_call

GRID: dict[str, list[Any]] = {
    "legs.0.target": [0.15, 0.25, 0.4],
    "exit.take_profit": [0.3, None],
    "entry.max_open": [1, 3],
    "costs.crossing": [0.5, 1.0],
}


@pytest.fixture(scope="module")
def world() -> World:
    return random_world(5, snapshots=90)


@pytest.fixture(scope="module")
def swept(world: World) -> Swept:
    return sweep(world.history(), weekly_call(), GRID, BacktestSettings())


def same(found: Swept, world: World, settings: BacktestSettings, features: dict[str, np.ndarray] | None = None) -> None:
    """Each row is its single run's."""
    history = world.history()
    names = [n for n in SUMMARY if n not in {"liquidations", "model_fills"}]
    for n, point in enumerate(found.points.points):
        single = run_backtest(history, point.strategy, point.settings, features)
        row = found.table.slice(n, 1).to_pylist()[0]
        for name in names:
            expected = single.metrics[name]
            assert row[name] is None if math.isnan(expected) else row[name] == expected, name
        assert row["model_fills"] == single.fills["source"].to_pylist().count("model")
        assert row["liquidations"] == single.decisions["action"].to_pylist().count("liquidate")
        ts = np.ascontiguousarray(history.known_at)
        for currency, returns in (("coin", found.returns_coin), ("usd", found.returns_usd)):
            expected_returns = daily_returns(ts, single.equity[f"equity_{currency}"].to_numpy())
            if expected_returns.size:
                np.testing.assert_array_equal(returns[:, n], expected_returns)
            else:
                assert np.isnan(returns[:, n]).all()


def test_every_configuration_has_the_single_run_s_numbers_to_the_last_bit(world: World, swept: Swept) -> None:
    assert swept.table.num_rows == 24
    same(swept, world, BacktestSettings())


@pytest.mark.parametrize("name", ["calendar", "wheel", "short_strangle_hedged", "short_strangle_rich", "iron_condor"])
@pytest.mark.parametrize("underlying", ["BTC", "BTC_USDC"])
def test_so_has_every_kind_of_strategy_under_every_cost(name: str, underlying: str) -> None:
    world = random_world(3, underlying=underlying, snapshots=70, listed=True)
    settings = BacktestSettings(
        capital_coin=5, latency_seconds=60, latency_sigma=1, impact=0.4, missing_quotes="model", fills="maker", maker_patience_minutes=600
    )
    features = features_of(world, 2)
    grid = {"exit.take_profit": [0.2, 0.5, None], "entry.max_open": [1, 2], "costs.seed": [1, 2]}
    same(sweep(world.history(), CATALOGUE[name], grid, settings, features), world, settings, features)


def test_threads_change_nothing(world: World, swept: Swept) -> None:
    for workers in (1, 3):
        again = sweep(world.history(), weekly_call(), GRID, BacktestSettings(), workers=workers)
        assert again.table.equals(swept.table)
        np.testing.assert_array_equal(again.returns_coin, swept.returns_coin)
        np.testing.assert_array_equal(again.returns_usd, swept.returns_usd)


def test_progress_counts_to_the_end(world: World) -> None:
    seen: list[tuple[int, int]] = []
    sweep(world.history(), weekly_call(), GRID, BacktestSettings(), progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (24, 24)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_what_loses_early_is_given_up_and_stays_counted(world: World, swept: Swept) -> None:
    early = sweep(world.history(), weekly_call(), GRID, BacktestSettings(), early=EarlyRejection(0.5, 0.01))
    rejected = [s == "rejected" for s in early.table["status"].to_pylist()]
    assert 0 < sum(rejected) < early.table.num_rows == swept.table.num_rows
    for n, gone in enumerate(rejected):
        row, full = early.table.slice(n, 1).to_pylist()[0], swept.table.slice(n, 1).to_pylist()[0]
        assert row["return_coin"] is None if gone else row == full


def test_a_grid_is_read_from_words() -> None:
    grid = parse_grid(["legs.0.target=0.1:0.2:0.05", "exit.stop_loss=1,2.5,off", "entry.dte_target=5:9:2", "costs.fills=cross,maker"])
    assert grid == {
        "legs.0.target": [0.1, 0.15, 0.2],
        "exit.stop_loss": [1, 2.5, None],
        "entry.dte_target": [5, 7, 9],
        "costs.fills": ["cross", "maker"],
    }


@pytest.mark.parametrize("word", ["legs.0.target", "=1", "exit.stop_loss=", "exit.stop_loss=2:1:1", "exit.stop_loss=1:2:0"])
def test_a_word_that_is_no_grid_is_refused(word: str) -> None:
    with pytest.raises(SettingsError):
        parse_grid([word])


@pytest.mark.parametrize(
    ("field", "remedy"),
    [("exit.take_profits", "take_profit"), ("legs.4.target", "0 to 0"), ("costs.crosing", "docs"), ("exit.roll.max_debit", "whole")],
)
def test_an_unknown_field_is_refused_with_what_there_is(field: str, remedy: str) -> None:
    with pytest.raises(SettingsError) as refused:
        configurations(weekly_call(), BacktestSettings(), {field: [1.0]})
    assert remedy in str(refused.value)


def test_points_that_are_no_sound_strategy_are_left_out_and_told() -> None:
    found = configurations(weekly_call(), BacktestSettings(), {"entry.dte_target": [7.0, 30.0], "exit.take_profit": [0.5]})
    assert [p.values for p in found.points] == [(7.0, 0.5)]
    assert found.unsound[0][0] == (30.0, 0.5)
    with pytest.raises(SettingsError, match="none of the 1 points"):
        configurations(weekly_call(), BacktestSettings(), {"entry.dte_target": [30.0]})


def test_all_sold_legs_are_set_at_once() -> None:
    strangle = weekly(Leg("sell", "C", 0.2), Leg("sell", "P", 0.2), Leg("buy", "P", 0.05), collateral="margin")
    (point,) = configurations(strangle, BacktestSettings(), {"legs.sold.target": [0.3]}).points
    assert [leg.target for leg in point.strategy.legs] == [0.3, 0.3, 0.05]


@pytest.mark.parametrize("strategy", CATALOGUE.values(), ids=list(CATALOGUE))
def test_the_default_grid_of_every_strategy_is_wide_and_holds_its_own_exit(strategy: Strategy) -> None:
    points = configurations(strategy, BacktestSettings(), default_grid(strategy)).points
    assert 90 <= len(points) <= 1_000


def test_a_report_says_how_many_were_looked_at_and_is_the_same_bytes_again(world: World, swept: Swept, tmp_path: Any) -> None:
    content = sweep_content(swept, world.history(), weekly_call(), GRID, BacktestSettings())
    assert content["looks"] == 24
    assert sum(content["status"].values()) == 24
    assert len(content["best"]) == 10
    best = [row["sharpe_coin"] for row in content["best"] if row["status"] == "ok" and row["sharpe_coin"] is not None]
    assert best == sorted(best, reverse=True)
    row = content["best"][0]
    point = next(p for p in swept.points.points if all(row[name] == v for name, v in zip(swept.points.names, p.values, strict=True)))
    alone = run_backtest(world.history(), point.strategy, point.settings)
    expected = uncertainty(alone.equity, alone.metrics)["intervals"]  # a configuration has the intervals of its own report
    for name in ("return_coin", "return_usd", "sharpe_coin", "sharpe_usd"):
        assert row[f"{name}_interval"] == pytest.approx(expected[name], rel=1e-9), name
    paths = write_sweep(swept, content, tmp_path)
    first = paths.report.read_bytes(), paths.table.read_bytes()
    assert write_sweep(swept, content, tmp_path) == paths
    assert (paths.report.read_bytes(), paths.table.read_bytes()) == first
    other = sweep_content(swept, world.history(), replace(weekly_call(), share=0.5), GRID, BacktestSettings())
    assert other["sweep"] != content["sweep"]
