"""The exchange's own history: DVOL, funding, index bars, delivery prices and option trades of a past range, over HTTP, by pages.

`ts` is when a value was known: a bar's close, a trade's own time. A bar that is still open is not told.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from options_agent.contracts import coin_of
from options_agent.errors import DataError
from options_agent.market.deribit.chain import currency_of, index_of
from options_agent.quotes import UTC_US
from options_agent.series import DVOL_SCHEMA, FUNDING_SCHEMA, PRICE_SCHEMA, TRADE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from options_agent.market.deribit.http import Caller

SOURCE: Final = "deribit"
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_HOUR_US: Final = 3_600_000_000
#: Bars a page of funding or index history is asked for: the exchange cuts longer ranges short.
_PAGE: Final = dt.timedelta(days=14)
_MOST_PAGES: Final = 10_000
_TRADES: Final = 1_000
#: How old the trades are that the exchange itself still has, and a day: beyond this it is not asked.
_REMEMBERED: Final = dt.timedelta(hours=48)
_DELIVERIES: Final = 100
_FEW_DAYS: Final = 3
_FIVE_MINUTES: Final = dt.timedelta(minutes=5)


async def dvol_table(caller: Caller, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
    """Hourly bars of the volatility index known in [start, end); empty for a coin without one.

    Raises:
        ExchangeError: the exchange refused or did not answer.
    """
    rows: dict[int, list[float]] = {}
    until: dt.datetime | None = end
    for _ in range(_MOST_PAGES):
        if until is None or coin_of(underlying) not in {"BTC", "ETH"}:
            break
        page = await caller.call(
            "public/get_volatility_index_data",
            {
                "currency": coin_of(underlying),
                "start_timestamp": _ms(start) - 3_600_000,
                "end_timestamp": _ms(until),
                "resolution": "3600",
            },
        )
        for at, *values in page.get("data", []):
            rows[at * 1_000 + _HOUR_US] = [value / 100 for value in values]
        onward = page.get("continuation")
        until = _time(onward) if onward else None
    kept = [(ts, *rows[ts]) for ts in sorted(rows) if _us(start) <= ts < _us(end)]
    ts, *values = zip(*kept, strict=True) if kept else ((), (), (), (), ())
    named = dict(zip(("open", "high", "low", "close"), values, strict=True))
    return _table(DVOL_SCHEMA, list(ts), underlying, named)


async def funding_table(caller: Caller, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
    """Hourly funding of the perpetual known in [start, end), as the rate of eight hours; empty where it has none.

    Raises:
        ExchangeError: the exchange refused or did not answer.
    """
    rows: dict[int, float] = {}
    at = start
    while at < end:
        until = min(at + _PAGE, end)
        page = await caller.call(
            "public/get_funding_rate_history",
            {"instrument_name": f"{underlying}-PERPETUAL", "start_timestamp": _ms(at), "end_timestamp": _ms(until)},
        )
        rows |= {each["timestamp"] * 1_000: each["interest_8h"] for each in page}
        at = until
    kept = [ts for ts in sorted(rows) if _us(start) <= ts < _us(end)]
    return _table(FUNDING_SCHEMA, kept, underlying, {"rate_8h": [rows[ts] for ts in kept]})


async def index_table(caller: Caller, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
    """Closes of five-minute bars of the perpetual (kind `perpetual`), and delivery prices (kind `delivery`), known in [start, end).

    Raises:
        ExchangeError: the exchange refused or did not answer.
    """
    rows: dict[int, float] = {}
    at = start - _FIVE_MINUTES
    while at < end:
        until = min(at + dt.timedelta(days=3), end)
        page = await caller.call(
            "public/get_tradingview_chart_data",
            {
                "instrument_name": f"{underlying}-PERPETUAL",
                "start_timestamp": _ms(at),
                "end_timestamp": _ms(until),
                "resolution": "5",
            },
        )
        width = _FIVE_MINUTES // dt.timedelta(microseconds=1)
        rows |= {tick * 1_000 + width: close for tick, close in zip(page.get("ticks", []), page.get("close", []), strict=True)}
        at = until
    bars = price_table([(ts, rows[ts]) for ts in sorted(rows) if _us(start) <= ts < _us(end)], underlying, "perpetual")
    return pa.concat_tables([bars, await delivery_table(caller, underlying, start, end)])


async def delivery_table(caller: Caller, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
    """Delivery prices (kind `delivery`) of the days whose 08:00 UTC lies in [start, end).

    Raises:
        ExchangeError: the exchange refused or did not answer.
    """
    found: dict[int, float] = {}
    # one a day, the newest first: begin near the days that are asked for, and go back to newer ones where that was too far
    offset = max(0, (caller.clock.now() - end) // dt.timedelta(days=1) - _FEW_DAYS)
    page = await _deliveries(caller, underlying, offset)
    while offset and not (page and page[0][0] >= end):
        offset = max(0, offset - _DELIVERIES) if page else 0
        page = await _deliveries(caller, underlying, offset)
    while page:
        found |= {_us(at): price for at, price in page if start <= at < end}
        if page[-1][0] < start:
            break
        offset += len(page)
        page = await _deliveries(caller, underlying, offset)
    return price_table(sorted(found.items()), underlying, "delivery")


async def _deliveries(caller: Caller, underlying: str, offset: int) -> list[tuple[dt.datetime, float]]:
    """A page of delivery prices, the newest first, from the `offset`th on."""
    page = await caller.call("public/get_delivery_prices", {"index_name": index_of(underlying), "offset": offset, "count": _DELIVERIES})
    return [
        (dt.datetime.combine(dt.date.fromisoformat(str(each["date"])[:10]), dt.time(8), dt.UTC), float(each["delivery_price"]))
        for each in page.get("data", [])
    ]


async def day_trades(caller: Caller, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
    """Option trades of [start, end), ascending, none twice: from the server that keeps those of all years, and what it may
    not have yet of the last day from the exchange itself, which forgets them after about a day.

    Raises:
        ExchangeError: a server refused or did not answer.
        DataError: see `trades`.
    """
    settings = caller.settings
    hosts = [settings.history_url]
    if settings.history_url != settings.exchange_url and caller.clock.now() - start < _REMEMBERED:
        hosts.append(settings.exchange_url)
    told = [page for host in hosts async for page in trades(caller, underlying, start, end, host=host)]
    table = pa.concat_tables([TRADE_SCHEMA.empty_table(), *told])
    if len(hosts) > 1:
        first = table.append_column("row", pa.array(range(len(table)), pa.int64())).group_by("trade_id").aggregate([("row", "min")])
        table = table.take(first["row_min"].combine_chunks())
    return table.take(pc.sort_indices(table, sort_keys=[("ts", "ascending"), ("trade_id", "ascending")]))


async def trades(
    caller: Caller, underlying: str, start: dt.datetime, end: dt.datetime, *, host: str | None = None
) -> AsyncIterator[pa.Table]:
    """Option trades of [start, end) that one server has, a page a table, ascending, none twice; the exchange's own by default.

    Raises:
        ExchangeError: the exchange refused or did not answer.
        DataError: a page does not move on although it says there is more.
    """
    at, seen = _ms(start), set[str]()
    while at < _ms(end):
        page = await caller.call(
            "public/get_last_trades_by_currency_and_time",
            {
                "currency": currency_of(underlying),
                "kind": "option",
                "start_timestamp": at,
                "end_timestamp": _ms(end) - 1,
                "count": _TRADES,
                "sorting": "asc",
                "include_old": True,
            },
            host=host,
        )
        fresh = [each for each in page["trades"] if each["trade_id"] not in seen]
        own = [each for each in fresh if each["instrument_name"].split("-")[0] == underlying]
        if own:
            yield _trade_table(own, underlying)
        if not page["has_more"] and len(page["trades"]) < _TRADES:  # a full page is followed up whatever is said of more
            return
        if not fresh:
            if not page["has_more"]:
                return
            raise DataError(
                f"{_TRADES} trades in one millisecond: the page does not move on",
                place=f"{underlying} {_time(at)}",
                remedy="ask for the instruments one by one",
            )
        at = page["trades"][-1]["timestamp"]
        seen = {each["trade_id"] for each in page["trades"] if each["timestamp"] == at}


def price_table(rows: list[tuple[int, float]], underlying: str, kind: str) -> pa.Table:
    """`PRICE_SCHEMA` rows of (microseconds, USD)."""
    return _table(PRICE_SCHEMA, [ts for ts, _ in rows], underlying, {"price": [price for _, price in rows], "kind": [kind] * len(rows)})


def _trade_table(found: list[dict[str, Any]], underlying: str) -> pa.Table:
    columns: dict[str, Any] = {
        "traded": pa.array([each["timestamp"] * 1_000 for each in found], pa.int64()).cast(UTC_US),
        "instrument": [each["instrument_name"] for each in found],
        "trade_id": [str(each["trade_id"]) for each in found],
        "price": [each["price"] for each in found],
        "amount": [each["amount"] for each in found],
        "side": [each["direction"] for each in found],
        "iv": [each["iv"] / 100 if each.get("iv") else None for each in found],
        "mark": [each.get("mark_price") for each in found],
        "index": [each.get("index_price") for each in found],
    }
    return _table(TRADE_SCHEMA, [each["timestamp"] * 1_000 for each in found], underlying, columns)


def _table(schema: pa.Schema, stamps: list[int], underlying: str, columns: dict[str, Any]) -> pa.Table:
    everything = {
        "ts": pa.array(stamps, pa.int64()).cast(UTC_US),
        "underlying": pa.repeat(underlying, len(stamps)),
        "source": pa.repeat(SOURCE, len(stamps)),
    } | {
        name: values if isinstance(values, pa.Array) else pa.array(list(values), schema.field(name).type)
        for name, values in columns.items()
    }
    return pa.Table.from_arrays([everything[field.name] for field in schema], schema=schema)


def _ms(at: dt.datetime) -> int:
    return (at - _EPOCH) // dt.timedelta(milliseconds=1)


def _us(at: dt.datetime) -> int:
    return (at - _EPOCH) // dt.timedelta(microseconds=1)


def _time(milliseconds: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(milliseconds=milliseconds)
