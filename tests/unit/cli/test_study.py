"""`options-agent study` at the terminal, from declaration to the one answer of the holdout."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from options_agent.cli.main import application
from options_agent.errors import DataError, SettingsError
from options_agent.research.studies import declaration
from options_agent.research.studies.declaration import folder_of
from options_agent.research.studies.report import discovered
from options_agent.settings import load_settings
from tests.filled_desks import fill

SPACE = ["-p", "legs.sold.target=0.1:0.4:0.05", "-p", "exit.take_profit=0.5,off"]
SHORT = ["--proposer", "random", "--trials", "4", "--batch", "2", "--embargo-days", "4"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("desk")
    fill(home)
    return home


@pytest.fixture(autouse=True)
def _at_home(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIONS_AGENT_HOME", str(filled))
    monkeypatch.setenv("OPTIONS_AGENT_BACKTEST__MIN_TRADES", "1")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(declaration, "longest_life_days", lambda *_: 4)


def call(*words: str) -> Result:
    return CliRunner().invoke(application(), ["study", *words])


def said(*words: str) -> str:
    result = call(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_from_declaration_to_the_one_answer_of_the_holdout() -> None:
    told = said("new", "tiny", "covered_call", "BTC", *SPACE, *SHORT)
    for words in ("legs.sold.target", "0.5, off", "training 2026-01-01", "holdout", "4 days of embargo", "options-agent study run tiny"):
        assert words in told
    assert isinstance(call("open-holdout", "tiny", "--yes").exception, SettingsError)  # nothing was searched yet
    assert "search: time; no trial was played yet" in said("run", "tiny", "--seconds", "0")
    told = said("run", "tiny")
    for words in ("Who proposed", "Raw and corrected", "4 looks", "search: finished", "the holdout is locked"):
        assert words in told
    assert told.splitlines()[-1] in said("show", "tiny", "--trials", "2")
    assert "as they were written" in said("verify", "tiny")
    assert call("open-holdout", "tiny").exit_code == 1  # asked back, and nobody said yes
    told = said("open-holdout", "tiny", "--yes")
    answer = told.split()[-1]
    assert answer in {"pass", "fail"}
    assert ("it makes none" in told) == (answer == "pass" and not discovered("tiny", load_settings()))
    assert isinstance(call("open-holdout", "tiny", "--yes").exception, SettingsError)
    assert f"the holdout answered {answer}" in said("show", "tiny")
    assert answer in said("list")


def test_a_declaration_stands_and_a_touched_ledger_is_found() -> None:
    said("new", "stands", "covered_call", "BTC", *SPACE, *SHORT)
    assert isinstance(call("new", "stands", "covered_call", "BTC", *SPACE, *SHORT, "--seed", "1").exception, SettingsError)
    said("run", "stands")
    path = folder_of("stands", load_settings()) / "ledger.jsonl"
    path.write_text(path.read_text().replace('"random"', '"tpe"', 1))
    assert isinstance(call("verify", "stands").exception, DataError)


@pytest.mark.parametrize("parameter", ["legs.sold.target", "legs.sold.target=", "legs.sold.target=a:b", "legs.sold.target=0.1:0.4:0.1:1"])
def test_what_is_no_parameter_is_refused(parameter: str) -> None:
    assert isinstance(call("new", "bad", "-p", parameter, *SHORT).exception, SettingsError)
