"""Compiled parts of an order: which rows a strategy wants, what a fill costs, how much the capital secures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numba import njit

from options_agent.backtest.codes import ENTERED, NO_DELTA, NO_EXPIRY, NO_QUOTE, OPEN_INTEREST, PREMIUM, SPREAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from options_agent.backtest.history import History

DAY_US = 86_400_000_000
_ADDED = ("settle_price", "settle_known", "fee", "delivery")
Kernel = TypeVar("Kernel", bound="Callable[..., Any]")
COIN, CASH, MARGIN = 0.0, 1.0, 2.0
FREE, NONE = -1, -1


def inner(function: Kernel) -> Kernel:
    """Compile for calls from compiled code only: wrappers that unpack all these arrays for Python take longer than the loop."""
    compiled: Kernel = njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)  # type: ignore[call-overload]
    return compiled


class Market(NamedTuple):
    """Arrays of a `History`, and what one run adds to them.

    `settle_price`, `settle_known`: (contracts,) USD (NaN: none) and microseconds. `fee`: (snapshots, 2) rate and cap; `delivery`:
    (contracts, 2) likewise. `spot`: the history's index. All others as `history` documents them.
    """

    known_at: NDArray[np.int64]
    spot: NDArray[np.float64]
    snapshot_group: NDArray[np.int64]
    group_expiry: NDArray[np.int64]
    group_call: NDArray[np.int8]
    group_row: NDArray[np.int64]
    row_snapshot: NDArray[np.int32]
    row_contract: NDArray[np.int32]
    next_row: NDArray[np.int64]
    strike: NDArray[np.float64]
    bid: NDArray[np.float64]
    ask: NDArray[np.float64]
    mark: NDArray[np.float64]
    delta: NDArray[np.float64]
    open_interest: NDArray[np.float64]
    contract_expiry: NDArray[np.int64]
    contract_strike: NDArray[np.float64]
    contract_call: NDArray[np.int8]
    settle_price: NDArray[np.float64]
    settle_known: NDArray[np.int64]
    fee: NDArray[np.float64]
    delivery: NDArray[np.float64]


class Legs(NamedTuple):
    """Legs as arrays, each (legs,): `side` is -1 where sold and 1 where bought."""

    side: NDArray[np.float64]
    call: NDArray[np.bool_]
    delta: NDArray[np.float64]
    ratio: NDArray[np.float64]


class Rules(NamedTuple):
    """Every rule as a number; a negative exit rule is off."""

    dte_min: float
    dte_target: float
    dte_max: float
    hour_utc: float
    max_open: float
    take_profit: float
    stop_loss: float
    days_left: float
    min_premium: float
    max_spread: float
    min_open_interest: float
    delta_tolerance: float
    collateral: float
    share: float
    latency_us: float
    crossing: float
    lot: float


class Book(NamedTuple):
    """Open positions by slot, (slots,) or (slots, legs), and the one order that waits.

    `trade` is -1 where a slot is free; `cash` is coin and USD; `chosen` is where an entry's rows are put.
    """

    trade: NDArray[np.int64]
    units: NDArray[np.float64]
    premium: NDArray[np.float64]
    expiry: NDArray[np.int64]
    opened: NDArray[np.int64]
    due: NDArray[np.int64]
    contract: NDArray[np.int64]
    row: NDArray[np.int64]
    value: NDArray[np.float64]
    cash: NDArray[np.float64]
    order_due: NDArray[np.int64]
    order_units: NDArray[np.float64]
    order_row: NDArray[np.int64]
    chosen: NDArray[np.int64]


@inner
def fill_price(market: Market, row: int, buying: bool, crossing: float) -> float:
    """Price of a fill that pays `crossing` of the half-spread from the mid; NaN where the side needed is missing."""
    bid, ask = float(market.bid[row]), float(market.ask[row])
    need, other = (ask, bid) if buying else (bid, ask)
    if not need > 0.0:
        return math.nan
    if not other > 0.0:
        return need
    mid = 0.5 * (bid + ask)
    return mid + (need - mid) * crossing


@inner
def pick_row(market: Market, group: int, target: float, tolerance: float) -> int:
    """Row of a group whose absolute delta is nearest the target, the lower strike at a tie; -1 where none is within the tolerance."""
    best, gap = -1, math.inf
    for row in range(market.group_row[group], market.group_row[group + 1]):
        distance = abs(abs(market.delta[row]) - target)
        if distance <= tolerance and distance < gap:
            best, gap = row, distance
    return best


@inner
def choose(s: int, market: Market, legs: Legs, rules: Rules, chosen: NDArray[np.int64]) -> tuple[float, float, float]:
    """Fill `chosen` with a row per leg at the expiry nearest the target.

    Returns:
        Reason (ENTERED where every leg passes), days to expiry, premium of a unit in coin. `chosen[0]` is -1 where no row was found.
    """
    chosen[0] = -1
    first, last = market.snapshot_group[s], market.snapshot_group[s + 1]
    expiry, gap = market.known_at[s], math.inf
    for group in range(first, last):
        days = (market.group_expiry[group] - market.known_at[s]) / DAY_US
        if rules.dte_min <= days <= rules.dte_max and abs(days - rules.dte_target) < gap:
            expiry, gap = market.group_expiry[group], abs(days - rules.dte_target)
    if gap == math.inf:
        return NO_EXPIRY, 0.0, 0.0
    left = (expiry - market.known_at[s]) / DAY_US
    premium = 0.0
    for leg in range(legs.side.size):
        row = -1
        for group in range(first, last):
            if market.group_expiry[group] == expiry and (market.group_call[group] == 1) == legs.call[leg]:
                row = pick_row(market, group, legs.delta[leg], rules.delta_tolerance)
        if row < 0:
            chosen[0] = -1
            return NO_DELTA, left, 0.0
        chosen[leg] = row
        price = fill_price(market, row, legs.side[leg] > 0, rules.crossing)
        if math.isnan(price):
            return NO_QUOTE, left, 0.0
        if rules.min_open_interest > 0.0 and not market.open_interest[row] >= rules.min_open_interest:
            return OPEN_INTEREST, left, 0.0
        bid, ask = market.bid[row], market.ask[row]
        if bid > 0.0 and ask > 0.0 and ask - bid > rules.max_spread * 0.5 * (bid + ask):
            return SPREAD, left, 0.0
        premium -= legs.side[leg] * price * legs.ratio[leg]
    if premium < rules.min_premium:
        return PREMIUM, left, premium
    return ENTERED, left, premium


@inner
def room(spot: float, market: Market, legs: Legs, rules: Rules, book: Book, chosen: NDArray[np.int64]) -> float:
    """Units that the free capital secures, floored to the lot.

    Coin: short calls never exceed coins held. Cash: the strikes of short puts never exceed the cash, less what is owed in coin.
    Margin: a coin of equity in cash per unit.
    """
    calls, strikes, units, needs_calls, needs_strikes = 0.0, 0.0, 0.0, 0.0, 0.0
    for leg in range(legs.side.size):
        if legs.side[leg] < 0:
            if legs.call[leg]:
                needs_calls += legs.ratio[leg]
            else:
                needs_strikes += legs.ratio[leg] * market.strike[chosen[leg]]
    for p in range(book.trade.size):
        if book.trade[p] < 0:
            continue
        units += book.units[p]
        for leg in range(legs.side.size):
            if legs.side[leg] < 0:
                contracts = book.units[p] * legs.ratio[leg]
                if legs.call[leg]:
                    calls += contracts
                else:
                    strikes += contracts * market.contract_strike[book.contract[p, leg]]
    coin, usd = float(book.cash[0]), float(book.cash[1])
    if rules.collateral == COIN:
        free = (rules.share * coin - calls) / needs_calls if needs_calls > 0.0 else rules.share * coin - units
    elif rules.collateral == CASH:
        free = (rules.share * (usd + min(coin, 0.0) * spot) - strikes) / needs_strikes if needs_strikes > 0.0 else 0.0
    else:
        free = rules.share * (coin + usd / spot) - units
    return max(math.floor(free / rules.lot + 1e-9) * rules.lot, 0.0)


def empty_book(slots: int, legs: int, coin: float, usd: float) -> Book:
    """No position, no order, and the cash an account starts with."""
    return Book(
        trade=np.full(slots, FREE),
        units=np.zeros(slots),
        premium=np.zeros(slots),
        expiry=np.zeros(slots, np.int64),
        opened=np.zeros(slots, np.int64),
        due=np.full(slots, NONE),
        contract=np.zeros((slots, legs), np.int64),
        row=np.zeros((slots, legs), np.int64),
        value=np.zeros((slots, legs)),
        cash=np.array([coin, usd]),
        order_due=np.full(1, NONE),
        order_units=np.zeros(1),
        order_row=np.zeros(legs, np.int64),
        chosen=np.zeros(legs, np.int64),
    )


def columns_of(history: History) -> dict[str, Any]:
    """The arrays of a history that a `Market` has, read-only: mapped and fresh ones are one type to the compiler."""
    found = {}
    for name in Market._fields[: -len(_ADDED)]:
        array = getattr(history, "index" if name == "spot" else name).view()
        array.flags.writeable = False
        found[name] = array
    return found
