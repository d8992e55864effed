"""Recorded chains pass the rules with a believable, low rate, and what is caught is known by name."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from options_agent.market.recorded.source import RecordedSource
from options_agent.quality.injection import inject
from options_agent.quality.judge import judge
from options_agent.quality.rules import NAMES
from options_agent.quality.thresholds import learn
from options_agent.settings import QualitySettings, RecordedSettings

pytestmark = pytest.mark.data


def counts_of(path: Path, underlying: str) -> dict[str, int]:
    source = RecordedSource(RecordedSettings(path=path), network="mainnet", region="local")
    span = source.span(underlying)
    assert span is not None
    chains = list(source.snapshots(underlying, span[0], span[1] + dt.timedelta(seconds=1)))
    counts = judge(pa.concat_tables(chains), QualitySettings(), network="mainnet").counts()
    assert counts["rows_in"] == counts["clean"] + counts["quarantined"]
    return counts


@pytest.fixture(scope="module")
def chains(market_data) -> pa.Table:
    """Four months of recorded BTC chains."""
    source = RecordedSource(RecordedSettings(path=market_data / "deribit_6h_2026"), network="mainnet", region="local")
    span = source.span("BTC")
    assert span is not None
    return pa.concat_tables(list(source.snapshots("BTC", span[0], span[1]))).combine_chunks()


def caught(counts: dict[str, int]) -> dict[str, int]:
    return {name: n for name, n in counts.items() if name.startswith("rule:") and n}


@pytest.mark.parametrize(("underlying", "expected"), [("BTC", {"rule:off_tick": 4}), ("ETH", {})])
def test_five_months_of_chains_are_clean_but_for_four_prices_off_their_tick(market_data, underlying, expected) -> None:
    assert caught(counts_of(market_data / "deribit_6h_2026", underlying)) == expected


@pytest.mark.parametrize("rule", NAMES)
def test_defects_of_every_kind_in_recorded_chains_are_caught_and_good_rows_left_alone(chains, rule) -> None:
    injected = inject(chains, rule, 0.01, seed=5, settings=QualitySettings())
    verdicts = judge(injected.quotes, QualitySettings(), network="mainnet")
    caught = verdicts.rows_breaking("locked") if rule == "locked" else verdicts.condemned
    hit = caught[injected.rows] | caught[injected.kin] if rule == "duplicate" else caught[injected.rows]
    rest = np.ones(len(injected.quotes), bool)
    rest[injected.rows] = rest[injected.kin] = False
    assert hit.mean() > 0.99
    assert verdicts.condemned[rest].mean() < 0.001


def test_learnt_thresholds_see_smaller_errors_of_long_tenors_than_the_fixed_one_and_leave_good_rows_alone(chains) -> None:
    start = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    past, month = (chains.filter(side) for side in (pc.less(chains["snapshot"], start), pc.greater_equal(chains["snapshot"], start)))
    learnt = {"BTC": learn(past, QualitySettings(), until=dt.date(2026, 2, 28))}
    assert judge(month, QualitySettings(), network="mainnet", learnt=learnt).condemned.mean() < 0.0005
    at = inject(month, "smile_outlier", 0.002, seed=5, settings=QualitySettings()).rows
    expiry, ts = (month[name].cast(pa.int64()).to_numpy() for name in ("expiry", "ts"))
    at = at[expiry[at] - ts[at] > 100 * 86_400_000_000]
    iv, missing = month["mark_iv"].to_numpy().copy(), np.zeros(len(month), bool)
    iv[at] += 0.15
    missing[at] = True
    columns = {"mark_iv": pa.array(iv), "mark": pa.array(month["mark"].to_numpy(), mask=missing | month["mark"].is_null().to_numpy())}
    moved = pa.Table.from_arrays([columns.get(name, month[name]) for name in month.column_names], schema=month.schema)
    fixed, taught = (judge(moved, QualitySettings(), network="mainnet", learnt=known).condemned[at].mean() for known in (None, learnt))
    assert len(at) > 50
    assert fixed < 0.05
    assert taught > 0.8


@pytest.mark.parametrize("underlying", ["BTC", "ETH"])
def test_hourly_chains_lose_expired_rows_stuck_forwards_and_nothing_else_to_speak_of(market_data, underlying) -> None:
    counts = counts_of(market_data / "tardis_hourly", underlying)
    assert counts["quarantined"] / counts["rows_in"] < 0.005
    assert caught(counts).keys() <= {"rule:expired", "rule:mark_model", "rule:smile_outlier"}
    assert counts["rule:smile_outlier"] <= 10


def test_sweeps_of_a_linear_family_whose_bids_are_mostly_missing_pass(market_data) -> None:
    counts = counts_of(market_data / "samples" / "book_summary_15min", "XRP_USDC")
    assert counts["quarantined"] / counts["rows_in"] < 0.01
