"""Laws of every account, over strategies of all rule kinds: no coin is lost, and what comes later changes nothing."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.backtest.result import BacktestResult
from options_agent.strategies.catalogue import CATALOGUE
from options_agent.strategies.rules import Strategy
from tests.unit.backtest.reference_agreement import fast, features_of
from tests.unit.backtest.reference_strategies import SETTINGS, strategies
from tests.unit.backtest.test_against_reference import COSTS
from tests.unit.backtest.test_reference_laws import SNAPSHOTS, changed, markets
from tests.unit.backtest.worlds import World, random_world


@given(markets, strategies(), SETTINGS, st.integers(0, 99))
@hypothesis_settings(max_examples=30)
def test_the_ledger_sums_to_cash_and_with_the_options_to_equity_at_every_snapshot(
    world: World, play: Strategy, settings: dict[str, Any], seed: int
) -> None:
    result = fast(world, play, settings, seed=seed, features=features_of(world, seed))
    ledger, equity = result.ledger, result.equity.to_pylist()
    at, amount = ledger["ts"].to_numpy(), ledger["amount"].to_numpy()
    currency = np.array(ledger["currency"].to_pylist())
    for row in equity:
        known = at <= np.datetime64(row["ts"].replace(tzinfo=None), "us")
        coin, usd = (float(amount[known & (currency == c)].sum()) for c in ("coin", "usd"))
        assert row["coin_cash"] == pytest.approx(coin, rel=1e-10, abs=1e-10)
        assert row["usd_cash"] == pytest.approx(usd, rel=1e-10, abs=1e-6)
        assert row["equity_coin"] == pytest.approx(coin + usd / row["index"] + row["options_coin"], rel=1e-10, abs=1e-10)
        assert row["equity_usd"] == pytest.approx(row["equity_coin"] * row["index"])
    paid = [sum(r["amount"] for r in ledger.to_pylist() if r["kind"] == "deposit" and r["currency"] == c) for c in ("coin", "usd")]
    first, last = equity[0], equity[-1]
    expected = last["equity_coin"] / (paid[0] + paid[1] / first["index"]) - 1  # of what was paid in, not of what the first entries left
    assert result.metrics["return_coin"] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    expected = last["equity_usd"] / (paid[0] * first["index"] + paid[1]) - 1
    assert result.metrics["return_usd"] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    held: dict[tuple[int, int], float] = {}
    for fill in result.fills.to_pylist():
        leg = (fill["trade"], fill["leg"])
        assert (fill["kind"] == "open") == (leg not in held)  # nothing is closed or settled that was not opened, nor twice
        held[leg] = held.get(leg, 0.0) + fill["contracts"]
        assert fill["kind"] == "open" or held[leg] == pytest.approx(0.0)


@given(markets, strategies(), SETTINGS, st.integers(0, 99), st.floats(0.1, 0.9))
@hypothesis_settings(max_examples=30)
def test_what_comes_later_changes_nothing_of_what_was(
    world: World, play: Strategy, settings: dict[str, Any], seed: int, part: float
) -> None:
    features = features_of(world, seed)
    before = fast(world, play, settings, seed=seed, features=features)
    cut = int(part * SNAPSHOTS)
    now = before.equity["ts"].to_pylist()[cut] + dt.timedelta(microseconds=1)
    other = features_of(world, seed + 100)
    mixed = {name: np.concatenate([features[name][: cut + 1], values[cut + 1 :]]) for name, values in other.items()}
    after = fast(changed(world, now, seed), play, settings, seed=seed, features=mixed)
    assert until(before, now) == until(after, now)


@lru_cache
def catalogue_market(underlying: str, cut: int | None = None) -> World:
    """Some weeks in which every strategy has something to do; with `cut` another market from that snapshot on."""
    if cut is None:
        return random_world(7, underlying=underlying, snapshots=100, listed=True, violence=0.02)
    world = catalogue_market(underlying)
    known = int(world.history().known_at[cut])
    return changed(world, dt.datetime.fromtimestamp(known / 1e6, dt.UTC) + dt.timedelta(microseconds=1), cut)


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("name", sorted(CATALOGUE))
@pytest.mark.parametrize("underlying", ["BTC", "BTC_USDC"])
def test_no_strategy_of_the_catalogue_knows_what_comes_later(name: str, underlying: str, costs: str) -> None:
    world, settings = catalogue_market(underlying), {"capital_coin": 3.0, **COSTS[costs]}
    features, other = features_of(world, 1), features_of(world, 2)
    play = CATALOGUE[name]
    if name == "iron_condor":  # this market lists no strikes as far out as its wings
        play = replace(play, legs=tuple(replace(leg, target=leg.target * 0.44) if leg.by == "offset" else leg for leg in play.legs))
    before = fast(world, play, settings, seed=1, features=features)
    traded = 0
    for cut in (30, 80):
        now = before.equity["ts"].to_pylist()[cut] + dt.timedelta(microseconds=1)
        mixed = {name: np.concatenate([values[: cut + 1], other[name][cut + 1 :]]) for name, values in features.items()}
        after = fast(catalogue_market(underlying, cut), play, settings, seed=1, features=mixed)
        assert until(before, now) == until(after, now)
        assert until(before, now + dt.timedelta(days=400)) != until(after, now + dt.timedelta(days=400))
        traded += sum(fill["ts"] < now for fill in before.fills.to_pylist())
    assert traded > 0 or (name, costs) == ("iron_condor", "resting")  # four legs that rest are never filled together here


@given(markets, strategies(), SETTINGS, st.integers(0, 99), st.integers(5, SNAPSHOTS - 1))
@hypothesis_settings(max_examples=20)
def test_a_shorter_run_is_the_beginning_of_a_longer_one(
    world: World, play: Strategy, settings: dict[str, Any], seed: int, part: int
) -> None:
    features = features_of(world, seed)
    whole = fast(world, play, settings, seed=seed, features=features)
    now = whole.equity["ts"].to_pylist()[part - 1] + dt.timedelta(microseconds=1)
    quotes, prices, funding = ([r for r in rows if r["ts"] < now] for rows in (world.quotes, world.prices, world.funding))
    short = World(world.underlying, quotes, prices, funding)
    half = fast(short, play, settings, seed=seed, features={name: values[:part] for name, values in features.items()})
    assert until(half, now) == until(whole, now)


def until(result: BacktestResult, now: dt.datetime) -> str:
    """All that was known before `now`; numbers of rows and contracts depend on all that occur, so they are left out."""
    tables = []
    for name in ("fills", "ledger", "equity", "decisions"):
        table = getattr(result, name)
        rows = table.drop_columns([c for c in ("contract", "row") if c in table.column_names]).to_pylist()
        tables.append([r for r in rows if r["ts"] < now])
    return repr(tables)  # NaN is NaN
