"""The compiled loop: one pass over the snapshots of a history, playing legs and rules given as numbers.

At snapshot s the loop knows rows of snapshots up to s and nothing else. In this order: contracts whose delivery price is known are
settled; an order that is due is filled; open positions are judged; a new one may be opened; equity is struck. No Python object
per quote or bar.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from options_agent.backtest.codes import (
    CANCEL,
    CAPITAL,
    CLOSE,
    DAYS_LEFT,
    ENTERED,
    EXPIRE,
    FILL_CLOSE,
    FILL_OPEN,
    FILL_SETTLE,
    HOLD,
    MAX_OPEN,
    NOT_QUOTED,
    OPEN,
    RULES_HOLD,
    SETTLED,
    SKIP,
    STOP,
    TAKE_PROFIT,
)
from options_agent.backtest.orders import DAY_US, FREE, NONE, Book, Legs, Market, Rules, choose, fill_price, inner, room

if TYPE_CHECKING:
    from numpy.typing import NDArray

HOUR_US = 3_600_000_000


class Tape(NamedTuple):
    """What the loop writes; `counts` is how many fills, decisions and trades there are.

    fills (n, 10): trade, leg, kind, snapshot, row (-1: settled), contract, signed contracts (sold < 0), coin price, coin fee,
    microseconds. decisions (n, 12): snapshot, trade, action, reason, row, contract, days to expiry, cost of closing a unit,
    premium of a unit, open positions, units, microseconds. equity (snapshots, 6): coin cash, USD cash, value of options in coin, equity
    in coin, open positions, stale marks.
    """

    fills: NDArray[np.float64]
    decisions: NDArray[np.float64]
    equity: NDArray[np.float64]
    counts: NDArray[np.int64]


def blank_tape(snapshots: int, legs: int, slots: int) -> Tape:
    """Room for everything a run can write: an entry and a late fill a snapshot, a decision per slot and event."""
    return Tape(
        np.empty((4 * snapshots * legs + 8, 10)),
        np.empty((snapshots * (2 * slots + 2) + 8, 12)),
        np.empty((snapshots, 6)),
        np.zeros(3, np.int64),
    )


@njit(cache=True)
def play(market: Market, legs: Legs, rules: Rules, book: Book, tape: Tape) -> None:
    """Play one strategy over one history from the cash in `book`, writing to `tape`."""
    done_on = np.int64(-1)
    for s in range(market.known_at.size):
        _settle(s, market, legs, book, tape)
        stale = _follow(s, market, book)
        if book.order_due[0] != NONE and market.known_at[s] >= book.order_due[0]:
            _fill_order(s, market, legs, rules, book, tape)
        _judge(s, market, legs, rules, book, tape)
        day = market.known_at[s] // DAY_US
        if day != done_on and market.known_at[s] - day * DAY_US >= rules.hour_utc * HOUR_US and book.order_due[0] == NONE:
            reason = _enter(s, market, legs, rules, book, tape)
            if reason in (ENTERED, MAX_OPEN):  # otherwise the day's later snapshots may do
                done_on = day
        _strike(s, stale, market, legs, book, tape)


@inner
def _settle(s: int, market: Market, legs: Legs, book: Book, tape: Tape) -> None:
    """Pay what expired, once its delivery price is known."""
    for p in range(book.trade.size):
        if book.trade[p] < 0 or book.expiry[p] > market.known_at[s]:
            continue
        known = book.expiry[p]
        for leg in range(legs.side.size):
            c = book.contract[p, leg]
            known = market.known_at[s] + 1 if math.isnan(market.settle_price[c]) else max(known, market.settle_known[c])
        if known > market.known_at[s]:
            continue
        for leg in range(legs.side.size):
            c = book.contract[p, leg]
            price, strike = market.settle_price[c], market.contract_strike[c]
            inside = price - strike if market.contract_call[c] == 1 else strike - price
            worth = max(inside, 0.0) / price
            fee = min(market.delivery[c, 0], market.delivery[c, 1] * worth)
            _book_fill(
                tape, book, p, leg, FILL_SETTLE, s, np.int64(-1), -legs.side[leg] * book.units[p] * legs.ratio[leg], worth, fee, known
            )
        _note(tape, book, s, p, EXPIRE, SETTLED, np.int64(-1), 0.0, 0.0, market.known_at[s])
        book.trade[p] = FREE


@inner
def _follow(s: int, market: Market, book: Book) -> int:
    """Bring each held leg to its last row known by now and mark it; returns how many have no mark in this snapshot."""
    stale = 0
    for p in range(book.trade.size):
        if book.trade[p] < 0:
            continue
        for leg in range(book.row.shape[1]):
            row = _row_by(s, market, book.row[p, leg])
            book.row[p, leg] = row
            if market.row_snapshot[row] == s and market.mark[row] > 0.0:
                book.value[p, leg] = market.mark[row]
            elif market.row_snapshot[row] == s and market.bid[row] > 0.0 and market.ask[row] > 0.0:
                book.value[p, leg] = 0.5 * (market.bid[row] + market.ask[row])
            else:
                stale += 1
    return stale


@inner
def _row_by(s: int, market: Market, row: int) -> int:
    """The last row of the same contract at or before snapshot s."""
    while market.next_row[row] >= 0 and market.row_snapshot[market.next_row[row]] <= s:
        row = market.next_row[row]
    return row


@inner
def _fill_order(s: int, market: Market, legs: Legs, rules: Rules, book: Book, tape: Tape) -> None:
    """Fill the order that waited for its latency, or cancel it: no quote to trade against, or no capital by now."""
    reason = ENTERED
    for leg in range(legs.side.size):
        row = _row_by(s, market, book.order_row[leg])
        book.order_row[leg] = row
        if market.row_snapshot[row] != s or math.isnan(fill_price(market, row, legs.side[leg] > 0, rules.crossing)):
            reason = NOT_QUOTED
    units = min(book.order_units[0], room(market.spot[s], market, legs, rules, book, book.order_row))
    if reason == ENTERED and not units > 0.0:
        reason = CAPITAL
    book.order_due[0] = NONE
    if reason == ENTERED:
        _open(s, units, market, legs, rules, book, tape, book.order_row)
        return
    row = book.order_row[0]
    fresh = row if market.row_snapshot[row] == s else -1
    _decide(
        tape,
        s,
        tape.counts[2],
        CANCEL,
        reason,
        fresh,
        np.int64(market.row_contract[row]),
        0.0,
        0.0,
        0.0,
        _held(book),
        0.0,
        market.known_at[s],
    )
    tape.counts[2] += 1  # the number stays with the order that was never filled


@inner
def _judge(s: int, market: Market, legs: Legs, rules: Rules, book: Book, tape: Tape) -> None:
    """Hold or close each position by what closing it now would cost, the spread crossed."""
    now = market.known_at[s]
    for p in range(book.trade.size):
        if book.trade[p] < 0 or book.expiry[p] <= now or book.opened[p] == s:
            continue
        cost = 0.0
        for leg in range(legs.side.size):
            row = book.row[p, leg]
            price = fill_price(market, row, legs.side[leg] < 0, rules.crossing) if market.row_snapshot[row] == s else math.nan
            cost -= legs.side[leg] * legs.ratio[leg] * price
        row = book.row[p, 0]
        fresh = row if market.row_snapshot[row] == s else -1
        left = (book.expiry[p] - now) / DAY_US
        if book.due[p] != NONE:  # decided before; the fill waits for its time and for a quote
            if now >= book.due[p] and not math.isnan(cost):
                _close(s, p, market, legs, rules, book, tape)
            continue
        if math.isnan(cost):
            _note(tape, book, s, p, HOLD, NOT_QUOTED, fresh, left, cost, now)
            continue
        profit, size = book.premium[p] - cost, abs(book.premium[p])
        reason = RULES_HOLD
        if rules.take_profit >= 0.0 and profit >= rules.take_profit * size:
            reason = TAKE_PROFIT
        elif rules.stop_loss >= 0.0 and -profit >= rules.stop_loss * size:
            reason = STOP
        elif rules.days_left >= 0.0 and left <= rules.days_left:
            reason = DAYS_LEFT
        _note(tape, book, s, p, HOLD if reason == RULES_HOLD else CLOSE, reason, fresh, left, cost, now)
        if reason == RULES_HOLD:
            continue
        if rules.latency_us > 0.0:
            book.due[p] = now + np.int64(rules.latency_us)
        else:
            _close(s, p, market, legs, rules, book, tape)


@inner
def _enter(s: int, market: Market, legs: Legs, rules: Rules, book: Book, tape: Tape) -> float:
    """Open a position, or say why not."""
    chosen = book.chosen
    chosen[0] = -1
    held, units, left, premium = _held(book), 0.0, 0.0, 0.0
    reason = MAX_OPEN
    if held < rules.max_open:
        reason, left, premium = choose(s, market, legs, rules, chosen)
        if reason == ENTERED:
            units = room(market.spot[s], market, legs, rules, book, chosen)
            if not units > 0.0:
                reason = CAPITAL
    entered = reason == ENTERED
    row = chosen[0]
    contract = np.int64(market.row_contract[row] if row >= 0 else -1)
    action, trade = (OPEN, tape.counts[2]) if entered else (SKIP, -1)
    _decide(tape, s, trade, action, reason, row, contract, left, premium, premium, held, units, market.known_at[s])
    if entered and rules.latency_us > 0.0:
        book.order_due[0] = market.known_at[s] + np.int64(rules.latency_us)
        book.order_units[0] = units
        for leg in range(legs.side.size):
            book.order_row[leg] = chosen[leg]
    elif entered:
        _open(s, units, market, legs, rules, book, tape, chosen)
    return reason


@inner
def _open(s: int, units: float, market: Market, legs: Legs, rules: Rules, book: Book, tape: Tape, chosen: NDArray[np.int64]) -> None:
    """Trade the legs into a free slot."""
    p = 0
    while book.trade[p] >= 0:
        p += 1
    book.trade[p], book.units[p], book.opened[p], book.due[p], book.premium[p] = tape.counts[2], units, s, NONE, 0.0
    book.expiry[p] = market.contract_expiry[market.row_contract[chosen[0]]]
    tape.counts[2] += 1
    for leg in range(legs.side.size):
        row = chosen[leg]
        price = fill_price(market, row, legs.side[leg] > 0, rules.crossing)
        book.contract[p, leg], book.row[p, leg] = market.row_contract[row], row
        book.value[p, leg] = market.mark[row] if market.mark[row] > 0.0 else price
        book.premium[p] -= legs.side[leg] * legs.ratio[leg] * price
        fee = min(market.fee[s, 0], market.fee[s, 1] * price)
        _book_fill(tape, book, p, leg, FILL_OPEN, s, row, legs.side[leg] * units * legs.ratio[leg], price, fee, market.known_at[s])


@inner
def _close(s: int, p: int, market: Market, legs: Legs, rules: Rules, book: Book, tape: Tape) -> None:
    """Trade the legs back and free the slot."""
    for leg in range(legs.side.size):
        row = book.row[p, leg]
        price = fill_price(market, row, legs.side[leg] < 0, rules.crossing)
        fee = min(market.fee[s, 0], market.fee[s, 1] * price)
        contracts = -legs.side[leg] * book.units[p] * legs.ratio[leg]
        _book_fill(tape, book, p, leg, FILL_CLOSE, s, row, contracts, price, fee, market.known_at[s])
    book.trade[p] = FREE


@inner
def _held(book: Book) -> int:
    """Open positions, those that wait for their delivery price included."""
    held = 0
    for p in range(book.trade.size):
        if book.trade[p] >= 0:
            held += 1
    return held


@inner
def _strike(s: int, stale: int, market: Market, legs: Legs, book: Book, tape: Tape) -> None:
    """Equity of the snapshot: cash of both currencies and options at their last known marks."""
    options = 0.0
    for p in range(book.trade.size):
        if book.trade[p] >= 0:
            for leg in range(legs.side.size):
                options += legs.side[leg] * legs.ratio[leg] * book.units[p] * book.value[p, leg]
    out, coin, usd = tape.equity, book.cash[0], book.cash[1]
    out[s, 0], out[s, 1], out[s, 2] = coin, usd, options
    out[s, 3], out[s, 4], out[s, 5] = coin + usd / market.spot[s] + options, _held(book), stale


@inner
def _book_fill(
    tape: Tape,
    book: Book,
    p: int,
    leg: int,
    kind: float,
    s: int,
    row: int | np.int64,
    contracts: float,
    price: float,
    fee: float,
    time: int,
) -> None:
    """Write a fill and move the coin; `fee` is per contract."""
    paid = fee * abs(contracts)
    book.cash[0] += -contracts * price - paid
    out, n = tape.fills, tape.counts[0]
    tape.counts[0] += 1
    out[n, 0], out[n, 1], out[n, 2], out[n, 3], out[n, 4] = book.trade[p], leg, kind, s, row
    out[n, 5], out[n, 6], out[n, 7], out[n, 8], out[n, 9] = book.contract[p, leg], contracts, price, paid, time


@inner
def _note(
    tape: Tape, book: Book, s: int, p: int, action: float, reason: float, row: int | np.int64, left: float, cost: float, now: int
) -> None:
    """Write a decision about an open position."""
    _decide(tape, s, book.trade[p], action, reason, row, book.contract[p, 0], left, cost, book.premium[p], _held(book), book.units[p], now)


@inner
def _decide(
    tape: Tape,
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
    out, n = tape.decisions, tape.counts[1]
    tape.counts[1] += 1
    out[n, 0], out[n, 1], out[n, 2], out[n, 3], out[n, 4], out[n, 5] = s, trade, action, reason, row, contract
    out[n, 6], out[n, 7], out[n, 8], out[n, 9], out[n, 10], out[n, 11] = left, cost, premium, held, units, now
