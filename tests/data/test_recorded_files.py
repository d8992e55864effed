"""The recorded source over the real files beside the repository: counts, units, and laws that hold on a market."""

from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from options_agent.market.recorded.source import RecordedSource
from options_agent.quotes import QUOTE_SCHEMA
from options_agent.settings import RecordedSettings

pytestmark = pytest.mark.data

DAY = dt.timedelta(days=1)


def at(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[arg-type]


def everything(source: RecordedSource, underlying: str) -> pa.Table:
    first, last = source.span(underlying)
    return pa.concat_tables(source.snapshots(underlying, first, last + DAY))


@pytest.fixture(scope="module")
def sweeps(market_data: Path) -> RecordedSource:
    return RecordedSource(RecordedSettings(path=market_data / "deribit_6h_2026"))


@pytest.fixture(scope="module")
def btc(sweeps: RecordedSource) -> pa.Table:
    return everything(sweeps, "BTC")


@pytest.fixture(scope="module")
def samples(market_data: Path) -> RecordedSource:
    return RecordedSource(RecordedSettings(path=market_data / "samples"))


def test_every_row_of_the_five_months_is_served(sweeps: RecordedSource, btc: pa.Table) -> None:
    assert {u: len(found) for u, found in sweeps.catalogue.snapshots.items()} == {"BTC": 481, "ETH": 481}
    assert (btc.num_rows, everything(sweeps, "ETH").num_rows) == (400_216, 369_130)
    assert sum(report.kept for report in sweeps.catalogue.reports) == 769_346
    assert sweeps.interval("BTC") == dt.timedelta(hours=6)


def test_missing_sides_are_as_rare_as_in_the_files(btc: pa.Table) -> None:
    assert btc.schema.equals(QUOTE_SCHEMA)
    assert 0.05 < btc["bid"].null_count / btc.num_rows < 0.09
    assert 0.003 < btc["ask"].null_count / btc.num_rows < 0.03
    for name in ("bid", "ask", "mark", "forward", "index"):
        assert pc.min(btc[name]).as_py() > 0


def test_raw_csv_and_parquet_of_a_snapshot_are_the_same_quotes(market_data: Path, sweeps: RecordedSource) -> None:
    csv = RecordedSource(RecordedSettings(path=market_data / "deribit_6h_2026" / "raw_csv"))
    packed = {report.name for report in sweeps.catalogue.reports if report.left_out}
    assert len(packed) == len(csv.catalogue.reports)
    for underlying in ("BTC", "ETH"):
        for snapshot in csv.catalogue.snapshots[underlying]:
            until = snapshot.at + dt.timedelta(minutes=1)
            [raw], [parquet] = (list(source.snapshots(underlying, snapshot.at, until)) for source in (csv, sweeps))
            assert raw.equals(parquet)


@pytest.mark.parametrize("folder", ["deribit_6h_2026", "tardis_hourly", "samples"])
def test_volatilities_are_decimals(market_data: Path, folder: str) -> None:
    source = RecordedSource(RecordedSettings(path=market_data / folder))
    for underlying in source.underlyings():
        table = everything(source, underlying)
        for name in ("mark_iv", "bid_iv", "ask_iv"):
            given = table[name].drop_null().to_numpy()
            if given.size:
                assert given.min() > 0.005
                assert given.max() < 9.99
                assert 0.2 < np.median(given) < 1.5


def test_put_call_parity_holds_in_coin(btc: pa.Table) -> None:
    """C - P = 1 - K/F in coin, on marks of the same strike."""
    rows = btc.filter(pc.is_valid(btc["mark"])).to_pandas()
    keys = ["snapshot", "expiry", "strike"]
    calls, puts = (rows[rows["right"] == right].set_index(keys)[["mark", "forward"]] for right in ("C", "P"))
    both = calls.join(puts, lsuffix="_call", rsuffix="_put", how="inner").reset_index()
    assert len(both) > 100_000
    gap = both["mark_call"] - both["mark_put"] - (1 - both["strike"] / both["forward_call"])
    assert gap.abs().median() < 1e-4
    assert gap.abs().quantile(0.99) < 5e-3


def test_marks_are_reproduced_from_their_own_volatility_and_forward(btc: pa.Table) -> None:
    """Black-76 in coin, T in years of 365 days: the proof that volatility, forward and mark have the units they should."""
    from options_agent.contracts import SECONDS_PER_YEAR
    from options_agent.pricing.black76 import price_coin

    rows = btc.filter(pc.and_(pc.is_valid(btc["mark"]), pc.is_valid(btc["mark_iv"])))
    micros = pc.subtract(rows["expiry"].cast(pa.int64()), rows["ts"].cast(pa.int64())).to_numpy()
    forward, strike, volatility = (rows[name].to_numpy() for name in ("forward", "strike", "mark_iv"))
    model = price_coin(forward, strike, micros / 1e6 / SECONDS_PER_YEAR, volatility, pc.equal(rows["right"], "C").to_numpy())
    error = np.abs(model - rows["mark"].to_numpy())
    assert np.median(error) < 5e-6
    assert np.quantile(error, 0.99) < 5e-4


def test_deltas_have_the_sign_of_their_right(btc: pa.Table) -> None:
    is_call = pc.equal(btc["right"], "C")
    assert pc.min(btc["delta"].filter(is_call)).as_py() >= 0
    assert pc.max(btc["delta"].filter(pc.invert(is_call))).as_py() <= 0


def test_the_hourly_chains_lose_their_strays_and_nothing_else(market_data: Path) -> None:
    source = RecordedSource(RecordedSettings(path=market_data / "tardis_hourly"))
    rows, strays = (sum(counts) for counts in zip(*((r.rows, sum(r.left_out.values())) for r in source.catalogue.reports), strict=True))
    assert (rows, strays) == (492_931, 4_835)
    assert sum(everything(source, u).num_rows for u in source.underlyings()) == rows - strays
    assert source.interval("BTC") == dt.timedelta(hours=1)
    assert len(list(source.snapshots("ETH", at(2024, 5, 1), at(2024, 5, 2, 1)))) == 24


def test_every_sample_is_read_whole(samples: RecordedSource) -> None:
    assert samples.underlyings() == ("BTC", "ETH", "XRP_USDC")
    assert sum(report.rows for report in samples.catalogue.reports) == 10_458
    assert all(report.rows == report.kept for report in samples.catalogue.reports)
    assert {report.format for report in samples.catalogue.reports} == {
        "flattened tickers",
        "nested tickers",
        "book summary",
        "book summary harvest",
    }


def test_decimal_strikes_of_the_samples_are_parsed(samples: RecordedSource) -> None:
    """Defect 2: the recorder itself lost 85 % of these rows."""
    strikes = everything(samples, "XRP_USDC")["strike"]
    assert strikes.null_count == 0
    assert sum(strike % 1 != 0 for strike in strikes.to_pylist()) > 0.8 * len(strikes)


def test_a_hole_of_the_fifteen_minute_recorder_shows_in_the_snapshots(samples: RecordedSource) -> None:
    """Defect 11: a hole nobody noticed."""
    stamps = [snapshot.at for snapshot in samples.catalogue.snapshots["BTC"] if snapshot.at.year == 2025]
    assert max(later - earlier for earlier, later in itertools.pairwise(stamps)) > dt.timedelta(hours=48)


def test_bars_are_known_an_hour_after_they_open_and_lie_near_the_chains_index(sweeps: RecordedSource) -> None:
    assert "next to the chains' folder" in sweeps.series_from
    rows = sweeps.prices("BTC", at(2026, 1, 10), at(2026, 2, 10)).to_pandas()
    assert set(rows["kind"]) == {"chain", "perpetual"}
    closes = rows[rows["kind"] == "perpetual"].set_index("ts")["price"]
    chain = rows[rows["kind"] == "chain"].set_index("ts")["price"]
    nearest = closes.reindex(chain.index, method="nearest")
    assert (chain / nearest - 1).abs().median() < 0.005
    assert len(closes) == 31 * 24


def test_dvol_is_near_the_chains_at_the_money_volatility(sweeps: RecordedSource, btc: pa.Table) -> None:
    dvol = sweeps.dvol("BTC", at(2026, 1, 10), at(2026, 2, 10))["close"].to_numpy()
    rows = btc.filter(pc.less(pc.abs(pc.subtract(pc.abs(btc["delta"]), 0.5)), 0.05))
    inside = pc.and_(pc.greater_equal(rows["ts"], pa.scalar(at(2026, 1, 10))), pc.less(rows["ts"], pa.scalar(at(2026, 2, 10))))
    assert abs(np.median(dvol) - np.median(rows.filter(inside)["mark_iv"].to_numpy())) < 0.1


def test_funding_is_a_small_decimal(sweeps: RecordedSource) -> None:
    rates = sweeps.funding("BTC", at(2025, 1, 1), at(2025, 11, 1))["rate_8h"].to_numpy()
    assert 900 < rates.size < 920
    assert np.abs(rates).max() < 0.0025


def test_the_whole_folder_of_mixed_files_is_read(market_data: Path) -> None:
    source = RecordedSource(RecordedSettings(path=market_data))
    kinds = {kind: sum(report.kind == kind for report in source.catalogue.reports) for kind in ("chain", "series", "skipped")}
    assert kinds["series"] == 4
    assert kinds["chain"] >= 40
    assert all(report.note for report in source.catalogue.reports if report.kind == "skipped")
    assert "beside the chains" in source.series_from
