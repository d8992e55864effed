from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from options_agent.lake import encoding
from options_agent.market.recorded.source import RecordedSource
from options_agent.settings import RecordedSettings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.data
def test_recorded_prices_come_back_bit_for_bit_and_mostly_as_integers(market_data: Path) -> None:
    recorded = pq.read_table(market_data / "deribit_6h_2026" / "2026-01.parquet")
    floats = recorded.select([field.name for field in recorded.schema if pa.types.is_float64(field.type)])
    encoded, scales = encoding.encode(floats)
    decoded = encoding.decode(encoded, scales)
    assert len(recorded) > 100_000
    for name in floats.column_names:
        assert decoded[name].equals(floats[name]), name
        assert decoded[name].null_count == floats[name].null_count
    assert {"strike", "bid_price", "ask_price", "mark_price", "implied_volatility", "delta", "open_interest"} <= set(scales)
    assert pc.min(floats["bid_price"]).as_py() > 0


@pytest.mark.data
def test_recorded_days_are_four_times_smaller_than_plain_snapshot_files(market_data: Path) -> None:
    """Bytes only: they are the same on every machine; how fast they read is in benchmarks/bench_storage.py."""
    source = RecordedSource(RecordedSettings(path=market_data / "deribit_6h_2026"), network="mainnet")
    snapshots = list(source.snapshots("BTC", dt.datetime(2026, 1, 5, tzinfo=dt.UTC), dt.datetime(2026, 1, 12, tzinfo=dt.UTC)))
    days: dict[dt.date, list[pa.Table]] = {}
    for table in snapshots:
        days.setdefault(table["snapshot"][0].as_py().date(), []).append(table)
    plain = 0
    for table in snapshots:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="snappy")
        plain += sink.getvalue().size
    ours = sum(len(encoding.day_bytes(pa.concat_tables(tables))) for tables in days.values())
    assert (len(days), len(snapshots)) == (7, 28)
    assert plain / ours > 4.0
