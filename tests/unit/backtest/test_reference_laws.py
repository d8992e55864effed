"""The slow reference obeys the laws that it judges the engine by: no coin is lost, and what comes later changes nothing."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.strategies.rules import Strategy
from tests.unit.backtest.reference_book import Outcome
from tests.unit.backtest.reference_strategies import NAMES, SETTINGS, strategies
from tests.unit.backtest.worlds import World, random_world

UNDERLYINGS = ("BTC", "BTC_USDC")
SNAPSHOTS = 40


@lru_cache
def market(seed: int, underlying: str) -> World:
    """A violent market with contracts that stay listed; a few seeds are enough and building one is slow."""
    return random_world(seed, underlying=underlying, snapshots=SNAPSHOTS, listed=True, violence=0.05)


def streams(seed: int, snapshots: int = SNAPSHOTS) -> dict[str, Any]:
    """Features with holes, draws and correlation factors, a value a snapshot."""
    random = np.random.default_rng(seed)

    def holed() -> list[float | None]:
        return [None if random.random() < 0.1 else float(random.normal()) for _ in range(snapshots)]

    return {
        "features": {name: holed() for name in NAMES},
        "latency_z": random.normal(size=snapshots).tolist(),
        "fill_u": random.random(snapshots).tolist(),
        "size_correlation": (random.random(snapshots) / 2 + 0.5).tolist(),
    }


def spread(days: float, delta: float, mark: float) -> float:
    """Some model of the whole spread, coin."""
    return 0.0004 + 0.05 * mark + 0.0001 * days * delta


markets = st.builds(market, st.integers(0, 5), st.sampled_from(UNDERLYINGS))


@given(markets, strategies(), SETTINGS, st.integers(0, 99))
@hypothesis_settings(max_examples=20)
def test_every_coin_is_accounted_for(world: World, play: Strategy, settings: dict[str, Any], chance: int) -> None:
    out = world.slow(play, settings, model_spread=spread, **streams(chance))
    first, linear = out.equity[0], world.underlying.endswith("_USDC")
    capital = max(settings["capital_coin"], 1.0 if not linear else 0.1)
    start = {"coin": 0.0, "usd": 0.0}
    start[play.starts_in] = capital * (first["usd"] / first["coin"]) if play.starts_in == "usd" else capital
    flows = [(f["at"], "usd" if linear else "coin", -f["contracts"] * f["price"] - f["fee"]) for f in out.fills]
    flows += [(m["at"], m["currency"], m["amount"]) for m in out.moves]
    for row in out.equity:
        cash = {c: start[c] + sum(a for at, currency, a in flows if currency == c and at <= row["ts"]) for c in start}
        assert row["cash"] == pytest.approx(cash["coin"], abs=1e-9)
        assert row["usd_cash"] == pytest.approx(cash["usd"], abs=1e-5)
        index = row["usd"] / row["coin"]
        assert row["coin"] == pytest.approx(row["cash"] + row["usd_cash"] / index + row["options"], abs=1e-9)
    still = {f["trade"] for f in out.fills} - {n for n, t in enumerate(out.trades) if t["closed_at"]}
    assert out.equity[-1]["open"] == len(still)


@given(markets, strategies(), SETTINGS, st.integers(0, 99), st.floats(0.1, 0.9))
@hypothesis_settings(max_examples=20)
def test_what_comes_later_changes_nothing_of_what_was(
    world: World, play: Strategy, settings: dict[str, Any], chance: int, part: float
) -> None:
    before = world.slow(play, settings, model_spread=spread, **streams(chance))
    cut = int(part * SNAPSHOTS)
    now = before.equity[cut]["ts"] + dt.timedelta(microseconds=1)
    other = streams(chance + 100)
    mine = streams(chance)
    for name in ("latency_z", "fill_u", "size_correlation"):
        other[name][: cut + 1] = mine[name][: cut + 1]
    for name in NAMES:
        other["features"][name][: cut + 1] = mine["features"][name][: cut + 1]
    after = changed(world, now, chance).slow(play, settings, model_spread=spread, **other)
    assert until(before, now) == until(after, now)


def until(out: Outcome, now: dt.datetime) -> list[Any]:
    """All that was known before `now`."""
    fills, moves = ([r for r in rows if r["at"] < now] for rows in (out.fills, out.moves))
    return [fills, moves, [r for r in out.equity if r["ts"] < now], [d for d in out.decisions if d[0] < now]]


def changed(world: World, now: dt.datetime, chance: int) -> World:
    """Another market from `now` on: other prices, rows gone, other funding."""
    random = np.random.default_rng(chance)
    return World(
        world.underlying,
        [q if q["ts"] < now else disturbed(q, random) for q in world.quotes if q["ts"] < now or random.random() < 0.8],
        [p if p["ts"] < now else p | {"price": p["price"] * 1.3} for p in world.prices if p["ts"] < now or random.random() < 0.8],
        [f if f["ts"] < now else f | {"rate_8h": -9 * f["rate_8h"]} for f in world.funding if f["ts"] < now or random.random() < 0.8],
    )


def disturbed(quote: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    """The same contract in another market."""
    factor = float(random.uniform(0.3, 3.0))
    changes: dict[str, Any] = {
        n: quote[n] and quote[n] * factor for n in ("bid", "ask", "mark", "index", "forward", "bid_size", "ask_size")
    }
    return quote | changes | {"delta": float(random.uniform(-1, 1)), "open_interest": None}


@given(markets, strategies(), SETTINGS, st.integers(0, 99), st.integers(5, SNAPSHOTS - 1))
@hypothesis_settings(max_examples=20)
def test_a_shorter_run_is_the_beginning_of_a_longer_one(
    world: World, play: Strategy, settings: dict[str, Any], chance: int, part: int
) -> None:
    whole = world.slow(play, settings, model_spread=spread, **streams(chance))
    now = whole.equity[part - 1]["ts"] + dt.timedelta(microseconds=1)
    short = World(world.underlying, *([r for r in rows if r["ts"] < now] for rows in (world.quotes, world.prices, world.funding)))
    half = short.slow(play, settings, model_spread=spread, **streams(chance))
    assert until(half, now) == until(whole, now)
