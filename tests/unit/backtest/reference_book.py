"""What the slow reference keeps books of: structures, the orders they wait for, and what a play leaves behind."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]


@dataclass
class Waiting:
    """An order: due at a time, and once it rests (`posted`) with a limit and a queue for every leg."""

    due: dt.datetime
    units: float = 0.0
    why: str = ""
    roll: bool = False
    owed: float | None = None  # of an entry that rolls: what closing a unit took
    posted: dt.datetime | None = None
    limits: dict[int, float] = field(default_factory=dict)
    queues: dict[int, float] = field(default_factory=dict)


@dataclass
class Structure:
    """An ordered (`entry` is set) or open structure in a slot. Lists run over legs."""

    legs: list[dict[str, Any]]
    phase: int
    units: float
    rows: list[Row]  # a leg's last known row
    values: list[float]
    deltas: list[float]
    entry: Waiting | None
    closing: Waiting | None = None
    gone: list[bool] = field(default_factory=list)  # settled or closed
    number: int = -1  # of its trade
    premium: float = 0.0  # a unit's
    born: int = -1

    @property
    def first_expiry(self) -> dt.datetime:
        """The expiry of the structure: that of its first leg."""
        expiry: dt.datetime = self.rows[0]["expiry"]
        return expiry


@dataclass
class Fill:
    """A price, its fee for a contract's worth (taker or maker), and whether it was modelled."""

    price: float
    model: bool = False
    maker: bool = False


@dataclass
class Outcome:
    """What was played. Amounts in coin unless a name says USD; `fee` of a fill is in the options' currency.

    Attributes:
        trades: opened_at, closed_at, exit, why, instruments, units, in, out, fees, profit, profit_usd, method, settlement_price.
        equity: ts, coin (equity), usd (equity), cash, usd_cash, options, notional (perpetual), im, mm, open, delta.
        decisions: (now, action, reason).
        fills: at, trade, leg, kind, instrument, contracts (sold below 0), price, fee, model, maker.
        moves: at, kind (carry, funding, hedge_fee, conversion), currency, amount.
    """

    trades: list[dict[str, Any]] = field(default_factory=list)
    equity: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[tuple[dt.datetime, str, str]] = field(default_factory=list)
    fills: list[dict[str, Any]] = field(default_factory=list)
    moves: list[dict[str, Any]] = field(default_factory=list)


def sign(leg: dict[str, Any]) -> float:
    """-1 for what is sold to open, 1 for what is bought."""
    return -1.0 if leg["side"] == "sell" else 1.0


def positive(number: float | None) -> bool:
    """Known and above 0."""
    return number is not None and number > 0


def mid(row: Row) -> float | None:
    """Middle of the quotes, None unless both sides are there."""
    if not positive(row["bid"]) or not positive(row["ask"]):
        return None
    middle: float = (row["bid"] + row["ask"]) / 2
    return middle
