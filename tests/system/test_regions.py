"""Three harvesters of one market into one lake, killed at random for an hour of market time: no hole, no duplicate."""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from options_agent.lake.merging import merge_regions
from options_agent.lake.raw import read_raw_day, snapshot_files, sweeps
from options_agent.lake.store import open_lake, read_range
from options_agent.quality.judge import judge_day
from options_agent.settings import load_settings
from tests.servers.exchange import running_box

START = dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC)
DAY = START.date()
SPEED = 60.0
INTERVAL = dt.timedelta(minutes=5)
REGIONS = ("ams", "fra", "sgp")


@pytest.mark.slow
def test_three_regions_with_random_kills_leave_no_hole_and_no_duplicate(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPTIONS_AGENT_")}
    environment |= {
        "OPTIONS_AGENT_HOME": str(tmp_path / "home"),
        "OPTIONS_AGENT_UNDERLYINGS": '["BTC"]',
        "OPTIONS_AGENT_LIVE_INTERVAL_MINUTES": "5",
    }
    log = (tmp_path / "harvesters.log").open("ab")

    def started(region: str) -> subprocess.Popen[bytes]:
        script = str(Path(sys.executable).with_name("options-agent"))
        return subprocess.Popen(
            [script, "harvest", "--network", "synthetic", "--region", region, "--quiet"], env=environment, stdout=log, stderr=log
        )

    settings = load_settings(home=tmp_path / "home", source="deribit", underlyings=("BTC",), _env_file=None)
    lake, dice, kills = open_lake(settings), random.Random(11), Counter[str]()
    with running_box(tmp_path, speed=SPEED, start=START, settings={"EXCHANGE__EVERY_SECONDS": "60"}, underlyings=("BTC",)) as box:
        environment["OPTIONS_AGENT_EXCHANGE__PORT"] = str(box.port)
        running = {region: started(region) for region in REGIONS}
        deadline = time.monotonic() + 90
        while len({file.region for file in snapshot_files(lake, "BTC", DAY)}) < 3:
            assert time.monotonic() < deadline, Path(log.name).read_text()
            time.sleep(0.2)
        began = time.monotonic()
        while time.monotonic() - began < 3_600 / SPEED:
            time.sleep(dice.uniform(4.0, 7.0))
            victim = dice.choice(REGIONS)
            running[victim].send_signal(signal.SIGKILL)
            running[victim].wait()
            kills[victim] += 1
            running[victim] = started(victim)  # it takes some seconds to come back: an interval or two of its own are lost
        alive = Counter(file.region for file in snapshot_files(lake, "BTC", DAY))
        deadline = time.monotonic() + 60
        while any(count <= alive[region] for region, count in Counter(f.region for f in snapshot_files(lake, "BTC", DAY)).items()):
            assert time.monotonic() < deadline, "a region did not come back"
            time.sleep(0.2)
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        assert [process.wait(30) for process in running.values()] == [0, 0, 0]
        assert box.stats()["refused"] == 0

    files = snapshot_files(lake, "BTC", DAY)
    times = sorted({file.snapshot for file in files})
    assert sum(kills.values()) >= 8
    assert len(times) >= 12
    assert times == [times[0] + n * INTERVAL for n in range(len(times))], "a hole that no region filled"
    assert len({(file.snapshot, file.region) for file in files}) == len(files)
    own = Counter(file.region for file in files)
    assert min(own.values()) < len(times), "the kills cost each region something of its own"

    raw = read_raw_day(lake, "BTC", DAY)
    merged = merge_regions(raw)
    keys = list(zip(merged["snapshot"].to_pylist(), merged["instrument"].to_pylist(), strict=True))
    assert len(keys) == len(set(keys))
    complete = {note.snapshot for note in sweeps(lake, "BTC", DAY) if note.complete}
    assert complete == set(times)
    listed = {note.snapshot: note.note["expected"] for note in sweeps(lake, "BTC", DAY) if note.complete}
    assert Counter(at for at, _ in keys) == Counter(listed)

    judge_day(lake, "BTC", DAY, settings=settings)
    clean = read_range(lake, "clean", "BTC", DAY, DAY)
    again = list(zip(clean["snapshot"].to_pylist(), clean["instrument"].to_pylist(), strict=True))
    assert len(again) == len(set(again))
    assert len(again) >= 0.99 * len(keys)
