"""What is sent to tracking: no headline without its interval, its odds and how many runs were looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from options_agent.backtest.report import write_report
from options_agent.backtest.result import load_report
from options_agent.backtest.sweep import sweep
from options_agent.backtest.sweep_report import sweep_content, write_sweep
from options_agent.backtest.uncertainty import HEADLINES, above_luck, deflated
from options_agent.settings import BacktestSettings, Settings, load_settings
from options_agent.strategies.catalogue import CATALOGUE
from options_agent.tracking import runs as tracking
from options_agent.tracking.reports import log_backtest, log_sweep
from tests.unit.backtest.worlds import random_world, weekly_call

NUMBERS = [f"{name}_{currency}" for name in HEADLINES for currency in ("coin", "usd")]


@pytest.fixture
def away(tmp_path: Path) -> Settings:
    """A desk whose tracking server is away: what would be sent waits in the outbox."""
    return load_settings(home=tmp_path / "home", mlflow_tracking_uri="http://127.0.0.1:9", _env_file=None)


def waiting(settings: Settings) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in tracking.pending(settings)]


def test_a_backtest_is_sent_with_intervals_odds_and_looks(tmp_path: Path, away: Settings) -> None:
    world, paths = random_world(7, snapshots=160), []
    for name in ("covered_call", "short_strangle"):
        result = world.play(CATALOGUE[name])
        paths.append(write_report(result, world_without_weather(), tmp_path))
    reports = [load_report(p.report) | {"path": str(p.report), "plot": str(p.plot)} for p in paths]
    luck = above_luck(reports)
    assert log_backtest(reports[0], away, above_luck=luck[reports[0]["run"]]) is None
    (sent,) = waiting(away)
    for name in NUMBERS:
        assert sent["metrics"][f"{name}_low"] <= sent["metrics"][f"{name}_high"]
    assert sent["metrics"]["looks"] == 2
    assert sent["metrics"]["deflated_sharpe_coin"] == deflated(reports)[reports[0]["run"]]
    assert sent["metrics"]["probabilistic_sharpe_coin"] >= sent["metrics"]["deflated_sharpe_coin"]


def test_the_best_of_a_sweep_are_sent_with_intervals_odds_and_looks(tmp_path: Path, away: Settings) -> None:
    history = random_world(5, snapshots=120).history()
    grid = {"exit.take_profit": [0.3, 0.5, None]}
    swept = sweep(history, weekly_call(), grid, BacktestSettings())
    content = sweep_content(swept, history, weekly_call(), grid, BacktestSettings())
    paths = write_sweep(swept, content, tmp_path)
    assert log_sweep(content, str(paths.report), str(paths.table), away) is None
    parent, *children = waiting(away)
    assert parent["metrics"]["looks"] == 3
    for child in children:
        assert child["metrics"]["looks"] == 3
        assert 0 <= child["metrics"]["deflated_sharpe_coin"] <= 1
        for name in NUMBERS:
            assert child["metrics"][f"{name}_low"] <= child["metrics"][f"{name}_high"]


def world_without_weather() -> Any:
    import pyarrow as pa

    from options_agent.quotes import UTC_US

    return pa.schema([("ts", UTC_US), ("regime", pa.string()), ("trend", pa.string())]).empty_table()
