"""`options-agent joint` and `options-agent report RUN --regimes` at the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from options_agent.backtest.joint import joint_book
from options_agent.backtest.saved_runs import find_runs
from options_agent.cli.joint import show
from options_agent.cli.main import application
from options_agent.errors import DataError
from options_agent.settings import load_settings
from options_agent.strategies.catalogue import CATALOGUE
from tests.unit.backtest.saved import saved
from tests.unit.backtest.worlds import random_world


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def runs(home: Path) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTIONS_AGENT_HOME", str(home))
        folder = load_settings().reports_dir
    worlds = (random_world(7, snapshots=100), random_world(8, snapshots=120, underlying="ETH"))
    return [saved(world.play(CATALOGUE["covered_call"]), folder).stem.rsplit("-", 1)[-1] for world in worlds]


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIONS_AGENT_HOME", str(home))


def test_a_joint_book_is_shown_with_its_risk_and_correlations(runs: list[str], tmp_path: Path) -> None:
    path = tmp_path / "book.json"
    result = CliRunner().invoke(application(), ["joint", *runs, "--weights", "0.25,0.75", "--rebalance", "daily", "--json", str(path)])
    assert result.exit_code == 0, result.output
    for words in ("Joint book", "rebalanced daily", "25.0 %", "75.0 %", "Diversification ratio", "return_usd", "overall", "BTC unknown"):
        assert words in result.output
    document = json.loads(path.read_text())
    assert document["weights"] == [0.25, 0.75]
    assert document["rebalance"] == "daily"


def test_json_alone_on_standard_output(runs: list[str]) -> None:
    result = CliRunner().invoke(application(), ["joint", *runs, "--json", "-"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["weights"] == [0.5, 0.5]


@pytest.mark.parametrize("words", [["--weights", "a,b"], ["--rebalance", "weekly"]], ids=["weights", "rebalance"])
def test_options_that_are_none_are_refused(runs: list[str], words: list[str]) -> None:
    assert CliRunner().invoke(application(), ["joint", *runs, *words]).exit_code == 2


def test_a_run_alone_is_an_error_in_words(runs: list[str]) -> None:
    assert isinstance(CliRunner().invoke(application(), ["joint", runs[0], runs[0]]).exception, DataError)


def test_it_fits_a_hundred_columns(runs: list[str]) -> None:
    found, _ = find_runs(runs, load_settings().reports_dir)
    console = Console(width=100, record=True, force_terminal=False)
    show(joint_book(found, {}), console)
    assert all(len(line) <= 100 for line in console.export_text().splitlines())


def test_metrics_are_shown_by_regime_with_their_samples(runs: list[str]) -> None:
    result = CliRunner().invoke(application(), ["report", runs[0], "--regimes", "sharpe", "win_rate"], env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    for words in ("unknown", "sharpe_coin", "sharpe_usd", "win_rate", " t)", " d)", "Dim and in brackets:"):
        assert words in result.output
    assert "profit_factor" not in result.output
    whole = CliRunner().invoke(application(), ["report", "--regimes", runs[0]], env={"COLUMNS": "100"})
    assert whole.exit_code == 0, whole.output
    assert "profit_factor" in whole.output


def test_what_cannot_be_shown_by_regime_is_said(runs: list[str]) -> None:
    assert CliRunner().invoke(application(), ["report", "--regimes"]).exit_code == 2
    assert CliRunner().invoke(application(), ["report", runs[0], "sharpe"]).exit_code == 2
    wrong = CliRunner().invoke(application(), ["report", runs[0], "--regimes", "sharp"])
    assert isinstance(wrong.exception, DataError)
    assert "sharp" in str(wrong.exception)
