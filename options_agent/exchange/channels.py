"""Channels: which there are, what each carries when the market moves, and what a new subscriber is told at once.

A channel of an instrument is built once for all its subscribers. Names are the exchange's.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.exchange import wire
from options_agent.exchange.feed import currency_of, index_name
from options_agent.exchange.methods import bars_of
from options_agent.exchange.past import RESOLUTIONS

if TYPE_CHECKING:
    from options_agent.exchange.feed import Listed
    from options_agent.exchange.methods import Market

#: Market milliseconds between two messages of a channel, by the interval in its name.
INTERVALS: Final = {"raw": 0, "100ms": 100, "agg2": 1_000}
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]+")
_KINDS: Final = ("option", "future", "any")
_INDEX_TOPICS: Final = (
    "deribit_price_index",
    "deribit_volatility_index",
    "estimated_expiration_price",
    "deribit_price_statistics",
    "deribit_price_ranking",
)


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel by its parts. `subject` is an instrument, an index, or `kind.currency`; `form` says how a book is told."""

    name: str
    topic: str
    subject: str
    interval: str = "100ms"
    depth: int = 0
    resolution: str = ""

    @property
    def raw(self) -> bool:
        """Whether it needs a log-in."""
        return self.interval == "raw"


def parse(name: str, market: Market) -> Channel | None:
    """A channel by its name; None where the exchange has no such one."""
    if not _PLAIN.fullmatch(name):
        return None
    parts = name.split(".")
    match parts:
        case ["ticker" | "perpetual" | "trades" as topic, instrument, interval] if (
            interval in INTERVALS and instrument in market.feed.listed
        ):
            return Channel(name, topic, instrument, interval)
        case ["quote" | "incremental_ticker" as topic, instrument] if instrument in market.feed.listed:
            return Channel(name, topic, instrument)
        case ["book", instrument, interval] if interval in INTERVALS and instrument in market.feed.listed:
            return Channel(name, "book", instrument, interval)
        case ["book", instrument, _group, depth, interval] if (
            interval in INTERVALS and instrument in market.feed.listed and depth.isdigit()
        ):
            return Channel(name, "grouped", instrument, interval, int(depth))
        case ["chart", "trades", instrument, resolution] if resolution in RESOLUTIONS and instrument in market.feed.listed:
            return Channel(name, "chart", instrument, resolution=resolution)
        case ["trades", kind, currency, interval] if kind in _KINDS and interval in INTERVALS:
            return Channel(name, "trades_of", f"{kind}.{currency.upper()}", interval)
        case ["instrument", "state" | "creation" as event, kind, currency] if kind in _KINDS:
            return Channel(name, event, f"{kind}.{currency.upper()}")
        case ["announcements"]:
            return Channel(name, name, "")
        case [topic, index] if topic in _INDEX_TOPICS:
            return Channel(name, topic, index) if _known_index(market, index) else None
        case ["markprice", "options", index]:
            return Channel(name, "markprice", index) if _known_index(market, index) else None
        case ["platform_state"] | ["platform_state", "public_methods_state"]:
            return Channel(name, name, "")
    return None


def of_instrument(channel: Channel, listed: Listed, now_ms: int, book: tuple[int, list[Any], list[Any]] | None) -> Any | None:
    """What a channel of an instrument carries when its quote changed; None where nothing of it did.

    Args:
        channel: the channel.
        listed: the instrument.
        now_ms: the stamp.
        book: the former change id and the changes, where levels changed.
    """
    match channel.topic:
        case "ticker":
            return wire.ticker(listed, now_ms)
        case "incremental_ticker":
            return wire.ticker(listed, now_ms) | {"type": "change"}
        case "quote":
            return wire.quote(listed, now_ms)
        case "perpetual" if listed.expiry is None:
            return {"interest": listed.row["funding"], "timestamp": now_ms, "index_price": listed.row["index"]}
        case "grouped":
            full = wire.order_book(listed, now_ms, channel.depth)
            return {name: full[name] for name in ("timestamp", "instrument_name", "change_id", "bids", "asks")}
        case "book" if book is not None:
            former, bids, asks = book
            return {
                "type": "change",
                "timestamp": now_ms,
                "instrument_name": listed.name,
                "change_id": listed.book.change_id,
                "prev_change_id": former,
                "bids": bids,
                "asks": asks,
            }
    return None


def at_once(channel: Channel, market: Market) -> Any | None:
    """What a new subscriber is told before anything changes: the present state. None for channels of events."""
    now = market.now_ms()
    listed = market.feed.listed.get(channel.subject)
    if listed is not None and listed.name in market.faults.vanished:
        return None
    match channel.topic:
        case "book" if listed is not None:
            full = wire.order_book(listed, now, 10_000)
            return {
                "type": "snapshot",
                "timestamp": now,
                "instrument_name": listed.name,
                "change_id": full["change_id"],
                "bids": [["new", price, size] for price, size in full["bids"]],
                "asks": [["new", price, size] for price, size in full["asks"]],
            }
        case "incremental_ticker" if listed is not None:
            return wire.ticker(listed, now) | {"type": "snapshot"}
        case "ticker" | "quote" | "perpetual" | "grouped" if listed is not None:
            return of_instrument(channel, listed, now, None)
        case "platform_state":
            return {"maintenance": market.faults.maintenance}
        case "platform_state.public_methods_state":
            return {"allow_unauthenticated_public_requests": True}
    return of_index(channel, market, now)


def of_index(channel: Channel, market: Market, now_ms: int) -> Any | None:
    """What a channel of an index, or of the bars made from it, carries now; None for other channels."""
    if channel.topic == "chart":
        return _bar(channel, market)
    family = next((u for u in market.feed.underlyings if index_name(u) == channel.subject), None)
    if family is None or family not in market.feed.index:
        return None
    price = market.feed.index[family]
    match channel.topic:
        case "deribit_price_index":
            return {"timestamp": now_ms, "price": price, "index_name": channel.subject}
        case "estimated_expiration_price":
            return {"seconds": 0, "price": price, "is_estimated": True, "timestamp": now_ms}
        case "deribit_price_statistics":
            return {"index_name": channel.subject, "low24h": price, "high24h": price, "change24h": 0.0}
        case "deribit_price_ranking":
            told = {"identifier": "box", "enabled": True, "price": price, "original_price": price, "weight": 100.0, "timestamp": now_ms}
            return [told]
        case "deribit_volatility_index":
            volatility = _volatility(market, family)
            return None if volatility is None else {"timestamp": now_ms, "volatility": volatility, "index_name": channel.subject}
        case "markprice":
            return [
                {"instrument_name": each.name, "mark_price": each.row["mark"] or 0.0, "iv": each.row["mark_iv"] or 0.0, "timestamp": now_ms}
                for each in market.feed.options()
                if each.underlying == family and each.name not in market.faults.vanished
            ]
    return None


def fits(channel: Channel, listed: Listed) -> bool:
    """Whether a `kind.currency` channel is about an instrument."""
    kind, _, currency = channel.subject.partition(".")
    return kind in {"any", listed.kind} and currency in {"ANY", currency_of(listed.underlying), listed.underlying}


def _known_index(market: Market, index: str) -> bool:
    return any(index_name(u) == index for u in market.feed.underlyings)


def _bar(channel: Channel, market: Market) -> dict[str, Any] | None:
    """The bar that is being made; None where an option was not traded."""
    listed = market.feed.listed.get(channel.subject)
    if listed is None:
        return None
    now, step = market.feed.clock.now(), RESOLUTIONS[channel.resolution]
    bars = bars_of(market, listed, now - max(step, dt.timedelta(minutes=10)), now, step)
    if not bars:
        return None
    return dict(zip(("tick", "open", "high", "low", "close", "volume", "cost"), bars[-1], strict=True))


def _volatility(market: Market, family: str) -> float | None:
    """The newest volatility index known, percent."""
    now = market.feed.clock.now()
    table = market.feed.source.dvol(family, now - dt.timedelta(hours=3), now)
    return round(table["close"][-1].as_py() * 100, 2) if table.num_rows else None
