"""How the slow reference opens and closes: at once, after a latency, or by an order that rests. From docs/engine.md, "Orders and time"."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

from tests.unit.backtest.reference_book import Fill, Row, Structure, Waiting, positive, sign
from tests.unit.backtest.reference_choosing import choose, first_values, room, sized
from tests.unit.backtest.reference_costs import fees_of, structure_fees

if TYPE_CHECKING:
    from tests.unit.backtest.reference import Desk


def latency(desk: Desk) -> dt.timedelta:
    """Of every decision of this snapshot."""
    draws = desk.latency_z
    z = draws[desk.number] if desk.number < len(draws) else 0.0
    seconds = desk.settings["latency_seconds"] * math.exp(desk.settings["latency_sigma"] * z)
    return dt.timedelta(seconds=seconds)


def buys(leg: dict[str, Any], *, opening: bool) -> bool:
    """Whether opening (or closing) this leg buys."""
    side: str = leg["side"]
    return (side == "buy") == opening


def living(desk: Desk, held: Structure) -> list[int]:
    """Legs that are neither settled nor expired."""
    return [n for n, row in enumerate(held.rows) if not held.gone[n] and row["expiry"] > desk.now]


def fresh_rows(desk: Desk, held: Structure, legs: list[int]) -> dict[int, Row] | None:
    """This snapshot's rows of these legs; None unless all are there."""
    rows = {n: desk.chain.get(held.rows[n]["instrument"]) for n in legs}
    found = {n: row for n, row in rows.items() if row is not None}
    return found if len(found) == len(legs) else None


def crossing(desk: Desk, held: Structure, legs: list[int], *, opening: bool, units: float | None) -> dict[int, Fill] | None:
    """Fills of these legs by crossing, with the impact of so many units (None: without); None unless all are fresh and priced."""
    rows = fresh_rows(desk, held, legs)
    if rows is None:
        return None
    fills = {}
    for n, row in rows.items():
        contracts = None if units is None else units * held.legs[n]["ratio"]
        fill = desk.price(row, buying=buys(held.legs[n], opening=opening), contracts=contracts)
        if fill is None:
            return None
        fills[n] = fill
    return fills


def post(desk: Desk, held: Structure, order: Waiting, legs: list[int], *, opening: bool) -> bool:
    """Let the order rest at this snapshot's quotes, where all legs are fresh and have the side needed. Returns whether it does."""
    rows = fresh_rows(desk, held, legs)
    places = {n: desk.prices.limit(row, buying=buys(held.legs[n], opening=opening)) for n, row in (rows or {}).items()}
    known = {n: place for n, place in places.items() if place is not None}
    if rows is None or len(known) < len(legs):
        return False
    order.posted = desk.now
    order.limits, order.queues = ({n: place[k] for n, place in known.items()} for k in (0, 1))
    return True


def hit(desk: Desk, held: Structure, order: Waiting, legs: list[int], *, opening: bool) -> dict[int, Fill] | None:
    """Fills at the limits, where the market came to all of them or luck says so; None while it rests."""
    rows = fresh_rows(desk, held, legs)
    if rows is None:
        return None
    through = first = True
    for n, row in rows.items():
        buying = buys(held.legs[n], opening=opening)
        need, own = (row["ask"], row["bid"]) if buying else (row["bid"], row["ask"])
        through &= positive(need) and (need <= order.limits[n] if buying else need >= order.limits[n])
        if positive(own):  # somebody else may be willing to pay more, or to take less
            first &= own <= order.limits[n] if buying else own >= order.limits[n]
    hours = (desk.now - desk.before) / dt.timedelta(hours=1)
    chance = desk.prices.chance(max(order.queues[n] for n in legs), hours)
    draw = desk.fill_u[desk.number] if desk.number < len(desk.fill_u) else 1.0
    if not through and not (first and draw < chance):
        return None
    return {n: Fill(order.limits[n], maker=True) for n in legs}


def out_of_patience(desk: Desk, order: Waiting) -> bool:
    assert order.posted is not None
    return desk.now - order.posted >= dt.timedelta(minutes=desk.settings["maker_patience_minutes"])


# Entries


def premium_of(legs: list[dict[str, Any]], prices: list[float]) -> float:
    """Of a unit, sold less bought."""
    premium: float = sum(-sign(leg) * leg["ratio"] * price for leg, price in zip(legs, prices, strict=True))
    return premium


def too_dear(desk: Desk, premium: float, owed: float | None) -> bool:
    """Whether a roll that paid `owed` a unit to close takes too little for the new structure."""
    return owed is not None and desk.in_coin(owed - premium) > desk.strategy["exit"]["roll"]["max_debit"]


def attempt(desk: Desk, roll: dict[str, Any] | None = None, owed: float | None = None) -> str | None:
    """Choose and order or open a structure; records the decision. Returns why not, or None."""
    legs = desk.phase_legs()
    why = None if None in desk.slots else "max_open"
    units, chosen = 0.0, None
    if why is None:
        chosen = choose(desk, legs, roll)
        why = chosen.why
        if why is None and too_dear(desk, chosen.premium, owed):
            why = "debit"
    if why is None and chosen is not None:
        units = sized(desk, legs, chosen)
        why = "capital" if units <= 0 else None
    if why is not None or chosen is None:
        desk.decide("skip", why or "")
        return why
    wait = latency(desk)
    held = Structure(
        legs,
        desk.phase,
        units,
        list(chosen.rows),
        first_values(chosen.rows, chosen.prices),
        [r["delta"] or 0.0 for r in chosen.rows],
        Waiting(desk.now + wait, units, owed=owed),
        gone=[False] * len(legs),
    )
    slot = desk.slots.index(None)
    every = list(range(len(legs)))
    if not wait and not desk.maker:
        fills = crossing(desk, held, every, opening=True, units=units)
        if fills is None:
            desk.decide("skip", "no_quote")
            return "no_quote"
        if too_dear(desk, premium_of(legs, [fills[n].price for n in every]), owed):
            desk.decide("skip", "debit")
            return "debit"
        desk.decide("open", "rolled" if roll else "entered")
        desk.slots[slot] = held
        take(desk, held, fills, units)
        return None
    desk.decide("open", "rolled" if roll else "entered")
    desk.slots[slot] = held
    if not wait and held.entry and not post(desk, held, held.entry, every, opening=True):
        cancel(desk, held, "not_quoted")
    return None


def work_entry(desk: Desk, held: Structure) -> None:
    """What an entry order does at this snapshot."""
    order, every = held.entry, list(range(len(held.legs)))
    assert order is not None
    if order.posted is None:
        if desk.now < order.due:
            return
        if not desk.maker:
            cross_entry(desk, held, order, every)
        elif not post(desk, held, order, every, opening=True):
            cancel(desk, held, "not_quoted")
        return
    fills = hit(desk, held, order, every, opening=True)
    if fills is None:
        if out_of_patience(desk, order):
            cross_entry(desk, held, order, every)
        return
    units = room_then(desk, held, order)
    if units > 0:
        take_or_cancel(desk, held, order, fills, units)
    else:
        cancel(desk, held, "capital")


def cross_entry(desk: Desk, held: Structure, order: Waiting, every: list[int]) -> None:
    if crossing(desk, held, every, opening=True, units=None) is None:
        cancel(desk, held, "not_quoted")
        return
    units = room_then(desk, held, order)
    if units <= 0:
        cancel(desk, held, "capital")
        return
    fills = crossing(desk, held, every, opening=True, units=units)
    if fills is None:
        cancel(desk, held, "not_quoted")
    else:
        take_or_cancel(desk, held, order, fills, units)


def take_or_cancel(desk: Desk, held: Structure, order: Waiting, fills: dict[int, Fill], units: float) -> None:
    if too_dear(desk, premium_of(held.legs, [fills[n].price for n in range(len(held.legs))]), order.owed):
        cancel(desk, held, "debit")
    else:
        take(desk, held, fills, units)


def room_then(desk: Desk, held: Structure, order: Waiting) -> float:
    """Units that there is room for now, at most those ordered; legs count at their followed values."""
    rows = [desk.chain[row["instrument"]] for row in held.rows]
    return min(order.units, room(desk, held.legs, rows, held.values, but=held))


def cancel(desk: Desk, held: Structure, why: str) -> None:
    desk.slots[desk.slots.index(held)] = None
    desk.decide("cancel", why)


def take(desk: Desk, held: Structure, fills: dict[int, Fill], units: float) -> None:
    """Open the structure at these fills."""
    held.rows = [desk.chain[row["instrument"]] for row in held.rows]
    prices = [fills[n].price for n in range(len(held.legs))]
    held.values = first_values(held.rows, prices)
    held.deltas = [r["delta"] or 0.0 for r in held.rows]
    held.units, held.entry, held.born, held.number = units, None, desk.number, len(desk.out.trades)
    held.premium = premium_of(held.legs, prices)
    trade: dict[str, Any] = {"opened_at": desk.now, "instruments": [r["instrument"] for r in held.rows], "units": units, "in": prices}
    trade |= {"out": [], "fees": 0.0, "profit": 0.0, "profit_usd": 0.0, "closed_at": None, "exit": None}
    desk.out.trades.append(trade)
    trade_legs(desk, held, fills, opening=True, kind="open")


def trade_legs(desk: Desk, held: Structure, fills: dict[int, Fill], *, opening: bool, kind: str, penalty: float = 0.0) -> None:
    """Book fills with their fees, and `penalty` (options' currency) for every contract."""
    fees = fees_of(desk.fees, desk.now)
    traded = [(buys(held.legs[n], opening=opening), held.units * held.legs[n]["ratio"], fill) for n, fill in fills.items()]
    charged = structure_fees(fees, traded, linear=desk.linear, index=desk.index)
    for (n, fill), (buying, contracts, _), fee in zip(fills.items(), traded, charged, strict=True):
        signed = contracts if buying else -contracts
        whole = fee + penalty * contracts
        desk.book(held, -signed * fill.price, whole, desk.index)
        desk.record(held, n, kind, desk.now, signed, fill, whole)


# Exits


def start_close(desk: Desk, held: Structure, legs: list[int], fills: dict[int, Fill], why: str, *, roll: bool) -> None:
    """Close now, or leave an order to."""
    wait = latency(desk)
    held.closing = Waiting(desk.now + wait, held.units, why, roll)
    if wait:
        return
    if desk.maker:
        post(desk, held, held.closing, legs, opening=False)
    else:
        close(desk, held, fills)


def work_closing(desk: Desk, held: Structure, legs: list[int]) -> None:
    """What a closing order does at this snapshot."""
    order = held.closing
    assert order is not None
    fills = crossing(desk, held, legs, opening=False, units=held.units)
    if order.posted is None:
        if desk.now < order.due:
            return
        if desk.maker:
            post(desk, held, order, legs, opening=False)
        elif fills is not None:
            close(desk, held, fills)
        return
    met = hit(desk, held, order, legs, opening=False)
    if met is not None:
        close(desk, held, met)
    elif fills is not None and out_of_patience(desk, order):
        close(desk, held, fills)


def close(desk: Desk, held: Structure, fills: dict[int, Fill]) -> None:
    """Trade the legs out; enter anew where the order says so."""
    order = held.closing
    assert order is not None
    trade_legs(desk, held, fills, opening=False, kind="close")
    held.closing = None
    finish(desk, held, fills, order.why)
    if order.roll:
        owed = premium_of([held.legs[n] for n in fills], [fill.price for fill in fills.values()])
        attempt(desk, desk.strategy["exit"]["roll"], owed)


def finish(desk: Desk, held: Structure, fills: dict[int, Fill], why: str) -> None:
    """Mark legs as traded out; the structure is done when none is left."""
    for n in fills:
        held.gone[n] = True
    trade = desk.out.trades[held.number]
    trade["why"] = why
    if all(held.gone):
        trade |= {"closed_at": desk.now, "exit": "closed"}
        desk.slots[desk.slots.index(held)] = None
