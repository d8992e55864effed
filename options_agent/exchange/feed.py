"""What the box knows of the market at an instant: the newest chain of every underlying, its index, and what changed since last time.

Any source feeds it. A live one is asked for its newest chain; another's snapshots are replayed, each from the time it was known.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from options_agent.contracts import coin_of, format_date, settlement_of, specification
from options_agent.errors import DataError
from options_agent.exchange.books import Book
from options_agent.exchange.chain import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from options_agent.exchange.chain import Row
    from options_agent.market.clock import Clock
    from options_agent.market.sources import Source

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: Of a quote row, what an update is recognised by.
_WATCHED: Final = ("bid", "ask", "mark", "bid_size", "ask_size", "mark_iv", "forward", "index", "open_interest")
_DEFAULT_TICK: Final = 0.0001


def ms(at: dt.datetime) -> int:
    """Milliseconds since 1970."""
    return (at - _EPOCH) // dt.timedelta(milliseconds=1)


def index_name(underlying: str) -> str:
    """`btc_usd` of BTC, `btc_usdc` of BTC_USDC: the exchange's name of a family's price index."""
    return f"{coin_of(underlying).lower()}_{'usdc' if settlement_of(underlying) == 'usdc' else 'usd'}"


def currency_of(underlying: str) -> str:
    """The currency under which the exchange lists a family: BTC for BTC, USDC for BTC_USDC."""
    return "USDC" if settlement_of(underlying) == "usdc" else underlying


@dataclass(slots=True)
class Listed:
    """An instrument the box lists. Options carry their newest quote row, futures and perpetuals one made from the chain."""

    name: str
    kind: str
    underlying: str
    expiry: dt.datetime | None
    created_ms: int
    number: int
    row: Row
    tick: float
    forward_name: str = "index_price"
    changed_ms: int = 0
    book: Book = field(default_factory=Book)


@dataclass(slots=True)
class _Tape:
    """Snapshots of one underlying that are still to come; `vain` and `quiet`: last asked without a new one, none before."""

    coming: Iterator[pa.Table] | None
    ahead: pa.Table | None = None
    seen: int = 0
    vain: dt.datetime | None = None
    quiet: dt.datetime | None = None


class Feed:
    """The market of the box. `advance` brings it up to a time and says what changed."""

    def __init__(self, source: Source, underlyings: tuple[str, ...], clock: Clock) -> None:
        self.source = source
        self.clock = clock
        self.underlyings = tuple(u for u in underlyings if u in source.underlyings())
        if not self.underlyings:
            raise DataError(
                f"source {source.name!r} has none of {', '.join(underlyings)}", remedy=f"it has {', '.join(source.underlyings())}"
            )
        self.listed: dict[str, Listed] = {}
        self.by_number: dict[int, Listed] = {}
        self.index: dict[str, float] = {}
        self._tapes: dict[str, _Tape] = {}
        self._rates: dict[str, tuple[int, float]] = {}
        self._numbers = 0

    def advance(self, now: dt.datetime, expired: tuple[str, ...] = ()) -> tuple[list[Listed], list[tuple[Listed, str]]]:
        """Bring the market up to `now`; instruments in `expired` are taken off the board before their time.

        Returns:
            Instruments whose quote changed, and instruments whose state did, with the new state (`created`, `closed`).
        """
        changed: list[Listed] = []
        states: list[tuple[Listed, str]] = []
        for underlying in self.underlyings:
            table = self._newest(underlying, now)
            if table is not None and expired:
                table = table.filter(pc.invert(pc.is_in(table["instrument"], pa.array(expired, pa.string()))))
            if table is not None and table.num_rows:
                self._take(underlying, table, now, changed, states)
        for gone in [each for each in self.listed.values() if (each.expiry is not None and each.expiry <= now) or each.name in expired]:
            del self.listed[gone.name]
            del self.by_number[gone.number]
            states.append((gone, "closed"))
        return changed, states

    def options(self, currency: str | None = None) -> list[Listed]:
        """Options of a currency, all by default."""
        return [each for each in self.of(currency) if each.kind == "option"]

    def of(self, currency: str | None = None) -> list[Listed]:
        """Everything listed under a currency, `any` or all by default."""
        if currency is None or currency == "any":
            return list(self.listed.values())
        return [each for each in self.listed.values() if currency_of(each.underlying) == currency]

    def _newest(self, underlying: str, now: dt.datetime) -> pa.Table | None:
        """A chain that was not told yet, the newest known at `now`; None where there is nothing new."""
        tape = self._tapes.get(underlying)
        if tape is None:
            tape = self._tapes[underlying] = _Tape(None if self.source.live else self._from(underlying, now))
        if tape.coming is None:
            if tape.quiet is not None and now < tape.quiet:
                return None
            table = self.source.latest(underlying, now)
        else:
            table = None
            while True:
                if tape.ahead is None:
                    tape.ahead = next(tape.coming, None)
                if tape.ahead is None or pc.max(tape.ahead["ts"]).as_py() > now:
                    break
                table, tape.ahead = tape.ahead, None
        if table is None or not table.num_rows or (stamp := table["snapshot"][0].value) == tape.seen:
            tape.vain = now
            return None
        # Chains come at the source's interval, this one since we last asked in vain: there is none before that long after it.
        tape.seen, tape.quiet = stamp, tape.vain + self.source.interval(underlying) if tape.vain is not None else None
        return table

    def _from(self, underlying: str, now: dt.datetime) -> Iterator[pa.Table]:
        span = self.source.span(underlying)
        end = span[1] + dt.timedelta(seconds=1) if span else now + dt.timedelta(days=3650)
        lookback = max(self.source.interval(underlying) * 2, dt.timedelta(days=1))
        return self.source.snapshots(underlying, now - lookback, end)

    def _take(self, underlying: str, table: pa.Table, now: dt.datetime, changed: list[Listed], states: list[tuple[Listed, str]]) -> None:
        """Lay a chain over the present one."""
        present = {each.name for each in self.listed.values() if each.underlying == underlying and each.kind == "option"}
        stamp = ms(now)
        rows = [row for row in rows_of(table) if row["expiry"] is not None and row["expiry"] > now]
        forwards = {row["expiry"]: row["forward"] for row in rows if row["forward"]}
        index = next((row["index"] for row in rows if row["index"]), None)
        if index is None and forwards:  # a source without an index: the nearest forward stands in for it
            index = forwards[min(forwards)]
        if index is not None:
            self.index[underlying] = index
        self._futures(underlying, forwards, stamp, changed, states)
        names = {expiry: self._forward_name(underlying, expiry) for expiry in {row["expiry"] for row in rows}}
        for row in rows:
            name = row["instrument"]
            present.discard(name)
            row["index"] = row["index"] or index
            listed = self.listed.get(name)
            if listed is None:
                listed = self._list(name, "option", underlying, row["expiry"], row, stamp)
                states.append((listed, "created"))
            elif all(listed.row[column] == row[column] for column in _WATCHED):
                continue
            listed.row, listed.changed_ms, listed.forward_name = row, stamp, names[row["expiry"]]
            listed.book.dirty = True
            changed.append(listed)
        for name in present:  # no longer in the chain although not expired: the exchange has closed it
            gone = self.listed.pop(name)
            del self.by_number[gone.number]
            states.append((gone, "closed"))

    def _futures(
        self,
        underlying: str,
        forwards: dict[dt.datetime, float],
        stamp: int,
        changed: list[Listed],
        states: list[tuple[Listed, str]],
    ) -> None:
        """A perpetual at the index, and a future at the forward of every expiry but the nearest days'."""
        if underlying not in self.index:
            return
        base = f"{underlying}-"
        wanted: dict[str, tuple[dt.datetime | None, float]] = {f"{base}PERPETUAL": (None, self.index[underlying])}
        for expiry, forward in forwards.items():
            name = f"{base}{format_date(expiry)}"
            if name in self.listed or (expiry.weekday() == 4 and (expiry - self.clock.now()).days >= 6):
                wanted[name] = (expiry, forward)
        for name, (ends, price) in wanted.items():
            listed = self.listed.get(name)
            tick = 0.5 if price > 10_000 else 0.05
            row = {
                "bid": round(round(price / tick) * tick - tick, 6),
                "ask": round(round(price / tick) * tick + tick, 6),
                "bid_size": 10_000.0,
                "ask_size": 10_000.0,
                "mark": round(price, 2),
                "index": self.index[underlying],
                "open_interest": 1_000_000.0,
                "volume_24h": 1_000.0,
                "least": round(price * 0.5, 6),
                "most": round(price * 1.5 + 0.01, 6),
            }
            if ends is None:
                row["funding"] = self._funding(underlying)
            if listed is None:
                listed = self._list(name, "future", underlying, ends, row, stamp)
                listed.tick = tick
                states.append((listed, "created"))
            elif listed.row == row:
                continue
            listed.row, listed.changed_ms = row, stamp
            listed.book.dirty = True
            changed.append(listed)

    def _funding(self, underlying: str) -> float:
        """The newest rate of eight hours known; asked for once an hour."""
        now = self.clock.now()
        hour, kept = int(now.timestamp()) // 3_600, self._rates.get(underlying)
        if kept is None or kept[0] != hour:
            rates = self.source.funding(underlying, now - dt.timedelta(hours=9), now)
            kept = self._rates[underlying] = (hour, rates["rate_8h"][-1].as_py() if rates.num_rows else 0.0)
        return kept[1]

    def _forward_name(self, underlying: str, expiry: dt.datetime) -> str:
        """The future of the expiry where one is listed, else the exchange's name for the forward it makes up."""
        future = f"{underlying}-{format_date(expiry)}"
        return future if future in self.listed else f"SYN.{future}"

    def _list(self, name: str, kind: str, underlying: str, expiry: dt.datetime | None, row: Row, stamp: int) -> Listed:
        self._numbers += 1
        spec = specification(underlying)
        tick = spec.tick if spec else _DEFAULT_TICK
        listed = Listed(name, kind, underlying, expiry, stamp, 100_000 + self._numbers, row, tick)
        self.listed[name] = listed
        self.by_number[listed.number] = listed
        return listed
