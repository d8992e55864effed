"""A joint book: against a slow reference in plain Python, risk that sums to the whole, and every edge said in words."""

from __future__ import annotations

import datetime as dt
import json
import math
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from options_agent.backtest.aligned import Range
from options_agent.backtest.bootstrap import indices
from options_agent.backtest.joint import Rebalance, book_metrics, build_book, joint_book
from options_agent.backtest.joint_risk import contributions, correlation, correlation_interval, daily_risk, rolling_correlation
from options_agent.backtest.metrics import METRICS
from options_agent.backtest.metrics.returns import expected_shortfall, volatility
from options_agent.backtest.saved_runs import SavedRun, load_run, times
from options_agent.errors import DataError
from options_agent.quotes import UTC_US
from options_agent.strategies.catalogue import CATALOGUE
from tests.unit.backtest.saved import put, saved, table_of
from tests.unit.backtest.worlds import START, random_world

DAY = dt.timedelta(days=1)
DAY_US = 86_400_000_000
START_US = int(START.timestamp()) * 1_000_000
LABELS = pa.schema([("ts", UTC_US), ("regime", pa.string()), ("trend", pa.string())])


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    bitcoin, ether = random_world(7, snapshots=160), random_world(8, snapshots=180, underlying="ETH")
    return {
        "BTC": saved(bitcoin.play(CATALOGUE["covered_call"]), folder),
        "ETH": saved(ether.play(CATALOGUE["covered_call"]), folder),
        "put": saved(bitcoin.play(CATALOGUE["cash_secured_put"]), folder),
        "short": saved(random_world(7, snapshots=4).play(CATALOGUE["covered_call"]), folder),
    }


@pytest.fixture
def pair(reports: dict[str, Path]) -> list[SavedRun]:
    return [load_run(reports["BTC"], "A"), load_run(reports["ETH"], "B")]


def labels(every: int = 9) -> pa.Table:
    names = ("bull_calm", "bear_stormy")
    rows = [{"ts": START + every * n * DAY, "regime": names[n % 2], "trend": "bull"} for n in range(12)]
    return pa.Table.from_pylist(rows, schema=LABELS)


def began_with(run: SavedRun, start: dt.datetime) -> float:
    """USD in a run when the shared time began: what was paid in where that is its own first snapshot."""
    assert run.equity is not None
    first, *_ = run.equity.to_pylist()
    if first["ts"] == start:
        return float(first["deposited_coin"] * first["index"] + first["deposited_usd"])
    return float([row["equity_usd"] for row in run.equity.to_pylist() if row["ts"] <= start][-1])


def slow_book(runs: list[SavedRun], weights: list[float], rebalance: Rebalance) -> list[tuple[dt.datetime, float, list[float]]]:
    """Time, equity and what is in each run, by walking through the union of snapshots."""
    rows = [r.equity.to_pylist() for r in runs if r.equity is not None]
    start, end = max(r[0]["ts"] for r in rows), min(r[-1]["ts"] for r in rows)
    moments = sorted({row["ts"] for r in rows for row in r if start <= row["ts"] <= end} | {start, end})

    def usd(i: int, at: dt.datetime) -> float:
        return float([row["equity_usd"] for row in rows[i] if row["ts"] <= at][-1])

    began = [began_with(run, start) for run in runs]
    capital = sum(began)
    inside = [w * capital for w in weights]
    out = [(start, capital, inside)]
    inside = [v * usd(i, start) / began[i] for i, v in enumerate(inside)]
    out.append((start, sum(inside), inside))
    for before, at in pairwise(moments):
        crossed = at.date() > before.date()
        if crossed and rebalance == "daily":  # at the midnight between, by what was last known then
            moved = [w * sum(inside) for w in weights]
            if at != at.replace(hour=0, minute=0, second=0, microsecond=0):
                inside = moved
        inside = [v * usd(i, at) / usd(i, before) for i, v in enumerate(inside)]
        if rebalance == "daily" and at == at.replace(hour=0, minute=0, second=0, microsecond=0):
            inside = [w * sum(inside) for w in weights]
        out.append((at, sum(inside), inside))
    return out


@pytest.mark.parametrize("rebalance", ["never", "daily"])
@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.2, 0.8]], ids=["equal", "uneven"])
def test_the_book_agrees_with_the_slow_reference(pair: list[SavedRun], rebalance: Rebalance, weights: list[float]) -> None:
    expected = slow_book(pair, weights, rebalance)
    found = joint_book(pair, {}, weights, rebalance)
    last = expected[-1][1] / expected[0][1] - 1
    assert found["capital_usd"] == pytest.approx(expected[0][1], rel=1e-12)
    assert found["metrics"]["return_usd"] == pytest.approx(last, rel=1e-9)
    peak, deepest = 0.0, 0.0
    for _, equity, _ in expected:
        peak = max(peak, equity)
        deepest = max(deepest, 1 - equity / peak)
    assert found["metrics"]["max_drawdown_usd"] == pytest.approx(deepest, rel=1e-9)
    for day in found["daily"]:
        at = dt.datetime.fromisoformat(day["at"])
        equity, inside = [(e, i) for t, e, i in expected if t <= at][-1]
        assert day["equity_usd"] == pytest.approx(equity, rel=1e-9)
        shares = weights if rebalance == "daily" else [v / equity for v in inside]
        assert day["weights"] == pytest.approx(shares, rel=1e-9)
    daily = [day["equity_usd"] for day in found["daily"]]
    returns = [b / a - 1 for a, b in pairwise(daily)]
    sharpe = statistics.mean(returns) / statistics.stdev(returns) * math.sqrt(365)
    assert found["metrics"]["sharpe_usd"] == pytest.approx(sharpe, rel=1e-9)
    assert found["days"] == len(returns)


def test_trades_and_costs_are_those_of_the_runs_in_usd(pair: list[SavedRun]) -> None:
    found = joint_book(pair, {}, [1, 3])
    metrics, start, end = found["metrics"], *(dt.datetime.fromisoformat(found["range"][k]) for k in ("start", "end"))
    profits, fees, slippage, sold = [], 0.0, 0.0, 0.0
    for run, weight in zip(pair, (0.25, 0.75), strict=True):
        assert run.equity is not None
        assert run.trades is not None
        assert run.fills is not None
        scale = weight * found["capital_usd"] / began_with(run, start)
        within = [t for t in run.trades.to_pylist() if start <= t["opened_at"] <= end]
        profits += [scale * t["profit_usd"] for t in within if t["closed_at"] is not None and t["closed_at"] <= end]
        for fill in run.fills.to_pylist():
            if start <= fill["ts"] <= end:
                fees += scale * fill["fee"] * fill["index"]
                if fill["mid"] is not None and fill["kind"] in ("open", "close"):
                    slippage += scale * (fill["price"] - fill["mid"]) * fill["contracts"] * fill["index"]
                if fill["kind"] == "open" and fill["contracts"] < 0:
                    sold -= scale * fill["contracts"] * fill["price"] * fill["index"]
    assert metrics["closed_trades"] == len(profits)
    assert metrics["win_rate"] == pytest.approx(statistics.mean(p > 0 for p in profits))
    assert metrics["average_trade_usd"] == pytest.approx(statistics.mean(profits), rel=1e-9)
    assert metrics["worst_trade_usd"] == pytest.approx(min(profits), rel=1e-9)
    assert metrics["fees_usd"] == pytest.approx(fees, rel=1e-9)
    assert metrics["slippage_usd"] == pytest.approx(slippage, rel=1e-9)
    assert metrics["premium_sold_usd"] == pytest.approx(sold, rel=1e-9)


@pytest.mark.parametrize("rebalance", ["never", "daily"])
def test_what_hedges_moved_is_that_of_the_runs_by_what_was_held(tmp_path: Path, rebalance: Rebalance) -> None:
    worlds = (random_world(7, snapshots=160), random_world(8, snapshots=180, underlying="ETH"))
    runs = [load_run(saved(w.play(CATALOGUE["short_strangle_hedged"]), tmp_path), f"{n}") for n, w in enumerate(worlds)]
    found = joint_book(runs, {}, None, rebalance)
    start, end = (dt.datetime.fromisoformat(found["range"][k]) for k in ("start", "end"))
    paid, once = 0.0, 0.0
    for run in runs:
        assert run.equity is not None
        scale = 0.5 * found["capital_usd"] / began_with(run, start)
        for row in run.equity.to_pylist():
            if start <= row["ts"] <= end:
                paid -= scale * row["hedge_fee"] * row["index"]
                once = max(once, abs(row["hedge_fee"]))
    assert once > 0
    tolerance = 1e-9 if rebalance == "never" else 0.2  # what is held then drifts from the split of the start
    assert found["metrics"]["hedge_costs_usd"] == pytest.approx(paid, rel=tolerance)


def test_every_metric_that_means_something_in_usd_is_there(pair: list[SavedRun]) -> None:
    expected = {m.name for m in METRICS if not m.name.endswith("_coin")} - {"gamma_average"} | {"premium_usd", "premium_sold_usd"}
    found = joint_book(pair, {})["metrics"]
    assert found.keys() == expected
    for name in ("exposure", "turnover", "margin_average", "delta_average", "premium_captured", "hold_return_usd"):
        assert found[name] is not None, name
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("rebalance", ["never", "daily"])
def test_a_run_with_itself_is_itself(reports: dict[str, Path], rebalance: Rebalance) -> None:
    runs = [load_run(reports["BTC"], label) for label in "AB"]
    found = joint_book(runs, {"BTC": labels()}, [0.3, 0.7], rebalance)
    alone = runs[0].report["metrics"]
    for name in ("return_usd", "sharpe_usd", "max_drawdown_usd", "win_rate", "exposure", "hold_return_usd", "margin_average"):
        assert found["metrics"][name] == pytest.approx(alone[name], rel=1e-9), name
    assert found["metrics"]["fees_usd"] == pytest.approx(2 * alone["fees_usd"], rel=1e-9)  # the capital is both runs'
    (one,) = found["correlation"]
    assert one["runs"]["value"] == pytest.approx(1)
    assert one["underlyings"] == pytest.approx(1)
    assert found["risk"]["diversification_ratio"] == pytest.approx(1, rel=1e-3)
    if rebalance == "daily":
        assert [c["volatility_share"] for c in found["risk"]["components"]] == pytest.approx([0.3, 0.7])


MATRICES = st.integers(2, 4).flatmap(
    lambda runs: st.integers(10, 60).flatmap(
        lambda days: st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).normal(0.0, 0.02, (runs, days)))
    )
)


@limits(max_examples=60, deadline=None)
@given(parts=MATRICES)
def test_contributions_sum_to_the_total(parts: np.ndarray) -> None:
    names = [str(n) for n in range(parts.shape[0])]
    found, book = contributions(parts, names), parts.sum(axis=0)
    assert found["volatility"] == pytest.approx(volatility(book), rel=1e-12)
    assert found["expected_shortfall"] == pytest.approx(expected_shortfall(book), rel=1e-12)
    assert math.fsum(c["volatility"] for c in found["components"]) == pytest.approx(found["volatility"], rel=1e-9)
    assert math.fsum(c["expected_shortfall"] for c in found["components"]) == pytest.approx(found["expected_shortfall"], rel=1e-9)
    assert math.fsum(c["volatility_share"] for c in found["components"]) == pytest.approx(1, rel=1e-9)
    assert found["diversification_ratio"] >= 1 - 1e-12
    # each by its definition: what the book's volatility gains by a little more of the part
    for n, component in enumerate(found["components"]):
        step = 1e-6
        up, down = (book + sign * step * parts[n] for sign in (1, -1))
        slope = (volatility(up) - volatility(down)) / (2 * step)
        assert component["volatility"] == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_contributions_of_a_real_book_sum_to_its_own_metrics(pair: list[SavedRun]) -> None:
    for rebalance in ("never", "daily"):
        found = joint_book(pair, {}, [0.4, 0.6], "daily" if rebalance == "daily" else "never")
        risk = found["risk"]
        assert risk["volatility"] == pytest.approx(found["metrics"]["volatility_usd"], rel=1e-9)
        assert risk["expected_shortfall"] == pytest.approx(found["metrics"]["expected_shortfall_usd"], rel=1e-9)
        assert sum(c["volatility"] for c in risk["components"]) == pytest.approx(risk["volatility"], rel=1e-12)
        assert sum(c["expected_shortfall"] for c in risk["components"]) == pytest.approx(risk["expected_shortfall"], rel=1e-12)


@limits(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(10, 80), tie=st.floats(-1, 1))
def test_correlation_is_pearsons(seed: int, n: int, tie: float) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(0, 0.02, n)
    y = tie * x + random.normal(0, 0.02, n)
    assert correlation(x, y) == pytest.approx(statistics.correlation(x.tolist(), y.tolist()), abs=1e-12)
    rolled = rolling_correlation(x, y, 10)
    for t in range(n):
        if t < 9:
            assert math.isnan(rolled[t])
        else:
            assert rolled[t] == pytest.approx(statistics.correlation(x[t - 9 : t + 1].tolist(), y[t - 9 : t + 1].tolist()), abs=1e-9)


def test_correlation_is_not_defined_where_it_says_nothing() -> None:
    moving = np.linspace(-0.01, 0.02, 12)
    assert math.isnan(correlation(moving[:9], moving[:9]))
    assert math.isnan(correlation(moving, np.zeros(12)))
    assert correlation_interval(moving, np.zeros(12), 1) is None
    assert np.isnan(rolling_correlation(moving, np.zeros(12), 10)).all()
    assert np.isnan(rolling_correlation(moving, moving, 13)).all()


def test_an_interval_of_correlation_draws_the_same_days_for_both() -> None:
    random = np.random.default_rng(5)
    x = random.normal(0, 0.02, 90)
    low, high = correlation_interval(x, 2 * x, 3) or (0.0, 0.0)
    assert low == pytest.approx(high)
    assert high == pytest.approx(1)
    y = 0.6 * x + 0.8 * random.normal(0, 0.02, 90)
    low, high = correlation_interval(x, y, 3) or (0.0, 0.0)
    assert low < correlation(x, y) < high
    assert correlation_interval(x, y, 3) == (low, high)
    # by hand, day by day, over the same draws
    order = indices(90, 1.0, 400, np.random.default_rng(1))
    slow = [statistics.correlation(x[row].tolist(), y[row].tolist()) for row in order]
    assert low == pytest.approx(np.quantile(slow, 0.05), abs=0.05)
    assert high == pytest.approx(np.quantile(slow, 0.95), abs=0.05)


def test_correlation_by_regime_is_that_of_the_days_that_began_in_it(pair: list[SavedRun]) -> None:
    known = labels()
    found = joint_book(pair, {"BTC": known, "ETH": labels(5)})
    assert found["by_regime"].keys() == {"BTC", "ETH"}
    start, end = (dt.datetime.fromisoformat(found["range"][k]) for k in ("start", "end"))
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    days = [d for n in range(400) if start <= (d := midnight + n * DAY) <= end]

    def returns(run: SavedRun, column: str) -> list[float]:
        assert run.equity is not None
        rows = run.equity.to_pylist()
        levels = [[row[column] for row in rows if row["ts"] <= day][-1] for day in days]
        return [b / a - 1 for a, b in pairwise(levels)]

    def regime(day: dt.datetime) -> str:
        return str([row["regime"] for row in known.to_pylist() if row["ts"] <= day][-1])

    assert found["days"] == len(days) - 1
    for row in found["by_regime"]["BTC"]:
        mine = [n for n, day in enumerate(days[:-1]) if regime(day) == row["regime"]]
        assert row["days"] == len(mine)
        assert row["small_sample"] == (len(mine) < 30)
        (one,) = row["pairs"]
        for column, value in (("equity_usd", one["runs"]["value"]), ("index", one["underlyings"])):
            x, y = ([returns(run, column)[n] for n in mine] for run in pair)
            if len(mine) >= 10:
                assert value == pytest.approx(statistics.correlation(x, y), abs=1e-9)
            else:
                assert value is None
    for rows in found["by_regime"].values():
        assert sum(row["days"] for row in rows) == found["days"]


def test_the_future_changes_nothing_known_before(pair: list[SavedRun]) -> None:
    assert pair[1].equity is not None
    whole = joint_book(pair, {"BTC": labels()})
    ts = times(pair[1].equity, "ts")
    later = np.where(ts > ts[100], 1.5, 1.0)
    changed = pair[1].equity
    for name in ("equity_usd", "equity_coin", "index"):
        changed = changed.set_column(changed.column_names.index(name), name, pa.array(changed[name].to_numpy() * later))
    other = joint_book([pair[0], SavedRun(**{**vars(pair[1]), "equity": changed})], {"BTC": labels()})
    edge = dt.datetime.fromtimestamp(ts[100] / 1e6, dt.UTC).isoformat()
    before = [day for day in whole["daily"] if day["at"] <= edge]
    assert len(before) > 10
    assert [day for day in other["daily"] if day["at"] <= edge] == before
    rolled = [[p for p in one["rolling"]["pairs"][0]["values"] if p["at"] <= edge] for one in (whole, other)]
    assert rolled[0] == rolled[1]


def test_a_book_has_paired_intervals_and_is_the_same_again(pair: list[SavedRun]) -> None:
    found = joint_book(pair, {"BTC": labels()})
    for name in ("return_usd", "sharpe_usd", "max_drawdown_usd", "volatility_usd"):
        low, high = found["intervals"][name]
        assert low < found["metrics"][name] < high, name
    low, high = found["intervals"]["diversification_ratio"]
    assert 1 - 1e-9 <= low < high
    assert joint_book(pair, {"BTC": labels()}) == found
    json.dumps(found, allow_nan=False)


def test_the_odds_of_a_book_count_every_report_that_was_looked_at(pair: list[SavedRun]) -> None:
    alone = joint_book(pair, {})["odds"]
    others = [pair[0].report | {"run": f"{n:012x}"} for n in range(20)]
    many = joint_book(pair, {}, among=[*others, pair[1].report])["odds"]
    assert (alone["looks"], many["looks"]) == (2, 22)
    assert many["probabilistic_sharpe_usd"] == alone["probabilistic_sharpe_usd"]
    assert many["deflated_sharpe_usd"] < alone["deflated_sharpe_usd"] < alone["probabilistic_sharpe_usd"]


def test_different_ranges_are_cut_and_said(pair: list[SavedRun]) -> None:
    found = joint_book(pair, {})
    assert found["range"]["start"] == max(run.report["range"]["start"] for run in pair) or found["range"]["days"] > 0
    assert any("more than the runs share" in note for note in found["notes"])


def test_runs_that_share_no_time_are_an_error_in_words(reports: dict[str, Path], tmp_path: Path) -> None:
    late = random_world(9, snapshots=30)
    run = load_run(saved(late.play(CATALOGUE["covered_call"]), tmp_path), "B")
    assert run.equity is not None
    moved = pa.array(times(run.equity, "ts") + 900 * DAY_US, pa.int64()).cast(UTC_US)
    far = SavedRun(**{**vars(run), "equity": run.equity.set_column(run.equity.column_names.index("ts"), "ts", moved)})
    with pytest.raises(DataError, match=r"share no time: A 2026.*; B 2028"):
        joint_book([load_run(reports["BTC"], "A"), far], {})


def test_an_inconclusive_run_is_said_and_short_ranges_have_no_ratios(reports: dict[str, Path]) -> None:
    found = joint_book([load_run(reports["BTC"], "A"), load_run(reports["short"], "B")], {"BTC": labels()})
    assert any(note.startswith("B (covered_call BTC) is inconclusive: ") for note in found["notes"])
    assert found["metrics"]["sharpe_usd"] is None
    assert found["metrics"]["return_usd"] is not None
    assert found["correlation"][0]["runs"]["value"] is None
    assert found["risk"]["volatility"] is None
    assert found["intervals"]["return_usd"] is None
    assert found["days"] == 0


@pytest.mark.parametrize("rows", [0, 1])
def test_an_empty_run_is_an_error_in_words(pair: list[SavedRun], rows: int) -> None:
    assert pair[1].equity is not None
    empty = SavedRun(**{**vars(pair[1]), "equity": pair[1].equity.slice(0, rows)})
    with pytest.raises(DataError, match=r"B \(covered_call ETH\) has no equity"):
        joint_book([pair[0], empty], {})
    with pytest.raises(DataError, match="it is torn"):
        joint_book([pair[0], SavedRun(**{**vars(pair[1]), "equity": None, "problems": ("it is torn",)})], {})


@pytest.mark.parametrize("weights", [[0.5], [0.5, -0.5], [0.0, 1.0], [math.nan, 1.0], [1, 1, 1]], ids=str)
def test_weights_that_are_none_are_refused(pair: list[SavedRun], weights: list[float]) -> None:
    with pytest.raises(DataError, match="weights"):
        joint_book(pair, {}, weights)
    with pytest.raises(DataError, match="two runs or more"):
        joint_book(pair[:1], {})


@pytest.mark.parametrize("rebalance", ["never", "daily"])
def test_a_run_that_loses_everything_costs_what_was_in_it_and_no_more(pair: list[SavedRun], rebalance: Rebalance) -> None:
    assert pair[1].equity is not None
    lost = np.array(pair[1].equity["equity_usd"].to_numpy())
    lost[80:] = 0.0
    lost[90:] = 5e5  # what came after is not the book's any more
    place = pair[1].equity.column_names.index("equity_usd")
    ruined = SavedRun(**{**vars(pair[1]), "equity": pair[1].equity.set_column(place, "equity_usd", pa.array(lost))})
    found = joint_book([pair[0], ruined], {}, None, rebalance)
    assert "B lost everything within the shared time and earns nothing from then on." in found["notes"]
    assert found["correlation"][0]["runs"]["value"] is None
    assert found["daily"][-1]["weights"][1] == 0
    assert found["daily"][-1]["equity_usd"] > 0
    assert found["risk"]["components"][1]["volatility"] is not None
    if rebalance == "never":
        assert pair[0].equity is not None
        start, end = (dt.datetime.fromisoformat(found["range"][k]) for k in ("start", "end"))
        last = [row["equity_usd"] for row in pair[0].equity.to_pylist() if row["ts"] <= end][-1]
        assert found["metrics"]["return_usd"] == pytest.approx(0.5 * last / began_with(pair[0], start) - 1, rel=1e-9)
    both = [SavedRun(**{**vars(r), "equity": ruined.equity, "label": r.label}) for r in pair]
    gone = joint_book(both, {}, None, rebalance)
    assert gone["metrics"]["return_usd"] == -1
    assert gone["metrics"]["sharpe_usd"] is None
    assert gone["risk"]["volatility"] is None
    json.dumps(gone, allow_nan=False)
    lost[:] = 0.0
    before = SavedRun(**{**vars(pair[1]), "equity": pair[1].equity.set_column(place, "equity_usd", pa.array(lost))})
    with pytest.raises(DataError, match="had lost everything before"):
        joint_book([pair[0], before], {})


@limits(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    runs=st.integers(2, 4),
    rebalance=st.sampled_from(["never", "daily"]),
    ruin=st.booleans(),
)
def test_gains_sum_to_the_equity_at_every_time(seed: int, runs: int, rebalance: Rebalance, ruin: bool) -> None:
    random = np.random.default_rng(seed)
    tables = []
    for _ in range(runs):
        ts = START_US + np.unique(np.concatenate(([0], random.integers(1, 30 * DAY_US, 80), [30 * DAY_US])))
        usd = 1_000 * np.exp(np.cumsum(random.normal(0, 0.05, ts.size)))
        if ruin:
            usd[random.integers(1, ts.size) :] = -3.0
        index = 90_000 * np.exp(np.cumsum(random.normal(0, 0.02, ts.size)))
        tables.append(pa.table({"ts": ts, "equity_usd": usd, "index": index}))
    weights = random.uniform(0.1, 1, runs)
    book = build_book(tables, Range(START_US, START_US + 30 * DAY_US), weights / weights.sum(), rebalance)
    assert book.gains.sum(axis=0) + book.equity[0] == pytest.approx(book.equity, rel=1e-9, abs=1e-6)
    held = (book.units * book.values).sum(axis=0)
    if not ruin:
        assert held == pytest.approx(book.equity, rel=1e-9)
        assert (book.units > 0).all()
    else:
        assert (held <= book.equity + 1e-6).all() or rebalance == "daily" or (book.equity < 0).any() or (held >= 0).all()
    assert np.unique(book.ts).size == book.ts.size
    risk = daily_risk(book.ts, book.values, book.index, book.gains, book.equity, [str(n) for n in range(runs)], 10, 1)
    assert risk.parts.sum(axis=0) == pytest.approx(risk.book, abs=1e-9)


def test_three_runs_have_three_pairs_and_a_missing_table_is_said(reports: dict[str, Path], tmp_path: Path) -> None:
    runs = [load_run(reports[name], label) for name, label in zip(("BTC", "ETH", "put"), "ABC", strict=True)]
    found = joint_book([*runs[:2], SavedRun(**{**vars(runs[2]), "fills": None, "problems": ("its table of fills is torn",)})], {})
    assert [one["pair"] for one in found["correlation"]] == [["A", "B"], ["A", "C"], ["B", "C"]]
    assert any("cannot be read" in note for note in found["notes"])
    assert found["metrics"]["trades"] is found["metrics"]["fees_usd"] is found["metrics"]["turnover"] is None
    assert found["metrics"]["exposure"] is not None
    assert sum(found["weights"]) == pytest.approx(1)


def test_a_row_without_margin_leaves_margin_out(reports: dict[str, Path], tmp_path: Path) -> None:
    world = random_world(11, snapshots=60)
    report = saved(world.play(CATALOGUE["covered_call"]), tmp_path)
    equity = table_of(report, "equity")
    put(report, "equity", equity.drop_columns(["initial_margin"]))
    found = joint_book([load_run(reports["BTC"], "A"), load_run(report, "B")], {})
    assert found["metrics"]["margin_average"] is None
    assert found["metrics"]["exposure"] is not None


def test_linear_and_inverse_fills_count_the_same_usd() -> None:
    ts = START_US + np.arange(0, 12) * DAY_US
    equity = pa.table(
        {"ts": ts, "equity_usd": np.linspace(100, 120, 12), "index": np.full(12, 50.0)}
        | {name: np.zeros(12) for name in ("open_positions", "stale_marks")}
    )
    stamp = pa.array([START_US + DAY_US], pa.int64()).cast(UTC_US)
    trade: dict[str, Any] = {"opened_at": stamp, "closed_at": stamp, "exit": ["closed"], "profit_usd": [5.0]}
    trade |= {name: [0.1] for name in ("premium_coin", "closing_coin", "payoff_coin")}
    fill: dict[str, Any] = {"ts": stamp, "kind": ["open"], "contracts": [-2.0], "index": [50.0]}
    inverse = pa.table(fill | {"price": [0.1], "fee": [0.01], "mid": [0.12], "currency": ["coin"]})
    linear = pa.table(fill | {"price": [5.0], "fee": [0.5], "mid": [6.0], "currency": ["usd"]})
    within = Range(int(ts[0]), int(ts[-1]))
    from options_agent.backtest.aligned import Cut

    numbers = []
    for fills in (inverse, linear):
        parts = [Cut(equity, pa.table(trade), fills, 0, 0, readable=True)] * 2
        book = build_book([equity, equity], within, np.array([0.5, 0.5]), "never")
        numbers.append(book_metrics(book, parts))
    for name, value in numbers[0].items():
        assert numbers[1][name] == pytest.approx(value, rel=1e-12, nan_ok=True), name
    assert numbers[0]["fees_usd"] == pytest.approx(2 * 0.5)
    assert numbers[0]["premium_sold_usd"] == pytest.approx(2 * 10.0)
    assert numbers[0]["slippage_usd"] == pytest.approx(2 * 2.0)
