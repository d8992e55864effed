"""What the vendor has beside the chain: index, mark and funding of the perpetual, and trades of options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.contracts import format_name, parse_option
from options_agent.errors import DataError
from options_agent.market.recorded.columns import Columns
from options_agent.market.tardis.chain import SOURCE
from options_agent.quotes import UTC_US
from options_agent.series import FUNDING_SCHEMA, PRICE_SCHEMA, TRADE_SCHEMA

if TYPE_CHECKING:
    import datetime as dt
    from collections import Counter
    from collections.abc import Iterable

    from options_agent.market.tardis.chain import Grid

_HOUR_US: Final = 3_600_000_000


def perpetual_of(underlying: str) -> str:
    """The vendor's symbol of a family's perpetual."""
    return f"{underlying}-PERPETUAL"


def ticker_series(
    batches: Iterable[pa.RecordBatch], grid: Grid, underlying: str, *, prices_every: dt.timedelta, place: str
) -> tuple[pa.Table, pa.Table]:
    """Index and mark of the perpetual, and its funding, from its ticker.

    Of each span of `prices_every` the last index (`kind` index) and the last mark (perpetual), of each hour the last
    funding rate: the exchange's current one, decimal per 8 hours. Every value is stamped with its arrival.

    Returns:
        `PRICE_SCHEMA` and `FUNDING_SCHEMA` rows of the day, ascending.

    Raises:
        DataError: a kept value is not a number.
    """
    step = int(prices_every.total_seconds() * 1_000_000)
    kept: dict[str, dict[int, tuple[int, str]]] = {"index_price": {}, "mark_price": {}, "funding_rate": {}}
    for batch in batches:
        instants = np.from_dlpack(batch.column("local_timestamp"))
        for name, held in kept.items():
            rows = _given(batch.column(name), _of_day(instants, grid))
            spans = -(-instants[rows] // (_HOUR_US if name == "funding_rate" else step))
            last = np.flatnonzero(np.append(np.diff(spans) != 0, True)) if rows.size else rows
            values = batch.column(name).take(pa.array(rows[last])).to_pylist()
            held.update(zip(spans[last].tolist(), zip(instants[rows[last]].tolist(), values, strict=True), strict=True))
    index, mark, funding = (_column(kept[name], name, place) for name in ("index_price", "mark_price", "funding_rate"))
    prices = pa.concat_tables([_priced(index, underlying, "index"), _priced(mark, underlying, "perpetual")])
    rates = pa.table([funding["ts"], _same(underlying, funding), funding["value"], _same(SOURCE, funding)], schema=FUNDING_SCHEMA)
    return prices.take(pc.sort_indices(prices, sort_keys=[("ts", "ascending"), ("kind", "ascending")])), rates


def trades_of(
    batches: Iterable[pa.RecordBatch], grid: Grid, families: frozenset[str], *, place: str, left_out: Counter[str]
) -> dict[str, pa.Table]:
    """Trades of options by family: `TRADE_SCHEMA`, ascending by arrival. The vendor tells neither their IV nor the index.

    Memory holds the kept trades: some hundred thousand on the busiest days.

    Raises:
        DataError: a kept value is not what its column should hold.
    """
    kept: dict[str, list[pa.Table]] = {family: [] for family in sorted(families)}
    for batch in batches:
        names = batch.column("symbol").dictionary.to_pylist()
        family_of = np.array([_family(name) for name in names], object)
        own = family_of[np.from_dlpack(batch.column("symbol").indices)] if names else np.array([], object)
        inside = _of_day(np.from_dlpack(batch.column("local_timestamp")), grid)
        left_out["trade arrived outside the day"] += int((~inside).sum())
        for family, tables in kept.items():
            rows = np.flatnonzero(inside & (own == family))
            if rows.size:
                tables.append(_trades(batch.take(pa.array(rows)), family, place))
    return {
        family: table.take(pc.sort_indices(table, sort_keys=[("ts", "ascending"), ("trade_id", "ascending")]))
        for family, tables in kept.items()
        if (table := pa.concat_tables([TRADE_SCHEMA.empty_table(), *tables])) is not None
    }


def _trades(batch: pa.RecordBatch, family: str, place: str) -> pa.Table:
    rows = pa.Table.from_batches([batch])
    columns = Columns(pl.DataFrame(pl.from_arrow(rows)), place)
    names = {name: format_name(parse_option(name)) for name in set(rows["symbol"].cast(pa.string()).to_pylist())}
    nothing = pa.nulls(len(rows), pa.float64())
    values = {
        "ts": columns.instant("local_timestamp", "us").to_arrow(),
        "traded": columns.instant("timestamp", "us").to_arrow(),
        "underlying": pa.repeat(family, len(rows)),
        "instrument": pa.array([names[name] for name in rows["symbol"].cast(pa.string()).to_pylist()]),
        "price": columns.number("price").to_arrow(),
        "amount": columns.number("amount").to_arrow(),
        "side": rows["side"],
        "iv": nothing,
        "mark": nothing,
        "index": nothing,
        "trade_id": rows["id"],
        "source": pa.repeat(SOURCE, len(rows)),
    }
    return pa.table([_cast(values[field.name], field.type) for field in TRADE_SCHEMA], schema=TRADE_SCHEMA)


def _cast(values: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    return values.cast(kind)


def _given(values: pa.Array, inside: np.ndarray) -> np.ndarray:
    """Rows of the day that have a value."""
    rows = pc.indices_nonzero(pc.and_(pc.is_valid(values), pa.array(inside)))
    return np.from_dlpack(rows).astype(np.int64)


def _of_day(instants: np.ndarray, grid: Grid) -> np.ndarray:
    return (instants >= grid.start_us) & (instants < grid.start_us + 24 * _HOUR_US)


def _family(name: str) -> str | None:
    try:
        return parse_option(name).underlying
    except DataError:
        return None


def _column(held: dict[int, tuple[int, str]], name: str, place: str) -> pa.Table:
    """Kept values by arrival."""
    pairs = [held[span] for span in sorted(held)]
    columns = Columns(pl.DataFrame({name: pl.Series([value for _, value in pairs], dtype=pl.String)}), place)
    return pa.table({"ts": pa.array([at for at, _ in pairs], pa.int64()).cast(UTC_US), "value": columns.number(name).to_arrow()})


def _priced(values: pa.Table, underlying: str, kind: str) -> pa.Table:
    values = values.filter(pc.greater(values["value"], 0.0))
    columns = [values["ts"], _same(underlying, values), values["value"], _same(kind, values), _same(SOURCE, values)]
    return pa.table(columns, schema=PRICE_SCHEMA)


def _same(value: str, like: pa.Table) -> pa.Array:
    return pa.repeat(pa.scalar(value), len(like))
