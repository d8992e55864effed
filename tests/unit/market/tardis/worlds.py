"""A vendor's day made from the synthetic market: chains known a little before each hour, a ticker, trades."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from options_agent.market.synthetic.source import SyntheticSource
from options_agent.market.tardis.chain import Grid, Thinned, snapshots_of
from options_agent.market.tardis.header import DERIVATIVE_TICKER, OPTIONS_CHAIN, TRADES
from options_agent.market.tardis.stream import Read, batches
from options_agent.quotes import QUOTE_SCHEMA
from options_agent.settings import Settings, SyntheticSettings, load_settings
from tests.servers.tardis_files import chain_csv, ticker_csv, trades_csv

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.servers.tardis import Vendor

#: The first of a month: free without a key.
FREE = dt.date(2026, 3, 1)
HOUR = dt.timedelta(hours=1)
_MARKET = SyntheticSource(SyntheticSettings(defect_rate=0.0, outage_rate=0.0))


def midnight(day: dt.date) -> dt.datetime:
    """The day's first instant."""
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def quotes_of(day: dt.date, underlying: str, before: dt.timedelta = dt.timedelta(seconds=40), hours: int = 24) -> pa.Table:
    """Hourly synthetic chains that arrived `before` each hour of the day, the one at its last midnight included."""
    start = midnight(day) + HOUR
    table = pa.concat_tables(_MARKET.snapshots(underlying, start, start + hours * HOUR))
    frame = pl.DataFrame(pl.from_arrow(table))
    arrived = frame.with_columns(ts=pl.col("snapshot") - before + pl.duration(microseconds=pl.int_range(pl.len()).over("snapshot") * 7))
    return arrived.to_arrow().cast(QUOTE_SCHEMA)


def publish(vendor: Vendor, day: dt.date, families: Iterable[str] = ("BTC", "ETH"), hours: int = 24) -> dict[str, pa.Table]:
    """Let the vendor have a day; returns what its chain was made from, by family."""
    quotes = {family: quotes_of(day, family, hours=hours) for family in families}
    start = midnight(day)
    everything = pa.concat_tables(quotes.values())
    vendor.put(OPTIONS_CHAIN.name, day, "OPTIONS", chain_csv(everything))
    vendor.put(TRADES.name, day, "OPTIONS", trades_csv(everything))
    for family in families:
        prices, funding = (read(family, start, start + 24 * HOUR) for read in (_MARKET.prices, _MARKET.funding))
        vendor.put(DERIVATIVE_TICKER.name, day, f"{family}-PERPETUAL", ticker_csv(family, prices, funding))
    return quotes


def desk(home: Path, vendor: Vendor, *, tardis: dict[str, Any] | None = None, **changes: Any) -> Settings:
    """Settings of a desk that backfills from this vendor."""
    group = vendor.settings | (tardis or {})
    given = {"home": home, "network": "mainnet", "source": "tardis", "region": "eu", "tardis": group, "_env_file": None} | changes
    return load_settings(**given)


def thinned(
    path: Path,
    day: dt.date,
    families: Iterable[str] = ("BTC", "ETH"),
    interval: dt.timedelta = HOUR,
    max_age: dt.timedelta = HOUR,
    counts: Thinned | None = None,
    block_bytes: int = 1 << 20,
) -> list[tuple[str, pa.Table]]:
    """Every snapshot of a file of options."""
    grid = Grid(day, interval, max_age)
    ticks = batches(path, OPTIONS_CHAIN, Read(), block_bytes=block_bytes)
    return list(snapshots_of(ticks, grid, frozenset(families), region="eu", place=str(path), thinned=counts or Thinned()))


def tree(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a lake but the receipts, which tell when they were written."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and "receipts" not in file.parts)
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
