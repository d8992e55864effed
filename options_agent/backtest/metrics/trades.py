"""Metrics of trades and fills. NaN where one is not defined: a mean over no trades is not 0."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from options_agent.compiled import compiled

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ClosedTrades:
    """Trades that were closed or settled, as arrays in the order they were opened.

    Attributes:
        profit_coin, profit_usd: after fees.
        days: held.
        premium: taken in at the opening less paid, coin.
        kept: of it, after closing costs and payoffs, before fees, coin.
        assigned: settled in the money.
    """

    profit_coin: NDArray[np.float64]
    profit_usd: NDArray[np.float64]
    days: NDArray[np.float64]
    premium: NDArray[np.float64]
    kept: NDArray[np.float64]
    assigned: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fills:
    """Fills as arrays.

    Attributes:
        contracts: sold below 0.
        price, fee: coin; price per contract.
        index: USD, of the fill's time.
        mid: coin per contract, NaN where either side was not quoted; None where the run does not have it.
        traded, opening: fills on quotes (not settlements); of these the opening ones.
    """

    contracts: NDArray[np.float64]
    price: NDArray[np.float64]
    fee: NDArray[np.float64]
    index: NDArray[np.float64]
    mid: NDArray[np.float64] | None
    traded: NDArray[np.bool_]
    opening: NDArray[np.bool_]


def closed_trades(trades: pa.Table) -> ClosedTrades:
    """The closed rows of a run's `trades`."""
    rows = [t for t in trades.to_pylist() if t["closed_at"] is not None]

    def column(name: str) -> NDArray[np.float64]:
        return np.array([t[name] for t in rows], dtype=np.float64)

    premium = column("premium_coin")
    return ClosedTrades(
        profit_coin=column("profit_coin"),
        profit_usd=column("profit_usd"),
        days=np.array([(t["closed_at"] - t["opened_at"]).total_seconds() / 86_400 for t in rows], dtype=np.float64),
        premium=premium,
        kept=premium - column("closing_coin") - column("payoff_coin"),
        assigned=np.array([t["exit"] == "settled" and t["payoff_coin"] > 0 for t in rows], dtype=bool),
    )


def settles_in_usd(fills: pa.Table) -> bool:
    """Whether a run's contracts are linear: its prices, fees and hedges are in USD. A run has one kind."""
    return "currency" in fills.column_names and fills["currency"].to_pylist()[:1] == ["usd"]


def fills_of(fills: pa.Table) -> Fills:
    """A run's `fills`."""
    kind = np.array(fills["kind"].to_pylist(), dtype=object)
    contracts, price, fee, index = (fills[n].to_numpy() for n in ("contracts", "price", "fee", "index"))
    mid = fills["mid"].to_numpy() if "mid" in fills.column_names else None
    if settles_in_usd(fills):
        coin = 1 / index
        price, fee, mid = price * coin, fee * coin, None if mid is None else mid * coin
    opening = np.asarray(kind == "open", dtype=bool)
    return Fills(contracts, price, fee, index, mid, opening | np.asarray(kind == "close", dtype=bool), opening)


@compiled()
def total(values: NDArray[np.float64]) -> float:
    """The sum, in order."""
    out = 0.0
    for value in values:
        out += value
    return out


@compiled()
def mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    """The mean; NaN of none."""
    return values.sum() / values.size if values.size else math.nan


@compiled()
def profit_factor(profits: NDArray[np.float64]) -> float:
    """Won over lost; NaN where nothing was lost."""
    won, lost = 0.0, 0.0
    for profit in profits:
        won += max(profit, 0.0)
        lost -= min(profit, 0.0)
    return won / lost if lost > 0.0 else math.nan


def payoff_ratio(profits: NDArray[np.float64]) -> float:
    """Average win over the size of the average loss; NaN without a win or without a loss."""
    return mean(profits[profits > 0]) / -mean(profits[profits < 0])


def expectancy(profits: NDArray[np.float64]) -> float:
    """Average trade over the size of the average loss; NaN without a loss."""
    return mean(profits) / -mean(profits[profits < 0])


def losing_streak(profits: NDArray[np.float64]) -> float:
    """Most losing trades in a row; NaN without trades."""
    if profits.size == 0:
        return math.nan
    longest = run = 0
    for lost in profits < 0:
        run = run + 1 if lost else 0
        longest = max(longest, run)
    return float(longest)


def premium_captured(trades: ClosedTrades) -> float:
    """Kept of the premium taken in, over closed trades that took some; below 0 where closing cost more than it brought."""
    sold = trades.premium > 0
    return float(trades.kept[sold].sum() / trades.premium[sold].sum()) if sold.any() else math.nan


def fees(fills: Fills, *, usd: bool) -> float:
    """Fees paid; in USD at the index of each fill."""
    return float(total(fills.fee * fills.index if usd else fills.fee))


def slippage(fills: Fills, *, usd: bool) -> float:
    """Paid for crossing from the mid, over fills with both sides quoted; NaN where mids are not known or nothing was traded."""
    if fills.mid is None:
        return math.nan
    known = fills.traded & np.isfinite(fills.mid)
    paid = ((fills.price - fills.mid) * fills.contracts)[known]
    return float((paid * fills.index[known] if usd else paid).sum()) if known.any() else math.nan


def premium(fills: Fills) -> float:
    """Premium taken in less premium paid, at openings and closings, coin."""
    return float(-(fills.contracts * fills.price)[fills.traded].sum())


def premium_sold(fills: Fills) -> float:
    """Premium of options sold to open, coin."""
    sold = fills.opening & (fills.contracts < 0)
    return float(-(fills.contracts * fills.price)[sold].sum())
