"""The compiled engine agrees with the slow reference on chains of the synthetic exchange and on real ones, to 1e-9 coin."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from options_agent.backtest.engine import run_backtest
from options_agent.backtest.history import COLUMNS, history_from_table
from options_agent.backtest.result import BacktestResult
from options_agent.settings import BacktestSettings, RecordedSettings, SyntheticSettings
from options_agent.strategies.catalogue import CATALOGUE
from options_agent.strategies.rules import Entry, Exit, Filters, Leg, Strategy
from tests.unit.backtest import reference

TOLERANCE = 1e-9
OVERLAPPING = Strategy(
    "overlapping",
    "test",
    "Many short calls at once, managed closely.",
    (Leg("sell", "C", 0.2),),
    Entry(dte_min=1, dte_target=4, dte_max=30, hour_utc=0, max_open=4),
    Exit(take_profit=0.3, stop_loss=1.0, days_left=1.0),
    Filters(max_spread=2.0, delta_tolerance=0.3),
    share=0.9,
)
CASES: dict[str, tuple[Strategy, dict[str, float]]] = {
    **{name: (play, {}) for name, play in CATALOGUE.items()},
    "overlapping calls on two coins": (OVERLAPPING, {"capital_coin": 2.0}),
    "a strangle that waits for its fills": (CATALOGUE["short_strangle"], {"latency_seconds": 3_700.0, "crossing": 0.5}),
}


def agree(quotes: pa.Table, prices: pa.Table, underlying: str, strategy: Strategy, changes: dict[str, float]) -> BacktestResult:
    """Play both; fills, fees, profits and the whole equity curve are the same."""
    settings = BacktestSettings(**changes)  # type: ignore[arg-type]
    result = run_backtest(history_from_table(quotes, prices, underlying=underlying), strategy, settings)
    names = ("capital_coin", "latency_seconds", "crossing", "settlement_window_minutes")
    expected = reference.play(
        quotes.to_pylist(), prices.to_pylist(), strategy.as_dict(), underlying, **{name: getattr(settings, name) for name in names}
    )
    fills: dict[int, list[Any]] = {}
    for fill in result.fills.to_pylist():
        fills.setdefault(fill["trade"], []).append(fill)
    assert len(fills) == len(expected.trades)
    for trade, other in zip(result.trades.to_pylist(), expected.trades, strict=True):
        mine = fills[trade["trade"]]
        assert trade["instruments"] == other["instruments"]
        assert (trade["opened_at"], trade["closed_at"], trade["exit"]) == (other["opened_at"], other["closed_at"], other["exit"])
        assert [f["price"] for f in mine] == pytest.approx(other["in"] + other["out"], abs=TOLERANCE)
        assert trade["contracts"] == pytest.approx(other["units"], abs=TOLERANCE)
        assert sum(f["fee"] for f in mine) == pytest.approx(other["fees"], abs=TOLERANCE)
        assert trade["profit_coin"] == pytest.approx(other["profit"], abs=TOLERANCE)
    equity = result.equity.to_pylist()
    assert [e["ts"] for e in equity] == [e["ts"] for e in expected.equity]
    assert [e["equity_coin"] for e in equity] == pytest.approx([e["coin"] for e in expected.equity], abs=TOLERANCE)
    assert [e["coin_cash"] for e in equity] == pytest.approx([e["cash"] for e in expected.equity], abs=TOLERANCE)
    return result


@lru_cache
def synthetic(underlying: str) -> tuple[pa.Table, pa.Table]:
    """Sixteen days of the synthetic exchange, 6-hourly, the troubles it makes on purpose left in but for spoilt rows."""
    from options_agent.market.synthetic.source import SyntheticSource

    source = SyntheticSource(SyntheticSettings(defect_rate=0.0), interval=dt.timedelta(hours=6))
    start = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
    end = start + dt.timedelta(days=16)
    quotes = near(pa.concat_tables(source.snapshots(underlying, start, end)))
    return quotes, source.prices(underlying, start - dt.timedelta(days=1), end)


@lru_cache
def recorded(folder: Path) -> tuple[pa.Table, pa.Table]:
    """A month of real BTC chains and prices."""
    from options_agent.market.recorded.source import RecordedSource

    source = RecordedSource(RecordedSettings(path=folder / "deribit_6h_2026" / "2026-03.parquet", prices=folder / "prices"))
    start, end = (dt.datetime(2026, month, 1, tzinfo=dt.UTC) for month in (3, 4))
    quotes = near(pa.concat_tables(source.snapshots("BTC", start, end)))
    return quotes, source.prices("BTC", start - dt.timedelta(days=1), end)


def near(quotes: pa.Table) -> pa.Table:
    """What a week's strategy may look at: expiries of the next five weeks, so that the slow one is not slower than it need be."""
    left = pc.subtract(quotes["expiry"], quotes["snapshot"])
    return quotes.filter(pc.less(left, pa.scalar(dt.timedelta(days=35), pa.duration("us")))).select(list(COLUMNS))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("underlying", ["BTC", "ETH"])
def test_both_agree_on_the_synthetic_exchange(underlying: str, case: str) -> None:
    strategy, changes = CASES[case]
    capital = changes.get("capital_coin", 1.0) * (20.0 if underlying == "ETH" else 1.0)
    result = agree(*synthetic(underlying), underlying, strategy, changes | {"capital_coin": capital})
    assert result.trades.num_rows >= 2


@pytest.mark.data
@pytest.mark.parametrize("case", CASES)
def test_both_agree_on_real_chains(market_data: Path, case: str) -> None:
    strategy, changes = CASES[case]
    result = agree(*recorded(market_data), "BTC", strategy, changes)
    assert result.trades.num_rows >= 3
    assert result.metrics["closed_trades"] >= 2
