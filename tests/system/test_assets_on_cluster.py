"""Assets run on the workers of a Dask cluster where a scheduler is named, and hand each other files of the lake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from options_agent.lake.receipts import receipts
from options_agent.lake.store import open_lake
from tests.conftest import REPOSITORY
from tests.orchestration.desks import FIRST, desk_at
from tests.servers.dask import dask_cluster

pytestmark = pytest.mark.slow


def test_a_day_is_harvested_judged_and_archived_by_the_workers(tmp_path: Path) -> None:
    desk = desk_at(tmp_path / "home", underlyings=("BTC",))
    with dask_cluster(tmp_path, desk.environment) as cluster:
        command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "dagster_project.definitions"]
        command += ["--select", "option_quotes,clean_quotes,quarantined_quotes,archived_quotes", "--partition", f"{FIRST}|BTC"]
        environment = desk.environment | {"OPTIONS_AGENT_DASK_SCHEDULER": cluster.address}
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        with desk.instance() as instance:
            (run,) = instance.get_runs()
            started = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
        assert {event.step_key for event in started} >= {"option_quotes", "judge_quotes", "archived_quotes"}
        assert {event.dagster_event.pid for event in started if event.dagster_event} <= {worker.pid for worker in cluster.workers}
    (judged,) = receipts(open_lake(desk.settings), "quality", "BTC")
    assert judged.counts["clean"] > 10_000
