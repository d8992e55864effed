"""What a strategy is: legs and rules as frozen data. The same object is backtested, shown, and later traded.

Nothing here computes; the engine plays it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from options_agent.errors import SettingsError

Side = Literal["sell", "buy"]
Collateral = Literal["coin", "cash", "margin"]
MAX_LEGS = 4


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg: `target_delta` is absolute (0.25 for a put of -0.25); `ratio` contracts per unit of the structure."""

    side: Side
    right: Literal["C", "P"]
    target_delta: float
    ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class Entry:
    """When and how far out: days to expiry within [dte_min, dte_max], nearest to dte_target; at or after `hour_utc`.

    One entry a day at most, and never more than `max_open` structures at once.
    """

    dte_min: float
    dte_target: float
    dte_max: float
    hour_utc: int = 8
    max_open: int = 1


@dataclass(frozen=True, slots=True)
class Exit:
    """Each None means hold to expiry in that respect.

    Attributes:
        take_profit: close when closing would keep this share of the premium.
        stop_loss: close when closing would lose this multiple of the premium.
        days_left: close when this many days or fewer remain.
    """

    take_profit: float | None = None
    stop_loss: float | None = None
    days_left: float | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """A leg that fails one is not traded: premium in coin, spread as a share of the mid, open interest in contracts."""

    min_premium: float = 0.0005
    max_spread: float = 0.5
    min_open_interest: float = 0.0
    delta_tolerance: float = 0.12


@dataclass(frozen=True, slots=True)
class Strategy:
    """A named structure with its rules.

    `collateral` says what secures it: `coin` (no more short calls than coins), `cash` (the strike of every short put in USD),
    `margin` (one coin per unit of the structure). `share` of the capital is put to work.
    """

    name: str
    family: str
    description: str
    legs: tuple[Leg, ...]
    entry: Entry
    exit: Exit = field(default_factory=Exit)
    filters: Filters = field(default_factory=Filters)
    collateral: Collateral = "coin"
    share: float = 1.0

    def __post_init__(self) -> None:
        problems = []
        if not 1 <= len(self.legs) <= MAX_LEGS:
            problems.append(f"legs: {len(self.legs)}, from 1 to {MAX_LEGS} are possible")
        if not 0 <= self.entry.dte_min <= self.entry.dte_target <= self.entry.dte_max:
            problems.append("days to expiry: min <= target <= max does not hold")
        if not 0 <= self.entry.hour_utc <= 23 or self.entry.max_open < 1:
            problems.append("entry: hour_utc is 0 to 23, max_open at least 1")
        if any(not 0 < leg.target_delta < 1 or leg.ratio <= 0 for leg in self.legs):
            problems.append("a leg's target delta is between 0 and 1 and its ratio positive")
        if not 0 < self.share <= 1:
            problems.append("share is above 0 and at most 1")
        if self.collateral == "cash" and any(leg.side == "sell" and leg.right == "C" for leg in self.legs):
            problems.append("cash does not secure a short call")
        if self.collateral == "coin" and any(leg.side == "sell" and leg.right == "P" for leg in self.legs):
            problems.append("a coin does not secure a short put")
        if problems:
            raise SettingsError(f"strategy {self.name!r} is not sound: {'; '.join(problems)}", remedy="correct the named fields")

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for reports, hashes and the terminal."""
        return asdict(self)

    def in_words(self) -> str:
        """One sentence with every rule, for prompts and tables."""
        legs = " and ".join(
            f"{leg.side} {leg.ratio:g} {leg.target_delta:g}-delta {'call' if leg.right == 'C' else 'put'}" for leg in self.legs
        )
        rules = [f"{legs}, {self.entry.dte_min:g} to {self.entry.dte_max:g} days out (best {self.entry.dte_target:g})"]
        if self.exit.take_profit is not None:
            rules.append(f"take profit at {self.exit.take_profit:.0%} of the premium")
        if self.exit.stop_loss is not None:
            rules.append(f"stop at a loss of {self.exit.stop_loss:g} times the premium")
        rules.append(f"close at {self.exit.days_left:g} days left" if self.exit.days_left is not None else "else hold to expiry")
        return "; ".join(rules) + "."
