"""Compiled: what happens to an account without a decision: it is carried, settled, followed, liquidated, hedged, struck."""

from __future__ import annotations

import math

import numpy as np

from options_agent.backtest.codes import (
    EXPIRE,
    FILL_CLOSE,
    FILL_SETTLE,
    LIQUIDATE,
    LIQUIDATED,
    MODEL,
    QUOTE,
    SETTLED,
)
from options_agent.backtest.sizing import (
    account_margin,
    equity_now,
    margin_balance,
    options_value,
    perpetual_coins,
    unit_margin,
)
from options_agent.backtest.tape import (
    DAY_US,
    E_COIN,
    E_DELTA,
    E_EQUITY,
    E_FUNDING,
    E_HEDGE_FEE,
    E_IM,
    E_MM,
    E_OPEN,
    E_OPTIONS,
    E_PERP,
    E_PNL,
    E_STALE,
    E_SWAP_COIN,
    E_SWAP_USD,
    E_USD,
    FREE,
    HELD,
    NONE,
    Book,
    Legs,
    Market,
    Rule,
    Tape,
    inner,
    part,
)
from options_agent.backtest.trading import (
    book_fill,
    decide,
    held_structures,
    premium_of,
    quoted,
    trade_structure,
)


@part
def carry(s: int, market: Market, rules: Rule, book: Book, tape: Tape) -> None:
    """What the perpetual held since the snapshot before earned, and the funding it paid."""
    out = tape.equity
    out[E_PNL, s], out[E_FUNDING, s], out[E_HEDGE_FEE, s], out[E_SWAP_COIN, s], out[E_SWAP_USD, s] = 0.0, 0.0, 0.0, 0.0, 0.0
    held = book.cash[2]
    if held == 0.0 or s == 0:
        return
    before, now = market.snaps[s - 1].index, market.snaps[s].index
    if rules.linear > 0.0:
        earned, paid, purse = held * (now - before), held * before * market.costs[s].funding, 1
    else:
        earned, paid, purse = held * (1.0 / before - 1.0 / now), held / before * market.costs[s].funding, 0
    book.cash[purse] += earned - paid
    out[E_PNL, s], out[E_FUNDING, s] = earned, -paid


@part
def settle_expired(s: int, market: Market, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
    """Pay legs that expired, once their delivery price is known."""
    now = market.snaps[s].known_at
    for p in range(book.slots.size - 1):
        if book.slots[p].state != HELD:
            continue
        phase, paid, assigned = book.slots[p].phase, False, 0.0
        for leg in range(legs.lengths[phase]):
            c = book.slots[p].contract[leg]
            if (
                not book.slots[p].live[leg]
                or book.slots[p].expiry[leg] > now
                or math.isnan(market.settled[c].price)
                or market.settled[c].known_at > now
            ):
                continue
            price, strike = market.settled[c].price, market.contracts[c].strike
            inside = max(price - strike if market.contracts[c].call == 1 else strike - price, 0.0)
            scale = price if rules.linear > 0.0 else 1.0
            worth = inside if rules.linear > 0.0 else inside / price
            fee = min(market.settled[c].fee * scale, market.settled[c].fee_cap * worth)
            contracts = -legs.table[phase, leg].side * book.slots[p].units * legs.table[phase, leg].ratio
            known = max(book.slots[p].expiry[leg], market.settled[c].known_at)
            book_fill(tape, book, rules, p, leg, FILL_SETTLE, s, np.int64(-1), contracts, worth, fee, known, QUOTE)
            book.slots[p].live[leg], paid = 0, True
            if legs.table[phase, leg].side < 0.0 and worth > 0.0:
                assigned = price
        if not paid:
            continue
        if rules.wheel > 0.0 and assigned > 0.0 and phase == book.clock[3]:
            _turn(s, assigned, book, tape)
        if not any_live(p, legs, book):
            note(tape, rules, book, s, p, EXPIRE, SETTLED, np.int64(-1), 0.0, 0.0, now)
            book.slots[p].state = FREE


@part
def _turn(s: int, price: float, book: Book, tape: Tape) -> None:
    """A wheel's account changes currency at the delivery price."""
    coin, usd = 0.0, 0.0
    if book.clock[3] == 0 and book.cash[1] > 0.0:
        coin, usd = book.cash[1] / price, -book.cash[1]
    elif book.clock[3] == 1 and book.cash[0] > 0.0:
        coin, usd = -book.cash[0], book.cash[0] * price
    book.clock[3] = 1 - book.clock[3]
    book.cash[0] += coin
    book.cash[1] += usd
    tape.equity[E_SWAP_COIN, s] += coin
    tape.equity[E_SWAP_USD, s] += usd


@inner
def any_live(p: int, legs: Legs, book: Book) -> bool:
    for leg in range(legs.lengths[book.slots[p].phase]):  # noqa: SIM110 (compiled)
        if book.slots[p].live[leg]:
            return True
    return False


@part
def follow(s: int, market: Market, legs: Legs, book: Book) -> int:
    """Bring each leg held or ordered to its last row known by now and value it; returns how many held ones have no mark here."""
    stale = 0
    for p in range(book.slots.size - 1):
        if book.slots[p].state == FREE:
            continue
        for leg in range(legs.lengths[book.slots[p].phase]):
            if not book.slots[p].live[leg]:
                continue
            row = book.slots[p].row[leg]
            while market.quotes[row].next >= 0 and market.quotes[market.quotes[row].next].snapshot <= s:
                row = market.quotes[row].next
            book.slots[p].row[leg] = row
            if market.quotes[row].snapshot == s:
                if not math.isnan(market.quotes[row].delta):
                    book.slots[p].delta[leg] = market.quotes[row].delta
                if market.quotes[row].mark > 0.0:
                    book.slots[p].value[leg] = market.quotes[row].mark
                    continue
                if market.quotes[row].bid > 0.0 and market.quotes[row].ask > 0.0:
                    book.slots[p].value[leg] = 0.5 * (market.quotes[row].bid + market.quotes[row].ask)
                    continue
            if book.slots[p].state == HELD:
                stale += 1
    return stale


@part
def liquidate(s: int, market: Market, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
    """Close the structure that needs most margin, again and again, while the account's maintenance margin is not met."""
    while True:
        _, maintenance = account_margin(s, False, NONE, market, legs, rules, book)
        if maintenance <= margin_balance(s, market, legs, rules, book):
            return
        worst, most = NONE, -1.0
        for p in range(book.slots.size - 1):
            if book.slots[p].state == HELD and unexpired(s, p, market, legs, book):
                _, own = unit_margin(s, p, market, legs, rules, book)
                if book.slots[p].units * own > most:
                    worst, most = p, book.slots[p].units * own
        if worst < 0:
            if book.cash[2] != 0.0:
                _trade_perpetual(s, -book.cash[2], market, rules, book, tape)
            return
        phase = book.slots[worst].phase
        for leg in range(legs.lengths[phase]):
            row, sold = book.slots[worst].row[leg], legs.table[phase, leg].side < 0.0
            book.work[leg].price, book.work[leg].flag = math.nan, QUOTE
            if market.quotes[row].snapshot == s:
                book.work[leg].price = quoted(market, row, sold, rules.crossing)
            if math.isnan(book.work[leg].price):
                book.work[leg].price, book.work[leg].flag = book.slots[worst].value[leg] * (1.05 if sold else 0.95), MODEL
        row = book.slots[worst].row[0]
        fresh = row if market.quotes[row].snapshot == s else np.int64(-1)
        left = (book.slots[worst].expiry[0] - market.snaps[s].known_at) / DAY_US
        tape.counts[4] += 1
        note(tape, rules, book, s, worst, LIQUIDATE, LIQUIDATED, fresh, left, premium_of(worst, legs, book), market.snaps[s].known_at)
        trade_structure(s, worst, -1.0, FILL_CLOSE, False, market.costs[s].liquidation, market, legs, rules, book, tape)
        book.slots[worst].rolls, book.slots[worst].due = 0, NONE
        if not any_live(worst, legs, book):
            book.slots[worst].state = FREE


@inner
def unexpired(s: int, p: int, market: Market, legs: Legs, book: Book) -> bool:
    for leg in range(legs.lengths[book.slots[p].phase]):
        if book.slots[p].live[leg] and book.slots[p].expiry[leg] > market.snaps[s].known_at:
            return True
    return False


@inner
def open_delta(s: int, market: Market, legs: Legs, rules: Rule, book: Book) -> float:
    """Delta of the options held, coins; `in coin` terms are the caller's."""
    total = 0.0
    for p in range(book.slots.size - 1):
        if book.slots[p].state == HELD:
            phase = book.slots[p].phase
            for leg in range(legs.lengths[phase]):
                if book.slots[p].live[leg]:
                    total += legs.table[phase, leg].side * legs.table[phase, leg].ratio * book.slots[p].units * book.slots[p].delta[leg]
    return total


@part
def rehedge(s: int, market: Market, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
    """Bring the open delta to nothing with the perpetual, where it has left the band and the interval has passed."""
    now, spot = market.snaps[s].known_at, market.snaps[s].index
    if book.clock[2] > -(2**61) and now - book.clock[2] < rules.hedge_interval_us:
        return
    away = open_delta(s, market, legs, rules, book) + perpetual_coins(s, market, rules, book)
    if rules.hedge == 1.0:
        away -= book.cash[1] / spot + options_value(s, market, legs, rules, book)
    else:
        away += book.cash[0]
    if abs(away) <= rules.hedge_band * equity_now(s, market, legs, rules, book):
        return
    per_coin = 1.0 if rules.linear > 0.0 else spot
    lots = (book.cash[2] - away * per_coin) / rules.perpetual_lot
    # 999.9999999 lots are a thousand: without the allowance a hedge that is right would trade a lot to and fro
    wanted = math.trunc(lots + math.copysign(1e-9, lots)) * rules.perpetual_lot
    if wanted != book.cash[2]:
        _trade_perpetual(s, wanted - book.cash[2], market, rules, book, tape)
        book.cash[2] = wanted
        book.clock[2] = now


@inner
def _trade_perpetual(s: int, amount: float, market: Market, rules: Rule, book: Book, tape: Tape) -> None:
    """Trade the perpetual at the index; spread and taker fee are a cost in the settlement currency."""
    rate = market.costs[s].perpetual_taker + rules.perpetual_half_spread
    if rules.linear > 0.0:
        cost = abs(amount) * market.snaps[s].index * rate
        book.cash[1] -= cost
    else:
        cost = abs(amount) / market.snaps[s].index * rate
        book.cash[0] -= cost
    book.cash[2] += amount
    tape.equity[E_HEDGE_FEE, s] -= cost


@part
def strike_equity(s: int, stale: int, market: Market, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
    """Equity of the snapshot: cash of both currencies and options at their last known marks; margin and delta."""
    out, spot = tape.equity, market.snaps[s].index
    options, held = 0.0, held_structures(book)
    initial, maintenance, delta = 0.0, 0.0, 0.0
    if held > 0 or book.cash[2] != 0.0:
        options = options_value(s, market, legs, rules, book)
        initial, maintenance = account_margin(s, False, NONE, market, legs, rules, book)
        delta = open_delta(s, market, legs, rules, book) + perpetual_coins(s, market, rules, book)
        if rules.linear == 0.0:
            delta -= options
    out[E_COIN, s], out[E_USD, s], out[E_OPTIONS, s] = book.cash[0], book.cash[1], options
    out[E_EQUITY, s], out[E_OPEN, s], out[E_STALE, s] = book.cash[0] + book.cash[1] / spot + options, held, stale
    out[E_PERP, s], out[E_IM, s], out[E_MM, s], out[E_DELTA, s] = perpetual_coins(s, market, rules, book), initial, maintenance, delta


@inner
def note(
    tape: Tape,
    rules: Rule,
    book: Book,
    s: int,
    p: int,
    action: float,
    reason: float,
    row: int | np.int64,
    left: float,
    cost: float,
    now: int,
) -> None:
    """Write a decision about an open structure."""
    held, contract = held_structures(book), book.slots[p].contract[0]
    decide(
        tape,
        rules,
        s,
        book.slots[p].trade,
        action,
        reason,
        row,
        contract,
        left,
        cost,
        book.slots[p].premium,
        held,
        book.slots[p].units,
        now,
    )
