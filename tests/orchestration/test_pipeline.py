"""The pipeline for real: runs on a DAGSTER_HOME on disk, in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import dagster as dg
import psutil
import pytest

from dagster_project.leftovers import OWNER_TAG, close_leftovers
from options_agent.lake.receipts import receipts
from options_agent.lake.store import open_lake
from tests.orchestration.desks import FIRST, LAST, OrchestratedDesk, desk_at

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

DAYS = {f"{day}|{underlying}" for day in (FIRST, LAST) for underlying in ("BTC", "ETH")}
STRATEGIES = {f"{s}|{u}" for s in ("covered_call", "cash_secured_put", "short_strangle") for u in ("BTC", "ETH")}


def materialized(instance: dg.DagsterInstance, asset: str) -> dict[str | None, dg.AssetMaterialization]:
    """The newest materialization of each partition."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=1_000).records
    return {record.partition_key: record.asset_materialization for record in reversed(records)}


def test_every_asset_is_materialized_by_partition_with_numbers_a_person_wants(finished_desk: OrchestratedDesk) -> None:
    with finished_desk.instance() as instance:
        for asset in ("option_quotes", "clean_quotes", "quarantined_quotes", "archived_quotes"):
            assert materialized(instance, asset).keys() == DAYS
        assert materialized(instance, "backtest_results").keys() == STRATEGIES
        assert materialized(instance, "market_regimes").keys() == {"BTC", "ETH"}
        assert materialized(instance, "training_examples").keys() == {"2026-W41-1"}
        for asset in ("regime_performance", "joint_book", "strategy_comparison", "prompt_versions"):
            assert materialized(instance, asset).keys() == {None}
        quotes = materialized(instance, "option_quotes")[f"{LAST}|ETH"].metadata
        assert quotes["dagster/partition_row_count"].value == quotes["rows"].value > 10_000
        seen = [r.asset_observation.metadata for r in instance.fetch_observations(dg.AssetKey("option_quotes"), limit=9).records]
        whole = {name: value for metadata in seen for name, value in metadata.items()}
        assert whole["BTC_by_day"].value.startswith("![plot](data:image/png;base64,iVBOR")
        assert {m["partitions"].value for m in seen} == {f"{FIRST}|{u} to {LAST}|{u} (2)" for u in ("BTC", "ETH")}
        backtest = materialized(instance, "backtest_results")["covered_call|BTC"].metadata
        assert backtest["status"].value in {"ok", "inconclusive"}
        assert "base64,iVBOR" in backtest["equity"].value


def test_metadata_agrees_with_the_receipts(finished_desk: OrchestratedDesk) -> None:
    lake = open_lake(finished_desk.settings)
    with finished_desk.instance() as instance:
        for asset, stage, count in (
            ("option_quotes", "harvest", "rows"),
            ("clean_quotes", "quality", "clean"),
            ("archived_quotes", "archive", "bytes"),
        ):
            seen = {key: found.metadata[count].value for key, found in materialized(instance, asset).items()}
            assert seen == {f"{r.partition}|{r.underlying}": r.counts[count] for r in receipts(lake, stage)}


def test_checks_were_evaluated_and_the_blocking_ones_hold(finished_desk: OrchestratedDesk) -> None:
    with finished_desk.instance() as instance:
        records = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(_check_keys()))
        passed = {key.name: record.event.dagster_event.asset_check_evaluation_data.passed for key, record in records.items()}
    assert passed.keys() == {key.name for key in _check_keys()}
    for name in (
        "rows_in_equal_clean_plus_quarantined",
        "quarantine_rate",
        "newest_day_fits_schema",
        "archive_reads_back",
        "every_raw_file_readable",
    ):
        assert passed[name], name


def _check_keys() -> set[dg.AssetCheckKey]:
    from dagster_project.definitions import defs

    return set(defs.resolve_asset_graph().asset_check_keys)


def test_a_range_is_one_run_per_underlying_and_one_per_later_stage(finished_desk: OrchestratedDesk) -> None:
    runs = finished_desk.runs()
    assert sorted(run.job_name for run in runs) == [
        "backtests",
        "comparison",
        "gaps",
        "market_data",
        "market_data",
        "regimes",
        "weekly_training",
    ]
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}


def test_a_second_pipeline_starts_no_run_and_a_new_day_is_the_only_work_then(desk: OrchestratedDesk) -> None:
    assert desk.pipeline(FIRST, FIRST)[0] == 0
    first = desk.runs()
    assert desk.pipeline(FIRST, FIRST) == (0, "")
    assert [run.run_id for run in desk.runs()] == [run.run_id for run in first]
    assert desk.pipeline(FIRST, LAST)[0] == 0
    market = [run for run in desk.runs()[len(first) :] if run.job_name == "market_data"]
    assert sorted(run.tags["dagster/asset_partition_range_start"] for run in market) == [f"{LAST}|BTC"]


def test_a_poisoned_day_stops_what_comes_after_and_names_itself(desk: OrchestratedDesk) -> None:
    poisoned = desk.with_settings(synthetic={"defect_rate": 0.3})
    code, output = poisoned.pipeline(FIRST, FIRST)
    last = output.strip().splitlines()[-1]
    assert code == 1
    assert last.startswith("pipeline: job market_data, judge_quotes: check quarantine_rate failed")
    assert f"worst_day {FIRST}|BTC" in last
    with desk.instance() as instance:
        assert materialized(instance, "clean_quotes").keys() == {f"{FIRST}|BTC"}
        assert not materialized(instance, "archived_quotes")
    assert {run.job_name for run in desk.runs()} == {"market_data"}
    assert receipts(open_lake(desk.settings), "archive") == []
    assert desk.pipeline(FIRST, FIRST)[0] == 0  # healed: judged anew, archived, played


def test_what_no_second_try_mends_fails_at_once_and_names_the_partition(tmp_path: Path) -> None:
    desk = desk_at(tmp_path / "home")
    raw = desk.settings.home / "lake" / "synthetic" / "raw" / "quotes" / "underlying=ETH" / f"day={FIRST}"
    raw.mkdir(parents=True)
    (raw / "20261005T000000Z-synthetic-local.parquet").mkdir()  # a folder lies where the first snapshot's file goes
    code, output = desk.pipeline(FIRST, FIRST)
    assert code == 1
    assert f"option_quotes: harvest {FIRST}|ETH: " in output.strip().splitlines()[-1]
    with desk.instance() as instance:
        assert f"{FIRST}|BTC" in materialized(instance, "archived_quotes")  # the other underlying is finished and kept


def test_killed_in_mid_harvest_the_next_start_is_not_blocked_and_completes(desk: OrchestratedDesk) -> None:
    process = desk.start_pipeline(FIRST, LAST)
    _wait_until(lambda: list((desk.settings.home / "lake").rglob("*.parquet")))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert dg.DagsterRunStatus.STARTED in {run.status for run in desk.runs()}
    code, output = desk.pipeline(FIRST, LAST)
    assert code == 0, output
    runs = desk.runs()
    assert runs[0].status == dg.DagsterRunStatus.CANCELED
    assert {run.status for run in runs[1:]} == {dg.DagsterRunStatus.SUCCESS}
    with desk.instance() as instance:
        assert materialized(instance, "archived_quotes").keys() == {f"{FIRST}|BTC", f"{LAST}|BTC"}
        assert instance.event_log_storage.get_concurrency_info("exchange").claimed_slots == []


def _wait_until(condition, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_whose_process_is_dead_and_not_reaped_is_left_over(desk: OrchestratedDesk) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    owner = f"{socket.gethostname()}/{child.pid}/{psutil.Process(child.pid).create_time():.0f}"
    with desk.instance() as instance:
        run = instance.create_run_for_job(_nothing, tags={OWNER_TAG: owner}, status=dg.DagsterRunStatus.STARTED)
        assert close_leftovers(instance, desk.settings) == []
        child.kill()
        _wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        assert close_leftovers(instance, desk.settings) == [run.run_id]
        assert [r.status for r in instance.get_runs()] == [dg.DagsterRunStatus.CANCELED]
    child.wait()


@dg.job
def _nothing() -> None:
    """A job to have a run of."""
