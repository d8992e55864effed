"""The compiled loop: one pass over the snapshots of a history, playing legs and rules given as numbers. `docs/engine.md` says what it does.

At snapshot s the loop knows rows of snapshots up to s and nothing else. No Python object per quote or bar.
"""

from __future__ import annotations

import math

import numpy as np

from options_agent.backtest.choosing import choose
from options_agent.backtest.codes import (
    CANCEL,
    CAPITAL,
    CLOSE,
    DAYS_LEFT,
    DEBIT,
    DELTA_BREACH,
    DIRECTED,
    ENTERED,
    EQUITY_STOP,
    FILL_CLOSE,
    FILL_OPEN,
    FRONT_EXPIRED,
    HOLD,
    MAX_OPEN,
    NO_QUOTE,
    NOT_QUOTED,
    OPEN,
    ROLL,
    ROLLED,
    RULES_HOLD,
    SIGNAL,
    SKIP,
    STOP,
    TAKE_PROFIT,
)
from options_agent.backtest.sizing import (
    equity_now,
    room,
    sized,
)
from options_agent.backtest.tape import (
    BY_RULES,
    DAY_US,
    FREE,
    HELD,
    HOUR_US,
    NONE,
    ORDERED,
    TO_CLOSE,
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
    decide,
    free_slot,
    held_structures,
    met,
    post,
    premium_of,
    price_structure,
    trade_structure,
)
from options_agent.backtest.upkeep import any_live, carry, follow, liquidate, note, rehedge, settle_expired, strike_equity, unexpired
from options_agent.compiled import compiled


@compiled(error_model="numpy")
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
                carry(s, market, rules, book, tape)
                settle_expired(s, market, legs, rules, book, tape)
                stale = follow(s, market, legs, book)
                _fill_entries(s, market, legs, rules, book, tape)
                liquidate(s, market, legs, rules, book, tape)
                _judge(s, market, weather, legs, rules, book, tape)
                _maybe_enter(s, market, weather, legs, rules, book, tape)
                if rules.hedge > 0.0:
                    rehedge(s, market, legs, rules, book, tape)
                strike_equity(s, stale, market, legs, rules, book, tape)


@part
def _fill_entries(s: int, market: Market, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
    """Fill the entry orders whose time has come, or cancel them: no quote to trade against, or no capital by now."""
    now = market.snaps[s].known_at
    for p in range(book.slots.size - 1):
        if book.slots[p].state != ORDERED or now < book.slots[p].due:
            continue
        resting, ready, dear = False, True, False
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
            dear = ready and not _within_debit(s, p, premium_of(p, legs, book), market, rules, book)
            if ready and not dear:
                book.slots[p].units = units
                _open(s, p, resting, market, legs, rules, book, tape)
                continue
        row = book.slots[p].row[0]
        fresh = row if market.quotes[row].snapshot == s else np.int64(-1)
        held, contract = held_structures(book), book.slots[p].contract[0]
        why = DEBIT if dear else CAPITAL if ready else NOT_QUOTED
        decide(tape, rules, s, book.slots[p].trade, CANCEL, why, fresh, contract, 0.0, 0.0, 0.0, held, 0.0, now)
        book.slots[p].state = FREE  # its number stays with the order that was never filled


@part
def _judge(s: int, market: Market, weather: np.ndarray, legs: Legs, rules: Rule, book: Book, tape: Tape) -> None:
    """Hold or close each structure by what closing it now would cost, the spread crossed."""
    for p in range(book.slots.size - 1):
        if book.slots[p].state != HELD or not unexpired(s, p, market, legs, book) or book.slots[p].opened == s:
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
        reason = _exit_reason(s, p, cost, left, market, weather, legs, rules, book)
        if reason != RULES_HOLD and (reason != DIRECTED or weather[s].exits == TO_CLOSE):
            rolls = _rolls(s, p, reason, cost, market, weather, legs, rules, book)
            action = ROLL if rolls else CLOSE
            book.slots[p].rolls, book.slots[p].posted = 1 if rolls else 0, NONE
            book.slots[p].due = now + market.costs[s].latency_us
    note(tape, rules, book, s, p, action, reason, fresh, left, cost, now)
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
def _exit_reason(
    s: int, p: int, cost: float, left: float, market: Market, weather: np.ndarray, legs: Legs, rules: Rule, book: Book
) -> float:
    """The first exit rule that holds; RULES_HOLD where none does, DIRECTED where the rules are not asked."""
    phase = book.slots[p].phase
    for leg in range(legs.lengths[phase]):
        if not book.slots[p].live[leg] or book.slots[p].expiry[leg] <= market.snaps[s].known_at:
            return FRONT_EXPIRED
    if weather[s].exits != BY_RULES:
        return DIRECTED
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
    if reason in (FRONT_EXPIRED, DIRECTED) or (int(rules.roll_on) >> int(reason - TAKE_PROFIT)) & 1 == 0:
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
    book.slots[scratch].owed = cost
    return found == ENTERED and _within_debit(s, scratch, premium, market, rules, book)


@inner
def _within_debit(s: int, p: int, premium: float, market: Market, rules: Rule, book: Book) -> bool:
    """Whether a new structure's premium is no further below what closing the old one took than a roll may cost; else it always is."""
    debit = (book.slots[p].owed - premium) / (market.snaps[s].index if rules.linear > 0.0 else 1.0)
    within: bool = debit <= rules.roll_max_debit
    return within


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
    cost = premium_of(p, legs, book)
    trade_structure(s, p, -1.0, FILL_CLOSE, resting, 0.0, market, legs, rules, book, tape)
    rolls = book.slots[p].rolls
    book.slots[p].due, book.slots[p].posted, book.slots[p].rolls = NONE, NONE, 0
    if not any_live(p, legs, book):
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
            cost,
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
    best, most, owed = rules.dte_target, rules.dte_max, -math.inf
    reason = _enter(s, book.clock[3], rules.dte_min, best, most, 1.0, ENTERED, owed, market, weather, legs, rules, book, tape)
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
    owed: float,
    market: Market,
    weather: np.ndarray,
    legs: Legs,
    rules: Rule,
    book: Book,
    tape: Tape,
) -> float:
    """Open a structure or order one, or say why not; `owed` is what closing a unit took, where this rolls."""
    now, held = market.snaps[s].known_at, held_structures(book)
    p = free_slot(book)
    reason, left, premium, units = MAX_OPEN, 0.0, 0.0, 0.0
    row, contract = np.int64(-1), np.int64(-1)
    if p >= 0:
        book.slots[p].phase, book.slots[p].owed = phase, owed
        for leg in range(legs.lengths[phase]):
            book.slots[p].live[leg] = 1
        reason, left, premium = choose(s, p, dte_min, dte_target, dte_max, weather[s].delta_factor * factor, market, legs, rules, book)
        row = book.slots[p].row[0]
        contract = book.slots[p].contract[0] if row >= 0 else np.int64(-1)
        if reason == ENTERED and not _within_debit(s, p, premium, market, rules, book):
            reason = DEBIT
        if reason == ENTERED:
            most = room(s, p, market, legs, rules, book)
            units = sized(s, p, most, premium, weather[s].size_factor, market, legs, rules, book)
            if not units > 0.0:
                reason = CAPITAL
    at_once = market.costs[s].latency_us == 0 and rules.maker == 0.0
    if reason == ENTERED and at_once and not price_structure(s, p, 1.0, units, market, legs, rules, book):
        reason = NO_QUOTE
    if reason == ENTERED and at_once and not _within_debit(s, p, premium_of(p, legs, book), market, rules, book):
        reason = DEBIT
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
