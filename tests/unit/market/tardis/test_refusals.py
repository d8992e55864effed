"""Every refusal of the vendor, and every fault of its files or of the disk, by its name: and half a day is never done."""

from __future__ import annotations

import datetime as dt
import gzip
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from options_agent.errors import ExchangeError, StorageError
from options_agent.lake.receipts import read_receipt
from options_agent.lake.store import open_lake
from options_agent.market.tardis.backfill import backfill_day, cache_folder, is_done
from options_agent.market.tardis.days import backfill_days, days_between
from options_agent.market.tardis.fetch import KeyNeededError, NoDataError
from options_agent.market.tardis.header import ChangedHeaderError, DamagedFileError
from tests.conftest import REPOSITORY
from tests.unit.market.tardis.worlds import FREE, HOUR, desk, midnight, publish, tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.tardis import Vendor

SECOND = FREE + dt.timedelta(days=1)
CHAIN_PATH = f"/v1/deribit/options_chain/{FREE:%Y/%m/%d}/OPTIONS.csv.gz"


# -- what the vendor refuses -----------------------------------------------------------------------------------------
def test_without_a_key_only_the_first_day_of_a_month_is_tried(tmp_path: Path, tardis: Vendor) -> None:
    for day in (FREE, SECOND):
        publish(tardis, day, ["BTC"])
    settings = desk(tmp_path, tardis, tardis={"api_key": None}, underlyings=("BTC",))
    reports = backfill_days(settings, open_lake(settings), [FREE, SECOND])
    assert [report.state for report in reports] == ["done", "no key"]
    assert "OPTIONS_AGENT_TARDIS__API_KEY" in reports[1].remedy
    assert not any(f"{SECOND:%Y/%m/%d}" in path for path in tardis.asked)
    with pytest.raises(KeyNeededError, match="first day of each month only"):
        backfill_day(settings, open_lake(settings), SECOND)


def test_the_key_is_sent_from_the_settings_and_shown_nowhere(tmp_path: Path, tardis: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TARDIS_API_KEY", "of-the-machine")
    publish(tardis, SECOND, ["BTC"])
    settings = desk(tmp_path, tardis, underlyings=("BTC",))
    (report,) = backfill_days(settings, open_lake(settings), [SECOND])
    assert report.state == "done"
    assert {headers["Authorization"] for headers in tardis.headers} == {"Bearer key-of-the-test"}
    assert "key-of-the-test" not in repr(settings) + repr(report)


def test_a_wrong_key_ends_the_work_at_once(tmp_path: Path, tardis: Vendor) -> None:
    settings = desk(tmp_path, tardis, tardis={"api_key": "wrong", "parallel_days": 1})
    reports = backfill_days(settings, open_lake(settings), days_between(FREE, FREE + dt.timedelta(days=9)))
    assert [report.state for report in reports] == ["failed"] + ["not tried"] * 9
    assert "refused the key" in reports[0].why
    assert "HTTP 401 Unauthorized" in reports[0].why
    assert sum(tardis.asked.values()) == 1


def test_a_day_the_vendor_does_not_have_leaves_the_others_be(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, SECOND, ["BTC"])
    settings = desk(tmp_path, tardis, underlyings=("BTC",))
    lake = open_lake(settings)
    reports = backfill_days(settings, lake, [FREE, SECOND])
    assert [report.state for report in reports] == ["not published", "done"]
    assert read_receipt(lake, "harvest", "BTC", FREE.isoformat()) is None


def test_an_empty_day_is_receipted_as_no_data(tmp_path: Path, tardis: Vendor) -> None:
    tardis.put("options_chain", FREE, "OPTIONS", "")
    settings = desk(tmp_path, tardis)
    lake = open_lake(settings)
    for _ in range(2):
        (report,) = backfill_days(settings, lake, [FREE])
        assert (report.receipts["BTC"].details["state"], report.rows) == ("no data", 0)
    assert tardis.asked[CHAIN_PATH] == 1


def test_a_family_the_file_lacks_is_said(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE, ["BTC"])
    settings = desk(tmp_path, tardis, underlyings=("BTC", "SOL_USDC"))
    (report,) = backfill_days(settings, open_lake(settings), [FREE])
    assert report.state == "done"
    assert "no options of SOL_USDC" in report.why
    assert "no derivative_ticker SOL_USDC-PERPETUAL" in report.why


def test_a_recent_day_published_in_part_is_not_done(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE)
    del tardis.files["trades", FREE, "OPTIONS"]
    settings = desk(tmp_path, tardis)
    lake = open_lake(settings)
    with pytest.raises(NoDataError, match="not published all"):
        backfill_day(settings, lake, FREE, now=midnight(SECOND) + 6 * HOUR)
    assert is_done(settings, lake, "BTC", FREE) is None
    assert backfill_day(settings, lake, FREE)["BTC"].details["missing"] == ["trades OPTIONS"]


def test_a_changed_header_has_no_receipt_and_says_what_changed(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE)
    chain = gzip.decompress(tardis.files["options_chain", FREE, "OPTIONS"]).decode()
    tardis.put("options_chain", FREE, "OPTIONS", chain.replace("mark_iv", "mark_vol", 1))
    settings = desk(tmp_path, tardis)
    lake = open_lake(settings)
    with pytest.raises(ChangedHeaderError, match="mark_iv"):
        backfill_day(settings, lake, FREE)
    (report,) = backfill_days(settings, lake, [FREE])
    assert (report.state, read_receipt(lake, "harvest", "BTC", FREE.isoformat())) == ("changed header", None)


# -- what passes, and what does not ----------------------------------------------------------------------------------
def test_a_file_that_came_truncated_is_fetched_once_more(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE, ["BTC"])
    tardis.faults.torn = 1
    settings = desk(tmp_path, tardis, underlyings=("BTC",))
    receipt = backfill_day(settings, open_lake(settings), FREE)["BTC"]
    assert (receipt.counts["snapshots"], tardis.served[CHAIN_PATH]) == (24, 2)


def test_half_a_day_never_has_a_receipt(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE, ["BTC"])
    whole = desk(tmp_path / "whole", tardis, underlyings=("BTC",))
    backfill_day(whole, open_lake(whole), FREE)
    tardis.faults.torn = 2
    settings = desk(tmp_path / "home", tardis, underlyings=("BTC",))
    lake = open_lake(settings)
    with pytest.raises(DamagedFileError, match="truncated or corrupt after"):
        backfill_day(settings, lake, FREE)
    assert read_receipt(lake, "harvest", "BTC", FREE.isoformat()) is None
    assert not list(cache_folder(settings, FREE).glob("*.gz*"))
    backfill_day(settings, lake, FREE)
    assert tree(settings.home / "lake") == tree(whole.home / "lake")


def test_a_busy_vendor_is_waited_for_and_a_lost_connection_retried(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE, ["BTC"])
    tardis.faults.busy, tardis.faults.cut = 2, 1
    said: set[str] = set()
    settings = desk(tmp_path, tardis, underlyings=("BTC",))
    backfill_day(settings, open_lake(settings), FREE, told=lambda progress: said.add(progress.doing))
    assert any("HTTP 429 Too many requests" in doing for doing in said)


def test_a_used_up_quota_is_not_waited_for(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE)
    tardis.faults.busy, tardis.faults.retry_after = 100, "3600"
    settings = desk(tmp_path, tardis)
    with pytest.raises(ExchangeError, match="quota is used up for 3600 s"):
        backfill_day(settings, open_lake(settings), FREE)
    assert tardis.asked[CHAIN_PATH] == 1


def test_a_download_that_stands_still_is_given_up(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE)
    tardis.faults.stalled = 10
    settings = desk(tmp_path, tardis, tardis={"patience_seconds": 1.0})
    with pytest.raises(ExchangeError, match=r"nothing came of options_chain of 2026-03-01 for 1 s"):
        backfill_day(settings, open_lake(settings), FREE)
    tardis.released.set()
    assert not list(cache_folder(settings, FREE).iterdir())


def test_a_vendor_out_of_reach_is_said_with_the_last_attempt(tmp_path: Path, tardis: Vendor) -> None:
    settings = desk(tmp_path, tardis, tardis={"endpoint": "http://127.0.0.1:9/v1", "patience_seconds": 1.0})
    reports = backfill_days(settings, open_lake(settings), [FREE, SECOND, SECOND + dt.timedelta(days=1)])
    failed = [report for report in reports[:2] if report.state == "failed"]
    assert failed
    assert all("Cannot connect" in report.why for report in failed)  # both hear of their own attempts
    assert reports[2].state == "not tried"


_LIMITED = """
import resource, sys, datetime as dt
from options_agent.errors import StorageError
from options_agent.lake.store import open_lake
from options_agent.market.tardis.days import backfill_days
from options_agent.settings import load_settings
settings = load_settings(home=sys.argv[1], network="mainnet", source="tardis", underlyings=("BTC",), _env_file=None,
                         tardis={"endpoint": sys.argv[2], "trades": False, "keep_files": True})
lake = open_lake(settings)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
(report,) = backfill_days(settings, lake, [dt.date(2026, 3, 1)])
print(report.state, "|", report.why, "|", report.remedy)
"""


@pytest.mark.parametrize(("most_bytes", "what"), [(100_000, "the download of 2026-03-01 cannot be written"), (20_000, "")])
def test_a_full_disk_leaves_no_receipt_and_nothing_torn(tmp_path: Path, tardis: Vendor, most_bytes: int, what: str) -> None:
    """A limit of the process stands in for the disk's: first the download, then (with the file in the cache) the lake."""
    publish(tardis, FREE, ["BTC"])
    settings = desk(tmp_path, tardis, underlyings=("BTC",), tardis={"api_key": None, "trades": False, "keep_files": True})
    if not what:
        folder = cache_folder(settings, FREE)
        folder.mkdir(parents=True)
        (folder / f"deribit_options_chain_{FREE}_OPTIONS.csv.gz").write_bytes(tardis.files["options_chain", FREE, "OPTIONS"])
    command = [sys.executable, "-c", _LIMITED, str(tmp_path), f"{tardis.url}/v1", str(most_bytes)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("failed |"), done.stdout
    assert what in done.stdout
    lake = open_lake(settings)
    assert read_receipt(lake, "harvest", "BTC", FREE.isoformat()) is None
    assert not list(tmp_path.rglob("*.unconfirmed"))
    assert backfill_day(settings, lake, FREE)["BTC"].counts["snapshots"] == 24


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, tardis: Vendor) -> None:
    settings = desk(tmp_path, tardis)
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(StorageError, match="cache cannot be written"):
        backfill_day(settings, open_lake(settings), FREE)
