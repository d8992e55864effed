"""Runs a strategy over a history: turns data into the kernel's numbers and its numbers into a result.

Decisions at t use rows known by t. Fills happen on the first snapshot at or after t + latency. Selling hits the bid, buying lifts
the ask, less the share of the spread that `crossing` leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.backtest import kernel, orders
from options_agent.backtest.codes import REASONS_IN_WORDS
from options_agent.backtest.costs import delivery_fees, schedule, trading_fees
from options_agent.backtest.metrics import measure
from options_agent.backtest.provenance import code_sha256
from options_agent.backtest.result import BacktestResult, decisions_table, equity_table, fills_table, ledger_of, trades_of
from options_agent.backtest.settlement import METHODS, TOO_FAR, Settlement, settle
from options_agent.contracts import settlement_of, specification
from options_agent.errors import DataError
from options_agent.lake.receipts import fingerprint

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from options_agent.backtest.history import History
    from options_agent.settings import BacktestSettings
    from options_agent.strategies.rules import Strategy

ENGINE_VERSION: Final = 2
_COLLATERAL: Final = {"coin": orders.COIN, "cash": orders.CASH, "margin": orders.MARGIN}


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
    fills = fills_table(played.fills, history, played.settlement)
    trades = trades_of(fills, history, played.settlement, strategy)
    equity = equity_table(played.equity, history)
    decisions = decisions_table(played.decisions, history)
    run = fingerprint(ENGINE_VERSION, code_sha256(), history.fingerprint, strategy.as_dict(), settings)[:12]
    reasons = inconclusive_reasons(trades, decisions, settings, _expired_unpaid(fills, history))
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
    market = orders.Market(
        **orders.columns_of(history),
        settle_price=by_contract.price,
        settle_known=by_contract.known_at,
        fee=trading_fees(versions, np.asarray(history.known_at)),
        delivery=delivery_fees(versions, np.asarray(history.contract_expiry)),
    )
    legs, slots = legs_of(strategy), strategy.entry.max_open
    tape = kernel.blank_tape(history.snapshots, legs.side.size, slots)
    kernel.play(market, legs, rules_of(strategy, settings, lot), orders.empty_book(slots, legs.side.size, coin, usd), tape)
    fills, decisions = tape.fills[: tape.counts[0]], tape.decisions[: tape.counts[1]]
    return Played(fills, decisions, tape.equity, by_contract, coin, usd)


def legs_of(strategy: Strategy) -> orders.Legs:
    """The legs as the kernel takes them."""
    return orders.Legs(
        side=np.array([-1.0 if leg.side == "sell" else 1.0 for leg in strategy.legs]),
        call=np.array([leg.right == "C" for leg in strategy.legs]),
        delta=np.array([leg.target for leg in strategy.legs]),
        ratio=np.array([leg.ratio for leg in strategy.legs]),
    )


def rules_of(strategy: Strategy, settings: BacktestSettings, lot: float) -> orders.Rules:
    """The rules as the kernel takes them; an exit rule that is off is negative."""
    entry, exits, filters = strategy.entry, strategy.exit, strategy.filters
    return orders.Rules(
        dte_min=float(entry.dte_min),
        dte_target=float(entry.dte_target),
        dte_max=float(entry.dte_max),
        hour_utc=float(entry.hour_utc),
        max_open=float(entry.max_open),
        take_profit=_or_off(exits.take_profit),
        stop_loss=_or_off(exits.stop_loss),
        days_left=_or_off(exits.days_left),
        min_premium=float(filters.min_premium),
        max_spread=float(filters.max_spread),
        min_open_interest=float(filters.min_open_interest),
        delta_tolerance=float(filters.delta_tolerance),
        collateral=_COLLATERAL[strategy.collateral],
        share=float(strategy.share),
        latency_us=settings.latency_seconds * 1e6,
        crossing=float(settings.crossing),
        lot=lot,
    )


def _or_off(rule: float | None) -> float:
    return -1.0 if rule is None else float(rule)


def inconclusive_reasons(trades: pa.Table, decisions: pa.Table, settings: BacktestSettings, unpaid: int) -> tuple[str, ...]:
    """Why a run cannot support a number; empty where it can. `unpaid`: positions that expired and were never settled."""
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
    unusable = sum(t["settlement"] == METHODS[TOO_FAR] for t in closed if t["exit"] == "settled")
    if unusable:
        reasons.append(
            f"{unusable} expiries have no price within {settings.settlement_max_distance_minutes} minutes: import prices for the range"
        )
    if unpaid:
        reasons.append(f"{unpaid} positions expired and were not settled: no price to settle them by is known within the range")
    return tuple(reasons)


def _expired_unpaid(fills: pa.Table, history: History) -> int:
    rows = fills.to_pylist()
    over = {f["trade"] for f in rows if f["kind"] != "open"}
    return len({f["trade"] for f in rows if f["trade"] not in over and history.contract_expiry[f["contract"]] <= history.known_at[-1]})
