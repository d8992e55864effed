"""The nightly upkeep and the monthly drill as Dagster runs them."""

from __future__ import annotations

import datetime as dt

import dagster as dg
import pyarrow as pa
import pytest

from jobs.storage_jobs import drill_monthly, restore_drill, storage_upkeep, upkeep_nightly
from options_agent.lake.archive import archive_day, open_archive
from options_agent.lake.compaction import is_compacted
from options_agent.lake.manifest import read_manifest
from options_agent.lake.retained import retained_days
from options_agent.lake.store import Lake, open_lake, read_range, write_day, write_snapshot
from options_agent.settings import load_settings
from resources.desk import Desk
from tests.chains import as_clean, as_quarantined, chain_day

pytestmark = pytest.mark.filterwarnings("ignore")
YESTERDAY = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Yesterday and a day forty days ago, raw, judged and archived; raw is kept for 30 days."""
    monkeypatch.setenv("OPTIONS_AGENT_RETENTION__RAW_DAYS", "30")
    settings = load_settings()
    lake = open_lake(settings)
    for day in (YESTERDAY - dt.timedelta(days=40), YESTERDAY):
        tables = chain_day(day, hours=3)
        for table in tables:
            write_snapshot(lake, table)
        rows = pa.concat_tables(tables)
        write_day(lake, "clean", "BTC", day, as_clean(rows.slice(1)))
        write_day(lake, "quarantine", "BTC", day, as_quarantined(rows.slice(0, 1)))
        archive_day(lake, open_archive(settings), "BTC", day)
    return lake


def ran(job: dg.JobDefinition) -> dg.ExecuteInProcessResult:
    return job.execute_in_process(resources={"desk": Desk()}, raise_on_error=False)


def test_upkeep_compacts_what_is_complete_and_deletes_what_is_old_and_proven(lake: Lake) -> None:
    assert ran(storage_upkeep).success
    assert is_compacted(lake, "BTC", YESTERDAY)
    manifest = read_manifest(open_archive(load_settings()).files, "BTC", YESTERDAY)
    assert manifest is not None
    assert [line.lake_path.split("/")[0] for line in manifest.lines] == ["raw", "clean", "quarantine"]
    assert list(retained_days(lake, "BTC")) == [YESTERDAY - dt.timedelta(days=40)]
    assert len(read_range(lake, "clean", "BTC", YESTERDAY - dt.timedelta(days=40), YESTERDAY)) == 2 * 35
    assert ran(storage_upkeep).success, "again does nothing"


def test_upkeep_fails_and_names_the_day_where_the_archive_does_not_prove_it(lake: Lake) -> None:
    files = open_archive(load_settings()).files
    path = next(path for path in files.find("clean") if str(YESTERDAY - dt.timedelta(days=40)) in path)
    files.write(path, files.read(path)[:-1] + b"x")
    assert ran(storage_upkeep).success, "raw is what is due, and raw is proven"
    write_day(lake, "clean", "BTC", YESTERDAY - dt.timedelta(days=41), as_clean(chain_day(YESTERDAY - dt.timedelta(days=41), hours=1)[0]))
    write_snapshot(lake, chain_day(YESTERDAY - dt.timedelta(days=41), hours=2)[1])
    result = ran(storage_upkeep)
    assert not result.success
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert str(YESTERDAY - dt.timedelta(days=41)) in str(failure.event_specific_data)
    assert "not the raw rows" in str(failure.event_specific_data)


def test_the_drill_passes_on_a_good_archive_and_fails_on_a_harmed_one(lake: Lake) -> None:
    assert ran(restore_drill).success
    files = open_archive(load_settings()).files
    files.delete(next(path for path in files.find("quarantine")))
    assert not ran(restore_drill).success
    assert lake.files.find("receipts/drill")


def test_both_are_scheduled_at_quiet_hours() -> None:
    assert (upkeep_nightly.cron_schedule, drill_monthly.cron_schedule) == ("30 3 * * *", "0 4 2 * *")
    assert upkeep_nightly.default_status == drill_monthly.default_status == dg.DefaultScheduleStatus.RUNNING
