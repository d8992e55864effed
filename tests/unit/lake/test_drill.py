from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from options_agent.lake import drill as drills
from options_agent.lake.archive import Archive, archive_day
from options_agent.lake.drill import drawn_days, drill
from options_agent.lake.manifest import manifest_folder
from options_agent.lake.receipts import read_receipt
from options_agent.lake.store import Lake, write_day
from tests.chains import DAY, as_clean, as_quarantined, chain

MONTH = dt.date(2026, 3, 1)


@pytest.fixture
def archive(local_lake: Lake, tmp_path: Path) -> Archive:
    """Twelve archived days of BTC and one of ETH."""
    archive = Archive(str(tmp_path / "archive"), "synthetic")
    for underlying, days in (("BTC", 12), ("ETH", 1)):
        for offset in range(days):
            day = DAY + dt.timedelta(days=offset)
            write_day(local_lake, "clean", underlying, day, as_clean(chain(underlying=underlying).slice(1)))
            write_day(local_lake, "quarantine", underlying, day, as_quarantined(chain(underlying=underlying).slice(0, 1)))
            archive_day(local_lake, archive, underlying, day)
    return archive


def test_a_month_draws_its_own_days_and_always_the_same(archive: Archive) -> None:
    drawn = drawn_days(archive, MONTH, 3)
    assert drawn == drawn_days(archive, MONTH + dt.timedelta(days=20), 3)
    assert [underlying for underlying, _ in drawn] == ["BTC", "BTC", "BTC", "ETH"]
    months = {tuple(drawn_days(archive, dt.date(2026, month, 1), 3)) for month in range(1, 13)}
    assert len(months) > 8


def test_a_good_drill_restores_reads_and_compares_and_leaves_a_receipt(local_lake: Lake, archive: Archive) -> None:
    before = {path: local_lake.files.read(path) for path in local_lake.files.find("clean")}
    (path,) = local_lake.files.find(f"clean/quotes/underlying=ETH/day={DAY}")
    local_lake.files.delete(path)
    local_lake.files.delete(path.replace("clean/", "quarantine/"))
    found = drill(local_lake, archive, MONTH, 2)
    assert [(one.underlying, one.files, one.rows, one.local, one.problems) for one in found] == [
        ("BTC", 2, 12, "same", ()),
        ("BTC", 2, 12, "same", ()),
        ("ETH", 2, 12, "absent", ()),
    ]
    receipt = read_receipt(local_lake, "drill", "BTC", "2026-03")
    assert receipt is not None
    assert (receipt.counts["days"], receipt.counts["problems"], receipt.counts["rows"]) == (2, 0, 24)
    assert {p: local_lake.files.read(p) for p in before if p != path} == {p: d for p, d in before.items() if p != path}


@pytest.mark.parametrize("harm", ["altered", "missing", "manifest"])
def test_a_harmed_archive_is_a_problem_of_its_day_and_the_others_go_on(local_lake: Lake, archive: Archive, harm: str) -> None:
    (underlying, day), *others = drawn_days(archive, MONTH, 3)
    (path,) = archive.files.find(f"clean/quotes/underlying={underlying}/day={day}")
    if harm == "altered":
        archive.files.write(path, archive.files.read(path)[:-1] + b"x")
    elif harm == "missing":
        archive.files.delete(path)
    else:
        (path,) = archive.files.find(manifest_folder(underlying, day))
        archive.files.write(path, b"{}")
    first, *rest = drill(local_lake, archive, MONTH, 3)
    assert len(first.problems) == 1
    assert not any(one.problems for one in rest)
    assert len(rest) == len(others)
    receipt = read_receipt(local_lake, "drill", underlying, "2026-03")
    assert receipt is not None
    assert receipt.counts["problems"] == 1


def test_a_lake_that_went_on_without_its_archive_is_a_problem(local_lake: Lake, archive: Archive) -> None:
    (underlying, day), *_ = drawn_days(archive, MONTH, 1)
    write_day(local_lake, "clean", underlying, day, as_clean(chain(underlying=underlying).slice(2)))
    first, *_ = drill(local_lake, archive, MONTH, 1)
    assert first.local == "differs"
    assert "archive it again" in first.problems[0]


def test_an_empty_archive_has_nothing_to_drill(local_lake: Lake, tmp_path: Path) -> None:
    assert drill(local_lake, Archive(str(tmp_path / "nothing"), "synthetic"), MONTH, 3) == []
    assert drills.STAGE == "drill"
