"""Trades of two runs matched: what only one made, what both made on other terms, and why."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.backtest.aligned import common_range
from options_agent.backtest.codes import REASONS_IN_WORDS
from options_agent.backtest.saved_runs import load_run
from options_agent.backtest.saved_trades import PARTS, Trade
from options_agent.backtest.trade_diff import KINDS, effects, match, trade_diff
from options_agent.strategies.rules import Exit
from tests.unit.backtest.saved import copied, retell, rewrite, saved, table_of
from tests.unit.backtest.worlds import START, World, random_world, weekly_call

HOUR = dt.timedelta(hours=1)


@pytest.fixture(scope="module")
def world() -> World:
    return random_world(11, snapshots=90)


@pytest.fixture(scope="module")
def call(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = saved(world.play(weekly_call(exit=Exit(take_profit=0.6))), tmp_path_factory.mktemp("reports"))
    trades = table_of(path, "trades").to_pylist()
    assert {t["exit"] for t in trades} >= {"closed", "settled"}
    return path


def diff_of(base: Path, other: Path) -> dict[str, Any]:
    runs = load_run(base, "A"), load_run(other, "B")
    within = common_range(runs)
    assert within is not None
    return trade_diff(*runs, within)


def first(report: Path, exit_: str) -> dict[str, Any]:
    return next(t for t in table_of(report, "trades").to_pylist() if t["exit"] == exit_)


def changed(report: Path, table: str, wanted: Callable[[dict[str, Any]], bool], **values: Any) -> Path:
    """The report with columns of some rows replaced; a value may be a function of the former."""

    def change(row: dict[str, Any]) -> None:
        if wanted(row):
            row.update({name: v(row[name]) if callable(v) else v for name, v in values.items()})

    return rewrite(report, table, change)


def without_trade(report: Path, number: int) -> Path:
    import pyarrow.compute as pc

    from tests.unit.backtest.saved import put

    for name in ("trades", "fills", "decisions"):
        table = table_of(report, name)
        keep = pc.fill_null(pc.not_equal(table["trade"], number), True)
        put(report, name, table.filter(keep))
    return report


def only_pair(found: dict[str, Any]) -> dict[str, Any]:
    """The one entry that is not `same`."""
    told = [t for t in found["trades"] if t["kind"] != "same"]
    assert len(told) == 1, told
    return told[0]


def test_a_run_against_itself_is_all_the_same(call: Path, tmp_path: Path) -> None:
    found = diff_of(call, copied(call, tmp_path))
    n = table_of(call, "trades").num_rows
    assert found["counts"] == dict.fromkeys(KINDS, 0) | {"same": n}
    assert found["terms"] == {}
    assert set(found["difference_coin"].values()) == {0}
    assert found["exits"]["base"] == found["exits"]["other"]
    assert all(t["why"] == [] and t["difference_coin"] == 0 for t in found["trades"])


def test_a_trade_only_one_run_made(call: Path, tmp_path: Path) -> None:
    gone = first(call, "closed")
    found = diff_of(call, without_trade(copied(call, tmp_path), gone["trade"]))
    entry = only_pair(found)
    assert entry["kind"] == "only_base"
    assert entry["base"]["trade"] == gone["trade"]
    assert entry["other"] is None
    assert entry["difference_coin"] == -gone["profit_coin"]
    assert entry["why"] == ["B opened nothing then"]
    back = only_pair(diff_of(without_trade(copied(call, tmp_path / "b"), gone["trade"]), call))
    assert back["kind"] == "only_other"
    assert back["difference_coin"] == gone["profit_coin"]


def test_another_opening_price_with_the_same_mid_is_another_way_of_filling(call: Path, tmp_path: Path) -> None:
    trade = first(call, "closed")["trade"]
    other = changed(
        copied(call, tmp_path), "fills", lambda f: f["trade"] == trade and f["kind"] == "open", price=lambda p: p + 0.0005, mid=0.02
    )
    base = changed(copied(call, tmp_path / "base"), "fills", lambda f: f["trade"] == trade and f["kind"] == "open", mid=0.02)
    (reason,) = only_pair(diff_of(base, other))["why"]
    assert reason.startswith("opened at ")
    assert "same mid 0.02" in reason
    retell(other, lambda c: c["provenance"]["settings"].update(crossing=0.25))
    assert "(crossing 0.25 against 1, same mid 0.02)" in only_pair(diff_of(base, other))["why"][0]


def test_another_price_of_other_quotes(call: Path, tmp_path: Path) -> None:
    trade = first(call, "closed")["trade"]
    chosen = lambda f: f["trade"] == trade and f["kind"] == "close"  # noqa: E731
    base = changed(copied(call, tmp_path / "base"), "fills", chosen, mid=0.02)
    other = changed(copied(call, tmp_path), "fills", chosen, price=lambda p: p * 1.5, mid=0.03)
    entry = only_pair(diff_of(base, other))
    assert entry["terms"] == ["closing_price"]
    assert "(other quotes: mid 0.03 against 0.02)" in entry["why"][0]
    blank = changed(copied(call, tmp_path / "blank"), "fills", chosen, price=lambda p: p * 1.5, mid=None)
    assert "a side was not quoted" in only_pair(diff_of(base, blank))["why"][0]


def test_another_fee_of_another_schedule(call: Path, tmp_path: Path) -> None:
    trade = first(call, "settled")["trade"]
    other = changed(copied(call, tmp_path), "fills", lambda f: f["trade"] == trade and f["kind"] == "open", fee=lambda fee: fee * 2)
    entry = only_pair(diff_of(call, other))
    assert entry["terms"] == ["opening_fee"]
    assert "schedule" not in entry["why"][0]
    retell(other, lambda c: c["provenance"]["settings"].update(fee_schedule="mine"))
    assert "(schedule mine against deribit)" in only_pair(diff_of(call, other))["why"][0]


def test_another_settlement_price_and_how_it_was_found(call: Path, tmp_path: Path) -> None:
    trade = first(call, "settled")
    chosen = lambda t: t["trade"] == trade["trade"]  # noqa: E731
    base = changed(copied(call, tmp_path / "base"), "trades", chosen, settlement="index_30m_average", settlement_price=90_000.0)
    other = changed(copied(call, tmp_path), "trades", chosen, settlement="nearest_price", settlement_price=90_123.0)
    (reason,) = only_pair(diff_of(base, other))["why"]
    assert reason == "settled at 90,123.00 against 90,000.00 USD (nearest_price against index_30m_average): other prices"


def test_another_size_alone_and_in_proportion_to_the_capital(call: Path, tmp_path: Path) -> None:
    doubled = copied(call, tmp_path)
    for table in ("trades", "fills"):
        changed(doubled, table, lambda _: True, contracts=lambda c: 2 * c)
    changed(doubled, "fills", lambda _: True, fee=lambda fee: 2 * fee)
    found = diff_of(call, doubled)
    assert found["counts"]["other_terms"] == len(found["trades"])
    assert found["terms"] == {"size": len(found["trades"])}
    assert all(t["why"][0].startswith("size ") and "proportion" not in t["why"][0] for t in found["trades"])
    retell(doubled, lambda c: c["provenance"]["settings"].update(capital_coin=2.0))
    assert all("in proportion to the capital" in t["why"][0] for t in diff_of(call, doubled)["trades"])


def test_a_later_opening_of_the_same_contract_is_one_trade(call: Path, tmp_path: Path) -> None:
    trade = first(call, "closed")["trade"]
    late = changed(copied(call, tmp_path), "trades", lambda t: t["trade"] == trade, opened_at=lambda at: at + 6 * HOUR)
    retell(late, lambda c: c["provenance"]["settings"].update(latency_seconds=900.0))
    entry = only_pair(diff_of(call, late))
    assert entry["kind"] == "other_terms"
    assert entry["terms"] == ["opening_time"]
    assert entry["why"] == ["opened 6.0 h later: latency 900 s in B against 0 s"]
    assert only_pair(diff_of(late, call))["why"] == ["opened 6.0 h earlier: latency 900 s in A against 0 s"]
    retell(late, lambda c: c["provenance"]["settings"].update(latency_seconds=0.0))
    quick = copied(call, tmp_path, "0" * 12)
    retell(quick, lambda c: c["provenance"]["settings"].update(latency_seconds=900.0))
    assert only_pair(diff_of(quick, late))["why"] == ["opened 6.0 h later"]  # what was earlier by more latency was not so by latency


def test_a_late_opening_is_told_by_what_kept_the_run_from_opening_before(call: Path, tmp_path: Path) -> None:
    trade = first(call, "closed")
    late = changed(copied(call, tmp_path), "trades", lambda t: t["trade"] == trade["trade"], opened_at=lambda at: at + 6 * HOUR)
    changed(late, "decisions", lambda d: d["ts"] == trade["opened_at"], action=lambda _: "skip", reason=lambda _: "max_open")
    assert only_pair(diff_of(call, late))["why"] == [f"opened 6.0 h later: B declined: {REASONS_IN_WORDS['max_open']} at the earlier time"]


def test_a_missing_snapshot_explains_a_late_opening(call: Path, tmp_path: Path) -> None:
    from tests.unit.backtest.saved import put

    trade = first(call, "closed")
    late = changed(copied(call, tmp_path), "trades", lambda t: t["trade"] == trade["trade"], opened_at=lambda at: at + 6 * HOUR)
    equity = table_of(late, "equity")
    put(late, "equity", equity.filter([t != trade["opened_at"] for t in equity["ts"].to_pylist()]))
    assert "B has no snapshot at the earlier time" in only_pair(diff_of(call, late))["why"][0]
    gone = without_trade(late, trade["trade"])
    assert only_pair(diff_of(call, gone))["why"] == ["B has no snapshot then"]


def test_other_contracts_at_the_same_time(call: Path, tmp_path: Path) -> None:
    trade = first(call, "settled")
    other = copied(call, tmp_path)
    changed(other, "trades", lambda t: t["trade"] == trade["trade"], instruments=["BTC-16JAN26-99000-C"])
    changed(other, "fills", lambda f: f["trade"] == trade["trade"], instrument="BTC-16JAN26-99000-C")
    entry = only_pair(diff_of(call, other))
    assert entry["kind"] == "other_contracts"
    assert entry["why"][0] == f"BTC-16JAN26-99000-C in place of {trade['instruments'][0]}"


def test_another_exit_by_its_reason(world: World, call: Path, tmp_path: Path) -> None:
    held = saved(world.play(weekly_call()), tmp_path)
    found = diff_of(call, held)
    assert set(found["exits"]["other"]) <= {"settled", "open"}
    assert found["exits"]["base"]["take_profit"] > 0
    told = [t for t in found["trades"] if "exit" in t["terms"]]
    assert told
    for entry in told:
        assert entry["base"]["exit_reason"] == "take_profit"
        assert any(
            w.startswith("ended by another exit: expired and settled (") and "against take-profit met (" in w for w in entry["why"]
        ) or any("still open" in w for w in entry["why"])


def test_a_trade_still_open_in_the_run_that_ends_first(call: Path, tmp_path: Path) -> None:
    from tests.unit.backtest.saved import put

    trade = first(call, "settled")
    short = changed(copied(call, tmp_path), "trades", lambda t: t["trade"] == trade["trade"], closed_at=None, exit=None)
    (reason,) = only_pair(diff_of(call, short))["why"]
    assert reason == f"still open in B; the other ended {trade['closed_at']:%Y-%m-%d %H:%M}, expired and settled"
    equity = table_of(short, "equity")
    put(short, "equity", equity.filter([t < trade["closed_at"] for t in equity["ts"].to_pylist()]))
    found = diff_of(call, short)
    mine = next(t for t in found["trades"] if t["base"] and t["base"]["trade"] == trade["trade"])
    assert mine["why"][0].startswith("still open in B, whose run ends before; the other ended")
    assert found["outside"]["base"] == found["outside"]["other"]


def test_a_declined_entry_says_why(world: World, tmp_path: Path) -> None:
    strategy = weekly_call()
    strict = dataclasses.replace(strategy, filters=dataclasses.replace(strategy.filters, min_open_interest=1e9))
    found = diff_of(saved(world.play(strategy), tmp_path), saved(world.play(strict), tmp_path))
    assert found["counts"]["only_base"] == len(found["trades"]) > 0
    assert {w for t in found["trades"] for w in t["why"]} == {"B declined: open interest too small"}


def test_a_roll_and_a_liquidation_are_exits_of_their_own(call: Path, tmp_path: Path) -> None:
    trade = first(call, "closed")["trade"]
    rolled = changed(copied(call, tmp_path), "decisions", lambda d: d["trade"] == trade and d["action"] == "close", action="roll")
    assert "take_profit, rolled" in diff_of(call, rolled)["exits"]["other"]
    assert any("take-profit met, rolled" in w for w in only_pair(diff_of(call, rolled))["why"])


def test_what_a_price_is_from_explains_it(call: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    from tests.unit.backtest.saved import put

    paths = []
    for name, source in (("a", "quote"), ("b", "model")):
        path = copied(call, tmp_path / name)
        fills = table_of(path, "fills")
        if "source" in fills.column_names:
            fills = fills.drop_columns(["source"])
        put(path, "fills", fills.append_column("source", pa.array([source] * fills.num_rows)))
        paths.append(path)
    trade = first(call, "closed")["trade"]
    changed(paths[1], "fills", lambda f: f["trade"] == trade and f["kind"] == "open", price=lambda p: p * 2)
    assert "(filled by model against quote)" in only_pair(diff_of(*paths))["why"][0]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_trade_of_the_shared_time_is_told_once(seed: int, tmp_path: Path) -> None:
    world = random_world(seed, snapshots=60)
    runs = [world.play(weekly_call(exit=Exit(take_profit=tp))) for tp in (0.3, 0.7)]
    found = diff_of(*(saved(run, tmp_path) for run in runs))
    for side, run in zip(("base", "other"), runs, strict=True):
        told = [t[side]["trade"] for t in found["trades"] if t[side]]
        assert sorted(told) == sorted(run.trades["trade"].to_pylist())
    assert sum(found["counts"].values()) == len(found["trades"])
    profits = [sum(run.trades["profit_coin"].to_pylist()) for run in runs]
    assert sum(found["difference_coin"].values()) == pytest.approx(profits[1] - profits[0], abs=1e-12)


# --- laws


amounts = st.floats(-1, 1, allow_nan=False)


def trade(number: int, hour: int, contracts: float = 1.0, name: str = "X", **parts: float) -> Trade:
    opened = int((START + hour * HOUR).timestamp() * 1e6)
    made = dict.fromkeys(PARTS, 0.0) | parts
    profit = sum(sign * made[part] for part, sign in PARTS.items())
    return Trade(number, opened, None, None, None, (name,), contracts, None, None, made, profit, profit * 9e4, {}, {})


@given(st.lists(amounts, min_size=8, max_size=8), st.floats(0.1, 50), st.floats(0.1, 50))
def test_effects_sum_to_the_difference(values: list[float], size: float, other_size: float) -> None:
    a = trade(0, 0, size, **dict(zip(PARTS, values[:4], strict=True)))
    b = trade(0, 0, other_size, **dict(zip(PARTS, values[4:], strict=True)))
    found = effects(a, b)
    assert math.fsum(found.values()) == pytest.approx(b.profit - a.profit, abs=1e-9)
    assert found["rest"] == pytest.approx(0, abs=1e-9 * max(1, other_size / size))


def test_a_larger_size_of_the_same_trade_is_size_alone() -> None:
    a, b = trade(0, 0, 1.0, premium=0.02, fees=0.001), trade(0, 0, 3.0, premium=0.06, fees=0.003)
    assert effects(a, b) == pytest.approx({"size": 2 * a.profit} | dict.fromkeys([*PARTS, "rest"], 0.0), abs=1e-15)
    assert effects(trade(0, 0, 0.0), b)["rest"] == b.profit


hours = st.lists(st.integers(0, 60), max_size=12)


@given(hours, hours, st.integers(0, 20))
def test_matching_takes_the_nearest_and_no_trade_twice(left: list[int], right: list[int], apart: int) -> None:
    mine = [trade(n, h, name="XY"[n % 2]) for n, h in enumerate(left)]
    theirs = [trade(n, h, name="XY"[n % 2]) for n, h in enumerate(right)]
    limit = apart * 3_600_000_000
    pairs = match(mine, theirs, lambda a, b: a.instruments == b.instruments, limit)
    assert len({a.trade for a, _ in pairs}) == len({b.trade for _, b in pairs}) == len(pairs)
    assert all(a.instruments == b.instruments and abs(a.opened - b.opened) <= limit for a, b in pairs)
    # slow reference: the nearest of all pairs left, again and again
    free_left, free_right, expected = list(mine), list(theirs), []
    while near := [
        (abs(a.opened - b.opened), a.opened, a.trade, b.trade)
        for a in free_left
        for b in free_right
        if a.instruments == b.instruments and abs(a.opened - b.opened) <= limit
    ]:
        _, _, x, y = min(near)
        expected.append((x, y))
        free_left = [t for t in free_left if t.trade != x]
        free_right = [t for t in free_right if t.trade != y]
    assert [(a.trade, b.trade) for a, b in pairs] == expected
