"""The harvest: idempotent, restartable, one network to a lake, and it grows a live day."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from options_agent.errors import DataError
from options_agent.lake.raw import read_raw_day, snapshot_files
from options_agent.lake.receipts import read_receipt
from options_agent.lake.store import Lake, open_lake, read_series
from options_agent.market.harvest import harvest_day, harvest_latest
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.settings import SyntheticSettings, load_settings
from tests.conftest import REPOSITORY

DAY = dt.date(2026, 3, 2)


def _lake(folder: Path) -> Lake:
    return open_lake(load_settings(home=folder, _env_file=None))


def _tree(folder: Path) -> dict[str, str]:
    files = (f for f in sorted(folder.rglob("*")) if f.is_file() and "receipts" not in f.parts)
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_a_day_is_harvested_whole_and_once(tmp_path: Path) -> None:
    lake, source = _lake(tmp_path), SyntheticSource(SyntheticSettings())
    receipt = harvest_day(source, lake, "BTC", DAY)
    lost = len(source.lost_snapshots("BTC", *(dt.datetime.combine(DAY + dt.timedelta(days=n), dt.time(), tzinfo=dt.UTC) for n in (0, 1))))
    assert receipt.counts["snapshots"] == 24 - lost
    assert receipt.counts["rows"] == read_raw_day(lake, "BTC", DAY).num_rows
    assert read_series(lake, "prices", "BTC").num_rows == receipt.counts["prices"] == 288
    before = _tree(tmp_path)
    assert harvest_day(source, lake, "BTC", DAY) == receipt
    assert _tree(tmp_path) == before


def test_a_harvest_killed_at_any_point_ends_in_the_same_state_when_run_again(tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    harvest_day(SyntheticSource(SyntheticSettings()), _lake(clean), "BTC", DAY)
    want = _tree(clean)
    script = (
        "import sys, datetime as dt\n"
        "from options_agent.market.harvest import harvest_day\n"
        "from options_agent.market.sources import open_source\n"
        "from options_agent.lake.store import open_lake\n"
        "from options_agent.settings import load_settings\n"
        "s = load_settings(home=sys.argv[1], _env_file=None)\n"
        "source = open_source(s); list(source.snapshots('BTC', *(dt.datetime(2026, 3, 2, h, tzinfo=dt.UTC) for h in (0, 1))))\n"
        "print('ready', flush=True)\n"
        "harvest_day(source, open_lake(s), 'BTC', dt.date(2026, 3, 2))\n"
    )
    chance = random.Random(3)
    home = tmp_path / "killed"
    for _ in range(3):
        worker = subprocess.Popen([sys.executable, "-c", script, str(home)], cwd=REPOSITORY, stdout=subprocess.PIPE, env=os.environ.copy())
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.25))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        worker.stdout.close()
    harvest_day(SyntheticSource(SyntheticSettings()), _lake(home), "BTC", DAY)
    visible = {name: digest for name, digest in _tree(home).items() if not Path(name).name.startswith(".")}
    assert visible == want


def test_the_live_harvest_adds_a_snapshot_and_a_rerun_adds_none(tmp_path: Path) -> None:
    lake, source = _lake(tmp_path), SyntheticSource(SyntheticSettings())
    now = dt.datetime(2026, 3, 2, 10, 20, tzinfo=dt.UTC)
    first = harvest_latest(source, lake, "BTC", now=now)
    again = harvest_latest(source, lake, "BTC", now=now)
    later = harvest_latest(source, lake, "BTC", now=now + dt.timedelta(minutes=15))
    assert first is not None
    assert again is not None
    assert later is not None
    assert first.counts == again.counts
    assert later.counts["snapshots"] == 2
    assert [f.snapshot.minute for f in snapshot_files(lake, "BTC", DAY)] == [15, 30]
    receipt = read_receipt(lake, "harvest", "BTC", DAY.isoformat())
    assert receipt is not None
    assert receipt.counts["rows"] == read_raw_day(lake, "BTC", DAY).num_rows


def test_nothing_of_the_future_is_harvested(tmp_path: Path) -> None:
    lake, source = _lake(tmp_path), SyntheticSource(SyntheticSettings(outage_rate=0))
    now = dt.datetime(2026, 3, 2, 5, 30, tzinfo=dt.UTC)
    assert harvest_day(source, lake, "BTC", DAY, now=now).counts["snapshots"] == 6
    assert harvest_day(source, lake, "BTC", DAY, now=now + dt.timedelta(hours=2)).counts["snapshots"] == 8


def test_a_day_harvested_live_and_then_whole_counts_every_snapshot_once(tmp_path: Path) -> None:
    lake, source = _lake(tmp_path), SyntheticSource(SyntheticSettings(outage_rate=0))
    for minutes in (0, 15, 30):
        harvest_latest(source, lake, "BTC", now=dt.datetime(2026, 3, 2, 10, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=minutes))
    receipt = harvest_day(source, lake, "BTC", DAY)
    assert receipt.counts["snapshots"] == 24 + 2
    assert receipt.counts["rows"] == read_raw_day(lake, "BTC", DAY).num_rows
    assert receipt.counts["bytes"] == sum(f.bytes for f in snapshot_files(lake, "BTC", DAY))
    before = _tree(tmp_path)
    assert harvest_day(source, lake, "BTC", DAY) == receipt
    assert _tree(tmp_path) == before


def test_a_source_that_tells_its_history_otherwise_is_believed(tmp_path: Path) -> None:
    lake = _lake(tmp_path / "lake")
    former, other = (SyntheticSource(SyntheticSettings(seed=seed, outage_rate=0)) for seed in (1, 2))
    harvest_day(former, lake, "BTC", DAY)
    harvest_day(other, lake, "BTC", DAY)
    fresh = _lake(tmp_path / "fresh")
    harvest_day(other, fresh, "BTC", DAY)
    assert _tree(tmp_path / "lake") == _tree(tmp_path / "fresh")


def test_networks_never_mix(tmp_path: Path) -> None:
    lake = open_lake(load_settings(home=tmp_path, network="mainnet", source="recorded", _env_file=None))
    with pytest.raises(DataError, match="never mix"):
        harvest_day(SyntheticSource(SyntheticSettings()), lake, "BTC", DAY)
