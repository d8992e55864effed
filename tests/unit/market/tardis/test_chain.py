"""Ticks become snapshots: what had arrived by the grid time, in the table's units, whatever the blocks of the file."""

from __future__ import annotations

import datetime as dt
import gzip
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from options_agent.errors import DataError
from options_agent.market.recorded.tardis_chain import FORMAT as RECORDED
from options_agent.market.tardis.chain import Thinned
from options_agent.market.tardis.header import OPTIONS_CHAIN
from options_agent.quotes import QUOTE_SCHEMA
from tests.servers.tardis_files import CHAIN_HEADER, GOLDEN, chain_csv, hourly_csv, micros
from tests.unit.market.tardis.worlds import FREE, HOUR, midnight, quotes_of, thinned

DAY = dt.date(2025, 6, 1)
START = micros(midnight(DAY))
HOUR_US = 3_600_000_000


def _file(folder: Path, text: str) -> Path:
    path = folder / "chain.csv.gz"
    path.write_bytes(gzip.compress(text.encode(), 1))
    return path


def _row(symbol: str, arrived: int, bid: str = "0.0105", expiry: dt.datetime | None = None, strike: str = "100000") -> str:
    expires = micros(expiry or dt.datetime(2025, 6, 27, 8, tzinfo=dt.UTC))
    right = "call" if symbol.endswith("C") else "put"
    return (
        f"deribit,{symbol},{arrived - 9},{arrived},{right},{strike},{expires},12,,{bid},3,50.5,,,,0.011,51.25,"
        "SYN.BTC-27JUN25,104000.5,0.4,0.0001,20,-30,1"
    )


def _csv(*rows: str) -> str:
    return "\n".join([CHAIN_HEADER, *rows]) + "\n"


def test_the_published_header_is_the_one_that_is_read() -> None:
    assert ",".join(OPTIONS_CHAIN.columns) == CHAIN_HEADER


def test_the_vendors_own_row_in_the_tables_units(tmp_path: Path) -> None:
    day = dt.date(2020, 6, 8)
    ((family, table), *_) = thinned(_file(tmp_path, _csv(GOLDEN)), day)
    assert (family, table.schema) == ("BTC", QUOTE_SCHEMA)
    row = table.to_pylist()[0]
    assert row["ts"] == dt.datetime(2020, 6, 8, 0, 0, 0, 196_008, tzinfo=dt.UTC)
    assert row["snapshot"] == dt.datetime(2020, 6, 8, 1, tzinfo=dt.UTC)
    assert row["expiry"] == dt.datetime(2020, 6, 9, 8, tzinfo=dt.UTC)
    want = {
        "underlying": "BTC", "instrument": "BTC-9JUN20-9875-P", "strike": 9875.0, "right": "P", "settlement": "coin",
        "bid": 0.0205, "ask": 0.0235, "mark": 0.02210436, "bid_size": 15.1, "ask_size": 15.2, "bid_iv": 55.91 / 100, "ask_iv": 68.94 / 100,
        "mark_iv": 62.89 / 100, "delta": -0.61752, "gamma": 0.00103, "vega": 2.24964, "theta": -53.05655, "forward": 9756.36, "index": None,
        "open_interest": 0.1, "volume_24h": None, "source": "tardis", "network": "mainnet", "region": "eu",
    }  # fmt: skip
    assert {name: row[name] for name in want} == want


def test_nothing_is_known_before_it_arrived_and_the_grid_time_itself_counts(tmp_path: Path) -> None:
    at = START + HOUR_US
    rows = [
        _row("BTC-27JUN25-100000-C", at - 5, "0.01"),
        _row("BTC-27JUN25-100000-C", at, "0.02"),
        _row("BTC-27JUN25-100000-C", at + 1, "0.03"),
    ]
    first, second = (table.to_pylist()[0] for _, table in thinned(_file(tmp_path, _csv(*rows)), DAY)[:2])
    assert (first["bid"], first["ts"]) == (0.02, midnight(DAY) + HOUR)
    assert second["bid"] == 0.03


def test_of_two_rows_of_one_instant_the_later_line_counts(tmp_path: Path) -> None:
    rows = [_row("BTC-27JUN25-100000-C", START + 5, "0.01"), _row("BTC-27JUN25-100000-C", START + 5, "0.02")]
    assert thinned(_file(tmp_path, _csv(*rows)), DAY)[0][1]["bid"].to_pylist() == [0.02]


def test_a_silent_instrument_is_carried_to_its_greatest_age_and_no_further(tmp_path: Path) -> None:
    rows = [_row("BTC-27JUN25-100000-C", START + 30 * 60 * 1_000_000), _row("BTC-27JUN25-90000-C", START + 23 * HOUR_US, strike="90000")]
    found = thinned(_file(tmp_path, _csv(*rows)), DAY, max_age=dt.timedelta(hours=2))
    carried = [table["snapshot"][0].as_py().hour for _, table in found if "BTC-27JUN25-100000-C" in table["instrument"].to_pylist()]
    assert carried == [1, 2]
    assert len(found) == 2 + 2  # and the other at 23:00 and at the midnight that ends the day


def test_an_expired_instrument_is_in_no_snapshot_from_its_expiry_on(tmp_path: Path) -> None:
    expiry = midnight(DAY) + 8 * HOUR
    rows = [_row("BTC-1JUN25-100000-C", START + hour * HOUR_US + 5, expiry=expiry) for hour in range(12)]
    hours = [table["snapshot"][0].as_py().hour for _, table in thinned(_file(tmp_path, _csv(*rows)), DAY)]
    assert hours == [1, 2, 3, 4, 5, 6, 7]


def test_the_day_starts_with_what_was_heard_that_day(tmp_path: Path) -> None:
    rows = [
        _row("BTC-27JUN25-100000-C", START - 1),
        _row("BTC-27JUN25-90000-C", START + 1, strike="90000"),
        _row("BTC-27JUN25-80000-C", START + 24 * HOUR_US + 1, strike="80000"),
    ]
    counts = Thinned()
    ((_, only),) = thinned(_file(tmp_path, _csv(*rows)), DAY, counts=counts)
    assert only["instrument"].to_pylist() == ["BTC-27JUN25-90000-C"]
    assert counts.left_out == {"arrived outside the day": 2}


def test_rows_that_come_after_a_later_grid_time_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [_row("BTC-27JUN25-100000-C", START + 2 * HOUR_US + 5, "0.02"), _row("BTC-27JUN25-100000-C", START + HOUR_US, "0.01")]
    counts = Thinned()
    found = thinned(_file(tmp_path, _csv(*rows)), DAY, counts=counts)
    assert [table["bid"].to_pylist() for _, table in found] == [[0.02]]
    assert counts.left_out == {"out of order": 1}


def test_symbols_of_every_family_and_kind(tmp_path: Path) -> None:
    expiry = dt.datetime(2025, 6, 27, 8, tzinfo=dt.UTC)
    rows = [
        _row("XRP_USDC-27JUN25-0D625-C", START + 1, expiry=expiry, strike="0.625"),
        _row("BTC_USDC-27JUN25-100000-P", START + 2),
        _row("BTC-27JUN25-100000-P", START + 3),
        _row("BTC-PERPETUAL", START + 4),
        _row("WHAT/EVER", START + 5),
    ]
    counts = Thinned()
    found = dict(thinned(_file(tmp_path, _csv(*rows)), DAY, families=("BTC", "BTC_USDC", "XRP_USDC"), counts=counts))
    assert {name: table["instrument"].to_pylist() for name, table in found.items()} == {
        "BTC": ["BTC-27JUN25-100000-P"],
        "BTC_USDC": ["BTC_USDC-27JUN25-100000-P"],
        "XRP_USDC": ["XRP_USDC-27JUN25-0d625-C"],
    }
    assert found["XRP_USDC"]["settlement"].to_pylist() == ["usdc"]
    assert counts.foreign == ["BTC-PERPETUAL", "WHAT/EVER"]


def test_a_row_that_contradicts_its_own_name_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [_row("BTC-27JUN25-100000-C", START + 1), _row("BTC-27JUN25-90000-C", START + 2, strike="95000")]
    counts = Thinned()
    found = thinned(_file(tmp_path, _csv(*rows)), DAY, counts=counts)
    assert found[0][1]["instrument"].to_pylist() == ["BTC-27JUN25-100000-C"]
    assert counts.left_out == {"name, strike, expiry and type contradict each other": 1}


def test_a_forward_that_is_the_index_says_so(tmp_path: Path) -> None:
    rows = [_row("BTC-27JUN25-100000-C", START + 1).replace("SYN.BTC-27JUN25", "index_price")]
    assert thinned(_file(tmp_path, _csv(*rows)), DAY)[0][1]["index"].to_pylist() == [104000.5]


def test_a_value_that_is_no_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bid_price is not a number: 'x'"):
        thinned(_file(tmp_path, _csv(_row("BTC-27JUN25-100000-C", START + 1, "x"))), DAY)


def test_a_file_without_options_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row of the file is an option's"):
        thinned(_file(tmp_path, _csv(_row("BTC|27JUN25|100000|C", START + 1))), DAY)


@settings(max_examples=60)
@given(
    ticks=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 24 * 60 - 1), st.integers(1, 999)), min_size=1, max_size=60),
    step=st.sampled_from([15, 30, 60, 240]),
    age=st.sampled_from([10, 60, 300]),
    block=st.sampled_from([400, 1_000, 1 << 20]),
)
def test_thinning_is_the_last_row_by_each_grid_time(
    tmp_path_factory: pytest.TempPathFactory, ticks: list[tuple[int, int, int]], step: int, age: int, block: int
) -> None:
    """Against the plainest reading of the rule, with blocks as small as two lines."""
    ticks = sorted(ticks, key=lambda tick: tick[1])
    rows = [
        _row(f"BTC-27JUN25-{90 + n}000-C", START + minute * 60_000_000, f"0.{bid:03d}", strike=f"{90 + n}000") for n, minute, bid in ticks
    ]
    want = {}
    for at in range(step, 24 * 60 + 1, step):
        for n, minute, bid in ticks:
            if at - age <= minute <= at:
                want[at, f"BTC-27JUN25-{90 + n}000-C"] = bid / 1000
    path = _file(tmp_path_factory.mktemp("ticks"), _csv(*rows))
    found = thinned(path, DAY, interval=dt.timedelta(minutes=step), max_age=dt.timedelta(minutes=age), block_bytes=block)
    got = {
        (int((row["snapshot"] - midnight(DAY)).total_seconds() // 60), row["instrument"]): row["bid"]
        for _, table in found
        for row in table.to_pylist()
    }
    assert got == want
    assert all(row["ts"] <= row["snapshot"] for _, table in found for row in table.to_pylist())


def test_a_chain_comes_back_as_it_was_recorded(tmp_path: Path) -> None:
    quotes = quotes_of(FREE, "BTC", hours=3)
    found = pa.concat_tables(table for _, table in thinned(_file(tmp_path, chain_csv(quotes)), FREE))
    keys = ["snapshot", "instrument"]
    want = pl.DataFrame(pl.from_arrow(quotes)).sort(keys)
    got = pl.DataFrame(pl.from_arrow(found)).filter(pl.col("snapshot") <= midnight(FREE) + 3 * HOUR).sort(keys)
    for name in ("ts", "snapshot", "instrument", "expiry", "strike", "right", "bid", "ask", "mark", "bid_size", "forward", "delta"):
        assert got[name].to_list() == want[name].to_list(), name
    assert ((got["mark_iv"] - want["mark_iv"]).abs() <= 0.5e-4 + 1e-12).all()  # the vendor writes hundredths of a percent


def test_real_hours_agree_with_the_reader_of_recorded_files(tmp_path: Path, market_data: Path) -> None:
    path = _file(tmp_path, hourly_csv(market_data / "tardis_hourly" / "2025-06.parquet", DAY))
    found = thinned(path, DAY)
    assert len(found) == 48
    assert {len(table) for family, table in found if family == "BTC"} <= set(range(700, 900))
    recorded = RECORDED.load(path, [*RECORDED.required, *RECORDED.optional])
    mine = pl.DataFrame(pl.from_arrow(pa.concat_tables(table for _, table in found)))
    assert mine.height >= recorded.table.height * 0.99
    assert mine.select(pl.struct("snapshot", "instrument").n_unique()).item() == mine.height
