"""Plays the compiled engine and the slow reference over one world and holds them to each other, to 1e-9 coin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from options_agent.backtest.engine import Directions
from options_agent.backtest.market import FILLS, LATENCY, draws
from options_agent.backtest.result import BacktestResult
from options_agent.strategies.rules import SIGNALS, Strategy
from tests.unit.backtest.reference_book import Outcome
from tests.unit.backtest.reference_costs import model_spread
from tests.unit.backtest.reference_strategies import NAMES
from tests.unit.backtest.worlds import World

TOLERANCE = 1e-9


def snapshots_of(world: World) -> int:
    """How many there are."""
    return len({q["snapshot"] for q in world.quotes})


def features_of(world: World, seed: int) -> dict[str, np.ndarray]:
    """Features at random, a value a snapshot, a tenth of them unknown."""
    random, count = np.random.default_rng(seed), snapshots_of(world)
    return {
        name: np.where(random.random(count) < 0.1, np.nan, random.normal(size=count))
        for name in (*NAMES, *sorted(set(SIGNALS) - set(NAMES)))
    }


def fast(
    world: World,
    play: Strategy,
    settings: dict[str, Any],
    *,
    seed: int,
    features: dict[str, np.ndarray],
    directions: Directions | None = None,
) -> BacktestResult:
    """The compiled engine's play."""
    return world.play(play, features=features, directions=directions, seed=seed, **settings)


def slow(
    world: World,
    play: Strategy,
    settings: dict[str, Any],
    *,
    seed: int,
    features: dict[str, np.ndarray],
    directions: Directions | None = None,
) -> Outcome:
    """The reference's play, with the draws that the engine is given as data."""
    count = snapshots_of(world)
    return world.slow(
        play,
        settings,
        barred=None if directions is None else set(np.flatnonzero(~directions.enter).tolist()),
        closes=None if directions is None else set(np.flatnonzero(directions.close).tolist()),
        features={name: [None if np.isnan(v) else float(v) for v in values] for name, values in features.items()},
        latency_z=draws(seed, LATENCY).standard_normal(count).tolist(),
        size_correlation=[correlation_factor(float(v)) for v in features["correlation"]],
        fill_u=draws(seed, FILLS).random(count).tolist(),
        model_spread=model_spread,
    )


def correlation_factor(correlation: float) -> float:
    """1 up to a half, then down in a line to a half at 1; an unknown correlation counts as 1."""
    return 0.5 if math.isnan(correlation) else 1.0 if correlation <= 0.5 else max(1.5 - correlation, 0.5)


def both(world: World, play: Strategy, settings: dict[str, Any], *, seed: int, directions: Directions | None = None) -> BacktestResult:
    """Play both and compare."""
    features = features_of(world, seed)
    result = fast(world, play, settings, seed=seed, features=features, directions=directions)
    agree(result, slow(world, play, settings, seed=seed, features=features, directions=directions))
    return result


def agree(result: BacktestResult, expected: Outcome) -> None:
    """Decisions, fills, trades and the equity curve are those of the reference."""
    decided = [(d["ts"], d["action"], d["reason"]) for d in result.decisions.to_pylist()]
    assert sorted(decided) == sorted(expected.decisions)
    _same_trades(result, expected)
    equity = result.equity.to_pylist()
    assert [e["ts"] for e in equity] == [e["ts"] for e in expected.equity]
    for name, other in (("coin_cash", "cash"), ("options_coin", "options"), ("equity_coin", "coin")):
        assert [e[name] for e in equity] == pytest.approx([e[other] for e in expected.equity], rel=TOLERANCE, abs=TOLERANCE)
    unit = equity[0]["index"]
    for name, other in (("usd_cash", "usd_cash"), ("equity_usd", "usd")):
        assert [e[name] / unit for e in equity] == pytest.approx([e[other] / unit for e in expected.equity], rel=TOLERANCE, abs=TOLERANCE)
    for name, other in (("delta", "delta"), ("initial_margin", "im"), ("maintenance_margin", "mm")):
        assert [e[name] for e in equity] == pytest.approx([e[other] for e in expected.equity], rel=TOLERANCE, abs=TOLERANCE)
    assert [e["open_positions"] for e in equity] == [e["open"] for e in expected.equity]


def _same_trades(result: BacktestResult, expected: Outcome) -> None:
    trades, fills = result.trades.to_pylist(), result.fills.to_pylist()
    assert [(t["opened_at"], t["closed_at"], t["exit"], t["instruments"]) for t in trades] == [
        (t["opened_at"], t["closed_at"], t["exit"], t["instruments"]) for t in expected.trades
    ]
    for number, (trade, other) in enumerate(zip(trades, expected.trades, strict=True)):
        mine = [f for f in fills if f["trade"] == trade["trade"]]
        slow = [f for f in expected.fills if f["trade"] == number]
        assert [_fill(f, "ts") for f in mine] == [_fill(f, "at") for f in slow]
        for name in ("price", "fee", "contracts"):
            assert [f[name] for f in mine] == pytest.approx([f[name] for f in slow], rel=TOLERANCE, abs=TOLERANCE)
        assert trade["contracts"] == pytest.approx(other["units"], abs=TOLERANCE)
        for name in ("fees", "profit"):
            assert trade[f"{name}_coin"] == pytest.approx(other[name], abs=TOLERANCE)
        assert trade["profit_usd"] == pytest.approx(other["profit_usd"], abs=1e-4)
        assert trade["settlement"] == other.get("method")
        assert trade["settlement_price"] == pytest.approx(other.get("settlement_price"), abs=1e-6)


def _fill(fill: dict[str, Any], at: str) -> tuple[Any, ...]:
    source = fill["source"] if "source" in fill else "model" if fill["model"] else "maker" if fill["maker"] else "quote"
    return fill[at], fill["leg"], fill["kind"], fill["instrument"], source
