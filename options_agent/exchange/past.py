"""The box's history: index and perpetual bars, DVOL, funding, delivery prices, settlements and trades of any past range.

Prices, DVOL and funding are the source's own. Trades are made from the chain of their quarter of an hour, the same ones whenever asked:
takers hit the bid or lift the ask of contracts that have volume.
"""

from __future__ import annotations

import datetime as dt
import random
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.exchange.feed import ms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from options_agent.market.sources import Source

BUCKET: Final = dt.timedelta(minutes=15)
HOUR: Final = dt.timedelta(hours=1)
_AVERAGED: Final = dt.timedelta(minutes=30)
_PER_BUCKET: Final = 36
RESOLUTIONS: Final = {
    **{str(minutes): dt.timedelta(minutes=minutes) for minutes in (1, 3, 5, 10, 15, 30, 60, 120, 180, 360, 720)},
    "1D": dt.timedelta(days=1),
}
DVOL_RESOLUTIONS: Final = {
    "1": dt.timedelta(seconds=1),
    "60": dt.timedelta(minutes=1),
    "3600": HOUR,
    "43200": dt.timedelta(hours=12),
    "1D": dt.timedelta(days=1),
}
_TRADED: Final = ["instrument", "expiry", "bid", "ask", "mark", "bid_iv", "ask_iv", "mark_iv", "index", "forward"]
_MOST_BARS: Final = 1_000
_MOST_CANDLES: Final = 5_000
_TRADED_FOR: Final = dt.timedelta(days=7)
#: Before it a source without a span of its own is not asked: the synthetic market began the day before.
_OLDEST: Final = dt.datetime(2019, 1, 2, tzinfo=dt.UTC)

#: Open time in milliseconds, open, high, low, close.
Bar = tuple[int, float, float, float, float]
#: The same with volume and cost.
TradeBar = tuple[int, float, float, float, float, float, float]


class Past:
    """What was, by the source that feeds the box."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._bucket = lru_cache(maxsize=2_048)(self._trades_of)

    def bars(self, underlying: str, start: dt.datetime, end: dt.datetime, step: dt.timedelta) -> list[Bar]:
        """Open times (ms) and open, high, low, close of the index, gaps left out; the newest five thousand of a longer range."""
        start = max(start, end - _MOST_CANDLES * step, self.oldest(underlying))
        if start > end:
            return []
        table = self._source.prices(underlying, start, end + step)
        return _bars(table, table["price"].to_numpy(), start, end, step)

    def trade_bars(self, underlying: str, instrument: str, start: dt.datetime, end: dt.datetime, step: dt.timedelta) -> list[TradeBar]:
        """Bars of an option's trades, volume (contracts) and cost (price times volume) included; of a longer range the last week.

        A bar without a trade is left out.
        """
        bars: dict[int, TradeBar] = {}
        width = step // dt.timedelta(milliseconds=1)
        for trade in self.trades(underlying, max(start, end - _TRADED_FOR), end):
            if trade["instrument_name"] != instrument:
                continue
            at, price, amount = trade["timestamp"] // width * width, trade["price"], trade["amount"]
            _, first, high, low, _, volume, cost = bars.get(at, (at, price, price, price, price, 0.0, 0.0))
            bars[at] = (at, first, max(high, price), min(low, price), price, volume + amount, cost + price * amount)
        return list(bars.values())

    def oldest(self, underlying: str) -> dt.datetime:
        """Before it there is nothing."""
        span = self._source.span(underlying)
        return span[0].replace(hour=0, minute=0, second=0, microsecond=0) if span else _OLDEST

    def dvol(self, underlying: str, start: dt.datetime, end: dt.datetime, step: dt.timedelta) -> tuple[list[Bar], int | None]:
        """Volatility index bars in percent by open time, newest thousand, and where to go on (the end of an earlier range)."""
        step, start = max(step, HOUR), max(start, self.oldest(underlying))
        if start > end:
            return [], None
        table = self._source.dvol(underlying, start, end + step)
        if not table.num_rows:
            return [], None
        closes = pc.subtract(table["ts"], pa.scalar(HOUR, pa.duration("us")))  # of the bar that closed at ts, the open
        opened = np.asarray(closes.cast(pa.int64()))
        bars: dict[int, list[float]] = {}
        width = step // dt.timedelta(microseconds=1)
        values = zip(opened.tolist(), *(table[name].to_pylist() for name in ("open", "high", "low", "close")), strict=True)
        for at, first, high, low, last in values:
            if not (ms(start) * 1_000 <= at <= ms(end) * 1_000):
                continue
            bar = bars.setdefault(at // width * width // 1_000, [first, high, low, last])
            bar[1], bar[2], bar[3] = max(bar[1], high), min(bar[2], low), last
        ordered = [(at, *(round(v * 100, 4) for v in bar)) for at, bar in sorted(bars.items())]
        cut = ordered[-_MOST_BARS:]
        return cut, (cut[0][0] - 1 if len(ordered) > len(cut) else None)  # type: ignore[return-value]

    def funding(self, underlying: str, start: dt.datetime, end: dt.datetime) -> list[dict[str, Any]]:
        """Hourly funding: `interest_8h` stands for the eight hours to come of the source's rate, `interest_1h` is its eighth."""
        start = max(start, self.oldest(underlying) + dt.timedelta(hours=9))
        if start > end:
            return []
        rates = self._source.funding(underlying, start - dt.timedelta(hours=9), end)
        if not rates.num_rows:
            return []
        prices = self._source.prices(underlying, start - dt.timedelta(hours=2), end)
        known = np.asarray(rates["ts"].cast(pa.int64()))
        price_at, price = np.asarray(prices["ts"].cast(pa.int64())), prices["price"].to_numpy()
        told = []
        hour = start.replace(minute=0, second=0, microsecond=0)
        hour += HOUR if hour < start else dt.timedelta()
        while hour <= end:
            at = ms(hour) * 1_000
            n, p = int(np.searchsorted(known, at, "right")) - 1, int(np.searchsorted(price_at, at, "right")) - 1
            q = int(np.searchsorted(price_at, at - 3_600_000_000, "right")) - 1
            if n >= 0 and p >= 0:
                rate = rates["rate_8h"][n].as_py()
                told.append(
                    {
                        "timestamp": ms(hour),
                        "index_price": float(price[p]),
                        "prev_index_price": float(price[max(q, 0)]),
                        "interest_8h": rate,
                        "interest_1h": rate / 8,
                    }
                )
            hour += HOUR
        return told

    def deliveries(self, underlying: str, now: dt.datetime, offset: int, count: int) -> tuple[list[dict[str, Any]], int]:
        """Delivery prices, newest first, and how many there are: the mean of the index in the half hour before 08:00 UTC."""
        span = self._source.span(underlying)
        newest = now if span is None else min(now, span[1])
        last = newest.date() if newest.timetz() >= dt.time(8, tzinfo=dt.UTC) else newest.date() - dt.timedelta(days=1)
        first = span[0].date() if span else dt.date(2023, 1, 1)
        told = []
        for n in range(offset, min(offset + count, max((last - first).days, 0))):
            day = last - dt.timedelta(days=n)
            if (price := self.delivery(underlying, day)) is not None:
                told.append({"date": day.isoformat(), "delivery_price": price})
        return told, max((last - first).days, 0)

    def delivery(self, underlying: str, day: dt.date) -> float | None:
        """Delivery price of a day, USD; None where the source has no price of that half hour."""
        at = dt.datetime.combine(day, dt.time(8), dt.UTC)
        table = self._source.prices(underlying, at - _AVERAGED, at)
        return round(float(np.mean(table["price"].to_numpy())), 4) if table.num_rows else None

    def settlements(self, underlying: str, day: dt.date) -> list[dict[str, Any]]:
        """Deliveries of the options that expired on a day."""
        price = self.delivery(underlying, day)
        at = dt.datetime.combine(day, dt.time(8), dt.UTC)
        table = self._chain(underlying, at - BUCKET)
        if price is None or table is None:
            return []
        told = []
        for row in table.select(["instrument", "expiry", "strike", "right", "mark", "open_interest", "settlement"]).to_pylist():
            if row["expiry"] != at:
                continue
            usd = max(price - row["strike"], 0.0) if row["right"] == "C" else max(row["strike"] - price, 0.0)
            payoff = usd / price if row["settlement"] == "coin" else usd
            told.append(
                {
                    "type": "delivery",
                    "timestamp": ms(at),
                    "session_profit_loss": round(payoff - (row["mark"] or 0.0), 6),
                    "profit_loss": round(payoff, 6),
                    "position": row["open_interest"] or 0.0,
                    "mark_price": round(payoff, 6),
                    "instrument_name": row["instrument"],
                    "index_price": price,
                }
            )
        return sorted(told, key=lambda row: row["instrument_name"])

    def trades(self, underlying: str, start: dt.datetime, end: dt.datetime, *, newest_first: bool = False) -> Iterator[dict[str, Any]]:
        """Option trades of [start, end], by time; made as they are taken, so that a few of a long range cost little."""
        first, last = ms(max(start, self.oldest(underlying))), ms(end)
        width = BUCKET // dt.timedelta(milliseconds=1)
        buckets = range(first // width, last // width + 1)
        for number in reversed(buckets) if newest_first else buckets:
            bucket = self._bucket(underlying, dt.datetime.fromtimestamp(number * width / 1_000, dt.UTC))
            for trade in reversed(bucket) if newest_first else bucket:
                if first <= trade["timestamp"] <= last:
                    yield trade

    def _trades_of(self, underlying: str, at: dt.datetime) -> tuple[dict[str, Any], ...]:
        table = self._chain(underlying, at)
        if table is None:
            return ()
        table = table.select(_TRADED)
        soon = pa.scalar(at + BUCKET)
        rows = np.flatnonzero(np.asarray(pc.fill_null(_both(pc.greater(table["expiry"], soon), table["bid"], table["ask"]), False)))
        if not rows.size:
            return ()
        first = int(at.timestamp())
        dice = random.Random(f"{underlying}{first}")  # noqa: S311 - the same trades whenever asked
        stamps = sorted(dice.randrange(BUCKET.seconds * 1_000) for _ in range(dice.randrange(_PER_BUCKET)))
        sequence = first // BUCKET.seconds * _PER_BUCKET
        told = []
        for n, offset in enumerate(stamps):
            row, buys = table.slice(int(dice.choice(rows)), 1).to_pylist()[0], dice.random() < 0.5
            price = row["ask"] if buys else row["bid"]
            told.append(
                {
                    "trade_seq": sequence + n,
                    "trade_id": f"{underlying}-{sequence + n}",
                    "timestamp": first * 1_000 + offset,
                    "tick_direction": 0 if buys else 2,
                    "price": price,
                    "mark_price": row["mark"] or price,
                    "iv": round(((row["ask_iv"] if buys else row["bid_iv"]) or row["mark_iv"] or 0.0) * 100, 2),
                    "instrument_name": row["instrument"],
                    "index_price": row["index"] or row["forward"],
                    "direction": "buy" if buys else "sell",
                    "contracts": (amount := dice.choice((0.1, 0.5, 1.0, 2.0, 5.0))),
                    "amount": amount,
                }
            )
        return tuple(told)

    def _chain(self, underlying: str, at: dt.datetime) -> pa.Table | None:
        """The chain that stood at a time."""
        if self._source.live:
            return self._source.latest(underlying, at)
        newest = None
        for table in self._source.snapshots(underlying, at - 2 * self._source.interval(underlying), at + dt.timedelta(seconds=1)):
            newest = table
        return newest


def _both(still: pa.ChunkedArray, bid: pa.ChunkedArray, ask: pa.ChunkedArray) -> pa.ChunkedArray:
    """Rows that live on and have both sides."""
    return pc.and_(still, pc.and_(pc.greater(bid, 0.0), pc.greater(ask, 0.0)))


def _bars(table: pa.Table, values: np.ndarray, start: dt.datetime, end: dt.datetime, step: dt.timedelta) -> list[Bar]:
    stamps = np.asarray(table["ts"].cast(pa.int64()))
    width = step // dt.timedelta(microseconds=1)
    inside = (stamps >= ms(start) * 1_000) & (stamps <= ms(end) * 1_000)
    stamps, values = stamps[inside] // width * width, values[inside]
    told = []
    for at in np.unique(stamps):
        own = values[stamps == at]
        told.append((int(at) // 1_000, float(own[0]), float(own.max()), float(own.min()), float(own[-1])))
    return told
