"""Bad input gets an error that names the file, the column and the row, and what to do; never a shorter chain."""

from __future__ import annotations

import datetime as dt
import gzip
from pathlib import Path

import polars as pl
import pytest

from options_agent.errors import DataError, SettingsError
from options_agent.lake.store import open_lake
from options_agent.market.harvest import harvest_day
from options_agent.market.recorded.source import RecordedSource
from options_agent.settings import RecordedSettings, load_settings
from tests.unit.market.recorded import builders
from tests.unit.market.recorded.builders import START


def read_all(path: Path) -> None:
    source = RecordedSource(RecordedSettings(path=path))
    for underlying in source.underlyings():
        first, last = source.span(underlying)
        list(source.snapshots(underlying, first, last + dt.timedelta(seconds=1)))


def refused(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        read_all(path)
    assert caught.value.remedy
    return caught.value


def sweep(folder: Path, **changed: object) -> pl.DataFrame:
    return builders.deribit_sweeps(builders.hours(2)).with_columns(**changed)  # type: ignore[arg-type]


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path).place == str(tmp_path)


def test_a_folder_of_nothing_but_texts_is_no_chain(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("chains to come")
    assert "no file holds an option chain" in str(refused(tmp_path))


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "absent" in str(refused(tmp_path / "absent"))


def test_no_path_at_all_names_the_setting() -> None:
    with pytest.raises(SettingsError, match="OPTIONS_AGENT_RECORDED__PATH"):
        RecordedSource(RecordedSettings())


def test_a_truncated_parquet_is_named(tmp_path: Path) -> None:
    good = tmp_path / "good.parquet"
    sweep(tmp_path).write_parquet(good)
    (tmp_path / "torn.parquet").write_bytes(good.read_bytes()[:-200])
    error = refused(tmp_path)
    assert error.place == str(tmp_path / "torn.parquet")
    assert "truncated or corrupt" in str(error)


def test_a_parquet_with_spoilt_pages_is_named(tmp_path: Path) -> None:
    path = tmp_path / "spoilt.parquet"
    sweep(tmp_path).write_parquet(path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[4:400] = b"\0" * 396
    path.write_bytes(bytes(data))
    assert "spoilt.parquet" in str(refused(tmp_path))


@pytest.mark.parametrize("cut", [20, 200])
def test_a_truncated_gzip_is_named_not_read_short(tmp_path: Path, cut: int) -> None:
    plain = tmp_path / "sweep.csv"
    builders.write_sweeps_csv(sweep(tmp_path), plain)
    data = gzip.compress(plain.read_bytes())
    plain.unlink()
    (tmp_path / "sweep.csv.gz").write_bytes(data[:-cut])
    error = refused(tmp_path)
    assert "gzip file is truncated or corrupt" in str(error)
    assert "sweep.csv.gz" in str(error)


def test_a_truncated_vendor_gzip_is_named_while_it_streams(tmp_path: Path) -> None:
    data = gzip.compress(builders.tardis_chain(builders.hours(200)).encode())
    (tmp_path / "OPTIONS.csv.gz").write_bytes(data[: len(data) // 2])
    assert "OPTIONS.csv.gz" in str(refused(tmp_path))


def test_a_file_without_a_byte_is_no_empty_day(tmp_path: Path) -> None:
    (tmp_path / "sweep.csv.gz").write_bytes(b"")
    assert "no content" in str(refused(tmp_path))


def test_an_empty_vendor_gzip_means_no_data(tmp_path: Path) -> None:
    (tmp_path / "2026-03-01.csv.gz").write_bytes(gzip.compress(b""))
    sweep(tmp_path).write_parquet(tmp_path / "good.parquet")
    source = RecordedSource(RecordedSettings(path=tmp_path))
    assert [report.note for report in source.catalogue.reports if report.kind == "skipped"] == ["an empty file: the vendor had no data"]


def test_a_csv_that_ends_in_the_middle_of_a_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sweep.csv"
    builders.write_sweeps_csv(sweep(tmp_path), path)
    path.write_bytes(path.read_bytes()[:-60])
    error = refused(tmp_path)
    assert "row 8" in str(error)


def test_a_missing_column_is_named_with_those_expected_and_found(tmp_path: Path) -> None:
    builders.write_sweeps_csv(sweep(tmp_path).drop("mark_price"), tmp_path / "sweep.csv")
    error = str(refused(tmp_path))
    assert "'deribit sweeps', which lacks column(s) ['mark_price']" in error
    assert "found [" in error
    assert "sweep.csv" in error


def test_an_unknown_format_is_refused_even_among_good_files(tmp_path: Path) -> None:
    sweep(tmp_path).write_parquet(tmp_path / "good.parquet")
    pl.DataFrame({"a": [1], "b": [2]}).write_csv(tmp_path / "odd.csv")
    error = str(refused(tmp_path))
    assert "unknown format" in error
    assert "['a', 'b']" in error


def test_an_ending_nobody_reads_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chain.xlsx").write_bytes(b"PK")
    assert "'.xlsx'" in str(refused(tmp_path))


def test_an_unknown_instrument_is_named_with_its_row(tmp_path: Path) -> None:
    names = [*builders.names(), "BTC-99XYZ26-1-C"]
    builders.deribit_sweeps(builders.hours(1), instruments=names).write_parquet(tmp_path / "x.parquet")
    error = refused(tmp_path)
    assert "BTC-99XYZ26-1-C" in str(error)
    assert "row 5" in str(error.place)


def test_an_instrument_of_a_date_that_does_not_exist_is_named(tmp_path: Path) -> None:
    builders.deribit_sweeps(builders.hours(1), instruments=["BTC-31FEB26-80000-C"]).write_parquet(tmp_path / "x.parquet")
    assert "BTC-31FEB26-80000-C" in str(refused(tmp_path))


def test_naive_timestamps_in_parquet_are_refused(tmp_path: Path) -> None:
    sweep(tmp_path, timestamp=pl.col("timestamp").dt.replace_time_zone(None)).write_parquet(tmp_path / "x.parquet")
    error = str(refused(tmp_path))
    assert "without a zone" in error
    assert "'timestamp'" in error


def test_naive_timestamps_in_csv_are_refused_with_their_row(tmp_path: Path) -> None:
    stamps = pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%S%.6f")
    naive = pl.when(pl.int_range(pl.len()) == 5).then(stamps).otherwise(stamps + "+00:00")
    sweep(tmp_path, timestamp=naive).write_csv(tmp_path / "x.csv")
    error = refused(tmp_path)
    assert "without a zone" in str(error)
    assert "row 6" in str(error.place)


def test_another_zone_is_converted_not_refused(tmp_path: Path) -> None:
    sweep(tmp_path, timestamp=pl.col("timestamp").dt.convert_time_zone("Asia/Tokyo")).write_parquet(tmp_path / "x.parquet")
    assert RecordedSource(RecordedSettings(path=tmp_path)).span("BTC")[0] == START


def test_a_price_that_is_no_number_is_named_with_its_row(tmp_path: Path) -> None:
    frame = sweep(tmp_path, timestamp=pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%S+00:00"), bid_price=pl.lit("n/a"))
    frame.write_csv(tmp_path / "x.csv")
    error = refused(tmp_path)
    assert "'bid_price', row 1" in str(error.place)


def test_seconds_where_microseconds_belong_are_refused(tmp_path: Path) -> None:
    builders.tardis_hours(builders.hours(2)).with_columns(pl.col("ts_us") // 1_000_000).write_parquet(tmp_path / "x.parquet")
    assert "is not a time in us" in str(refused(tmp_path))


def test_an_option_type_that_is_neither_is_named(tmp_path: Path) -> None:
    builders.tardis_hours(builders.hours(1)).with_columns(opt_type=pl.lit("chooser")).write_parquet(tmp_path / "x.parquet")
    assert "neither call nor put" in str(refused(tmp_path))


def test_a_torn_dict_is_named_with_its_row(tmp_path: Path) -> None:
    builders.tickers(builders.hours(1), nested=True).with_columns(greeks=pl.lit("{'vega': 1.0, 'del")).write_csv(tmp_path / "x.csv")
    error = refused(tmp_path)
    assert "'greeks', row 1" in str(error.place)


def test_nothing_is_written_when_one_file_of_the_folder_is_bad(tmp_path: Path) -> None:
    folder, home = tmp_path / "chains", tmp_path / "home"
    folder.mkdir()
    sweep(folder).write_parquet(folder / "a.parquet")
    builders.deribit_sweeps(builders.hours(1), instruments=["NONSENSE"]).write_parquet(folder / "b.parquet")
    settings = load_settings(home=home, network="mainnet", source="recorded", recorded={"path": folder}, _env_file=None)
    with pytest.raises(DataError):
        harvest_day(RecordedSource(settings.recorded), open_lake(settings), "BTC", START.date())
    assert not home.exists()
