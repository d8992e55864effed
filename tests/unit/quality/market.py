"""A believable chain for tests of rules: priced by Black-76 on a smile, quotes on ticks around the mark."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from options_agent.contracts import option_name, years_to_expiry
from options_agent.pricing.black76 import coin_price_scalar
from options_agent.quotes import QUOTE_SCHEMA

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
EXPIRIES = (dt.datetime(2026, 2, 6, 8, tzinfo=dt.UTC), dt.datetime(2026, 3, 27, 8, tzinfo=dt.UTC))
STRIKES = tuple(60_000.0 + 5_000.0 * n for n in range(11))
FORWARD = 85_000.0

Row = dict[str, object]


def smile(strike: float, forward: float = FORWARD) -> float:
    """IV of a strike: higher in the wings, more so for puts."""
    k = math.log(strike / forward)
    return 0.5 - 0.2 * k + 0.8 * k * k


def rows(
    at: dt.datetime = NOON,
    *,
    underlying: str = "BTC",
    expiries: tuple[dt.datetime, ...] = EXPIRIES,
    strikes: tuple[float, ...] = STRIKES,
    forward: float = FORWARD,
    tick: float | None = 0.0005,
    known_after: float = 2.0,
) -> list[Row]:
    """One snapshot as dicts, no fault in it. Without a `tick` quotes are 1.5 % either side of the mark."""
    ts = at + dt.timedelta(seconds=known_after)
    out: list[Row] = []
    for expiry in expiries:
        for strike in strikes:
            for right in ("C", "P"):
                vol = smile(strike, forward)
                mark = coin_price_scalar(forward, strike, years_to_expiry(expiry, ts), vol, right == "C")
                bid, ask = mark * 0.985 - 1e-5, mark * 1.015 + 1e-5
                if tick is not None:
                    bid, ask = round(math.floor(bid / tick) * tick, 10), round(math.ceil(ask / tick) * tick, 10)
                out.append(
                    {
                        "ts": ts,
                        "snapshot": at,
                        "underlying": underlying,
                        "instrument": option_name(underlying, expiry, strike, right),
                        "expiry": expiry,
                        "strike": strike,
                        "right": right,
                        "settlement": "coin",
                        "bid": bid if bid > 0 else None,
                        "ask": ask,
                        "mark": mark,
                        "mark_iv": vol,
                        "forward": forward,
                        "index": forward - 20.0,
                        "source": "synthetic",
                        "network": "synthetic",
                        "region": "local",
                    }
                )
    return out


def table(quotes: list[Row]) -> pa.Table:
    """Rows as a quote table, in the order given, NaN kept as NaN."""
    columns = []
    for field in QUOTE_SCHEMA:
        values = [row.get(field.name) for row in quotes]
        if pa.types.is_float64(field.type):
            missing = np.array([value is None for value in values], dtype=bool)
            columns.append(pa.array(np.array([math.nan if v is None else float(v) for v in values]), mask=missing))  # type: ignore[arg-type]
        else:
            columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=QUOTE_SCHEMA)


def spoilt(change: Callable[[Row], None], *, strike: float = 85_000.0, right: str = "C", expiry: dt.datetime = EXPIRIES[1]) -> list[Row]:
    """The chain with one row changed."""
    quotes = rows()
    change(next(r for r in quotes if (r["strike"], r["right"], r["expiry"]) == (strike, right, expiry)))
    return quotes
