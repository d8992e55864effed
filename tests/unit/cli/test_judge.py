"""`options-agent judge`: files of quotes judged on the terminal, without a lake."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from options_agent.cli.main import application
from options_agent.errors import DataError
from options_agent.quality.injection import inject
from options_agent.quality.judge import judge
from options_agent.settings import QualitySettings
from tests.unit.quality.market import NOON, rows, table

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    quotes = table([row for n in range(4) for row in rows(NOON + n * HOUR)])
    for rule in ("crossed", "off_tick"):
        quotes = inject(quotes, rule, 0.02, seed=1, settings=QualitySettings()).quotes
    folder = tmp_path / "quotes"
    folder.mkdir()
    half = len(quotes) // 2
    pq.write_table(quotes.slice(0, half), folder / "a.parquet")
    pq.write_table(quotes.slice(half), folder / "b.parquet")
    return folder


def test_a_folder_is_judged_as_one_and_the_rules_are_counted(spoilt: Path) -> None:
    quotes = pa.concat_tables([pq.read_table(path) for path in sorted(spoilt.iterdir())])
    counts = judge(quotes, QualitySettings()).counts()
    told = json.loads(CliRunner().invoke(application(), ["judge", str(spoilt), "--json"]).output)
    assert {name: told[name] for name in counts} == counts
    assert (told["files"], told["rows_in"]) == (2, len(quotes))
    shown = CliRunner().invoke(application(), ["judge", str(spoilt)]).output
    assert f"{len(quotes):,} rows of 2 files judged" in shown
    assert "crossed" in shown
    assert "off_tick" in shown


def test_clean_and_bad_rows_are_written_where_asked(spoilt: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(application(), ["judge", str(spoilt), "--to", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    clean, bad = (pq.read_table(tmp_path / "out" / name) for name in ("clean.parquet", "quarantine.parquet"))
    assert len(clean) + len(bad) == sum(pq.read_metadata(path).num_rows for path in spoilt.iterdir())
    assert {"crossed", "off_tick"} <= set(bad["rule"].to_pylist())


def test_what_is_not_there_is_said_by_name(tmp_path: Path) -> None:
    assert isinstance(CliRunner().invoke(application(), ["judge", str(tmp_path / "nowhere")]).exception, DataError)
    assert isinstance(CliRunner().invoke(application(), ["judge", str(tmp_path)]).exception, DataError)
