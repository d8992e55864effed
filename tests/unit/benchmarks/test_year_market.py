"""The year backtests are measured on is what it says: whole chains on ticks, with gaps, by its seed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from benchmarks.year_market import EXPIRIES, MISSING, STRIKES, index_of, year_tables
from options_agent.backtest.history_pack import COLUMNS

DAYS = 5


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pa.concat_tables(list(year_tables("BTC", DAYS)))


def test_a_snapshot_has_all_strikes_of_ten_expiries_but_for_the_missing(table: pa.Table) -> None:
    assert table.column_names == list(COLUMNS)
    full = 24 * DAYS * EXPIRIES * STRIKES * 2
    assert full * (1 - 1.3 * MISSING) < table.num_rows < full * (1 - 0.7 * MISSING)
    assert pc.count_distinct(table["snapshot"]).as_py() == 24 * DAYS


def test_no_row_is_expired_crossed_or_off_its_tick(table: pa.Table) -> None:
    assert pc.all(pc.greater(table["expiry"], table["snapshot"])).as_py()
    assert pc.all(pc.less(table["bid"], table["ask"])).as_py()
    for side in ("bid", "ask"):
        price = table[side].drop_null().to_numpy()
        tick = np.where(price < 0.005, 0.0001, 0.0005)
        assert np.abs(price / tick - np.rint(price / tick)).max() < 1e-6


def test_contracts_have_gaps_in_their_series(table: pa.Table) -> None:
    first_day = table.slice(0, next(year_tables("BTC", 1)).num_rows)
    rows = first_day.group_by("instrument").aggregate([("snapshot", "count"), ("snapshot", "min"), ("snapshot", "max")])
    hours = pc.divide(pc.subtract(rows["snapshot_max"].cast("int64"), rows["snapshot_min"].cast("int64")), 3_600_000_000)
    assert pc.any(pc.less(rows["snapshot_count"], pc.add(hours, 1))).as_py()


def test_a_seed_is_a_market_and_a_longer_year_begins_with_it(table: pa.Table) -> None:
    again = pa.concat_tables(list(year_tables("BTC", DAYS)))
    assert again.equals(table)
    assert next(year_tables("BTC", DAYS + 3)).equals(next(year_tables("BTC", DAYS)))
    assert not next(year_tables("BTC", DAYS, seed=2)).equals(next(year_tables("BTC", DAYS)))
    assert np.array_equal(index_of("ETH", 3), index_of("ETH", 9)[: 24 * 3 + 1])
