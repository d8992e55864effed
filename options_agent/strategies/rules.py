"""What a strategy is: legs and rules as frozen data. The same object is backtested, swept, shown, and later traded.

Nothing here computes; the engine plays it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from options_agent.durable import plain_json
from options_agent.errors import SettingsError

Side = Literal["sell", "buy"]
By = Literal["delta", "moneyness", "premium", "offset"]
Collateral = Literal["coin", "cash", "margin", "standard"]
Capital = Literal["coin", "usd"]
Trigger = Literal["take_profit", "stop", "equity_stop", "delta_breach", "days_left"]
MAX_LEGS: Final = 4
#: Features of the market a rule may ask for, each known at the snapshot it is used on; `regimes.features` defines them.
#: `implied_less_realised` is `implied_vol` less `realised_vol`; `*_rank` is the share of the past year's values below it.
SIGNALS: Final = (
    "trend_return",
    "trend_score",
    "realised_vol",
    "implied_vol",
    "skew",
    "term_slope",
    "implied_less_realised",
    "implied_vol_rank",
    "funding_8h",
    "correlation",
)


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg of a structure.

    Attributes:
        side, right: what is done with which kind of option.
        target: by `by`: absolute delta (0.25 for a put of -0.25); strike over index (1.1: a tenth above); mark in coin; or, for
            `offset`, how far the strike lies from leg `of`'s, as a signed share of the index (0: the same strike).
        ratio: contracts per unit of the structure.
        dte: days to expiry of its own, for calendars and diagonals; None: the structure's expiry.
    """

    side: Side
    right: Literal["C", "P"]
    target: float
    ratio: float = 1.0
    by: By = "delta"
    of: int = 0
    dte: float | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """An entry is allowed only while `feature` is known and within [above, below]; None leaves that side open."""

    feature: str
    above: float | None = None
    below: float | None = None


@dataclass(frozen=True, slots=True)
class Dial:
    """Multiplies by the factor of the last step whose level the feature has reached; 1 below all steps and where it is unknown."""

    feature: str
    steps: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """When and how far out: days to expiry within [dte_min, dte_max], nearest to dte_target; at or after `hour_utc`.

    Attributes:
        max_open: structures at once (a ladder where it is above 1); at most one entry a day.
        every_days: least days between two entries, counted by UTC date.
        weekdays: 0 = Monday; all by default.
        max_per_expiry: an expiry that already holds this many open structures is passed over; None: no cap.
        signals: all must hold.
    """

    dte_min: float
    dte_target: float
    dte_max: float
    hour_utc: int = 8
    max_open: int = 1
    every_days: int = 1
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    max_per_expiry: int | None = None
    signals: tuple[Signal, ...] = ()


@dataclass(frozen=True, slots=True)
class Roll:
    """On a trigger, close and open the same structure anew (other strikes by the legs' targets, later expiry) instead of closing only.

    Attributes:
        on: exits that roll; the others close.
        dte_min, dte_target, dte_max: days to expiry of the new structure; None: those of the entry.
        delta_factor: multiplies the delta targets of the new legs (under 1: further out).
        max_debit: coin per unit that the roll may cost (closing less new premium); above it the exit closes only.
    """

    on: tuple[Trigger, ...] = ("days_left",)
    dte_min: float | None = None
    dte_target: float | None = None
    dte_max: float | None = None
    delta_factor: float = 1.0
    max_debit: float = 0.0


@dataclass(frozen=True, slots=True)
class Exit:
    """Each None means hold to expiry in that respect. Judged in this order; the first that holds is the reason.

    Attributes:
        take_profit: close when closing would keep this share of the premium (of what was paid, for a debit).
        stop_loss: close when closing would lose this multiple of the premium.
        equity_stop: close when closing would lose this share of the account's equity at the snapshot.
        delta_breach: close when a sold leg's absolute delta has reached this.
        days_left: close when this many days or fewer remain to the nearest expiry.
        roll: what to do instead of closing.
    """

    take_profit: float | None = None
    stop_loss: float | None = None
    equity_stop: float | None = None
    delta_breach: float | None = None
    days_left: float | None = None
    roll: Roll | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """A structure that fails one is not traded.

    Attributes:
        min_premium: coin per unit, net of what is bought; negative lets a structure cost that much.
        min_premium_usd: the same in USD at the index.
        min_yield: premium over the coin that secures a unit, a year (simple, decimal).
        max_spread: of every leg, as a share of its mid.
        min_open_interest: of every leg, contracts.
        min_size: of every leg, contracts quoted on the side that is traded; an unknown size fails.
        delta_tolerance: how far a leg's delta may lie from its target.
        strike_tolerance: how far a strike may lie from a moneyness or offset target, as a share of the index.
    """

    min_premium: float = 0.0005
    min_premium_usd: float = -math.inf
    min_yield: float = -math.inf
    max_spread: float = 0.5
    min_open_interest: float = 0.0
    min_size: float = 0.0
    delta_tolerance: float = 0.12
    strike_tolerance: float = 0.05


@dataclass(frozen=True, slots=True)
class Sizing:
    """How many units, never more than the collateral secures, floored to the lot.

    `full`: all that is secured. `fixed`: `value` units. `risk`: as many as lose `value` of the equity at expiry, if the index moves by
    `move` to the worse side. `margin`: as many as keep the exchange's initial margin within `value` of the margin balance.
    """

    kind: Literal["full", "fixed", "risk", "margin"] = "full"
    value: float = 1.0
    move: float = 0.2
    #: Multiplies units by a factor that falls as BTC and ETH move together.
    correlation_aware: bool = False
    dial: Dial | None = None


@dataclass(frozen=True, slots=True)
class Hedge:
    """Delta hedging with the perpetual.

    Attributes:
        neutral_in: `coin` keeps equity in coin still, `usd` keeps equity in USD still (it also sells the coins held).
        band: hedge when the open delta exceeds this share of the equity in coin.
        interval_hours: least time between two hedges.
    """

    neutral_in: Literal["coin", "usd"] = "coin"
    band: float = 0.05
    interval_hours: float = 0.0


@dataclass(frozen=True, slots=True)
class Strategy:
    """A named structure with its rules.

    `collateral` says what secures it: `coin` (no more short calls than coins), `cash` (the strike of every short put in USD),
    `margin` (one coin per unit of the structure), `standard` (the exchange's initial margin). `share` of the capital is put to work.
    `capital` is what the account starts with: USD for cash, else coin, unless given. With `assigned_legs` the strategy is a wheel:
    a short put settled in the money turns the account's USD into coin at the delivery price and sells these from then on, until a short
    call settled in the money turns it back.
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
    sizing: Sizing = field(default_factory=Sizing)
    hedge: Hedge | None = None
    capital: Capital | None = None
    delta_dial: Dial | None = None
    assigned_legs: tuple[Leg, ...] = ()

    def __post_init__(self) -> None:
        problems = [*_leg_problems(self.legs), *_leg_problems(self.assigned_legs, least=0), *_rule_problems(self)]
        if self.collateral == "cash" and any(leg.side == "sell" and leg.right == "C" for leg in self.legs):
            problems.append("cash does not secure a short call")
        if self.collateral == "coin" and any(leg.side == "sell" and leg.right == "P" for leg in self.legs):
            problems.append("a coin does not secure a short put")
        if self.assigned_legs and self.collateral != "cash":
            problems.append("a wheel starts from cash")
        if self.assigned_legs and any(leg.side == "sell" and leg.right == "P" for leg in self.assigned_legs):
            problems.append("what a wheel sells once assigned is secured by the coin: no short put")
        if problems:
            raise SettingsError(f"strategy {self.name!r} is not sound: {'; '.join(problems)}", remedy="correct the named fields")

    @property
    def starts_in(self) -> Capital:
        """Currency the account starts in."""
        return self.capital or ("usd" if self.collateral == "cash" else "coin")

    @property
    def features(self) -> tuple[str, ...]:
        """Features that the rules ask for."""
        dials = [d.feature for d in (self.delta_dial, self.sizing.dial) if d]
        wanted = [s.feature for s in self.entry.signals] + dials + (["correlation"] if self.sizing.correlation_aware else [])
        return tuple(dict.fromkeys(wanted))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for reports, hashes and the terminal; a limit that is off (infinite) is null."""
        plain: dict[str, Any] = plain_json(asdict(self))
        return plain

    def in_words(self) -> str:
        """One sentence with every rule, for prompts and tables."""
        entry, exits = self.entry, self.exit
        rules = [f"{_words(self.legs)}, {entry.dte_min:g} to {entry.dte_max:g} days out (best {entry.dte_target:g})"]
        if self.assigned_legs:
            rules.append(f"once assigned {_words(self.assigned_legs)} on the coin, until called away")
        rules += [f"only with {s.feature} {_range(s)}" for s in entry.signals]
        if entry.max_open > 1:
            rules.append(f"up to {entry.max_open} at once, an entry every {entry.every_days} days")
        if self.delta_dial:
            rules.append(f"delta scaled by {self.delta_dial.feature}")
        if exits.take_profit is not None:
            rules.append(f"take profit at {exits.take_profit:.0%} of the premium")
        if exits.stop_loss is not None:
            rules.append(f"stop at a loss of {exits.stop_loss:g} times the premium")
        if exits.equity_stop is not None:
            rules.append(f"stop at a loss of {exits.equity_stop:.0%} of the equity")
        if exits.delta_breach is not None:
            rules.append(f"close when a sold delta reaches {exits.delta_breach:g}")
        if exits.roll is not None:
            rules.append(f"roll on {', '.join(exits.roll.on)} for at most {exits.roll.max_debit:g} coin a unit")
        if self.sizing.kind != "full":
            words = {
                "fixed": f"{self.sizing.value:g} units each",
                "risk": f"sized to lose {self.sizing.value:.0%} of the equity on a move of {self.sizing.move:.0%}",
                "margin": f"sized to {self.sizing.value:.0%} initial margin",
            }
            rules.append(words[self.sizing.kind])
        if self.sizing.correlation_aware:
            rules.append("smaller as BTC and ETH move together")
        if self.hedge is not None:
            rules.append(f"delta hedged in {self.hedge.neutral_in} beyond {self.hedge.band:.0%} of the equity")
        rules.append(f"close at {exits.days_left:g} days left" if exits.days_left is not None else "else hold to expiry")
        return "; ".join(rules) + "."


def _words(legs: tuple[Leg, ...]) -> str:
    return " and ".join(f"{leg.side} {leg.ratio:g} {_aim(leg)} {'call' if leg.right == 'C' else 'put'}" for leg in legs)


def _aim(leg: Leg) -> str:
    aim = {
        "delta": f"{leg.target:g}-delta",
        "moneyness": f"{leg.target:.0%}-of-index",
        "premium": f"{leg.target:g}-coin",
        "offset": f"{'same-strike' if leg.target == 0 else f'{leg.target:+.1%}-of-leg-{leg.of + 1}'}",
    }[leg.by]
    return aim if leg.dte is None else f"{aim} {leg.dte:g}-day"


def _range(signal: Signal) -> str:
    sides = [f"above {signal.above:g}" if signal.above is not None else "", f"below {signal.below:g}" if signal.below is not None else ""]
    return " and ".join(s for s in sides if s)


def _leg_problems(legs: tuple[Leg, ...], least: int = 1) -> list[str]:
    problems = []
    if not least <= len(legs) <= MAX_LEGS:
        problems.append(f"legs: {len(legs)}, from {least} to {MAX_LEGS} are possible")
    for n, leg in enumerate(legs):
        if not 0 < leg.ratio < math.inf:
            problems.append(f"leg {n + 1}: ratio is positive and finite")
        if not math.isfinite(leg.target):
            problems.append(f"leg {n + 1}: target is a number")
        if leg.by == "delta" and not 0 < leg.target < 1:
            problems.append(f"leg {n + 1}: a target delta is between 0 and 1")
        if leg.by in {"moneyness", "premium"} and leg.target <= 0:
            problems.append(f"leg {n + 1}: a target {leg.by} is positive")
        if leg.by == "offset" and not 0 <= leg.of < n:
            problems.append(f"leg {n + 1}: an offset is from a leg before it, of = 0 to {n - 1}")
        if leg.dte is not None and leg.dte <= 0:
            problems.append(f"leg {n + 1}: dte is positive")
    if legs and legs[0].dte is not None:
        problems.append("leg 1 has the structure's own expiry: leave its dte out")
    return problems


def _rule_problems(strategy: Strategy) -> list[str]:
    entry, exits, sizing = strategy.entry, strategy.exit, strategy.sizing
    problems = []
    if not 0 <= entry.dte_min <= entry.dte_target <= entry.dte_max:
        problems.append("days to expiry: min <= target <= max does not hold")
    if not 0 <= entry.hour_utc <= 23 or entry.max_open < 1 or entry.every_days < 1:
        problems.append("entry: hour_utc is 0 to 23, max_open and every_days at least 1")
    if not entry.weekdays or any(not 0 <= d <= 6 for d in entry.weekdays):
        problems.append("entry: weekdays are 0 (Monday) to 6, at least one")
    if entry.max_per_expiry is not None and entry.max_per_expiry < 1:
        problems.append("entry: max_per_expiry is at least 1")
    if not 0 < strategy.share <= 1:
        problems.append("share is above 0 and at most 1")
    if unknown := [f for f in strategy.features if f not in SIGNALS]:
        problems.append(f"no feature {', '.join(unknown)}; there are {', '.join(SIGNALS)}")
    for name in ("take_profit", "stop_loss", "equity_stop", "delta_breach", "days_left"):
        value = getattr(exits, name)
        if value is not None and value < 0:
            problems.append(f"exit: {name} is not negative")
    problems += [
        f"signal on {s.feature}: above is not above below"
        for s in entry.signals
        if s.above is not None and s.below is not None and s.above > s.below
    ]
    if exits.roll is not None and (not exits.roll.on or exits.roll.delta_factor <= 0):
        problems.append("roll: on names an exit, and delta_factor is positive")
    if exits.roll is not None:
        low, best, high = (
            getattr(entry, name) if (own := getattr(exits.roll, name)) is None else own for name in ("dte_min", "dte_target", "dte_max")
        )
        if not 0 <= low <= best <= high:
            problems.append(
                f"roll: days to expiry {low:g}, {best:g}, {high:g}: min <= target <= max does not hold (those left out are the entry's)"
            )
    if not 0 < sizing.value < math.inf or not 0 < sizing.move < 1:
        problems.append("sizing: value is positive, move between 0 and 1")
    if sizing.kind in {"risk", "margin"} and sizing.value > 1:
        problems.append(f"sizing: {sizing.kind} is a share, at most 1")
    if strategy.hedge is not None and (strategy.hedge.band < 0 or strategy.hedge.interval_hours < 0):
        problems.append("hedge: band and interval_hours are not negative")
    problems += [
        f"the dial on {dial.feature} needs steps (level, positive factor) in ascending order"
        for dial in (strategy.delta_dial, sizing.dial)
        if dial is not None and (not dial.steps or list(dial.steps) != sorted(dial.steps) or any(f <= 0 for _, f in dial.steps))
    ]
    return problems
