"""What the settings make of a history: fees, delivery prices, funding, latency. Made once, used by every strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.costs import FEE_COLUMNS, FeeVersion, delivery_fees, fees_at, schedule
from options_agent.backtest.settlement import Settlement, settle
from options_agent.backtest.slippage import SPREADS
from options_agent.backtest.tape import COSTS, SETTLED, Market
from options_agent.contracts import settlement_of, specification
from options_agent.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from options_agent.backtest.history import History
    from options_agent.settings import BacktestSettings

EIGHT_HOURS_US: Final = 8 * 3_600_000_000
#: A funding rate holds until the next one, at most this long.
FUNDING_HOLDS_US: Final = 9 * 3_600_000_000
#: Of the perpetual: USD where inverse, coins where linear.
PERPETUAL_LOTS: Final = {"BTC": 10.0, "ETH": 1.0}
LINEAR_PERPETUAL_LOT: Final = 0.001
#: Streams of the seed.
LATENCY, FILLS = 0, 1


@dataclass(frozen=True, slots=True)
class Prepared:
    """A history under settings.

    Attributes:
        market: arrays for the compiled loop.
        settlement: by contract, for the report.
        linear: whether options settle in USDC.
        lot: least units, coins. perpetual_lot: USD (inverse) or coins (linear).
        unfunded_hours: hours of the range without a known funding rate.
        fees: the schedule in force.
    """

    market: Market
    settlement: Settlement
    linear: bool
    lot: float
    perpetual_lot: float
    unfunded_hours: float
    fees: tuple[FeeVersion, ...]


def prepare(history: History, settings: BacktestSettings) -> Prepared:
    """Everything the loop needs beside the rules; a millisecond or two.

    Raises:
        DataError: the history lacks an index to value coins by.
        SettingsError: unknown fee schedule or fill model.
    """
    if not np.isfinite(history.index).all():
        raise DataError(
            f"{int(np.isnan(history.index).sum())} snapshots of {history.underlying} have no index at or before them",
            remedy="import index prices beside the chains (`options-agent import`)",
        )
    linear = settlement_of(history.underlying) == "usdc"
    known_at, expiry = np.ascontiguousarray(history.known_at), np.ascontiguousarray(history.contracts["expiry"])
    per_expiry, of_contract = np.unique(expiry, return_inverse=True)
    settlement = settle(
        per_expiry,
        *(np.ascontiguousarray(history.prices[name]) for name in ("ts", "price", "kind")),
        window_minutes=settings.settlement_window_minutes,
        max_distance_minutes=settings.settlement_max_distance_minutes,
    ).of(of_contract)
    versions, kind = schedule(settings.fee_schedule), "usdc" if linear else "coin"
    settled, costs = np.empty(expiry.size, SETTLED), np.empty(known_at.size, COSTS)
    settled["price"], settled["known_at"] = settlement.price, settlement.known_at
    settled["fee"], settled["fee_cap"] = delivery_fees(versions, expiry, kind).T  # type: ignore[arg-type]
    for name, column in zip(FEE_COLUMNS, fees_at(versions, known_at, kind).T, strict=True):  # type: ignore[arg-type]
        costs[name] = column
    costs["funding"], unfunded = accrued_funding(known_at, history.funding["ts"], history.funding["rate_8h"])
    costs["latency_us"] = latencies(known_at.size, settings)
    costs["fill_draw"] = draws(settings.seed, FILLS).random(known_at.size) if settings.fills == "maker" else 1.0
    own = [_read_only(getattr(history, name)) for name in ("snaps", "groups", "chain", "quotes", "contracts")]
    market = Market._make([*own, settled, costs, spread_model()])
    spec = specification(history.underlying)
    lot = spec.min_trade_amount if spec else 0.1
    perpetual_lot = LINEAR_PERPETUAL_LOT if linear else PERPETUAL_LOTS.get(history.underlying, 1.0)
    return Prepared(market, settlement, linear, lot, perpetual_lot, unfunded, versions)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Mapped and fresh arrays are one type to the compiler."""
    view = array.view()
    view.flags.writeable = False
    return view


def accrued_funding(known_at: NDArray[np.int64], ts: NDArray[np.int64], rate_8h: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """(snapshots,) funding accrued since the snapshot before, decimal of the position; and the hours that no rate covers.

    A rate holds from when it was known until the next, at most nine hours.
    """
    if known_at.size == 0:
        return np.zeros(0), 0.0
    if ts.size == 0:
        return np.zeros(known_at.size), float(known_at[-1] - known_at[0]) / 3.6e9
    holds = np.minimum(np.append(np.diff(ts), FUNDING_HOLDS_US), FUNDING_HOLDS_US)
    earned = np.append(0.0, np.cumsum(rate_8h * holds / EIGHT_HOURS_US))
    covered = np.append(0, np.cumsum(holds))
    at = np.searchsorted(ts, known_at, side="right") - 1
    into = np.where(at >= 0, np.minimum(known_at - ts[np.maximum(at, 0)], holds[np.maximum(at, 0)]), 0)
    paid = np.where(at >= 0, earned[np.maximum(at, 0)] + rate_8h[np.maximum(at, 0)] * into / EIGHT_HOURS_US, 0.0)
    time = np.where(at >= 0, covered[np.maximum(at, 0)] + into, 0)
    missing = float((known_at[-1] - known_at[0]) - (time[-1] - time[0])) / 3.6e9
    return np.append(0.0, np.diff(paid)), missing


def latencies(snapshots: int, settings: BacktestSettings) -> NDArray[np.int64]:
    """(snapshots,) microseconds from an order's decision to its fill: lognormal about `latency_seconds`, by the seed."""
    if settings.latency_seconds == 0:
        return np.zeros(snapshots, np.int64)
    normal = draws(settings.seed, LATENCY).standard_normal(snapshots)
    return np.rint(settings.latency_seconds * np.exp(settings.latency_sigma * normal) * 1e6).astype(np.int64)


def draws(seed: int, stream: int) -> np.random.Generator:
    """Random numbers that depend on the seed and what they are for only, on any machine."""
    return np.random.Generator(np.random.Philox(key=[seed, stream]))


def spread_model() -> NDArray[np.float64]:
    """The fill model's table of spreads for the loop."""
    return np.array(SPREADS)
