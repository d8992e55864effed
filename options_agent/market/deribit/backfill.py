"""The exchange's own history into the lake, a day at a time: perpetual bars, delivery prices, DVOL, funding and option trades.

Chains of the past are not to be had from the exchange (source `tardis` has them). A day's receipt is written last; a day that is
done costs nothing. A few days are asked for at once, as fast as the credits allow; memory holds their trades, some ten thousand rows a day.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from options_agent.errors import DataError
from options_agent.lake.receipts import Receipt, fingerprint, read_receipt, write_receipt
from options_agent.lake.store import write_series
from options_agent.market.clock import WALL
from options_agent.market.deribit.history import day_trades, dvol_table, funding_table, index_table
from options_agent.market.deribit.http import Caller
from options_agent.market.sources import day_range

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from options_agent.lake.layout import SeriesName
    from options_agent.lake.store import Lake
    from options_agent.market.clock import Clock
    from options_agent.settings import Settings

STAGE: Final = "history"
#: 2: trades from the server that keeps those of all years.
VERSION: Final = 2
#: Days and families at once: an answer takes some hundred milliseconds, and the pacer holds all of them under the limits.
_AT_ONCE: Final = 4
#: A day is over for good this long after its end: late bars and trades have come.
_SETTLED: Final = dt.timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class HistoryDay:
    """What became of a day of a family: its receipt, and whether the work had been done before."""

    underlying: str
    day: dt.date
    receipt: Receipt
    done_before: bool


def backfill_history(
    settings: Settings,
    lake: Lake,
    days: Sequence[dt.date],
    *,
    clock: Clock = WALL,
    again: bool = False,
    told: Callable[[HistoryDay], None] | None = None,
) -> list[HistoryDay]:
    """Bring the exchange's history of some days into the lake, a few days at once, every underlying of the settings.

    Args:
        settings: network, underlyings, limits.
        lake: of the same network.
        days: UTC; each must be over.
        clock: the market's.
        again: ask anew for days that have a receipt.
        told: called after each day and family.

    Raises:
        DataError: a day is not over, or the lake is of another network.
        ExchangeError: the exchange refused or did not answer; days done before keep their receipts.
        StorageError: the lake cannot be written.
    """
    if lake.network != settings.network:
        raise DataError(
            f"the lake is of {lake.network}, the exchange of {settings.network}", place=lake.root, remedy="open it by the settings"
        )
    if early := [day for day in days if day_range(day)[1] + _SETTLED > clock.now()]:
        raise DataError(f"{early[0]} is not over yet", remedy=f"ask for days up to {(clock.now() - dt.timedelta(days=1)).date()}")
    return asyncio.run(_backfill(settings, lake, days, clock, told, again=again))


async def _backfill(
    settings: Settings, lake: Lake, days: Sequence[dt.date], clock: Clock, told: Callable[[HistoryDay], None] | None, *, again: bool
) -> list[HistoryDay]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(caller: Caller, underlying: str, day: dt.date) -> HistoryDay:
        async with gate:
            urls = (settings.exchange_url, settings.history_url)
            mark = fingerprint(STAGE, VERSION, settings.network, urls, underlying, day)
            former = read_receipt(lake, STAGE, underlying, day.isoformat())
            if former is not None and former.fingerprint == mark and not again:
                done = HistoryDay(underlying, day, former, done_before=True)
            else:
                done = HistoryDay(underlying, day, await _day(caller, lake, underlying, day, mark), done_before=False)
            if told is not None:
                told(done)
            return done

    async with Caller(settings, clock) as caller:
        tasks = [asyncio.create_task(one(caller, underlying, day)) for day in days for underlying in settings.underlyings]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:  # of a failed one's companions none goes on unseen
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _day(caller: Caller, lake: Lake, underlying: str, day: dt.date, mark: str) -> Receipt:
    start, end = day_range(day)
    tables: dict[SeriesName, pa.Table] = {
        "prices": await index_table(caller, underlying, start, end),
        "dvol": await dvol_table(caller, underlying, start, end),
        "funding": await funding_table(caller, underlying, start, end),
        "trades": await day_trades(caller, underlying, start, end),
    }
    for name, table in tables.items():
        if table.num_rows:
            await asyncio.to_thread(write_series, lake, name, underlying, day, table, "history")
    receipt = Receipt(STAGE, underlying, day.isoformat(), mark, {name: table.num_rows for name, table in tables.items()})
    write_receipt(lake, receipt)
    return receipt
