"""`options-agent compare` at the terminal: text that fits, JSON alone on standard output, a page, and errors in words."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console
from typer.testing import CliRunner

from options_agent.backtest.diff import DIFF_SCHEMA, compare_runs
from options_agent.backtest.saved_runs import find_runs
from options_agent.cli.compare import show
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
def reports(home: Path) -> list[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTIONS_AGENT_HOME", str(home))
        folder = load_settings().reports_dir
    world, ether = random_world(7, snapshots=100), random_world(8, snapshots=120, underlying="ETH")
    return [
        saved(world.play(CATALOGUE["covered_call"]), folder),
        saved(world.play(CATALOGUE["covered_call"], crossing=0.5), folder),
        saved(world.play(CATALOGUE["short_strangle"]), folder),
        saved(ether.play(CATALOGUE["covered_call"]), folder),
    ]


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIONS_AGENT_HOME", str(home))


def hashes(reports: list[Path]) -> list[str]:
    return [r.stem.rsplit("-", 1)[-1] for r in reports]


def test_runs_by_hash_are_shown_with_how_many_were_looked_at(reports: list[Path]) -> None:
    result = CliRunner().invoke(application(), ["compare", *hashes(reports[:2])])
    assert result.exit_code == 0, result.output
    for words in (
        "Setting crossing: A 1; B 0.5.",
        "4 runs looked at",
        "B against A",
        "deflated",
        "within",
        "Trades that differ",
        "leaves 0 out",
    ):
        assert words in result.output, words


def test_json_on_standard_output_is_alone_there(reports: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = CliRunner().invoke(application(), ["compare", *hashes(reports[:2]), "--json", "-", "--html", str(page)])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    jsonschema.validate(document, DIFF_SCHEMA)
    assert document["looks"] == 4
    assert page.read_text().startswith("<!doctype html>")
    assert str(page) in result.stderr


def test_json_and_page_as_files_are_the_same_bytes_each_time(reports: list[Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        result = CliRunner().invoke(
            application(),
            [
                "compare",
                str(reports[0]),
                str(reports[2]),
                "--json",
                str(tmp_path / f"{name}.json"),
                "--html",
                str(tmp_path / f"{name}.html"),
            ],
        )
        assert result.exit_code == 0
        assert "Page " in result.output
    for kind in ("json", "html"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text())["schema_version"] == 1


def test_another_base(reports: list[Path]) -> None:
    result = CliRunner().invoke(application(), ["compare", *hashes(reports[:2]), "--base", hashes(reports)[2]])
    assert "A short_strangle BTC" in result.output
    assert "C against A" in result.output


@pytest.mark.parametrize("chosen", [(0, 1), (0, 1, 2, 3), (0, 3)], ids=["costs", "four", "coins"])
def test_the_text_fits_a_hundred_columns(reports: list[Path], chosen: tuple[int, ...]) -> None:
    runs, said = find_runs([str(reports[n]) for n in chosen], reports[0].parent)
    console = Console(width=100, record=True, highlight=False, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    show(compare_runs(runs, said=said), console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 100
    assert not any("…" in one for one in lines), "a table was cut to fit"


@pytest.mark.parametrize("arguments", [[], ["abc"]], ids=["none", "unknown"])
def test_runs_that_are_not_there(reports: list[Path], arguments: list[str]) -> None:
    result = CliRunner().invoke(application(), ["compare", *arguments])
    assert result.exit_code != 0
    if arguments:
        assert isinstance(result.exception, DataError)
        assert "0 reports have a run that starts with 'abc'" in str(result.exception)


def test_one_run_twice_is_refused_in_words(reports: list[Path]) -> None:
    one = hashes(reports)[0]
    result = CliRunner().invoke(application(), ["compare", one, one])
    assert isinstance(result.exception, DataError)
    assert "given twice" in str(result.exception)
    assert "give two runs that differ" in str(result.exception.remedy)


def test_a_home_without_reports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTIONS_AGENT_HOME", str(tmp_path))
    result = CliRunner().invoke(application(), ["compare", "abc", "abd"])
    assert isinstance(result.exception, DataError)
