"""Compiled: which rows a structure would trade, and whether the filters let it."""

from __future__ import annotations

import math

from options_agent.backtest.codes import ENTERED, NO_EXPIRY, NO_QUOTE, NO_STRIKE, OPEN_INTEREST, PREMIUM, SAME_STRIKE, SIZE, SPREAD
from options_agent.backtest.tape import (
    BY_DELTA,
    BY_MONEYNESS,
    BY_OFFSET,
    BY_PREMIUM,
    CASH,
    COIN,
    DAY_US,
    FREE,
    NONE,
    Book,
    Legs,
    Market,
    Rule,
    inner,
    part,
)
from options_agent.backtest.trading import crossing_price


@inner
def choose(
    s: int,
    q: int,
    dte_min: float,
    dte_target: float,
    dte_max: float,
    factor: float,
    market: Market,
    legs: Legs,
    rules: Rule,
    book: Book,
) -> tuple[float, float, float]:
    """Put a row per leg into slot `q` (its phase is set), or say why not.

    Returns:
        Reason (ENTERED where every leg passes), days to expiry, premium of a unit in the options' currency. The slot's first row is
        -1 where no row was found.
    """
    phase, now, spot = book.slots[q].phase, market.snaps[s].known_at, market.snaps[s].index
    book.slots[q].row[0] = NONE
    expiry = nearest_expiry(s, dte_min, dte_target, dte_max, NONE, market, rules, book)
    if expiry < 0:
        return NO_EXPIRY, 0.0, 0.0
    left = (expiry - now) / DAY_US
    for leg in range(legs.lengths[phase]):
        own, wanted = expiry, legs.table[phase, leg].dte
        if wanted > 0.0:
            own = nearest_expiry(s, 0.5 * wanted, wanted, 2.0 * wanted, expiry, market, rules, book)
            if own < 0:
                book.slots[q].row[0] = NONE
                return NO_EXPIRY, left, 0.0
        book.slots[q].expiry[leg] = own
    for leg in range(legs.lengths[phase]):
        row = pick(s, q, leg, book.slots[q].expiry[leg], factor, market, legs, rules, book)
        if row < 0:
            book.slots[q].row[0] = NONE
            return NO_STRIKE, left, 0.0
        book.slots[q].row[leg], book.slots[q].contract[leg], book.slots[q].live[leg] = row, market.quotes[row].contract, 1
    for leg in range(1, legs.lengths[phase]):
        for other in range(leg):
            if book.slots[q].row[leg] == book.slots[q].row[other]:
                return SAME_STRIKE, left, 0.0
    premium = 0.0
    for leg in range(legs.lengths[phase]):
        row, buying = book.slots[q].row[leg], legs.table[phase, leg].side > 0.0
        price, _ = crossing_price(s, row, buying, 0.0, market, rules)
        if math.isnan(price):
            return NO_QUOTE, left, 0.0
        if rules.min_open_interest > 0.0 and not market.quotes[row].open_interest >= rules.min_open_interest:
            return OPEN_INTEREST, left, 0.0
        if rules.min_size > 0.0 and not (market.quotes[row].ask_size if buying else market.quotes[row].bid_size) >= rules.min_size:
            return SIZE, left, 0.0
        bid, ask = market.quotes[row].bid, market.quotes[row].ask
        if bid > 0.0 and ask > 0.0 and ask - bid > rules.max_spread * 0.5 * (bid + ask):
            return SPREAD, left, 0.0
        book.slots[q].value[leg] = market.quotes[row].mark if market.quotes[row].mark > 0.0 else price
        premium -= legs.table[phase, leg].side * price * legs.table[phase, leg].ratio
    coin = premium / spot if rules.linear > 0.0 else premium
    secured = secured_by_unit(s, q, market, legs, rules, book)
    if coin < rules.min_premium or coin * spot < rules.min_premium_usd or coin / secured * 365.0 / left < rules.min_yield:
        return PREMIUM, left, premium
    return ENTERED, left, premium


@inner
def nearest_expiry(s: int, least: float, target: float, most: float, after: int, market: Market, rules: Rule, book: Book) -> int:
    """Expiry of the chain within the days and nearest the target, the earlier at a tie; -1 where there is none.

    With `after`, only expiries later than it; without (-1), those that hold the most structures allowed are passed over.
    """
    best, gap = NONE, math.inf
    for group in range(market.snaps[s].group, market.snaps[s + 1].group):
        expiry = market.groups[group].expiry
        days = (expiry - market.snaps[s].known_at) / DAY_US
        if not least <= days <= most or not abs(days - target) < gap:
            continue
        if after >= 0:
            if expiry <= after:
                continue
        elif rules.max_per_expiry >= 0.0:
            crowd = 0
            for p in range(book.slots.size - 1):
                if book.slots[p].state != FREE and book.slots[p].expiry[0] == expiry:
                    crowd += 1
            if crowd >= rules.max_per_expiry:
                continue
        best, gap = expiry, abs(days - target)
    return best


@part
def pick(s: int, q: int, leg: int, expiry: int, factor: float, market: Market, legs: Legs, rules: Rule, book: Book) -> int:
    """Row of the leg's right and expiry nearest its target, the lower strike at a tie; -1 where none is near enough."""
    phase, spot = book.slots[q].phase, market.snaps[s].index
    by, target = legs.table[phase, leg].by, legs.table[phase, leg].target
    best, gap, reach = NONE, math.inf, rules.delta_tolerance
    if by == BY_DELTA:
        target *= factor
    elif by == BY_MONEYNESS:
        target, reach = target * spot, rules.strike_tolerance * spot
    elif by == BY_OFFSET:
        target = market.contracts[book.slots[q].contract[legs.table[phase, leg].of]].strike + target * spot
        reach = rules.strike_tolerance * spot
    else:
        target, reach = target * (spot if rules.linear > 0.0 else 1.0), 0.5 * target * (spot if rules.linear > 0.0 else 1.0)
    for group in range(market.snaps[s].group, market.snaps[s + 1].group):
        if market.groups[group].expiry != expiry or market.groups[group].call != legs.table[phase, leg].call:
            continue
        for at in range(market.groups[group].first, market.groups[group + 1].first):
            if by == BY_DELTA:
                distance = abs(abs(market.chain[at].delta) - target)
            elif by == BY_PREMIUM:
                mark = market.quotes[market.chain[at].row].mark
                distance = abs(mark - target) if mark > 0.0 else math.inf
            else:
                distance = abs(market.chain[at].strike - target)
            if distance <= reach and distance < gap:
                best, gap = market.chain[at].row, distance
    return best


@part
def secured_by_unit(s: int, q: int, market: Market, legs: Legs, rules: Rule, book: Book) -> float:
    """Coin that one unit of the structure in a slot is secured by; 1 where its collateral asks for nothing by the unit."""
    phase = book.slots[q].phase
    calls, strikes = short_needs(q, legs, book, market)
    if phase == 1 or rules.collateral == COIN:
        return calls if calls > 0.0 else 1.0
    if rules.collateral == CASH:
        return strikes / market.snaps[s].index if strikes > 0.0 else 1.0
    return 1.0


@inner
def short_needs(q: int, legs: Legs, book: Book, market: Market) -> tuple[float, float]:
    """Calls sold, and strikes of puts sold (USD), by a unit of the structure in a slot."""
    phase, calls, strikes = book.slots[q].phase, 0.0, 0.0
    for leg in range(legs.lengths[phase]):
        if legs.table[phase, leg].side < 0.0 and book.slots[q].live[leg]:
            if legs.table[phase, leg].call == 1:
                calls += legs.table[phase, leg].ratio
            else:
                strikes += legs.table[phase, leg].ratio * market.contracts[book.slots[q].contract[leg]].strike
    return calls, strikes
