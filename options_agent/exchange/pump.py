"""What moves the box: the feed is brought up to market time, and every subscriber is told what changed."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from options_agent.exchange import channels, wire
from options_agent.exchange.faults import Dice
from options_agent.exchange.feed import ms
from options_agent.exchange.session import Session, notification

if TYPE_CHECKING:
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
#: A close frame with the exchange's code for a heartbeat without answer.
UNANSWERED: Final = b"\x88\x02" + (4_000).to_bytes(2, "big")


@dataclass(slots=True)
class Told:
    """What the pump did, for those who watch it. `behind_seconds`: the longest that a round was overdue, wall time."""

    rounds: int = 0
    messages: int = 0
    busy_seconds: float = 0.0
    behind_seconds: float = 0.0


@dataclass(slots=True)
class Pump:
    """Sessions, and the index from channel to them."""

    market: Market
    sessions: set[Session] = field(default_factory=set)
    told: Told = field(default_factory=Told)
    dice: Dice = field(init=False)
    _channels: dict[str, Channel] = field(default_factory=dict)
    _listeners: dict[str, set[Session]] = field(default_factory=dict)
    _of_subject: dict[str, dict[str, Channel]] = field(default_factory=dict)
    _index_at: dict[str, int] = field(default_factory=dict)
    _traded_until: dt.datetime | None = None
    _maintenance: bool = False

    def __post_init__(self) -> None:
        self.dice = Dice(self.market.faults.seed)

    def subscribe(self, session: Session, channel: Channel) -> None:
        """Tell a session of a channel from now on, beginning with how things stand."""
        session.subscribed[channel.name] = channel
        self._channels[channel.name] = channel
        self._listeners.setdefault(channel.name, set()).add(session)
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
            self._listeners.pop(name, None)
            self._channels.pop(name, None)
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
            self.told.behind_seconds = max(self.told.behind_seconds, time.monotonic() - due)
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
        for channel in channels.subjects(self._channels, _INDEX_TOPICS):
            if stamp - self._index_at.get(channel.name, 0) >= _EVERY_MS:
                self._index_at[channel.name] = stamp
                self._send(channel, channels.of_index(channel, market, stamp))
        self._tell_trades(now)
        if faults.maintenance != self._maintenance:
            self._maintenance = faults.maintenance
            for channel in channels.subjects(self._channels, ("platform_state",)):
                self._send(channel, {"maintenance": faults.maintenance})
        wall = time.monotonic()
        for session in list(self.sessions):
            session.flush(faults, self.dice)
            if not faults.stalled and not session.beat(wall):
                session.transport.write(UNANSWERED)
                session.transport.close()

    def _tell_instrument(self, listed: Listed, own: dict[str, Channel], stamp: int) -> None:
        book = None
        if any(channel.topic in {"book", "grouped"} for channel in own.values()):
            book = listed.book.refresh(listed.row, listed.tick, wire.first_change(listed))
            if book is not None and self.dice.hit(self.market.faults.book_gap):
                book = None  # the change id has moved on, the change is never told
        for channel in list(own.values()):
            if (interval := channels.INTERVALS[channel.interval]) > 100:
                if stamp - self._index_at.get(channel.name, 0) < interval:
                    continue
                self._index_at[channel.name] = stamp
            self._send(channel, channels.of_instrument(channel, listed, stamp, book))

    def _tell_state(self, listed: Listed, state: str, stamp: int) -> None:
        for channel in channels.subjects(self._channels, ("state",)):
            if channels.fits(channel, listed):
                self._send(channel, {"timestamp": stamp, "state": state, "instrument_name": listed.name})
        if state == "created":
            for channel in channels.subjects(self._channels, ("creation",)):
                if channels.fits(channel, listed):
                    self._send(channel, wire.instrument(listed))
        if state == "closed":
            for name in list(self._of_subject.pop(listed.name, {})):
                for session in list(self._listeners.get(name, ())):
                    self.unsubscribe(session, name)

    def _tell_trades(self, now: dt.datetime) -> None:
        since, self._traded_until = self._traded_until, now
        wanted = list(channels.subjects(self._channels, ("trades", "trades_of")))
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

    def _send(self, channel: Channel, data: Any) -> None:
        if data is None:
            return
        listeners = self._listeners.get(channel.name)
        if not listeners:
            return
        message = notification(channel.name, data)
        self.told.messages += len(listeners)
        for session in listeners:
            session.waiting.append(message)
