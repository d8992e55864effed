"""The public market-data methods: parameters in, the exchange's `result` out. Transport, credit and log-in are elsewhere,
methods about a socket in `session_methods`, private ones in `private`.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.contracts import coin_of, format_date, settlement_of
from options_agent.exchange import wire
from options_agent.exchange.errors import RpcError
from options_agent.exchange.feed import Feed, Listed, currency_of, index_name, ms
from options_agent.exchange.parameters import Params, currency_in, moment, number, text, truth
from options_agent.exchange.past import DVOL_RESOLUTIONS, RESOLUTIONS, Past

if TYPE_CHECKING:
    from options_agent.exchange.faults import Faults
    from options_agent.exchange.past import TradeBar

VERSION: Final = "1.2.26"
_KINDS: Final = ("future", "option", "spot", "future_combo", "option_combo", "combo", "any")
_MOST_TRADES: Final = 1_000
_DAY: Final = dt.timedelta(days=1)


@dataclass(slots=True)
class Market:
    """What methods answer from."""

    feed: Feed
    past: Past
    faults: Faults

    def now(self) -> dt.datetime:
        """Market time as the exchange stamps it, its clock's fault included."""
        return self.feed.clock.now() + dt.timedelta(seconds=self.faults.clock_skew_seconds)

    def now_ms(self) -> int:
        """The same in milliseconds."""
        return ms(self.now())


Method = Callable[[Market, Params], Any]


def find(market: Market, params: Params) -> Listed:
    """The instrument a call is about."""
    name = text(params, "instrument_name")
    listed = market.feed.listed.get(name)
    if listed is None or name in market.faults.vanished:
        raise RpcError(13020, reason="instrument not found", param="instrument_name")
    return listed


def get_instruments(market: Market, params: Params) -> list[dict[str, Any]]:
    currency, kind = currency_in(params, market.feed.underlyings, "any"), text(params, "kind", "any", _KINDS)
    if truth(params, "expired"):
        return []
    listed = market.feed.of(None if currency == "ANY" else currency)
    return [wire.instrument(each) for each in listed if kind in {"any", each.kind}]


def get_expirations(market: Market, params: Params) -> dict[str, Any]:
    currency = text(params, "currency").lower()
    if currency != "grouped":
        currency_in(params, market.feed.underlyings)
    kind = text(params, "kind", "any", ("future", "option", "any"))
    families: dict[str, dict[str, set[dt.datetime]]] = {}
    for each in market.feed.listed.values():
        of = currency_of(each.underlying).lower()
        if kind in {"any", each.kind} and currency in {"any", "grouped", of}:
            families.setdefault(of, {}).setdefault(each.kind, set()).add(each.expiry or dt.datetime.max.replace(tzinfo=dt.UTC))
    if currency == "any":
        kinds: dict[str, set[dt.datetime]] = {}
        for of_kind in families.values():
            for name, expiries in of_kind.items():
                kinds.setdefault(name, set()).update(expiries)
        return {name: _dates(expiries) for name, expiries in kinds.items()}
    return {of: {name: _dates(expiries) for name, expiries in of_kind.items()} for of, of_kind in families.items()}


def get_book_summary_by_currency(market: Market, params: Params) -> list[dict[str, Any]]:
    currency, kind = currency_in(params, market.feed.underlyings), text(params, "kind", "any", _KINDS)
    now, gone = market.now_ms(), market.faults.vanished
    listed = market.feed.of(None if currency == "ANY" else currency)
    return [wire.summary(each, now) for each in listed if kind in {"any", each.kind} and each.name not in gone]


def get_index_price(market: Market, params: Params) -> dict[str, float]:
    family = _family_of_index(market, text(params, "index_name"))
    price = market.feed.index[family]
    return {"index_price": price, "estimated_delivery_price": price}


def get_delivery_prices(market: Market, params: Params) -> dict[str, Any]:
    family = _family_of_index(market, text(params, "index_name"))
    data, total = market.past.deliveries(
        family, market.feed.clock.now(), number(params, "offset", 0), number(params, "count", 10, 1, _MOST_TRADES)
    )
    return {"data": data, "records_total": total}


def get_volatility_index_data(market: Market, params: Params) -> dict[str, Any]:
    family = _family_of_currency(market, text(params, "currency"))
    step = DVOL_RESOLUTIONS[text(params, "resolution", among=DVOL_RESOLUTIONS)]
    now = market.feed.clock.now()
    data, onward = market.past.dvol(family, moment(params, "start_timestamp"), min(moment(params, "end_timestamp"), now), step)
    return {"data": data, "continuation": onward}


def get_funding_rate_history(market: Market, params: Params) -> list[dict[str, Any]]:
    family = _perpetual(market, params)
    return market.past.funding(family, moment(params, "start_timestamp"), min(moment(params, "end_timestamp"), market.feed.clock.now()))


def get_funding_rate_value(market: Market, params: Params) -> float:
    return float(sum(row["interest_1h"] for row in get_funding_rate_history(market, params)))


def get_funding_chart_data(market: Market, params: Params) -> dict[str, Any]:
    length = {"8h": 8, "24h": 24, "1m": 720}[text(params, "length", among=("8h", "24h", "1m"))]
    now = market.feed.clock.now()
    rows = market.past.funding(_perpetual(market, params), now - dt.timedelta(hours=length), now)
    data = [{"timestamp": r["timestamp"], "index_price": r["index_price"], "interest_8h": r["interest_8h"]} for r in rows]
    newest = data[-1]["interest_8h"] if data else 0.0
    return {"current_interest": newest, "interest_8h": newest, "data": data}


def get_tradingview_chart_data(market: Market, params: Params) -> dict[str, Any]:
    listed = find(market, params)
    step = RESOLUTIONS[text(params, "resolution", among=RESOLUTIONS)]
    start, end = moment(params, "start_timestamp"), min(moment(params, "end_timestamp"), market.feed.clock.now())
    names = ("ticks", "open", "high", "low", "close", "volume", "cost")
    bars = bars_of(market, listed, start, end, step) if start <= end else []
    columns = [list(column) for column in zip(*bars, strict=True)] if bars else [[] for _ in names]
    return {"status": "ok" if bars else "no_data", **dict(zip(names, columns, strict=True))}


def bars_of(market: Market, listed: Listed, start: dt.datetime, end: dt.datetime, step: dt.timedelta) -> list[TradeBar]:
    """Bars of an option's own trades; of the index, without volume, for futures and perpetuals."""
    if listed.kind == "option":
        return market.past.trade_bars(listed.underlying, listed.name, start, end, step)
    return [(*bar, 0.0, 0.0) for bar in market.past.bars(listed.underlying, start, end, step)]


def last_trades(market: Market, params: Params, *, by: str) -> dict[str, Any]:
    """The four `get_last_trades_*`: newest first unless asked by time, a thousand at most, `has_more` where there are others."""
    now = market.feed.clock.now()
    count = number(params, "count", 10, 1, _MOST_TRADES)
    if by == "instrument":
        name: str | None = find(market, params).name
        families = [market.feed.listed[name].underlying]  # type: ignore[index]
    else:
        currency = currency_in(params, market.feed.underlyings)
        name, families = None, [u for u in market.feed.underlyings if currency in {"ANY", currency_of(u)}]
        if text(params, "kind", "any", _KINDS) not in {"any", "option"}:
            return {"trades": [], "has_more": False}
    timed = "start_timestamp" in params
    start = moment(params, "start_timestamp", now - dt.timedelta(hours=1 if by == "currency" else 6))
    end = min(moment(params, "end_timestamp", now), now)
    first = text(params, "sorting", "asc" if timed else "desc", ("asc", "desc", "default")) == "asc"
    found: list[dict[str, Any]] = []
    for family in families:
        own = market.past.trades(family, start, end, newest_first=not first)
        found += itertools.islice((t for t in own if name is None or t["instrument_name"] == name), count + 1)
    found.sort(key=lambda trade: (trade["timestamp"], trade["trade_seq"]), reverse=not first)
    return {"trades": found[:count], "has_more": len(found) > count}


def get_last_settlements(market: Market, params: Params, *, by: str) -> dict[str, Any]:
    """Deliveries of the newest days; the continuation is the day to go on with."""
    count = number(params, "count", 20, 1, _MOST_TRADES)
    if text(params, "type", "delivery", ("settlement", "delivery", "bankruptcy")) != "delivery":
        return {"settlements": [], "continuation": "none"}
    now = market.feed.clock.now()
    until = moment(params, "search_start_timestamp", now)
    onward = params.get("continuation")
    if onward and onward != "none":
        try:
            day, skip = dt.date.fromisoformat(str(onward)[:10]), int(str(onward)[11:] or 0)
        except ValueError:
            raise RpcError(-32602, reason="invalid continuation", param="continuation") from None
    else:
        day, skip = (min(until, now) - dt.timedelta(hours=8)).date(), 0
    if by == "instrument":
        instrument = text(params, "instrument_name")
        name: str | None = instrument
        families = [instrument.split("-")[0]]
    else:
        name, currency = None, currency_in(params, market.feed.underlyings)
        families = [u for u in market.feed.underlyings if currency in {"ANY", currency_of(u)}]
    found: list[dict[str, Any]] = []
    days_looked = 0
    while len(found) < count and days_looked < 30:
        rows = [r for u in families if u in market.feed.underlyings for r in market.past.settlements(u, day)]
        rows = [row for row in rows if name in {None, row["instrument_name"]}][skip:]
        if not rows and days_looked:
            break
        taken = rows[: count - len(found)]
        found += taken
        if len(taken) < len(rows):
            return {"settlements": found, "continuation": f"{day}.{skip + len(taken)}"}
        day, skip, days_looked = day - _DAY, 0, days_looked + 1
    return {"settlements": found, "continuation": f"{day}.0" if found else "none"}


def get_currencies(market: Market, _params: Params) -> list[dict[str, Any]]:
    coins = sorted({coin_of(u) for u in market.feed.underlyings} | ({"USDC"} if _any_linear(market) else set()))
    return [
        {
            "currency": coin,
            "currency_long": coin,
            "coin_type": coin,
            "min_confirmations": 1,
            "min_withdrawal_fee": 0.0001,
            "withdrawal_fee": 0.0001,
            "withdrawal_priorities": [],
            "in_cross_collateral_pool": False,
            "decimals": 8,
        }
        for coin in coins
    ]


def get_historical_volatility(market: Market, params: Params) -> list[list[float]]:
    family = _family_of_currency(market, text(params, "currency"))
    now = market.feed.clock.now()
    bars = market.past.bars(family, now - 16 * _DAY, now, dt.timedelta(hours=1))
    closes = [bar[4] for bar in bars]
    told = []
    for n in range(24, len(bars), 4):
        moves = [(b - a) / a for a, b in zip(closes[n - 24 : n], closes[n - 23 : n + 1], strict=False)]
        told.append([bars[n][0], round((sum(m * m for m in moves) / len(moves) * 8_760) ** 0.5 * 100, 4)])
    return told


def get_index_chart_data(market: Market, params: Params) -> list[list[float]]:
    spans = {"1h": 1, "1d": 24, "2d": 48, "1m": 720, "1y": 8_760, "all": 8_760}
    hours = spans[text(params, "range", among=spans)]
    now = market.feed.clock.now()
    bars = market.past.bars(
        _family_of_index(market, text(params, "index_name")),
        now - dt.timedelta(hours=hours),
        now,
        dt.timedelta(minutes=max(hours // 24 * 5, 5)),
    )
    return [[bar[0], bar[4]] for bar in bars]


def get_order_book_by_id(market: Market, params: Params) -> dict[str, Any]:
    listed = market.feed.by_number.get(number(params, "instrument_id"))
    if listed is None or listed.name in market.faults.vanished:
        raise RpcError(13020, reason="instrument not found", param="instrument_id")
    return wire.order_book(listed, market.now_ms(), number(params, "depth", 5, 1))


def get_trade_volumes(market: Market, _params: Params) -> list[dict[str, Any]]:
    told = []
    for currency in sorted({currency_of(u) for u in market.feed.underlyings}):
        listed = market.feed.of(currency)
        sums = {
            right: sum(each.row["volume_24h"] or 0.0 for each in listed if each.kind == "option" and each.row["right"] == right)
            for right in "CP"
        }
        futures = sum(each.row["volume_24h"] or 0.0 for each in listed if each.kind == "future")
        told.append(
            {"currency": currency, "calls_volume": sums["C"], "puts_volume": sums["P"], "futures_volume": futures, "spot_volume": 0.0}
        )
    return told


def public_test(_market: Market, params: Params) -> dict[str, str]:
    if params.get("expected_result") == "exception":
        raise RpcError(-32602, reason="expected exception", param="expected_result")
    return {"version": VERSION}


METHODS: Final[dict[str, Method]] = {
    "public/get_time": lambda market, _params: market.now_ms(),
    "public/test": public_test,
    "public/hello": lambda _market, params: {"version": VERSION, "client": text(params, "client_name", "")},
    "public/status": lambda market, _params: {"locked": "true" if market.faults.maintenance else "false", "locked_indices": []},
    "public/get_currencies": get_currencies,
    "public/get_instruments": get_instruments,
    "public/get_instrument": lambda market, params: wire.instrument(find(market, params)),
    "public/get_contract_size": lambda market, params: {"contract_size": wire.instrument(find(market, params))["contract_size"]},
    "public/get_expirations": get_expirations,
    "public/get_book_summary_by_currency": get_book_summary_by_currency,
    "public/get_book_summary_by_instrument": lambda market, params: [wire.summary(find(market, params), market.now_ms())],
    "public/ticker": lambda market, params: wire.ticker(find(market, params), market.now_ms()),
    "public/get_order_book": lambda market, params: wire.order_book(find(market, params), market.now_ms(), number(params, "depth", 5, 1)),
    "public/get_order_book_by_instrument_id": get_order_book_by_id,
    "public/get_index_price": get_index_price,
    "public/get_index_price_names": lambda market, _params: [index_name(u) for u in market.feed.underlyings],
    "public/get_supported_index_names": lambda market, _params: [index_name(u) for u in market.feed.underlyings],
    "public/get_index_chart_data": get_index_chart_data,
    "public/get_delivery_prices": get_delivery_prices,
    "public/get_volatility_index_data": get_volatility_index_data,
    "public/get_trade_volumes": get_trade_volumes,
    "public/get_historical_volatility": get_historical_volatility,
    "public/get_funding_rate_history": get_funding_rate_history,
    "public/get_funding_rate_value": get_funding_rate_value,
    "public/get_funding_chart_data": get_funding_chart_data,
    "public/get_tradingview_chart_data": get_tradingview_chart_data,
    "public/get_last_trades_by_currency": lambda market, params: last_trades(market, params, by="currency"),
    "public/get_last_trades_by_currency_and_time": lambda market, params: last_trades(market, params, by="currency"),
    "public/get_last_trades_by_instrument": lambda market, params: last_trades(market, params, by="instrument"),
    "public/get_last_trades_by_instrument_and_time": lambda market, params: last_trades(market, params, by="instrument"),
    "public/get_last_settlements_by_currency": lambda market, params: get_last_settlements(market, params, by="currency"),
    "public/get_last_settlements_by_instrument": lambda market, params: get_last_settlements(market, params, by="instrument"),
    "public/get_mark_price_history": lambda market, params: [[bar[0], bar[4]] for bar in _mark_bars(market, params)],
}


def _mark_bars(market: Market, params: Params) -> list[tuple[int, float, float, float, float]]:
    listed = find(market, params)
    if listed.kind == "option":
        return []
    return market.past.bars(listed.underlying, moment(params, "start_timestamp"), moment(params, "end_timestamp"), dt.timedelta(minutes=5))


def _dates(expiries: set[dt.datetime]) -> list[str]:
    return ["PERPETUAL" if e.year == dt.MAXYEAR else format_date(e) for e in sorted(expiries)]


def _family_of_index(market: Market, name: str) -> str:
    for family in market.feed.underlyings:
        if index_name(family) == name and family in market.feed.index:
            return family
    raise RpcError(-32602, reason="unknown index", param="index_name")


def _family_of_currency(market: Market, currency: str) -> str:
    for family in market.feed.underlyings:
        if coin_of(family) == currency.upper():
            return family
    raise RpcError(-32602, reason="unknown currency", param="currency")


def _perpetual(market: Market, params: Params) -> str:
    listed = find(market, params)
    if listed.expiry is not None:
        raise RpcError(-32602, reason="must be a perpetual", param="instrument_name")
    return listed.underlying


def _any_linear(market: Market) -> bool:
    return any(settlement_of(u) == "usdc" for u in market.feed.underlyings)
