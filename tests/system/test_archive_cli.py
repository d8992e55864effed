from __future__ import annotations

import datetime as dt
import json
import re

import pytest
from typer.testing import CliRunner, Result

from options_agent.cli.archive import app
from options_agent.errors import DataError
from options_agent.lake.archive import open_archive
from options_agent.lake.files import sha256_of
from options_agent.lake.store import Lake, open_lake, write_day
from options_agent.settings import load_settings
from tests.chains import DAY, NOON, as_clean, as_quarantined, chain


@pytest.fixture
def lake() -> Lake:
    """A lake with one judged day, where the environment's settings point."""
    lake = open_lake(load_settings())
    write_day(lake, "clean", "BTC", DAY, as_clean(chain()))
    write_day(lake, "quarantine", "BTC", DAY, as_quarantined(chain().slice(0, 1)))
    return lake


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_run_ships_and_list_shows(lake: Lake) -> None:
    assert re.search(r"BTC\s+│\s+1 │\s+2 │\s+13", ran("run").output)
    assert re.search(r"BTC\s+│ 2026-01-31 │ 1 ", ran("list").output)
    assert "Nothing to archive" in ran("run", "--underlying", "ETH").output
    assert "Nothing to archive" in ran("run", "--start", "2026-02-01").output


def test_a_torn_day_leaves_the_others_be(lake: Lake) -> None:
    later = DAY + dt.timedelta(days=1)
    write_day(lake, "clean", "BTC", later, as_clean(chain(NOON + dt.timedelta(days=1))))
    torn = next(path for path in lake.files.find("clean") if f"{DAY}" in path)
    lake.files.write(torn, lake.files.read(torn)[:-9])
    result = ran("run")
    assert isinstance(result.exception, DataError)
    assert torn in str(result.exception.place)
    assert "1 days were not archived" in result.output
    assert re.search(rf"BTC\s+│ {later} │ 1 ", ran("list").output)


def test_restore_prints_both_hashes_of_every_file_and_repairs_the_lake(lake: Lake) -> None:
    ran("run")
    before = {path: lake.files.read(path) for path in lake.files.find("clean")}
    for path in before:
        lake.files.write(path, b"ruined")
    result = ran("restore", "BTC", "2026-01-31")
    assert result.exit_code == 0, result.output
    for path, data in before.items():
        assert lake.files.read(path) == data
        assert path in result.output
        assert result.output.count(sha256_of(data)) == 2
    assert "2 of 2 files are byte for byte what was archived" in result.output


def test_verify_fails_where_an_object_was_altered(lake: Lake) -> None:
    ran("run")
    assert ran("verify").exit_code == 0
    files = open_archive(load_settings()).files
    altered = next(path for path in files.find("clean"))
    files.write(altered, b"altered")
    result = ran("verify", "--underlying", "BTC", "--day", "2026-01-31")
    assert result.exit_code == 1
    assert "DIFFERENT" in result.output
    assert sha256_of(b"altered") in result.output


def test_verify_repairs_from_the_lake_what_rotted_and_says_what_it_cannot(lake: Lake) -> None:
    ran("run")
    files = open_archive(load_settings()).files
    rotten, data = next((path, files.read(path)) for path in files.find("clean"))
    files.write(rotten, data[:-1] + bytes([data[-1] ^ 1]))
    assert ran("run").exit_code == 0
    assert ran("verify").exit_code == 1, "the size is the same: only reading it tells"
    result = ran("verify", "--repair")
    assert result.exit_code == 0, result.output
    assert "BTC 2026-01-31 was archived again, version 2" in result.output
    assert ran("verify").exit_code == 0
    for path in lake.files.find(""):
        lake.files.delete(path)
    for path in files.find("clean"):
        files.write(path, b"rotten")
    result = ran("verify", "--repair")
    assert result.exit_code == 1
    assert "cannot be repaired" in result.output


def test_restore_replaces_nothing_that_the_archive_does_not_have(lake: Lake) -> None:
    ran("run")
    write_day(lake, "clean", "BTC", DAY, as_clean(chain(seed=9)))
    newer = {path: lake.files.read(path) for path in lake.files.find("clean")}
    result = ran("restore", "BTC", "2026-01-31")
    assert "a restore would lose it" in str(result.exception)
    assert {path: lake.files.read(path) for path in newer} == newer
    ran("run")
    assert ran("restore", "BTC", "2026-01-31", "--version", "1").exit_code == 0
    assert {path: lake.files.read(path) for path in newer} != newer
    assert ran("restore", "BTC", "2026-01-31").exit_code == 0
    assert {path: lake.files.read(path) for path in newer} == newer


def test_a_day_that_was_never_archived_is_a_clear_error() -> None:
    assert isinstance(ran("restore", "BTC", "2026-01-31").exception, DataError)


def test_verify_tells_a_program_what_differs(lake: Lake) -> None:
    ran("run")
    whole = ran("verify", "--json")
    assert (whole.exit_code, json.loads(whole.stdout)["different"], json.loads(whole.stdout)["objects"]) == (0, [], 2)
    files = open_archive(load_settings()).files
    files.delete(next(path for path in files.find("quarantine")))
    result = ran("verify", "--json")
    assert result.exit_code == 1
    (different,) = json.loads(result.stdout)["different"]
    assert different["lake_path"].startswith("quarantine/")
    assert (different["day"], different["found"]) == ("2026-01-31", None)


@pytest.fixture
def kept_for_a_month(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that keep each layer for 30 days."""
    for layer in ("RAW", "CLEAN", "QUARANTINE"):
        monkeypatch.setenv(f"OPTIONS_AGENT_RETENTION__{layer}_DAYS", "30")


@pytest.mark.usefixtures("kept_for_a_month")
def test_retain_shows_first_and_deletes_when_told(lake: Lake) -> None:
    refused = json.loads(ran("retain", "--json").stdout)["days"]
    assert "is not in the archive" in refused[0]["why"]
    assert ran("retain").exit_code == 1
    ran("run")
    assert json.loads(ran("retain", "--json").stdout)["days"][0]["verdict"] == "proven"
    assert "--apply deletes them" in ran("retain").output
    assert len(lake.files.find("clean")) == 1
    applied = ran("retain", "--apply")
    assert applied.exit_code == 0, applied.output
    assert "deleted; 0 refused" in applied.output
    assert lake.files.find("clean") == lake.files.find("quarantine/quotes") == {}
    assert "Nothing is due: raw stays 30 days" in ran("retain").output
    assert ran("restore", "BTC", "2026-01-31").exit_code == 0
    assert len(lake.files.find("clean")) == 1
    assert "Nothing is due" in ran("retain", "--apply").output, "what was just restored stays"


@pytest.mark.usefixtures("lake")
def test_without_limits_nothing_is_ever_due() -> None:
    assert "no layer has a limit" in ran("retain", "--apply").output


@pytest.mark.usefixtures("lake")
def test_the_drill_reports_and_fails_where_the_archive_is_harmed() -> None:
    assert "is empty" in ran("drill").output
    ran("run")
    result = ran("drill", "--month", "2026-03")
    assert result.exit_code == 0, result.output
    assert json.loads(ran("drill", "--json").stdout)["days"][0]["local"] == "same"
    files = open_archive(load_settings()).files
    files.delete(next(path for path in files.find("clean")))
    assert ran("drill").exit_code == 1
