from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner, Result

from options_agent.cli.archive import app
from options_agent.errors import DataError
from options_agent.lake.archive import open_archive
from options_agent.lake.files import sha256_of
from options_agent.lake.store import Lake, open_lake, write_day
from options_agent.settings import load_settings
from tests.chains import DAY, as_clean, as_quarantined, chain


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


def test_a_day_that_was_never_archived_is_a_clear_error() -> None:
    assert isinstance(ran("restore", "BTC", "2026-01-31").exception, DataError)
