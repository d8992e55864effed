"""Runs a strategy over a history: turns data into the kernel's numbers and its numbers into a result.

Decisions at t use rows known by t. Fills happen on the first snapshot at or after t + latency. Selling hits the bid, buying lifts
the ask, less the share of the spread that `crossing` leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.backtest import kernel
from options_agent.backtest.costs import delivery_fees, schedule, trading_fees
from options_agent.backtest.metrics import measure
from options_agent.backtest.result import REASONS, BacktestResult, decisions_table, equity_table, fills_table, ledger_of, trades_of
from options_agent.backtest.settlement import METHODS, NONE, TOO_FAR, Settlement, settle
from options_agent.contracts import settlement_of, specification
from options_agent.errors import DataError
from options_agent.lake.receipts import fingerprint

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from options_agent.backtest.history import History
    from options_agent.settings import BacktestSettings
    from options_agent.strategies.rules import Strategy

ENGINE_VERSION: Final = 1
#: Order of the kernel's `rules` array.
RULES: Final = (
    "dte_min",
    "dte_target",
    "dte_max",
    "hour_utc",
    "max_open",
    "take_profit",
    "stop_loss",
    "days_left",
    "min_premium",
    "max_spread",
    "min_open_interest",
    "delta_tolerance",
    "collateral",
    "share",
    "latency_seconds",
    "crossing",
)
_COLLATERAL: Final = {"coin": 0.0, "cash": 1.0, "margin": 2.0}


@dataclass(frozen=True, slots=True)
class Played:
    """What the kernel returned, and the settlements it was given."""

    fills: NDArray[np.float64]
    decisions: NDArray[np.float64]
    equity: NDArray[np.float64]
    settlement: Settlement
    capital_coin: float
    capital_usd: float


def run_backtest(history: History, strategy: Strategy, settings: BacktestSettings) -> BacktestResult:
    """Play `strategy` over `history` and measure it.

    Returns:
        A result with status `ok`, or `inconclusive` with the reasons: no decisions, too few closed trades, an expiry
        without a usable delivery price.

    Raises:
        DataError: the underlying is not coin-settled, or the history lacks an index to value coins by.
        SettingsError: unknown fee schedule.
    """
    played = play(history, strategy, settings)
    fills = fills_table(played.fills, history)
    trades = trades_of(fills, history, played.settlement, strategy)
    equity = equity_table(played.equity, history)
    decisions = decisions_table(played.decisions, history)
    run = fingerprint(ENGINE_VERSION, history.fingerprint, strategy.as_dict(), settings)[:12]
    reasons = inconclusive_reasons(trades, decisions, settings)
    return BacktestResult(
        run=run,
        strategy=strategy,
        underlying=history.underlying,
        start=history.start,
        end=history.end,
        status="inconclusive" if reasons else "ok",
        status_reasons=reasons,
        capital_coin=played.capital_coin,
        capital_usd=played.capital_usd,
        fills=fills,
        trades=trades,
        ledger=ledger_of(fills, history, played.capital_coin, played.capital_usd),
        equity=equity,
        decisions=decisions,
        metrics=measure(trades, equity, fills),
        settings=settings,
        data=history.days,
        data_fingerprint=history.fingerprint,
    )


def play(history: History, strategy: Strategy, settings: BacktestSettings) -> Played:
    """The kernel's raw output; see `kernel.play`."""
    if settlement_of(history.underlying) != "coin":
        raise DataError(f"{history.underlying} is not coin-settled", remedy="backtest an inverse family, BTC or ETH")
    if not np.isfinite(history.index).all():
        raise DataError(
            f"{int(np.isnan(history.index).sum())} snapshots of {history.underlying} have no index at or before them",
            remedy="import index prices beside the chains (`options-agent import`)",
        )
    spec = specification(history.underlying)
    lot = spec.min_trade_amount if spec else 0.1
    # ten lots at least: an account of one ETH that lost a little could never trade again
    capital = max(settings.capital_coin, 10 * lot)
    coin, usd = (0.0, capital * float(history.index[0])) if strategy.collateral == "cash" else (capital, 0.0)
    per_expiry, of_contract = np.unique(history.contract_expiry, return_inverse=True)
    settled = settle(
        per_expiry,
        np.asarray(history.price_ts),
        np.asarray(history.price),
        np.asarray(history.price_is_index),
        window_minutes=settings.settlement_window_minutes,
        max_distance_minutes=settings.settlement_max_distance_minutes,
    )
    by_contract = Settlement(
        settled.price[of_contract], settled.known_at[of_contract], settled.method[of_contract], settled.distance[of_contract]
    )
    versions = schedule(settings.fee_schedule)
    fills, decisions, equity = kernel.play(
        history.known_at,
        history.index,
        history.snapshot_group,
        history.group_expiry,
        history.group_call,
        history.group_row,
        history.row_snapshot,
        history.row_contract,
        history.next_row,
        history.strike,
        history.bid,
        history.ask,
        history.mark,
        history.delta,
        history.open_interest,
        history.contract_expiry,
        history.contract_strike,
        history.contract_call,
        by_contract.price,
        by_contract.known_at,
        trading_fees(versions, np.asarray(history.known_at)),
        delivery_fees(versions, np.asarray(history.contract_expiry)),
        np.array([leg.side == "sell" for leg in strategy.legs]),
        np.array([leg.right == "C" for leg in strategy.legs]),
        np.array([leg.target_delta for leg in strategy.legs]),
        np.array([leg.ratio for leg in strategy.legs]),
        rules_array(strategy, settings),
        coin,
        usd,
        lot,
    )
    return Played(fills, decisions, equity, by_contract, coin, usd)


def rules_array(strategy: Strategy, settings: BacktestSettings) -> NDArray[np.float64]:
    """The rules as the kernel takes them, in the order of `RULES`; a rule that is off is negative."""
    entry, exits, filters = strategy.entry, strategy.exit, strategy.filters
    values = {
        "dte_min": entry.dte_min,
        "dte_target": entry.dte_target,
        "dte_max": entry.dte_max,
        "hour_utc": entry.hour_utc,
        "max_open": entry.max_open,
        "take_profit": -1.0 if exits.take_profit is None else exits.take_profit,
        "stop_loss": -1.0 if exits.stop_loss is None else exits.stop_loss,
        "days_left": -1.0 if exits.days_left is None else exits.days_left,
        "min_premium": filters.min_premium,
        "max_spread": filters.max_spread,
        "min_open_interest": filters.min_open_interest,
        "delta_tolerance": filters.delta_tolerance,
        "collateral": _COLLATERAL[strategy.collateral],
        "share": strategy.share,
        "latency_seconds": settings.latency_seconds,
        "crossing": settings.crossing,
    }
    return np.array([values[name] for name in RULES], dtype=np.float64)


def inconclusive_reasons(trades: pa.Table, decisions: pa.Table, settings: BacktestSettings) -> tuple[str, ...]:
    """Why a run cannot support a number; empty where it can."""
    reasons = []
    closed = [t for t in trades.to_pylist() if t["closed_at"] is not None]
    if decisions.num_rows == 0:
        reasons.append("no decision was made: no snapshot fell at or after the entry hour")
    elif len(closed) < settings.min_trades:
        blocked = [d["reason"] for d in decisions.to_pylist() if d["action"] == "skip"]
        why = "; ".join(f"{REASONS_IN_WORDS[r]}: {blocked.count(r)} times" for r in sorted(set(blocked), key=lambda r: -blocked.count(r)))
        reasons.append(
            f"{len(closed)} closed trades, at least {settings.min_trades} are needed" + (f" (entries declined: {why})" if why else "")
        )
    unusable = sum(t["settlement"] in {METHODS[NONE], METHODS[TOO_FAR]} for t in closed if t["exit"] == "settled")
    if unusable:
        reasons.append(
            f"{unusable} expiries have no price within {settings.settlement_max_distance_minutes} minutes: import prices for the range"
        )
    return tuple(reasons)


REASONS_IN_WORDS: Final = dict(
    zip(
        REASONS,
        (
            "none",
            "entered",
            "no expiry in the range of days",
            "no strike near the target delta, or no deltas at all",
            "the side to trade against is not quoted",
            "premium too small",
            "spread too wide",
            "open interest too small",
            "capital does not secure a lot more",
            "the most positions are open",
            "no exit rule met",
            "take-profit met",
            "stop met",
            "days left met",
            "not quoted in this snapshot",
            "expired and settled",
            "order waits for its latency",
        ),
        strict=True,
    )
)
