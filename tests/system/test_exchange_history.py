"""The exchange's own history through the box: the series of the source that feeds it, by pages, once."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from options_agent.errors import DataError, ExchangeError
from options_agent.lake.receipts import read_receipt
from options_agent.lake.store import open_lake, read_series
from options_agent.market.deribit.backfill import backfill_history
from options_agent.market.sources import day_range
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.settings import load_settings
from tests.servers.exchange import running_box

START = dt.datetime(2026, 3, 4, 12, 0, tzinfo=dt.UTC)
DAYS = [dt.date(2026, 3, 3)]


def values(table: pa.Table, name: str) -> dict[dt.datetime, float]:
    return dict(zip(table["ts"].to_pylist(), table[name].to_pylist(), strict=True))


def test_history_is_the_sources_own_and_is_asked_for_once(tmp_path: Path) -> None:
    with running_box(tmp_path, speed=1, start=START, limits=50, settings={"EXCHANGE__EVERY_SECONDS": "60"}) as box:
        settings = load_settings(
            home=tmp_path / "home",
            source="deribit",
            network="synthetic",
            underlyings=("BTC",),
            exchange={"port": box.port},
            deribit={"credit_share": 1.0},
            _env_file=None,
        )
        lake = open_lake(settings)
        done = backfill_history(settings, lake, DAYS)
        calls = box.stats()["calls"]
        again = backfill_history(settings, lake, DAYS)
        assert box.stats()["calls"] == calls
        box.fault(down=True)
        with pytest.raises(ExchangeError):
            backfill_history(
                settings.model_copy(update={"deribit": settings.deribit.model_copy(update={"backoff_seconds": 0.01})}),
                lake,
                [dt.date(2026, 3, 1)],
            )
    assert read_receipt(lake, "history", "BTC", "2026-03-01") is None
    assert [each.done_before for each in done] == [False]
    assert [each.done_before for each in again] == [True]

    source = SyntheticSource(settings.synthetic)
    start, end = day_range(DAYS[0])[0], day_range(DAYS[0])[1]
    dvol = values(read_series(lake, "dvol", "BTC"), "close")
    assert dvol == {ts: pytest.approx(close, abs=1e-6) for ts, close in values(source.dvol("BTC", start, end), "close").items()}
    funding = values(read_series(lake, "funding", "BTC"), "rate_8h")
    assert len(funding) == 24
    for ts, rate in values(source.funding("BTC", start, end), "rate_8h").items():
        assert funding[ts] == pytest.approx(rate)
    prices = read_series(lake, "prices", "BTC")
    delivery = prices.filter(pa.compute.equal(prices["kind"], "delivery"))
    assert [ts.hour for ts in delivery["ts"].to_pylist()] == [8]
    at = delivery["ts"][0].as_py()
    window = source.prices("BTC", at - dt.timedelta(minutes=30), at)["price"].to_numpy()
    assert delivery["price"][0].as_py() == pytest.approx(window.mean(), abs=1e-3)
    bars = prices.filter(pa.compute.equal(prices["kind"], "perpetual"))
    assert len(bars) >= 280
    assert all(start <= ts < end for ts in bars["ts"].to_pylist()), "a bar is known at its close"

    trades = read_series(lake, "trades", "BTC")
    assert len(trades) == sum(each.receipt.counts["trades"] for each in done) > 1_000, "more than a page"
    assert len(set(trades["trade_id"].to_pylist())) == len(trades)
    assert trades["ts"].to_pylist() == sorted(trades["ts"].to_pylist())


def test_a_day_that_is_not_over_is_refused(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home", source="deribit", underlyings=("BTC",), _env_file=None)
    with pytest.raises(DataError, match="not over yet"):
        backfill_history(settings, open_lake(settings), [dt.datetime.now(dt.UTC).date()])
