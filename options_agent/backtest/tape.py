"""The arrays the compiled loop reads and writes: the market, legs and rules as numbers, the book, and the tape of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import numpy as np

from options_agent.backtest.costs import FEE_COLUMNS
from options_agent.compiled import compiled
from options_agent.strategies.rules import MAX_LEGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
FREE, ORDERED, HELD = 0, 1, 2
NONE = -1
PHASES = 2
Kernel = TypeVar("Kernel", bound="Callable[..., Any]")


def inner(function: Kernel) -> Kernel:
    """Compile into its callers: to pass all these arrays on takes longer than what is done with them."""
    made: Kernel = compiled(error_model="numpy", forceinline=True)(function)
    return made


def part(function: Kernel) -> Kernel:
    """A part of the loop that is called in one place: put into its caller's code, for compiled on its own it would be optimised twice."""
    made: Kernel = compiled(inline="always", error_model="numpy")(function)
    return made


class Market(NamedTuple):
    """Arrays of a `History` as it keeps them, and what the settings add to them; the same for every strategy.

    `settled` (contracts,) of `SETTLED`, `costs` (snapshots,) of `COSTS`; `spread_model` is the fill model's table.
    """

    snaps: NDArray[Any]
    groups: NDArray[Any]
    chain: NDArray[Any]
    quotes: NDArray[Any]
    contracts: NDArray[Any]
    settled: NDArray[Any]
    costs: NDArray[Any]
    spread_model: NDArray[np.float64]


#: By contract: delivery price (USD, NaN: none), when it is known (microseconds), delivery fee and its cap.
SETTLED: Final = np.dtype([("price", "f8"), ("known_at", "i8"), ("fee", "f8"), ("fee_cap", "f8")])
#: By snapshot: `costs.FEE_COLUMNS`, funding accrued since the snapshot before (decimal), latency of what is decided here, a uniform draw.
COSTS: Final = np.dtype([*((name, "f8") for name in FEE_COLUMNS), ("funding", "f8"), ("latency_us", "i8"), ("fill_draw", "f8")])
#: By snapshot: whether the signals allow an entry, what multiplies target deltas and sizes, and who decides on exits (`BY_RULES`, or all
#: open structures are closed or held, as somebody outside the rules directs).
WEATHER: Final = np.dtype([("allowed", "i8"), ("delta_factor", "f8"), ("size_factor", "f8"), ("exits", "i8")])
BY_RULES, TO_CLOSE, TO_HOLD = 0, 1, 2
#: A leg: `side` is -1 where sold and 1 where bought; `by` is a place in `BY`; `dte` negative: none.
LEG: Final = np.dtype([("side", "f8"), ("call", "i8"), ("by", "i8"), ("of", "i8"), ("target", "f8"), ("ratio", "f8"), ("dte", "f8")])


class Legs(NamedTuple):
    """`table` (phases, MAX_LEGS) of `LEG`, `lengths` (phases,); the second phase is a wheel's once assigned."""

    table: NDArray[Any]
    lengths: NDArray[np.int64]


BY: Final = ("delta", "moneyness", "premium", "offset")
BY_DELTA, BY_MONEYNESS, BY_PREMIUM, BY_OFFSET = range(4)
COLLATERAL: Final = ("coin", "cash", "margin", "standard")
COIN, CASH, MARGIN, STANDARD = map(float, range(4))
SIZING: Final = ("full", "fixed", "risk", "margin")
FULL, FIXED, RISK, BY_MARGIN = map(float, range(4))
#: Exits in the order they are judged; bit n of `roll_on` is exit n.
EXITS: Final = ("take_profit", "stop", "equity_stop", "delta_breach", "days_left")


#: Every rule and cost as a number; a negative exit, cap or distance is off.
RULES: Final = (
    "dte_min",
    "dte_target",
    "dte_max",
    "hour_utc",
    "max_open",
    "every_days",
    "weekdays",
    "max_per_expiry",
    "take_profit",
    "stop_loss",
    "equity_stop",
    "delta_breach",
    "days_left",
    "roll_on",
    "roll_dte_min",
    "roll_dte_target",
    "roll_dte_max",
    "roll_delta_factor",
    "roll_max_debit",
    "min_premium",
    "min_premium_usd",
    "min_yield",
    "max_spread",
    "min_open_interest",
    "min_size",
    "delta_tolerance",
    "strike_tolerance",
    "collateral",
    "share",
    "sizing",
    "sizing_value",
    "sizing_move",
    "hedge",
    "hedge_band",
    "hedge_interval_us",
    "wheel",
    "linear",
    "lot",
    "perpetual_lot",
    "crossing",
    "impact",
    "impact_power",
    "assumed_depth",
    "model_fills",
    "maker",
    "maker_place",
    "maker_patience_us",
    "maker_rate",
    "maker_queue_scale",
    "option_value_in_margin",
    "perpetual_half_spread",
    "record",
)
RULE: Final = np.dtype([(name, "f8") for name in RULES])
#: One record of `RULE`.
Rule = Any

#: A structure's slot. Times are microseconds, `opened` and `posted` snapshots, -1 none; `rolls`: whether closing rolls;
#: `owed`: of an order that rolls, what closing a unit of the old structure took, else minus infinity.
#: By leg: whether it lives, expiry, contract, last row, value, delta, limit of a resting order and what was ahead of it.
SLOT: Final = np.dtype(
    [
        *((name, "i8") for name in ("state", "trade", "phase", "opened", "due", "posted", "rolls")),
        *((name, "f8") for name in ("units", "premium", "owed")),
        *((name, "i8", (MAX_LEGS,)) for name in ("live", "expiry", "contract", "row")),
        *((name, "f8", (MAX_LEGS,)) for name in ("value", "delta", "limit", "queue")),
    ]
)
#: Of the legs being traded.
WORK: Final = np.dtype([("price", "f8"), ("fee", "f8"), ("flag", "f8")])


class Book(NamedTuple):
    """`slots` (slots + 1,) of `SLOT`, the last one for looking at what a roll would open; `work` (MAX_LEGS,) of `WORK`.

    `cash` (3,): coin, USD, perpetual (USD where inverse, coins where linear). `clock` (4,): date of the last entry or of one that the slots
    forbade, date of the last entry, time of the last hedge, phase.
    """

    slots: NDArray[Any]
    work: NDArray[Any]
    cash: NDArray[np.float64]
    clock: NDArray[np.int64]


#: Rows of `Tape.equity`. Coin unless said: `perpetual` is signed coins, `perpetual_pnl`, `funding`, `hedge_fee` in the settlement currency;
#: `swapped_coin` and `swapped_usd` are a wheel's conversions.
EQUITY: Final = (
    "coin_cash",
    "usd_cash",
    "options_coin",
    "equity_coin",
    "open_positions",
    "stale_marks",
    "perpetual",
    "perpetual_pnl",
    "funding",
    "hedge_fee",
    "initial_margin",
    "maintenance_margin",
    "delta",
    "swapped_coin",
    "swapped_usd",
)
(
    E_COIN,
    E_USD,
    E_OPTIONS,
    E_EQUITY,
    E_OPEN,
    E_STALE,
    E_PERP,
    E_PNL,
    E_FUNDING,
    E_HEDGE_FEE,
    E_IM,
    E_MM,
    E_DELTA,
    E_SWAP_COIN,
    E_SWAP_USD,
) = range(len(EQUITY))


class Tape(NamedTuple):
    """What the loop writes; `counts` is how many fills, decisions and trades there are, how many fills are the
    model's, and how many liquidations.

    fills (n, 12): trade, leg, kind, snapshot, row (-1: settled), contract, signed contracts (sold < 0), price, fee, microseconds, source,
    phase.
    decisions (n, 12): snapshot, trade, action, reason, row, contract, days to expiry, cost of closing a unit, premium of a unit, open
    positions, units, microseconds. equity (`EQUITY`, snapshots).
    """

    fills: NDArray[np.float64]
    decisions: NDArray[np.float64]
    equity: NDArray[np.float64]
    counts: NDArray[np.int64]


class Players(NamedTuple):
    """Strategies that play side by side, each (strategies, ...): what `Legs` and `Book` are of one.

    `weather` (kinds, snapshots) of `WEATHER` and `which` of them each has; `work` they share; `places`: slots of each, and one.
    """

    weather: NDArray[Any]
    which: NDArray[np.int64]
    legs: NDArray[Any]
    lengths: NDArray[np.int64]
    rules: NDArray[Any]
    slots: NDArray[Any]
    work: NDArray[Any]
    places: NDArray[np.int64]
    cash: NDArray[np.float64]
    clock: NDArray[np.int64]


class Tapes(NamedTuple):
    """The tapes of strategies that play side by side, each (strategies, ...) of what `Tape` is of one."""

    fills: NDArray[np.float64]
    decisions: NDArray[np.float64]
    equity: NDArray[np.float64]
    counts: NDArray[np.int64]


#: Of doubles.
HUGE_PAGE: Final = 2**21 // 8


def blank_tapes(strategies: int, snapshots: int, slots: int, *, record: bool, legs: int = MAX_LEGS) -> Tapes:
    """Room for everything runs of so many legs can write: each slot may close and be opened anew in a snapshot.

    Untouched, it takes no memory. What is written by every snapshot lies together at the border of a huge page, where the system has those:
    to be given memory in small ones takes as long as a run.
    """
    turns = snapshots * (slots + 1) + 8
    curves, decisions = len(EQUITY) * snapshots, 12 * (3 * turns if record else 1)
    room = np.empty(strategies * (curves + decisions) + HUGE_PAGE)
    room = room[-(room.ctypes.data // 8) % HUGE_PAGE :]
    return Tapes(
        np.empty((strategies, 2 * turns * legs, 12)),
        room[strategies * curves :][: strategies * decisions].reshape(strategies, -1, 12),
        room[: strategies * curves].reshape(strategies, len(EQUITY), snapshots),
        np.zeros((strategies, 5), np.int64),
    )


def new_players(strategies: int, slots: int, weather: NDArray[Any]) -> Players:
    """No rules, no structures, no cash: to be filled in."""
    table = np.zeros((strategies, slots + 1), SLOT)
    for name in ("trade", "due", "posted"):
        table[name] = NONE
    clock = np.tile(np.array([-(2**40), -(2**40), -(2**62), 0]), (strategies, 1))
    return Players(
        weather,
        np.zeros(strategies, np.int64),
        np.zeros((strategies, PHASES, MAX_LEGS), LEG),
        np.zeros((strategies, PHASES), np.int64),
        np.zeros(strategies, RULE),
        table,
        np.zeros(MAX_LEGS, WORK),
        np.zeros(strategies, np.int64),
        np.zeros((strategies, 3)),
        clock,
    )
