"""What moves the box: the feed is brought up to market time, and every subscriber is told what changed."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from options_agent.exchange import channels, wire
from options_agent.exchange.books import changes
from options_agent.exchange.faults import Dice
from options_agent.exchange.feed import ms
from options_agent.exchange.session import Session, notification, notification_of

if TYPE_CHECKING:
    from options_agent.exchange.books import Levels
    from options_agent.exchange.channels import Channel
    from options_agent.exchange.feed import Listed
    from options_agent.exchange.methods import Market

log = logging.getLogger("options_agent.exchange")

#: Wall seconds between two rounds.
ROUND: Final = 0.1
_INDEX_TOPICS: Final = (
    "deribit_price_index",
    "deribit_volatility_index",
    "markprice",
    "estimated_expiration_price",
    "deribit_price_statistics",
    "deribit_price_ranking",
    "chart",
)
_EVERY_MS: Final = 1_000
_BOOKS: Final = ("book", "grouped")
#: Topics whose message is the same whatever the interval: encoded once for all channels of an instrument.
_ALIKE: Final = ("ticker", "quote")
#: A close frame with the exchange's code for a heartbeat without answer.
UNANSWERED: Final = b"\x88\x02" + (4_000).to_bytes(2, "big")


@dataclass(slots=True)
class Told:
    """What the pump did, for those who watch it.

    `behind_seconds`: the longest that a round was overdue, wall time; `late_rounds`: how many were by a whole round or more.
    """

    rounds: int = 0
    messages: int = 0
    busy_seconds: float = 0.0
    behind_seconds: float = 0.0
    late_rounds: int = 0


@dataclass(frozen=True, slots=True)
class _ToldBook:
    """Levels and change id that the listeners of a book channel have."""

    bids: Levels
    asks: Levels
    change_id: int


@dataclass(slots=True)
class Pump:
    """Sessions, and the index from channel to them."""

    market: Market
    sessions: set[Session] = field(default_factory=set)
    told: Told = field(default_factory=Told)
    dice: Dice = field(init=False)
    _of_topic: dict[str, dict[str, Channel]] = field(default_factory=dict)
    _listeners: dict[str, set[Session]] = field(default_factory=dict)
    _of_subject: dict[str, dict[str, Channel]] = field(default_factory=dict)
    _told_at: dict[str, int] = field(default_factory=dict)
    _books: dict[str, _ToldBook] = field(default_factory=dict)
    _waiting: dict[str, tuple[Channel, Listed]] = field(default_factory=dict)
    _traded_until: dt.datetime | None = None
    _maintenance: bool = False

    def __post_init__(self) -> None:
        self.dice = Dice(self.market.faults.seed)

    def subscribe(self, session: Session, channel: Channel) -> None:
        """Tell a session of a channel from now on, beginning with how things stand."""
        listed = self.market.feed.listed.get(channel.subject)
        if channel.topic == "book" and listed is not None:
            if channel.name in self._listeners:  # those who listen already are told first, so that all stand at the same change
                self._tell(channel, listed, self.market.now_ms(), {})
            wire.order_book(listed, 0, 1)
            self._books[channel.name] = _ToldBook(listed.book.bids, listed.book.asks, listed.book.change_id)
        session.subscribed[channel.name] = channel
        self._listeners.setdefault(channel.name, set()).add(session)
        self._of_topic.setdefault(channel.topic, {})[channel.name] = channel
        self._of_subject.setdefault(channel.subject, {})[channel.name] = channel
        if (data := channels.at_once(channel, self.market)) is not None:
            session.tell(notification(channel.name, data))

    def unsubscribe(self, session: Session, name: str) -> bool:
        """Tell it no more; False where it was not subscribed."""
        channel = session.subscribed.pop(name, None)
        if channel is None:
            return False
        listeners = self._listeners.get(name, set())
        listeners.discard(session)
        if not listeners:
            for kept in (self._listeners, self._books, self._waiting, self._told_at):
                kept.pop(name, None)
            self._of_topic.get(channel.topic, {}).pop(name, None)
            self._of_subject.get(channel.subject, {}).pop(name, None)
        return True

    def leave(self, session: Session) -> None:
        """Forget a session."""
        for name in list(session.subscribed):
            self.unsubscribe(session, name)
        self.sessions.discard(session)

    async def run(self) -> None:
        """Round after round until cancelled."""
        due = time.monotonic()
        while True:
            behind = time.monotonic() - due
            self.told.behind_seconds = max(self.told.behind_seconds, behind)
            self.told.late_rounds += behind >= ROUND
            began = time.process_time()
            try:
                self.round()
            except Exception:  # a fault in one round must not end the market
                log.exception("a round of the exchange failed")
            self.told.busy_seconds += time.process_time() - began
            self.told.rounds += 1
            due = max(due + ROUND, time.monotonic())
            await asyncio.sleep(max(due - time.monotonic(), 0.0))

    def round(self) -> None:
        """Bring the feed up to now and tell what changed."""
        market, faults = self.market, self.market.faults
        now = market.feed.clock.now()
        changed, states = market.feed.advance(now, faults.expired)
        stamp = market.now_ms()
        for listed in changed:
            if (own := self._of_subject.get(listed.name)) and listed.name not in faults.vanished:
                self._tell_instrument(listed, own, stamp)
        for listed, state in states:
            self._tell_state(listed, state, stamp)
        for channel, listed in list(self._waiting.values()):
            if stamp - self._told_at.get(channel.name, 0) >= channels.INTERVALS[channel.interval]:
                del self._waiting[channel.name]
                self._tell(channel, listed, stamp, {})
        for channel in self._about(*_INDEX_TOPICS):
            if stamp - self._told_at.get(channel.name, 0) >= _EVERY_MS:
                self._told_at[channel.name] = stamp
                self._send(channel, channels.of_index(channel, market, stamp))
        self._tell_trades(now)
        self.tell_platform()
        wall = time.monotonic()
        for session in list(self.sessions):
            session.flush(faults, self.dice)
            if not faults.stalled and not session.beat(wall):
                session.transport.write(UNANSWERED)
                session.transport.close()

    def tell_platform(self) -> None:
        """Tell that maintenance began or ended, where it did since last told."""
        if self.market.faults.maintenance != self._maintenance:
            self._maintenance = self.market.faults.maintenance
            for channel in self._about("platform_state"):
                self._send(channel, {"maintenance": self._maintenance})

    def _tell_instrument(self, listed: Listed, own: dict[str, Channel], stamp: int) -> None:
        encoded: dict[str, bytes] = {}
        for channel in own.values():
            if (
                channels.INTERVALS[channel.interval] > 100
                and stamp - self._told_at.get(channel.name, 0) < channels.INTERVALS[channel.interval]
            ):
                self._waiting[channel.name] = (channel, listed)
            else:
                self._tell(channel, listed, stamp, encoded)

    def _tell(self, channel: Channel, listed: Listed, stamp: int, encoded: dict[str, bytes]) -> None:
        """Tell of an instrument now; `encoded` keeps what channels of its other intervals would say as well."""
        if channels.INTERVALS[channel.interval] > 100:
            self._told_at[channel.name] = stamp
        if channel.topic in _ALIKE:
            data = encoded.get(channel.topic)
            if data is None:
                data = encoded[channel.topic] = orjson.dumps(channels.of_instrument(channel, listed, stamp, None))
            self._send_encoded(channel, data)
            return
        book = None
        if channel.topic in _BOOKS:
            listed.book.refresh(listed.row, listed.tick, wire.first_change(listed))
        if channel.topic == "book":
            book = self._moved(channel, listed)
            if book is not None and self.dice.hit(self.market.faults.book_gap):
                return  # the change id has moved on, the change is never told
        self._send(channel, channels.of_instrument(channel, listed, stamp, book))

    def _moved(self, channel: Channel, listed: Listed) -> tuple[int, list[Any], list[Any]] | None:
        """The change id the listeners have, and what brings their levels up to the book's; None where nothing does."""
        book, former = listed.book, self._books.get(channel.name)
        if former is None or former.change_id == book.change_id:
            return None
        self._books[channel.name] = _ToldBook(book.bids, book.asks, book.change_id)
        return former.change_id, changes(former.bids, book.bids), changes(former.asks, book.asks)

    def _tell_state(self, listed: Listed, state: str, stamp: int) -> None:
        for channel in self._about("state"):
            if channels.fits(channel, listed):
                self._send(channel, {"timestamp": stamp, "state": state, "instrument_name": listed.name})
        if state == "created":
            for channel in self._about("creation"):
                if channels.fits(channel, listed):
                    self._send(channel, wire.instrument(listed))
        if state == "closed":
            for name in list(self._of_subject.pop(listed.name, {})):
                for session in list(self._listeners.get(name, ())):
                    self.unsubscribe(session, name)

    def _tell_trades(self, now: dt.datetime) -> None:
        since, self._traded_until = self._traded_until, now
        wanted = self._about("trades", "trades_of")
        if since is None or not wanted or (now - since) > dt.timedelta(hours=1):
            return
        for underlying in self.market.feed.underlyings:
            for trade in self.market.past.trades(underlying, since + dt.timedelta(milliseconds=1), now):
                if trade["timestamp"] > ms(now):
                    break
                listed = self.market.feed.listed.get(trade["instrument_name"])
                for channel in wanted:
                    about = (
                        channel.subject == trade["instrument_name"]
                        if channel.topic == "trades"
                        else listed and channels.fits(channel, listed)
                    )
                    if about:
                        self._send(channel, [trade])

    def _about(self, *topics: str) -> list[Channel]:
        """The channels of some topics that somebody listens to."""
        return [channel for topic in topics for channel in self._of_topic.get(topic, {}).values()]

    def _send(self, channel: Channel, data: Any) -> None:
        if data is not None:
            self._send_encoded(channel, orjson.dumps(data))

    def _send_encoded(self, channel: Channel, data: bytes) -> None:
        if not (listeners := self._listeners.get(channel.name)):
            return
        message = notification_of(channel.name, data)
        self.told.messages += len(listeners)
        for session in listeners:
            session.waiting.append(message)
