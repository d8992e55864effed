"""Runs a strategy over a history: turns data into the kernel's numbers and its numbers into a result. What is played: docs/engine.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from options_agent.backtest import kernel
from options_agent.backtest.codes import REASONS_IN_WORDS
from options_agent.backtest.exposures import greek_exposures
from options_agent.backtest.market import Prepared, prepare
from options_agent.backtest.metrics import measure
from options_agent.backtest.provenance import code_sha256
from options_agent.backtest.result import BacktestResult, decisions_table, equity_table, fills_table, ledger_of, trades_of
from options_agent.backtest.settlement import METHODS, TOO_FAR
from options_agent.backtest.tape import BY, COLLATERAL, EXITS, RULES, SIZING, TO_CLOSE, TO_HOLD, Players, blank_tapes, new_players
from options_agent.backtest.weather import weather_of
from options_agent.lake.receipts import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from options_agent.backtest.history import History
    from options_agent.settings import BacktestSettings
    from options_agent.strategies.rules import Strategy

ENGINE_VERSION: Final = 3


@dataclass(frozen=True, slots=True)
class Played:
    """What the kernel wrote: fills and decisions as `tape.Tape` describes them, equity (`tape.EQUITY`, snapshots)."""

    fills: NDArray[np.float64]
    decisions: NDArray[np.float64]
    equity: NDArray[np.float64]
    prepared: Prepared
    capital_coin: float
    capital_usd: float


@dataclass(frozen=True, slots=True)
class Directions:
    """What somebody outside the rules decides, both (snapshots,) of bool.

    Attributes:
        enter: where the rules may enter; elsewhere they do not.
        close: where everything open is closed; elsewhere it is held. The rules' own exits and rolls are not asked.
    """

    enter: NDArray[np.bool_]
    close: NDArray[np.bool_]


def run_backtest(
    history: History,
    strategy: Strategy,
    settings: BacktestSettings,
    features: Mapping[str, NDArray[np.float64]] | None = None,
    prepared: Prepared | None = None,
    directions: Directions | None = None,
) -> BacktestResult:
    """Play `strategy` over `history` and measure it.

    Args:
        history: clean quotes.
        strategy: what is played.
        settings: capital and costs.
        features: by snapshot, as `weather.features_at` makes them; needed by strategies with signals or dials only.
        prepared: `market.prepare(history, settings)`, where several strategies share it.
        directions: what somebody outside the rules decides; the rules' own exits are not judged then.

    Returns:
        A result with status `ok`, or `inconclusive` with the reasons: no decisions, too few closed trades, an expiry
        without a usable delivery price.

    Raises:
        DataError: the history lacks an index to value coins by, or the strategy asks for a feature that is not given.
        SettingsError: unknown fee schedule.
    """
    played = play(history, strategy, settings, features, prepared, directions)
    settlement, linear = played.prepared.settlement, played.prepared.linear
    fills = fills_table(played.fills, history, settlement, linear=linear)
    trades = trades_of(fills, history, settlement, strategy, linear=linear)
    equity = equity_table(played.equity, history, played.capital_coin, played.capital_usd)
    for name, values in greek_exposures(history, played.fills).items():
        equity = equity.append_column(name, pa.array(values))
    decisions = decisions_table(played.decisions, history)
    drawn = {name: _content(features[name]) for name in strategy.features if features and name in features}
    if directions is not None:
        drawn |= {"enter": _content(directions.enter), "close": _content(directions.close)}
    run = fingerprint(ENGINE_VERSION, code_sha256(), history.fingerprint, strategy.as_dict(), settings, played.prepared.fees, drawn)[:12]
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
        ledger=ledger_of(fills, equity, history, played.capital_coin, played.capital_usd, linear=linear),
        equity=equity,
        decisions=decisions,
        metrics=measure(trades, equity, fills),
        settings=settings,
        data=history.days,
        data_fingerprint=history.fingerprint,
        unfunded_hours=played.prepared.unfunded_hours if strategy.hedge else 0.0,
    )


def play(
    history: History,
    strategy: Strategy,
    settings: BacktestSettings,
    features: Mapping[str, NDArray[np.float64]] | None = None,
    prepared: Prepared | None = None,
    directions: Directions | None = None,
) -> Played:
    """The kernel's raw output; see `kernel.play`."""
    prepared = prepared or prepare(history, settings)
    slots = strategy.entry.max_open
    weather = weather_of(history, strategy, features or {})
    if directions is not None:
        weather["allowed"] &= directions.enter
        weather["exits"] = np.where(directions.close, TO_CLOSE, TO_HOLD)
    players = new_players(1, slots, weather[None])
    coin, usd = seat(players, 0, strategy, settings, prepared, float(history.index[0]), record=True)
    legs = max(len(strategy.legs), len(strategy.assigned_legs))
    tapes = blank_tapes(1, history.snapshots, slots, record=True, legs=legs)
    kernel.play(prepared.market, players, tapes, history.snapshots, history.snapshots)
    fills, decisions = tapes.counts[0, :2]
    return Played(tapes.fills[0, :fills], tapes.decisions[0, :decisions], tapes.equity[0], prepared, coin, usd)


def seat(
    players: Players, k: int, strategy: Strategy, settings: BacktestSettings, prepared: Prepared, index: float, *, record: bool
) -> tuple[float, float]:
    """Write a strategy's legs, rules and capital into place `k`; returns coin and USD it starts with. `index`: USD at the start."""
    coin, usd = capital_of(strategy, settings, prepared.lot, index)
    players.cash[k] = (coin, usd, 0.0)
    players.places[k] = strategy.entry.max_open + 1
    players.rules[k] = rules_of(strategy, settings, prepared, record=record)
    for phase, legs in enumerate((strategy.legs, strategy.assigned_legs)):
        players.lengths[k, phase] = len(legs)
        for n, leg in enumerate(legs):
            side, dte = -1.0 if leg.side == "sell" else 1.0, -1.0 if leg.dte is None else leg.dte
            players.legs[k, phase, n] = (side, leg.right == "C", BY.index(leg.by), leg.of, leg.target, leg.ratio, dte)
    return coin, usd


def capital_of(strategy: Strategy, settings: BacktestSettings, lot: float, index: float) -> tuple[float, float]:
    """Coin and USD at the start: ten lots at least, for an account of one ETH that lost a little could never trade again."""
    capital = max(settings.capital_coin, 10 * lot)
    return (0.0, capital * index) if strategy.starts_in == "usd" else (capital, 0.0)


def rules_of(strategy: Strategy, settings: BacktestSettings, prepared: Prepared, *, record: bool = True) -> tuple[float, ...]:
    """The rules and costs as the kernel takes them, in the order of `RULES`; an exit rule that is off is negative."""
    entry, exits, filters, sizing, hedge = strategy.entry, strategy.exit, strategy.filters, strategy.sizing, strategy.hedge
    roll = exits.roll
    values = {
        "dte_min": float(entry.dte_min),
        "dte_target": float(entry.dte_target),
        "dte_max": float(entry.dte_max),
        "hour_utc": float(entry.hour_utc),
        "max_open": float(entry.max_open),
        "every_days": float(entry.every_days),
        "weekdays": float(sum(1 << day for day in set(entry.weekdays))),
        "max_per_expiry": _or_off(entry.max_per_expiry),
        "take_profit": _or_off(exits.take_profit),
        "stop_loss": _or_off(exits.stop_loss),
        "equity_stop": _or_off(exits.equity_stop),
        "delta_breach": _or_off(exits.delta_breach),
        "days_left": _or_off(exits.days_left),
        "roll_on": float(sum(1 << EXITS.index(name) for name in set(roll.on))) if roll else 0.0,
        "roll_dte_min": _first(roll.dte_min if roll else None, entry.dte_min),
        "roll_dte_target": _first(roll.dte_target if roll else None, entry.dte_target),
        "roll_dte_max": _first(roll.dte_max if roll else None, entry.dte_max),
        "roll_delta_factor": float(roll.delta_factor) if roll else 1.0,
        "roll_max_debit": float(roll.max_debit) if roll else 0.0,
        "min_premium": float(filters.min_premium),
        "min_premium_usd": float(filters.min_premium_usd),
        "min_yield": float(filters.min_yield),
        "max_spread": float(filters.max_spread),
        "min_open_interest": float(filters.min_open_interest),
        "min_size": float(filters.min_size),
        "delta_tolerance": float(filters.delta_tolerance),
        "strike_tolerance": float(filters.strike_tolerance),
        "collateral": float(COLLATERAL.index(strategy.collateral)),
        "share": float(strategy.share),
        "sizing": float(SIZING.index(sizing.kind)),
        "sizing_value": float(sizing.value),
        "sizing_move": float(sizing.move),
        "hedge": 0.0 if hedge is None else 1.0 if hedge.neutral_in == "coin" else 2.0,
        "hedge_band": hedge.band if hedge else 0.0,
        "hedge_interval_us": hedge.interval_hours * 3.6e9 if hedge else 0.0,
        "wheel": float(bool(strategy.assigned_legs)),
        "linear": float(prepared.linear),
        "lot": prepared.lot,
        "perpetual_lot": prepared.perpetual_lot,
        "crossing": float(settings.crossing),
        "impact": float(settings.impact),
        "impact_power": float(settings.impact_power),
        "assumed_depth": float(settings.assumed_depth),
        "model_fills": float(settings.missing_quotes == "model"),
        "maker": float(settings.fills == "maker"),
        "maker_place": float(settings.maker_place),
        "maker_patience_us": settings.maker_patience_minutes * 60e6,
        "maker_rate": float(settings.maker_rate),
        "maker_queue_scale": float(settings.maker_queue_scale),
        "option_value_in_margin": float(settings.option_value_in_margin),
        "perpetual_half_spread": float(settings.perpetual_half_spread),
        "record": float(record),
    }
    return tuple(values[name] for name in RULES)


def _or_off(rule: float | None) -> float:
    return -1.0 if rule is None else float(rule)


def _first(rule: float | None, fallback: float) -> float:
    return float(fallback if rule is None else rule)


def _content(values: NDArray[Any]) -> str:
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


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
    return len({f["trade"] for f in rows if f["trade"] not in over and history.contracts["expiry"][f["contract"]] <= history.known_at[-1]})
