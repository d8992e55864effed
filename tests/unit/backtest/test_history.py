"""A history holds every quote of its table, chained and grouped; its cache is opened, mended and renewed."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from options_agent.backtest.history import COLUMNS, TABLES, History, build_history, history_from_table, open_history
from options_agent.backtest.history_pack import ROW_FLOATS
from options_agent.errors import DataError, StorageError
from options_agent.lake.root import Lake, open_lake
from options_agent.lake.store import write_day, write_series
from options_agent.series import PRICE_SCHEMA
from options_agent.settings import Settings
from tests.chains import DAY, as_clean, chain, chain_day
from tests.unit.backtest.worlds import HOUR, QUOTES, START, World, random_world

CALL = "BTC-9JAN26-95000-C"
TOMORROW = DAY + dt.timedelta(days=1)


@pytest.fixture(scope="module")
def world() -> World:
    return random_world(11, snapshots=40)


@pytest.fixture(scope="module")
def packed(world: World) -> History:
    return world.history()


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """Two clean days of BTC and their prices."""
    lake = open_lake(settings)
    write_clean(lake, DAY)
    write_clean(lake, TOMORROW)
    write_prices(lake, 85_000.0)
    return lake


def write_clean(lake: Lake, day: dt.date, **options: int) -> None:
    write_day(lake, "clean", "BTC", day, as_clean(pa.concat_tables(chain_day(day, hours=4, **options))))


def write_prices(lake: Lake, *prices: float) -> None:
    noon = dt.datetime.combine(DAY, dt.time(12), dt.UTC)
    rows = [
        {"ts": noon + n * HOUR, "underlying": "BTC", "price": price, "kind": "index", "source": "test"} for n, price in enumerate(prices)
    ]
    write_series(lake, "prices", "BTC", DAY, pa.Table.from_pylist(rows, schema=PRICE_SCHEMA))


def micros(at: dt.datetime) -> int:
    return (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def test_every_quote_of_the_table_is_found_where_its_snapshot_and_contract_say(world: World, packed: History) -> None:
    assert packed.rows == len(world.quotes)
    place = {(int(packed.snapshot[q["snapshot"]]), packed.instruments[q["contract"]]): q for q in packed.quotes}
    assert len(place) == packed.rows
    for quote in world.quotes:
        row = place[micros(quote["snapshot"]), quote["instrument"]]
        for name in ROW_FLOATS:
            assert np.isnan(row[name]) if quote[name] is None else row[name] == quote[name]
        contract = packed.contracts[row["contract"]]
        assert contract["expiry"] == micros(quote["expiry"])
        assert contract["strike"] == quote["strike"]
        assert contract["call"] == (quote["right"] == "C")


def test_groups_tile_the_chain_in_order_of_snapshot_expiry_right_and_strike(packed: History) -> None:
    groups, chain, quotes = packed.groups, packed.chain, packed.quotes
    assert groups["first"][0] == packed.snaps["group"][0] == 0
    assert groups["first"][-1] == packed.rows
    assert packed.snaps["group"][-1] == groups.size - 1
    assert sorted(chain["row"].tolist()) == list(range(packed.rows))
    for s in range(packed.snapshots):
        own = range(packed.snaps["group"][s], packed.snaps["group"][s + 1])
        keys = [(groups["expiry"][g], groups["call"][g]) for g in own]
        assert keys == sorted(set(keys))
        for g in own:
            part = chain[groups["first"][g] : groups["first"][g + 1]]
            rows = quotes[part["row"]]
            assert part.size > 0
            assert (rows["snapshot"] == s).all()
            assert (np.diff(part["strike"]) > 0).all()
            np.testing.assert_array_equal(part["delta"], rows["delta"])
            np.testing.assert_array_equal(part["strike"], packed.contracts["strike"][rows["contract"]])
            assert (packed.contracts["expiry"][rows["contract"]] == groups["expiry"][g]).all()
            assert (packed.contracts["call"][rows["contract"]] == groups["call"][g]).all()


def test_a_contract_s_rows_are_neighbours_within_a_day_and_chained_across_days(packed: History) -> None:
    rows = defaultdict(list)
    for row, quote in enumerate(packed.quotes):
        rows[quote["contract"]].append(row)
    days = packed.snapshot[packed.quotes["snapshot"]] // 86_400_000_000
    assert (np.diff(days) >= 0).all()
    for own in rows.values():
        assert packed.quotes["next"][own].tolist() == [*own[1:], -1]
        assert (np.diff(packed.quotes["snapshot"][own]) > 0).all()
        for day in set(days[own].tolist()):
            of_day = [row for row in own if days[row] == day]
            assert of_day == list(range(of_day[0], of_day[-1] + 1))
    assert any(len(own) < packed.snapshots for own in rows.values())  # gaps are stepped over


def test_a_snapshot_is_known_when_its_last_row_is_and_never_before_the_one_ahead_of_it(world: World, packed: History) -> None:
    latest: dict[int, int] = defaultdict(int)
    for quote in world.quotes:
        latest[micros(quote["snapshot"])] = max(latest[micros(quote["snapshot"])], micros(quote["ts"]))
    assert packed.known_at.tolist() == np.maximum.accumulate([latest[s] for s in sorted(latest)]).tolist()
    late = World().quote(START, CALL, 0.01, 0.02, index=1.0).quote(START + HOUR, CALL, 0.01, 0.02, index=1.0)
    late.quotes[0]["ts"] = START + 5 * HOUR
    assert late.history().known_at.tolist() == [micros(START + 5 * HOUR)] * 2


def test_the_index_is_the_one_known_last_and_carried_over_snapshots_without() -> None:
    world = World()
    for strike, seconds, index in ((95_000, 9, 90_001.0), (96_000, 3, 90_002.0), (97_000, 30, None)):
        world.quote(START, f"BTC-9JAN26-{strike}-C", 0.01, 0.02, index=0.0)
        world.quotes[-1] |= {"ts": START + dt.timedelta(seconds=seconds), "index": index}
    world.quote(START + HOUR, CALL, 0.01, 0.02, index=0.0)
    world.quotes[-1]["index"] = None
    assert world.history().index.tolist() == [90_001.0, 90_001.0]


def test_the_order_of_rows_in_the_table_does_not_matter(world: World, packed: History) -> None:
    order = np.random.default_rng(0).permutation(len(world.quotes))
    shuffled = World(world.underlying, [world.quotes[i] for i in order], world.prices, world.funding)
    other = shuffled.history()
    same(other, packed)


def test_an_empty_table_is_refused() -> None:
    assert QUOTES.names == list(COLUMNS)
    with pytest.raises(DataError, match="no quotes"):
        history_from_table(QUOTES.empty_table(), PRICE_SCHEMA.empty_table(), underlying="BTC")


def test_a_second_build_opens_the_memory_map_of_the_first(lake: Lake, settings: Settings) -> None:
    first = build_history(lake, "BTC", DAY, TOMORROW, settings)
    (folder,) = cached(settings)
    built = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    second = build_history(lake, "BTC", DAY, TOMORROW, settings)
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == built
    assert second.fingerprint == first.fingerprint
    assert isinstance(second.quotes.base, np.memmap)
    same(first, second)
    assert second.rows == 2 * 4 * len(chain())
    assert [day for day, _ in second.days] == [DAY.isoformat(), TOMORROW.isoformat()]


@pytest.mark.parametrize("damage", ["missing array", "cut array", "cut meta"])
def test_a_torn_cache_is_built_again(lake: Lake, settings: Settings, damage: str) -> None:
    first = build_history(lake, "BTC", DAY, DAY, settings)
    expected = np.array(first.quotes)
    (folder,) = cached(settings)
    if damage == "missing array":
        (folder / "quotes.bin").unlink()
    elif damage == "cut array":
        (folder / "quotes.bin").write_bytes((folder / "quotes.bin").read_bytes()[:-40])
    else:
        (folder / "meta.json").write_text("{")
    with pytest.raises(StorageError, match="not whole"):
        open_history(folder)
    assert build_history(lake, "BTC", DAY, DAY, settings).quotes.tobytes() == expected.tobytes()
    assert cached(settings) == [folder]


def test_a_history_without_prices_is_cached_too(settings: Settings) -> None:
    lake = open_lake(settings)
    write_clean(lake, DAY)
    assert build_history(lake, "BTC", DAY, DAY, settings).prices.size == 0


def test_a_day_judged_anew_is_a_new_history(lake: Lake, settings: Settings) -> None:
    first = build_history(lake, "BTC", DAY, DAY, settings)
    write_clean(lake, DAY, contracts=9)
    second = build_history(lake, "BTC", DAY, DAY, settings)
    assert second.fingerprint != first.fingerprint
    assert second.rows == 4 * 9


def test_other_prices_are_a_new_history_even_where_they_sum_to_the_same(lake: Lake, settings: Settings) -> None:
    marks = set()
    for prices in ((85_000.0, 86_000.0), (86_000.0, 85_000.0), (85_500.0, 85_500.0)):
        write_prices(lake, *prices)
        history = build_history(lake, "BTC", DAY, DAY, settings)
        assert history.prices["price"].tolist() == list(prices)
        marks.add(history.fingerprint)
    assert len(marks) == 3


def test_a_range_without_clean_quotes_is_refused_with_a_remedy(lake: Lake, settings: Settings) -> None:
    with pytest.raises(DataError, match="no clean quotes") as refused:
        build_history(lake, "BTC", dt.date(2020, 1, 1), dt.date(2020, 1, 2), settings)
    assert "run" in str(refused.value.remedy)


def same(one: History, other: History) -> None:
    """Every table and name alike, byte by byte."""
    assert one.instruments == other.instruments
    for name in TABLES:
        assert np.array(getattr(one, name)).tobytes() == np.array(getattr(other, name)).tobytes(), name


@pytest.mark.parametrize("change", ["a day more", "last day judged anew", "first day judged anew"])
def test_a_history_is_renewed_from_what_is_still_true_and_is_what_a_new_one_would_be(
    lake: Lake, settings: Settings, tmp_path: Path, change: str
) -> None:
    later = DAY + dt.timedelta(days=2)
    build_history(lake, "BTC", DAY, TOMORROW, settings)
    if change == "a day more":
        write_clean(lake, later)
    else:
        write_clean(lake, TOMORROW if change == "last day judged anew" else DAY, contracts=9)
    renewed = build_history(lake, "BTC", DAY, later, settings)
    fresh = build_history(lake, "BTC", DAY, later, settings.model_copy(update={"home": tmp_path / "elsewhere"}))
    assert renewed.fingerprint == fresh.fingerprint
    same(renewed, fresh)


def cached(settings: Settings) -> list[Path]:
    return sorted((settings.home / "cache" / "history" / "synthetic" / "BTC").iterdir())
