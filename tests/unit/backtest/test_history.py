"""A history holds every quote of its table, chained and grouped; its cache is opened, mended and renewed."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from options_agent.backtest.history import COLUMNS, History, build_history, history_from_table, open_history
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


def test_every_quote_of_the_table_is_found_where_its_snapshot_group_and_strike_say(world: World, packed: History) -> None:
    assert packed.rows == len(world.quotes)
    place = {(int(packed.snapshot[packed.row_snapshot[r]]), packed.instruments[packed.row_contract[r]]): r for r in range(packed.rows)}
    assert len(place) == packed.rows
    for quote in world.quotes:
        row = place[micros(quote["snapshot"]), quote["instrument"]]
        for name in ("strike", "bid", "ask", "mark", "mark_iv", "delta", "open_interest"):
            held, given = getattr(packed, name)[row], quote[name]
            assert np.isnan(held) if given is None else held == given
        contract = packed.row_contract[row]
        assert packed.contract_expiry[contract] == micros(quote["expiry"])
        assert packed.contract_strike[contract] == quote["strike"]
        assert packed.contract_call[contract] == (quote["right"] == "C")


def test_groups_tile_the_rows_in_order_of_snapshot_expiry_right_and_strike(packed: History) -> None:
    assert packed.group_row[0] == packed.snapshot_group[0] == 0
    assert packed.group_row[-1] == packed.rows
    assert packed.snapshot_group[-1] == packed.group_expiry.size
    for s in range(packed.snapshots):
        groups = range(packed.snapshot_group[s], packed.snapshot_group[s + 1])
        keys = [(packed.group_expiry[g], packed.group_call[g]) for g in groups]
        assert keys == sorted(set(keys))
        for g in groups:
            rows = np.arange(packed.group_row[g], packed.group_row[g + 1])
            assert rows.size > 0
            assert (packed.row_snapshot[rows] == s).all()
            assert (np.diff(packed.strike[rows]) > 0).all()
            assert (packed.contract_expiry[packed.row_contract[rows]] == packed.group_expiry[g]).all()
            assert (packed.contract_call[packed.row_contract[rows]] == packed.group_call[g]).all()


def test_chains_lead_through_all_rows_of_a_contract_and_no_other(packed: History) -> None:
    rows = defaultdict(list)
    for row, contract in enumerate(packed.row_contract):
        rows[contract].append(row)
    for own in rows.values():
        assert packed.next_row[own].tolist() == [*own[1:], -1]
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
    shuffled = World(world.underlying, [world.quotes[i] for i in np.random.default_rng(0).permutation(len(world.quotes))], world.prices)
    other = shuffled.history()
    for name in ("known_at", "index", "group_row", "strike", "bid", "ask", "mark", "delta", "next_row"):
        np.testing.assert_array_equal(getattr(other, name), getattr(packed, name))


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
    assert isinstance(second.bid.base, np.memmap)
    np.testing.assert_array_equal(first.bid, second.bid)
    assert second.rows == 2 * 4 * len(chain())
    assert [day for day, _ in second.days] == [DAY.isoformat(), TOMORROW.isoformat()]


@pytest.mark.parametrize("damage", ["missing array", "cut array", "cut meta"])
def test_a_torn_cache_is_built_again(lake: Lake, settings: Settings, damage: str) -> None:
    first = build_history(lake, "BTC", DAY, DAY, settings)
    expected = np.array(first.bid)
    (folder,) = cached(settings)
    if damage == "missing array":
        (folder / "bid.npy").unlink()
    elif damage == "cut array":
        (folder / "bid.npy").write_bytes((folder / "bid.npy").read_bytes()[:-40])
    else:
        (folder / "meta.json").write_text("{")
    with pytest.raises(StorageError, match="not whole"):
        open_history(folder)
    np.testing.assert_array_equal(build_history(lake, "BTC", DAY, DAY, settings).bid, expected)
    assert cached(settings) == [folder]


def test_a_history_without_prices_is_cached_too(settings: Settings) -> None:
    lake = open_lake(settings)
    write_clean(lake, DAY)
    assert build_history(lake, "BTC", DAY, DAY, settings).price.size == 0


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
        assert history.price.tolist() == list(prices)
        marks.add(history.fingerprint)
    assert len(marks) == 3


def test_a_range_without_clean_quotes_is_refused_with_a_remedy(lake: Lake, settings: Settings) -> None:
    with pytest.raises(DataError, match="no clean quotes") as refused:
        build_history(lake, "BTC", dt.date(2020, 1, 1), dt.date(2020, 1, 2), settings)
    assert "run" in str(refused.value.remedy)


def cached(settings: Settings) -> list[Path]:
    return sorted((settings.home / "cache" / "history" / "synthetic" / "BTC").iterdir())
