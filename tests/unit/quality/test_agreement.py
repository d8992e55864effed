"""Two accounts of a day agree, or the report says where and by how much: rows are changed and found again."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from options_agent.errors import DataError
from options_agent.lake.layout import receipt_path
from options_agent.lake.raw import write_snapshot
from options_agent.lake.store import open_lake
from options_agent.quality.agreement import COMPARED, Side, Tolerance, compare, parse_side, sides_of
from options_agent.quotes import QUOTE_SCHEMA
from tests.chains import DAY, NOON, chain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from options_agent.lake.store import Lake
    from options_agent.settings import Settings

TARDIS, DERIBIT = Side("tardis"), Side("deribit")
HOURS = [NOON + n * dt.timedelta(hours=1) for n in range(3)]


def _write(lake: Lake, frames: Iterable[pl.DataFrame]) -> None:
    for frame in frames:
        write_snapshot(lake, frame.to_arrow().cast(QUOTE_SCHEMA), replace=True)


def _account(source: str, region: str = "eu", **columns: Any) -> list[pl.DataFrame]:
    frames = [pl.DataFrame(pl.from_arrow(chain(at, source=source, region=region, contracts=30))) for at in HOURS]
    return [frame.with_columns(**columns) for frame in frames]


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return open_lake(settings)


def test_equal_accounts_agree(lake: Lake) -> None:
    _write(lake, _account("tardis") + _account("deribit"))
    receipt = compare(lake, "BTC", DAY, TARDIS, DERIBIT)
    assert receipt.counts == {
        "snapshots": 3, "matched": 90, "only_left": 0, "only_right": 0, "disagreeing": 0, **{f"beyond:{name}": 0 for name in COMPARED}
    }  # fmt: skip
    assert (receipt.details["share_matched"], receipt.details["snapshots"], receipt.details["expiries"]) == (1.0, [], [])
    column = receipt.details["columns"]["mark"]
    assert column["both"] == column["equal"] > 0
    assert column["difference"]["max"] == 0.0


def test_what_was_changed_is_what_is_found(lake: Lake) -> None:
    left, right = _account("tardis"), _account("deribit")
    victim = right[1].filter(pl.col("bid").is_not_null() & pl.col("ask").is_not_null()).row(3, named=True)
    name = victim["instrument"]
    right[1] = right[1].with_columns(
        bid=pl.when(pl.col("instrument") == name).then(pl.col("bid") + 0.002).otherwise("bid"),
        mark_iv=pl.when(pl.col("instrument") == name).then(pl.col("mark_iv") - 0.03).otherwise("mark_iv"),
        ask=pl.when(pl.col("instrument") == name).then(None).otherwise("ask"),
        ts=pl.col("ts") + dt.timedelta(seconds=2),
    )
    _write(lake, left + right)
    receipt = compare(lake, "BTC", DAY, TARDIS, DERIBIT)
    beyond = {name: receipt.counts[f"beyond:{name}"] for name in COMPARED}
    assert beyond == {"bid": 1, "ask": 1, "mark": 0, "bid_iv": 0, "ask_iv": 0, "mark_iv": 1}
    assert receipt.counts["disagreeing"] == 1
    columns = receipt.details["columns"]
    assert columns["bid"]["difference"]["max"] == pytest.approx(0.002)
    assert columns["bid"]["difference"]["median"] == 0.0
    assert (columns["ask"]["only_left"], columns["ask"]["only_right"]) == (1, 0)
    (worst,) = columns["mark_iv"]["worst"]
    assert (worst["instrument"], worst["snapshot"]) == (name, HOURS[1].isoformat())
    assert worst["right"] - worst["left"] == pytest.approx(-0.03)
    assert worst["seconds_apart"] == 2.0
    (where,) = receipt.details["snapshots"]
    assert where == {"snapshot": HOURS[1].isoformat(), "matched": 30, "disagreeing": 1, "only_left": 0, "only_right": 0}
    (expiry,) = receipt.details["expiries"]
    assert expiry["expiry"] == victim["expiry"].isoformat()


def test_a_difference_within_a_tick_is_none(lake: Lake) -> None:
    right = _account("deribit", ask=pl.col("ask") + pl.when(pl.col("ask") > 0.005).then(0.0005).otherwise(0.0001))
    _write(lake, _account("tardis") + right)
    assert compare(lake, "BTC", DAY, TARDIS, DERIBIT).counts["beyond:ask"] == 0
    assert compare(lake, "BTC", DAY, TARDIS, DERIBIT, Tolerance(ticks=0.5)).counts["beyond:ask"] > 0


def test_missing_rows_and_snapshots_are_told_apart(lake: Lake) -> None:
    left, right = _account("tardis"), _account("deribit")
    left[0], right[2] = left[0].head(28), right[2].tail(25)
    _write(lake, left[:3] + right[:1] + right[2:])
    receipt = compare(lake, "BTC", DAY, TARDIS, DERIBIT)
    assert (receipt.counts["snapshots"], receipt.details["snapshots_only_left"], receipt.details["snapshots_only_right"]) == (2, 1, 0)
    assert (receipt.counts["only_left"], receipt.counts["only_right"], receipt.counts["matched"]) == (5, 2, 28 + 25)
    assert receipt.details["share_matched"] == pytest.approx(53 / 60)
    assert len(receipt.details["lone_rows"]["only_right"]) == 2


def test_regions_of_one_source_are_compared_and_merged(lake: Lake) -> None:
    _write(lake, _account("deribit", "eu") + _account("deribit", "us", mark=pl.col("mark") + 0.001) + _account("tardis"))
    assert [str(side) for side in sides_of(lake, "BTC", DAY)] == ["deribit/eu", "deribit/us", "tardis/eu"]
    between = compare(lake, "BTC", DAY, Side("deribit", "eu"), Side("deribit", "us"))
    assert between.counts["matched"] == 90
    assert between.counts["beyond:mark"] > 0
    assert compare(lake, "BTC", DAY, TARDIS, DERIBIT).counts["beyond:mark"] == 0  # of equal rows the first region's count


def test_the_receipt_is_json_and_stands_until_rows_change(lake: Lake) -> None:
    _write(lake, _account("tardis") + _account("deribit"))
    receipt = compare(lake, "BTC", DAY, TARDIS, DERIBIT)
    assert compare(lake, "BTC", DAY, TARDIS, DERIBIT) == receipt
    document = json.loads(lake.files.read(receipt_path("agreement", "BTC", f"{DAY}@tardis+deribit")))
    assert document["counts"]["matched"] == 90
    _write(lake, _account("deribit", bid=pl.lit(None, pl.Float64))[:1])
    assert compare(lake, "BTC", DAY, TARDIS, DERIBIT).counts["beyond:bid"] > 0


def test_an_account_without_rows_says_what_there_is(lake: Lake) -> None:
    _write(lake, _account("tardis"))
    with pytest.raises(DataError, match="no rows of BTC") as caught:
        compare(lake, "BTC", DAY, TARDIS, DERIBIT)
    assert "tardis/eu" in str(caught.value.remedy)


def test_accounts_that_share_no_snapshot_match_nothing(lake: Lake) -> None:
    _write(lake, _account("tardis")[:1] + _account("deribit")[1:])
    receipt = compare(lake, "BTC", DAY, TARDIS, DERIBIT)
    assert (receipt.counts["matched"], receipt.details["share_matched"]) == (0, 0.0)
    assert receipt.details["columns"]["bid"]["difference"]["max"] is None


@pytest.mark.parametrize("text", ["", "deribit/", "a/b/c", "Deribit"])
def test_a_side_is_a_source_or_a_source_and_region(text: str) -> None:
    assert parse_side("deribit/eu1") == Side("deribit", "eu1")
    with pytest.raises(DataError, match="names no source"):
        parse_side(text)
