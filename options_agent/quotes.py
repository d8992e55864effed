"""THE quote table: one schema for every source, units and the meaning of null included.

One row per instrument per snapshot. Everything that moves quotes moves this table; the pandera schema,
the lake's encodings, the data dictionary in docs and the tests are all derived from `FIELDS`.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from options_agent.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION: Final = 1

UTC_US: Final = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class Field:
    """A column: its Arrow type, unit, whether null may stand in it, and what null means."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    nullable: bool = False
    null_means: str = ""


FIELDS: Final[tuple[Field, ...]] = (
    Field("ts", UTC_US, "UTC", "when the row was known to the desk; decides what a decision may see"),
    Field("snapshot", UTC_US, "UTC", "the grid time the row answers for; one value per sweep of a chain"),
    Field("underlying", pa.string(), "name", "instrument family: BTC, ETH (coin-settled), BTC_USDC, XRP_USDC (linear)"),
    Field("instrument", pa.string(), "name", "the exchange's name, e.g. BTC-8DEC25-90000-C"),
    Field("expiry", UTC_US, "UTC", "expiry instant, 08:00 UTC"),
    Field("strike", pa.float64(), "USD", "strike price"),
    Field("right", pa.string(), "C|P", "call or put"),
    Field("settlement", pa.string(), "coin|usdc", "currency of premium, P&L and payoff"),
    Field("bid", pa.float64(), "coin or USDC per contract", "best bid", True, "no bid"),
    Field("ask", pa.float64(), "coin or USDC per contract", "best ask", True, "no ask"),
    Field("mark", pa.float64(), "coin or USDC per contract", "exchange mark price", True, "none given (never 0 for none)"),
    Field("bid_size", pa.float64(), "contracts", "size at the best bid", True, "unknown or no bid"),
    Field("ask_size", pa.float64(), "contracts", "size at the best ask", True, "unknown or no ask"),
    Field("bid_iv", pa.float64(), "decimal per year", "implied volatility of the bid", True, "unknown or no bid"),
    Field("ask_iv", pa.float64(), "decimal per year", "implied volatility of the ask", True, "unknown or no ask"),
    Field("mark_iv", pa.float64(), "decimal per year", "implied volatility of the mark", True, "none given"),
    Field("delta", pa.float64(), "coin per coin", "plain Black-76 delta on the forward", True, "source has none"),
    Field("gamma", pa.float64(), "per USD", "Black-76 gamma", True, "source has none"),
    Field("vega", pa.float64(), "USD per volatility point", "Black-76 vega", True, "source has none"),
    Field("theta", pa.float64(), "USD per day", "Black-76 theta", True, "source has none"),
    Field("forward", pa.float64(), "USD", "forward of the expiry that the exchange prices on", True, "none given"),
    Field("index", pa.float64(), "USD", "index price", True, "none given"),
    Field("open_interest", pa.float64(), "contracts", "open interest", True, "unknown"),
    Field("volume_24h", pa.float64(), "contracts", "volume of the last 24 hours", True, "unknown"),
    Field("source", pa.string(), "name", "where the row came from: synthetic, recorded, deribit, tardis"),
    Field("network", pa.string(), "name", "mainnet, testnet or synthetic"),
    Field("region", pa.string(), "name", "which harvester wrote it"),
)

QUOTE_SCHEMA: Final = pa.schema(
    [pa.field(f.name, f.type, nullable=f.nullable) for f in FIELDS],
    metadata={"schema": "quotes", "schema_version": str(SCHEMA_VERSION)},
)

#: Columns that quality adds to clean rows: which values were computed here because the source had none.
COMPUTED_FIELDS: Final[tuple[Field, ...]] = (
    Field("iv_computed", pa.bool_(), "flag", "mark_iv was solved from mark and forward, not given by the source"),
    Field("greeks_computed", pa.bool_(), "flag", "at least one of delta, gamma, vega, theta was computed, not given"),
)

CLEAN_SCHEMA: Final = pa.schema(
    [*QUOTE_SCHEMA, *(pa.field(f.name, f.type, nullable=False) for f in COMPUTED_FIELDS)],
    metadata={"schema": "clean_quotes", "schema_version": str(SCHEMA_VERSION)},
)

#: Columns that quality adds to quarantined rows.
VERDICT_FIELDS: Final[tuple[Field, ...]] = (
    Field("rule", pa.string(), "name", "the first (most severe) rule the row broke"),
    Field("rules", pa.string(), "names", "every rule the row broke, comma-separated"),
    Field("reason", pa.string(), "text", "one line: why"),
)

QUARANTINE_SCHEMA: Final = pa.schema(
    [*(pa.field(f.name, f.type, nullable=True) for f in FIELDS), *(pa.field(f.name, f.type, nullable=False) for f in VERDICT_FIELDS)],
    metadata={"schema": "quarantined_quotes", "schema_version": str(SCHEMA_VERSION)},
)

SORT_KEYS: Final = ("ts", "expiry", "strike", "right")

#: Rows of one instrument at one snapshot from one harvester are the same row.
IDENTITY: Final = ("snapshot", "instrument", "source", "region")


def quote_table(columns: Mapping[str, object], *, place: str) -> pa.Table:
    """Build a quote table from columns, cast to `QUOTE_SCHEMA` and sorted by `SORT_KEYS`.

    Columns absent from `columns` are filled with null where the schema allows it.

    Args:
        columns: name to array-like (Arrow, NumPy or list), all of one length.
        place: the file or URL the columns came from; named in errors.

    A NaN in a list or NumPy array means none given and becomes null; in an Arrow array it stays, for quality to judge.

    Raises:
        DataError: a required column is missing, an unknown one is present, the columns differ in length, a
            timestamp is naive, or a value does not fit its type.
    """
    unknown = sorted(set(columns) - set(QUOTE_SCHEMA.names))
    missing = [f.name for f in FIELDS if not f.nullable and f.name not in columns]
    if unknown or missing:
        raise DataError(
            f"quote columns do not fit the schema: missing {missing}, unknown {unknown}",
            place=place,
            remedy="map the source's columns to the names in options_agent.quotes.FIELDS",
        )
    lengths = {name: len(values) for name, values in columns.items()}  # type: ignore[arg-type]
    length = lengths["ts"]
    if uneven := {name: n for name, n in lengths.items() if n != length}:
        raise DataError(
            f"quote columns differ in length: ts has {length} rows, {uneven} have not", place=place, remedy="give one value a row"
        )
    arrays = []
    for field in FIELDS:
        if field.name in columns:
            arrays.append(_column(field, columns[field.name], place))
        else:
            arrays.append(pa.nulls(length, field.type))
    return sort_quotes(pa.Table.from_arrays(arrays, schema=QUOTE_SCHEMA))


def sort_quotes(table: pa.Table) -> pa.Table:
    """Sort by `SORT_KEYS`, ties by instrument: the order every reader may rely on."""
    keys = [(k, "ascending") for k in SORT_KEYS] + [("instrument", "ascending")]
    return table.take(pc.sort_indices(table, sort_keys=keys))


def split_incomplete(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Rows that can be written as raw quotes, and rows that cannot, for a value none may lack is null in them.

    One such row must not cost the snapshot: the complete ones are written, the others are kept as quarantined ones.

    Args:
        table: the columns of `QUOTE_SCHEMA`, nulls anywhere.

    Returns:
        Complete rows (`QUOTE_SCHEMA`) and the others (`QUARANTINE_SCHEMA`, rule `missing_field`), both in the order they had.

    Raises:
        DataError: the columns are others.
    """
    if table.column_names != QUOTE_SCHEMA.names:
        raise DataError(f"not quotes: columns {table.column_names}", remedy="build the table with options_agent.quotes.quote_table")
    required = [f.name for f in FIELDS if not f.nullable]
    lacks = [pc.is_null(table.column(name)) for name in required]
    bad = lacks[0]
    for other in lacks[1:]:
        bad = pc.or_(bad, other)
    if not pc.any(bad).as_py():
        return table.cast(QUOTE_SCHEMA), QUARANTINE_SCHEMA.empty_table()
    rows = table.filter(bad)
    absent = [", ".join(name for name in required if row[name] is None) for row in rows.select(required).to_pylist()]
    rules = pa.array(["missing_field"] * len(rows), pa.string())
    reasons = pa.array([f"the source gave no {names}" for names in absent], pa.string())
    return table.filter(pc.invert(bad)).cast(QUOTE_SCHEMA), pa.Table.from_arrays(
        [*rows.columns, rules, rules, reasons], schema=QUARANTINE_SCHEMA
    )


def empty_quotes() -> pa.Table:
    """A quote table without rows."""
    return QUOTE_SCHEMA.empty_table()


def _column(field: Field, values: object, place: str) -> pa.Array | pa.ChunkedArray:
    try:
        given = _in_utc(values) if pa.types.is_timestamp(field.type) else values
        array = given if isinstance(given, (pa.Array, pa.ChunkedArray)) else pa.array(given, from_pandas=True)
        if pa.types.is_timestamp(field.type) and (not pa.types.is_timestamp(array.type) or array.type.tz is None or _any_naive(values)):
            raise DataError(
                f"column {field.name!r} holds naive or non-time values ({array.type}); every time here is UTC-aware",
                place=place,
                remedy="attach the zone the recorder wrote in and convert to UTC before import",
            )
        return array.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise DataError(f"column {field.name!r} does not fit {field.type}: {error}", place=place) from error


def _in_utc(values: object) -> object:
    """Aware Python datetimes in UTC; anything else as it is.

    Arrow reads another zone's clock as UTC where PYARROW_IGNORE_TIMEZONE is set, as importing pandera or pyspark does; UTC
    is the same either way.
    """
    if not _is_python_objects(values):
        return values
    return [v.astimezone(dt.UTC) if isinstance(v, dt.datetime) and v.tzinfo is not None else v for v in values]  # type: ignore[attr-defined]


def _any_naive(values: object) -> bool:
    """Whether Python datetimes hold a naive one: among aware ones Arrow takes it for UTC without a word."""
    return _is_python_objects(values) and any(isinstance(v, dt.datetime) and v.tzinfo is None for v in values)  # type: ignore[attr-defined]


def _is_python_objects(values: object) -> bool:
    """Lists and object arrays; a typed column has one zone, or none."""
    return isinstance(values, (list, tuple)) or str(getattr(values, "dtype", "")) == "object"
