"""What the box lists and says as market time goes: chains laid over one another, contracts coming, expiring and being taken off."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from options_agent.contracts import parse_option
from options_agent.exchange import wire
from options_agent.exchange.chain import rows_of
from options_agent.exchange.feed import Feed, currency_of, index_name
from options_agent.lake.store import open_lake, write_day
from options_agent.market.clock import clock_at
from options_agent.market.recorded.source import RecordedSource
from options_agent.market.sources import LakeSource
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.pricing.black76 import greeks
from options_agent.quality.completion import complete
from options_agent.settings import QualitySettings, RecordedSettings, Settings, SyntheticSettings

SECOND = dt.timedelta(seconds=1)
BEFORE_EIGHT = dt.datetime(2026, 3, 2, 7, 59, 58, tzinfo=dt.UTC)


def synthetic() -> SyntheticSource:
    return SyntheticSource(SyntheticSettings(defect_rate=0.0, outage_rate=0.0), interval=SECOND, live_interval=SECOND)


def opened(source: object, at: dt.datetime, *underlyings: str) -> Feed:
    feed = Feed(source, underlyings, clock_at(at, 1e-9))  # type: ignore[arg-type]
    feed.advance(at)
    return feed


def test_a_live_source_is_followed_second_by_second() -> None:
    source, feed = synthetic(), opened(synthetic(), BEFORE_EIGHT - dt.timedelta(hours=1), "BTC")
    at = BEFORE_EIGHT - dt.timedelta(hours=1)
    for tenth in range(1, 60):
        now = at + tenth * SECOND / 10
        feed.advance(now)
        told = {name: each.row["mark"] for name, each in feed.listed.items() if each.kind == "option"}
        newest = source.latest("BTC", now)
        assert newest is not None
        assert told == dict(zip(newest["instrument"].to_pylist(), newest["mark"].to_pylist(), strict=True)), "not a chain is missed"


def test_contracts_expire_at_eight_to_the_tick_and_others_come() -> None:
    feed = opened(synthetic(), BEFORE_EIGHT, "BTC", "ETH")
    before = set(feed.listed)
    _, states = feed.advance(BEFORE_EIGHT + 2 * SECOND)
    closed = {listed.name for listed, state in states if state == "closed"}
    assert closed
    assert closed == {name for name in before if "-2MAR26" in name}
    states = feed.advance(BEFORE_EIGHT + 10 * SECOND)[1]
    created = [listed for listed, state in states if state == "created"]
    assert created
    assert all(listed.expiry is not None and listed.expiry > BEFORE_EIGHT for listed in created)
    assert set(feed.listed) == (before - closed) | {listed.name for listed in created} - {n for n, s in states if s == "closed"}
    assert {each.number for each in feed.by_number.values()} == {each.number for each in feed.listed.values()}


def test_a_contract_taken_off_early_stays_off_until_it_is_let_back() -> None:
    feed = opened(synthetic(), BEFORE_EIGHT - dt.timedelta(hours=1), "BTC")
    at, name = BEFORE_EIGHT - dt.timedelta(hours=1), next(n for n, each in feed.listed.items() if each.kind == "option")
    _, states = feed.advance(at, (name,))
    assert [(listed.name, state) for listed, state in states] == [(name, "closed")]
    _, states = feed.advance(at + 3 * SECOND, (name,))
    assert name not in feed.listed
    _, states = feed.advance(at + 6 * SECOND)
    assert [(listed.name, state) for listed, state in states] == [(name, "created")]


def test_the_perpetual_says_the_newest_funding_known() -> None:
    feed, source = opened(synthetic(), BEFORE_EIGHT, "BTC"), synthetic()
    known = source.funding("BTC", BEFORE_EIGHT - dt.timedelta(hours=9), BEFORE_EIGHT)["rate_8h"].to_pylist()
    assert wire.ticker(feed.listed["BTC-PERPETUAL"], 0)["funding_8h"] == known[-1] != 0.0
    feed.clock = clock_at(BEFORE_EIGHT + dt.timedelta(hours=1), 1e-9)
    feed.advance(feed.clock.now())
    newer = source.funding("BTC", BEFORE_EIGHT, BEFORE_EIGHT + dt.timedelta(hours=1))["rate_8h"].to_pylist()
    assert wire.ticker(feed.listed["BTC-PERPETUAL"], 0)["funding_8h"] == newer[-1]


def test_what_a_chain_lacks_is_worked_out_as_quality_does() -> None:
    whole = synthetic().latest("BTC", BEFORE_EIGHT)
    assert whole is not None
    bare = whole
    for column in ("mark_iv", "delta", "gamma", "vega", "theta", "bid_iv", "ask_iv"):
        position = bare.schema.get_field_index(column)
        bare = bare.set_column(position, bare.schema.field(position), pa.nulls(bare.num_rows, pa.float64()))
    computed = complete(bare, QualitySettings()).to_pylist()
    sides = 0
    for row, quality in zip(rows_of(bare), computed, strict=True):
        assert {name: row[name] for name in ("mark_iv", "delta", "theta")} == {n: quality[n] for n in ("mark_iv", "delta", "theta")}
        years = (row["expiry"] - row["ts"]).total_seconds() / (365 * 86_400)
        for side in ("bid", "ask"):
            if row[f"{side}_iv"] is not None:
                price, *_ = greeks([row["forward"]], [row["strike"]], [years], [row[f"{side}_iv"]], [row["right"] == "C"])
                assert float(price[0]) == pytest.approx(row[side], abs=1e-9)
                assert row[f"{side}_pc"] == round(row[f"{side}_iv"] * 100, 4)
                sides += 1
    assert sides > 800


def test_rho_is_the_price_against_the_rate() -> None:
    """Of an undiscounted price on a fixed forward the rate moves only the strike's side: strike x years x N(+-d2)."""
    table = synthetic().latest("BTC", BEFORE_EIGHT)
    assert table is not None
    for row in rows_of(table)[::37]:
        if row["mark_iv"] is None:
            continue
        years = (row["expiry"] - row["ts"]).total_seconds() / (365 * 86_400)
        call = row["right"] == "C"
        price, delta, *_ = greeks([row["forward"]], [row["strike"]], [years], [row["mark_iv"]], [call])
        worth = float(delta[0]) * row["forward"] - float(price[0]) * row["forward"]  # strike x +-N(+-d2)
        assert row["rho"] == pytest.approx(worth * years / 100, abs=2e-3 + abs(worth) * 1e-6)


def test_a_lake_is_replayed_as_it_was_known(settings: Settings) -> None:
    at = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
    source = SyntheticSource(SyntheticSettings(defect_rate=0.0, outage_rate=0.0), interval=dt.timedelta(hours=1))
    chains = list(source.snapshots("BTC", at, at + dt.timedelta(hours=24)))
    lake = open_lake(settings)
    write_day(lake, "clean", "BTC", at.date(), complete(pa.concat_tables(chains), QualitySettings()))
    feed = opened(LakeSource(lake), at + dt.timedelta(hours=6, minutes=5), "BTC")
    listed = {name for name, each in feed.listed.items() if each.kind == "option"}
    assert listed == set(chains[6]["instrument"].to_pylist())
    feed.advance(at + dt.timedelta(hours=8))
    assert {name for name in feed.listed if "-2MAR26" in name} == set()
    feed.advance(at + dt.timedelta(hours=9, minutes=5))
    assert {name for name, each in feed.listed.items() if each.kind == "option"} == set(chains[9]["instrument"].to_pylist())


def test_recorded_chains_are_told_with_greeks_and_an_index(market_data: Path) -> None:
    source = RecordedSource(RecordedSettings(path=market_data / "deribit_6h_2026"), network="mainnet")
    first = source.span("BTC")
    assert first is not None
    feed = opened(source, first[0] + dt.timedelta(hours=12), "BTC", "ETH")
    options = [each for each in feed.listed.values() if each.kind == "option"]
    assert len(options) > 1_000
    told = [wire.ticker(each, 0) for each in options]
    assert all(isinstance(each["index_price"], float) and isinstance(each["underlying_price"], float) for each in told)
    marked = [each for each in told if each["mark_price"] > 0.0005 and each["mark_iv"]]
    assert sum(each["greeks"]["gamma"] > 0 and each["greeks"]["theta"] < 0 for each in marked) > 0.99 * len(marked)
    out = [
        each for each in marked if each["best_bid_price"] and abs(each["greeks"]["delta"]) < 0.5
    ]  # in the money a bid can be under its worth
    assert sum(each["bid_iv"] > 0 for each in out) > 0.99 * len(out) > 300


def test_linear_families_are_listed_under_usdc(market_data: Path) -> None:
    source = RecordedSource(RecordedSettings(path=market_data / "samples" / "book_summary_15min"), network="mainnet")
    span = source.span("XRP_USDC")
    assert span is not None
    feed = opened(source, span[0] + dt.timedelta(minutes=5), "XRP_USDC")
    assert (currency_of("XRP_USDC"), index_name("XRP_USDC")) == ("USDC", "xrp_usdc")
    options = [each for each in feed.of("USDC") if each.kind == "option"]
    assert len(options) > 100
    for each in options:
        told, option = wire.instrument(each), parse_option(each.name)
        assert told["strike"] == float(option.strike)
        assert (told["settlement_currency"], told["quote_currency"], told["instrument_type"]) == ("USDC", "USDC", "linear")
        assert told["base_currency"] == "XRP"
        assert wire.ticker(each, 0)["index_price"] > 0
