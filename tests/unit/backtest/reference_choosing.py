"""How the slow reference chooses rows and counts what may be sold. Written from docs/engine.md, "Choosing rows" and "Capital"."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.unit.backtest.reference_book import Row, Structure, mid, positive, sign
from tests.unit.backtest.reference_costs import margins, payoff

if TYPE_CHECKING:
    from tests.unit.backtest.reference import Desk

DAY = dt.timedelta(days=1)


@dataclass
class Chosen:
    """Rows of the legs with the prices seen, premium of a unit in the options' currency; or why there are none."""

    rows: list[Row]
    prices: list[float]
    premium: float
    why: str | None = None


def _none(why: str) -> Chosen:
    return Chosen([], [], 0.0, why)


def dial_factor(dial: dict[str, Any] | None, desk: Desk) -> float:
    """Of the last step whose level the feature has reached; 1 below all and where it is unknown."""
    factor = 1.0
    value = desk.feature(dial["feature"]) if dial else None
    if dial and value is not None:
        for level, step in dial["steps"]:
            if value >= level:
                factor = step
    return factor


def expiries_of(
    desk: Desk, legs: list[dict[str, Any]], low: float, best: float, high: float, but: Structure | None
) -> list[dt.datetime] | None:
    """Expiry of every leg, None where one has none."""
    now, entry = desk.now, desk.strategy["entry"]
    listed = sorted({q["expiry"] for q in desk.chain.values()})
    cap = entry["max_per_expiry"]
    within = [e for e in listed if low <= (e - now) / DAY <= high]
    if cap is not None:
        within = [e for e in within if sum(held.first_expiry == e for held in desk.held() if held is not but) < cap]
    if not within:
        return None
    own = min(within, key=lambda e: (abs((e - now) / DAY - best), e))
    found = []
    for leg in legs:
        if leg["dte"] is None:
            found.append(own)
            continue
        later = [e for e in listed if e > own and leg["dte"] / 2 <= (e - now) / DAY <= 2 * leg["dte"]]
        if not later:
            return None
        found.append(min(later, key=lambda e: (abs((e - now) / DAY - leg["dte"]), e)))
    return found


def strike_of(desk: Desk, leg: dict[str, Any], rows: list[Row], found: list[Row], factor: float) -> Row | None:
    """The row that a leg aims at, the lower strike at a tie; None where none is near enough."""
    target, index, filters = leg["target"], desk.index, desk.strategy["filters"]
    gaps = []
    for row in rows:
        if leg["by"] == "delta":
            if row["delta"] is None:
                continue
            gap, reach = abs(abs(row["delta"]) - target * factor), filters["delta_tolerance"]
        elif leg["by"] == "premium":
            if not positive(row["mark"]):
                continue
            gap, reach = abs((row["mark"] / index if desk.linear else row["mark"]) - target), target / 2
        else:
            aim = target * index + (found[leg["of"]]["strike"] if leg["by"] == "offset" else 0.0)
            gap, reach = abs(row["strike"] - aim), filters["strike_tolerance"]
            reach = None if reach is None else reach * index
        if reach is None or gap <= reach:
            gaps.append((gap, row["strike"], row))
    return min(gaps, key=lambda g: g[:2])[2] if gaps else None


def choose(desk: Desk, legs: list[dict[str, Any]], roll: dict[str, Any] | None = None, but: Structure | None = None) -> Chosen:
    """Rows for the legs at this snapshot. `roll` brings its own days and delta factor; `but` does not crowd an expiry."""
    entry, filters = desk.strategy["entry"], desk.strategy["filters"]
    low, best, high = (roll[name] if roll and roll[name] is not None else entry[name] for name in ("dte_min", "dte_target", "dte_max"))
    factor = dial_factor(desk.strategy["delta_dial"], desk) * (roll["delta_factor"] if roll else 1.0)
    expiries = expiries_of(desk, legs, low, best, high, but)
    if expiries is None:
        return _none("no_expiry")
    rows: list[Row] = []
    for leg, expiry in zip(legs, expiries, strict=True):
        group = [q for q in desk.chain.values() if q["expiry"] == expiry and q["right"] == leg["right"]]
        row = strike_of(desk, leg, group, rows, factor)
        if row is None:
            return _none("no_strike")
        rows.append(row)
    if len({row["instrument"] for row in rows}) < len(rows):
        return _none("same_strike")
    prices = []
    for leg, row in zip(legs, rows, strict=True):
        buying = leg["side"] == "buy"
        fill = desk.price(row, buying=buying)
        if fill is None:
            return _none("no_quote")
        interest, size = filters["min_open_interest"], filters["min_size"]
        if interest > 0 and (row["open_interest"] is None or row["open_interest"] < interest):
            return _none("open_interest")
        quoted = row["ask_size"] if buying else row["bid_size"]
        if size > 0 and (quoted is None or quoted < size):
            return _none("size")
        middle = mid(row)
        if filters["max_spread"] is not None and middle is not None and row["ask"] - row["bid"] > filters["max_spread"] * middle:
            return _none("spread")
        prices.append(fill.price)
    premium = sum(-sign(leg) * leg["ratio"] * price for leg, price in zip(legs, prices, strict=True))
    if too_little(desk, legs, rows, premium, (expiries[0] - desk.now) / DAY):
        return _none("premium")
    return Chosen(rows, prices, premium)


def too_little(desk: Desk, legs: list[dict[str, Any]], rows: list[Row], premium: float, days: float) -> bool:
    """Whether the premium of a unit fails a filter."""
    filters, coins = desk.strategy["filters"], desk.in_coin(premium)
    if filters["min_premium"] is not None and coins < filters["min_premium"]:
        return True
    if filters["min_premium_usd"] is not None and coins * desk.index < filters["min_premium_usd"]:
        return True
    if filters["min_yield"] is None or days <= 0:
        return False
    secured = 1.0
    if desk.collateral_of(desk.phase) == "coin":
        secured = short_ratio(legs) or 1.0
    elif desk.collateral_of(desk.phase) == "cash":
        secured = short_strikes(legs, rows) / desk.index or 1.0
    return coins / secured * 365 / days < filters["min_yield"]


def short_ratio(legs: list[dict[str, Any]]) -> float:
    """Short calls a unit."""
    return sum((leg["ratio"] for leg in legs if (leg["side"], leg["right"]) == ("sell", "C")), 0.0)


def short_strikes(legs: list[dict[str, Any]], rows: list[Row]) -> float:
    """USD that the short puts of a unit may cost."""
    return sum((g["ratio"] * r["strike"] for g, r in zip(legs, rows, strict=True) if (g["side"], g["right"]) == ("sell", "P")), 0.0)


def first_values(rows: list[Row], prices: list[float]) -> list[float]:
    """What legs are worth on the rows they are chosen or filled on: mark, else price."""
    return [row["mark"] if positive(row["mark"]) else price for row, price in zip(rows, prices, strict=True)]


def unit_margin(desk: Desk, legs: list[dict[str, Any]], rows: list[Row], values: list[float]) -> float:
    """Initial margin of a unit, coin."""
    total = 0.0
    for leg, row, value in zip(legs, rows, values, strict=True):
        if leg["side"] == "sell":
            forward = row["forward"] if row["forward"] is not None else desk.index
            total += leg["ratio"] * margins(leg["right"], row["strike"], forward, value, linear=desk.linear)[0]
    return desk.in_coin(total)


def floored(units: float, lot: float) -> float:
    """To the lot, at least 0."""
    return max(math.floor(units / lot + 1e-9) * lot, 0.0)


def room(desk: Desk, legs: list[dict[str, Any]], rows: list[Row], values: list[float], but: Structure | None = None) -> float:
    """Units that the capital secures beside all that is open or ordered, `but` one."""
    others = [held for held in desk.held() if held is not but]
    calls = puts = units = 0.0
    for held in others:
        units += held.units
        for leg, row, gone in zip(held.legs, held.rows, held.gone, strict=True):
            if leg["side"] == "sell" and not gone:
                calls += held.units * leg["ratio"] if leg["right"] == "C" else 0.0
                puts += held.units * leg["ratio"] * row["strike"] if leg["right"] == "P" else 0.0
    share, index = desk.strategy["share"], desk.index
    # an order is secured as the phase it was given in says
    match desk.collateral_of(but.phase if but else desk.phase):
        case "coin":
            coins = desk.coin + desk.usd / index if desk.linear else desk.coin
            need = short_ratio(legs)
            free = (share * coins - calls) / need if need else share * coins - units
        case "cash":
            need = short_strikes(legs, rows)
            free = (share * (desk.usd + min(desk.coin, 0.0) * index) - puts) / need if need else 0.0
        case "margin":
            free = share * (desk.coin + desk.usd / index) - units
        case _:
            need = unit_margin(desk, legs, rows, values)
            balance = share * desk.balance()
            free = (balance - desk.account_margin(ordered=True, but=but)[0]) / need if need else balance - units
    return floored(free, desk.lot)


def sized(desk: Desk, legs: list[dict[str, Any]], chosen: Chosen) -> float:
    """Units of a new structure: what is secured, capped by the sizing rule, scaled by the size factor."""
    values = first_values(chosen.rows, chosen.prices)
    units = room(desk, legs, chosen.rows, values)
    sizing = desk.strategy["sizing"]
    kind, value = sizing["kind"], sizing["value"]
    if kind == "fixed":
        units = min(units, value)
    elif kind == "risk":
        loss = max(-outcome_at(desk, legs, chosen, desk.index * (1 + move)) for move in (sizing["move"], -sizing["move"]))
        if loss > 0:
            units = min(units, value * desk.equity() / loss)
    elif kind == "margin":
        need = unit_margin(desk, legs, chosen.rows, values)
        if need > 0:
            units = min(units, (value * desk.balance() - desk.account_margin(ordered=True)[0]) / need)
    factor = dial_factor(sizing["dial"], desk)
    if sizing["correlation_aware"]:
        factor *= desk.correlation_factor()
    return floored(units * factor, desk.lot)


def outcome_at(desk: Desk, legs: list[dict[str, Any]], chosen: Chosen, price: float) -> float:
    """Premium and payoffs of a unit in coin if every leg expired at `price`."""
    total = chosen.premium
    for leg, row in zip(legs, chosen.rows, strict=True):
        total += sign(leg) * leg["ratio"] * payoff(leg["right"], row["strike"], price, linear=desk.linear)
    return desk.in_coin(total)
