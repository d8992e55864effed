"""A slow backtest to judge the fast one: plain Python over plain dicts, a row at a time, sharing no code with the engine.

It has its own fees, settlement, selection and accounting, written from `docs/backtest.md`, so that a mistake has to be made twice
to go unseen.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
LOT = {"BTC": 0.1, "ETH": 1.0}


@dataclass
class Position:
    """An open structure."""

    number: int
    units: float
    rows: list[Row]  # a leg's last known row
    values: list[float]  # a leg's last known mark
    premium: float  # a unit's
    opened: dt.datetime
    born: int  # snapshot number
    due: dt.datetime | None = None
    why: str = ""

    @property
    def expiry(self) -> dt.datetime:
        return self.rows[0]["expiry"]


@dataclass
class Order:
    """An entry that waits for its latency."""

    due: dt.datetime
    units: float
    instruments: list[str]


@dataclass
class Outcome:
    """What was played: closed and open trades, the equity curve, and (action, reason) of every decision."""

    trades: list[dict[str, Any]] = field(default_factory=list)
    equity: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[tuple[dt.datetime, str, str]] = field(default_factory=list)


def trading_fee(at: dt.datetime, price: float) -> float:
    """Coin per contract."""
    if at.year < 2019:
        return min(0.0004, 0.20 * price)
    if at.year < 2020:
        return min(0.0004, 0.125 * price)
    return min(0.0003, 0.125 * price)


def delivery_fee(expiry: dt.datetime, worth: float) -> float:
    """Coin per contract; expiries of other days than Friday are dailies and deliver free."""
    if expiry.weekday() != 4:
        return 0.0
    return min(0.00015, 0.125 * worth)


def delivery_price(expiry: dt.datetime, prices: list[Row], window: int, reach: int) -> tuple[float | None, dt.datetime, str]:
    """Price, when it was known, and how it was found."""
    opens = expiry - dt.timedelta(minutes=window)
    inside = [p for p in prices if p["kind"] == "index" and opens < p["ts"] <= expiry]
    times = [opens, *(p["ts"] for p in inside), expiry]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    if len(inside) >= 3 and max(gaps) <= dt.timedelta(minutes=11):
        return sum(p["price"] for p in inside) / len(inside), expiry, "index_30m_average"
    if not prices:
        return None, expiry, "none"
    nearest = min(prices, key=lambda p: (abs(p["ts"] - expiry), p["ts"]))
    distance = abs(nearest["ts"] - expiry)
    return nearest["price"], expiry + distance, "nearest_price" if distance <= dt.timedelta(minutes=reach) else "too_far"


def side_price(row: Row, buying: bool, crossing: float) -> float | None:
    """What a fill costs: the far side, less what `crossing` leaves of the half-spread; None where that side is missing."""
    need, other = (row["ask"], row["bid"]) if buying else (row["bid"], row["ask"])
    if not need or need <= 0:
        return None
    if not other or other <= 0:
        return need
    middle = (need + other) / 2
    return middle + crossing * (need - middle)


def play(quotes: list[Row], prices: list[Row], strategy: dict[str, Any], underlying: str, **settings: Any) -> Outcome:
    """Play `strategy` (a `Strategy` as plain data) over quotes (any order) and prices (in order of time).

    Settings: capital_coin, latency_seconds, crossing, settlement_window_minutes, settlement_max_distance_minutes (180).
    """
    return _Desk(quotes, prices, strategy, underlying, settings).run()


class _Desk:
    def __init__(self, quotes: list[Row], prices: list[Row], strategy: dict[str, Any], underlying: str, settings: dict[str, Any]):
        self.prices, self.strategy, self.settings = prices, strategy, settings
        self.legs, self.exits, self.entry, self.filters = (strategy[k] for k in ("legs", "exit", "entry", "filters"))
        self.crossing, self.latency = settings["crossing"], dt.timedelta(seconds=settings["latency_seconds"])
        self.settlement = (settings["settlement_window_minutes"], settings.get("settlement_max_distance_minutes", 180))
        self.lot = LOT[underlying]
        self.chains: list[tuple[dt.datetime, float, dict[str, Row]]] = []
        index, known = math.nan, dt.datetime.min.replace(tzinfo=dt.UTC)
        for snapshot in sorted({q["snapshot"] for q in quotes}):
            rows = sorted(
                (q for q in quotes if q["snapshot"] == snapshot), key=lambda q: (q["ts"], q["expiry"], q["right"] == "C", q["strike"])
            )
            for row in rows:
                if row["index"] is not None:
                    index = row["index"]
            known = max(known, rows[-1]["ts"])
            chain = sorted(rows, key=lambda q: (q["expiry"], q["right"], q["strike"]))
            self.chains.append((known, index, {q["instrument"]: q for q in chain}))
        capital = max(settings["capital_coin"], 10 * self.lot)
        cash = strategy["collateral"] == "cash"
        self.coin, self.usd = (0.0, capital * self.chains[0][1]) if cash else (capital, 0.0)
        self.open: list[Position] = []
        self.order: Order | None = None
        self.done_on: dt.date | None = None
        self.count = 0
        self.out = Outcome()

    def run(self) -> Outcome:
        for number, (now, index, chain) in enumerate(self.chains):
            self.settle(now)
            self.refresh(chain)
            self.fill_waiting_order(number, now, index, chain)
            self.judge(number, now, index, chain)
            self.enter(number, now, index, chain)
            options = sum(
                v * self.sign(leg) * leg["ratio"] * p.units for p in self.open for v, leg in zip(p.values, self.legs, strict=True)
            )
            coins = self.coin + self.usd / index + options
            self.out.equity.append({"ts": now, "coin": coins, "usd": coins * index, "cash": self.coin, "open": len(self.open)})
        return self.out

    def sign(self, leg: dict[str, Any]) -> float:
        return -1.0 if leg["side"] == "sell" else 1.0

    def settle(self, now: dt.datetime) -> None:
        for position in list(self.open):
            if position.expiry > now:
                continue
            price, known, method = delivery_price(position.expiry, self.prices, *self.settlement)
            if price is None or known > now:
                continue
            trade = self.out.trades[position.number]
            for leg, row in zip(self.legs, position.rows, strict=True):
                strike = row["strike"]
                inside = price - strike if row["right"] == "C" else strike - price
                worth = max(inside, 0.0) / price
                contracts = position.units * leg["ratio"]
                fee = delivery_fee(position.expiry, worth) * contracts
                self.book(trade, self.sign(leg) * contracts * worth, fee, price)
                trade["out"].append(worth)
            trade |= {"closed_at": known, "exit": "settled", "method": method, "settlement_price": price}
            self.out.decisions.append((now, "expire", "settled"))
            self.open.remove(position)

    def book(self, trade: dict[str, Any], flow: float, fee: float, index: float) -> None:
        self.coin += flow - fee
        trade["fees"] += fee
        trade["profit"] += flow - fee
        trade["profit_usd"] += (flow - fee) * index

    def refresh(self, chain: dict[str, Row]) -> None:
        for position in self.open:
            for n, row in enumerate(position.rows):
                fresh = chain.get(row["instrument"])
                if fresh is None:
                    continue
                position.rows[n] = fresh
                if fresh["mark"] and fresh["mark"] > 0:
                    position.values[n] = fresh["mark"]
                elif fresh["bid"] and fresh["ask"]:
                    position.values[n] = (fresh["bid"] + fresh["ask"]) / 2

    def fill_waiting_order(self, number: int, now: dt.datetime, index: float, chain: dict[str, Row]) -> None:
        if self.order is None or now < self.order.due:
            return
        order, self.order = self.order, None
        rows = [chain.get(name) for name in order.instruments]
        quoted = all(
            row is not None and side_price(row, leg["side"] == "buy", self.crossing) is not None
            for leg, row in zip(self.legs, rows, strict=True)
        )
        found = [row for row in rows if row is not None]
        units = min(order.units, self.room(index, found)) if quoted else 0.0
        if quoted and units > 0:
            self.take(number, now, index, found, units)
        else:
            self.out.decisions.append((now, "cancel", "capital" if quoted else "not_quoted"))

    def judge(self, number: int, now: dt.datetime, index: float, chain: dict[str, Row]) -> None:
        for position in list(self.open):
            if position.expiry <= now or position.born == number:
                continue
            rows = [chain.get(row["instrument"]) for row in position.rows]
            prices = [
                None if row is None else side_price(row, leg["side"] == "sell", self.crossing)
                for leg, row in zip(self.legs, rows, strict=True)
            ]
            if any(p is None for p in prices):
                if position.due is None:
                    self.out.decisions.append((now, "hold", "not_quoted"))
                continue
            if position.due is not None:
                if now >= position.due:
                    self.close(position, now, index, prices)
                continue
            cost = sum(-self.sign(leg) * leg["ratio"] * p for leg, p in zip(self.legs, prices, strict=True))
            why = self.exit_rule(position, cost, now)
            if why is None:
                self.out.decisions.append((now, "hold", "rules_hold"))
                continue
            self.out.decisions.append((now, "close", why))
            position.why = why
            if self.latency:
                position.due = now + self.latency
            else:
                self.close(position, now, index, prices)

    def exit_rule(self, position: Position, cost: float, now: dt.datetime) -> str | None:
        profit = position.premium - cost
        size = abs(position.premium)
        take, stop, days = (self.exits[k] for k in ("take_profit", "stop_loss", "days_left"))
        if take is not None and profit >= take * size:
            return "take_profit"
        if stop is not None and -profit >= stop * size:
            return "stop"
        if days is not None and position.expiry - now <= dt.timedelta(days=days):
            return "days_left"
        return None

    def close(self, position: Position, now: dt.datetime, index: float, prices: list[Any]) -> None:
        trade = self.out.trades[position.number]
        for leg, price in zip(self.legs, prices, strict=True):
            contracts = position.units * leg["ratio"]
            self.book(trade, self.sign(leg) * contracts * price, trading_fee(now, price) * contracts, index)
            trade["out"].append(price)
        trade |= {"closed_at": now, "exit": "closed", "why": position.why}
        self.open.remove(position)

    def enter(self, number: int, now: dt.datetime, index: float, chain: dict[str, Row]) -> None:
        if self.order is not None or self.done_on == now.date() or now.hour < self.entry["hour_utc"]:
            return
        if len(self.open) >= self.entry["max_open"]:
            self.done_on = now.date()
            self.out.decisions.append((now, "skip", "max_open"))
            return
        rows, why = self.choose(now, chain)
        units = self.room(index, rows) if rows else 0.0
        if why is None and units <= 0:
            why = "capital"
        if why is not None:
            self.out.decisions.append((now, "skip", why))
            return
        self.done_on = now.date()
        self.out.decisions.append((now, "open", "entered"))
        if self.latency:
            self.order = Order(now + self.latency, units, [row["instrument"] for row in rows])
        else:
            self.take(number, now, index, rows, units)

    def choose(self, now: dt.datetime, chain: dict[str, Row]) -> tuple[list[Row], str | None]:
        day = dt.timedelta(days=1)
        expiries = [
            e for e in sorted({q["expiry"] for q in chain.values()}) if self.entry["dte_min"] <= (e - now) / day <= self.entry["dte_max"]
        ]
        if not expiries:
            return [], "no_expiry"
        expiry = min(expiries, key=lambda e: abs((e - now) / day - self.entry["dte_target"]))
        rows, premium = [], 0.0
        for leg in self.legs:
            strikes = [q for q in chain.values() if q["expiry"] == expiry and q["right"] == leg["right"] and q["delta"] is not None]
            gaps = [(abs(abs(q["delta"]) - leg["target"]), q["strike"], q) for q in strikes]
            gaps = [g for g in gaps if g[0] <= self.filters["delta_tolerance"]]
            if not gaps:
                return [], "no_delta"
            row = min(gaps, key=lambda g: g[:2])[2]
            price = side_price(row, leg["side"] == "buy", self.crossing)
            if price is None:
                return [], "no_quote"
            interest = self.filters["min_open_interest"]
            if interest > 0 and not (row["open_interest"] is not None and row["open_interest"] >= interest):
                return [], "open_interest"
            if row["bid"] and row["ask"] and row["ask"] - row["bid"] > self.filters["max_spread"] * 0.5 * (row["bid"] + row["ask"]):
                return [], "spread"
            premium -= self.sign(leg) * leg["ratio"] * price
            rows.append(row)
        if premium < self.filters["min_premium"]:
            return [], "premium"
        return rows, None

    def room(self, index: float, rows: list[Row]) -> float:
        calls = sum(p.units * leg["ratio"] for p in self.open for leg in self.legs if (leg["side"], leg["right"]) == ("sell", "C"))
        puts = sum(
            p.units * leg["ratio"] * row["strike"]
            for p in self.open
            for leg, row in zip(self.legs, p.rows, strict=True)
            if (leg["side"], leg["right"]) == ("sell", "P")
        )
        units = sum(p.units for p in self.open)
        share = self.strategy["share"]
        need_calls = sum(leg["ratio"] for leg in self.legs if (leg["side"], leg["right"]) == ("sell", "C"))
        need_cash = sum(
            leg["ratio"] * row["strike"] for leg, row in zip(self.legs, rows, strict=True) if (leg["side"], leg["right"]) == ("sell", "P")
        )
        match self.strategy["collateral"]:
            case "coin":
                free = (share * self.coin - calls) / need_calls if need_calls else share * self.coin - units
            case "cash":
                free = (share * (self.usd + min(self.coin, 0.0) * index) - puts) / need_cash if need_cash else 0.0
            case _:
                free = share * (self.coin + self.usd / index) - units
        return max(math.floor(free / self.lot + 1e-9) * self.lot, 0.0)

    def take(self, number: int, now: dt.datetime, index: float, rows: list[Row], units: float) -> None:
        prices = [side_price(row, leg["side"] == "buy", self.crossing) or 0.0 for leg, row in zip(self.legs, rows, strict=True)]
        trade: dict[str, Any] = {"opened_at": now, "instruments": [r["instrument"] for r in rows], "units": units, "in": prices, "out": []}
        trade |= {"fees": 0.0, "profit": 0.0, "profit_usd": 0.0, "closed_at": None, "exit": None}
        self.out.trades.append(trade)
        for leg, price in zip(self.legs, prices, strict=True):
            contracts = units * leg["ratio"]
            self.book(trade, -self.sign(leg) * contracts * price, trading_fee(now, price) * contracts, index)
        premium = sum(-self.sign(leg) * leg["ratio"] * price for leg, price in zip(self.legs, prices, strict=True))
        marks = [row["mark"] if row["mark"] and row["mark"] > 0 else price for row, price in zip(rows, prices, strict=True)]
        self.open.append(Position(len(self.out.trades) - 1, units, list(rows), marks, premium, now, number))
