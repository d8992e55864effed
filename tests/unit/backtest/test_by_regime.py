"""Every metric by regime: against a slow reference in plain Python, and laws that hold whatever the weather was."""

from __future__ import annotations

import datetime as dt
import math
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from options_agent.backtest.by_regime import (
    ENTRY,
    HELD,
    METRIC_SCHEMA,
    SEEN,
    SMALL_DAYS,
    SMALL_SAMPLE,
    TIMED,
    UNKNOWN,
    compact,
    heat,
    regime_metrics,
    regime_performance,
)
from options_agent.backtest.heat_page import heat_page
from options_agent.backtest.metrics import METRICS, measure
from options_agent.backtest.report import REPORT_SCHEMA, report_content, write_report
from options_agent.backtest.result import BacktestResult, load_report, load_table
from options_agent.quotes import UTC_US
from options_agent.strategies.catalogue import CATALOGUE
from tests.unit.backtest.worlds import START, random_world

LABELS = pa.schema([("ts", UTC_US), ("regime", pa.string()), ("trend", pa.string())])
NAMES = ("bull_calm", "bear_stormy", "sideways_calm")
RUNS: dict[str, BacktestResult] = {}


def run_of(name: str) -> BacktestResult:
    if name not in RUNS:
        RUNS[name] = random_world(7, snapshots=160).play(CATALOGUE[name])
    return RUNS[name]


def labels_of(weather: list[tuple[float, str | None]]) -> pa.Table:
    """Regimes by hours since the start at which they were known."""
    rows = [
        {"ts": START + dt.timedelta(hours=hours), "regime": name, "trend": "bull"} for hours, name in sorted(weather, key=lambda w: w[0])
    ]
    return pa.Table.from_pylist(rows, schema=LABELS)


WEATHER = labels_of([(24 * (3 + 9 * n), NAMES[n % 3]) for n in range(12)])


def cell(table: pa.Table, regime: str, metric: str) -> dict[str, Any]:
    (row,) = table.filter(pc.and_(pc.equal(table["regime"], regime), pc.equal(table["metric"], metric))).to_pylist()
    return dict(row)


def value(table: pa.Table, regime: str, metric: str) -> float:
    found = cell(table, regime, metric)["value"]
    return math.nan if found is None else found


def reference(run: BacktestResult, labels: pa.Table) -> dict[str, dict[str, float]]:
    """Some metrics of every kind, by loops over rows."""
    known = [(row["ts"], row["regime"] or UNKNOWN) for row in labels.to_pylist()]

    def regime_at(at: dt.datetime) -> str:
        return next((name for ts, name in reversed(known) if ts <= at), UNKNOWN)

    equity = run.equity.to_pylist()
    out: dict[str, dict[str, float]] = {}
    for regime in {regime_at(row["ts"]) for row in equity[:-1]} | {regime_at(t["opened_at"]) for t in run.trades.to_pylist()}:
        seconds, open_seconds, lot_seconds, coin_seconds, low_seconds = 0.0, 0.0, 0.0, 0.0, 0.0
        wealth, peak, deepest, ends = 1.0, 1.0, 0.0, [(0.0, 1.0)]
        if regime_at(equity[0]["ts"]) == regime:  # what the very first entries cost
            wealth = equity[0]["equity_usd"] / (run.capital_coin * equity[0]["index"] + run.capital_usd)
            deepest = max(deepest, 1 - wealth)
            ends.append((0.0, wealth))
        for row, following in pairwise(equity):
            if regime_at(row["ts"]) == regime:
                length = (following["ts"] - row["ts"]).total_seconds()
                open_seconds += length * (row["open_positions"] > 0)
                lot_seconds += length * row["open_positions"]
                coin_seconds += length * row["equity_coin"]
                low_seconds += length * (wealth < peak)
                seconds += length
                wealth *= following["equity_coin"] / row["equity_coin"]
                peak = max(peak, wealth)
                deepest = max(deepest, 1 - wealth / peak)
                ends.append((seconds, wealth))
        daily = [next(w for s, w in reversed(ends) if s <= 86_400 * day + 1e-7) for day in range(int((seconds + 1e-7) // 86_400) + 1)]
        returns = [b / a - 1 for a, b in pairwise(daily)]
        trades = [t for t in run.trades.to_pylist() if regime_at(t["opened_at"]) == regime]
        over = [t for t in trades if t["closed_at"] is not None]
        mine = {t["trade"] for t in trades}
        fills = run.fills.to_pylist()
        traded = sum(abs(f["contracts"]) for f in fills if regime_at(f["ts"]) == regime and f["kind"] in ("open", "close"))
        rows = [row for row in equity if regime_at(row["ts"]) == regime]
        out[regime] = {
            "return_coin": wealth - 1 if seconds else math.nan,
            "max_drawdown_coin": deepest if seconds else math.nan,
            "time_under_water_coin": low_seconds / seconds if seconds else math.nan,
            "exposure": open_seconds / seconds if seconds else math.nan,
            "average_positions": lot_seconds / seconds if seconds else math.nan,
            "most_positions": max((row["open_positions"] for row in rows), default=math.nan) if seconds else math.nan,
            "stale_share": statistics.mean(row["stale_marks"] > 0 for row in rows) if rows and seconds else math.nan,
            "turnover": traded / (coin_seconds / seconds) / (seconds / 86_400 / 365) if seconds else math.nan,
            "days": float(len(returns)) if len(returns) >= 10 else 0.0 if seconds else math.nan,
            "sharpe_coin": statistics.mean(returns) / statistics.stdev(returns) * math.sqrt(365) if len(returns) >= 10 else math.nan,
            "trades": float(len(trades)),
            "closed_trades": float(len(over)),
            "win_rate": statistics.mean(t["profit_coin"] > 0 for t in over) if over else math.nan,
            "average_trade_usd": statistics.mean(t["profit_usd"] for t in over) if over else math.nan,
            "fees_coin": math.fsum(f["fee"] for f in fills if f["trade"] in mine),
            "premium_coin": math.fsum(-f["contracts"] * f["price"] for f in fills if f["trade"] in mine and f["kind"] != "settle"),
        }
    return out


def agrees(run: BacktestResult, labels: pa.Table) -> None:
    table, expected = regime_metrics(run, labels), reference(run, labels)
    assert set(table["regime"].to_pylist()) == expected.keys()
    for regime, numbers in expected.items():
        for name, number in numbers.items():
            assert value(table, regime, name) == pytest.approx(number, rel=1e-9, abs=1e-12, nan_ok=True), (regime, name)


@pytest.mark.parametrize("name", ["cash_secured_put", "covered_call", "short_strangle"])
def test_it_agrees_with_the_slow_reference(name: str) -> None:
    agrees(run_of(name), WEATHER)


@limits(max_examples=25, deadline=None)
@given(weather=st.lists(st.tuples(st.floats(-50, 1200), st.sampled_from([*NAMES, None])), max_size=12, unique_by=lambda w: round(w[0], 3)))
def test_it_agrees_and_reconciles_whatever_the_weather(weather: list[tuple[float, str | None]]) -> None:
    run, labels = run_of("covered_call"), labels_of(weather)
    agrees(run, labels)
    table = regime_metrics(run, labels)
    regimes = list(dict.fromkeys(table["regime"].to_pylist()))
    for name in ("return_coin", "return_usd", "hold_return_usd"):
        known = [v for r in regimes if not math.isnan(v := value(table, r, name))]
        assert math.prod(1 + v for v in known) == pytest.approx(1 + run.metrics[name], rel=1e-12)
    for name in ("trades", "closed_trades", "fees_coin", "fees_usd", "premium_coin", "premium_sold_coin"):
        assert math.fsum(value(table, r, name) for r in regimes) == pytest.approx(run.metrics[name], abs=1e-9)
    time = {r: cell(table, r, "exposure")["sample"] for r in regimes}
    for name in ("exposure", "average_positions", "margin_average", "delta_average"):
        parts = math.fsum(value(table, r, name) * time[r] for r in regimes if time[r])
        assert parts / math.fsum(time.values()) == pytest.approx(run.metrics[name], rel=1e-9, nan_ok=True)
    most = [value(table, r, "best_trade_coin") for r in regimes]
    assert max(v for v in most if not math.isnan(v)) == run.metrics["best_trade_coin"]


def test_every_metric_is_there_once_for_each_regime() -> None:
    table = regime_metrics(run_of("covered_call"), WEATHER)
    assert table.schema.equals(METRIC_SCHEMA)
    names = [m.name for m in METRICS]
    regimes = list(dict.fromkeys(table["regime"].to_pylist()))
    assert set(regimes) == {UNKNOWN, *NAMES}
    assert table["metric"].to_pylist() == names * len(regimes)
    assert {m.family for m in METRICS} >= ENTRY | HELD | SEEN | TIMED
    assert not ENTRY & TIMED
    time = [cell(table, r, "return_coin")["sample"] for r in regimes]
    assert time == sorted(time, reverse=True)


def test_one_regime_has_the_numbers_of_the_run() -> None:
    run = run_of("short_strangle")
    table = regime_metrics(run, labels_of([]))
    assert set(table["regime"].to_pylist()) == {UNKNOWN}
    # the days of a regime begin when it begins, those of a run at midnight: begin the run there too
    start = run.equity["ts"][0].as_py()
    shift = pc.add(pc.subtract(run.equity["ts"], pa.scalar(start, UTC_US)), pa.scalar(START, UTC_US))
    shifted = run.equity.set_column(run.equity.column_names.index("ts"), "ts", shift.cast(UTC_US))
    for name, number in measure(run.trades, shifted, run.fills).items():
        assert value(table, UNKNOWN, name) == pytest.approx(number, rel=1e-9, nan_ok=True), name


def test_small_samples_are_marked_by_what_their_number_rests_on() -> None:
    for row in regime_metrics(run_of("covered_call"), WEATHER).to_pylist():
        assert row["unit"] == ("trades" if row["condition"] == "entry" else "days")
        assert row["small_sample"] == (row["sample"] < (SMALL_SAMPLE if row["condition"] == "entry" else SMALL_DAYS))


def test_headlines_have_intervals_where_there_are_ten_days_and_only_they() -> None:
    table = regime_metrics(run_of("covered_call"), labels_of([(24 * 5, "long"), (24 * 40, "short"), (24 * 43, "long")]))
    with_interval = {row["metric"] for row in table.to_pylist() if row["low"] is not None}
    assert with_interval == {f"{name}_{c}" for name in ("return", "sharpe", "max_drawdown") for c in ("coin", "usd")}
    assert cell(table, "short", "return_coin")["low"] is None
    row = cell(table, "long", "return_coin")
    assert row["low"] < row["value"] < row["high"]
    again = regime_metrics(run_of("covered_call"), labels_of([(24 * 5, "long"), (24 * 40, "short"), (24 * 43, "long")]))
    assert again.equals(table)


def test_a_label_of_the_future_changes_nothing_before_it() -> None:
    run = run_of("covered_call")
    end = (run.end - START).total_seconds() / 3_600 + 1_000
    late = pa.concat_tables([WEATHER, labels_of([(end, "later")])])
    assert regime_metrics(run, late).equals(regime_metrics(run, WEATHER))


def test_after_ruin_a_path_is_not_defined_and_trades_still_are() -> None:
    run = run_of("covered_call")
    lost = pa.array([v if n < 60 else 0.0 for n, v in enumerate(run.equity["equity_coin"].to_pylist())])
    equity = run.equity.set_column(run.equity.column_names.index("equity_coin"), "equity_coin", lost)
    ruined = BacktestResult(**{name: getattr(run, name) for name in run.__dataclass_fields__} | {"equity": equity})
    at = (equity["ts"][60].as_py() - START).total_seconds() / 3_600
    labels = labels_of([(-48, "before"), (at - 0.01, "after")])
    table = regime_metrics(ruined, labels)
    assert value(table, "before", "return_coin") == -1
    assert math.isnan(value(table, "after", "return_coin"))
    assert math.isnan(value(table, "after", "max_drawdown_coin"))
    assert value(table, "after", "trades") > 0
    rows = {row["regime"]: row for row in regime_performance(ruined, labels).to_pylist()}
    assert rows["before"]["return_coin"] == -1
    assert math.isnan(rows["after"]["return_coin"])


def test_a_report_keeps_the_table_and_says_it_compactly(tmp_path: Path) -> None:
    run = run_of("covered_call")
    paths = write_report(run, WEATHER, tmp_path)
    table = load_table(paths.report, "regimes")
    assert table.equals(regime_metrics(run, WEATHER))
    first = paths.tables["regimes"].read_bytes()
    assert write_report(run, WEATHER, tmp_path / "again").tables["regimes"].read_bytes() == first
    report = load_report(paths.report)
    jsonschema.validate(report, REPORT_SCHEMA)
    said = report["regime_metrics"]
    assert said == compact(table)
    assert report_content(run, WEATHER)["regime_metrics"] == said
    place = said["regimes"].index("bear_stormy")
    assert said["metrics"]["path"]["sharpe_coin"][place] == cell(table, "bear_stormy", "sharpe_coin")["value"]
    assert said["metrics"]["entry"]["win_rate"][place] == cell(table, "bear_stormy", "win_rate")["value"]
    assert len(said["metrics"]["entry"]) + len(said["metrics"]["path"]) == len(METRICS)
    wide = {row["regime"]: row for row in report["regimes"]}
    for regime, trades, days in zip(said["regimes"], said["trades"], said["days"], strict=True):
        assert wide[regime]["trades"] == trades
        assert wide[regime]["hours"] == pytest.approx(24 * days)


def test_a_heat_table_is_of_what_was_asked_and_marks_what_is_small(tmp_path: Path) -> None:
    table = regime_metrics(run_of("covered_call"), WEATHER)
    regimes, rows = heat(table, ["sharpe", "win_rate"])
    assert [name for name, _, _ in rows] == ["sharpe_coin", "sharpe_usd", "win_rate"]
    assert [condition for _, condition, _ in rows] == ["path", "path", "entry"]
    assert all(len(cells) == len(regimes) for _, _, cells in rows)
    report = write_report(run_of("covered_call"), WEATHER, tmp_path).report
    page = heat_page([load_report(report) | {"path": str(report)}], ["win_rate", "return"])
    cell_of = next(c for _, _, cells in heat(table, ["return_coin"])[1] for c in cells if c and c["low"] is not None)
    assert f"{cell_of['value']:.4g} [{cell_of['low']:.3g} to {cell_of['high']:.3g}]" in page
    assert "| metric | " + " | ".join(regimes) + " |" in page
    assert "| win_rate | (" in page
    (report.with_suffix("") / "regimes.parquet").unlink()
    assert "run the backtest again" in heat_page([load_report(report) | {"path": str(report)}])


def test_a_run_without_trades_has_a_path_and_no_trades() -> None:
    run = random_world(7, snapshots=4).play(CATALOGUE["covered_call"])
    table = regime_metrics(run, WEATHER)
    assert value(table, UNKNOWN, "closed_trades") == 0
    assert math.isnan(value(table, UNKNOWN, "win_rate"))
    assert not math.isnan(value(table, UNKNOWN, "return_coin"))
    assert math.isnan(value(table, UNKNOWN, "sharpe_coin"))
