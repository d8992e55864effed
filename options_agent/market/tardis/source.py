"""The vendor's history behind the protocol of every source: whole past days, of the main network."""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from options_agent.errors import DataError, SettingsError
from options_agent.lake.receipts import fingerprint
from options_agent.market.sources import days_of
from options_agent.market.tardis.backfill import backfill_day, cache_folder, choices
from options_agent.market.tardis.chain import SOURCE, Grid, Thinned, snapshots_of
from options_agent.market.tardis.fetch import ALL_OPTIONS, EXCHANGE, Wanted, fetch
from options_agent.market.tardis.header import DERIVATIVE_TICKER, OPTIONS_CHAIN
from options_agent.market.tardis.series import perpetual_of, ticker_series
from options_agent.market.tardis.stream import Read, batches
from options_agent.series import DVOL_SCHEMA, FUNDING_SCHEMA, PRICE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from options_agent.lake.receipts import Receipt
    from options_agent.lake.store import Lake
    from options_agent.market.tardis.header import Dataset
    from options_agent.settings import Network, Settings


@dataclass(frozen=True, slots=True)
class TardisSource:
    """Source `tardis`. A harvest of it goes day by day through `backfill_day`, one pass for all families of the settings."""

    settings: Settings
    name: str = SOURCE
    live: bool = False
    network: Network = "mainnet"

    def underlyings(self) -> tuple[str, ...]:
        """The settings': the vendor has every family of the exchange."""
        return self.settings.underlyings

    def span(self, underlying: str) -> tuple[dt.datetime, dt.datetime] | None:
        """No end: the vendor's history grows by a day each day."""
        return None

    def interval(self, underlying: str) -> dt.timedelta:
        """The grid of historical harvests."""
        return dt.timedelta(minutes=self.settings.interval_minutes)

    def snapshots(self, underlying: str, start: dt.datetime, end: dt.datetime) -> Iterator[pa.Table]:
        """Snapshots of the days that the range touches; the midnight it starts at is the end of the day before, and not told."""
        for day in days_of(start, end):
            path, grid = self._fetched(OPTIONS_CHAIN, ALL_OPTIONS, day), self._grid(day)
            ticks = batches(path, OPTIONS_CHAIN, Read())
            region = self.settings.region
            for _, table in snapshots_of(ticks, grid, frozenset({underlying}), region=region, place=str(path), thinned=Thinned()):
                if start <= table["snapshot"][0].as_py() < end:
                    yield table
            self._forget(day)

    def latest(self, underlying: str, now: dt.datetime) -> pa.Table | None:
        """Not live."""
        raise DataError(
            "the vendor's history is not a live source", place=SOURCE, remedy="set OPTIONS_AGENT_SOURCE=deribit to harvest live"
        )

    def prices(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """Index and mark of the perpetual."""
        return self._series(underlying, start, end)[0]

    def dvol(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """None: the vendor's ticker has no volatility index."""
        return DVOL_SCHEMA.empty_table()

    def funding(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """Funding of the perpetual."""
        return self._series(underlying, start, end)[1]

    def fingerprint(self, underlying: str, start: dt.datetime, end: dt.datetime) -> str:
        """From the settings: the vendor's past does not change."""
        return fingerprint([choices(self.settings, underlying, day) for day in days_of(start, end)])

    def backfill_day(self, lake: Lake, underlying: str, day: dt.date) -> Receipt:
        """What `harvest_day` does with this source: the whole day of all families at once, receipted for each."""
        families = tuple(dict.fromkeys((underlying, *self.settings.underlyings)))
        return backfill_day(self.settings, lake, day, families)[underlying]

    def _series(self, underlying: str, start: dt.datetime, end: dt.datetime) -> tuple[pa.Table, pa.Table]:
        every = dt.timedelta(seconds=self.settings.tardis.prices_seconds)
        found = [(PRICE_SCHEMA.empty_table(), FUNDING_SCHEMA.empty_table())]
        for day in days_of(start, end):
            path = self._fetched(DERIVATIVE_TICKER, perpetual_of(underlying), day)
            ticks = batches(path, DERIVATIVE_TICKER, Read())
            found.append(ticker_series(ticks, self._grid(day), underlying, prices_every=every, place=str(path)))
            self._forget(day)
        prices, funding = (pa.concat_tables(tables) for tables in zip(*found, strict=True))
        return _within(prices, start, end), _within(funding, start, end)

    def _grid(self, day: dt.date) -> Grid:
        return Grid(day, self.interval(""), dt.timedelta(minutes=self.settings.tardis.max_age_minutes))

    def _fetched(self, dataset: Dataset, symbol: str, day: dt.date) -> Path:
        name = f"{EXCHANGE}_{dataset.name}_{day}_{symbol}.csv.gz"
        return fetch(Wanted(dataset.name, symbol, day, cache_folder(self.settings, day) / name), self.settings.tardis)

    def _forget(self, day: dt.date) -> None:
        if not self.settings.tardis.keep_files:
            shutil.rmtree(cache_folder(self.settings, day), ignore_errors=True)


def open_tardis(settings: Settings) -> TardisSource:
    """The source, where the settings allow for it.

    Raises:
        SettingsError: the network is not the main one, the only one the vendor records.
    """
    if settings.network != "mainnet":
        raise SettingsError(
            f"the vendor's history is of mainnet, the network is {settings.network}",
            place="OPTIONS_AGENT_NETWORK",
            remedy="set OPTIONS_AGENT_NETWORK=mainnet; its lake is kept apart from the others'",
        )
    return TardisSource(settings)


def _within(table: pa.Table, start: dt.datetime, end: dt.datetime) -> pa.Table:
    return table.filter(pc.and_(pc.greater_equal(table["ts"], pa.scalar(start)), pc.less(table["ts"], pa.scalar(end))))
