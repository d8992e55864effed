"""The terminal: help that explains, errors with a remedy, tables a person reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from options_agent.cli.main import COMMANDS, application
from options_agent.cli.summary import data_table, metrics_table, overview_table, strategy_table
from options_agent.cli.watch import Watch
from options_agent.lake.receipts import Receipt, write_receipt
from options_agent.lake.store import open_lake
from options_agent.progress import PROGRESS_VARIABLE, report_progress
from options_agent.settings import Settings
from tests.conftest import REPOSITORY

NAMES = [name for commands in COMMANDS.values() for name in commands]


def _tool(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from options_agent.cli.main import main; main()", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=os.environ | environment, check=False)


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    result = CliRunner().invoke(application(), ["--help"])
    assert result.exit_code == 0
    for name in NAMES:
        assert f"│ {name} " in result.output
    heavy = "numba", "pandas", "polars", "mlflow", "sklearn", "dagster", "pyarrow", "numpy"
    probe = f"import sys; from options_agent.cli.main import application; application(); print([m for m in {heavy!r} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", probe], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("command", [*NAMES, "archive restore"])
def test_every_command_explains_itself(command: str) -> None:
    alone = CliRunner().invoke(application(command.split(maxsplit=1)[0]), [*command.split(), "--help"])
    assert alone.exit_code == 0
    assert f" {command} " in alone.output
    assert alone.output == CliRunner().invoke(application(), [*command.split(), "--help"]).output


def test_an_unknown_command_is_said_and_the_one_it_may_have_been() -> None:
    done = _tool("backtst")
    assert done.returncode == 2
    assert "No such command 'backtst'. Did you mean 'backtest'?" in done.stderr


def test_an_error_of_ours_is_a_sentence_and_a_remedy_not_a_traceback(tmp_path: Path) -> None:
    done = _tool("backtest", "moon_shot", OPTIONS_AGENT_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "moon_shot" in done.stderr
    assert "remedy" in done.stderr
    assert "covered_call" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_backtest_on_an_empty_lake_says_what_to_do(tmp_path: Path) -> None:
    done = _tool("backtest", "covered_call", "BTC", OPTIONS_AGENT_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "options-agent run" in done.stderr


def test_run_on_a_path_that_is_not_there_says_so(tmp_path: Path) -> None:
    done = _tool("run", "--data", str(tmp_path / "nowhere"), "--no-stay", OPTIONS_AGENT_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "nowhere" in done.stderr


def test_doctor_finds_a_desk_that_is_not_running_and_masks_secrets(tmp_path: Path) -> None:
    done = _tool("doctor", OPTIONS_AGENT_HOME=str(tmp_path), OPTIONS_AGENT_S3_SECRET_ACCESS_KEY="hush-hush")
    assert done.returncode == 0, done.stderr
    assert "not running" in done.stdout
    assert "takes writes" in done.stdout
    assert "hush-hush" not in done.stdout + done.stderr


def test_doctor_fails_where_the_archive_cannot_be_reached(tmp_path: Path) -> None:
    environment = {
        "OPTIONS_AGENT_ARCHIVE_ROOT": "s3://nowhere/archive",
        "OPTIONS_AGENT_S3_ENDPOINT_URL": "http://127.0.0.1:9",
        "OPTIONS_AGENT_S3_ACCESS_KEY_ID": "someone",
        "OPTIONS_AGENT_S3_SECRET_ACCESS_KEY": "hush-hush",
    }
    done = _tool("doctor", OPTIONS_AGENT_HOME=str(tmp_path), **environment)
    assert done.returncode == 1
    assert "broken" in done.stdout
    assert "hush-hush" not in done.stdout + done.stderr


def _shown(table: object) -> str:
    console = Console(width=150, record=True, file=Path(os.devnull).open("w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_the_data_table_sums_the_receipts_of_the_range(settings: Settings) -> None:
    import datetime as dt

    lake = open_lake(settings)
    for day, rows in (("2026-01-01", 100), ("2026-01-02", 50), ("2026-02-01", 7)):
        write_receipt(lake, Receipt("harvest", "BTC", day, "f", {"rows": rows, "snapshots": 1, "bytes": 10}))
        write_receipt(
            lake,
            Receipt("quality", "BTC", day, "f", {"rows_in": rows, "clean": rows - 2, "quarantined": 2, "rule:crossed": 2, "rule:stale": 0}),
        )
        write_receipt(lake, Receipt("archive", "BTC", day, "f", {"rows": rows, "bytes": 3 * rows}))
    text = _shown(data_table(lake, settings, dt.date(2026, 1, 1), dt.date(2026, 1, 31)))
    lines = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in text.splitlines() if line.count("│") > 2}
    assert lines["rows harvested"] == "150"
    assert lines["rows kept"] == "146"
    assert lines["by crossed"] == "4"
    assert lines["bytes per quote archived"] == "3.0"
    assert "by stale" not in lines


def test_an_inconclusive_run_is_shown_as_such_and_never_as_a_success() -> None:
    metrics = dict.fromkeys(("return_coin", "return_usd", "max_drawdown_coin", "max_drawdown_usd", "sharpe_coin", "win_rate")) | {
        "closed_trades": 0.0
    }
    report = {
        "strategy": {"name": "covered_call"},
        "underlying": "BTC",
        "status": "inconclusive",
        "status_reasons": ["no deltas"],
        "metrics": metrics,
    }
    for table in (strategy_table, overview_table):
        text = _shown(table([report | {"regimes": []}]))
        assert "INCONCLUSIVE" in text
        assert "0.00 %" not in text


def test_a_headline_stands_with_its_interval_and_with_how_many_were_looked_at() -> None:
    def report(run: str, sharpe: float, regimes: list[dict[str, object]]) -> dict[str, object]:
        metrics = {"return_coin": 0.04, "return_usd": 0.1, "max_drawdown_coin": 0.1, "max_drawdown_usd": 0.2, "win_rate": 0.7}
        metrics |= {"closed_trades": 20.0, "sharpe_coin": sharpe, "days": 150.0, "skew_coin": -1.0, "kurtosis_coin": 4.0}
        intervals = {"return_coin": [-0.031, 0.123], "sharpe_coin": [-0.42, 2.87], "max_drawdown_coin": None}
        return {
            "strategy": {"name": "covered_call"},
            "underlying": "BTC",
            "run": run,
            "status": "ok",
            "metrics": metrics,
            "regimes": regimes,
            "uncertainty": {"confidence": 0.9, "intervals": intervals},
        }

    storm = {"regime": "bear-stormy", "trades": 3, "hours": 800.0, "return_coin": 0.0123, "return_usd": -0.0456, "sharpe_coin": 2.22}
    storm |= {"max_drawdown_coin": 0.011, "max_drawdown_usd": 0.09, "win_rate": 0.33, "small_sample": True}
    calm = storm | {"regime": "bull-calm", "trades": 12, "hours": 300.0, "sharpe_coin": None, "small_sample": False}
    best, others = report("a", 1.5, [storm, calm]), [report("b", 0.2, []), report("c", -1.0, [])]
    alone, of_three = (_shown(strategy_table([best], among)) for among in (None, [best, *others]))
    assert "(1 runs looked at)" in alone
    assert "(3 runs looked at)" in of_three
    assert "90 % within" in of_three
    assert "-3..12" in of_three
    assert "-0.4..2.9" in of_three
    odds = [float(next(line for line in text.splitlines() if "1.50" in line).split("│")[9]) for text in (alone, of_three)]
    assert 0.5 < odds[1] < odds[0] < 1
    overview = _shown(overview_table([best, *others]))
    assert "(3 runs looked at)" in overview
    assert all(text in overview for text in ("+4.00 %", "-3..12", "1.50", "-0.4..2.9", f"{odds[1]:.2f}"))
    cells = {(row := [c.strip() for c in line.split("│")])[1]: row[2:11] for line in alone.splitlines() if line.count("│") > 9}
    assert cells["bear-stormy"] == [
        "(3)",
        "33",
        "+1.23 %",
        "-4.56 %",
        "1.1 %",
        "9.0 %",
        "2.22",
        "",
        "(33.0 %)",
    ]  # three trades, but a month
    assert cells["bull-calm"] == ["12", "(12)", "(+1.23 %)", "(-4.56 %)", "(1.1 %)", "(9.0 %)", "-", "", "33.0 %"]
    older = {k: v for k, v in best.items() if k != "uncertainty"}
    assert "90 % within" in _shown(strategy_table([older]))


def test_every_metric_stands_with_its_unit_coin_beside_usd() -> None:
    metrics: dict[str, float | None] = {"sharpe_coin": -0.582, "return_coin": -0.0156, "return_usd": 0.0142, "of_old": 3.0}
    metrics.update(fees_usd=892.0413, fees_coin=0.0149, hold_return_usd=None, gamma_average=-0.0000123)
    report = {"metrics": metrics, "uncertainty": {"confidence": 0.9, "intervals": {"return_coin": [-0.09, 0.061]}}}
    text = _shown(metrics_table(report))
    lines = {cells[0]: cells[1:4] for line in text.splitlines() if len(cells := [c.strip() for c in line.split("│")[1:]]) > 3}
    assert list(lines)[:2] == ["return", "hold_return_usd"]  # as docs/metrics.md has them
    assert lines["return"] == ["-1.56  (-9.00 to 6.10)", "1.42", "%"]
    assert lines["hold_return_usd"] == ["", "-", "%"]
    assert lines["fees"] == ["0.0149", "892.04", "coin, USD"]
    assert lines["gamma_average"] == ["-1.23e-05", "", "coin per USD"]
    assert lines["of_old"] == ["3", "", ""]


def test_progress_is_plain_lines_where_it_is_piped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress.jsonl"
    monkeypatch.setenv(PROGRESS_VARIABLE, str(path))
    out = (tmp_path / "out.txt").open("w+")
    with Watch(path, Console(file=out, width=100)) as watch:
        watch.update()
        for done in range(1, 4):
            report_progress("harvest", "BTC", done, 3, 100 * done)
            watch.update()
    out.seek(0)
    assert out.read().split() == ["harvest", "3/3", "300", "rows"]


def test_where_there_is_no_report_the_network_that_has_some_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTIONS_AGENT_HOME", str(tmp_path))
    assert "mainnet" not in CliRunner().invoke(application(), ["report"]).stdout
    folder = tmp_path / "reports" / "mainnet"
    folder.mkdir(parents=True)
    (folder / "covered_call-BTC-2026-01-01-2026-01-31-0123456789ab.json").write_text("{}")
    said = CliRunner().invoke(application(), ["report"]).stdout
    assert "There are 1 of mainnet: OPTIONS_AGENT_NETWORK=mainnet OPTIONS_AGENT_SOURCE=recorded options-agent report" in said
