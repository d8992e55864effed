"""The source over folders: mixed formats, snapshots held twice, series found beside, fingerprints, bounded reading."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from options_agent.errors import DataError
from options_agent.market.recorded import source as source_module
from options_agent.market.recorded.source import RecordedSource
from options_agent.settings import RecordedSettings
from tests.unit.market.recorded import builders
from tests.unit.market.recorded.builders import START

DAY = dt.timedelta(days=1)


def open_at(path: Path, prices: Path | None = None) -> RecordedSource:
    return RecordedSource(RecordedSettings(path=path, prices=prices))


def everything(source: RecordedSource, underlying: str = "BTC") -> pa.Table:
    first, last = source.span(underlying)
    return pa.concat_tables(source.snapshots(underlying, first, last + DAY))


def test_a_folder_of_mixed_files_and_formats_is_read_at_once(tmp_path: Path) -> None:
    builders.deribit_sweeps(builders.hours(3)).write_parquet(tmp_path / "sweeps.parquet")
    builders.tardis_hours(builders.hours(3, START - DAY)).write_parquet(tmp_path / "hours.parquet")
    builders.book_harvest(START, 14).write_parquet(tmp_path / "harvest.parquet")
    (tmp_path / "deep").mkdir()
    builders.tickers([START + DAY]).write_csv(tmp_path / "deep" / "tickers.csv")
    pl.DataFrame({"trade_seq": [1], "trade_id": [2], "instrument_name": ["x"], "direction": ["buy"]}).write_csv(tmp_path / "trades.csv")
    (tmp_path / "reply.json").write_text("{}")
    (tmp_path / ".hidden.csv").write_text("odd")
    builders.write_prices(tmp_path / "prices")
    source = open_at(tmp_path)
    assert source.underlyings() == ("BTC", "XRP_USDC")
    assert {report.name: report.note for report in source.catalogue.reports if report.kind == "skipped"} == {
        "trades.csv": "trades, not a chain",
        "reply.json": "JSON: exchange replies or traffic, not a table of quotes",
    }
    assert everything(source).num_rows == 3 * 4 + 3 * 2 + 4
    assert sum(report.kind == "series" for report in source.catalogue.reports) == 3
    assert "beside the chains" in source.series_from


def test_a_snapshot_held_by_two_files_is_served_once_from_the_parquet(tmp_path: Path) -> None:
    frame = builders.deribit_sweeps(builders.hours(2))
    frame.write_parquet(tmp_path / "z.parquet")
    builders.write_sweeps_csv(frame.head(4), tmp_path / "a.csv")
    source = open_at(tmp_path)
    assert everything(source).num_rows == 8
    [csv] = [report for report in source.catalogue.reports if report.name == "a.csv"]
    assert (csv.rows, csv.kept, csv.left_out) == (4, 0, {"also in another file": 4})
    assert "z.parquet" in csv.note


def test_halves_of_a_snapshot_in_two_files_make_a_whole(tmp_path: Path) -> None:
    frame = builders.deribit_sweeps(builders.hours(1))
    frame.head(3).write_parquet(tmp_path / "a.parquet")
    frame.tail(3).write_parquet(tmp_path / "b.parquet")
    source = open_at(tmp_path)
    assert sorted(everything(source)["instrument"].to_pylist()) == sorted(builders.names())
    assert [report.kept for report in source.catalogue.reports] == [3, 1]


def test_duplicates_within_a_file_are_left_for_quality_to_judge(tmp_path: Path) -> None:
    frame = builders.deribit_sweeps(builders.hours(1))
    pl.concat([frame, frame.head(1)]).write_parquet(tmp_path / "a.parquet")
    assert everything(open_at(tmp_path)).num_rows == 5


def test_a_single_file_is_a_source_too(tmp_path: Path) -> None:
    builders.deribit_sweeps(builders.hours(2)).write_parquet(tmp_path / "only.parquet")
    assert open_at(tmp_path / "only.parquet").span("BTC") == (START, START + dt.timedelta(hours=1))


def test_the_interval_is_the_median_on_a_grid_a_recorder_can_have_meant(tmp_path: Path) -> None:
    drifting = [START + dt.timedelta(minutes=minutes) for minutes in (0, 351, 720, 1_062, 1_800, 2_130)]
    builders.deribit_sweeps(drifting).write_parquet(tmp_path / "a.parquet")
    assert open_at(tmp_path).interval("BTC") == dt.timedelta(hours=6)


def test_day_by_day_is_the_same_as_all_at_once(tmp_path: Path) -> None:
    builders.deribit_sweeps([START + dt.timedelta(hours=7 * n) for n in range(12)]).write_parquet(tmp_path / "a.parquet")
    source = open_at(tmp_path)
    by_day = [t for n in range(5) for t in source.snapshots("BTC", START + n * DAY, START + (n + 1) * DAY)]
    assert pa.concat_tables(by_day).equals(everything(source))


@pytest.mark.parametrize("build", [builders.deribit_sweeps, builders.tardis_hours])
def test_a_parquet_too_big_to_hold_is_read_a_day_at_a_time_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: object) -> None:
    at = [START + dt.timedelta(hours=5 * n, minutes=59, seconds=58) for n in range(12)]
    build(at).write_parquet(tmp_path / "a.parquet")  # type: ignore[operator]
    whole = everything(open_at(tmp_path))
    monkeypatch.setattr(source_module, "_WHOLE_ROWS", 1)
    monkeypatch.setattr(source_module, "_KEPT_ROWS", 1)
    source = open_at(tmp_path)
    assert everything(source).equals(whole)
    assert len(source._kept) == 1


def test_the_fingerprint_changes_with_the_files_of_the_range_only(tmp_path: Path) -> None:
    builders.deribit_sweeps(builders.hours(3)).write_parquet(tmp_path / "a.parquet")
    builders.deribit_sweeps(builders.hours(3, START + 5 * DAY)).write_parquet(tmp_path / "b.parquet")
    before = open_at(tmp_path)
    first, second = ((START, START + DAY), (START + 5 * DAY, START + 6 * DAY))
    changed = builders.deribit_sweeps(builders.hours(3, START + 5 * DAY)).with_columns(ask_price=0.013)
    changed.write_parquet(tmp_path / "b.parquet")
    after = open_at(tmp_path)
    assert before.fingerprint("BTC", *first) == after.fingerprint("BTC", *first)
    builders.write_prices(tmp_path / "prices")
    with_prices = open_at(tmp_path)
    assert with_prices.fingerprint("BTC", *first) != after.fingerprint("BTC", *first)
    assert with_prices.fingerprint("BTC", *second) == after.fingerprint("BTC", *second)


def test_the_fingerprint_does_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        builders.deribit_sweeps(builders.hours(3)).write_parquet(tmp_path / name / f"{name}.parquet")
    one, two = open_at(tmp_path / "one"), open_at(tmp_path / "two")
    assert one.fingerprint("BTC", START, START + DAY) == two.fingerprint("BTC", START, START + DAY)


def test_it_is_not_live_and_says_what_to_do(tmp_path: Path) -> None:
    builders.deribit_sweeps(builders.hours(1)).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="harvest its days instead"):
        open_at(tmp_path).latest("BTC", START)


def test_bars_are_known_at_their_close_and_the_chain_adds_its_index(tmp_path: Path) -> None:
    """Defect 6: only the index stands for the coin; the forwards of the chain (85,400.25) never do."""
    (tmp_path / "chains").mkdir()
    builders.deribit_sweeps([START + dt.timedelta(minutes=30)]).write_parquet(tmp_path / "chains" / "a.parquet")
    builders.write_prices(tmp_path / "prices")
    source = open_at(tmp_path / "chains")
    assert "next to the chains" in source.series_from
    rows = source.prices("BTC", START, START + dt.timedelta(hours=2)).to_pylist()
    assert [(row["ts"], row["price"], row["kind"]) for row in rows] == [
        (START + dt.timedelta(minutes=30), 85_000.5, "chain"),
        (START + dt.timedelta(hours=1), 85_000.0, "perpetual"),
    ]
    eth = source.prices("ETH", START, START + DAY)
    assert pc.unique(eth["kind"]).to_pylist() == ["spot"]


def test_chains_without_an_index_add_no_price(tmp_path: Path) -> None:
    builders.tardis_hours(builders.hours(3)).write_parquet(tmp_path / "a.parquet")
    source = open_at(tmp_path)
    assert source.prices("BTC", START, START + DAY).num_rows == 0
    assert "nowhere" in source.series_from


def test_dvol_is_known_when_its_day_has_ended_and_is_a_decimal(tmp_path: Path) -> None:
    builders.deribit_sweeps(builders.hours(1)).write_parquet(tmp_path / "a.parquet")
    builders.write_prices(tmp_path / "other")
    source = open_at(tmp_path / "a.parquet", prices=tmp_path / "other")
    rows = source.dvol("BTC", START, START + DAY).to_pylist()
    assert [(row["ts"], row["close"], row["source"]) for row in rows] == [(START, 0.475, "btc_dvol")]
    assert "setting" in source.series_from


def test_funding_is_a_decimal_per_eight_hours(tmp_path: Path) -> None:
    builders.deribit_sweeps(builders.hours(1)).write_parquet(tmp_path / "a.parquet")
    builders.write_prices(tmp_path / "prices")
    rows = open_at(tmp_path).funding("BTC", START, START + DAY).to_pylist()
    assert [row["rate_8h"] for row in rows] == [pytest.approx(0.0001)] * 3


def test_a_linear_family_reads_the_series_of_its_coin(tmp_path: Path) -> None:
    linear = builders.names("BTC_USDC", (80_000.0,))
    builders.deribit_sweeps(builders.hours(1), "BTC_USDC", linear).write_parquet(tmp_path / "a.parquet")
    builders.write_prices(tmp_path / "prices")
    source = open_at(tmp_path)
    table = source.prices("BTC_USDC", START, START + DAY)
    assert pc.unique(table["underlying"]).to_pylist() == ["BTC_USDC"]
    assert sorted(pc.unique(table["kind"]).to_pylist()) == ["chain", "perpetual"]
    assert everything(source, "BTC_USDC")["settlement"].to_pylist() == ["usdc", "usdc"]


def test_a_funding_file_without_a_coin_in_its_name_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"t_ms": [1_772_323_200_000], "funding_rate_pct": [0.01]}).write_csv(tmp_path / "funding.csv")
    with pytest.raises(DataError, match="which coin"):
        open_at(tmp_path)


def test_a_dvol_day_that_is_none_is_named_with_its_row(tmp_path: Path) -> None:
    values = {name: [47.0] for name in ("open", "high", "low", "close")}
    pl.DataFrame({"date": ["06/04/2026"], "symbol": ["BTC"], **values}).write_csv(tmp_path / "btc.csv")
    with pytest.raises(DataError, match="row 1"):
        open_at(tmp_path)
