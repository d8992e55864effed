"""The compiled loop: one pass over the snapshots of a history, playing legs and rules given as numbers. `docs/engine.md` says what it does.

At snapshot s the loop knows rows of snapshots up to s and nothing else. No Python object per quote or bar.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from options_agent.backtest.choosing import choose
from options_agent.backtest.codes import (
    CANCEL,
    CAPITAL,
    CLOSE,
    DAYS_LEFT,
    DELTA_BREACH,
    ENTERED,
    EQUITY_STOP,
    EXPIRE,
    FILL_CLOSE,
    FILL_OPEN,
    FILL_SETTLE,
    FRONT_EXPIRED,
    HOLD,
    LIQUIDATE,
    LIQUIDATED,
    MAX_OPEN,
    MODEL,
    NO_QUOTE,
    NOT_QUOTED,
    OPEN,
    QUOTE,
    ROLL,
    ROLLED,
    RULES_HOLD,
    SETTLED,
    SIGNAL,
    SKIP,
    STOP,
    TAKE_PROFIT,
)
from options_agent.backtest.sizing import (
    account_margin,
    equity_now,
    margin_balance,
    options_value,
    perpetual_coins,
    room,
    sized,
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
    HOUR_US,
    NONE,
    ORDERED,
    Book,
    Legs,
    Market,
    Players,
    Rule,
    Tape,
    Tapes,
    inner,
    part,
)
from options_agent.backtest.trading import (
    book_fill,
    decide,
    free_slot,
    held_structures,
    met,
    post,
    premium_of,
    price_structure,
    quoted,
    trade_structure,
)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def play(market: Market, players: Players, tapes: Tapes, snapshots: int, block: int) -> None:
    """Play strategies over the first snapshots of one history, from the cash in their books, each writing to its own tape.

    Time is cut into blocks of snapshots that all strategies play before the next, so that quotes once read serve them all. What one
    writes depends on nothing of the others.
    """
    for first in range(0, snapshots, block):
        for k in range(players.rules.size):
            weather, rules = players.weather[players.which[k]], players.rules[k]
            legs = Legs(players.legs[k], players.lengths[k])
            book = Book(players.slots[k, : players.places[k]], players.work, players.cash[k], players.clock[k])
            tape = Tape(tapes.fills[k], tapes.decisions[k], tapes.equity[k], tapes.counts[k])
            for s in range(first, min(first + block, snapshots)):
                _carry(s, market, rules, book, tape)
                _settle(s, market, legs, rules, book, tape)
                stale = _follow(s, market, legs, book)
                _fill_entries(s, market, legs, rules, book, tape)
                _liquidate(s, market, legs, rules, book, tape)
                _judge(s, market, weather, legs, rules, book, tape)
                _maybe_enter(s, market, weather, legs, rules, book, tape)
                if rules.hedge > 0.0:
                    _hedge(s, market, legs, rules, book, tape)
                _strike(s, stale, market, legs, rules, book, tape)


@part
def _carry(s: int, market: Market, rules: Rule, book: Book, tape: Tape) -> None:
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
def _settle(s: int, market: Market, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
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
        if not _any_live(p, legs, book):
            _note(tape, rules, book, s, p, EXPIRE, SETTLED, np.int64(-1), 0.0, 0.0, now)
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
def _any_live(p: int, legs: Legs, book: Book) -> bool:
    for leg in range(legs.lengths[book.slots[p].phase]):  # noqa: SIM110 (compiled)
        if book.slots[p].live[leg]:
            return True
    return False


@part
def _follow(s: int, market: Market, legs: Legs, book: Book) -> int:
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
def _fill_entries(s: int, market: Market, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
    """Fill the entry orders whose time has come, or cancel them: no quote to trade against, or no capital by now."""
    now = market.snaps[s].known_at
    for p in range(book.slots.size - 1):
        if book.slots[p].state != ORDERED or now < book.slots[p].due:
            continue
        resting, ready = False, True
        if rules.maker > 0.0 and book.slots[p].posted < 0:
            if post(s, p, 1.0, market, legs, rules, book):
                continue
            ready = False
        elif rules.maker > 0.0:
            if book.slots[p].posted == s:
                continue
            filled = met(s, p, 1.0, market, legs, rules, book)
            resting = filled > 0.0
            if not resting:
                if now - market.snaps[book.slots[p].posted].known_at < rules.maker_patience_us:
                    continue
                ready = price_structure(s, p, 1.0, 0.0, market, legs, rules, book)
        else:
            ready = price_structure(s, p, 1.0, 0.0, market, legs, rules, book)
        units = min(book.slots[p].units, room(s, p, market, legs, rules, book)) if ready else 0.0
        if units > 0.0:
            ready = resting or price_structure(s, p, 1.0, units, market, legs, rules, book)
            if ready:
                book.slots[p].units = units
                _open(s, p, resting, market, legs, rules, book, tape)
                continue
        row = book.slots[p].row[0]
        fresh = row if market.quotes[row].snapshot == s else np.int64(-1)
        held, contract = held_structures(book), book.slots[p].contract[0]
        decide(
            tape, rules, s, book.slots[p].trade, CANCEL, CAPITAL if ready else NOT_QUOTED, fresh, contract, 0.0, 0.0, 0.0, held, 0.0, now
        )
        book.slots[p].state = FREE  # its number stays with the order that was never filled


@part
def _liquidate(s: int, market: Market, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
    """Close the structure that needs most margin, again and again, while the account's maintenance margin is not met."""
    while True:
        _, maintenance = account_margin(s, False, NONE, market, legs, rules, book)
        if maintenance <= margin_balance(s, market, legs, rules, book):
            return
        worst, most = NONE, -1.0
        for p in range(book.slots.size - 1):
            if book.slots[p].state == HELD and _unexpired(s, p, market, legs, book):
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
        _note(tape, rules, book, s, worst, LIQUIDATE, LIQUIDATED, fresh, left, premium_of(worst, legs, book), market.snaps[s].known_at)
        trade_structure(s, worst, -1.0, FILL_CLOSE, False, market.costs[s].liquidation, market, legs, rules, book, tape)
        book.slots[worst].rolls, book.slots[worst].due = 0, NONE
        if not _any_live(worst, legs, book):
            book.slots[worst].state = FREE


@inner
def _unexpired(s: int, p: int, market: Market, legs: Legs, book: Book) -> bool:
    for leg in range(legs.lengths[book.slots[p].phase]):
        if book.slots[p].live[leg] and book.slots[p].expiry[leg] > market.snaps[s].known_at:
            return True
    return False


@part
def _judge(s: int, market: Market, weather: np.ndarray, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
    """Hold or close each structure by what closing it now would cost, the spread crossed."""
    for p in range(book.slots.size - 1):
        if book.slots[p].state != HELD or not _unexpired(s, p, market, legs, book) or book.slots[p].opened == s:
            continue
        if book.slots[p].due == NONE and not _decide_exit(s, p, market, weather, legs, rules, book, tape):
            continue
        _work_close(s, p, market, weather, legs, rules, book, tape)


@part
def _decide_exit(s: int, p: int, market: Market, weather: np.ndarray, legs: Legs, rules: Rule, book: Book, tape: Tape) -> bool:
    """Whether a closing order is given; it waits for its time and for a quote."""
    now, row = market.snaps[s].known_at, book.slots[p].row[0]
    fresh = row if market.quotes[row].snapshot == s else np.int64(-1)
    left = (_first_expiry(s, p, market, legs, book) - now) / DAY_US
    reason, action, cost = NOT_QUOTED, HOLD, math.nan
    if price_structure(s, p, -1.0, book.slots[p].units, market, legs, rules, book):
        cost = premium_of(p, legs, book)
        reason = _exit_reason(s, p, cost, left, market, legs, rules, book)
        if reason != RULES_HOLD:
            rolls = _rolls(s, p, reason, cost, market, weather, legs, rules, book)
            action = ROLL if rolls else CLOSE
            book.slots[p].rolls, book.slots[p].posted = 1 if rolls else 0, NONE
            book.slots[p].due = now + market.costs[s].latency_us
    _note(tape, rules, book, s, p, action, reason, fresh, left, cost, now)
    return action != HOLD


@part
def _first_expiry(s: int, p: int, market: Market, legs: Legs, book: Book) -> int:
    """The nearest expiry of the legs that live and have not expired."""
    first = np.int64(2**62)
    for leg in range(legs.lengths[book.slots[p].phase]):
        if book.slots[p].live[leg] and book.slots[p].expiry[leg] > market.snaps[s].known_at:
            first = min(first, book.slots[p].expiry[leg])
    return first


@part
def _exit_reason(s: int, p: int, cost: float, left: float, market: Market, legs: Legs, rules: Rule, book: Book) -> float:
    """The first exit rule that holds; RULES_HOLD where none does."""
    phase = book.slots[p].phase
    for leg in range(legs.lengths[phase]):
        if not book.slots[p].live[leg] or book.slots[p].expiry[leg] <= market.snaps[s].known_at:
            return FRONT_EXPIRED
    profit, size = book.slots[p].premium - cost, abs(book.slots[p].premium)
    lost = -profit * book.slots[p].units / (market.snaps[s].index if rules.linear > 0.0 else 1.0)
    if rules.take_profit >= 0.0 and profit >= rules.take_profit * size:
        return TAKE_PROFIT
    if rules.stop_loss >= 0.0 and -profit >= rules.stop_loss * size:
        return STOP
    if rules.equity_stop >= 0.0 and lost >= rules.equity_stop * equity_now(s, market, legs, rules, book):
        return EQUITY_STOP
    if rules.delta_breach >= 0.0:
        for leg in range(legs.lengths[phase]):
            if legs.table[phase, leg].side < 0.0 and abs(book.slots[p].delta[leg]) >= rules.delta_breach:
                return DELTA_BREACH
    if rules.days_left >= 0.0 and left <= rules.days_left:
        return DAYS_LEFT
    return RULES_HOLD


@part
def _rolls(s: int, p: int, reason: float, cost: float, market: Market, weather: np.ndarray, legs: Legs, rules: Rule, book: Book) -> bool:
    """Whether this exit rolls: the rule names it, and the new structure is there for no more than the debit allowed."""
    if reason == FRONT_EXPIRED or (int(rules.roll_on) >> int(reason - TAKE_PROFIT)) & 1 == 0:
        return False
    scratch = book.slots.size - 1
    book.slots[scratch].phase = book.clock[3]
    # the structure that makes room does not count against the cap of its expiry
    book.slots[p].state = FREE
    found, _, premium = choose(
        s,
        scratch,
        rules.roll_dte_min,
        rules.roll_dte_target,
        rules.roll_dte_max,
        weather[s].delta_factor * rules.roll_delta_factor,
        market,
        legs,
        rules,
        book,
    )
    book.slots[p].state = HELD
    debit = (cost - premium) / (market.snaps[s].index if rules.linear > 0.0 else 1.0)
    return found == ENTERED and debit <= rules.roll_max_debit


@part
def _work_close(s: int, p: int, market: Market, weather: np.ndarray, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
    """Fill a closing order where its time has come and the quotes allow it; then roll if it was to."""
    now, resting = market.snaps[s].known_at, False
    if now < book.slots[p].due:
        return
    if rules.maker > 0.0:
        if book.slots[p].posted < 0:
            if not post(s, p, -1.0, market, legs, rules, book):
                book.slots[p].posted = NONE
            return
        resting = met(s, p, -1.0, market, legs, rules, book) > 0.0
        if not resting and now - market.snaps[book.slots[p].posted].known_at < rules.maker_patience_us:
            return
    if not resting and not price_structure(s, p, -1.0, book.slots[p].units, market, legs, rules, book):
        return
    trade_structure(s, p, -1.0, FILL_CLOSE, resting, 0.0, market, legs, rules, book, tape)
    rolls = book.slots[p].rolls
    book.slots[p].due, book.slots[p].posted, book.slots[p].rolls = NONE, NONE, 0
    if not _any_live(p, legs, book):
        book.slots[p].state = FREE
    if rolls == 1:
        _enter(
            s,
            book.clock[3],
            rules.roll_dte_min,
            rules.roll_dte_target,
            rules.roll_dte_max,
            rules.roll_delta_factor,
            ROLLED,
            market,
            weather,
            legs,
            rules,
            book,
            tape,
        )


@part
def _maybe_enter(s: int, market: Market, weather: np.ndarray, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
    """The day's entry, where the schedule has come to it."""
    now = market.snaps[s].known_at
    day = now // DAY_US
    if day == book.clock[0] or now - day * DAY_US < rules.hour_utc * HOUR_US:
        return
    if (int(rules.weekdays) >> ((day + 3) % 7)) & 1 == 0 or day - book.clock[1] < rules.every_days:
        return
    for p in range(book.slots.size - 1):
        if book.slots[p].state == ORDERED:
            return
    if weather[s].allowed == 0:
        decide(tape, rules, s, NONE, SKIP, SIGNAL, np.int64(-1), np.int64(-1), 0.0, 0.0, 0.0, held_structures(book), 0.0, now)
        return
    reason = _enter(
        s, book.clock[3], rules.dte_min, rules.dte_target, rules.dte_max, 1.0, ENTERED, market, weather, legs, rules, book, tape
    )
    if reason in (ENTERED, MAX_OPEN):  # otherwise the day's later snapshots may do
        book.clock[0] = day
    if reason == ENTERED:
        book.clock[1] = day


@inner
def _enter(
    s: int,
    phase: int,
    dte_min: float,
    dte_target: float,
    dte_max: float,
    factor: float,
    why: float,
    market: Market,
    weather: np.ndarray,
    legs: Legs,
    rules: Rule,
    book: Book,
    tape: Tape,
) -> float:
    """Open a structure or order one, or say why not."""
    now, held = market.snaps[s].known_at, held_structures(book)
    p = free_slot(book)
    reason, left, premium, units = MAX_OPEN, 0.0, 0.0, 0.0
    row, contract = np.int64(-1), np.int64(-1)
    if p >= 0:
        book.slots[p].phase = phase
        for leg in range(legs.lengths[phase]):
            book.slots[p].live[leg] = 1
        reason, left, premium = choose(s, p, dte_min, dte_target, dte_max, weather[s].delta_factor * factor, market, legs, rules, book)
        row = book.slots[p].row[0]
        contract = book.slots[p].contract[0] if row >= 0 else np.int64(-1)
        if reason == ENTERED:
            most = room(s, p, market, legs, rules, book)
            units = sized(s, p, most, premium, weather[s].size_factor, market, legs, rules, book)
            if not units > 0.0:
                reason = CAPITAL
    at_once = market.costs[s].latency_us == 0 and rules.maker == 0.0
    if reason == ENTERED and at_once and not price_structure(s, p, 1.0, units, market, legs, rules, book):
        reason = NO_QUOTE
    entered = reason == ENTERED
    trade = tape.counts[2] if entered else np.int64(-1)
    decide(
        tape,
        rules,
        s,
        trade,
        OPEN if entered else SKIP,
        why if entered else reason,
        row,
        contract,
        left,
        premium,
        premium,
        held,
        units,
        now,
    )
    if not entered:
        return reason
    tape.counts[2] += 1
    slot = book.slots[p]
    slot.state, slot.trade, slot.units, slot.rolls, slot.posted = ORDERED, trade, units, 0, NONE
    slot.due = now + market.costs[s].latency_us
    if at_once:
        _open(s, p, False, market, legs, rules, book, tape)
    elif slot.due == now and not post(s, p, 1.0, market, legs, rules, book):
        decide(tape, rules, s, trade, CANCEL, NOT_QUOTED, row, contract, 0.0, 0.0, 0.0, held, 0.0, now)
        slot.state = FREE
    return reason


@part
def _open(s: int, p: int, resting: bool, market: Market, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
    """Trade the legs of an ordered slot at the prices in the book."""
    book.slots[p].premium = premium_of(p, legs, book)
    book.slots[p].state, book.slots[p].opened, book.slots[p].due, book.slots[p].posted = HELD, s, NONE, NONE
    trade_structure(s, p, 1.0, FILL_OPEN, resting, 0.0, market, legs, rules, book, tape)


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
def _hedge(s: int, market: Market, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
    """Bring the open delta to nothing with the perpetual, where it has left the band and the interval has passed."""
    now, spot = market.snaps[s].known_at, market.snaps[s].index
    if book.clock[2] > -(2**61) and now - book.clock[2] < rules.hedge_interval_us:
        return
    away = open_delta(s, market, legs, rules, book) + perpetual_coins(s, market, rules, book)
    if rules.hedge == 1.0:
        away -= book.cash[1] / spot
        if rules.linear == 0.0:
            away -= options_value(s, market, legs, rules, book)
    else:
        away += book.cash[0]
    if abs(away) <= rules.hedge_band * equity_now(s, market, legs, rules, book):
        return
    per_coin = 1.0 if rules.linear > 0.0 else spot
    wanted = math.trunc((book.cash[2] - away * per_coin) / rules.perpetual_lot) * rules.perpetual_lot
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
def _strike(s: int, stale: int, market: Market, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
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
def _note(
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
