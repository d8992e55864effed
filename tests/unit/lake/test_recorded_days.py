from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from options_agent.lake import encoding

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
