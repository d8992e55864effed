from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.errors import DataError, StorageError
from options_agent.lake import layout
from options_agent.lake.store import (
    Lake,
    days,
    open_lake,
    read_day,
    read_range,
    read_raw_day,
    read_series,
    set_aside,
    snapshot_files,
    underlyings,
    write_day,
    write_series,
    write_snapshot,
)
from options_agent.quotes import CLEAN_SCHEMA, QUOTE_SCHEMA, sort_quotes
from options_agent.series import PRICE_SCHEMA
from options_agent.settings import load_settings
from tests.chains import NOON, as_clean, as_quarantined, chain, chain_day

DAY = NOON.date()


def test_a_snapshot_lies_where_the_layout_says_and_reads_back(lake: Lake) -> None:
    record = write_snapshot(lake, chain())
    assert record.path == "raw/quotes/underlying=BTC/day=2026-01-31/20260131T120000Z-synthetic-local.parquet"
    assert (record.rows, record.bytes) == (12, lake.files.size(record.path))
    assert read_raw_day(lake, "BTC", DAY).equals(chain())


def test_the_same_snapshot_twice_is_the_same_file(lake: Lake) -> None:
    shuffled = chain().take(np.random.default_rng(0).permutation(12))
    assert write_snapshot(lake, chain()) == write_snapshot(lake, shuffled)
    assert len(read_raw_day(lake, "BTC", DAY)) == 12


def test_other_rows_under_a_snapshots_name_are_refused_unless_asked_for(lake: Lake) -> None:
    write_snapshot(lake, chain(seed=1))
    with pytest.raises(DataError, match=r"already there with other rows.*replace=True"):
        write_snapshot(lake, chain(seed=2))
    assert read_raw_day(lake, "BTC", DAY).equals(chain(seed=1))
    write_snapshot(lake, chain(seed=2), replace=True)
    assert read_raw_day(lake, "BTC", DAY).equals(chain(seed=2))


def test_a_snapshot_of_two_regions_sources_or_times_is_refused(lake: Lake) -> None:
    for other in (chain(region="east"), chain(source="tardis"), chain(NOON + dt.timedelta(hours=1)), chain().slice(0, 0)):
        mixed = pa.concat_tables([chain(), other]) if len(other) else other
        with pytest.raises(DataError, match="a raw snapshot has one"):
            write_snapshot(lake, mixed)
    with pytest.raises(DataError, match="quote schema"):
        write_snapshot(lake, as_clean(chain()))


def test_a_null_in_a_required_column_is_refused_before_anything_is_written(lake: Lake) -> None:
    table = chain().set_column(3, QUOTE_SCHEMA.field("instrument"), pa.nulls(12, pa.string()))
    with pytest.raises(DataError, match="may not be null"):
        write_snapshot(lake, table)
    assert lake.files.find("") == {}


def test_raw_days_hold_every_region_and_source_unmerged(lake: Lake) -> None:
    tables = [chain(), chain(region="east"), chain(source="tardis"), chain(NOON + dt.timedelta(hours=1))]
    for table in tables:
        write_snapshot(lake, table)
    assert len(read_raw_day(lake, "BTC", DAY)) == 48
    assert [(f.snapshot.hour, f.source, f.region) for f in snapshot_files(lake, "BTC", DAY)] == [
        (12, "synthetic", "east"),
        (12, "synthetic", "local"),
        (12, "tardis", "local"),
        (13, "synthetic", "local"),
    ]


def test_an_empty_lake_reads_as_empty_tables(lake: Lake) -> None:
    assert read_raw_day(lake, "BTC", DAY).equals(QUOTE_SCHEMA.empty_table())
    assert read_day(lake, "clean", "BTC", DAY).schema.equals(CLEAN_SCHEMA)
    assert read_range(lake, "clean", "BTC", DAY, DAY, columns=["bid"]).column_names == ["bid"]
    assert days(lake, "raw", "BTC") == []
    assert underlyings(lake, "raw") == []
    assert snapshot_files(lake, "BTC", DAY) == []


def test_networks_do_not_see_each_other(tmp_path: Path) -> None:
    write_snapshot(Lake(str(tmp_path), "synthetic"), chain())
    assert days(Lake(str(tmp_path), "mainnet"), "raw", "BTC") == []


@pytest.mark.parametrize(("layer", "as_layer"), [("clean", as_clean), ("quarantine", as_quarantined)])
def test_a_day_reads_back_in_quote_order_with_its_schema(lake: Lake, layer, as_layer) -> None:
    day = sort_quotes(pa.concat_tables([as_layer(table) for table in chain_day(hours=6)]))
    record = write_day(lake, layer, "BTC", DAY, day.take(np.random.default_rng(0).permutation(len(day))))
    assert record == write_day(lake, layer, "BTC", DAY, day), "a function of its rows alone"
    back = read_day(lake, layer, "BTC", DAY)
    assert back.equals(day)
    assert back.schema.equals(day.schema, check_metadata=True)


def test_a_day_without_rows_is_a_day_nevertheless(lake: Lake) -> None:
    write_day(lake, "quarantine", "BTC", DAY, as_quarantined(chain()).slice(0, 0))
    assert days(lake, "quarantine", "BTC") == [DAY]
    assert len(read_day(lake, "quarantine", "BTC", DAY)) == 0


def test_a_day_of_another_schema_is_refused(lake: Lake) -> None:
    with pytest.raises(DataError, match=r"missing \['greeks_computed', 'iv_computed'\]"):
        write_day(lake, "clean", "BTC", DAY, chain())


def test_a_range_is_inclusive_sorted_and_takes_only_the_columns_asked(lake: Lake) -> None:
    written = []
    for offset in range(4):
        at = DAY + dt.timedelta(days=offset)
        written.append(as_clean(pa.concat_tables(chain_day(at, hours=3))))
        write_day(lake, "clean", "BTC", at, written[-1])
    write_day(lake, "clean", "ETH", DAY, as_clean(chain(underlying="ETH")))
    got = read_range(lake, "clean", "BTC", DAY + dt.timedelta(days=1), DAY + dt.timedelta(days=2))
    assert got.equals(sort_quotes(pa.concat_tables(written[1:3])))
    assert read_range(lake, "clean", "BTC", DAY, DAY, columns=["mark", "bid"]).equals(sort_quotes(written[0]).select(["mark", "bid"]))
    assert days(lake, "clean", "BTC") == [DAY + dt.timedelta(days=n) for n in range(4)]
    assert underlyings(lake, "clean") == ["BTC", "ETH"]
    with pytest.raises(DataError, match="no column"):
        read_range(lake, "clean", "BTC", DAY, DAY, columns=["colour"])


def test_days_whose_rows_were_known_late_are_still_in_order_of_time(lake: Lake) -> None:
    late = chain(NOON, known_after=86_400.0)
    following = chain(NOON + dt.timedelta(hours=13))
    write_day(lake, "clean", "BTC", DAY, as_clean(late))
    write_day(lake, "clean", "BTC", DAY + dt.timedelta(days=1), as_clean(following))
    expected = sort_quotes(pa.concat_tables([late, following]))
    got = read_range(lake, "clean", "BTC", DAY, DAY + dt.timedelta(days=1), columns=["ts", "instrument", "bid"])
    assert got.equals(expected.select(["ts", "instrument", "bid"]))


def side(table: pa.Table, name: str, value: float | None) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), QUOTE_SCHEMA.field(name), pa.array([value] * len(table), pa.float64()))


def test_of_two_regions_the_more_complete_row_wins_then_the_later_then_the_first_name(lake: Lake) -> None:
    full, no_bid = side(side(chain(), "bid", 0.01), "ask", 0.02), side(side(chain(), "bid", None), "ask", 0.02)

    def winner(*tables: pa.Table) -> set[str]:
        write_day(lake, "clean", "BTC", DAY, as_clean(pa.concat_tables(tables)))
        merged = read_range(lake, "clean", "BTC", DAY, DAY)
        assert len(merged) == 12
        assert len(read_range(lake, "clean", "BTC", DAY, DAY, columns=["strike"])) == 12, "merged whatever columns are asked"
        assert len(read_day(lake, "clean", "BTC", DAY)) == 12 * len(tables), "a day reads as written"
        return set(merged["region"].to_pylist())

    def region(table: pa.Table, name: str, seconds: int = 0) -> pa.Table:
        ts = pa.array([NOON + dt.timedelta(seconds=3 + seconds)] * len(table), pa.timestamp("us", tz="UTC"))
        return table.set_column(0, QUOTE_SCHEMA.field("ts"), ts).set_column(
            table.schema.get_field_index("region"), QUOTE_SCHEMA.field("region"), pa.array([name] * len(table))
        )

    assert winner(region(no_bid, "a", 60), region(full, "b")) == {"b"}
    assert winner(region(side(full, "mark", None), "a", 60), region(full, "b")) == {"b"}
    assert winner(region(full, "a"), region(full, "b", 1)) == {"b"}
    assert winner(region(full, "b"), region(full, "a"), region(full, "c")) == {"a"}


def test_two_sources_of_a_snapshot_are_both_kept(lake: Lake) -> None:
    write_day(lake, "clean", "BTC", DAY, as_clean(pa.concat_tables([chain(), chain(source="tardis", region="east")])))
    assert len(read_range(lake, "clean", "BTC", DAY, DAY)) == 24


def test_a_truncated_snapshot_is_named_and_can_be_set_aside(lake: Lake) -> None:
    good = write_snapshot(lake, chain())
    bad = write_snapshot(lake, chain(NOON + dt.timedelta(hours=1)))
    lake.files.write(bad.path, lake.files.read(bad.path)[:-100])
    with pytest.raises(DataError, match="not a whole Parquet file") as refused:
        read_raw_day(lake, "BTC", DAY)
    assert refused.value.place == lake.files.place(bad.path)
    target = set_aside(lake, refused.value.place, "truncated")
    assert target == f"quarantine/files/{bad.path}"
    assert "truncated" in lake.files.read(f"{target}.note.json").decode()
    assert read_raw_day(lake, "BTC", DAY).equals(chain())
    assert [file.path for file in snapshot_files(lake, "BTC", DAY)] == [good.path]
    assert days(lake, "quarantine", "BTC") == [], "set-aside files are no days"


def test_a_file_of_another_schema_is_named(lake: Lake) -> None:
    path = layout.snapshot_path("BTC", NOON, "synthetic", "local")
    write_series(lake, "prices", "BTC", DAY, prices(NOON))
    lake.files.move(layout.series_path("prices", "BTC", DAY), path)
    with pytest.raises(DataError, match="columns do not fit") as refused:
        read_raw_day(lake, "BTC", DAY)
    assert refused.value.place == lake.files.place(path)


def prices(*times: dt.datetime) -> pa.Table:
    n = len(times)
    columns = [list(times), ["BTC"] * n, [100.0 + i for i in range(n)], ["index"] * n, ["synthetic"] * n]
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, PRICE_SCHEMA, strict=True)], schema=PRICE_SCHEMA)


def test_series_read_by_day_and_by_instant(lake: Lake) -> None:
    midnight = dt.datetime.combine(DAY, dt.time(), dt.UTC)
    for offset in range(3):
        first = midnight + dt.timedelta(days=offset)
        write_series(lake, "prices", "BTC", first.date(), prices(first + dt.timedelta(hours=24), first + dt.timedelta(hours=12)))

    def hours(**bounds: object) -> list[float]:
        return [(ts - midnight) / dt.timedelta(hours=1) for ts in read_series(lake, "prices", "BTC", **bounds)["ts"].to_pylist()]  # type: ignore[arg-type]

    assert hours() == [12, 24, 36, 48, 60, 72]
    assert hours(start=DAY + dt.timedelta(days=1), end=DAY + dt.timedelta(days=1)) == [24, 36]
    assert hours(start=midnight + dt.timedelta(hours=13), end=midnight + dt.timedelta(hours=36)) == [24]
    assert read_series(lake, "prices", "BTC").schema.equals(PRICE_SCHEMA)
    assert len(read_series(lake, "dvol", "BTC")) == 0
    with pytest.raises(DataError, match="naive"):
        hours(start=dt.datetime(2026, 1, 31))


@hypothesis_settings(max_examples=30, deadline=None)
@given(
    st.datetimes(dt.datetime(2017, 1, 1), dt.datetime(2035, 1, 1)).map(lambda at: at.replace(microsecond=0, tzinfo=dt.UTC)),
    st.from_regex(r"\A[A-Za-z0-9_.]{1,12}\Z"),
    st.from_regex(r"\A[a-z0-9]{1,8}\Z"),
)
def test_a_snapshots_name_parses_back(at: dt.datetime, source: str, region: str) -> None:
    path = layout.snapshot_path("BTC_USDC", at, source, region)
    assert layout.parse_snapshot_name(path.rsplit("/", 1)[1]) == (at, source, region)
    assert layout.day_of(path) == at.date()


@pytest.mark.parametrize("underlying", ["../BTC", "btc", "", "BTC/ETH"])
def test_a_name_that_would_leave_its_folder_is_refused(underlying: str) -> None:
    with pytest.raises(DataError):
        layout.day_path("clean", underlying, DAY)


def test_a_lake_never_shows_its_secret(tmp_path: Path) -> None:
    lake = open_lake(load_settings(home=tmp_path, s3_access_key_id="AKIA-SHOWN", s3_secret_access_key="never-to-be-seen", _env_file=None))
    assert "never-to-be-seen" not in repr(lake)


def test_a_disk_that_fills_during_a_harvest_leaves_whole_snapshots_only(small_disk: Path) -> None:
    lake, written = Lake(str(small_disk), "synthetic"), []

    def harvest() -> None:
        for minute in range(200):
            written.append(write_snapshot(lake, chain(NOON + dt.timedelta(minutes=minute), contracts=90)))  # noqa: PERF401 - kept when it raises

    with pytest.raises(StorageError, match=r"disk is full.*free space"):
        harvest()
    assert 2 < len(written) < 200
    assert [file.path for file in snapshot_files(lake, "BTC", DAY)] == [record.path for record in written]
    assert len(read_raw_day(lake, "BTC", DAY)) == 90 * len(written)
