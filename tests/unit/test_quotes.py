"""The quote table takes what fits its schema, in one order, and refuses the rest by name."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.errors import DataError
from options_agent.quotes import (
    CLEAN_SCHEMA,
    FIELDS,
    IDENTITY,
    QUARANTINE_SCHEMA,
    QUOTE_SCHEMA,
    SORT_KEYS,
    empty_quotes,
    quote_table,
    sort_quotes,
)
from tests.chains import NOON, chain

PLACE = "recorder.csv"
ROWS = 12
REQUIRED = [f.name for f in FIELDS if not f.nullable]
OPTIONAL = [f.name for f in FIELDS if f.nullable]


def _columns(**changed: Any) -> dict[str, Any]:
    table = chain(contracts=ROWS)
    return {name: table[name] for name in table.column_names} | changed


@given(st.randoms(use_true_random=False), st.integers(1, 60))
def test_rows_come_out_sorted_however_they_went_in(random: Any, contracts: int) -> None:
    sweeps = pa.concat_tables([chain(NOON + dt.timedelta(hours=h), contracts=contracts) for h in range(3)])
    order = list(range(sweeps.num_rows))
    random.shuffle(order)
    shuffled = sweeps.take(pa.array(order))
    table = quote_table({name: shuffled[name] for name in shuffled.column_names}, place=PLACE)
    keys = [tuple(row[k] for k in (*SORT_KEYS, "instrument")) for row in table.select([*SORT_KEYS, "instrument"]).to_pylist()]
    assert keys == sorted(keys)
    assert table.equals(sort_quotes(sweeps))
    assert table.schema.equals(QUOTE_SCHEMA, check_metadata=True)


def test_ties_are_broken_by_the_name() -> None:
    names = [f"BTC-31JAN26-80000-{c}" for c in "CBA"]
    three = {name: column.slice(0, 3) for name, column in _columns().items()}
    same = {name: pa.chunked_array([pa.repeat(column[0], 3)]) for name, column in three.items()}
    assert quote_table(same | {"instrument": names}, place=PLACE)["instrument"].to_pylist() == sorted(names)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_required_column_is_named_with_the_place(name: str) -> None:
    columns = _columns()
    del columns[name]
    with pytest.raises(DataError, match=rf"missing \['{name}'\].*{PLACE}.*Remedy"):
        quote_table(columns, place=PLACE)


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_missing_optional_column_is_null_of_its_type(name: str) -> None:
    columns = _columns()
    columns.pop(name, None)
    column = quote_table(columns, place=PLACE)[name]
    assert column.null_count == ROWS
    assert column.type == QUOTE_SCHEMA.field(name).type


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(DataError, match=r"unknown \['greeks'\]"):
        quote_table(_columns(greeks=[1.0] * ROWS), place=PLACE)


def test_columns_of_different_lengths_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"differ in length: ts has 12 rows, \{'mark': 5\}"):
        quote_table(_columns(mark=[0.1] * 5), place=PLACE)


NAIVE = dt.datetime(2026, 1, 31, 12)


@pytest.mark.parametrize("name", ["ts", "snapshot", "expiry"])
@pytest.mark.parametrize(
    "values",
    [
        [NAIVE] * ROWS,
        [NOON] * (ROWS - 1) + [NAIVE],
        np.array([NOON] * (ROWS - 1) + [NAIVE], dtype=object),
        np.full(ROWS, np.datetime64("2026-01-31T12:00", "us")),
        pa.array([NAIVE] * ROWS, pa.timestamp("us")),
        pa.chunked_array([pa.array([NAIVE] * ROWS, pa.timestamp("ns"))]),
        list(range(ROWS)),
        ["2026-01-31T12:00:00Z"] * ROWS,
        [dt.date(2026, 1, 31)] * ROWS,
    ],
    ids=["datetimes", "one of many", "object array", "datetime64", "arrow", "arrow chunks", "integers", "text", "dates"],
)
def test_naive_and_non_times_are_refused_by_column_and_place(name: str, values: Any) -> None:
    with pytest.raises(DataError, match=rf"{name!r} holds naive or non-time values.*{PLACE}.*Remedy"):
        quote_table(_columns(**{name: values}), place=PLACE)


@pytest.mark.parametrize("ignored", ["", "1"], ids=["zones kept", "zones ignored by Arrow"])
def test_a_time_of_another_zone_is_the_same_instant_in_utc(ignored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYARROW_IGNORE_TIMEZONE", ignored)
    in_kolkata = [NOON.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30)))] * ROWS
    table = quote_table(_columns(ts=in_kolkata), place=PLACE)
    assert table["ts"].type == pa.timestamp("us", "UTC")
    assert set(table["ts"].to_pylist()) == {NOON}


@pytest.mark.parametrize("values", [["a lot"] * ROWS, [object()] * ROWS, [[1.0]] * ROWS])
def test_a_value_that_does_not_fit_its_type_is_refused_by_column_and_place(values: Any) -> None:
    with pytest.raises(DataError, match=rf"'strike' does not fit double.*{PLACE}"):
        quote_table(_columns(strike=values), place=PLACE)


@pytest.mark.parametrize("values", [[float("nan")] * ROWS, np.full(ROWS, np.nan), [None] * ROWS])
def test_none_and_nan_of_python_and_numpy_mean_none_given(values: Any) -> None:
    assert quote_table(_columns(bid=values), place=PLACE)["bid"].null_count == ROWS


def test_a_nan_in_an_arrow_array_stays_for_quality_to_judge() -> None:
    bid = quote_table(_columns(bid=pa.array([float("nan")] * ROWS)), place=PLACE)["bid"]
    assert bid.null_count == 0
    assert np.isnan(bid.to_numpy()).all()


def test_zero_is_not_turned_into_none() -> None:
    assert quote_table(_columns(mark=[0.0] * ROWS), place=PLACE)["mark"].to_pylist() == [0.0] * ROWS


@hypothesis_settings(max_examples=30)
@given(st.lists(st.none() | st.floats(allow_nan=False), min_size=ROWS, max_size=ROWS))
def test_values_survive_to_the_last_bit(values: list[float | None]) -> None:
    columns = _columns(mark=pa.array(values, pa.float64()))
    by_name = dict(zip(columns["instrument"].to_pylist(), values, strict=True))
    table = quote_table(columns, place=PLACE)
    assert dict(zip(table["instrument"].to_pylist(), table["mark"].to_pylist(), strict=True)) == by_name


def test_an_empty_table_has_the_schema() -> None:
    assert empty_quotes().num_rows == 0
    assert empty_quotes().schema.equals(QUOTE_SCHEMA, check_metadata=True)
    assert quote_table({f.name: pa.array([], f.type) for f in FIELDS}, place=PLACE).equals(empty_quotes())


def test_the_schemas_of_the_layers_follow_from_the_fields() -> None:
    assert QUOTE_SCHEMA.names == [f.name for f in FIELDS]
    assert CLEAN_SCHEMA.names[: len(FIELDS)] == QUARANTINE_SCHEMA.names[: len(FIELDS)] == QUOTE_SCHEMA.names
    assert set(IDENTITY) | set(SORT_KEYS) <= set(REQUIRED)
    assert all(f.nullable == bool(f.null_means) for f in FIELDS)
    assert all(QUARANTINE_SCHEMA.field(f.name).nullable for f in FIELDS)  # a bad row may lack anything
