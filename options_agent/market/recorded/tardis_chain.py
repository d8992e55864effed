"""The vendor's tick-level `options_chain` CSV, thinned to the hour while it streams.

Units: microseconds UTC, volatilities in percent, symbols upper-cased, an empty cell is null. A row is known at its
`local_timestamp`; of each symbol and hour the last row is kept, and answers for the full hour after it.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

from options_agent.errors import DataError
from options_agent.market.recorded import files
from options_agent.market.recorded.columns import Columns
from options_agent.market.recorded.family import ChainFormat, Loaded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_HOUR_US: Final = 3_600_000_000
_BLOCK_BYTES: Final = 16 << 20


def load_thinned(path: Path, columns: Sequence[str]) -> Loaded:
    """The last row of every symbol and hour; memory holds one block and what is kept, however long the file.

    Raises:
        DataError: the file is truncated or corrupt.
    """
    if files.is_parquet(path):
        table = files.read_columns(path, columns)
        thin = _thinned(table, str(path))
        return Loaded(thin, table.height, Counter({"not the last of its hour": table.height - thin.height}))
    present = files.column_names(path)
    wanted = [name for name in columns if name in present]
    convert = pa_csv.ConvertOptions(include_columns=wanted, column_types={name: pa.string() for name in wanted}, strings_can_be_null=True)
    kept, rows = pl.DataFrame(schema=dict.fromkeys(wanted, pl.String)), 0
    try:
        with pa_csv.open_csv(path, read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES), convert_options=convert) as stream:
            for batch in stream:
                rows += batch.num_rows
                block = pl.DataFrame(pl.from_arrow(batch)).select(wanted)
                kept = _thinned(pl.concat([kept, block]), str(path))
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"the file is truncated or corrupt: {str(error).splitlines()[0]}", place=str(path), remedy="fetch the file of that day again"
        ) from error
    return Loaded(kept, rows, Counter({"not the last of its hour": rows - kept.height}))


def _thinned(table: pl.DataFrame, place: str) -> pl.DataFrame:
    stamps = Columns(table, place).instant("local_timestamp", "us").dt.epoch("us")
    hours = table.with_columns(hour=(stamps - 1) // _HOUR_US)
    return hours.unique(["symbol", "hour"], keep="last", maintain_order=True).drop("hour")


def decode(columns: Columns) -> pl.DataFrame:
    """Thinned rows, in file order."""
    ts = columns.instant("local_timestamp", "us")
    return pl.DataFrame(
        {
            "ts": ts,
            "snapshot": (ts + dt.timedelta(hours=1, microseconds=-1)).dt.truncate("1h"),
            "name": columns.text("symbol"),
            "bid": columns.given("bid_price"),
            "ask": columns.given("ask_price"),
            "mark": columns.given("mark_price"),
            "bid_size": columns.given("bid_amount"),
            "ask_size": columns.given("ask_amount"),
            "bid_iv": columns.volatility("bid_iv", percent=True),
            "ask_iv": columns.volatility("ask_iv", percent=True),
            "mark_iv": columns.volatility("mark_iv", percent=True),
            **{greek: columns.number(greek) for greek in ("delta", "gamma", "vega", "theta")},
            "forward": columns.given("underlying_price"),
            "open_interest": columns.number("open_interest"),
        }
    )


FORMAT: Final = ChainFormat(
    name="tardis options_chain",
    about="a vendor's tick-level chain, thinned to the hour",
    required=frozenset(
        {"symbol", "local_timestamp", "strike_price", "expiration", "bid_price", "ask_price", "mark_price", "mark_iv", "underlying_price"}
    ),
    optional=("bid_amount", "ask_amount", "bid_iv", "ask_iv", "delta", "gamma", "vega", "theta", "open_interest"),
    keys=("local_timestamp", "symbol"),
    decode=decode,
    load=load_thinned,
)
