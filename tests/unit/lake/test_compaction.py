from __future__ import annotations

import datetime as dt
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from options_agent.errors import DataError, StorageError
from options_agent.lake import encoding, layout
from options_agent.lake.compaction import compact_raw_day, is_compacted
from options_agent.lake.files import LocalFiles
from options_agent.lake.receipts import Receipt, unchanged
from options_agent.lake.store import Lake, raw_fingerprint, read_raw_day, snapshot_files, write_snapshot
from tests.chains import NOON, chain, chain_day

DAY = NOON.date()


def harvested(lake: Lake) -> None:
    for table in chain_day(hours=8):
        write_snapshot(lake, table)
    write_snapshot(lake, chain(region="east"))


def test_a_compacted_day_is_one_file_with_the_same_rows_and_snapshots(lake: Lake) -> None:
    harvested(lake)
    before, listed = read_raw_day(lake, "BTC", DAY), snapshot_files(lake, "BTC", DAY)
    assert not is_compacted(lake, "BTC", DAY)
    record = compact_raw_day(lake, "BTC", DAY)
    assert list(lake.files.find("raw")) == [record.path]
    assert read_raw_day(lake, "BTC", DAY).equals(before)
    after = snapshot_files(lake, "BTC", DAY)
    assert [(f.snapshot, f.source, f.region) for f in after] == [(f.snapshot, f.source, f.region) for f in listed]
    assert is_compacted(lake, "BTC", DAY)
    assert compact_raw_day(lake, "BTC", DAY) == record, "again does nothing"


def test_writing_a_compacted_snapshot_again_writes_nothing(lake: Lake) -> None:
    harvested(lake)
    record = compact_raw_day(lake, "BTC", DAY)
    assert write_snapshot(lake, chain_day(hours=8)[3]).path == record.path
    with pytest.raises(DataError, match="other rows"):
        write_snapshot(lake, chain_day(hours=8, seed=9)[3])
    assert list(lake.files.find("raw")) == [record.path]


def test_a_snapshot_that_comes_or_is_replaced_after_compaction_joins_at_the_next(lake: Lake) -> None:
    harvested(lake)
    compact_raw_day(lake, "BTC", DAY)
    replaced = chain_day(hours=8, seed=9)[3]
    write_snapshot(lake, replaced, replace=True)
    write_snapshot(lake, chain(NOON + dt.timedelta(hours=5)))
    rows = read_raw_day(lake, "BTC", DAY)
    assert len(rows) == 12 * 10
    compact_raw_day(lake, "BTC", DAY)
    assert len(lake.files.find("raw")) == 1
    assert read_raw_day(lake, "BTC", DAY).equals(rows)
    assert set(replaced["bid"].to_pylist()) <= set(rows["bid"].to_pylist())


def test_a_compacted_day_that_does_not_read_back_costs_nothing(local_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    harvested(local_lake)
    before = read_raw_day(local_lake, "BTC", DAY)
    written = encoding.day_bytes
    monkeypatch.setattr(encoding, "day_bytes", lambda table, notes: written(table.slice(1), notes))
    with pytest.raises(StorageError, match="small files were kept"):
        compact_raw_day(local_lake, "BTC", DAY)
    assert read_raw_day(local_lake, "BTC", DAY).equals(before)


def test_a_day_without_snapshots_or_with_a_torn_one_is_not_compacted(lake: Lake) -> None:
    with pytest.raises(DataError, match="no raw snapshots"):
        compact_raw_day(lake, "BTC", DAY)
    harvested(lake)
    torn = layout.snapshot_path("BTC", NOON, "synthetic", "east")
    lake.files.write(torn, lake.files.read(torn)[:200])
    with pytest.raises(DataError, match="not a whole Parquet file"):
        compact_raw_day(lake, "BTC", DAY)
    assert len(lake.files.find("raw")) == 9


KILLED_AT_STEP = """
import datetime as dt, os, pathlib, signal, sys
from options_agent.lake import compaction
from options_agent.lake.store import Lake
root, left = sys.argv[1], int(sys.argv[2])
def counted(operation):
    def run(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return operation(*arguments, **options)
    return run
os.fsync = counted(os.fsync)
for name in ("read_bytes", "replace", "unlink"):
    setattr(pathlib.Path, name, counted(getattr(pathlib.Path, name)))
compaction.compact_raw_day(Lake(root, "synthetic"), "BTC", dt.date(2026, 1, 31))
print(left)
"""


def test_to_a_stage_that_reads_or_wrote_it_a_compacted_day_is_unchanged(lake: Lake) -> None:
    records = tuple(write_snapshot(lake, table) for table in chain_day(hours=8))
    receipt = Receipt("harvest", "BTC", DAY.isoformat(), "f", files=records)
    before = raw_fingerprint(lake, "BTC", DAY)
    compact_raw_day(lake, "BTC", DAY)
    assert raw_fingerprint(lake, "BTC", DAY) == before
    assert unchanged(lake, receipt, "f")
    write_snapshot(lake, chain_day(hours=8, seed=9)[3], replace=True)
    assert raw_fingerprint(lake, "BTC", DAY) != before
    compact_raw_day(lake, "BTC", DAY)
    assert not unchanged(lake, receipt, "f"), "the rows it wrote are no longer there"
    lake.files.delete(layout.day_path("raw", "BTC", DAY))
    assert not unchanged(lake, receipt, "f")


@pytest.mark.slow
def test_compaction_killed_at_any_point_loses_and_doubles_nothing(local_lake: Lake, tmp_path: Path) -> None:
    """Each kill falls on a fresh copy of the day, at a step counted on an undisturbed run, and the work is then done again."""
    harvested(local_lake)
    before = read_raw_day(local_lake, "BTC", DAY)

    def compacted(lake: Lake, step: int) -> int:
        shutil.copytree(local_lake.root, lake.root)
        child = subprocess.run([sys.executable, "-c", KILLED_AT_STEP, lake.root, str(step)], check=False, capture_output=True, text=True)
        assert child.returncode in {0, -9}, child.stderr
        return int(child.stdout or 0)

    total = 10**6 - compacted(Lake(str(tmp_path / "whole"), "synthetic"), 10**6)
    assert total > 9 * 3
    counts = set()
    dice = random.Random(7)
    for step in sorted({total - 1, *dice.sample(range(total - 18, total), 6), *dice.sample(range(total - 18), 4)}):
        lake = Lake(str(tmp_path / f"killed-{step}"), "synthetic")
        compacted(lake, step)
        counts.add(len(lake.files.find("raw")))
        assert read_raw_day(lake, "BTC", DAY).equals(before)
        compact_raw_day(lake, "BTC", DAY)
        assert read_raw_day(lake, "BTC", DAY).equals(before)
        assert len(list(Path(lake.files.place(layout.day_folder("raw", "BTC", DAY))).iterdir())) == 1
    assert len(counts) >= 4, f"kills fell before, between and after the removals: {counts}"


def test_the_days_file_is_settled_on_the_disk_before_the_small_ones_go(local_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    harvested(local_lake)
    happened: list[str] = []
    fsync, delete = os.fsync, LocalFiles.delete

    def flushing(number: int) -> None:
        happened.append(f"flush {Path(f'/proc/self/fd/{number}').readlink()}")
        fsync(number)

    def deleting(files: LocalFiles, path: str) -> None:
        happened.append("delete")
        delete(files, path)

    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(LocalFiles, "delete", deleting)
    record = compact_raw_day(local_lake, "BTC", DAY)
    folder = Path(local_lake.files.place(record.path)).parent
    assert f"flush {folder}" in happened[: happened.index("delete")], "a rename that is not flushed can be lost to a power cut"
    assert happened.count("delete") == 9
