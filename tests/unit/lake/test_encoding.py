from __future__ import annotations

import uuid

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from options_agent.errors import DataError
from options_agent.lake import encoding
from options_agent.lake.store import Lake, read_day, write_day
from options_agent.quotes import QUARANTINE_SCHEMA, sort_quotes
from tests.chains import NOON, as_clean, as_quarantined, chain, chain_day

ON_TICKS = st.integers(-(10**9), 10**9).map(lambda n: n / 10_000)
PERCENTAGES = st.integers(0, 10**6).map(lambda n: n / 100 / 100)
ODD = st.sampled_from([0.0, -0.0, float("nan"), float("inf"), -float("inf"), 5e-324, 2.0**53, 1e300])
COLUMNS = st.one_of(
    *(
        st.lists(st.none() | values, max_size=60)
        for values in (ON_TICKS, PERCENTAGES, st.floats(allow_nan=True), ON_TICKS | st.just(-0.0), ON_TICKS | ODD)
    )
)


def bits(column: pa.ChunkedArray) -> list[bytes | None]:
    return [None if value is None else np.float64(value).tobytes() for value in column.to_pylist()]


@settings(max_examples=300, deadline=None)
@given(COLUMNS)
def test_a_float_column_comes_back_bit_for_bit(values: list[float | None]) -> None:
    table = pa.table({"price": pa.array(values, pa.float64())})
    encoded, scales = encoding.encode(table)
    decoded = encoding.decode(encoded, scales)
    assert decoded.schema.equals(table.schema)
    assert bits(decoded["price"]) == bits(table["price"])


@settings(max_examples=60, deadline=None)
@given(COLUMNS.filter(bool), st.integers(0, 9))
def test_a_day_comes_back_bit_for_bit_from_its_bytes(values: list[float | None], distinct_times: int) -> None:
    times = pa.array([i % (distinct_times + 1) for i in range(len(values))], pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    table = pa.table({"ts": times, "strike": pa.array(np.arange(float(len(values)))), "price": pa.array(values, pa.float64())})
    back = encoding.from_bytes(encoding.day_bytes(table), place="memory").sort_by("strike")
    assert bits(back["price"]) == bits(table["price"])
    assert back["ts"].equals(table["ts"])


def test_prices_on_ticks_become_integers_and_percentages_do_too() -> None:
    table = pa.table({"bid": [0.0005, 0.012, None], "mark_iv": [46.55 / 100, 80.01 / 100, 51.3 / 100], "gamma": [1 / 3, 2 / 3, 1e-5]})
    encoded, scales = encoding.encode(table)
    assert [pa.types.is_integer(column.type) for column in encoded.columns] == [True, True, False]
    assert scales["bid"] == encoding.Scale(4)
    assert scales["mark_iv"] == encoding.Scale(2, 100.0)


def test_negative_zeros_do_not_cost_a_column_its_integers() -> None:
    encoded, scales = encoding.encode(pa.table({"delta": [0.5, -0.0, 0.0, -0.25]}))
    assert pa.types.is_integer(encoded["delta"].type)
    assert bits(encoding.decode(encoded, scales)["delta"]) == bits(pa.chunked_array([[0.5, -0.0, 0.0, -0.25]]))


@pytest.mark.parametrize("as_layer", [as_clean, as_quarantined])
def test_the_time_order_of_a_stored_day_is_the_quote_order(as_layer) -> None:
    day = sort_quotes(pa.concat_tables([as_layer(snapshot) for snapshot in chain_day(hours=5)]))
    stored = encoding.from_bytes(encoding.day_bytes(day), place="memory")
    assert not stored.equals(day), "stored contract-major"
    assert encoding.in_time_order(stored).equals(day)


def test_quarantined_rows_without_time_or_strike_survive() -> None:
    rows = as_quarantined(chain()).slice(0, 3)
    for name in ("ts", "strike", "expiry", "instrument"):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, QUARANTINE_SCHEMA.field(name), pa.nulls(3, rows.schema.field(name).type))
    back = encoding.in_time_order(encoding.from_bytes(encoding.day_bytes(rows), place="memory"))
    assert sorted(map(str, back.to_pylist())) == sorted(map(str, rows.to_pylist()))


def test_equal_tables_give_equal_bytes_however_they_are_chunked_or_ordered() -> None:
    whole = as_clean(pa.concat_tables(chain_day(hours=3)))
    shuffled = whole.take(np.random.default_rng(1).permutation(len(whole)))
    chunked = pa.concat_tables([shuffled.slice(0, 7), shuffled.slice(7)])
    assert encoding.day_bytes(whole.combine_chunks()) == encoding.day_bytes(chunked)
    assert encoding.snapshot_bytes(whole) == encoding.snapshot_bytes(whole.combine_chunks())


def test_a_subset_of_columns_comes_in_the_order_asked() -> None:
    data = encoding.day_bytes(as_clean(chain()))
    assert encoding.from_bytes(data, place="memory", columns=["bid", "ts"]).column_names == ["bid", "ts"]
    with pytest.raises(DataError, match="no column"):
        encoding.from_bytes(data, place="memory", columns=["colour"])


def test_a_summary_reads_the_footer_only() -> None:
    summary = encoding.summary_of(encoding.day_bytes(as_clean(chain()), {"regions": ["local"]}), place="memory")
    assert (summary.rows, summary.schema, summary.schema_version, summary.notes) == (12, "clean_quotes", "1", {"regions": ["local"]})


@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, 0.99])
def test_a_truncated_file_is_named_and_refused(kept: float) -> None:
    data = encoding.day_bytes(as_clean(chain()))
    cut = data[: int(kept if kept > 1 or kept == 0 else len(data) * kept)]
    with pytest.raises(DataError, match="not a whole Parquet file") as refused:
        encoding.from_bytes(cut, place="lake/day.parquet")
    assert refused.value.place == "lake/day.parquet"


@settings(max_examples=150, deadline=None)
@given(st.floats(0.0, 1.0, exclude_max=True), st.integers(0, 7))
def test_a_flipped_bit_anywhere_never_becomes_a_different_row(where: float, bit: int) -> None:
    lake = Lake(f"memory://{uuid.uuid4().hex}", "synthetic")
    day = sort_quotes(as_clean(pa.concat_tables(chain_day(hours=4))))
    record = write_day(lake, "clean", "BTC", NOON.date(), day)
    data = bytearray(lake.files.read(record.path))
    data[int(len(data) * where)] ^= 1 << bit
    lake.files.write(record.path, bytes(data))
    try:
        back = read_day(lake, "clean", "BTC", NOON.date())
    except DataError:
        return
    assert back.equals(day)
