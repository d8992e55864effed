"""Each recorder's format: what its columns become in the quote table, and that no row is lost."""

from __future__ import annotations

import datetime as dt
import gzip
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from options_agent.market.recorded.source import RecordedSource
from options_agent.quotes import QUOTE_SCHEMA
from options_agent.settings import RecordedSettings
from tests.unit.market.recorded import builders
from tests.unit.market.recorded.builders import START

AT = START + dt.timedelta(hours=5, minutes=17, seconds=44, microseconds=123)


def source_of(path: Path) -> RecordedSource:
    return RecordedSource(RecordedSettings(path=path))


def quotes(source: RecordedSource, underlying: str = "BTC") -> pa.Table:
    first, last = source.span(underlying)
    return pa.concat_tables(source.snapshots(underlying, first, last + dt.timedelta(seconds=1)))


def rows_add_up(source: RecordedSource) -> None:
    served = sum(quotes(source, underlying).num_rows for underlying in source.underlyings())
    assert served == sum(report.kept for report in source.catalogue.reports if report.kind == "chain")
    for report in source.catalogue.reports:
        assert report.rows == report.kept + sum(report.left_out.values())


def test_a_sweep_is_stamped_with_its_start_and_answers_for_the_minute(tmp_path: Path) -> None:
    builders.deribit_sweeps([AT]).write_parquet(tmp_path / "2026-03.parquet")
    table = quotes(source_of(tmp_path))
    assert table.schema.equals(QUOTE_SCHEMA)
    assert pc.unique(table["ts"]).to_pylist() == [AT]
    assert pc.unique(table["snapshot"]).to_pylist() == [AT.replace(second=0, microsecond=0)]
    assert pc.unique(table["source"]).to_pylist() == ["recorded"]
    assert pc.unique(table["network"]).to_pylist() == ["mainnet"]


def test_a_missing_bid_and_a_mark_of_zero_are_null_and_mark_iv_stays(tmp_path: Path) -> None:
    builders.deribit_sweeps([AT]).write_parquet(tmp_path / "2026-03.parquet")
    [row] = [row for row in quotes(source_of(tmp_path)).to_pylist() if row["instrument"] == "BTC-27MAR26-90000-P"]
    assert row["bid"] is None
    assert row["mark"] is None
    assert row["mark_iv"] == 0.4523
    assert row["ask"] == 0.0125
    assert row["gamma"] is None
    assert row["bid_size"] is None


def test_coin_premiums_stay_in_coin_and_forward_is_not_index(tmp_path: Path) -> None:
    """Defects 5 and 6: a coin premium is no USD, a forward of an expiry is no spot."""
    builders.deribit_sweeps([AT]).write_parquet(tmp_path / "2026-03.parquet")
    row = quotes(source_of(tmp_path)).to_pylist()[0]
    assert (row["settlement"], row["bid"], row["mark"]) == ("coin", 0.0105, 0.01153)
    assert (row["forward"], row["index"]) == (85_400.25, 85_000.5)


def test_csv_and_parquet_of_a_sweep_are_the_same_quotes(tmp_path: Path) -> None:
    frame = builders.deribit_sweeps([AT])
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    frame.write_parquet(tmp_path / "a" / "sweep.parquet")
    builders.write_sweeps_csv(frame, tmp_path / "b" / "sweep.csv")
    (tmp_path / "b" / "sweep.csv.gz").write_bytes(gzip.compress((tmp_path / "b" / "sweep.csv").read_bytes()))
    (tmp_path / "b" / "sweep.csv").unlink()
    assert quotes(source_of(tmp_path / "a")).equals(quotes(source_of(tmp_path / "b")))


def test_hourly_rows_answer_for_the_full_hour_after_them_and_prices_are_not_invented(tmp_path: Path) -> None:
    known = START + dt.timedelta(hours=1) - dt.timedelta(seconds=3)
    builders.tardis_hours([known]).write_parquet(tmp_path / "h.parquet")
    call, put = quotes(source_of(tmp_path)).to_pylist()
    assert (call["ts"], call["snapshot"]) == (known, START + dt.timedelta(hours=1))
    assert call["instrument"] == "BTC-27MAR26-80000-C"
    assert (call["bid"], call["ask"], call["index"]) == (None, None, None)
    assert (call["bid_iv"], call["mark_iv"]) == (pytest.approx(0.60), pytest.approx(0.6289))
    assert (put["bid_iv"], put["ask_iv"], put["mark"]) == (None, None, None)
    assert put["right"] == "P"


def test_a_row_on_the_hour_answers_for_that_hour(tmp_path: Path) -> None:
    builders.tardis_hours([START]).write_parquet(tmp_path / "h.parquet")
    assert source_of(tmp_path).span("BTC")[0] == START


def test_rows_after_their_own_expiry_are_kept_for_quality_to_judge(tmp_path: Path) -> None:
    late = builders.EXPIRY + dt.timedelta(minutes=1)
    builders.tardis_hours([late]).write_parquet(tmp_path / "h.parquet")
    source = source_of(tmp_path)
    assert quotes(source).num_rows == 2
    rows_add_up(source)


def test_the_vendors_stray_rows_at_a_months_end_are_left_out_and_counted(tmp_path: Path) -> None:
    end_of_month = dt.datetime(2026, 3, 31, 23, 59, 59, 500_000, tzinfo=dt.UTC)
    builders.tardis_hours([*builders.hours(5), end_of_month]).write_parquet(tmp_path / "2026-03.parquet")
    source = source_of(tmp_path)
    assert source.catalogue.reports[0].left_out == {"stray rows of the next month": 2}
    assert source.span("BTC")[1].day == 1
    rows_add_up(source)


def test_the_last_hour_of_a_whole_month_is_no_stray(tmp_path: Path) -> None:
    last_hours = [dt.datetime(2026, 3, 31, hour, 59, 59, 500_000, tzinfo=dt.UTC) for hour in (21, 22, 23)]
    builders.tardis_hours(last_hours).write_parquet(tmp_path / "2026-03.parquet")
    source = source_of(tmp_path)
    assert source.catalogue.reports[0].left_out == {}
    assert source.span("BTC")[1] == dt.datetime(2026, 4, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize("nested", [False, True])
def test_tickers_zero_means_none_and_greeks_are_the_exchanges(tmp_path: Path, *, nested: bool) -> None:
    builders.tickers([AT], nested=nested).write_csv(tmp_path / "sweep.csv")
    rows = {row["instrument"]: row for row in quotes(source_of(tmp_path)).to_pylist()}
    none = rows["BTC-27MAR26-80000-C"]
    assert [none[name] for name in ("bid", "bid_size", "bid_iv")] == [None, None, None]
    row = rows["BTC-27MAR26-90000-P"]
    assert [row[name] for name in ("bid", "bid_size", "delta", "gamma", "vega", "theta")] == [0.0105, 0.4, -0.49, 2e-05, 76.4, -34.0]
    assert row["bid_iv"] == pytest.approx(0.93)
    assert row["mark_iv"] == pytest.approx(0.9507)
    assert (row["forward"], row["index"], row["volume_24h"]) == (85_400.25, 85_000.5, 8.2)


def test_appended_sweeps_of_one_file_are_snapshots_of_their_own(tmp_path: Path) -> None:
    second = AT + dt.timedelta(minutes=5)
    builders.tickers([AT, second]).write_csv(tmp_path / "sweeps.csv")
    source = source_of(tmp_path)
    tables = list(source.snapshots("BTC", START, START + dt.timedelta(days=1)))
    assert [table["snapshot"][0].as_py() for table in tables] == [at.replace(second=0, microsecond=0) for at in (AT, second)]
    assert [table.num_rows for table in tables] == [4, 4]
    assert pc.max(tables[0]["ts"]).as_py() > tables[0]["snapshot"][0].as_py()


def test_a_book_summary_has_no_volatility_and_no_index(tmp_path: Path) -> None:
    builders.book_reply(AT).write_csv(tmp_path / "reply.csv")
    rows = quotes(source_of(tmp_path), "ETH").to_pylist()
    assert {row["mark_iv"] for row in rows} == {None}
    assert {row["index"] for row in rows} == {None}
    assert sum(row["bid"] is None for row in rows) == 1


@pytest.mark.parametrize("columns", [8, 14, 20])
def test_a_drifting_schema_and_decimal_strikes_lose_no_row(tmp_path: Path, columns: int) -> None:
    """Defects 2 and 11: 8, 14 and 20 columns in one week; XRP strikes with a `d` unparsed."""
    builders.book_harvest(AT, columns).write_parquet(tmp_path / "x.parquet")
    source = source_of(tmp_path)
    rows = quotes(source, "XRP_USDC").to_pylist()
    assert sorted({row["strike"] for row in rows}) == [0.625, 2.0]
    assert {row["settlement"] for row in rows} == {"usdc"}
    assert rows[0]["instrument"] == "XRP_USDC-27MAR26-0d625-C"
    assert rows[0]["mark_iv"] == pytest.approx(0.8867)
    assert rows[0]["ask"] == (None if columns == 8 else 0.43)
    rows_add_up(source)


def test_drifted_schemas_are_read_side_by_side(tmp_path: Path) -> None:
    for n, columns in enumerate((8, 14, 20)):
        builders.book_harvest(AT + dt.timedelta(minutes=15 * n), columns).write_parquet(tmp_path / f"{columns}.parquet")
    source = source_of(tmp_path)
    assert len(list(source.snapshots("XRP_USDC", START, START + dt.timedelta(days=1)))) == 3
    assert source.interval("XRP_USDC") == dt.timedelta(minutes=15)


@pytest.mark.parametrize("packed", [False, True])
def test_vendor_ticks_are_thinned_to_the_last_row_of_each_hour(tmp_path: Path, *, packed: bool) -> None:
    at = [START + dt.timedelta(minutes=minute) for minute in (5, 50, 65)]
    text = builders.tardis_chain(at).encode()
    (tmp_path / ("OPTIONS.csv.gz" if packed else "OPTIONS.csv")).write_bytes(gzip.compress(text) if packed else text)
    source = source_of(tmp_path)
    assert source.underlyings() == ("BTC", "XRP_USDC")
    rows = quotes(source).to_pylist()
    assert [(row["ts"], row["snapshot"]) for row in rows] == [
        (at[1], START + dt.timedelta(hours=1)),
        (at[2], START + dt.timedelta(hours=2)),
    ]
    assert (rows[0]["bid"], rows[0]["ask"], rows[0]["bid_size"]) == (None, 0.0235, None)
    assert rows[0]["mark_iv"] == pytest.approx(0.6289)
    assert quotes(source, "XRP_USDC")["instrument"][0].as_py() == "XRP_USDC-27MAR26-0d625-C"
    assert source.catalogue.reports[0].left_out == {"not the last of its hour": 2}
    rows_add_up(source)


def test_futures_and_combos_in_a_book_summary_are_left_out_and_counted(tmp_path: Path) -> None:
    frame = builders.book_reply(AT)
    others = frame.head(3).with_columns(instrument_name=pl.Series(["ETH-PERPETUAL", "ETH-27MAR26", "ETH-CS-27MAR26-2200_2400"]))
    pl.concat([frame, others]).write_csv(tmp_path / "reply.csv")
    source = source_of(tmp_path)
    assert sum(source.catalogue.reports[0].left_out.values()) == 3
    assert quotes(source, "ETH").num_rows == 4
    rows_add_up(source)
