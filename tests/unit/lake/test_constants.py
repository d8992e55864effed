from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.lake import encoding
from options_agent.lake.constants import with_constants, without_constants
from options_agent.quotes import QUOTE_SCHEMA, UTC_US, sort_quotes
from tests.chains import NOON, as_clean, as_quarantined, chain, chain_day

ANY_FLOAT = st.none() | st.sampled_from([0.0, -0.0, float("nan"), float("inf"), 0.1, 5e-324]) | st.floats()
ANY_TEXT = st.none() | st.sampled_from(["", "BTC", "é"])
ANY_TIME = st.none() | st.sampled_from([NOON, NOON + dt.timedelta(microseconds=1)])


def exact(table: pa.Table) -> list[list[object]]:
    """Values by column, floats as their bytes."""
    return [[np.float64(v).tobytes() if isinstance(v, float) else v for v in column.to_pylist()] for column in table.columns]


@given(st.lists(st.tuples(ANY_FLOAT, ANY_TEXT, st.booleans(), ANY_TIME), max_size=4))
def test_whatever_is_told_in_the_header_comes_back_bit_for_bit(
    rows: list[tuple[float | None, str | None, bool, dt.datetime | None]],
) -> None:
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    types = (pa.float64(), pa.string(), pa.bool_(), UTC_US)
    table = pa.table([pa.array(column, kind) for column, kind in zip(columns, types, strict=True)], names=["x", "text", "flag", "ts"])
    varying, constants = without_constants(table)
    assert varying.num_columns >= 1
    back = with_constants(varying, constants, table.column_names)
    assert back.schema.equals(table.schema)
    assert exact(back) == exact(table)
    stored = encoding.from_bytes(encoding.day_bytes(table), place="memory", in_time=True)
    assert sorted(map(str, zip(*exact(stored), strict=True))) == sorted(map(str, zip(*exact(table), strict=True)))


def test_a_day_stores_only_what_varies_and_reads_as_it_was_written() -> None:
    day = sort_quotes(as_clean(pa.concat_tables(chain_day(hours=3))))
    data = encoding.day_bytes(day)
    stored = pq.read_metadata(pa.BufferReader(data)).schema.names
    assert not {"underlying", "settlement", "source", "network", "region"} & set(stored)
    assert {"ts", "instrument", "mark"} <= set(stored)
    back = encoding.from_bytes(data, place="memory", in_time=True)
    assert back.equals(day)
    assert [field.nullable for field in back.schema] == [field.nullable for field in day.schema]


@pytest.mark.parametrize("columns", [["region"], ["region", "ts"], ["mark", "underlying"], ["underlying", "region", "source"]])
def test_columns_that_are_not_stored_can_be_asked_for(columns: list[str]) -> None:
    day = sort_quotes(as_clean(pa.concat_tables(chain_day(hours=3))))
    back = encoding.from_bytes(encoding.day_bytes(day), place="memory", columns=columns, in_time="ts" in columns)
    assert len(back) == len(day)
    assert back.select(["region"] if "region" in columns else ["underlying"]).equals(
        day.select(["region"] if "region" in columns else ["underlying"]).replace_schema_metadata(back.schema.metadata)
    )
    assert back.column_names == columns


def test_a_day_of_one_snapshot_keeps_its_order_though_its_time_is_told_in_the_header() -> None:
    snapshot = sort_quotes(chain())
    data = encoding.day_bytes(snapshot)
    assert "ts" not in pq.read_metadata(pa.BufferReader(data)).schema.names
    assert encoding.from_bytes(data, place="memory", in_time=True).equals(snapshot)


def test_days_of_one_row_and_of_none_come_back() -> None:
    for rows in (0, 1):
        for table in (chain().slice(0, rows), as_quarantined(chain()).slice(0, rows)):
            assert encoding.from_bytes(encoding.day_bytes(table), place="memory", in_time=True).equals(table)
    assert encoding.day_bytes(QUOTE_SCHEMA.empty_table()) == encoding.day_bytes(chain().slice(0, 0))
