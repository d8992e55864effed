"""A backfill by partition: the market data job with source tardis fetches each day once and fills the lake of mainnet."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from options_agent.lake.receipts import receipts
from options_agent.lake.store import open_lake
from tests.orchestration.desks import desk_at
from tests.orchestration.test_pipeline import materialized
from tests.servers.tardis import vendor
from tests.unit.market.tardis.worlds import FREE, publish

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SECOND = FREE + dt.timedelta(days=1)
_JOB = f"""
import dagster as dg
from dagster_project.definitions import defs
from jobs.desk_jobs import ranged
with dg.DagsterInstance.get() as instance:
    job = defs.resolve_job_def("market_data")
    done = job.execute_in_process(instance=instance, tags=ranged("{FREE}|BTC", "{SECOND}|ETH"), raise_on_error=False)
    failed = [str(event.event_specific_data.error.message) for event in done.all_events if event.is_step_failure]
    print(done.success, *failed)
"""


def test_a_range_of_days_is_one_run_and_one_download_a_day(tmp_path: Path) -> None:
    with vendor() as tardis:
        for day in (FREE, SECOND):
            publish(tardis, day, hours=3)
        desk = desk_at(
            tmp_path / "home", network="mainnet", source="tardis", tardis=tardis.settings, region="eu", underlyings=("BTC", "ETH")
        )
        assert desk.python(_JOB).splitlines()[-1] == "True"
        assert {count for path, count in tardis.asked.items() if "options_chain" in path} == {1}
        lake = open_lake(desk.settings)
        keys = {f"{day}|{family}" for day in (FREE, SECOND) for family in ("BTC", "ETH")}
        assert {f"{r.partition}|{r.underlying}" for r in receipts(lake, "harvest")} == keys
        with desk.instance() as instance:
            for asset in ("option_quotes", "clean_quotes", "archived_quotes"):
                assert materialized(instance, asset).keys() == keys
            rows = {key: found.metadata["rows"].value for key, found in materialized(instance, "option_quotes").items()}
        assert rows == {f"{r.partition}|{r.underlying}": r.counts["rows"] for r in receipts(lake, "harvest")}
        assert desk.python(_JOB).splitlines()[-1] == "True"  # and again: nothing is fetched
        assert {count for path, count in tardis.asked.items() if "options_chain" in path} == {1}


def test_a_day_that_needs_a_key_fails_its_partition_with_the_remedy(tmp_path: Path) -> None:
    with vendor() as tardis:
        publish(tardis, FREE, ["BTC"], hours=3)
        group = {"endpoint": f"{tardis.url}/v1"}
        desk = desk_at(tmp_path / "home", network="mainnet", source="tardis", tardis=group, underlyings=("BTC", "ETH"))
        said = desk.python(_JOB).splitlines()[-1]
        assert said.startswith("False")
        assert f"harvest {SECOND}|BTC" in said
        assert "2 partitions are done" in said
        assert "OPTIONS_AGENT_TARDIS__API_KEY" in said
        assert {r.partition for r in receipts(open_lake(desk.settings), "harvest")} == {FREE.isoformat()}


def test_a_day_the_vendor_lacks_fails_its_partitions_only(tmp_path: Path) -> None:
    third = FREE + dt.timedelta(days=2)
    with vendor() as tardis:
        for day in (FREE, third):
            publish(tardis, day, ["BTC"], hours=3)
        desk = desk_at(tmp_path / "home", network="mainnet", source="tardis", tardis=tardis.settings, region="eu", underlyings=("BTC",))
        said = desk.python(_JOB.replace(f"{SECOND}|ETH", f"{third}|BTC")).splitlines()[-1]
        assert said.startswith("False")
        assert f"harvest {SECOND}|BTC" in said
        assert "the vendor has no options_chain" in said
        with desk.instance() as instance:
            assert materialized(instance, "option_quotes").keys() == {f"{FREE}|BTC", f"{third}|BTC"}
