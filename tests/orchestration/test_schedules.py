"""Ticks of the schedules: which partitions they ask for, and when they ask for nothing."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dagster_project.definitions import defs
from dagster_project.partitions import market_days, strategies, underlyings, weeks
from options_agent.lake.receipts import receipts
from options_agent.lake.store import open_lake
from options_agent.settings import load_settings
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

MONDAY_AT_TWO = dt.datetime(2026, 11, 16, 2, tzinfo=dt.UTC)


def tick(name: str, at: dt.datetime) -> dg.RunRequest | dg.SkipReason:
    """What a schedule answers at a time."""
    found = (
        defs.get_repository_def()
        .get_schedule_def(name)
        .evaluate_tick(dg.build_schedule_context(scheduled_execution_time=at, repository_def=defs.get_repository_def()))
    )
    return found.run_requests[0] if found.run_requests else dg.SkipReason(found.skip_message)


def asked(request: dg.RunRequest, partitions: dg.PartitionsDefinition) -> list[str]:
    """Partition keys that a run of the request works on."""
    start, end = (request.tags[f"dagster/asset_partition_range_{edge}"] for edge in ("start", "end"))
    return [str(key) for key in partitions.get_partition_keys_in_range(dg.PartitionKeyRange(start, end))]


def test_the_live_harvest_asks_for_today_of_every_underlying() -> None:
    at = dt.datetime(2026, 11, 16, 0, 15, tzinfo=dt.UTC)
    request = tick("harvest_every_15_minutes", at)
    assert asked(request, market_days) == ["2026-11-16|BTC", "2026-11-16|ETH"]
    assert set(asked(request, market_days)) <= set(market_days.get_partition_keys(current_time=at))
    assert request.run_key == "20261116T0015"


def test_the_run_a_live_tick_asks_for_takes_the_newest_snapshot_of_every_underlying(tmp_path: Path) -> None:
    request = tick("harvest_every_15_minutes", dt.datetime.now(dt.UTC))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        job = defs.resolve_job_def("live_harvest")
        done = job.execute_in_process(instance=instance, run_config=request.run_config, tags=request.tags)
    assert done.success
    lake = open_lake(load_settings())
    assert [(r.underlying, r.counts["snapshots"]) for r in receipts(lake, "harvest")] == [("BTC", 1), ("ETH", 1)]


def test_a_day_is_judged_and_archived_after_its_end() -> None:
    request = tick("judge_and_archive_daily", dt.datetime(2026, 11, 16, 0, 20, tzinfo=dt.UTC))
    assert asked(request, market_days) == ["2026-11-15|BTC", "2026-11-15|ETH"]


@pytest.mark.parametrize("name", ["harvest_every_15_minutes", "judge_and_archive_daily"])
def test_a_source_with_an_end_is_skipped_with_the_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIONS_AGENT_SOURCE", "recorded")
    monkeypatch.setenv("OPTIONS_AGENT_NETWORK", "mainnet")
    skipped = tick(name, MONDAY_AT_TWO)
    assert isinstance(skipped, dg.SkipReason)
    assert "'recorded'" in str(skipped.skip_message)


def test_the_night_labels_and_backtests_everything_in_one_run_each() -> None:
    assert asked(tick("regimes_nightly", MONDAY_AT_TWO), underlyings) == ["BTC", "ETH"]
    assert asked(tick("backtests_nightly", MONDAY_AT_TWO), strategies) == [str(key) for key in strategies.get_partition_keys()]


OWN = """
name = "mine"
description = "a call"
legs = [{side = "sell", right = "C", target = 0.3}]
entry = {dte_min = 1, dte_target = 7, dte_max = 14}
"""
TICKS = """
import json, sys
from pathlib import Path
from dagster_project.partitions import strategies
from tests.orchestration.test_schedules import MONDAY_AT_TWO, tick
ends = [tick("backtests_nightly", MONDAY_AT_TWO).tags["dagster/asset_partition_range_end"]]
Path(sys.argv[1]).write_text("name = 3")
ends.append(tick("backtests_nightly", MONDAY_AT_TWO).tags["dagster/asset_partition_range_end"])
print(json.dumps({"last": strategies.get_partition_keys()[-1], "ends": ends}))
"""


def test_a_file_that_breaks_after_the_night_was_planned_does_not_end_it(tmp_path: Path) -> None:
    file = tmp_path / "home" / "strategies" / "mine.toml"
    file.parent.mkdir(parents=True)
    file.write_text(OWN)
    program = [sys.executable, "-W", "ignore", "-c", TICKS, str(file)]
    done = subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    whole = [str(key) for key in strategies.get_partition_keys()]
    assert found == {"last": "mine|ETH", "ends": ["mine|ETH", whole[-1]]}


def test_training_examples_are_of_the_week_that_ended() -> None:
    request = tick("training_weekly", MONDAY_AT_TWO)
    assert request.partition_key == "2026-W46-1"
    assert request.partition_key in weeks.get_partition_keys(current_time=MONDAY_AT_TWO)
    window = weeks.time_window_for_partition_key(request.partition_key)
    assert window.end.date() == MONDAY_AT_TWO.date()


def test_each_stage_of_the_night_starts_after_the_one_it_reads() -> None:
    first = {s.name: s.cron_schedule.split() for s in defs.get_repository_def().schedule_defs}
    order = ["judge_and_archive_daily", "regimes_nightly", "backtests_nightly", "comparison_nightly"]
    minutes = [int(first[name][1]) * 60 + int(first[name][0]) for name in order]
    assert minutes == sorted(minutes)
