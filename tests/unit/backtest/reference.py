"""A slow backtest to judge the fast one: plain Python over plain dicts, a row at a time, sharing no code with the engine.

It has its own fees, margin, settlement, selection, orders and accounting, written from `docs/engine.md`, so that a mistake has to be
made twice to go unseen. This module is the desk: one snapshot after the other, in the order of that page.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import Any

from tests.unit.backtest import reference_costs as costs
from tests.unit.backtest.reference_account import Account
from tests.unit.backtest.reference_book import Fill, Outcome, Row, Structure, mid, positive, sign
from tests.unit.backtest.reference_choosing import choose
from tests.unit.backtest.reference_orders import (
    attempt,
    crossing,
    finish,
    living,
    start_close,
    trade_legs,
    work_closing,
    work_entry,
)

DEFAULTS: dict[str, Any] = {
    "capital_coin": 1.0,
    "latency_seconds": 0.0,
    "latency_sigma": 0.0,
    "crossing": 1.0,
    "impact": 0.0,
    "impact_power": 1.5,
    "assumed_depth": 5.0,
    "missing_quotes": "none",
    "fills": "cross",
    "maker_place": -1.0,
    "maker_patience_minutes": 60.0,
    "maker_rate": 0.5,
    "maker_queue_scale": 10.0,
    "option_value_in_margin": False,
    "perpetual_half_spread": 0.00005,
    "settlement_window_minutes": 30,
    "settlement_max_distance_minutes": 180,
}


def play(
    quotes: list[Row],
    prices: list[Row],
    strategy: dict[str, Any],
    underlying: str,
    *,
    settings: dict[str, Any] | None = None,
    features: dict[str, list[float | None]] | None = None,
    funding: list[dict[str, Any]] | None = None,
    latency_z: list[float] | None = None,
    fill_u: list[float] | None = None,
    size_correlation: list[float] | None = None,
    model_spread: Callable[[float, float, float], float] | None = None,
    settlement: str = "coin",
    barred: set[int] | None = None,
    closes: set[int] | None = None,
    fees: dict[str, dict[str, float]] | None = None,
) -> Outcome:
    """Play `strategy` (a `Strategy` as plain data) over quotes (any order), prices and funding rates (in order of time).

    Args:
        settings: as DEFAULTS.
        features, latency_z, fill_u, size_correlation: a value a snapshot.
        model_spread: days to expiry, absolute delta, mark (coin) to the whole spread in coin.
        settlement: `coin` for inverse options, `usdc` for linear ones.
        barred, closes: numbers of the snapshots at which nothing is entered, and at which all is closed in place of the exit rules.
        fees: by the day they hold from, as `reference_costs.FEES`.
    """
    desk = Desk(quotes, prices, strategy, underlying, DEFAULTS | (settings or {}), linear=settlement == "usdc", spread=model_spread)
    desk.features, desk.funding, desk.fees = features or {}, funding or [], fees or costs.FEES
    desk.latency_z, desk.fill_u, desk.size_correlation = latency_z or [], fill_u or [], size_correlation or []
    desk.barred, desk.closes = barred or set(), closes
    return desk.run()


class Desk(Account):
    """An account that plays a strategy."""

    def run(self) -> Outcome:
        for number, (now, index, chain) in enumerate(self.chains):
            self.before, self.index_before = (self.now, self.index) if number else (now, index)
            self.number, self.now, self.index, self.chain = number, now, index, chain
            self.carry()
            self.settle()
            self.follow()
            for held in list(self.slots):
                if held and held.entry:
                    work_entry(self, held)
            self.liquidate()
            for held in list(self.slots):
                if held and held in self.slots and not held.entry:
                    self.judge(held)
            self.enter()
            self.hedge()
            self.strike()
        return self.out

    # The steps of a snapshot

    def carry(self) -> None:
        if not self.perpetual or not self.number:
            return
        accrued = costs.funding_between(self.funding, self.before, self.now)
        if self.linear:
            self.move(self.now, "carry", "usd", self.perpetual * (self.index - self.index_before))
            self.move(self.now, "funding", "usd", -self.perpetual * self.index_before * accrued)
        else:
            self.move(self.now, "carry", "coin", self.perpetual * (1 / self.index_before - 1 / self.index))
            self.move(self.now, "funding", "coin", -self.perpetual / self.index_before * accrued)

    def settle(self) -> None:
        for held in self.open():
            assigned = called = None
            for n, (leg, row) in enumerate(zip(held.legs, held.rows, strict=True)):
                price, known, method = self.delivery_of(row["expiry"])
                if held.gone[n] or row["expiry"] > self.now or price is None or known > self.now:
                    continue
                worth = costs.payoff(row["right"], row["strike"], price, linear=self.linear)
                fees = costs.fees_of(self.fees, row["expiry"])
                contracts = held.units * leg["ratio"]
                fee = costs.delivery_fee(fees, row["expiry"], worth, linear=self.linear, price=price) * contracts
                self.book(held, sign(leg) * contracts * worth, fee, price)
                self.record(held, n, "settle", known, -sign(leg) * contracts, Fill(worth), fee)
                held.gone[n] = True
                self.out.trades[held.number] |= {"method": method, "settlement_price": price}
                if leg["side"] == "sell" and worth > 0:
                    assigned, called = (
                        (known, price) if leg["right"] == "P" else assigned,
                        (known, price) if leg["right"] == "C" else called,
                    )
                if all(held.gone):
                    self.out.trades[held.number] |= {"closed_at": known, "exit": "settled"}
                    self.slots[self.slots.index(held)] = None
                    self.decide("expire", "settled")
            if self.strategy["assigned_legs"]:
                self.convert(held, assigned, called)

    def delivery_of(self, expiry: dt.datetime) -> tuple[float | None, dt.datetime, str]:
        if expiry not in self.delivered:
            window, reach = (self.settings[f"settlement_{name}_minutes"] for name in ("window", "max_distance"))
            self.delivered[expiry] = costs.delivery_price(expiry, self.delivery, window, reach)
        return self.delivered[expiry]

    def convert(self, held: Structure, assigned: tuple[dt.datetime, float] | None, called: tuple[dt.datetime, float] | None) -> None:
        """A wheel's turn: all USD becomes coin, or all coin becomes USD, at the delivery price."""
        if held.phase != self.phase:
            return
        if assigned and held.phase == 0:
            amount, (at, price) = max(self.usd, 0.0), assigned
            self.move(at, "conversion", "usd", -amount)
            self.move(at, "conversion", "coin", amount / price)
            self.phase = 1
        elif called and held.phase == 1:
            amount, (at, price) = max(self.coin, 0.0), called
            self.move(at, "conversion", "coin", -amount)
            self.move(at, "conversion", "usd", amount * price)
            self.phase = 0

    def follow(self) -> None:
        for held in self.held():
            for n, row in enumerate(held.rows):
                fresh = self.chain.get(row["instrument"])
                if fresh is None or held.gone[n]:
                    continue
                held.rows[n] = fresh
                middle = mid(fresh)
                if positive(fresh["mark"]):
                    held.values[n] = fresh["mark"]
                elif middle is not None:
                    held.values[n] = middle
                held.deltas[n] = held.deltas[n] if fresh["delta"] is None else fresh["delta"]

    def liquidate(self) -> None:
        while self.account_margin()[1] > self.balance():
            worst: Structure | None = None
            for held in self.open():
                if not living(self, held):
                    continue  # what has expired is not traded any more: it waits for its delivery price
                if worst is None or self.margin_of(held)[1] > self.margin_of(worst)[1]:
                    worst = held
            if worst is None:
                self.trade_perpetual(-self.perpetual)
                return
            fills = {}
            for n in living(self, worst):
                leg = worst.legs[n]
                buying = leg["side"] == "sell"
                row = self.chain.get(worst.rows[n]["instrument"])
                quoted = row is not None and positive(row["ask"] if buying else row["bid"])
                seen = self.price(row, buying=buying) if quoted and row else None
                fills[n] = seen or Fill(worst.values[n] * (1.05 if buying else 0.95), model=True)
            rate = costs.fees_of(self.fees, self.now)["liquidation"]
            trade_legs(self, worst, fills, opening=False, kind="close", penalty=rate * (self.index if self.linear else 1.0))
            worst.closing = None
            finish(self, worst, fills, "liquidated")
            self.decide("liquidate", "liquidated")

    def judge(self, held: Structure) -> None:
        legs = living(self, held)
        if held.born == self.number or not legs:
            return
        if held.closing:
            work_closing(self, held, legs)
            return
        fills = crossing(self, held, legs, opening=False, units=held.units)
        if fills is None:
            self.decide("hold", "not_quoted")
            return
        if len(legs) < len(held.legs):
            self.decide("close", "front_expired")
            start_close(self, held, legs, fills, "front_expired", roll=False)
            return
        cost = sum(-sign(leg) * leg["ratio"] * fills[n].price for n, leg in enumerate(held.legs))
        if self.closes is not None and self.number not in self.closes:
            self.decide("hold", "directed")
            return
        why = self.exit_rule(held, cost) if self.closes is None else "directed"
        if why is None:
            self.decide("hold", "rules_hold")
            return
        roll = self.strategy["exit"]["roll"]
        rolls = bool(roll) and why in roll["on"]
        if rolls:
            anew = choose(self, self.phase_legs(), roll, but=held)
            rolls = anew.why is None and self.in_coin(cost - anew.premium) <= roll["max_debit"]
        self.decide("roll" if rolls else "close", why)
        start_close(self, held, legs, fills, why, roll=rolls)

    def exit_rule(self, held: Structure, cost: float) -> str | None:
        profit, size, rules = held.premium - cost, abs(held.premium), self.strategy["exit"]
        if rules["take_profit"] is not None and profit >= rules["take_profit"] * size:
            return "take_profit"
        if rules["stop_loss"] is not None and -profit >= rules["stop_loss"] * size:
            return "stop"
        if rules["equity_stop"] is not None and self.in_coin(-profit * held.units) >= rules["equity_stop"] * self.equity():
            return "equity_stop"
        sold = [abs(d) for d, leg in zip(held.deltas, held.legs, strict=True) if leg["side"] == "sell"]
        if rules["delta_breach"] is not None and any(d >= rules["delta_breach"] for d in sold):
            return "delta_breach"
        left = min(row["expiry"] for row in held.rows) - self.now
        if rules["days_left"] is not None and left <= dt.timedelta(days=rules["days_left"]):
            return "days_left"
        return None

    def enter(self) -> None:
        entry, today = self.strategy["entry"], self.now.date()
        if self.done_on == today or self.now.hour < entry["hour_utc"] or today.weekday() not in entry["weekdays"]:
            return
        if self.last_entry is not None and (today - self.last_entry).days < entry["every_days"]:
            return
        if any(held.entry for held in self.held()):
            return
        for signal in entry["signals"]:
            value, low, high = self.feature(signal["feature"]), signal["above"], signal["below"]
            if value is None or (low is not None and value < low) or (high is not None and value > high):
                self.decide("skip", "signal")
                return
        if self.number in self.barred:
            self.decide("skip", "signal")
            return
        why = attempt(self)
        if why is None:
            self.last_entry = today
        if why in (None, "max_open"):
            self.done_on = today

    def hedge(self) -> None:
        rule = self.strategy["hedge"]
        if rule is None:
            return
        delta = self.open_delta(rule["neutral_in"])
        if abs(delta) <= rule["band"] * self.equity():
            return
        if self.last_hedge is not None and self.now - self.last_hedge < dt.timedelta(hours=rule["interval_hours"]):
            return
        wanted = self.perpetual - (delta if self.linear else delta * self.index)
        whole = math.floor(abs(wanted) / self.hedge_lot + 1e-9)
        lots = (whole if wanted > 0 else -whole) - round(self.perpetual / self.hedge_lot)
        if lots:
            self.trade_perpetual(lots * self.hedge_lot)
            self.last_hedge = self.now

    def trade_perpetual(self, traded: float) -> None:
        """Trade so much of the perpetual at the index; half the spread and the taker fee are paid in the perpetual's currency."""
        if not traded:
            return
        rate = self.settings["perpetual_half_spread"] + costs.fees_of(self.fees, self.now)["perpetual"]
        amount = abs(traded) * self.index if self.linear else abs(traded) / self.index
        self.move(self.now, "hedge_fee", "usd" if self.linear else "coin", -amount * rate)
        self.perpetual += traded

    def strike(self) -> None:
        initial, maintenance = self.account_margin()
        self.out.equity.append(
            {
                "ts": self.now,
                "coin": self.equity(),
                "usd": self.equity() * self.index,
                "cash": self.coin,
                "usd_cash": self.usd,
                "options": self.options(),
                "notional": self.perpetual,
                "im": initial,
                "mm": maintenance,
                "open": len(self.open()),
                "delta": self.options_delta(premium=True) + self.perpetual_coins(),
            }
        )
