"""The series beside the chain, live: index prices as they come, and DVOL, funding and delivery prices as the exchange closes them.

A harvester writes its own file of each day (`{region}.parquet`) whole, after reading back what it wrote before it was stopped. A series
that the exchange does not have of a family (no perpetual, no volatility index) keeps none of the others from being written.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from options_agent.errors import ExchangeError
from options_agent.lake import layout
from options_agent.lake.encoding import from_bytes
from options_agent.lake.shape import as_stored
from options_agent.lake.store import write_series
from options_agent.market.deribit.history import delivery_table, dvol_table, funding_table, price_table
from options_agent.market.deribit.replies import RefusalError, as_documented
from options_agent.series import SERIES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from options_agent.lake.layout import SeriesName
    from options_agent.lake.store import Lake
    from options_agent.market.deribit.http import Caller

_DAY: Final = dt.timedelta(days=1)
#: Hours of DVOL and funding that are asked for again: closed bars may come a little late.
_LOOK_BACK: Final = dt.timedelta(hours=9)


@dataclass(slots=True)
class Beside:
    """Writes the series of some families for one region."""

    lake: Lake
    region: str
    every: float
    _days: dict[tuple[SeriesName, str, dt.date], pa.Table] = field(default_factory=dict)
    _kept_at: dict[str, int] = field(default_factory=dict)
    _asked: dict[tuple[str, str], dt.datetime] = field(default_factory=dict)
    _delivered: dict[str, dt.datetime] = field(default_factory=dict)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def hear_index(self, underlying: str, price: float, perpetual: float | None, ts: int) -> pa.Table | None:
        """An index price came in at `ts`; the rows to keep where they are due: it, and the middle of the perpetual's book."""
        if ts - self._kept_at.get(underlying, -(1 << 62)) < self.every * 1e6:
            return None
        self._kept_at[underlying] = ts
        index = price_table([(ts, price)], underlying, "index")
        return index if perpetual is None else pa.concat_tables([index, price_table([(ts, perpetual)], underlying, "perpetual")])

    async def keep(self, name: SeriesName, underlying: str, rows: pa.Table) -> None:
        """Add rows to their days' files of this region; rows that are there already stay as they are."""
        async with self._writing:  # prices come from the socket and, of deliveries, from the hourly round: one at a time
            await asyncio.to_thread(self._keep, name, underlying, rows)

    async def hourly(self, caller: Caller, underlying: str, now: dt.datetime) -> list[ExchangeError]:
        """Once an hour: the closed bars of DVOL and the funding; the delivery price with the first snapshot after 08:00 UTC that has it.

        Returns:
            What the exchange refused or left unanswered; each is asked for again with the next snapshot, or the next hour where it
            was refused.
        """
        failures: list[ExchangeError] = []
        tables: dict[SeriesName, Callable[..., Awaitable[pa.Table]]] = {"dvol": dvol_table, "funding": funding_table}
        hour = now.replace(minute=0, second=0, microsecond=0)
        for name, table_of in tables.items():
            if self._asked.get((name, underlying)) == hour:
                continue
            try:
                with as_documented(f"the history of {name}", caller.url):
                    told = await table_of(caller, underlying, now - _LOOK_BACK, now)
                await self.keep(name, underlying, told)
            except RefusalError as error:  # it has none, or not for us: asking with every snapshot would not change that
                failures.append(error)
            except ExchangeError as error:
                failures.append(error)
                continue
            self._asked[name, underlying] = hour
        try:
            await self._deliveries(caller, underlying, now)
        except ExchangeError as error:
            failures.append(error)
        return failures

    async def _deliveries(self, caller: Caller, underlying: str, now: dt.datetime) -> None:
        """The delivery prices of the last two days, until the newest that is due is among them."""
        due = _last_delivery(now)
        if self._delivered.get(underlying) == due:
            return
        with as_documented("public/get_delivery_prices", caller.url):
            told = await delivery_table(caller, underlying, due - _DAY, due + dt.timedelta(microseconds=1))
        if told.num_rows:
            await self.keep("prices", underlying, told)
        if due in told["ts"].to_pylist():
            self._delivered[underlying] = due

    def _keep(self, name: SeriesName, underlying: str, rows: pa.Table) -> None:
        days = pc.cast(rows["ts"], pa.date32())
        for day in pc.unique(days).to_pylist():
            own = rows.filter(pc.equal(days, pa.scalar(day, pa.date32())))
            key = (name, underlying, day)
            before = self._days.get(key)
            if before is None:
                before = self._written(*key)
            known = set(_keys(before.filter(pc.is_in(before["ts"], own["ts"].combine_chunks()))))
            fresh = own.filter(pa.array([row not in known for row in _keys(own)], pa.bool_()))
            if fresh.num_rows or key not in self._days:
                self._days[key] = pa.concat_tables([before, fresh]).combine_chunks()
                write_series(self.lake, name, underlying, day, self._days[key], self.region)
            for old in [k for k in self._days if k[:2] == key[:2] and day - k[2] > dt.timedelta(days=2)]:
                del self._days[old]

    def _written(self, name: SeriesName, underlying: str, day: dt.date) -> pa.Table:
        path = layout.series_path(name, underlying, day, self.region)
        data = self.lake.files.read_or_none(path)
        if data is None:
            return SERIES[name].empty_table()
        place = self.lake.files.place(path)
        return as_stored(from_bytes(data, place=place), SERIES[name], place)


def _keys(rows: pa.Table) -> list[tuple[Any, ...]]:
    """What a row of a series is known by: its time, and of prices its kind."""
    names = [name for name in ("ts", "kind") if name in rows.column_names]
    return list(zip(*(rows[name].to_pylist() for name in names), strict=True))


def _last_delivery(now: dt.datetime) -> dt.datetime:
    """The newest 08:00 UTC that is past."""
    today = now.replace(hour=8, minute=0, second=0, microsecond=0)
    return today if today <= now else today - _DAY


def index_name_of(channel: str) -> str | None:
    """`btc_usd` of `deribit_price_index.btc_usd`; None for other channels."""
    topic, _, name = channel.partition(".")
    return name if topic == "deribit_price_index" else None


def price_of(data: dict[str, Any]) -> float | None:
    """The price in a message of the index channel."""
    value = data.get("price")
    return float(value) if isinstance(value, (int, float)) and value > 0 else None
