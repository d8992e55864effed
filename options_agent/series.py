"""Series beside the quotes: index prices, the volatility index, funding and trades, each with one schema.

`ts` is always when the value was KNOWN: a bar is stamped with its close, a daily figure with the end of its day.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from options_agent.quotes import UTC_US

#: `kind`: index (the exchange's index), perpetual or spot (closes of those), chain (index column of option quotes).
PRICE_SCHEMA: Final = pa.schema(
    [
        pa.field("ts", UTC_US, nullable=False),
        pa.field("underlying", pa.string(), nullable=False),
        pa.field("price", pa.float64(), nullable=False),  # USD
        pa.field("kind", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ],
    metadata={"schema": "prices", "schema_version": "1"},
)

#: Deribit's volatility index: 30-day implied volatility, decimal per year.
DVOL_SCHEMA: Final = pa.schema(
    [
        pa.field("ts", UTC_US, nullable=False),
        pa.field("underlying", pa.string(), nullable=False),
        pa.field("open", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("close", pa.float64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ],
    metadata={"schema": "dvol", "schema_version": "1"},
)

#: Perpetual funding, decimal per 8 hours, paid by longs when positive.
FUNDING_SCHEMA: Final = pa.schema(
    [
        pa.field("ts", UTC_US, nullable=False),
        pa.field("underlying", pa.string(), nullable=False),
        pa.field("rate_8h", pa.float64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ],
    metadata={"schema": "funding", "schema_version": "1"},
)

#: Trades of options. `ts` is when the trade was known here, `traded` when the exchange made it; `side` is the taker's.
#: Price, mark: coin or USDC per contract; amount: contracts; IV: decimal per year. Null: the source does not tell.
TRADE_SCHEMA: Final = pa.schema(
    [
        pa.field("ts", UTC_US, nullable=False),
        pa.field("traded", UTC_US, nullable=False),
        pa.field("underlying", pa.string(), nullable=False),
        pa.field("instrument", pa.string(), nullable=False),
        pa.field("price", pa.float64(), nullable=False),
        pa.field("amount", pa.float64(), nullable=False),
        pa.field("side", pa.string(), nullable=False),  # buy, sell
        pa.field("iv", pa.float64()),
        pa.field("mark", pa.float64()),
        pa.field("index", pa.float64()),  # USD
        pa.field("trade_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ],
    metadata={"schema": "trades", "schema_version": "1"},
)

SERIES: Final[dict[str, pa.Schema]] = {"prices": PRICE_SCHEMA, "dvol": DVOL_SCHEMA, "funding": FUNDING_SCHEMA, "trades": TRADE_SCHEMA}
