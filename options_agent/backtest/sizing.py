"""Compiled: what the account is worth, what the exchange asks as margin, and how many units there is room for."""

from __future__ import annotations

import math

from options_agent.backtest.choosing import short_needs
from options_agent.backtest.margin import PERPETUAL_INITIAL, PERPETUAL_MAINTENANCE, linear_short_margin, short_margin
from options_agent.backtest.tape import BY_MARGIN, CASH, COIN, FIXED, FREE, HELD, RISK, STANDARD, Book, Legs, Market, Rule, inner, part


@inner
def options_value(s: int, market: Market, legs: Legs, rules: Rule, book: Book) -> float:
    """Options at their last known values, coin."""
    value = 0.0
    for p in range(book.slots.size - 1):
        if book.slots[p].state == HELD:
            phase = book.slots[p].phase
            for leg in range(legs.lengths[phase]):
                if book.slots[p].live[leg]:
                    value += legs.table[phase, leg].side * legs.table[phase, leg].ratio * book.slots[p].units * book.slots[p].value[leg]
    return value / market.snaps[s].index if rules.linear > 0.0 else value


@inner
def equity_now(s: int, market: Market, legs: Legs, rules: Rule, book: Book) -> float:
    """Coin."""
    return book.cash[0] + book.cash[1] / market.snaps[s].index + options_value(s, market, legs, rules, book)


@inner
def margin_balance(s: int, market: Market, legs: Legs, rules: Rule, book: Book) -> float:
    """What margin is held against, coin."""
    balance = book.cash[0] + book.cash[1] / market.snaps[s].index
    if rules.option_value_in_margin > 0.0:
        balance += options_value(s, market, legs, rules, book)
    return balance


@inner
def unit_margin(s: int, p: int, market: Market, legs: Legs, rules: Rule, book: Book) -> tuple[float, float]:
    """Initial and maintenance margin of a unit of the structure in a slot, coin."""
    phase, spot, initial, maintenance = book.slots[p].phase, market.snaps[s].index, 0.0, 0.0
    for leg in range(legs.lengths[phase]):
        if not book.slots[p].live[leg] or legs.table[phase, leg].side > 0.0:
            continue
        c, known = book.slots[p].contract[leg], market.quotes[book.slots[p].row[leg]].forward
        forward = known if known > 0.0 else spot
        if rules.linear > 0.0:
            im, mm = linear_short_margin(legs.table[phase, leg].call == 1, market.contracts[c].strike, forward, book.slots[p].value[leg])
            im, mm = im / spot, mm / spot
        else:
            im, mm = short_margin(legs.table[phase, leg].call == 1, market.contracts[c].strike, forward, book.slots[p].value[leg])
        initial += legs.table[phase, leg].ratio * im
        maintenance += legs.table[phase, leg].ratio * mm
    return initial, maintenance


@inner
def perpetual_coins(s: int, market: Market, rules: Rule, book: Book) -> float:
    """The perpetual in coins, long positive."""
    return book.cash[2] if rules.linear > 0.0 else book.cash[2] / market.snaps[s].index


@inner
def account_margin(s: int, ordered: bool, without: int, market: Market, legs: Legs, rules: Rule, book: Book) -> tuple[float, float]:
    """Initial and maintenance margin of the account, coin; with what is ordered if asked, without one slot."""
    held = abs(perpetual_coins(s, market, rules, book))
    initial, maintenance = PERPETUAL_INITIAL * held, PERPETUAL_MAINTENANCE * held
    for p in range(book.slots.size - 1):
        if p != without and (book.slots[p].state == HELD or (ordered and book.slots[p].state != FREE)):
            im, mm = unit_margin(s, p, market, legs, rules, book)
            initial += book.slots[p].units * im
            maintenance += book.slots[p].units * mm
    return initial, maintenance


@inner
def room(s: int, q: int, market: Market, legs: Legs, rules: Rule, book: Book) -> float:
    """Units of the structure in slot `q` that the free collateral secures, floored to the lot."""
    spot, coin, usd = market.snaps[s].index, book.cash[0], book.cash[1]
    calls, strikes, units = 0.0, 0.0, 0.0
    for p in range(book.slots.size - 1):
        if p == q or book.slots[p].state == FREE:
            continue
        own_calls, own_strikes = short_needs(p, legs, book, market)
        units += book.slots[p].units
        calls += book.slots[p].units * own_calls
        strikes += book.slots[p].units * own_strikes
    needs_calls, needs_strikes = short_needs(q, legs, book, market)
    if rules.collateral == COIN or book.slots[q].phase == 1:
        coins = rules.share * (coin + usd / spot if rules.linear > 0.0 else coin)
        free = (coins - calls) / needs_calls if needs_calls > 0.0 else coins - units
    elif rules.collateral == CASH:
        free = (rules.share * (usd + min(coin, 0.0) * spot) - strikes) / needs_strikes if needs_strikes > 0.0 else 0.0
    elif rules.collateral == STANDARD:
        initial, _ = unit_margin(s, q, market, legs, rules, book)
        balance = rules.share * margin_balance(s, market, legs, rules, book)
        used, _ = account_margin(s, True, q, market, legs, rules, book)
        free = (balance - used) / initial if initial > 0.0 else balance - units
    else:
        free = rules.share * (coin + usd / spot) - units
    return floored(free, rules.lot)


@inner
def sized(s: int, q: int, most: float, premium: float, factor: float, market: Market, legs: Legs, rules: Rule, book: Book) -> float:
    """Units that the sizing rule wants of the `most` there is room for, floored to the lot; `premium` in the options' currency."""
    units = most
    if rules.sizing == FIXED:
        units = min(units, rules.sizing_value)
    elif rules.sizing == RISK:
        loss = loss_of_unit(s, q, premium, market, legs, rules, book)
        if loss > 0.0:
            units = min(units, rules.sizing_value * equity_now(s, market, legs, rules, book) / loss)
    elif rules.sizing == BY_MARGIN:
        initial, _ = unit_margin(s, q, market, legs, rules, book)
        if initial > 0.0:
            used, _ = account_margin(s, True, q, market, legs, rules, book)
            units = min(units, (rules.sizing_value * margin_balance(s, market, legs, rules, book) - used) / initial)
    return floored(units * factor, rules.lot)


@part
def loss_of_unit(s: int, q: int, premium: float, market: Market, legs: Legs, rules: Rule, book: Book) -> float:
    """Coin lost by a unit if the index stands `sizing_move` higher or lower when all legs expire, the worse of both."""
    phase, worst = book.slots[q].phase, -math.inf
    for way in range(2):
        at = market.snaps[s].index * (1.0 + (rules.sizing_move if way == 0 else -rules.sizing_move))
        profit = premium / market.snaps[s].index if rules.linear > 0.0 else premium
        for leg in range(legs.lengths[phase]):
            strike = market.contracts[book.slots[q].contract[leg]].strike
            inside = at - strike if legs.table[phase, leg].call == 1 else strike - at
            profit += (
                legs.table[phase, leg].side
                * legs.table[phase, leg].ratio
                * max(inside, 0.0)
                / (market.snaps[s].index if rules.linear > 0.0 else at)
            )
        worst = max(worst, -profit)
    return worst


@inner
def floored(units: float, lot: float) -> float:
    """Whole lots, at least none."""
    return max(math.floor(units / lot + 1e-9) * lot, 0.0)
