"""`options-agent import`: what is shown, what is written, that it can be repeated."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from typer.testing import CliRunner

from options_agent.cli.imports import app
from options_agent.lake.raw import read_raw_day
from options_agent.lake.store import open_lake, read_series
from options_agent.market.recorded.importing import import_recorded
from options_agent.market.recorded.source import RecordedSource
from options_agent.settings import Settings, load_settings
from tests.unit.market.recorded import builders
from tests.unit.market.recorded.builders import START


@pytest.fixture
def desk(tmp_path: Path) -> Settings:
    folder = tmp_path / "chains"
    folder.mkdir()
    builders.deribit_sweeps(builders.hours(3)).write_parquet(folder / "a.parquet")
    builders.write_prices(folder / "prices", START - dt.timedelta(days=1))
    return load_settings(home=tmp_path / "home", network="mainnet", source="recorded", recorded={"path": folder}, _env_file=None)


def test_chains_and_the_series_around_them_come_into_the_lake(desk: Settings) -> None:
    lake = open_lake(desk)
    [imported] = import_recorded(RecordedSource(desk.recorded), lake)
    assert (imported.underlying, imported.snapshots, imported.rows) == ("BTC", 3, 12)
    assert read_raw_day(lake, "BTC", START.date()).num_rows == 12
    before = read_series(lake, "prices", "BTC", START.date() - dt.timedelta(days=1), START.date() - dt.timedelta(days=1))
    assert before.num_rows == 23


def test_a_second_import_changes_no_file(desk: Settings, tmp_path: Path) -> None:
    lake = open_lake(desk)
    import_recorded(RecordedSource(desk.recorded), lake)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "home").rglob("*") if path.is_file()}
    again = import_recorded(RecordedSource(desk.recorded), lake)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "home").rglob("*") if path.is_file()} == files
    assert again[0].rows == 12


def test_series_alone_are_imported_by_coin(tmp_path: Path) -> None:
    builders.write_prices(tmp_path / "prices")
    desk = load_settings(
        home=tmp_path / "home", network="mainnet", source="recorded", recorded={"path": tmp_path / "prices"}, _env_file=None
    )
    lake = open_lake(desk)
    imported = {one.underlying: one for one in import_recorded(RecordedSource(desk.recorded), lake)}
    assert imported["ETH"].prices == 60
    assert read_series(lake, "funding", "BTC").num_rows == 6


def test_the_command_shows_every_file_and_writes(desk: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIONS_AGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, [str(desk.recorded.path)])
    assert result.exit_code == 0, result.output
    for word in ("a.parquet", "deribit sweeps", "price bars", "volatility index", "funding", "In the lake"):
        assert word in result.output
    assert read_raw_day(open_lake(desk), "BTC", START.date()).num_rows == 12


def test_a_dry_run_writes_nothing(desk: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIONS_AGENT_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(app, [str(desk.recorded.path), "--dry-run"])
    assert "nothing was written" in result.output
    assert not (tmp_path / "home").exists()
