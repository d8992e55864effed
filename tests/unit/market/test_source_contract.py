"""One contract that every source keeps; a new source joins `SOURCES`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from options_agent.errors import DataError, SettingsError
from options_agent.lake.store import open_lake, write_day
from options_agent.market.harvest import harvest_day
from options_agent.market.recorded.source import RecordedSource
from options_agent.market.sources import LakeSource, Source, open_source
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.quotes import CLEAN_SCHEMA, QUOTE_SCHEMA, SORT_KEYS
from options_agent.series import DVOL_SCHEMA, FUNDING_SCHEMA, PRICE_SCHEMA
from options_agent.settings import RecordedSettings, SyntheticSettings, load_settings
from tests.unit.market.recorded import builders

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
END = START + dt.timedelta(hours=30)


def synthetic(_: Path) -> Source:
    return SyntheticSource(SyntheticSettings(defect_rate=0))  # a defect is a breach of the contract


def lake(folder: Path) -> Source:
    """A lake that was filled from the synthetic source."""
    store = open_lake(load_settings(home=folder / "home", _env_file=None))
    source = SyntheticSource(SyntheticSettings(defect_rate=0))
    for day in (START.date(), END.date()):
        harvest_day(source, store, "BTC", day)
        rows = pa.concat_tables(source.snapshots("BTC", *_bounds(day)))
        flags = [pa.array([False] * rows.num_rows)] * 2
        write_day(store, "clean", "BTC", day, pa.Table.from_arrays([*rows.columns, *flags], schema=CLEAN_SCHEMA))
    return LakeSource(store)


def recorded(folder: Path) -> Source:
    """Files of another recorder: hourly sweeps and prices, made here."""
    builders.deribit_sweeps(builders.hours(48, START)).write_parquet(folder / "sweeps.parquet")
    builders.write_prices(folder / "prices", START)
    return RecordedSource(RecordedSettings(path=folder))


SOURCES: dict[str, Callable[[Path], Source]] = {"synthetic": synthetic, "lake": lake, "recorded": recorded}


def _bounds(day: dt.date) -> tuple[dt.datetime, dt.datetime]:
    start = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
    return start, start + dt.timedelta(days=1)


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return SOURCES[request.param](tmp_path)


def test_each_snapshot_is_a_quote_table_of_one_grid_time_in_the_range(source: Source) -> None:
    tables = list(source.snapshots("BTC", START, END))
    assert tables
    stamps = []
    for table in tables:
        assert table.schema.equals(QUOTE_SCHEMA)
        [stamp] = pc.unique(table["snapshot"]).to_pylist()
        assert START <= stamp < END
        assert pc.unique(table["underlying"]).to_pylist() == ["BTC"]
        assert table.num_rows > 0
        stamps.append(stamp)
    assert stamps == sorted(set(stamps))


def test_rows_are_sorted_and_none_means_null(source: Source) -> None:
    table = next(iter(source.snapshots("BTC", START, END)))
    keys = list(zip(*(table[k].to_pylist() for k in SORT_KEYS), strict=True))
    assert keys == sorted(keys)
    for name in ("bid", "ask", "mark"):
        values = table[name].drop_null().to_pylist()
        assert values
        assert min(values) > 0


def test_halves_of_a_range_are_the_whole(source: Source) -> None:
    middle = START + dt.timedelta(hours=13)
    whole = pa.concat_tables(source.snapshots("BTC", START, END))
    halves = pa.concat_tables([*source.snapshots("BTC", START, middle), *source.snapshots("BTC", middle, END)])
    assert whole.equals(halves)


def test_series_keep_their_schemas_and_the_range(source: Source) -> None:
    for table, schema in (
        (source.prices("BTC", START, END), PRICE_SCHEMA),
        (source.dvol("BTC", START, END), DVOL_SCHEMA),
        (source.funding("BTC", START, END), FUNDING_SCHEMA),
    ):
        assert table.schema.equals(schema)
        stamps = table["ts"].to_pylist()
        assert stamps == sorted(stamps)
        assert all(START <= s < END for s in stamps)


def test_the_fingerprint_depends_on_the_range_and_on_nothing_else(source: Source) -> None:
    assert source.fingerprint("BTC", START, END) == source.fingerprint("BTC", START, END)
    assert source.fingerprint("BTC", START, END) != source.fingerprint("BTC", START, END - dt.timedelta(days=1))


def test_an_unknown_family_is_refused_by_name(source: Source) -> None:
    with pytest.raises(DataError, match="DOGE"):
        list(source.snapshots("DOGE", START, END))
    with pytest.raises(DataError, match="DOGE"):
        source.span("DOGE")


@pytest.mark.parametrize("name", ["synthetic", "lake"])
def test_a_naive_range_is_refused(name: str, tmp_path: Path) -> None:
    source = SOURCES[name](tmp_path)
    with pytest.raises(DataError, match="naive"):
        list(source.snapshots("BTC", START.replace(tzinfo=None), END.replace(tzinfo=None)))


def test_nothing_is_known_before_the_grid_time_it_answers_for_nor_after_expiry(source: Source) -> None:
    for table in source.snapshots("BTC", START, END):
        assert pc.all(pc.less(table["ts"], table["expiry"])).as_py()
        assert pc.all(pc.greater_equal(table["ts"], table["snapshot"])).as_py()


def test_it_says_what_it_has(source: Source) -> None:
    assert "BTC" in source.underlyings()
    assert source.interval("BTC") == dt.timedelta(hours=1)
    if (span := source.span("BTC")) is not None:
        assert span[0] <= span[1]


def test_latest_is_known_or_refused(source: Source) -> None:
    now = START + dt.timedelta(hours=3, minutes=7)
    if not source.live:
        with pytest.raises(DataError):
            source.latest("BTC", now)
        return
    table = source.latest("BTC", now)
    assert table is not None
    assert pc.max(table["ts"]).as_py() <= now
    assert now - table["snapshot"][0].as_py() < dt.timedelta(minutes=20)


def test_a_source_is_opened_by_its_name_and_says_what_it_lacks(tmp_path: Path) -> None:
    assert open_source(load_settings(home=tmp_path, _env_file=None)).name == "synthetic"
    assert open_source(load_settings(home=tmp_path, source="lake", network="mainnet", _env_file=None)).name == "lake"
    with pytest.raises(SettingsError, match="RECORDED__PATH"):
        open_source(load_settings(home=tmp_path, source="recorded", network="mainnet", _env_file=None))
