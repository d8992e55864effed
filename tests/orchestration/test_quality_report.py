"""Freshness, regions and the day's report in the orchestrator: checks evaluated with the harvest, a page in the asset's metadata."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_project.definitions import defs
from jobs.desk_jobs import LATEST, ranged
from options_agent.alerts.notify import is_open
from options_agent.lake.events import Event, record_event
from options_agent.lake.store import open_lake, write_snapshot
from options_agent.settings import load_settings
from sensors.alarms import harvest_gap
from tests.chains import chain
from tests.orchestration.test_schedules import tick

QUARTER = dt.timedelta(minutes=15)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("OPTIONS_AGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPTIONS_AGENT_UNDERLYINGS", '["BTC"]')
    return load_settings()


@pytest.fixture
def instance(tmp_path: Path) -> Any:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def checks(done: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {evaluation.check_name: evaluation for evaluation in done.get_asset_check_evaluations()}


def test_the_live_harvest_says_that_quotes_are_fresh_and_regions_agree(settings, instance) -> None:
    key = f"{dt.datetime.now(dt.UTC).date()}|BTC"
    done = defs.resolve_job_def("live_harvest").execute_in_process(instance=instance, run_config=LATEST, tags=ranged(key, key))
    assert done.success
    found = checks(done)
    assert found["quotes_are_fresh"].passed
    assert found["quotes_are_fresh"].metadata["worst"].value == "fresh"
    rows = found["quotes_are_fresh"].metadata["freshness"].records  # type: ignore[attr-defined]
    assert [(row.data["region"], row.data["state"]) for row in rows] == [("local", "fresh"), ("any", "fresh")]
    assert found["regions_agree"].passed


def test_a_region_that_lacks_snapshots_warns_and_opens_an_alert(settings, instance) -> None:
    lake, now = open_lake(settings), dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)
    base = now - dt.timedelta(minutes=now.minute % 15)
    for n in range(1, 8):
        write_snapshot(lake, chain(base - n * QUARTER, contracts=4, region="eu1"))
        if n not in {2, 3}:
            write_snapshot(lake, chain(base - n * QUARTER, contracts=4, region="us1"))
    key = f"{now.date()}|BTC"
    done = defs.resolve_job_def("live_harvest").execute_in_process(instance=instance, run_config=LATEST, tags=ranged(key, key))
    assert done.success, "a warning fails no run"
    found = checks(done)["regions_agree"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert any("us1 lacks" in str(entry.value) for entry in found.metadata.values())
    assert is_open("regions/BTC/synthetic", settings)


def test_the_report_of_a_day_is_in_the_assets_metadata(settings, instance) -> None:
    yesterday = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    request = tick("quality_report_daily", dt.datetime.combine(yesterday + dt.timedelta(days=1), dt.time(1), dt.UTC))
    assert isinstance(request, dg.RunRequest)
    key = f"{yesterday}|BTC"
    for job in ("market_data", "quality_reports"):
        assert defs.resolve_job_def(job).execute_in_process(instance=instance, tags=ranged(key, key)).success
    event = instance.get_latest_materialization_event(dg.AssetKey("quality_report"))
    assert event is not None
    assert event.asset_materialization is not None
    told = event.asset_materialization.metadata
    assert Path(str(told["page"].value)).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "data:image/svg+xml;base64," in str(told["coverage"].value)
    assert told["rows_in"].value == told["clean"].value + told["quarantined"].value  # type: ignore[operator]


def test_what_a_long_running_harvester_wrote_is_told_to_the_asset_once(settings, instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIONS_AGENT_SOURCE", "deribit")
    live, now = load_settings(), dt.datetime.now(dt.UTC)
    lake, at = open_lake(live), now.replace(second=0, microsecond=0) - dt.timedelta(minutes=now.minute % 15)
    write_snapshot(lake, chain(at, contracts=4, source="deribit"))
    quiet = harvest_gap(dg.build_sensor_context(instance=instance))
    assert isinstance(quiet, dg.SkipReason), "nobody runs beside the orchestrator"
    record_event(lake, "deribit", "local", Event(now, "alive"))
    told = harvest_gap(dg.build_sensor_context(instance=instance))
    assert isinstance(told, dg.SensorResult)
    (event,) = told.asset_events
    assert (event.asset_key, event.partition) == (dg.AssetKey("option_quotes"), f"{at.date()}|BTC")
    again = harvest_gap(dg.build_sensor_context(instance=instance, cursor=told.cursor))
    assert isinstance(again, dg.SkipReason)
