"""A saved run's trades, each with what its fills and decisions say of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.backtest.aligned import iso
from options_agent.backtest.saved_runs import times

if TYPE_CHECKING:
    from collections.abc import Iterable

    from options_agent.backtest.saved_runs import SavedRun

#: What a trade's profit is made of; the sign with which each enters it.
PARTS: Final = {"premium": 1.0, "closing": -1.0, "payoff": -1.0, "fees": -1.0}


#: Decisions that leave a trade as it is.
_NO_END: Final = ("open", "skip", "hold", "cancel")
ROLLED: Final = ", rolled"


@dataclass(frozen=True, slots=True)
class Leg:
    """Fills of one instrument at the opening or the end of a trade.

    Attributes:
        contracts: sold below 0.
        price, fee: in the settlement currency; price per contract.
        mid: of the quotes then, None where a side was missing.
        source: what the price is from (`quote`, `model`, `maker`), None where the run does not say.
    """

    contracts: float
    price: float
    fee: float
    mid: float | None
    source: str | None


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade with what its fills and decisions say of it. Times are microseconds UTC, amounts coin (USDC for linear)."""

    trade: int
    opened: int
    closed: int | None
    exit: str | None
    reason: str | None
    instruments: tuple[str, ...]
    contracts: float
    settlement: str | None
    settlement_price: float | None
    parts: dict[str, float]
    profit: float
    profit_usd: float
    opening: dict[str, Leg]
    closing: dict[str, Leg]

    def as_dict(self) -> dict[str, Any]:
        """For the document."""
        return {
            "trade": self.trade,
            "opened_at": iso(self.opened),
            "closed_at": iso(self.closed),
            "exit": self.exit,
            "exit_reason": self.reason,
            "instruments": list(self.instruments),
            "contracts": self.contracts,
            "profit_coin": self.profit,
            "profit_usd": self.profit_usd,
        }


def read_trades(run: SavedRun) -> list[Trade]:
    """Every trade of a run whose tables of trades and fills can be read; the reasons of exits where its decisions can be, too."""
    if run.trades is None or run.fills is None:
        return []
    reasons = _reasons(run)
    fills: dict[int, list[dict[str, Any]]] = {}
    for fill in run.fills.to_pylist():
        fills.setdefault(fill["trade"], []).append(fill)
    opened, closed = times(run.trades, "opened_at"), times(run.trades, "closed_at")
    found = []
    for n, row in enumerate(run.trades.to_pylist()):
        mine = fills.get(row["trade"], [])
        over = row["closed_at"] is not None
        found.append(
            Trade(
                trade=row["trade"],
                opened=int(opened[n]),
                closed=int(closed[n]) if over else None,
                exit=row["exit"] if over else None,
                reason=reasons.get(row["trade"]) if over else None,
                instruments=tuple(row["instruments"] or ()),
                contracts=row["contracts"],
                settlement=row.get("settlement"),
                settlement_price=row.get("settlement_price"),
                parts={part: row[f"{part}_coin"] for part in PARTS},
                profit=row["profit_coin"],
                profit_usd=row["profit_usd"],
                opening=_legs(f for f in mine if f["kind"] == "open"),
                closing=_legs(f for f in mine if f["kind"] != "open"),
            )
        )
    return found


def _reasons(run: SavedRun) -> dict[int, str]:
    """Why each trade ended: the reason of its last decision that was not to hold it; with `, rolled` where it was opened anew at once."""
    if run.decisions is None:
        return {}
    rows = zip(*(run.decisions[name].to_pylist() for name in ("trade", "action", "reason")), strict=True)
    ended = [(trade, action, reason) for trade, action, reason in rows if trade is not None and action not in _NO_END]
    return {trade: f"{reason}{ROLLED}" if action == "roll" else reason for trade, action, reason in ended}


def _legs(fills: Iterable[dict[str, Any]]) -> dict[str, Leg]:
    """Fills by instrument; several of one are put together at their mean price."""
    found: dict[str, Leg] = {}
    for f in fills:
        mid = f.get("mid")
        mid = None if mid is None or math.isnan(mid) else mid
        former = found.get(f["instrument"])
        size = f["contracts"] + (former.contracts if former else 0.0)
        price, fee = f["price"], f["fee"]
        if former is not None and size:
            price = (former.price * former.contracts + price * f["contracts"]) / size
            fee, mid = fee + former.fee, None
        found[f["instrument"]] = Leg(size, price, fee, mid, f.get("source"))
    return found


def ending(trade: Trade) -> str:
    """`take_profit`, `settled`, `open`: how it ended; by kind alone where no decision says why."""
    return "open" if trade.closed is None else trade.reason or trade.exit or "closed"
