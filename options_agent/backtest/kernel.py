"""The compiled loop: one pass over the snapshots of a history, playing legs and rules given as numbers.

At snapshot s the loop knows rows of snapshots up to s and nothing else. In this order: contracts whose delivery price is
known are settled; orders that are due are filled; open positions are judged; a new one may be opened; equity is struck.
Codes are documented by the tuples of `engine`. No Python object per quote or bar.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

MAX_LEGS = 4

# actions
OPEN, SKIP, HOLD, CLOSE, EXPIRE, CANCEL = 0, 1, 2, 3, 4, 5
# reasons
(
    R_NONE,
    R_ENTERED,
    R_NO_EXPIRY,
    R_NO_DELTA,
    R_NO_QUOTE,
    R_PREMIUM,
    R_SPREAD,
    R_INTEREST,
    R_CAPITAL,
    R_MAX_OPEN,
    R_RULES_HOLD,
    R_TAKE_PROFIT,
    R_STOP,
    R_DAYS_LEFT,
    R_NOT_QUOTED,
    R_SETTLED,
    R_WAITING,
) = range(17)
# fill kinds
F_OPEN, F_CLOSE, F_SETTLE = 0, 1, 2

DAY_US = 86_400_000_000


@njit(cache=True)
def fill_price(bid: float, ask: float, buying: bool, crossing: float) -> float:
    """Price of a fill that pays `crossing` of the half-spread from the mid; NaN where the side needed is missing."""
    need = ask if buying else bid
    if not need > 0.0:
        return math.nan
    other = bid if buying else ask
    if not other > 0.0:
        return need
    mid = 0.5 * (bid + ask)
    return mid + (need - mid) * crossing


@njit(cache=True)
def pick_leg(first, last, strike, delta, is_call, target, tolerance):  # type: ignore[no-untyped-def]
    """Row in [first, last) whose absolute delta is nearest the target, -1 where none is within the tolerance."""
    best, gap = -1, tolerance
    for r in range(first, last):
        d = abs(delta[r])
        if math.isnan(d):
            continue
        distance = abs(d - target)
        if distance < gap or (distance == gap and best < 0):
            best, gap = r, distance
    return best


@njit(cache=True, inline="always")
def _fill(out, n, trade, leg, kind, snapshot, row, contract, signed, price, fee, time):  # type: ignore[no-untyped-def]
    out[n, 0], out[n, 1], out[n, 2], out[n, 3], out[n, 4] = trade, leg, kind, snapshot, row
    out[n, 5], out[n, 6], out[n, 7], out[n, 8], out[n, 9] = contract, signed, price, fee, time


@njit(cache=True, inline="always")
def _decide(out, n, snapshot, trade, action, reason, row, contract, left, cost, premium, count, qty, time):  # type: ignore[no-untyped-def]
    out[n, 0], out[n, 1], out[n, 2], out[n, 3], out[n, 4], out[n, 5] = snapshot, trade, action, reason, row, contract
    out[n, 6], out[n, 7], out[n, 8], out[n, 9], out[n, 10], out[n, 11] = left, cost, premium, count, qty, time


@njit(cache=True, inline="always")
def _strike(out, n, coin, usd, options, total, count, stale):  # type: ignore[no-untyped-def]
    out[n, 0], out[n, 1], out[n, 2], out[n, 3], out[n, 4], out[n, 5] = coin, usd, options, total, count, stale


@njit(cache=True)
def play(  # type: ignore[no-untyped-def]
    known_at,
    index,
    snapshot_group,
    group_expiry,
    group_call,
    group_row,
    row_snapshot,
    row_contract,
    next_row,
    strike,
    bid,
    ask,
    mark,
    delta,
    open_interest,
    contract_expiry,
    contract_strike,
    contract_call,
    settle_price,
    settle_known,
    fee,
    delivery,
    leg_sell,
    leg_call,
    leg_delta,
    leg_ratio,
    rules,
    capital_coin,
    capital_usd,
    lot,
):
    """Play one strategy over one history.

    Args:
        known_at .. contract_call: arrays of `History`.
        settle_price, settle_known: (contracts,) USD (NaN: none) and microseconds.
        fee: (snapshots, 2) rate and cap; delivery: (contracts, 2) likewise.
        leg_sell, leg_call, leg_delta, leg_ratio: (legs,).
        rules: float array in the order of `engine.RULES`.
        capital_coin, capital_usd: what the account starts with.
        lot: least tradable amount, contracts.

    Returns:
        fills (n, 10): trade, leg, kind, snapshot, row, contract, signed contracts (sold < 0), price coin, fee coin, time (microseconds);
        decisions (n, 12): snapshot, trade, action, reason, row, contract, days to expiry, cost of closing coin, premium
        coin, open positions, contracts, time; equity (snapshots, 6): coin cash, usd cash, value of options coin, equity coin,
        open structures, stale marks.
    """
    (dte_min, dte_target, dte_max, hour, max_open_f, take_profit, stop_loss, days_left) = rules[:8]
    (min_premium, max_spread, min_interest, tolerance, collateral, share, latency, crossing) = rules[8:16]
    legs = leg_sell.size
    max_open = int(max_open_f)
    snapshots = known_at.size
    fills = np.empty((4 * snapshots * legs + 8, 10))
    n_fills = 0
    decisions = np.empty((snapshots * (2 * max_open + 2) + 8, 12))
    n_decisions = 0
    equity = np.empty((snapshots, 6))

    p_trade = np.full(max_open, -1, dtype=np.int64)
    p_qty = np.zeros(max_open)
    p_premium = np.zeros(max_open)
    p_expiry = np.zeros(max_open, dtype=np.int64)
    p_due = np.full(max_open, -1, dtype=np.int64)
    p_why = np.zeros(max_open, dtype=np.int64)
    p_contract = np.zeros((max_open, MAX_LEGS), dtype=np.int64)
    p_row = np.zeros((max_open, MAX_LEGS), dtype=np.int64)
    p_value = np.zeros((max_open, MAX_LEGS))  # last known mark
    nothing = np.int64(-1)
    o_due = nothing  # an order to open that waits for its latency
    o_qty = 0.0
    o_row = np.zeros(MAX_LEGS, dtype=np.int64)
    chosen = np.zeros(MAX_LEGS, dtype=np.int64)

    coin, usd = capital_coin, capital_usd
    trades = 0
    last_day = np.int64(-1)
    for s in range(snapshots):
        now = known_at[s]
        # contracts whose delivery price is known
        for p in range(max_open):
            if p_trade[p] < 0 or p_expiry[p] > now:
                continue
            ready = True
            for leg in range(legs):
                c = p_contract[p, leg]
                if math.isnan(settle_price[c]) or settle_known[c] > now:
                    ready = False
            if not ready:
                continue
            for leg in range(legs):
                c = p_contract[p, leg]
                price = settle_price[c]
                k = contract_strike[c]
                worth = max(price - k, 0.0) / price if contract_call[c] == 1 else max(k - price, 0.0) / price
                qty = p_qty[p] * leg_ratio[leg]
                paid = min(delivery[c, 0], delivery[c, 1] * worth) * qty
                signed = qty if leg_sell[leg] else -qty
                coin += -signed * worth - paid
                _fill(fills, n_fills, p_trade[p], leg, F_SETTLE, s, -1, c, signed, worth, paid, p_expiry[p])
                n_fills += 1
            _decide(
                decisions, n_decisions, s, p_trade[p], EXPIRE, R_SETTLED, -1, p_contract[p, 0], 0.0, 0.0, p_premium[p], 0, p_qty[p], now
            )
            n_decisions += 1
            p_trade[p] = -1
        # follow held contracts to their row at or before this snapshot
        stale = 0
        for p in range(max_open):
            if p_trade[p] < 0:
                continue
            for leg in range(legs):
                r = p_row[p, leg]
                while next_row[r] >= 0 and row_snapshot[next_row[r]] <= s:
                    r = next_row[r]
                p_row[p, leg] = r
                if row_snapshot[r] == s and mark[r] > 0.0:
                    p_value[p, leg] = mark[r]
                elif row_snapshot[r] == s and bid[r] > 0.0 and ask[r] > 0.0:
                    p_value[p, leg] = 0.5 * (bid[r] + ask[r])
                else:
                    stale += 1
        # an order to open that is due
        if o_due >= 0 and now >= o_due:
            free = -1
            for p in range(max_open):
                if p_trade[p] < 0 and free < 0:
                    free = p
            ok = free >= 0
            for leg in range(legs):
                r = o_row[leg]
                while next_row[r] >= 0 and row_snapshot[next_row[r]] <= s:
                    r = next_row[r]
                chosen[leg] = r
                if row_snapshot[r] != s or math.isnan(fill_price(bid[r], ask[r], not leg_sell[leg], crossing)):
                    ok = False
            qty = o_qty
            if ok:
                qty = min(
                    qty,
                    _room(
                        coin,
                        usd,
                        index[s],
                        p_trade,
                        p_qty,
                        p_contract,
                        contract_strike,
                        contract_call,
                        leg_sell,
                        leg_call,
                        leg_ratio,
                        strike,
                        chosen,
                        collateral,
                        share,
                        lot,
                    ),
                )
                ok = qty > 0.0
            o_due = nothing
            if ok:
                coin, n_fills = _open(
                    s,
                    trades,
                    free,
                    qty,
                    chosen,
                    now,
                    fills,
                    n_fills,
                    coin,
                    fee,
                    leg_sell,
                    leg_ratio,
                    bid,
                    ask,
                    mark,
                    crossing,
                    row_contract,
                    contract_expiry,
                    p_trade,
                    p_qty,
                    p_premium,
                    p_expiry,
                    p_due,
                    p_contract,
                    p_row,
                    p_value,
                )
                trades += 1
            else:
                _decide(decisions, n_decisions, s, -1, CANCEL, R_NOT_QUOTED, chosen[0], row_contract[chosen[0]], 0.0, 0.0, 0.0, 0, 0.0, now)
                n_decisions += 1
        # judge open positions
        count = 0
        for p in range(max_open):
            if p_trade[p] >= 0:
                count += 1
        for p in range(max_open):
            if p_trade[p] < 0 or p_expiry[p] <= now:
                continue
            if (
                row_snapshot[p_row[p, 0]] == s
                and fills[n_fills - 1, 0] == p_trade[p]
                and fills[n_fills - 1, 2] == F_OPEN
                and fills[n_fills - 1, 3] == s
            ):
                continue  # opened at this very snapshot by an order that waited
            cost = 0.0
            for leg in range(legs):
                r = p_row[p, leg]
                price = math.nan
                if row_snapshot[r] == s:
                    price = fill_price(bid[r], ask[r], leg_sell[leg], crossing)
                cost += price * leg_ratio[leg] * (1.0 if leg_sell[leg] else -1.0)
            left = (p_expiry[p] - now) / DAY_US
            action, why = HOLD, R_RULES_HOLD
            if math.isnan(cost):
                why = R_WAITING if p_due[p] >= 0 else R_NOT_QUOTED
            elif p_due[p] >= 0:
                if now >= p_due[p]:
                    action, why = CLOSE, p_why[p]
                else:
                    why = R_WAITING
            else:
                profit = p_premium[p] - cost
                if take_profit > 0.0 and profit >= take_profit * p_premium[p]:
                    action, why = CLOSE, R_TAKE_PROFIT
                elif stop_loss > 0.0 and -profit >= stop_loss * p_premium[p]:
                    action, why = CLOSE, R_STOP
                elif days_left >= 0.0 and left <= days_left:
                    action, why = CLOSE, R_DAYS_LEFT
            row = p_row[p, 0]
            fresh = row if row_snapshot[row] == s else -1
            if action == CLOSE and p_due[p] < 0 and latency > 0.0:
                p_due[p] = now + np.int64(latency * 1e6)
                p_why[p] = why
                _decide(
                    decisions,
                    n_decisions,
                    s,
                    p_trade[p],
                    CLOSE,
                    why,
                    fresh,
                    p_contract[p, 0],
                    left,
                    cost,
                    p_premium[p],
                    count,
                    p_qty[p],
                    now,
                )
                n_decisions += 1
                continue
            decided = p_due[p] < 0
            if decided:
                _decide(
                    decisions,
                    n_decisions,
                    s,
                    p_trade[p],
                    action,
                    why,
                    fresh,
                    p_contract[p, 0],
                    left,
                    cost,
                    p_premium[p],
                    count,
                    p_qty[p],
                    now,
                )
                n_decisions += 1
            if action == CLOSE:
                for leg in range(legs):
                    r = p_row[p, leg]
                    price = fill_price(bid[r], ask[r], leg_sell[leg], crossing)
                    qty = p_qty[p] * leg_ratio[leg]
                    paid = min(fee[s, 0], fee[s, 1] * price) * qty
                    signed = qty if leg_sell[leg] else -qty
                    coin += -signed * price - paid
                    _fill(fills, n_fills, p_trade[p], leg, F_CLOSE, s, r, p_contract[p, leg], signed, price, paid, now)
                    n_fills += 1
                p_trade[p] = -1
                p_due[p] = -1
                count -= 1
        # one entry a day, at the first snapshot at or after the hour
        day = now // DAY_US
        if day != last_day and (now - day * DAY_US) >= hour * 3_600_000_000 and o_due < 0:
            why, qty, left = R_MAX_OPEN, 0.0, 0.0
            premium = 0.0
            chosen[0] = -1
            if count < max_open:
                why, left = _choose(
                    s,
                    now,
                    snapshot_group,
                    group_expiry,
                    group_call,
                    group_row,
                    strike,
                    bid,
                    ask,
                    delta,
                    open_interest,
                    leg_sell,
                    leg_call,
                    leg_delta,
                    leg_ratio,
                    dte_min,
                    dte_target,
                    dte_max,
                    min_premium,
                    max_spread,
                    min_interest,
                    tolerance,
                    crossing,
                    chosen,
                )
                if why == R_ENTERED:
                    for leg in range(legs):
                        r = chosen[leg]
                        premium += (
                            fill_price(bid[r], ask[r], not leg_sell[leg], crossing) * leg_ratio[leg] * (1.0 if leg_sell[leg] else -1.0)
                        )
                    qty = _room(
                        coin,
                        usd,
                        index[s],
                        p_trade,
                        p_qty,
                        p_contract,
                        contract_strike,
                        contract_call,
                        leg_sell,
                        leg_call,
                        leg_ratio,
                        strike,
                        chosen,
                        collateral,
                        share,
                        lot,
                    )
                    if not qty > 0.0:
                        why = R_CAPITAL
            entered = why == R_ENTERED
            row = chosen[0]
            _decide(
                decisions,
                n_decisions,
                s,
                trades if entered else -1,
                OPEN if entered else SKIP,
                why,
                row,
                row_contract[row] if row >= 0 else -1,
                left,
                premium,
                premium,
                count,
                qty,
                now,
            )
            n_decisions += 1
            if entered:
                last_day = day
                if latency > 0.0:
                    o_due = now + np.int64(latency * 1e6)
                    o_qty = qty
                    for leg in range(legs):
                        o_row[leg] = chosen[leg]
                else:
                    free = -1
                    for p in range(max_open):
                        if p_trade[p] < 0 and free < 0:
                            free = p
                    coin, n_fills = _open(
                        s,
                        trades,
                        free,
                        qty,
                        chosen,
                        now,
                        fills,
                        n_fills,
                        coin,
                        fee,
                        leg_sell,
                        leg_ratio,
                        bid,
                        ask,
                        mark,
                        crossing,
                        row_contract,
                        contract_expiry,
                        p_trade,
                        p_qty,
                        p_premium,
                        p_expiry,
                        p_due,
                        p_contract,
                        p_row,
                        p_value,
                    )
                    trades += 1
                    count += 1
            elif why == R_MAX_OPEN:
                last_day = day  # full: nothing to look for until tomorrow
        # strike the equity
        options = 0.0
        for p in range(max_open):
            if p_trade[p] >= 0:
                for leg in range(legs):
                    options += p_value[p, leg] * p_qty[p] * leg_ratio[leg] * (-1.0 if leg_sell[leg] else 1.0)
        _strike(equity, s, coin, usd, options, coin + usd / index[s] + options, count, stale)
    return fills[:n_fills].copy(), decisions[:n_decisions].copy(), equity


@njit(cache=True)
def _choose(  # type: ignore[no-untyped-def]
    s,
    now,
    snapshot_group,
    group_expiry,
    group_call,
    group_row,
    strike,
    bid,
    ask,
    delta,
    open_interest,
    leg_sell,
    leg_call,
    leg_delta,
    leg_ratio,
    dte_min,
    dte_target,
    dte_max,
    min_premium,
    max_spread,
    min_interest,
    tolerance,
    crossing,
    chosen,
):
    """Fill `chosen` with a row per leg of the expiry nearest the target; returns the reason and the days to expiry."""
    best_expiry, best_gap = np.int64(-1), math.inf
    for g in range(snapshot_group[s], snapshot_group[s + 1]):
        days = (group_expiry[g] - now) / DAY_US
        if days < dte_min or days > dte_max:
            continue
        gap = abs(days - dte_target)
        if gap < best_gap:
            best_expiry, best_gap = group_expiry[g], gap
    if best_expiry < 0:
        return R_NO_EXPIRY, 0.0
    left = (best_expiry - now) / DAY_US
    premium = 0.0
    for leg in range(leg_sell.size):
        r = -1
        for g in range(snapshot_group[s], snapshot_group[s + 1]):
            if group_expiry[g] == best_expiry and (group_call[g] == 1) == leg_call[leg]:
                r = pick_leg(group_row[g], group_row[g + 1], strike, delta, leg_call[leg], leg_delta[leg], tolerance)
        if r < 0:
            chosen[0] = -1
            return R_NO_DELTA, left
        chosen[leg] = r
        price = fill_price(bid[r], ask[r], not leg_sell[leg], crossing)
        if math.isnan(price):
            return R_NO_QUOTE, left
        if min_interest > 0.0 and not open_interest[r] >= min_interest:
            return R_INTEREST, left
        if bid[r] > 0.0 and ask[r] > 0.0 and ask[r] - bid[r] > max_spread * 0.5 * (bid[r] + ask[r]):
            return R_SPREAD, left
        premium += price * leg_ratio[leg] * (1.0 if leg_sell[leg] else -1.0)
    if premium < min_premium:
        return R_PREMIUM, left
    return R_ENTERED, left


@njit(cache=True)
def _room(  # type: ignore[no-untyped-def]
    coin,
    usd,
    spot,
    p_trade,
    p_qty,
    p_contract,
    contract_strike,
    contract_call,
    leg_sell,
    leg_call,
    leg_ratio,
    strike,
    chosen,
    collateral,
    share,
    lot,
):
    """Contracts that the free capital secures, floored to the lot.

    0 coin: short calls never exceed coins held. 1 cash: the strikes of short puts never exceed the cash. 2 margin: a coin per unit.
    """
    legs = leg_sell.size
    calls, cash, units = 0.0, 0.0, 0.0
    for p in range(p_trade.size):
        if p_trade[p] < 0:
            continue
        units += p_qty[p]
        for leg in range(legs):
            if leg_sell[leg]:
                if leg_call[leg]:
                    calls += p_qty[p] * leg_ratio[leg]
                else:
                    cash += p_qty[p] * leg_ratio[leg] * contract_strike[p_contract[p, leg]]
    short_calls, short_cash = 0.0, 0.0
    for leg in range(legs):
        if leg_sell[leg]:
            if leg_call[leg]:
                short_calls += leg_ratio[leg]
            else:
                short_cash += leg_ratio[leg] * strike[chosen[leg]]
    if collateral == 0.0:
        room = (share * coin - calls) / short_calls if short_calls > 0.0 else share * coin - units
    elif collateral == 1.0:
        # losses in coin eat the cash that secures: what the coin account owes is set aside first
        room = (share * (usd + min(coin, 0.0) * spot) - cash) / short_cash if short_cash > 0.0 else 0.0
    else:
        room = share * (coin + usd / spot) - units
    return max(math.floor(room / lot + 1e-9) * lot, 0.0)


@njit(cache=True)
def _open(  # type: ignore[no-untyped-def]
    s,
    trade,
    p,
    qty,
    chosen,
    now,
    fills,
    n_fills,
    coin,
    fee,
    leg_sell,
    leg_ratio,
    bid,
    ask,
    mark,
    crossing,
    row_contract,
    contract_expiry,
    p_trade,
    p_qty,
    p_premium,
    p_expiry,
    p_due,
    p_contract,
    p_row,
    p_value,
):
    """Fill an opening order into slot p; returns coin cash and the number of fills."""
    premium = 0.0
    for leg in range(leg_sell.size):
        r = chosen[leg]
        price = fill_price(bid[r], ask[r], not leg_sell[leg], crossing)
        amount = qty * leg_ratio[leg]
        paid = min(fee[s, 0], fee[s, 1] * price) * amount
        signed = -amount if leg_sell[leg] else amount
        coin += -signed * price - paid
        premium += price * leg_ratio[leg] * (1.0 if leg_sell[leg] else -1.0)
        c = row_contract[r]
        _fill(fills, n_fills, trade, leg, F_OPEN, s, r, c, signed, price, paid, now)
        n_fills += 1
        p_contract[p, leg] = c
        p_row[p, leg] = r
        p_value[p, leg] = mark[r] if mark[r] > 0.0 else price
    p_trade[p] = trade
    p_qty[p] = qty
    p_premium[p] = premium
    p_expiry[p] = contract_expiry[row_contract[chosen[0]]]
    p_due[p] = -1
    return coin, n_fills
