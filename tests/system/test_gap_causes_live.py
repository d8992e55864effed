"""Gaps of a real harvest from the box: what the harvester noted becomes the cause of what is missing, and nothing else is told."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

from options_agent.lake.store import open_lake
from options_agent.quality.freshness import freshness
from options_agent.quality.gap_report import all_gaps
from options_agent.quality.gaps import SCHEDULED
from tests.servers.exchange import running_box
from tests.system.test_live_harvest import CALM, DAY, START, desk, harvested


def test_maintenance_and_a_stopped_harvester_are_told_apart(tmp_path: Path) -> None:
    assert "deribit" in SCHEDULED
    with running_box(tmp_path, speed=240, start=START, settings=CALM) as box:
        settings = desk(tmp_path, box, underlyings=("BTC",))

        async def two_runs() -> None:
            stop = asyncio.Event()
            first = asyncio.create_task(harvested(settings, stop=stop))
            await asyncio.sleep(8)
            await asyncio.to_thread(box.fault, maintenance=True)
            await asyncio.sleep(9)
            await asyncio.to_thread(box.fault, maintenance=False)
            await asyncio.sleep(9)
            stop.set()
            await first
            await asyncio.sleep(9)  # two grid times and more in which nobody harvests
            stop = asyncio.Event()
            second = asyncio.create_task(harvested(settings, stop=stop))
            await asyncio.sleep(8)
            stop.set()
            await second

        asyncio.run(two_runs())
    lake = open_lake(settings)
    found = all_gaps(lake, "BTC", DAY, DAY, settings=settings).to_pylist()
    intervals = [gap for gap in found if gap["kind"] == "interval"]
    causes = [gap["cause"] for gap in intervals]
    assert {"maintenance", "our outage"} <= set(causes)
    assert "unknown" not in causes, "the harvester notes why, whatever it was"
    assert causes[-1] == "our outage"
    (one, together) = freshness(lake, settings, intervals[-1]["closed_at"] + dt.timedelta(minutes=1))
    assert (one.state, together.state, one.region) == ("fresh", "fresh", settings.region)
