"""A raw day becomes a clean and a quarantined day and a receipt: nothing lost, nothing done twice."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import pytest

from options_agent.errors import DataError
from options_agent.lake.compaction import compact_raw_day
from options_agent.lake.receipts import read_receipt
from options_agent.lake.store import open_lake, read_day, read_raw_day, write_snapshot
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.quality.judge import judge_day, judge_days, judge_each
from options_agent.quality.schema import check_quotes
from options_agent.quotes import QUARANTINE_SCHEMA, split_incomplete
from options_agent.settings import QualitySettings, SyntheticSettings
from tests.unit.quality.market import EXPIRIES, NOON, Row, rows, spoilt, table

HOUR = dt.timedelta(hours=1)
DAY = NOON.date()


@pytest.fixture
def lake(settings):
    return open_lake(settings)


def crossed() -> list[Row]:
    return spoilt(lambda row: row.update(bid=row["ask"] + 0.0005))


def test_a_day_is_split_into_clean_and_quarantined_and_the_receipt_adds_up(lake, settings) -> None:
    write_snapshot(lake, table(crossed()))
    write_snapshot(lake, table(rows(NOON + HOUR)))
    receipt = judge_day(lake, "BTC", DAY, settings=settings)
    clean, quarantined = read_day(lake, "clean", "BTC", DAY), read_day(lake, "quarantine", "BTC", DAY)
    assert (receipt.counts["rows_in"], receipt.counts["clean"], receipt.counts["quarantined"]) == (88, 87, 1)
    assert (len(clean), len(quarantined), receipt.counts["snapshots"]) == (87, 1, 2)
    assert receipt.counts["rule:crossed"] == 1
    assert quarantined.column("rule").to_pylist() == ["crossed"]
    assert receipt.counts["greeks_computed"] == 87
    assert read_receipt(lake, "quality", "BTC", DAY.isoformat()) == receipt


def test_a_day_judged_before_is_not_judged_again_and_a_new_snapshot_or_setting_makes_it_so(lake, settings) -> None:
    write_snapshot(lake, table(rows()))
    first = judge_day(lake, "BTC", DAY, settings=settings)
    assert judge_day(lake, "BTC", DAY, settings=settings) == first
    write_snapshot(lake, table(rows(NOON + HOUR)))
    second = judge_day(lake, "BTC", DAY, settings=settings)
    assert second.counts["rows_in"] == 2 * first.counts["rows_in"]
    strict = settings.model_copy(update={"quality": QualitySettings(iv_max=0.5)})
    assert judge_day(lake, "BTC", DAY, settings=strict).counts["rule:absurd_iv"] > 0


def test_a_deleted_output_is_written_again_the_same(lake, settings) -> None:
    write_snapshot(lake, table(rows()))
    first = judge_day(lake, "BTC", DAY, settings=settings)
    lake.files.delete(first.files[0].path)
    assert judge_day(lake, "BTC", DAY, settings=settings).files == first.files


def test_compaction_of_the_raw_day_changes_no_output(lake, settings) -> None:
    write_snapshot(lake, table(crossed()))
    write_snapshot(lake, table(rows(NOON + HOUR)))
    first = judge_day(lake, "BTC", DAY, settings=settings)
    compact_raw_day(lake, "BTC", DAY)
    assert judge_day(lake, "BTC", DAY, settings=settings).files == first.files


def test_time_must_move_on_from_the_last_snapshot_of_the_day_before(lake, settings) -> None:
    eve = NOON.replace(hour=23)
    write_snapshot(lake, table(rows(eve, known_after=HOUR.total_seconds() + 60)))
    write_snapshot(lake, table(rows(eve + HOUR)))
    assert judge_day(lake, "BTC", DAY, settings=settings).counts["quarantined"] == len(rows())  # late
    quiet = settings.model_copy(update={"quality": QualitySettings(disabled=("late",))})
    receipt = judge_day(lake, "BTC", DAY + dt.timedelta(days=1), settings=quiet)
    assert receipt.counts["rule:time_backwards"] == len(rows())


def test_a_corrupt_raw_file_is_set_aside_named_and_kept_and_the_rest_is_judged(lake, settings) -> None:
    broken = write_snapshot(lake, table(rows()))
    write_snapshot(lake, table(rows(NOON + HOUR)))
    place = Path(lake.files.place(broken.path))
    torn = place.read_bytes()[:-100]
    place.write_bytes(torn)
    receipt = judge_day(lake, "BTC", DAY, settings=settings)
    assert receipt.counts["rows_in"] == len(rows())
    assert receipt.counts["files_set_aside"] == 1
    (entry,) = receipt.details["set_aside"]
    assert entry["path"] == broken.path
    assert lake.files.read(entry["kept_at"]) == torn
    assert judge_day(lake, "BTC", DAY, settings=settings) == receipt


def test_a_corrupt_file_on_the_day_before_is_no_fault_of_this_day(lake, settings) -> None:
    eve = write_snapshot(lake, table(rows(NOON - 24 * HOUR)))
    Path(lake.files.place(eve.path)).write_bytes(b"torn")
    write_snapshot(lake, table(rows()))
    receipt = judge_day(lake, "BTC", DAY, settings=settings)
    assert (receipt.counts["clean"], receipt.counts["files_set_aside"]) == (len(rows()), 0)


def test_a_day_without_quotes_is_an_empty_day(lake, settings) -> None:
    receipt = judge_day(lake, "BTC", DAY, settings=settings)
    assert receipt.counts["rows_in"] == receipt.counts["clean"] == receipt.counts["quarantined"] == 0
    assert len(read_day(lake, "clean", "BTC", DAY)) == 0


def test_rows_of_another_network_do_not_pass(lake, settings) -> None:
    write_snapshot(lake, table([dict(row, network="mainnet") for row in rows()]))
    assert judge_day(lake, "BTC", DAY, settings=settings).counts["rule:foreign_network"] == len(rows())


def test_several_days_are_judged_as_one_by_one(lake, settings) -> None:
    days = [DAY + dt.timedelta(days=n) for n in range(4)]
    for n in range(4):
        write_snapshot(lake, table(rows(NOON + 24 * n * HOUR, expiries=EXPIRIES[1:])))
    told: list[int] = []
    receipts = judge_days(lake, "BTC", days, settings=settings, told=lambda done, _: told.append(done))
    assert [receipt.partition for receipt in receipts] == [day.isoformat() for day in days]
    assert told == [1, 2, 3, 4]
    assert receipts == [judge_day(lake, "BTC", day, settings=settings) for day in days]


def test_the_schema_check_names_columns_and_rows() -> None:
    quotes = rows()
    quotes[3].update(right="X")
    quotes[5].update(bid=-1.0)
    quotes[6].update(ts=None)
    with pytest.raises(DataError) as failure:
        check_quotes(table(quotes), place="a test")
    message = str(failure.value)
    assert "column 'right': isin(['C', 'P']) fails in 1 rows (first 3)" in message
    assert "column 'bid'" in message
    assert "column 'ts'" in message
    with pytest.raises(DataError, match="strike"):
        check_quotes(table(rows()).drop_columns(["strike"]), place="a test")
    check_quotes(table(rows()), place="a test")


@pytest.mark.parametrize("underlying", ["BTC", "ETH"])
def test_every_defect_injected_into_the_synthetic_market_is_caught_and_little_else(lake, settings, underlying) -> None:
    spoil = SyntheticSettings(defect_rate=0.01, outage_rate=0.0)
    source, start, days = SyntheticSource(spoil), NOON.replace(hour=0), 2
    end = start + dt.timedelta(days=days)
    for snapshot in source.snapshots(underlying, start, end):
        write_snapshot(lake, snapshot)
    caught: dict[tuple[dt.datetime, str], set[str]] = {}
    rows_in = warned = 0
    for day in range(days):
        warned += judge_day(lake, underlying, DAY + dt.timedelta(days=day), settings=settings).counts["warn:locked"]
        rows_in += len(read_raw_day(lake, underlying, DAY + dt.timedelta(days=day)))
        for row in read_day(lake, "quarantine", underlying, DAY + dt.timedelta(days=day)).to_pylist():
            caught.setdefault((row["snapshot"], row["instrument"]), set()).update(row["rules"].split(","))
    injected = {(d.snapshot, d.instrument): d.kind for d in source.injected_defects(underlying, start, end)}
    first = {key for key, kind in injected.items() if kind == "time_backwards" and key[0] == start}  # nothing came before it
    quarantinable = {key: kind for key, kind in injected.items() if kind != "locked" and key not in first}
    assert len(quarantinable) > 200
    missed = {key: kind for key, kind in quarantinable.items() if kind not in caught.get(key, ())}
    assert len(missed) <= 0.02 * len(quarantinable), missed
    assert len(set(caught) - set(injected)) <= 0.0005 * rows_in
    assert sum(kind == "locked" for kind in injected.values()) <= warned


def test_a_row_without_what_a_raw_row_must_have_does_not_cost_its_snapshot(lake, settings) -> None:
    quotes = rows()
    quotes[3].update(expiry=None, strike=None)
    quotes[9].update(ts=None)
    complete, incomplete = split_incomplete(table(quotes))
    assert (len(complete), len(incomplete)) == (len(quotes) - 2, 2)
    assert complete.equals(table([row for n, row in enumerate(quotes) if n not in (3, 9)]))
    assert incomplete.schema.equals(QUARANTINE_SCHEMA)
    assert incomplete.column("reason").to_pylist() == ["the source gave no expiry, strike", "the source gave no ts"]
    assert set(incomplete.column("rule").to_pylist()) == {"missing_field"}
    write_snapshot(lake, complete)
    assert judge_day(lake, "BTC", DAY, settings=settings).counts["clean"] == len(quotes) - 2
    assert len(split_incomplete(table(rows()))[1]) == 0
    with pytest.raises(DataError, match="not quotes"):
        split_incomplete(table(rows()).drop_columns(["strike"]))


def test_days_of_several_underlyings_are_judged_in_the_order_asked_for(lake, settings) -> None:
    for name in ("BTC", "ETH"):
        write_snapshot(lake, table(rows(underlying=name)))
    wanted = [("ETH", DAY), ("BTC", DAY), ("ETH", DAY + dt.timedelta(days=1))]
    receipts = list(judge_each(lake, wanted, settings=settings))
    assert [(receipt.underlying, receipt.partition) for receipt in receipts] == [(name, day.isoformat()) for name, day in wanted]
    assert [receipt.counts["clean"] for receipt in receipts] == [len(rows()), len(rows()), 0]


def test_checking_a_table_leaves_arrows_zones_alone() -> None:
    script = (
        "import os, sys; from options_agent.quality.schema import quote_schema;"
        "quote_schema(clean=True); assert 'pandera' in sys.modules; print('PYARROW_IGNORE_TIMEZONE' in os.environ)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYARROW_IGNORE_TIMEZONE"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "False"
