"""Small option markets for tests of the backtest: built by hand, or at random from a seed. Rows are plain dicts."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from options_agent.backtest.engine import Directions, run_backtest
from options_agent.backtest.history import COLUMNS, History, history_from_table
from options_agent.backtest.result import BacktestResult
from options_agent.contracts import option_name, parse_option
from options_agent.quotes import QUOTE_SCHEMA
from options_agent.series import FUNDING_SCHEMA, PRICE_SCHEMA
from options_agent.settings import BacktestSettings
from options_agent.strategies.rules import Entry, Exit, Filters, Leg, Strategy
from tests.unit.backtest import reference
from tests.unit.backtest.reference_book import Outcome

START = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)  # a Monday
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
QUOTES = pa.schema([QUOTE_SCHEMA.field(name).with_nullable(True) for name in COLUMNS])


@dataclass
class World:
    """Quotes and prices of one underlying, as rows."""

    underlying: str = "BTC"
    quotes: list[dict[str, Any]] = field(default_factory=list)
    prices: list[dict[str, Any]] = field(default_factory=list)
    funding: list[dict[str, Any]] = field(default_factory=list)
    packed: tuple[tuple[int, ...], History] | None = field(default=None, repr=False, compare=False)

    def quote(self, at: dt.datetime, name: str, bid: float | None, ask: float | None, *, index: float, **values: Any) -> World:
        """Add a row; mark is the mid and delta 0.25 (a put's -0.25) unless given. Returns itself."""
        option = parse_option(name)
        mark = (bid + ask) / 2 if bid and ask else None
        self.quotes.append(
            {
                "ts": at,
                "snapshot": at,
                "instrument": name,
                "expiry": option.expiry,
                "strike": float(option.strike),
                "right": option.right,
                "bid": bid,
                "ask": ask,
                "mark": mark,
                "mark_iv": 0.5,
                "delta": 0.25 if option.right == "C" else -0.25,
                "index": index,
                "forward": index,
                "bid_size": None,
                "ask_size": None,
                "open_interest": 10.0,
                **values,
            }
        )
        return self

    def price(self, at: dt.datetime, price: float, kind: str = "index") -> World:
        """Add a price known at `at`. Returns itself."""
        self.prices.append({"ts": at, "underlying": self.underlying, "price": price, "kind": kind, "source": "test"})
        return self

    def pay(self, at: dt.datetime, rate_8h: float) -> World:
        """Add a funding rate (decimal per eight hours) known at `at`. Returns itself."""
        self.funding.append({"ts": at, "underlying": self.underlying, "rate_8h": rate_8h, "source": "test"})
        return self

    def history(self) -> History:
        """Packed for the engine; once, as long as no row is added. Rows are changed before it is asked for, not after."""
        counts = (len(self.quotes), len(self.prices), len(self.funding))
        if self.packed is None or self.packed[0] != counts:
            self.packed = (counts, self._pack())
        return self.packed[1]

    def _pack(self) -> History:
        quotes = pa.Table.from_pylist(self.quotes, schema=QUOTES)
        prices = pa.Table.from_pylist(self.prices, schema=PRICE_SCHEMA)
        funding = pa.Table.from_pylist(self.funding, schema=FUNDING_SCHEMA)
        return history_from_table(quotes, prices, underlying=self.underlying, funding=funding)

    def slow(self, strategy: Strategy, settings: dict[str, Any] | None = None, **streams: Any) -> Outcome:
        """Run the slow reference over it."""
        plain, currency = strategy.as_dict(), "usdc" if self.underlying.endswith("_USDC") else "coin"
        known = {"funding": self.funding, "settlement": currency, **streams}
        return reference.play(self.quotes, self.prices, plain, self.underlying, settings=settings, **known)

    def play(
        self, strategy: Strategy, features: dict[str, np.ndarray] | None = None, directions: Directions | None = None, **settings: Any
    ) -> BacktestResult:
        """Run the engine over it."""
        return run_backtest(self.history(), strategy, BacktestSettings(**settings), features=features, directions=directions)


def weekly_call(**changes: Any) -> Strategy:
    """One short call of a coin, held to expiry unless told otherwise."""
    return weekly(Leg("sell", "C", 0.25), **changes)


def weekly_put(**changes: Any) -> Strategy:
    """One short put against cash, held to expiry unless told otherwise."""
    return weekly(Leg("sell", "P", 0.25), **{"collateral": "cash", **changes})


def weekly(*legs: Leg, **changes: Any) -> Strategy:
    """A strategy of these legs a week out, that takes any quote."""
    rules: dict[str, Any] = {
        "entry": Entry(dte_min=0.5, dte_target=7, dte_max=11, hour_utc=0),
        "exit": Exit(),
        "filters": Filters(max_spread=2.0),
        **changes,
    }
    return Strategy("test", "test", "a test's own", legs, **rules)


ROLLING = (0, 1, 4, 8, 11)  # days out: contracts come and go, as in a recording with holes


def random_world(
    seed: int,
    *,
    underlying: str = "BTC",
    snapshots: int = 60,
    hours: float = 6.0,
    missing: float = 0.15,
    index_minutes: int = 60,
    listed: bool = False,
    violence: float = 0.0,
) -> World:
    """A market of a few strikes over some weeks that has every trouble of a real one.

    Rows and sides go missing, marks, deltas, sizes and forwards are absent now and then, quotes are known after their snapshot, snapshots
    come unevenly, contracts vanish hours before their expiry, prices and funding rates have holes.

    Args:
        listed: the next three days and all Fridays of seven weeks, so that contracts stay and calendars are possible.
        violence: chance of a jump of a fifth or so between two snapshots.
    """
    # sizes, forwards, funding and jumps have a generator of their own: what a seed gave before they were there it still gives
    random, more = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    world = World(underlying)
    spot = 90_000.0 if underlying.startswith("BTC") else 3_000.0
    step = spot / 45
    at = START
    path: list[tuple[dt.datetime, float]] = [(at - DAY, spot)]
    for _ in range(snapshots):
        at += dt.timedelta(hours=hours) * float(random.choice([1.0, 1.0, 1.0, 0.5, 2.0]))
        spot *= math.exp(float(random.normal(0, 0.018)))
        if more.random() < violence:
            spot *= math.exp(float(more.normal(0, 0.2)) - 0.3 * math.log(spot / path[0][1]))  # back to where it began, in the long run
        path.append((at, spot))
        _add_chain(world, random, more, at, spot, step, missing, listed=listed)
    times = np.array([t.timestamp() for t, _ in path])
    levels = np.array([p for _, p in path])
    moment = START - DAY
    while moment <= at + DAY:
        if random.random() > 0.1:
            level = float(np.interp(moment.timestamp(), times, levels))
            world.price(moment, level, str(random.choice(["index", "index", "index", "spot"])))
        if more.random() < (0.6 if moment.hour % 8 else 0.02):  # now and then a hole of a night and a day
            world.pay(moment, float(more.normal(1e-4, 4e-4)))
        moment += dt.timedelta(minutes=index_minutes)
    return world


def _add_chain(
    world: World,
    random: np.random.Generator,
    more: np.random.Generator,
    at: dt.datetime,
    spot: float,
    step: float,
    missing: float,
    *,
    listed: bool,
) -> None:
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    fridays = [n for n in range(49) if (midnight + n * DAY).weekday() == 4]
    days = sorted({0, 1, 2, *fridays}) if listed else ROLLING
    late = dt.timedelta(seconds=float(random.integers(0, 90)))
    linear = world.underlying.endswith("_USDC")
    for expiry in [midnight + dt.timedelta(days=d, hours=8) for d in days]:
        if expiry - at < dt.timedelta(hours=float(random.uniform(0.1, 12))):
            continue  # delisted from the recording before it expires
        years = (expiry - at) / (365 * DAY)
        forward = spot * (1 + 0.06 * years + float(more.normal(0, 1e-4)))
        for n in range(-6, 7):
            strike = round(spot / step) * step + n * step
            if strike <= 0:
                continue
            for right in ("C", "P"):
                if random.random() < 0.05:
                    continue
                deviation = 0.6 * math.sqrt(years)
                d1 = math.log(spot / strike) / deviation + deviation / 2
                call_delta = 0.5 * math.erfc(-d1 / math.sqrt(2))
                inner = call_delta - strike / spot * 0.5 * math.erfc(-(d1 - deviation) / math.sqrt(2))
                mark = max(inner if right == "C" else inner - 1 + strike / spot, 0.0)
                tick = 0.0001 if mark < 0.005 else 0.0005
                width = int(random.integers(1, 4))
                bid, ask = math.floor(mark / tick) - width + 1, math.ceil(mark / tick) + width - 1
                unit = 50_000.0 if linear else 1.0  # a linear tick is 5 USD, 0.0001 of this
                values = {
                    "mark": None if random.random() < 0.05 else mark * unit,
                    "delta": None if random.random() < 0.05 else call_delta if right == "C" else call_delta - 1,
                    "open_interest": None if random.random() < 0.05 else float(random.integers(0, 40)),
                    "forward": None if more.random() < 0.05 else forward,
                    "bid_size": None if more.random() < 0.1 else float(more.integers(1, 300)) / 10,
                    "ask_size": None if more.random() < 0.1 else float(more.integers(1, 300)) / 10,
                }
                world.quote(
                    at,
                    option_name(world.underlying, expiry, round(strike, 4), right),
                    None if bid <= 0 or random.random() < missing else round(bid * tick * unit, 6),
                    None if random.random() < missing else round(ask * tick * unit, 6),
                    index=spot,
                    **values,
                )
                row = world.quotes[-1]
                row["ts"] = at + late * float(random.random())
                row["index"] = None if random.random() < 0.05 else spot * (1 + float(random.normal(0, 2e-4)))
