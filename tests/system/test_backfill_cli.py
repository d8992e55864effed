"""`options-agent backfill` and `agreement` as a person runs them, against the vendor on loopback."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from options_agent.cli.backfill import Pace, duration
from options_agent.lake.raw import read_raw_day, write_snapshot
from options_agent.lake.store import open_lake
from options_agent.market.sources import by_snapshot
from options_agent.market.tardis.backfill import Progress, is_done
from options_agent.quotes import QUOTE_SCHEMA
from tests.conftest import REPOSITORY
from tests.servers.tardis import KEY, Vendor, vendor
from tests.servers.tardis_files import hourly_csv
from tests.unit.market.tardis.worlds import FREE, desk, publish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAST = FREE + dt.timedelta(days=2)


@pytest.fixture
def tardis() -> Iterator[Vendor]:
    with vendor() as running:
        yield running


def _environment(home: Path, tardis: Vendor, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPTIONS_AGENT_")}
    own = {"HOME": str(home), "REGION": "eu", "UNDERLYINGS": '["BTC"]', "TARDIS__ENDPOINT": f"{tardis.url}/v1"} | more
    return clean | {f"OPTIONS_AGENT_{name}": value for name, value in own.items()}


def _run(home: Path, tardis: Vendor, *arguments: str, **more: str) -> tuple[int, str]:
    program = "from options_agent.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=REPOSITORY,
        env=_environment(home, tardis, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def test_days_of_a_month_with_and_without_a_key(tmp_path: Path, tardis: Vendor) -> None:
    for n in range(3):
        publish(tardis, FREE + dt.timedelta(days=n), ["BTC"], hours=4)
    asked = ("backfill", "--from", str(FREE), "--to", str(LAST))
    code, output = _run(tmp_path, tardis, *asked)
    assert code == 0, output
    assert "1 done, 2 no key" in output
    assert "set OPTIONS_AGENT_TARDIS__API_KEY" in output
    code, output = _run(tmp_path, tardis, *asked, TARDIS__API_KEY=KEY)
    assert code == 0, output
    assert "1 unchanged, 2 done" in output
    assert "ticks/s" in output
    assert "MB/s" in output
    assert KEY not in output
    del tardis.files["options_chain", LAST, "OPTIONS"]
    code, output = _run(tmp_path, tardis, *asked, "--again", TARDIS__API_KEY=KEY)
    assert code == 1, output
    assert "2 done, 1 not published" in output


def test_a_backwards_range_is_a_sentence(tmp_path: Path, tardis: Vendor) -> None:
    code, output = _run(tmp_path, tardis, "backfill", "--from", "2026-03-02", "--to", "2026-03-01")
    assert code == 1
    assert "backwards" in output
    assert "Traceback" not in output


def test_ctrl_c_leaves_what_is_done_and_no_half_day(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE, ["BTC"], hours=4)
    publish(tardis, LAST, ["BTC"], hours=4)
    tardis.faults.stalled = 1
    program = (  # a shell that runs tests in the background lets them ignore Ctrl-C, and so their children
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from options_agent.cli.main import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "backfill", "--from", str(FREE), "--to", str(FREE)],
        cwd=REPOSITORY,
        env=_environment(tmp_path, tardis),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not tardis.asked:  # the download has begun, and stands still
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    settings = desk(tmp_path, tardis, underlyings=("BTC",))
    assert is_done(settings, open_lake(settings), "BTC", FREE) is None
    assert not list(tmp_path.rglob("*.unconfirmed"))


def test_agreement_is_printed_and_tells_by_its_exit_code(tmp_path: Path, tardis: Vendor) -> None:
    publish(tardis, FREE, ["BTC"], hours=4)
    _run(tmp_path, tardis, "backfill", "--from", str(FREE), "--to", str(FREE))
    lake = open_lake(desk(tmp_path, tardis))
    rows = read_raw_day(lake, "BTC", FREE)
    live = rows.set_column(rows.schema.get_field_index("source"), QUOTE_SCHEMA.field("source"), [["deribit"] * len(rows)])
    for table in by_snapshot(live):
        write_snapshot(lake, table.cast(QUOTE_SCHEMA))
    code, output = _run(tmp_path, tardis, "agreement", str(FREE))
    assert code == 0, output
    assert "(100.00%)" in output
    first = next(by_snapshot(live))
    write_snapshot(lake, first.slice(1).cast(QUOTE_SCHEMA), replace=True)
    code, output = _run(tmp_path, tardis, "agreement", str(FREE))
    assert code == 1, output
    assert "1 only tardis" in output


def test_real_hours_come_through_whole(tmp_path: Path, tardis: Vendor, market_data: Path) -> None:
    """The chains of a real first of the month, in the vendor's format, without a key."""
    day = dt.date(2025, 6, 1)
    tardis.put("options_chain", day, "OPTIONS", hourly_csv(market_data / "tardis_hourly" / "2025-06.parquet", day))
    code, output = _run(tmp_path, tardis, "backfill", "--from", str(day), "--to", str(day), "--underlying", "BTC", "--underlying", "ETH")
    assert code == 0, output
    lake = open_lake(desk(tmp_path, tardis))
    rows = read_raw_day(lake, "BTC", day)
    assert len(rows) > 18_000
    assert "no derivative_ticker BTC-PERPETUAL" in " ".join(output.split())


def test_pace_says_how_long_it_may_take() -> None:
    pace = Pace(4)
    assert (pace.share, pace.seconds_left) == (0.0, None)
    pace.started -= 60
    pace.hear(Progress(FREE, "done", 5, 5, 10, 1.0))
    pace.hear(Progress(LAST, "fetching options_chain", 5, 5, 10, 0.0))
    assert pace.share == 0.25
    assert pace.seconds_left == pytest.approx(180, rel=0.01)
    assert [duration(s) for s in (None, 5, 190, 3_900)] == ["?", "5 s", "3 min 10 s", "1 h 05 min"]
