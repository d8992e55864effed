"""Recorded chains pass the rules with a believable, low rate, and what is caught is known by name."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from options_agent.market.recorded.source import RecordedSource
from options_agent.quality.judge import judge
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


def caught(counts: dict[str, int]) -> dict[str, int]:
    return {name: n for name, n in counts.items() if name.startswith("rule:") and n}


@pytest.mark.parametrize(("underlying", "expected"), [("BTC", {"rule:off_tick": 4}), ("ETH", {})])
def test_five_months_of_chains_are_clean_but_for_four_prices_off_their_tick(market_data, underlying, expected) -> None:
    assert caught(counts_of(market_data / "deribit_6h_2026", underlying)) == expected


@pytest.mark.parametrize("underlying", ["BTC", "ETH"])
def test_hourly_chains_lose_expired_rows_stuck_forwards_and_nothing_else_to_speak_of(market_data, underlying) -> None:
    counts = counts_of(market_data / "tardis_hourly", underlying)
    assert counts["quarantined"] / counts["rows_in"] < 0.005
    assert caught(counts).keys() <= {"rule:expired", "rule:mark_model", "rule:smile_outlier"}
    assert counts["rule:smile_outlier"] <= 10


def test_sweeps_of_a_linear_family_whose_bids_are_mostly_missing_pass(market_data) -> None:
    counts = counts_of(market_data / "samples" / "book_summary_15min", "XRP_USDC")
    assert counts["quarantined"] / counts["rows_in"] < 0.01
