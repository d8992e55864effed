from __future__ import annotations

import datetime as dt
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from options_agent.errors import DataError, SettingsError
from options_agent.lake.archive import Archive, archive_day, restore_day, verify
from options_agent.lake.compaction import compact_raw_day, is_compacted
from options_agent.lake.files import sha256_of
from options_agent.lake.manifest import read_manifest, versions
from options_agent.lake.raw import snapshot_files, write_snapshot
from options_agent.lake.receipts import read_receipt
from options_agent.lake.retained import is_retained, retained_days, retained_snapshots
from options_agent.lake.retention import compact_days, due_days, restore_to_lake, retain
from options_agent.lake.store import Lake, read_day, read_range, read_raw_day, write_day
from options_agent.market.harvest import harvest_day
from options_agent.market.sources import open_source
from options_agent.quality.gap_report import gaps_receipt
from options_agent.quality.gaps import find_gaps
from options_agent.quality.judge import judge_day
from options_agent.settings import RetentionSettings, Settings, load_settings
from tests.chains import DAY, as_clean, as_quarantined, chain_day

TODAY = DAY + dt.timedelta(days=40)
RAW_ONLY = RetentionSettings(raw_days=30)
ALL = RetentionSettings(raw_days=30, clean_days=30, quarantine_days=30)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """An empty archive in a local folder."""
    return Archive(str(tmp_path / "archive"), "synthetic")


def filled(lake: Lake, days: int = 1, *, hours: int = 6) -> None:
    """Raw, clean and quarantined days from `DAY` on, two rows of each in quarantine."""
    for offset in range(days):
        day = DAY + dt.timedelta(days=offset)
        tables = chain_day(day, hours=hours)
        for table in tables:
            write_snapshot(lake, table)
        rows = pa.concat_tables(tables)
        write_day(lake, "clean", "BTC", day, as_clean(rows.slice(2)))
        write_day(lake, "quarantine", "BTC", day, as_quarantined(rows.slice(0, 2)))


def contents(lake: Lake) -> dict[str, bytes]:
    return {path: lake.files.read(path) for layer in ("raw", "clean", "quarantine") for path in lake.files.find(layer)}


def test_without_apply_nothing_changes_anywhere(local_lake: Lake, archive: Archive) -> None:
    filled(local_lake)
    archive_day(local_lake, archive, "BTC", DAY)
    before, there = contents(local_lake), archive.files.find("")
    (outcome,) = retain(local_lake, archive, ALL, TODAY, apply=False)
    assert (outcome.verdict, outcome.due.layers) == ("proven", ("raw", "clean", "quarantine"))
    assert "archives it first" in outcome.why
    assert (contents(local_lake), archive.files.find("")) == (before, there)
    assert retained_days(local_lake, "BTC") == {}


def test_a_proven_day_goes_is_known_to_be_archived_and_comes_back(local_lake: Lake, archive: Archive) -> None:
    filled(local_lake)
    rows, listed = read_raw_day(local_lake, "BTC", DAY), snapshot_files(local_lake, "BTC", DAY)
    judged = contents(local_lake)
    (outcome,) = retain(local_lake, archive, ALL, TODAY, apply=True)
    assert outcome.verdict == "deleted", outcome.why
    assert contents(local_lake) == {}
    (retained,) = retained_days(local_lake, "BTC").values()
    assert retained.layers == ("raw", "clean", "quarantine")
    assert [(f.snapshot, f.source, f.region) for f in retained_snapshots(local_lake, "BTC", DAY)] == [
        (f.snapshot, f.source, f.region) for f in listed
    ]
    with pytest.raises(DataError, match="options-agent archive restore BTC 2026-01-31"):
        read_range(local_lake, "clean", "BTC", DAY, DAY)
    report = restore_to_lake(local_lake, archive, "BTC", DAY)
    assert all(proof.holds for proof in report.proofs)
    assert len(report.proofs) == 3
    assert read_raw_day(local_lake, "BTC", DAY).equals(rows)
    for layer in ("clean", "quarantine"):
        path = f"{layer}/quotes/underlying=BTC/day={DAY}/day.parquet"
        assert local_lake.files.read(path) == judged[path]
    assert retained_days(local_lake, "BTC") == {}


def test_a_restored_day_stays_as_long_again(local_lake: Lake, archive: Archive) -> None:
    filled(local_lake)
    retain(local_lake, archive, ALL, TODAY, apply=True)
    restore_to_lake(local_lake, archive, "BTC", DAY)
    restored = dt.datetime.now(dt.UTC).date()
    assert due_days(local_lake, ALL, max(TODAY, restored)) == []
    assert [due.day for due in due_days(local_lake, ALL, restored + dt.timedelta(days=31))] == [DAY]
    (outcome,) = retain(local_lake, archive, ALL, restored + dt.timedelta(days=31), apply=True)
    assert outcome.verdict == "deleted"


def test_only_what_is_older_than_its_layers_days_is_due(local_lake: Lake, archive: Archive) -> None:
    filled(local_lake, days=3)
    assert due_days(local_lake, RetentionSettings(), TODAY) == []
    assert [due.day for due in due_days(local_lake, RAW_ONLY, DAY + dt.timedelta(days=31))] == [DAY]
    outcomes = retain(local_lake, archive, RAW_ONLY, DAY + dt.timedelta(days=32), apply=True)
    assert [(outcome.due.day - DAY).days for outcome in outcomes] == [0, 1]
    assert all(outcome.due.layers == ("raw",) for outcome in outcomes)
    assert len(read_range(local_lake, "clean", "BTC", DAY, TODAY)) == 3 * 70
    assert list(retained_days(local_lake, "BTC")) == [DAY, DAY + dt.timedelta(days=1)]


@pytest.mark.parametrize("harm", ["altered", "missing"])
@pytest.mark.parametrize("layer", ["raw", "clean", "quarantine"])
def test_an_archived_object_that_is_not_there_byte_for_byte_keeps_the_day(
    local_lake: Lake, archive: Archive, layer: str, harm: str
) -> None:
    filled(local_lake, days=2)
    for offset in range(2):
        compact_raw_day(local_lake, "BTC", DAY + dt.timedelta(days=offset))
        archive_day(local_lake, archive, "BTC", DAY + dt.timedelta(days=offset))
    before = contents(local_lake)
    (path,) = archive.files.find(f"{layer}/quotes/underlying=BTC/day={DAY}")
    data = archive.files.read(path)
    archive.files.delete(path)
    if harm == "altered":  # of the same size, so that only reading it tells
        archive.files.write(path, data[:-1] + bytes([data[-1] ^ 1]))
    settings = RetentionSettings(raw_days=30, clean_days=30, quarantine_days=30)
    first, second = retain(local_lake, archive, settings, TODAY, apply=False)
    assert first.verdict == "refused"
    assert ("missing" if harm == "missing" else "not what was archived") in first.why
    assert layer in first.why
    assert second.verdict == "proven"
    first, second = retain(local_lake, archive, settings, TODAY, apply=True)
    kept = {path for path in before if str(DAY) in path}
    if harm == "altered":
        assert first.verdict == "refused"
        assert {path: data for path, data in contents(local_lake).items() if path in kept} == {p: before[p] for p in kept}
    else:  # archiving the day again put the object back, and then it was proven
        assert first.verdict == "deleted"
        assert all(proof.holds for proof in verify(archive, "BTC", DAY))
    assert second.verdict == "deleted"


def test_raw_stays_where_a_row_of_it_was_never_judged(local_lake: Lake, archive: Archive) -> None:
    filled(local_lake)
    rows = pa.concat_tables(chain_day(DAY, hours=6))
    write_day(local_lake, "clean", "BTC", DAY, as_clean(rows.slice(3)))
    (outcome,) = retain(local_lake, archive, RAW_ONLY, TODAY, apply=True)
    assert outcome.verdict == "refused"
    assert "72 raw rows, but 69 clean and 2 quarantined" in outcome.why
    other = pa.concat_tables([rows.slice(3), chain_day(DAY, hours=6, seed=9)[0].slice(0, 1)])
    write_day(local_lake, "clean", "BTC", DAY, as_clean(other))
    (outcome,) = retain(local_lake, archive, RAW_ONLY, TODAY, apply=True)
    assert "are not the raw rows" in outcome.why
    assert len(read_raw_day(local_lake, "BTC", DAY)) == 72


def test_a_day_nobody_archived_or_that_changed_since_stays(local_lake: Lake, archive: Archive) -> None:
    filled(local_lake)
    compact_raw_day(local_lake, "BTC", DAY)
    clean = RetentionSettings(raw_days=30, clean_days=30)
    retain(local_lake, archive, RAW_ONLY, TODAY, apply=True)
    rows = read_day(local_lake, "clean", "BTC", DAY)
    write_day(local_lake, "clean", "BTC", DAY, rows.slice(1))
    (outcome,) = retain(local_lake, archive, clean, TODAY, apply=True)
    assert outcome.verdict == "refused"
    assert "is not what was archived" in outcome.why
    write_day(local_lake, "clean", "BTC", DAY + dt.timedelta(days=1), as_clean(chain_day(DAY + dt.timedelta(days=1), hours=1)[0]))
    outcomes = retain(local_lake, archive, clean, TODAY, apply=True)
    assert "is not in the archive" in outcomes[1].why


def test_archiving_again_after_raw_went_keeps_raw_in_the_day(local_lake: Lake, archive: Archive, tmp_path: Path) -> None:
    filled(local_lake)
    retain(local_lake, archive, RAW_ONLY, TODAY, apply=True)
    receipt = archive_day(local_lake, archive, "BTC", DAY)
    assert (receipt.counts["raw_rows"], versions(archive.files, "BTC", DAY)) == (72, [1])
    rows = read_day(local_lake, "clean", "BTC", DAY)
    write_day(local_lake, "clean", "BTC", DAY, rows.slice(1))
    assert archive_day(local_lake, archive, "BTC", DAY).details["version"] == 2
    manifest = read_manifest(archive.files, "BTC", DAY)
    assert manifest is not None
    assert [line.lake_path.split("/")[0] for line in manifest.lines] == ["raw", "clean", "quarantine"]
    assert len(restore_day(archive, "BTC", DAY, tmp_path / "back").proofs) == 3


def test_a_retained_day_is_neither_a_gap_nor_judged_into_nothing(settings: Settings, archive: Archive) -> None:
    lake = Lake(settings.lake_url, "synthetic")
    for offset in range(4):
        day = DAY + dt.timedelta(days=offset)
        for hour, table in enumerate(chain_day(day)):
            if (offset, hour) != (1, 5):
                write_snapshot(lake, table)
    receipts = [judge_day(lake, "BTC", DAY + dt.timedelta(days=offset), settings=settings) for offset in range(4)]
    clean = read_day(lake, "clean", "BTC", DAY)
    hole = find_gaps(lake, "BTC", DAY, DAY + dt.timedelta(days=3))
    assert hole.num_rows == 1
    outcomes = retain(lake, archive, RAW_ONLY, DAY + dt.timedelta(days=33), apply=True)
    assert [outcome.verdict for outcome in outcomes] == ["deleted"] * 3
    assert [is_retained(lake, "raw", "BTC", DAY + dt.timedelta(days=offset)) for offset in range(4)] == [True, True, True, False]
    assert find_gaps(lake, "BTC", DAY, DAY + dt.timedelta(days=3)).equals(hole), "the real hole, and only it"
    assert gaps_receipt(lake, "BTC").counts == {"gaps": 1, "missing": 1, "expiries": 0, "strikes": 0}
    assert [judge_day(lake, "BTC", DAY + dt.timedelta(days=offset), settings=settings) for offset in range(4)] == receipts
    assert read_day(lake, "clean", "BTC", DAY).equals(clean)


def test_raw_goes_before_what_is_made_of_it() -> None:
    with pytest.raises(SettingsError, match="raw goes first"):
        load_settings(retention={"clean_days": 30}, _env_file=None)
    with pytest.raises(SettingsError, match="raw goes first"):
        load_settings(retention={"raw_days": 60, "quarantine_days": 30}, _env_file=None)


def test_compacting_due_days_leaves_todays_alone(local_lake: Lake) -> None:
    filled(local_lake, days=3)
    records = compact_days(local_lake, "BTC", DAY + dt.timedelta(days=2))
    assert [record.rows for record in records] == [72, 72]
    assert compact_days(local_lake, "BTC", DAY + dt.timedelta(days=2)) == []
    assert len(local_lake.files.find("raw")) == 1 + 1 + 6


RETAIN_EVERYTHING = """
import datetime as dt, sys
from options_agent.lake.archive import Archive
from options_agent.lake.retention import retain
from options_agent.lake.store import Lake
from options_agent.settings import RetentionSettings
print("ready", flush=True)
for number in sys.stdin:
    lake, archive = Lake(sys.argv[1], "synthetic"), Archive(sys.argv[2], "synthetic")
    settings = RetentionSettings(raw_days=30, clean_days=30, quarantine_days=30)
    outcomes = retain(lake, archive, settings, dt.date(2026, 3, 20), apply=True)
    print(*[outcome.verdict + outcome.why for outcome in outcomes], flush=True)
"""


def test_killed_at_any_point_every_day_is_here_or_proven_to_be_archived(local_lake: Lake, archive: Archive, tmp_path: Path) -> None:
    dice = random.Random(11)
    filled(local_lake, days=8, hours=2)
    rows = {DAY + dt.timedelta(days=i): read_raw_day(local_lake, "BTC", DAY + dt.timedelta(days=i)) for i in range(8)}
    command = [sys.executable, "-c", RETAIN_EVERYTHING, local_lake.root, archive.root]
    for attempt in range(7):
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        child.stdin.write("go\n")
        child.stdin.flush()
        if attempt < 6:
            try:
                child.wait(timeout=dice.uniform(0.005, 0.15))
            except subprocess.TimeoutExpired:
                child.kill()
        else:
            assert set(child.stdout.readline().split()) <= {"deleted"}
        child.stdin.close()
        child.kill()
        child.wait()
        child.stdout.close()
        away = retained_days(local_lake, "BTC")
        for day, expected in rows.items():
            if day in away and "raw" in away[day].layers:
                proofs = verify(archive, "BTC", day)
                assert len(proofs) == 3
                assert all(proof.holds for proof in proofs)
            else:
                assert read_raw_day(local_lake, "BTC", day).equals(expected)
    assert list(retained_days(local_lake, "BTC")) == sorted(rows)
    for day, expected in rows.items():
        restore_day(archive, "BTC", day, tmp_path / "back" / "synthetic")
        assert read_raw_day(Lake(str(tmp_path / "back"), "synthetic"), "BTC", day).equals(expected)


def test_the_receipt_names_what_went_with_its_hashes(local_lake: Lake, archive: Archive) -> None:
    filled(local_lake)
    compact_raw_day(local_lake, "BTC", DAY)
    before = contents(local_lake)
    retain(local_lake, archive, ALL, TODAY, apply=True)
    receipt = read_receipt(local_lake, "retention", "BTC", DAY.isoformat())
    assert receipt is not None
    assert {file.path: file.sha256 for file in receipt.files} == {path: sha256_of(data) for path, data in before.items()}
    assert receipt.counts == {"files": 3, "rows": 144, "bytes": sum(map(len, before.values()))}


def test_a_retained_day_is_not_harvested_again_by_the_same_source(settings: Settings, archive: Archive) -> None:
    lake, source = Lake(settings.lake_url, "synthetic"), open_source(settings)
    receipt = harvest_day(source, lake, "BTC", DAY)
    judge_day(lake, "BTC", DAY, settings=settings)
    (outcome,) = retain(lake, archive, RAW_ONLY, TODAY, apply=True)
    assert outcome.verdict == "deleted", outcome.why
    assert harvest_day(source, lake, "BTC", DAY) == receipt
    assert lake.files.find(f"raw/quotes/underlying=BTC/day={DAY}") == {}


def test_what_is_harvested_into_a_retained_day_counts_as_here(local_lake: Lake, archive: Archive) -> None:
    filled(local_lake)
    retain(local_lake, archive, RAW_ONLY, TODAY, apply=True)
    write_snapshot(local_lake, chain_day(DAY, hours=6, seed=3)[2])
    assert retained_days(local_lake, "BTC") == {}
    (outcome,) = retain(local_lake, archive, RAW_ONLY, TODAY, apply=True)
    assert (outcome.verdict, "12 raw rows" in outcome.why) == ("refused", True), "it was never judged"


def test_a_damaged_snapshot_keeps_no_other_day_from_being_compacted(local_lake: Lake) -> None:
    filled(local_lake, days=3)
    torn = next(path for path in local_lake.files.find("raw") if f"day={DAY}" in path)
    local_lake.files.write(torn, local_lake.files.read(torn)[:-7])
    with pytest.raises(DataError) as refused:
        compact_days(local_lake, "BTC", TODAY)
    assert torn in str(refused.value.place)
    assert [is_compacted(local_lake, "BTC", DAY + dt.timedelta(days=n)) for n in (1, 2)] == [True, True]
    assert local_lake.files.size(torn) is not None
