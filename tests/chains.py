"""Small option chains for tests that need rows of the right shape and do not care what the market did."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa

from options_agent.contracts import option_name
from options_agent.quotes import CLEAN_SCHEMA, QUARANTINE_SCHEMA, quote_table

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
DAY = NOON.date()


def chain(
    at: dt.datetime = NOON,
    *,
    underlying: str = "BTC",
    source: str = "synthetic",
    region: str = "local",
    network: str = "synthetic",
    contracts: int = 12,
    known_after: float = 3.0,
    seed: int = 0,
) -> pa.Table:
    """One snapshot of `contracts` options, prices on ticks, some sides missing; `known_after` seconds after `at`."""
    random = np.random.default_rng([seed, int(at.timestamp())])
    days = np.repeat([1, 8, 29], -(-contracts // 3))[:contracts]
    eight = at.replace(hour=8, minute=0, second=0, microsecond=0)
    expiries = [eight + dt.timedelta(days=int(d)) for d in days]
    strikes = 80_000.0 + 1_000.0 * (np.arange(contracts) // 2)
    rights = ["C" if i % 2 == 0 else "P" for i in range(contracts)]
    bid = np.round(random.integers(1, 400, contracts) * 0.0005, 4)
    ask = np.round(bid + random.integers(1, 9, contracts) * 0.0005, 4)
    no_bid = random.random(contracts) < 0.1
    return quote_table(
        {
            "ts": [at + dt.timedelta(seconds=known_after)] * contracts,
            "snapshot": [at] * contracts,
            "underlying": [underlying] * contracts,
            "instrument": [option_name(underlying, e, k, r) for e, k, r in zip(expiries, strikes.tolist(), rights, strict=True)],
            "expiry": expiries,
            "strike": strikes,
            "right": rights,
            "settlement": ["coin"] * contracts,
            "bid": pa.array(bid, mask=no_bid),
            "ask": ask,
            "mark": np.round((bid + ask) / 2, 6),
            "mark_iv": np.round(random.uniform(0.3, 0.9, contracts), 4),
            "delta": np.round(random.uniform(-1, 1, contracts), 5),
            "gamma": random.uniform(0, 1e-4, contracts),
            "forward": np.full(contracts, 85_000.25),
            "index": np.full(contracts, 84_990.5),
            "open_interest": np.round(random.uniform(0, 900, contracts), 1),
            "source": [source] * contracts,
            "network": [network] * contracts,
            "region": [region] * contracts,
        },
        place="a test's chain",
    )


def chain_day(day: dt.date = DAY, *, hours: int = 24, **chain_options: object) -> list[pa.Table]:
    """Hourly snapshots of a day."""
    midnight = dt.datetime.combine(day, dt.time(), dt.UTC)
    return [chain(midnight + dt.timedelta(hours=hour), **chain_options) for hour in range(hours)]  # type: ignore[arg-type]


def as_clean(quotes: pa.Table) -> pa.Table:
    """Quotes as the clean layer holds them; nothing was computed."""
    no = pa.array(np.zeros(len(quotes), bool))
    return pa.Table.from_arrays([*quotes.columns, no, no], schema=CLEAN_SCHEMA)


def as_quarantined(quotes: pa.Table, rule: str = "crossed") -> pa.Table:
    """Quotes as the quarantine holds them, all for one rule."""
    names = pa.array([rule] * len(quotes))
    return pa.Table.from_arrays([*quotes.columns, names, names, pa.array(["bid above ask"] * len(quotes))], schema=QUARANTINE_SCHEMA)
