"""The fee table on the terminal: figures, what is unsettled, sources, and a file to start from."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from options_agent.backtest.fee_table import FOLDER
from options_agent.cli.main import application
from options_agent.errors import SettingsError


def test_the_table_names_days_figures_sources_and_doubts() -> None:
    result = CliRunner().invoke(application(), ["fees", "deribit"])
    assert result.exit_code == 0
    for words in ("2022-08-18", "2026-08-01", "0.03 %?", "12.5 %", "-0.025 %", "support.deribit.com", "unsettled"):
        assert words in result.output


def test_without_a_name_the_schedule_of_the_settings_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIONS_AGENT_BACKTEST__FEE_SCHEDULE", "none")
    assert "fees: none" in CliRunner().invoke(application(), ["fees"]).output


def test_the_printed_file_is_a_table_again(tmp_path: Path) -> None:
    printed = CliRunner().invoke(application(), ["fees", "deribit", "--toml"]).output
    assert printed == (FOLDER / "deribit.toml").read_text(encoding="utf-8")
    own = tmp_path / "mine.toml"
    own.write_text(printed, encoding="utf-8")
    result = CliRunner().invoke(application(), ["fees", str(own)])
    assert result.exit_code == 0
    assert "2016-01-01" in result.output


def test_an_unknown_schedule_is_an_error_of_ours() -> None:
    assert isinstance(CliRunner().invoke(application(), ["fees", "vip9"]).exception, SettingsError)
