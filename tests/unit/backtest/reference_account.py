"""The slow reference's account: what it holds, what that is worth and asks in margin, and the books of it."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import Any

from tests.unit.backtest import reference_costs as costs
from tests.unit.backtest.reference_book import Fill, Outcome, Row, Structure, sign


def chains_of(quotes: list[Row]) -> list[tuple[dt.datetime, float, dict[str, Row]]]:
    """Of every snapshot: when its last row was known, the last index known, and its rows by instrument in (expiry, right, strike)."""
    by_snapshot: dict[dt.datetime, list[Row]] = {}
    for quote in quotes:
        by_snapshot.setdefault(quote["snapshot"], []).append(quote)
    chains = []
    index, known = math.nan, dt.datetime.min.replace(tzinfo=dt.UTC)
    for snapshot in sorted(by_snapshot):
        rows = sorted(by_snapshot[snapshot], key=lambda q: (q["ts"], q["expiry"], q["right"] == "C", q["strike"]))
        for row in rows:
            if row["index"] is not None:
                index = row["index"]
        known = max(known, rows[-1]["ts"])
        chain = sorted(rows, key=lambda q: (q["expiry"], q["right"], q["strike"]))
        chains.append((known, index, {q["instrument"]: q for q in chain}))
    return chains


class Account:
    """Cash, structures and a perpetual at one snapshot (`number`, `now`, `index`, `chain`). Public: choosing and orders read it."""

    def __init__(
        self,
        quotes: list[Row],
        prices: list[Row],
        strategy: dict[str, Any],
        underlying: str,
        settings: dict[str, Any],
        *,
        linear: bool,
        spread: Callable[[float, float, float], float] | None,
    ):
        self.delivery, self.strategy, self.settings, self.linear = prices, strategy, settings, linear
        self.prices = costs.Prices(settings, spread, linear=linear)
        self.features: dict[str, list[float | None]] = {}
        self.funding: list[dict[str, Any]] = []
        self.fees = costs.FEES
        self.latency_z: list[float] = []
        self.fill_u: list[float] = []
        self.size_correlation: list[float] = []
        self.barred: set[int] = set()
        self.closes: set[int] | None = None
        self.lot, self.hedge_lot = costs.LOT[underlying], costs.HEDGE_LOT[underlying]
        self.maker = settings["fills"] == "maker"
        self.chains = chains_of(quotes)
        capital = max(settings["capital_coin"], 10 * self.lot)
        starts_in = strategy["capital"] or ("usd" if strategy["collateral"] == "cash" else "coin")
        self.coin: float = 0.0 if starts_in == "usd" else capital
        self.usd: float = capital * self.chains[0][1] if starts_in == "usd" else 0.0
        self.perpetual = 0.0  # USD of an inverse one, coins of a linear one
        self.slots: list[Structure | None] = [None] * strategy["entry"]["max_open"]
        self.phase = 0
        self.number, self.now, self.index, self.chain = 0, self.chains[0][0], self.chains[0][1], self.chains[0][2]
        self.before, self.index_before = self.now, self.index
        self.done_on: dt.date | None = None
        self.last_entry: dt.date | None = None
        self.last_hedge: dt.datetime | None = None
        self.delivered: dict[dt.datetime, tuple[float | None, dt.datetime, str]] = {}
        self.out = Outcome()

    # What the account is worth

    def open(self) -> list[Structure]:
        return [held for held in self.slots if held and not held.entry]

    def held(self) -> list[Structure]:
        """Open and ordered."""
        return [held for held in self.slots if held]

    def in_coin(self, amount: float) -> float:
        return amount / self.index if self.linear else amount

    def options(self) -> float:
        total = 0.0
        for held in self.open():
            for leg, value, gone in zip(held.legs, held.values, held.gone, strict=True):
                total += 0.0 if gone else sign(leg) * leg["ratio"] * held.units * value
        return self.in_coin(total)

    def equity(self) -> float:
        return self.coin + self.usd / self.index + self.options()

    def balance(self) -> float:
        return self.coin + self.usd / self.index + (self.options() if self.settings["option_value_in_margin"] else 0.0)

    def margin_of(self, held: Structure) -> tuple[float, float]:
        initial = maintenance = 0.0
        for leg, row, value, gone in zip(held.legs, held.rows, held.values, held.gone, strict=True):
            if leg["side"] == "sell" and not gone:
                known = self.index if row["forward"] is None else row["forward"]
                both = costs.margins(leg["right"], row["strike"], known, value, linear=self.linear)
                initial += both[0] * leg["ratio"] * held.units
                maintenance += both[1] * leg["ratio"] * held.units
        return self.in_coin(initial), self.in_coin(maintenance)

    def account_margin(self, *, ordered: bool = False, but: Structure | None = None) -> tuple[float, float]:
        """Initial and maintenance margin of all that is open (and ordered) but one, and of the perpetual; coin."""
        each = [self.margin_of(held) for held in (self.held() if ordered else self.open()) if held is not but]
        size = abs(self.perpetual_coins())
        initial = sum(m[0] for m in each) + costs.PERPETUAL_INITIAL * size
        return initial, sum(m[1] for m in each) + costs.PERPETUAL_MAINTENANCE * size

    def perpetual_coins(self) -> float:
        return self.perpetual if self.linear else self.perpetual / self.index

    def options_delta(self, *, premium: bool) -> float:
        """Coins; with `premium` that of inverse options less their value, which is coin as well."""
        total = 0.0
        for held in self.open():
            for leg, value, delta, gone in zip(held.legs, held.values, held.deltas, held.gone, strict=True):
                less = value if premium and not self.linear else 0.0
                total += 0.0 if gone else sign(leg) * leg["ratio"] * held.units * (delta - less)
        return total

    def open_delta(self, neutral_in: str) -> float:
        """Coins that the account is long beside the currency it is to be still in."""
        beside = self.coin if neutral_in == "usd" else -self.usd / self.index - self.options()
        return self.options_delta(premium=False) + self.perpetual_coins() + beside

    def feature(self, name: str) -> float | None:
        values = self.features.get(name)
        return values[self.number] if values else None

    def correlation_factor(self) -> float:
        return self.size_correlation[self.number] if self.size_correlation else 1.0

    def collateral_of(self, phase: int) -> str:
        """A wheel secures by cash, then by coin."""
        secured: str = "coin" if phase else self.strategy["collateral"]
        return secured

    def phase_legs(self) -> list[dict[str, Any]]:
        return list(self.strategy["assigned_legs"] if self.phase else self.strategy["legs"])

    def price(self, row: Row, *, buying: bool, contracts: float | None = None) -> Fill | None:
        return self.prices.fill(row, buying=buying, now=self.now, index=self.index, contracts=contracts)

    # Books

    def decide(self, action: str, reason: str) -> None:
        self.out.decisions.append((self.now, action, reason))

    def move(self, at: dt.datetime, kind: str, currency: str, amount: float) -> None:
        if currency == "coin":
            self.coin += amount
        else:
            self.usd += amount
        self.out.moves.append({"at": at, "kind": kind, "currency": currency, "amount": amount})

    def book(self, held: Structure, flow: float, fee: float, index: float) -> None:
        """A flow less its fee, in the options' currency, into cash and into the trade."""
        trade, unit = self.out.trades[held.number], index if self.linear else 1.0
        if self.linear:
            self.usd += flow - fee
        else:
            self.coin += flow - fee
        trade["fees"] += fee / unit
        trade["profit"] += (flow - fee) / unit
        trade["profit_usd"] += (flow - fee) / unit * index

    def record(self, held: Structure, leg: int, kind: str, at: dt.datetime, contracts: float, fill: Fill, fee: float) -> None:
        self.out.fills.append(
            {
                "at": at,
                "trade": held.number,
                "leg": leg,
                "kind": kind,
                "instrument": held.rows[leg]["instrument"],
                "contracts": contracts,
                "price": fill.price,
                "fee": fee,
                "model": fill.model,
                "maker": fill.maker,
            }
        )
        if kind != "open":
            self.out.trades[held.number]["out"].append(fill.price)
