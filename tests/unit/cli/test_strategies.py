"""`options-agent strategies`: the list, one in full, a file judged; and what other commands make of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from options_agent.cli.doctor import own_strategies
from options_agent.cli.main import application
from options_agent.errors import DataError, SettingsError
from options_agent.strategies.catalogue import CATALOGUE
from options_agent.strategies.files import strategy_from_file, strategy_to_toml
from tests.unit.strategies.test_files import SMALL, written

if TYPE_CHECKING:
    from pathlib import Path

    from options_agent.settings import Settings


def said(*arguments: str) -> str:
    result = CliRunner().invoke(application(), ["strategies", *arguments])
    assert result.exit_code == 0, result.exception
    return result.output


@pytest.fixture
def own(settings: Settings) -> Path:
    """The folder of own strategies of the home that commands run with, with a sound file in it."""
    settings.own_strategies_dir.mkdir(parents=True)
    written(settings.own_strategies_dir, SMALL)
    return settings.own_strategies_dir


def test_the_list_has_the_catalogue_and_ones_own(own: Path) -> None:
    broken = written(own, SMALL.replace("target = 0.3", "targt = 0.3"), "broken.toml")
    text = said()
    assert all(f" {name} " in text for name in CATALOGUE)
    assert "mine (own)" in text
    assert f"{len(CATALOGUE) + 1} strategies" in text
    assert "no limit" in text
    assert all(words in text.replace("\n", "") for words in ("no field 'targt'", str(broken), "legs[1]", "did you mean target"))


def test_words_in_brackets_are_not_read_as_styles(own: Path) -> None:
    written(own, SMALL.replace('"a call"', '"a call [red]"'))
    assert "a call [red]" in said()
    assert "a call [red]" in said("show", "mine")


def test_the_folder_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "elsewhere", SMALL)
    monkeypatch.setenv("OPTIONS_AGENT_STRATEGIES_DIR", str(tmp_path / "elsewhere"))
    assert "mine (own)" in said()


@pytest.mark.parametrize("name", CATALOGUE)
def test_what_is_shown_is_a_file_to_start_from(name: str, tmp_path: Path) -> None:
    text = said("show", name)
    assert "entry.dte_target" in text
    assert "filters.max_spread" in text
    printed = text[text.index(f'name = "{name}"') :]
    assert printed.strip() == strategy_to_toml(CATALOGUE[name]).strip()
    assert strategy_from_file(written(tmp_path, printed.replace(name, "mine", 1))).legs == CATALOGUE[name].legs


def test_a_file_is_judged(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL)
    assert "sell 1 0.3-delta call" in said("check", str(path)).replace("\n", " ")
    assert CliRunner().invoke(application(), ["strategies", "show", str(path)]).exit_code == 0
    written(tmp_path, SMALL.replace("dte_min = 1", "dte_min = 9"))
    assert isinstance(CliRunner().invoke(application(), ["strategies", "check", str(path)]).exception, SettingsError)


def test_a_backtest_takes_a_name_or_a_file_and_refuses_an_unknown_one(own: Path) -> None:
    for known in ("mine", str(own / "mine.toml"), "covered_call"):
        played = CliRunner().invoke(application(), ["backtest", known])
        assert isinstance(played.exception, DataError), "the lake is empty, the strategy is known"
    assert isinstance(CliRunner().invoke(application(), ["backtest", "mine2"]).exception, SettingsError)


def test_doctor_names_files_that_are_not_sound(own: Path, settings: Settings) -> None:
    assert [f.state for f in own_strategies(settings)] == ["ok"]
    written(own, SMALL.replace("target = 0.3", "target = 'far'"), "broken.toml")
    _, broken = own_strategies(settings)
    assert (broken.what, broken.state) == ("broken.toml", "broken")
    assert "legs" in broken.says
    assert broken.remedy
