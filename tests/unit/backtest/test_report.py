"""Reports: whole, reproducible to the byte, never overwritten by another run, and reconciled by regime."""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pytest

from options_agent.backtest.by_regime import REGIME_SCHEMA, UNKNOWN, regime_performance
from options_agent.backtest.compare import comparison, latest_reports, list_reports
from options_agent.backtest.report import REPORT_SCHEMA, report_content, write_report
from options_agent.backtest.result import TABLES, BacktestResult, load_report, load_table
from options_agent.errors import DataError
from options_agent.quotes import UTC_US
from options_agent.strategies.catalogue import CATALOGUE
from tests.unit.backtest.reference_agreement import features_of
from tests.unit.backtest.worlds import START, World, random_world

LABELS = pa.schema([("ts", UTC_US), ("regime", pa.string()), ("trend", pa.string())])
NO_LABELS = LABELS.empty_table()


@pytest.fixture(scope="module")
def world() -> World:
    return random_world(7, snapshots=120)


@pytest.fixture(scope="module")
def result(world: World) -> BacktestResult:
    found = world.play(CATALOGUE["covered_call"])
    assert found.trades.num_rows > 4
    return found


@pytest.fixture(scope="module")
def labels() -> pa.Table:
    """Regimes that change every two days, from the third day on."""
    names = ["bull_calm", "bear_stormy", "sideways_calm"]
    rows = [
        {"ts": START + dt.timedelta(days=3 + 2 * n), "regime": names[n % 3], "trend": names[n % 3].partition("_")[0]} for n in range(12)
    ]
    return pa.Table.from_pylist(rows, schema=LABELS)


def test_a_report_is_what_its_schema_says(result: BacktestResult, labels: pa.Table, tmp_path: Path) -> None:
    paths = write_report(result, labels, tmp_path)
    report = load_report(paths.report)
    jsonschema.validate(report, REPORT_SCHEMA)
    assert report["provenance"]["data_fingerprint"] == result.data_fingerprint
    assert len(report["provenance"]["code_sha256"]) == 64
    assert sum(report["decisions"].values()) == result.decisions.num_rows
    assert report["drawdowns"]["coin"]["depth"] == report["metrics"]["max_drawdown_coin"]
    assert report["drawdowns"]["coin"]["peak_at"] < report["drawdowns"]["coin"]["trough_at"]
    assert paths.plot.read_bytes().startswith(b"\x89PNG\r\n")
    assert {p.stem for p in paths.tables.values()} == {*TABLES, "regimes"}


def test_a_report_is_named_by_strategy_range_and_run(result: BacktestResult, tmp_path: Path) -> None:
    name = write_report(result, NO_LABELS, tmp_path).report.name
    assert name == f"covered_call-BTC-{result.start:%Y-%m-%d}-{result.end:%Y-%m-%d}-{result.run}.json"


def test_a_metric_that_is_not_defined_is_null_in_strict_json(tmp_path: Path) -> None:
    world = random_world(7, snapshots=4)
    path = write_report(world.play(CATALOGUE["covered_call"]), NO_LABELS, tmp_path).report
    report = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    jsonschema.validate(report, REPORT_SCHEMA)
    assert report["status"] == "inconclusive"
    assert report["status_reasons"]
    assert report["metrics"]["sharpe_coin"] is None
    assert report["uncertainty"]["intervals"]["sharpe_coin"] is None


def test_the_same_run_is_the_same_bytes(world: World, result: BacktestResult, labels: pa.Table, tmp_path: Path) -> None:
    first = write_report(result, labels, tmp_path / "a")
    second = write_report(world.play(CATALOGUE["covered_call"]), labels, tmp_path / "b")
    for mine, other in ((first.report, second.report), *((first.tables[name], second.tables[name]) for name in TABLES)):
        assert mine.name == other.name
        assert mine.read_bytes() == other.read_bytes()
    assert first.plot.read_bytes() == second.plot.read_bytes()


def test_defect_14_another_run_never_overwrites_a_report(world: World, result: BacktestResult, tmp_path: Path) -> None:
    other_world = World(world.underlying, world.quotes[: len(world.quotes) - 1], world.prices)
    runs = [
        result,
        world.play(CATALOGUE["covered_call"], capital_coin=2.0),
        world.play(CATALOGUE["covered_call"], crossing=0.5),
        world.play(CATALOGUE["short_strangle"]),
        other_world.play(CATALOGUE["covered_call"]),
    ]
    paths = {write_report(run, NO_LABELS, tmp_path).report for run in runs}
    assert len(paths) == len(runs)
    assert list_reports(tmp_path) == sorted(paths)


def test_tables_come_back_as_they_were_written(result: BacktestResult, tmp_path: Path) -> None:
    report = write_report(result, NO_LABELS, tmp_path).report
    for name in TABLES:
        assert load_table(report, name).equals(getattr(result, name))


def test_a_table_that_is_missing_or_damaged_is_an_error_with_its_place(result: BacktestResult, tmp_path: Path) -> None:
    paths = write_report(result, NO_LABELS, tmp_path)
    with pytest.raises(DataError, match="nothing cannot be read"):
        load_table(paths.report, "nothing")
    paths.tables["equity"].write_bytes(paths.tables["equity"].read_bytes()[:100])
    with pytest.raises(DataError) as damaged:
        load_table(paths.report, "equity")
    assert "equity.parquet" in str(damaged.value.place)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "3", '{"run": "x"}', '"schema_version run"'])
def test_what_is_no_report_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match="not a backtest report"):
        load_report(path)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_regimes_reconcile_with_the_run(world: World, labels: pa.Table, name: str) -> None:
    run = world.play(CATALOGUE[name], features=features_of(world, 1))
    table = regime_performance(run, labels)
    rows = table.to_pylist()
    assert table.schema.equals(REGIME_SCHEMA)
    assert {r["regime"] for r in rows} == {UNKNOWN, "bull_calm", "bear_stormy", "sideways_calm"}
    for column in ("return_coin", "return_usd"):
        assert math.prod(1 + r[column] for r in rows) == pytest.approx(1 + run.metrics[column], rel=1e-12)
    assert sum(r["trades"] for r in rows) == run.metrics["closed_trades"]
    closed = [t["profit_coin"] for t in run.trades.to_pylist() if t["closed_at"] is not None]
    assert sum(r["profit_coin"] for r in rows) == pytest.approx(sum(closed), abs=1e-12)
    hours = np.ptp(np.asarray(run.equity["ts"].combine_chunks().cast(pa.int64()))) / 3.6e9
    assert sum(r["hours"] for r in rows) == pytest.approx(hours)
    assert all(0 <= r["max_drawdown_coin"] <= 1 for r in rows)


def test_a_run_without_labels_is_one_unknown_regime(result: BacktestResult) -> None:
    (row,) = regime_performance(result, NO_LABELS).to_pylist()
    assert row["regime"] == UNKNOWN
    assert row["return_coin"] == pytest.approx(result.metrics["return_coin"])
    assert row["max_drawdown_coin"] == pytest.approx(result.metrics["max_drawdown_coin"])


def test_a_trade_belongs_to_the_regime_known_at_its_entry(result: BacktestResult) -> None:
    first, second = result.trades["opened_at"].to_pylist()[:2]
    change = first + dt.timedelta(seconds=1)
    labels = pa.Table.from_pylist(
        [{"ts": first - dt.timedelta(days=9), "regime": "old", "trend": "bull"}, {"ts": change, "regime": "new", "trend": "bear"}],
        schema=LABELS,
    )
    trades = {r["regime"]: r["trades"] for r in regime_performance(result, labels).to_pylist()}
    assert second > change
    assert trades == {"old": 1, "new": result.metrics["closed_trades"] - 1}


def test_runs_are_compared_with_the_inconclusive_last_and_how_many_were_looked_at(world: World, result: BacktestResult) -> None:
    runs = [random_world(7, snapshots=4).play(CATALOGUE["covered_call"]), result, world.play(CATALOGUE["short_strangle"])]
    rows = comparison([report_content(run, NO_LABELS) for run in runs])
    assert {row["looks"] for row in rows} == {3}
    assert [row["status"] for row in rows][-1] == "inconclusive"
    for row in rows[:-1]:
        assert row["sharpe_coin_low"] < row["sharpe_coin"] < row["sharpe_coin_high"]
        assert row["return_usd_low"] < row["return_usd_high"]
        assert 0 <= row["deflated_sharpe_coin"] <= 1
    assert rows[-1]["sharpe_coin_low"] is rows[-1]["deflated_sharpe_coin"] is None
    sharpes = [row["sharpe_coin"] for row in rows if row["status"] == "ok"]
    assert sharpes == sorted(sharpes, reverse=True)


def test_the_latest_report_of_each_strategy_is_the_one_written_last(world: World, tmp_path: Path) -> None:
    for capital in (1.0, 2.0):
        write_report(world.play(CATALOGUE["covered_call"], capital_coin=capital), NO_LABELS, tmp_path)
    (latest,) = latest_reports(tmp_path)
    assert latest["capital"]["coin"] == 2.0


def test_what_was_assumed_where_data_lacked_is_said_in_the_report(world: World, result: BacktestResult) -> None:
    assert report_content(result, NO_LABELS)["provisos"] == []
    hedged = world.play(CATALOGUE["short_strangle_hedged"])
    assert hedged.unfunded_hours > 0  # this world has no funding rates
    (said,) = report_content(hedged, NO_LABELS)["provisos"]
    assert said.startswith(f"no funding rate is known for {hedged.unfunded_hours:,.0f} of ")
    modelled = replace(result, fills=result.fills.set_column(*_sources(result, "model")))
    (said,) = report_content(modelled, NO_LABELS)["provisos"]
    assert said.startswith(f"{modelled.fills.num_rows} of {modelled.fills.num_rows} fills are by the fill model")


def _sources(result: BacktestResult, source: str) -> tuple[int, str, pa.Array]:
    return result.fills.schema.get_field_index("source"), "source", pa.array([source] * result.fills.num_rows)
