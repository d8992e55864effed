from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from options_agent.lake import encoding
from options_agent.lake.packing import packed, unstepped
from options_agent.quotes import UTC_US

SMALL = st.integers(-(2**31) + 1, 2**31 - 1)
LARGE = st.integers(-(2**60), 2**60)


@given(st.one_of(st.lists(st.one_of(st.none(), SMALL), max_size=200), st.lists(st.one_of(st.none(), LARGE), max_size=60)))
def test_steps_stand_for_the_integers_they_were_made_of(values: list[int | None]) -> None:
    column = pa.array(values, pa.int64())
    table, layout = packed(pa.table({"x": column}), {"x"})
    found = unstepped(table["x"].combine_chunks()) if layout.steps else table["x"].combine_chunks()
    assert found.cast(pa.int64()).to_pylist() == values


@given(st.lists(st.one_of(st.none(), st.decimals(-100_000, 100_000, places=4).map(float)), min_size=1, max_size=300))
def test_a_day_of_any_prices_comes_back_bit_for_bit(values: list[float | None]) -> None:
    at = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
    table = pa.table(
        {
            "ts": pa.array([at] * len(values), UTC_US),
            "strike": pa.array(range(len(values)), pa.float64()),
            "mark": pa.array(values, pa.float64()),
        }
    )
    back = encoding.from_bytes(encoding.day_bytes(table), place="a test")
    assert back.column_names == table.column_names
    bits = [None if v is None else v.hex() for v in back["mark"].to_pylist()]
    assert bits == [None if v is None else v.hex() for v in values]
    assert encoding.from_bytes(encoding.day_bytes(table), place="a test", columns=["mark"])["mark"].equals(back["mark"])


def test_a_walk_on_ticks_becomes_steps_and_noise_does_not() -> None:
    dice = np.random.default_rng(3)
    walk = pa.array(1_000_000 + np.cumsum(dice.integers(-3, 4, 5_000)))
    table, layout = packed(pa.table({"walk": walk, "noise": pa.array(dice.integers(0, 2**31, 5_000), pa.int32())}), {"walk", "noise"})
    assert layout.steps == ["walk"]
    assert unstepped(table["walk"].combine_chunks()).equals(walk)
    assert table["walk"].type == pa.int32()


def test_columns_without_rows_or_values_are_packed_too() -> None:
    nothing = pa.table({"a": pa.array([], pa.int32()), "b": pa.array([], pa.float64()), "c": pa.array([], pa.string())})
    assert packed(nothing, {"a"})[0].equals(nothing)
    nulls = pa.table({"a": pa.array([None, None], pa.int32()), "b": pa.array([None, None], pa.float64())})
    assert packed(nulls, {"a"})[0].equals(nulls)


def test_names_of_contracts_in_order_are_kept_as_what_they_share_and_texts_of_few_values_as_a_dictionary() -> None:
    names = [f"BTC-27MAR26-{strike}-{right}" for strike in range(20_000, 220_000, 500) for right in "CP" for _ in range(4)]
    table = pa.table({"instrument": names, "right": ["C", "P"] * (len(names) // 2), "rows": list(range(len(names)))})
    _, layout = packed(table, {"rows"})
    assert layout.encodings["instrument"] == "DELTA_BYTE_ARRAY"
    assert "instrument" not in layout.dictionary
    back = encoding.from_bytes(encoding.day_bytes(table), place="memory")
    assert back.replace_schema_metadata(None).sort_by("rows").equals(table)


@given(st.lists(st.none() | st.text(max_size=12), max_size=80))
def test_any_texts_come_back(texts: list[str | None]) -> None:
    table = pa.table({"ts": pa.array(range(len(texts)), pa.int64()).cast(UTC_US), "text": pa.array(texts, pa.string())})
    back = encoding.from_bytes(encoding.day_bytes(table), place="memory", in_time=True)
    assert back["text"].to_pylist() == texts
