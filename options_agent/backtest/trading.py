"""Compiled: what a trade costs and what it does to the account."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from options_agent.backtest.codes import FILL_OPEN, MAKER, MODEL, QUOTE
from options_agent.backtest.slippage import model_half_spread
from options_agent.backtest.tape import DAY_US, HELD, NONE, Book, Legs, Market, Rule, Tape, inner

if TYPE_CHECKING:
    import numpy as np

#: Under this a model's sale is none, coin.
TICK = 0.0001


@inner
def quoted(market: Market, row: int, buying: bool, share: float) -> float:
    """Price that pays `share` of the half-spread from the mid; the needed side alone where the other is missing; NaN where it is."""
    bid, ask = market.quotes[row].bid, market.quotes[row].ask
    need, other = (ask, bid) if buying else (bid, ask)
    if not need > 0.0:
        return math.nan
    if share == 1.0 or not other > 0.0:
        return need
    if share == -1.0:
        return other
    mid = 0.5 * (bid + ask)
    price = mid + (need - mid) * share
    return price if price > 0.0 else math.nan


@inner
def crossing_price(s: int, row: int, buying: bool, contracts: float, market: Market, rules: Rule) -> tuple[float, float]:
    """Price and source of a fill that crosses now; NaN where there is none. No impact is taken where `contracts` is 0."""
    share = rules.crossing
    if rules.impact > 0.0 and contracts > 0.0:
        size = market.quotes[row].ask_size if buying else market.quotes[row].bid_size
        share += rules.impact * (contracts / (size if size > 0.0 else rules.assumed_depth)) ** rules.impact_power
    price = quoted(market, row, buying, share)
    if (
        math.isnan(price)
        and rules.model_fills > 0.0
        and market.quotes[row].mark > 0.0
        and not (market.quotes[row].ask if buying else market.quotes[row].bid) > 0.0
    ):
        mark, delta = market.quotes[row].mark, market.quotes[row].delta
        left = (market.contracts[market.quotes[row].contract].expiry - market.snaps[s].known_at) / DAY_US
        scale = market.snaps[s].index if rules.linear > 0.0 else 1.0
        half = model_half_spread(market.spread_model, left, abs(delta) if not math.isnan(delta) else 0.0, mark / scale) * scale
        price = mark + half if buying else mark - half
        return (price if buying or price >= TICK * scale else math.nan), MODEL
    return price, QUOTE


@inner
def price_structure(s: int, p: int, turned: float, units: float, market: Market, legs: Legs, rules: Rule, book: Book) -> bool:
    """Price every live leg of a slot, opening (`turned` 1) or closing (-1), into the book; False where one is not fresh or not priced."""
    phase = book.slots[p].phase
    for leg in range(legs.lengths[phase]):
        book.work[leg].price, book.work[leg].flag = 0.0, QUOTE
        if not book.slots[p].live[leg] or (turned < 0.0 and book.slots[p].expiry[leg] <= market.snaps[s].known_at):
            continue
        row = book.slots[p].row[leg]
        if market.quotes[row].snapshot != s:
            return False
        book.work[leg].price, book.work[leg].flag = crossing_price(
            s, row, legs.table[phase, leg].side * turned > 0.0, units * legs.table[phase, leg].ratio, market, rules
        )
        if math.isnan(book.work[leg].price):
            return False
    return True


@inner
def premium_of(p: int, legs: Legs, book: Book) -> float:
    """Premium of a unit at the prices in the book, sold minus bought, in the options' currency."""
    phase, premium = book.slots[p].phase, 0.0
    for leg in range(legs.lengths[phase]):
        if book.slots[p].live[leg]:
            premium -= legs.table[phase, leg].side * legs.table[phase, leg].ratio * book.work[leg].price
    return premium


@inner
def trade_structure(
    s: int, p: int, turned: float, kind: float, resting: bool, extra: float, market: Market, legs: Legs, rules: Rule, book: Book, tape: Tape
) -> None:
    """Trade the live, unexpired legs of a slot at the prices in the book.

    The cheaper of the bought and the sold group is free where combos are discounted. `resting`: maker fees. `extra`: a fee rate on top
    (liquidation), coin a contract.
    """
    phase, units, now = book.slots[p].phase, book.slots[p].units, market.snaps[s].known_at
    scale = market.snaps[s].index if rules.linear > 0.0 else 1.0
    rate, cap = (market.costs[s].maker if resting else market.costs[s].taker) * scale, market.costs[s].cap
    sold, bought, traded, groups = 0.0, 0.0, 0, 0
    for leg in range(legs.lengths[phase]):
        if not book.slots[p].live[leg] or book.slots[p].expiry[leg] <= now:
            continue
        book.work[leg].fee = min(rate, cap * book.work[leg].price)
        traded += 1
        if legs.table[phase, leg].side * turned > 0.0:
            bought += book.work[leg].fee * legs.table[phase, leg].ratio
            groups |= 1
        else:
            sold += book.work[leg].fee * legs.table[phase, leg].ratio
            groups |= 2
    discounted = market.costs[s].combo > 0.0 and groups == 3
    for leg in range(legs.lengths[phase]):
        if not book.slots[p].live[leg] or book.slots[p].expiry[leg] <= now:
            continue
        buying = legs.table[phase, leg].side * turned > 0.0
        fee = 0.0 if discounted and buying == (bought <= sold) else book.work[leg].fee
        contracts = legs.table[phase, leg].side * turned * units * legs.table[phase, leg].ratio
        source = MAKER if resting else book.work[leg].flag
        book_fill(
            tape, book, rules, p, leg, kind, s, book.slots[p].row[leg], contracts, book.work[leg].price, fee + extra * scale, now, source
        )
        if kind == FILL_OPEN:
            row = book.slots[p].row[leg]
            book.slots[p].value[leg] = market.quotes[row].mark if market.quotes[row].mark > 0.0 else book.work[leg].price
            book.slots[p].delta[leg] = market.quotes[row].delta if not math.isnan(market.quotes[row].delta) else 0.0
        else:
            book.slots[p].live[leg] = 0


@inner
def book_fill(
    tape: Tape,
    book: Book,
    rules: Rule,
    p: int,
    leg: int,
    kind: float,
    s: int,
    row: int | np.int64,
    contracts: float,
    price: float,
    fee: float,
    time: int,
    source: float,
) -> None:
    """Write a fill and move the cash; `fee` is per contract."""
    paid = fee * abs(contracts)
    book.cash[1 if rules.linear > 0.0 else 0] += -contracts * price - paid
    n = tape.counts[0]
    tape.counts[0] += 1
    if source == MODEL:
        tape.counts[3] += 1
    out = tape.fills
    out[n, 0], out[n, 1], out[n, 2], out[n, 3], out[n, 4] = book.slots[p].trade, leg, kind, s, row
    out[n, 5], out[n, 6], out[n, 7], out[n, 8], out[n, 9], out[n, 10] = book.slots[p].contract[leg], contracts, price, paid, time, source
    out[n, 11] = book.slots[p].phase


@inner
def decide(
    tape: Tape,
    rules: Rule,
    s: int,
    trade: int,
    action: float,
    reason: float,
    row: int | np.int64,
    contract: int | np.int64,
    left: float,
    cost: float,
    premium: float,
    held: int,
    units: float,
    now: int,
) -> None:
    """Write a decision; only counted where the run is not recorded."""
    n = tape.counts[1]
    tape.counts[1] += 1
    if rules.record > 0.0:
        out = tape.decisions
        out[n, 0], out[n, 1], out[n, 2], out[n, 3], out[n, 4], out[n, 5] = s, trade, action, reason, row, contract
        out[n, 6], out[n, 7], out[n, 8], out[n, 9], out[n, 10], out[n, 11] = left, cost, premium, held, units, now


@inner
def post(s: int, p: int, turned: float, market: Market, legs: Legs, rules: Rule, book: Book) -> bool:
    """Rest an order at this snapshot's quotes; False where a leg is not fresh or has no price to rest at."""
    phase = book.slots[p].phase
    for leg in range(legs.lengths[phase]):
        if not book.slots[p].live[leg] or (turned < 0.0 and book.slots[p].expiry[leg] <= market.snaps[s].known_at):
            continue
        row = book.slots[p].row[leg]
        buying = legs.table[phase, leg].side * turned > 0.0
        book.slots[p].limit[leg] = quoted(market, row, buying, rules.maker_place)
        if market.quotes[row].snapshot != s or math.isnan(book.slots[p].limit[leg]):
            return False
        size = market.quotes[row].bid_size if buying else market.quotes[row].ask_size
        book.slots[p].queue[leg] = size if size > 0.0 else rules.assumed_depth
    book.slots[p].posted = s
    return True


@inner
def met(s: int, p: int, turned: float, market: Market, legs: Legs, rules: Rule, book: Book) -> float:
    """Whether a resting order is filled here: 1 at its limits (put into the book), 0 not yet, -1 where a leg is not fresh.

    The market came to every limit; or the draw says so, while no better price of its own side stands before a limit.
    """
    phase, now, through, first, longest = book.slots[p].phase, market.snaps[s].known_at, True, True, 0.0
    for leg in range(legs.lengths[phase]):
        if not book.slots[p].live[leg] or (turned < 0.0 and book.slots[p].expiry[leg] <= now):
            continue
        row = book.slots[p].row[leg]
        if market.quotes[row].snapshot != s:
            return -1.0
        longest = max(longest, book.slots[p].queue[leg])
        buying = legs.table[phase, leg].side * turned > 0.0
        if buying:
            through &= market.quotes[row].ask > 0.0 and market.quotes[row].ask <= book.slots[p].limit[leg]
            first &= not market.quotes[row].bid > book.slots[p].limit[leg]
        else:
            through &= market.quotes[row].bid >= book.slots[p].limit[leg]
            first &= not (market.quotes[row].ask > 0.0 and market.quotes[row].ask < book.slots[p].limit[leg])
        book.work[leg].price, book.work[leg].flag = book.slots[p].limit[leg], MAKER
    hours = (now - market.snaps[s - 1].known_at) / 3.6e9
    chance = 1.0 - math.exp(-rules.maker_rate / (1.0 + longest / rules.maker_queue_scale) * hours)
    return 1.0 if through or (first and market.costs[s].fill_draw < chance) else 0.0


@inner
def held_structures(book: Book) -> int:
    """Open structures, those that wait for a delivery price included."""
    held = 0
    for p in range(book.slots.size - 1):
        if book.slots[p].state == HELD:
            held += 1
    return held


@inner
def free_slot(book: Book) -> int:
    """The lowest free slot; -1 where none is."""
    for p in range(book.slots.size - 1):
        if book.slots[p].state == 0:
            return p
    return NONE
