"""What each allowed action of a past decision was worth in coin, by quotes that came later. Nothing here enters a message.

Executable prices only: a sold option is bought back at the ask, a bought one sold at the bid, with the exchange's taker fee of the time;
one that expires within the horizon is worth its settlement with the delivery fee. Coin, also for linear contracts (USDC over the index).
"""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from options_agent.backtest.history import History
    from options_agent.backtest.market import Prepared

HORIZON: Final = dt.timedelta(days=3)
_US: Final = dt.timedelta(microseconds=1)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def values_of(row: Mapping[str, Any], *, sold: bool, history: History, prepared: Prepared) -> tuple[dict[str, float], dt.datetime] | None:
    """Value of each action over `HORIZON`, coin, and when it was known; None where quotes or settlement are missing.

    Args:
        row: of a run's decision table, about one leg, named by instrument and snapshot (its `row` is of the layout of the time).
        sold: whether the leg is sold.

    `close` is 0: hold is what the position was worth at the horizon less what closing it pays now. `skip` is 0: open is what came in now
    plus what the position was worth at the horizon. Per decision: times the contracts held, one where none are.
    """
    quote = _quote_of(row, history)
    if quote is None:
        return None
    at = (row["ts"] - _EPOCH) // _US
    later = _worth_later(quote, at, sold=sold, history=history, prepared=prepared)
    contracts = float(row["contracts"] or 1.0)
    if later is None:
        return None
    worth, known = later
    opening = row["action"] in {"open", "skip"}
    now = _traded(quote, sold if opening else not sold, history, prepared)
    if now is None:
        return None
    gain = (worth + now if opening else worth - now) * contracts
    doing, idle = ("open", "skip") if opening else ("hold", "close")
    return {doing: round(gain, 10), idle: 0.0}, _EPOCH + int(known) * _US


def _quote_of(row: Mapping[str, Any], history: History) -> int | None:
    """Row of the quote that was decided upon."""
    if row["instrument"] not in history.instruments:
        return None
    contract, moment = history.instruments.index(row["instrument"]), (row["snapshot"] - _EPOCH) // _US
    at = int(np.searchsorted(history.snapshot, moment))
    if at >= history.snapshots or int(history.snapshot[at]) != moment:
        return None
    groups = history.snaps["group"][at : at + 2]
    first, last = history.groups["first"][groups]
    rows = history.chain["row"][first:last]
    found = rows[history.quotes["contract"][rows] == contract]
    return int(found[0]) if found.size else None


def _traded(quote: int, selling: bool, history: History, prepared: Prepared) -> float | None:
    """Coin that comes in (goes out: below 0) for a contract sold at the bid or bought at the ask, after the fee."""
    price = float(history.quotes["bid" if selling else "ask"][quote])
    if not (math.isfinite(price) and price > 0):
        return None
    snapshot = int(history.quotes["snapshot"][quote])
    index, costs = float(history.index[snapshot]), prepared.market.costs
    rate, cap = float(costs["taker"][snapshot]), float(costs["cap"][snapshot])
    scale = index if prepared.linear else 1.0
    fee = min(rate * scale, cap * price)
    return ((price if selling else -price) - fee) / scale


def _worth_later(quote: int, at: int, *, sold: bool, history: History, prepared: Prepared) -> tuple[float, int] | None:
    """What leaving the position at the horizon, or its settlement before, brings: coin a contract, and when that is known."""
    contract = int(history.quotes["contract"][quote])
    until = at + HORIZON // _US
    if int(history.contracts["expiry"][contract]) <= until:
        return _settled(contract, sold, history, prepared)
    known_at, best = history.known_at, None
    following = int(history.quotes["next"][quote])
    while following >= 0:
        snapshot = int(history.quotes["snapshot"][following])
        if int(known_at[snapshot]) >= until:
            price = _traded(following, not sold, history, prepared)
            if price is not None:
                best = price, int(known_at[snapshot])
                break
        following = int(history.quotes["next"][following])
    return best


def _settled(contract: int, sold: bool, history: History, prepared: Prepared) -> tuple[float, int] | None:
    terms, paid = history.contracts[contract], prepared.market.settled[contract]
    price = float(paid["price"])
    if not (np.isfinite(price) and price > 0):
        return None
    intrinsic = max(price - float(terms["strike"]), 0.0) if terms["call"] else max(float(terms["strike"]) - price, 0.0)
    payoff = intrinsic / price  # coin
    fee = min(float(paid["fee"]), float(paid["fee_cap"]) * payoff)
    return (-payoff if sold else payoff) - fee, int(paid["known_at"])
