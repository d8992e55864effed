"""A day from the vendor into the lake: whole, once, resumable, beside what others wrote."""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pytest

from options_agent.errors import DataError, SettingsError
from options_agent.lake.raw import read_raw_day, snapshot_files
from options_agent.lake.receipts import Receipt, read_receipt, write_receipt
from options_agent.lake.store import open_lake, read_series, write_series
from options_agent.market.harvest import harvest_day, harvest_fingerprint
from options_agent.market.sources import open_source
from options_agent.market.tardis.backfill import backfill_day, cache_folder, is_done
from options_agent.market.tardis.days import backfill_days, days_between
from options_agent.series import PRICE_SCHEMA
from options_agent.settings import load_settings
from tests.conftest import REPOSITORY
from tests.servers.tardis_files import CHAIN_HEADER, GOLDEN
from tests.unit.market.tardis.worlds import FREE, HOUR, desk, midnight, publish, quotes_of, tree

if TYPE_CHECKING:
    from pathlib import Path

    from options_agent.lake.store import Lake
    from tests.servers.tardis import Vendor

SECOND = FREE + dt.timedelta(days=1)
CHAIN_PATH = f"/v1/deribit/options_chain/{FREE:%Y/%m/%d}/OPTIONS.csv.gz"


def test_a_day_is_written_for_every_family_from_one_file(tmp_path: Path, tardis: Vendor) -> None:
    quotes = publish(tardis, FREE)
    settings = desk(tmp_path, tardis)
    lake = open_lake(settings)
    receipts = backfill_day(settings, lake, FREE)
    assert tardis.asked[CHAIN_PATH] == 1
    for family in ("BTC", "ETH"):
        counts = receipts[family].counts
        written = pa.concat_tables([read_raw_day(lake, family, FREE), read_raw_day(lake, family, SECOND)])
        assert counts["rows"] == len(written) == len(quotes[family])
        hours = sorted({stamp.as_py() for stamp in written["snapshot"].unique()})
        assert hours == [midnight(FREE) + n * HOUR for n in range(1, 25)]
        assert (counts["snapshots"], counts["bytes"] > 0) == (24, True)
        assert set(written["region"].to_pylist()) == {"eu"}
        prices = read_series(lake, "prices", family)
        assert len(prices) == counts["prices"] > 0
        assert set(prices["kind"].to_pylist()) == {"index", "perpetual"}
        assert len(read_series(lake, "funding", family)) == counts["funding"] > 0
        trades = read_series(lake, "trades", family)
        assert len(trades) == counts["trades"] > 0
        assert set(trades["underlying"].to_pylist()) == {family}
    assert not cache_folder(settings, FREE).exists()


def test_a_day_done_is_not_fetched_again_until_asked_or_the_grid_changes(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE)
    settings = desk(tmp_path, tardis)
    lake = open_lake(settings)
    receipts, before = backfill_day(settings, lake, FREE), tree(tmp_path / "lake")
    assert backfill_day(settings, lake, FREE) == receipts
    assert tardis.asked[CHAIN_PATH] == 1
    backfill_day(settings, lake, FREE, again=True)
    assert tardis.asked[CHAIN_PATH] == 2
    assert tree(tmp_path / "lake") == before
    finer = desk(tmp_path, tardis, interval_minutes=30)
    assert backfill_day(finer, lake, FREE)["BTC"].counts["snapshots"] > 24
    lost = next((tmp_path / "lake").rglob("*T120000Z-tardis-eu.parquet"))
    lost.unlink()
    assert is_done(finer, lake, "ETH" if "underlying=ETH" in str(lost) else "BTC", FREE) is None


def test_one_family_later_costs_another_pass_and_leaves_the_first_alone(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE)
    settings = desk(tmp_path, tardis)
    lake = open_lake(settings)
    first = backfill_day(settings, lake, FREE, ["BTC"])
    assert backfill_day(settings, lake, FREE, ["BTC", "ETH"])["BTC"] == first["BTC"]


def test_rows_of_other_sources_stay(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE)
    settings = desk(tmp_path, tardis)
    lake = open_lake(settings)
    bar = {"ts": [midnight(SECOND)], "underlying": ["BTC"], "price": [9.0], "kind": ["spot"], "source": ["other"]}
    write_series(lake, "prices", "BTC", FREE, pa.table(bar, schema=PRICE_SCHEMA))
    backfill_day(settings, lake, FREE)
    backfill_day(settings, lake, FREE, again=True)
    assert read_series(lake, "prices", "BTC").filter(pa.compute.field("source") == "other")["price"].to_pylist() == [9.0]


def _send_to_archive(lake: Lake, family: str, day: dt.date) -> None:
    """What retention leaves of a raw day: its receipt, and nothing in the folder."""
    files = snapshot_files(lake, family, day)
    snapshots = [[file.snapshot.isoformat(), file.source, file.region] for file in files]
    details = {"layers": ["raw"], "snapshots": snapshots, "sweeps": [], "archive": "", "manifest": ""}
    write_receipt(lake, Receipt("retention", family, day.isoformat(), "", {}, (), details))
    for file in files:
        lake.files.delete(file.path)


def test_a_day_that_was_archived_and_deleted_is_done_and_stays_whole(tmp_path: Path, tardis: Vendor) -> None:
    for day in (FREE, SECOND):
        publish(tardis, day, ["BTC"], hours=24)
    settings = desk(tmp_path, tardis, underlyings=("BTC",))
    lake = open_lake(settings)
    receipt = backfill_day(settings, lake, SECOND)["BTC"]
    _send_to_archive(lake, "BTC", SECOND)
    assert is_done(settings, lake, "BTC", SECOND) == receipt
    with pytest.raises(DataError, match="lies in the archive only"):
        backfill_day(settings, lake, SECOND, again=True)
    before = backfill_day(settings, lake, FREE)["BTC"]  # its last midnight is of the archived day
    assert (before.counts["snapshots"], "of an archived day" in before.details["left_out"]) == (23, True)
    assert snapshot_files(lake, "BTC", SECOND) == []


def test_the_source_tardis_harvests_the_same(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE)
    want, settings = desk(tmp_path / "want", tardis), desk(tmp_path / "home", tardis)
    backfill_day(want, open_lake(want), FREE)
    source, lake = open_source(settings), open_lake(settings)
    asked = tardis.asked[CHAIN_PATH]
    for family in settings.underlyings:
        receipt = harvest_day(source, lake, family, FREE)
        assert (receipt.counts["snapshots"], receipt.fingerprint) == (24, harvest_fingerprint(source, family, FREE))
    assert tardis.asked[CHAIN_PATH] == asked + 1
    assert tree(settings.home / "lake") == tree(want.home / "lake")
    told = pa.concat_tables(source.snapshots("BTC", midnight(FREE), midnight(SECOND)))
    assert told.equals(read_raw_day(lake, "BTC", FREE))
    assert len(source.prices("BTC", midnight(FREE), midnight(SECOND))) == len(read_series(lake, "prices", "BTC"))


def test_the_vendors_history_is_of_mainnet_only(tmp_path: Path, tardis: Vendor) -> None:
    with pytest.raises(SettingsError, match="mainnet"):
        open_source(desk(tmp_path, tardis, network="testnet"))


# -- many days -------------------------------------------------------------------------------------------------------
def test_days_run_in_parallel_up_to_the_limit(tmp_path: Path, tardis: Vendor) -> None:
    days = days_between(FREE, FREE + dt.timedelta(days=3))
    for day in days:
        publish(tardis, day, ["BTC"], hours=2)
    both = threading.Barrier(2, timeout=20)

    def meet(path: str) -> None:
        if "options_chain" in path:
            both.wait()  # two chains are asked for at the same time, or this breaks

    tardis.before_answer = meet
    settings = desk(tmp_path, tardis, underlyings=("BTC",), tardis={"parallel_days": 2})
    reports = backfill_days(settings, open_lake(settings), days)
    assert [report.state for report in reports] == ["done"] * 4
    assert tardis.most_at_once == 2


def test_two_processes_at_one_day_fetch_it_once(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE, ["BTC"])
    settings = desk(tmp_path, tardis, underlyings=("BTC",))
    lake = open_lake(settings)
    threads = [threading.Thread(target=backfill_day, args=(settings, lake, FREE)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert tardis.asked[CHAIN_PATH] == 1
    assert is_done(settings, lake, "BTC", FREE) is not None


_BACKFILL = """
import sys, datetime as dt
from options_agent.lake.store import open_lake
from options_agent.market.tardis.backfill import backfill_day
from options_agent.settings import load_settings
settings = load_settings(home=sys.argv[1], network="mainnet", source="tardis", region="eu", underlyings=("BTC",), _env_file=None,
                         tardis={"endpoint": sys.argv[2]})
print("ready", flush=True)
backfill_day(settings, open_lake(settings), dt.date(2026, 3, 1))
"""


def test_killed_at_any_point_the_next_run_ends_in_the_same_state(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE, ["BTC"])
    whole = desk(tmp_path / "whole", tardis, underlyings=("BTC",), tardis={"api_key": None})
    started = time.monotonic()
    backfill_day(whole, open_lake(whole), FREE)
    took = time.monotonic() - started
    want = tree(whole.home / "lake")
    dice, home = random.Random(7), tmp_path / "home"
    settings = desk(home, tardis, underlyings=("BTC",), tardis={"api_key": None})
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", _BACKFILL, str(home), f"{tardis.url}/v1"], cwd=REPOSITORY, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(dice.uniform(0, took * 1.5))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        receipt = read_receipt(open_lake(settings), "harvest", "BTC", FREE.isoformat())
        assert receipt is None or receipt.counts["snapshots"] == 24
    lake = open_lake(settings)
    assert backfill_day(settings, lake, FREE)["BTC"].counts["snapshots"] == 24
    assert {name: sha for name, sha in tree(home / "lake").items() if name.endswith(".parquet")} == want
    assert not cache_folder(settings, FREE).exists()


def test_trades_and_prices_are_stamped_with_their_arrival(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE, ["BTC"])
    settings = desk(tmp_path, tardis, underlyings=("BTC",))
    lake = open_lake(settings)
    backfill_day(settings, lake, FREE)
    trades = pl.DataFrame(pl.from_arrow(read_series(lake, "trades", "BTC")))
    assert (trades["ts"] > trades["traded"]).all()
    assert set(trades["instrument"]) <= set(pl.DataFrame(pl.from_arrow(quotes_of(FREE, "BTC")))["instrument"])
    assert trades["iv"].null_count() == trades.height
    prices = pl.DataFrame(pl.from_arrow(read_series(lake, "prices", "BTC"))).filter(kind="index")
    assert prices.group_by(pl.col("ts").dt.truncate("1m")).len()["len"].max() == 1


def test_a_row_of_the_vendor_as_published(tmp_path: Path, tardis: Vendor) -> None:
    """The published header and row go through the whole way, in June 2020, of a Monday that is not free."""
    day = dt.date(2020, 6, 8)
    tardis.put("options_chain", day, "OPTIONS", f"{CHAIN_HEADER}\n{GOLDEN}\n")
    settings = desk(tmp_path, tardis, underlyings=("BTC",))
    lake = open_lake(settings)
    backfill_day(settings, lake, day)
    (file,) = snapshot_files(lake, "BTC", day)
    assert (file.source, file.snapshot) == ("tardis", midnight(day) + HOUR)
    assert load_settings(home=tmp_path, _env_file=None).tardis.api_key is None
