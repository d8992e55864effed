"""A run directed from outside does what its director says, and shows nothing of what comes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest

from options_agent.backtest.directed import DirectedRun, play_directed
from options_agent.errors import DataError, SettingsError
from options_agent.settings import BacktestSettings
from options_agent.strategies.catalogue import strategy
from options_agent.strategies.rules import Entry, Exit, Filters, Strategy
from tests.unit.backtest.worlds import World, random_world

CALL = replace(strategy("covered_call"), entry=Entry(1, 5, 12, hour_utc=0), filters=Filters(min_premium=0.0001, max_spread=9.0))


@lru_cache
def market(seed: int = 3) -> World:
    return random_world(seed, hours=6.0, snapshots=60, listed=True)


def directed(world: World, play: Strategy, answer: Any, *, ahead: int = 1, latency: float = 0.0) -> DirectedRun:
    def ask(rows: Sequence[dict[str, Any]]) -> list[str]:
        return [answer(row) for row in rows]

    return play_directed(world.history(), play, BacktestSettings(latency_seconds=latency), ask, ahead=ahead)


def at_half(row: dict[str, Any]) -> str:
    """What a take-profit at half the premium does."""
    if row["action"] == "open":
        return "open"
    return "close" if row["unrealised"] is not None and row["unrealised"] >= 0.5 else "hold"


def contrary(row: dict[str, Any]) -> str:
    """Something that depends on the row alone."""
    return row["choices"][int(row["index"]) % 2]


@pytest.mark.parametrize("latency", [0.0, 5 * 3600.0])
def test_a_director_who_follows_a_rule_plays_the_rules_run(latency: float) -> None:
    ruled = market().play(replace(CALL, exit=Exit(take_profit=0.5)), latency_seconds=latency)
    run = directed(market(), replace(CALL, exit=Exit(take_profit=0.1)), at_half, latency=latency)
    assert ruled.trades.num_rows > 3
    assert run.result.equity.equals(ruled.equity)
    assert run.result.fills.equals(ruled.fills)


def test_one_who_lets_be_holds_to_expiry_and_one_who_skips_never_trades() -> None:
    run = directed(market(), replace(CALL, exit=Exit(take_profit=0.1)), lambda row: row["action"] if row["action"] != "close" else "hold")
    assert run.result.equity.equals(market().play(replace(CALL, exit=Exit())).equity)
    idle = directed(market(), CALL, lambda row: row["choices"][1])
    assert idle.result.trades.num_rows == 0
    assert set(idle.result.equity["equity_coin"].to_pylist()) == {1.0}
    assert {row["answer"] for row in idle.asked} == {"skip"}


@pytest.mark.parametrize("seed", [3, 4])
def test_how_many_are_asked_at_once_changes_nothing(seed: int) -> None:
    one, many = directed(market(seed), CALL, contrary), directed(market(seed), CALL, contrary, ahead=13)
    assert one.result.trades.num_rows > 1
    assert one.result.equity.equals(many.result.equity)
    assert len(many.asked) >= len(one.asked)


def test_every_answer_asked_one_by_one_stands_in_the_run() -> None:
    run = directed(market(), CALL, contrary)
    done = [(d["ts"], d["action"]) for d in run.result.decisions.to_pylist() if d["reason"] in {"entered", "directed", "signal"}]
    assert [(row["ts"], row["answer"]) for row in run.asked] == done


def test_nothing_of_what_comes_is_shown() -> None:
    world, run = market(), directed(market(), CALL, contrary)
    cut = dt.datetime.fromtimestamp(int(world.history().known_at[30]) / 1e6, dt.UTC)
    changed = World(
        world.underlying,
        [q if q["ts"] <= cut else q | {n: q[n] and q[n] * 1.7 for n in ("bid", "ask", "mark", "index")} for q in world.quotes],
        [p if p["ts"] <= cut else p | {"price": p["price"] * 2} for p in world.prices],
        world.funding,
    )
    other = directed(changed, CALL, contrary)
    drop = ("row",)
    mine, its = ([{k: v for k, v in row.items() if k not in drop} for row in r.asked if row["ts"] <= cut] for r in (run, other))
    assert len(mine) > 10
    assert repr(mine) == repr(its)


def test_what_cannot_be_directed_is_refused() -> None:
    with pytest.raises(SettingsError, match="cannot direct"):
        directed(market(), replace(CALL, entry=replace(CALL.entry, max_open=2)), contrary)
    with pytest.raises(DataError, match="none of"):
        directed(market(), CALL, lambda _: "buy")
