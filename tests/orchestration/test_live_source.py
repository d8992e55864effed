"""The live source in the orchestrator: a tick harvests from the exchange, the night judges and archives what was harvested."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import dagster as dg
import pytest

from dagster_project.definitions import defs
from jobs.desk_jobs import LATEST, ranged
from options_agent.lake.events import Event, record_event
from options_agent.lake.raw import snapshot_files, sweeps
from options_agent.lake.receipts import read_receipt
from options_agent.lake.store import open_lake, read_range, read_series
from options_agent.settings import load_settings
from tests.orchestration.test_schedules import tick
from tests.servers.exchange import running_box

YESTERDAY = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
EVENING = dt.datetime.combine(YESTERDAY, dt.time(22, 50), dt.UTC)


def test_a_tick_harvests_from_the_exchange_and_the_night_works_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_box(tmp_path, speed=120, start=EVENING, underlyings=("BTC",), settings={"EXCHANGE__EVERY_SECONDS": "300"}) as box:
        for name, value in {
            "SOURCE": "deribit",
            "UNDERLYINGS": '["BTC"]',
            "EXCHANGE__PORT": str(box.port),
            "DERIBIT__CREDIT_SHARE": "1.0",
        }.items():
            monkeypatch.setenv(f"OPTIONS_AGENT_{name}", value)
        key = f"{YESTERDAY}|BTC"
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            live = defs.resolve_job_def("live_harvest")
            done = live.execute_in_process(instance=instance, run_config=LATEST, tags=ranged(key, key))
            assert done.success
            settings = load_settings()
            lake = open_lake(settings)
            assert len(snapshot_files(lake, "BTC", YESTERDAY)) == 1
            assert sweeps(lake, "BTC", YESTERDAY)[0].complete
            event = instance.get_latest_materialization_event(dg.AssetKey("option_quotes"))
            assert event is not None
            assert event.asset_materialization is not None

            night = defs.resolve_job_def("market_data")
            done = night.execute_in_process(instance=instance, tags=ranged(key, key))
            assert done.success
    harvested = read_receipt(lake, "harvest", "BTC", YESTERDAY.isoformat())
    assert harvested is not None
    assert harvested.counts["snapshots"] == 1
    assert len(read_range(lake, "clean", "BTC", YESTERDAY, YESTERDAY)) >= 0.99 * harvested.counts["rows"]
    assert set(read_series(lake, "prices", "BTC")["kind"].to_pylist()) >= {"index", "perpetual", "delivery"}
    assert read_receipt(lake, "archive", "BTC", YESTERDAY.isoformat()) is not None


def test_a_tick_leaves_the_snapshot_to_the_harvester_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIONS_AGENT_SOURCE", "deribit")
    at = dt.datetime(2026, 11, 16, 0, 15, tzinfo=dt.UTC)
    assert isinstance(tick("harvest_every_15_minutes", at), dg.RunRequest)
    lake = open_lake(load_settings())
    record_event(lake, "deribit", "local", Event(at - dt.timedelta(minutes=14), "alive"))
    skipped = tick("harvest_every_15_minutes", at)
    assert isinstance(skipped, dg.SkipReason)
    assert "is running" in str(skipped.skip_message)
    record_event(lake, "deribit", "local", Event(at - dt.timedelta(minutes=1), "stopped"))
    assert isinstance(tick("harvest_every_15_minutes", at), dg.RunRequest)
