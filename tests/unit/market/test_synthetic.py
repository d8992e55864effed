"""The synthetic market: believable, free of static arbitrage, and a function of seed and time alone."""

from __future__ import annotations

import datetime as dt
import itertools
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from options_agent.contracts import listed_expiries, parse_option, tick_at
from options_agent.market.synthetic.defects import KINDS
from options_agent.market.synthetic.latent import LatentMarket
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.market.synthetic.surface import ETA, FORGETS_LEVEL, FORGETS_NOW, GAMMA, RHO_MAX, at_the_money_variance, total_variance
from options_agent.pricing.black76 import price_coin
from options_agent.quality.judge import judge
from options_agent.settings import SyntheticSettings, load_settings

UTC = dt.UTC
CLEAN = SyntheticSettings(defect_rate=0, outage_rate=0)
START = dt.datetime(2026, 3, 1, tzinfo=UTC)


def _rows(hours: int = 6, underlying: str = "BTC", of: SyntheticSettings = CLEAN) -> pa.Table:
    return pa.concat_tables(SyntheticSource(of).snapshots(underlying, START, START + dt.timedelta(hours=hours)))


@settings(max_examples=60)
@given(
    st.tuples(st.floats(0.05, 2.5), st.floats(0.05, 2.5), st.floats(0.05, 2.5)),
    st.floats(-RHO_MAX, RHO_MAX),
    st.floats(1 / 8760, 1.5),
    st.floats(1.01, 4.0),
)
def test_the_surface_has_no_butterfly_and_no_calendar_arbitrage(
    vols: tuple[float, float, float], rho: float, years: float, later: float
) -> None:
    theta, next_theta = at_the_money_variance(*vols, years), at_the_money_variance(*vols, years * later)
    width = 6 * np.sqrt(theta)
    k = np.linspace(-width, width, 201)
    variance = np.array([total_variance(x, theta, rho) for x in k])
    assert (np.array([total_variance(x, next_theta, rho) for x in k]) >= variance * (1 - 1e-12)).all()
    strike = 100.0 * np.exp(k)
    ones = np.ones(k.size)
    call = 100 * price_coin(100 * ones, strike, years * ones, np.sqrt(variance / years), ones.astype(bool))
    slope = np.diff(call) / np.diff(strike)
    assert (slope <= 1e-9).all()
    assert (slope >= -1 - 1e-9).all()
    assert (np.diff(slope) >= -1e-9).all()


def test_the_parameters_meet_the_published_conditions() -> None:
    assert 0 <= GAMMA <= 0.5
    assert ETA * (1 + RHO_MAX) <= 2
    assert FORGETS_NOW > FORGETS_LEVEL  # else the expected variance could fall below zero, and theta with it


def test_the_same_seed_gives_the_same_bytes_whatever_range_is_asked_first() -> None:
    one, other = SyntheticSource(SyntheticSettings()), SyntheticSource(SyntheticSettings())
    list(other.snapshots("ETH", START - dt.timedelta(days=200), START - dt.timedelta(days=199, hours=20)))
    hours = dt.timedelta(hours=3)
    assert pa.concat_tables(one.snapshots("BTC", START, START + hours)).equals(
        pa.concat_tables(other.snapshots("BTC", START, START + hours))
    )
    assert not _rows(2).equals(_rows(2, of=SyntheticSettings(seed=1, defect_rate=0, outage_rate=0)))


def test_a_long_stream_is_read_in_constant_memory() -> None:
    source = SyntheticSource(CLEAN)
    stream = source.snapshots("BTC", START, START + dt.timedelta(days=6))
    for _ in range(24):
        next(stream)
    tracemalloc.start()
    for _ in range(24):
        next(stream)
    early = tracemalloc.get_traced_memory()[0]
    for _ in range(72):
        next(stream)
    late = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert late < early + 2_000_000


def test_returns_cluster_jump_and_go_together() -> None:
    market = LatentMarket(20_260_101)
    days = [market.day(dt.date(2024, 1, 1) + dt.timedelta(days=n)) for n in range(500)]
    hourly = np.diff(np.log(np.concatenate([d.spot[:, ::12] for d in days], axis=1)), axis=1)
    assert 0.6 < np.corrcoef(hourly)[0, 1] < 0.95
    size = np.abs(hourly[0])
    assert np.corrcoef(size[:-24], size[24:])[0, 1] > 0.1
    standard = hourly[0] / hourly[0].std()
    assert np.mean(standard**4) > 5
    assert np.abs(standard).max() > 6
    assert {int(r) for d in days for r in d.regime} == {0, 1, 2}
    spot = np.concatenate([d.spot[0] for d in days])
    assert 5_000 < spot.min() < spot.max() < 500_000


def test_the_chain_is_listed_as_the_exchange_lists_and_quoted_on_its_ticks() -> None:
    rows = _rows(1)
    stamp = rows["snapshot"][0].as_py()
    assert tuple(sorted(set(rows["expiry"].to_pylist()))) == listed_expiries(stamp)
    assert 400 < rows.num_rows < 1_200
    for row in rows.slice(0, 400).to_pylist():
        option = parse_option(row["instrument"])
        assert (option.expiry, float(option.strike), option.right) == (row["expiry"], row["strike"], row["right"])
        for price in (row["bid"], row["ask"]):
            if price is not None:
                tick = tick_at("BTC", price)
                assert abs(price / tick - round(price / tick)) < 1e-6
        if row["bid"] is not None and row["ask"] is not None:
            assert row["bid"] < row["ask"]


def test_a_strike_once_listed_stays_until_its_expiry() -> None:
    source = SyntheticSource(CLEAN)
    moments = [START + dt.timedelta(days=n, hours=9) for n in range(4)]
    chains = [next(source.snapshots("ETH", m, m + dt.timedelta(hours=1))) for m in moments]
    for before, after in itertools.pairwise(chains):
        now = after["snapshot"][0].as_py()
        alive = {r["instrument"] for r in before.select(["instrument", "expiry"]).to_pylist() if r["expiry"] > now}
        assert alive <= set(after["instrument"].to_pylist())


def test_marks_are_black_76_of_their_own_iv_and_rows_are_known_after_the_grid_time() -> None:
    rows = _rows(2)
    years = pc.divide(pc.subtract(rows["expiry"], rows["ts"]).cast(pa.int64()).cast(pa.float64()), 365 * 86_400e6).to_numpy()
    is_call = np.array([r == "C" for r in rows["right"].to_pylist()])
    price = price_coin(rows["forward"].to_numpy(), rows["strike"].to_numpy(), years, rows["mark_iv"].to_numpy(), is_call)
    mark = rows["mark"].fill_null(0.0).to_numpy()
    assert np.abs(price - mark).max() < 1e-6
    assert pc.all(pc.greater(rows["ts"], rows["snapshot"])).as_py()


def test_the_median_spread_is_what_was_measured_on_the_exchange() -> None:
    rows = _rows(24)
    days = pc.subtract(rows["expiry"], rows["ts"]).cast(pa.int64()).to_numpy() / 86_400e6
    delta = np.abs(rows["delta"].to_numpy())
    with np.errstate(invalid="ignore"):
        share = (rows["ask"].to_numpy() - rows["bid"].to_numpy()) / rows["mark"].to_numpy()
    for low, high, expected in ((3, 10, 0.087), (10, 35, 0.046)):
        median = np.nanmedian(share[(days >= low) & (days < high) & (delta >= 0.2) & (delta <= 0.35)])
        assert 0.5 * expected < median < 1.6 * expected


def test_sides_are_missing_at_the_rates_of_the_settings() -> None:
    rows = _rows(12)
    assert 0.02 < rows["bid"].null_count / rows.num_rows < 0.25
    assert 0.005 < rows["ask"].null_count / rows.num_rows < 0.03


def test_injected_defects_and_outages_are_where_they_are_said_to_be() -> None:
    of = SyntheticSettings(defect_rate=0.02, outage_rate=0.05)
    source = SyntheticSource(of)
    end = START + dt.timedelta(days=2)
    chains = {t["snapshot"][0].as_py(): t for t in source.snapshots("BTC", START, end)}
    lost = source.lost_snapshots("BTC", START, end)
    assert lost
    assert len(chains) + len(lost) == 48
    assert not set(lost) & set(chains)
    defects = source.injected_defects("BTC", START, end)
    rate = len(defects) / sum(t.num_rows for t in chains.values())
    assert 0.01 < rate < 0.03
    first = next(d for d in defects if d.kind == "absurd_iv")
    row = chains[first.snapshot].filter(pc.equal(chains[first.snapshot]["instrument"], first.instrument)).to_pylist()[0]
    assert row["mark_iv"] == 25.0
    twice = next(d for d in defects if d.kind == "duplicate")
    assert chains[twice.snapshot]["instrument"].to_pylist().count(twice.instrument) == 2


def test_a_settlement_window_has_its_index_points() -> None:
    eight = START + dt.timedelta(hours=8)
    prices = SyntheticSource(CLEAN).prices("BTC", eight - dt.timedelta(minutes=30), eight)
    assert prices.num_rows == 6


def test_the_premium_is_what_implied_lies_above_fair() -> None:
    rich = SyntheticSource(SyntheticSettings(volatility_premium=0.10)).dvol("BTC", START, START + dt.timedelta(days=1))
    fair = SyntheticSource(SyntheticSettings(volatility_premium=0.0)).dvol("BTC", START, START + dt.timedelta(days=1))
    gap = np.array(rich["close"].to_pylist()) - np.array(fair["close"].to_pylist())
    assert np.allclose(gap, 0.10, atol=0.005)


def test_without_premium_implied_variance_is_the_mean_of_what_follows() -> None:
    source = SyntheticSource(SyntheticSettings(volatility_premium=0.0))
    start = dt.datetime(2021, 1, 1, tzinfo=UTC)
    end = start + dt.timedelta(days=4 * 365)
    implied = source.dvol("BTC", start, end)["close"].to_numpy()[::24]
    returns = np.diff(np.log(source.prices("BTC", start, end)["price"].to_numpy()))
    realised = np.concatenate([[0.0], np.cumsum(returns**2)])[::288]
    ahead = (realised[30:] - realised[:-30]) * 365 / 30
    implied = implied[: ahead.size]
    assert abs(np.sqrt(np.mean(implied**2)) - np.sqrt(np.mean(ahead))) < 0.05
    assert np.corrcoef(implied, np.sqrt(ahead))[0, 1] > 0.4


def test_volatility_moves_over_hours_and_the_index_bars_hold_their_closes() -> None:
    market = LatentMarket(20_260_101)
    vol = np.concatenate([market.day(dt.date(2025, 1, 1) + dt.timedelta(days=n)).vol[0] for n in range(365)])
    points = 100 * np.abs(np.diff(vol))
    assert np.quantile(points, 0.5) < 0.3
    assert np.quantile(points, 0.999) < 4.0
    bars = SyntheticSource(CLEAN).dvol("BTC", START, START + dt.timedelta(days=3))
    low, high, opened, closed = (bars[name].to_numpy() for name in ("low", "high", "open", "close"))
    assert bars.num_rows == 72
    assert (low <= np.minimum(opened, closed)).all()
    assert (high >= np.maximum(opened, closed)).all()
    assert (opened[1:] == closed[:-1]).all()


def test_quality_catches_what_was_spoilt_and_nothing_else() -> None:
    source = SyntheticSource(SyntheticSettings(defect_rate=0.01, outage_rate=0))
    hours = 12
    rows = pa.concat_tables(source.snapshots("BTC", START, START + dt.timedelta(hours=hours)))
    spoilt = {(d.snapshot, d.instrument): d.kind for d in source.injected_defects("BTC", START, START + dt.timedelta(hours=hours))}
    assert set(spoilt.values()) == set(KINDS)
    verdicts = judge(rows, load_settings(_env_file=None).quality)
    broken = [verdicts.rows_breaking(kind) for kind in KINDS]
    missed, innocent = [], []
    names = zip(rows["snapshot"].to_pylist(), rows["instrument"].to_pylist(), strict=True)
    caught: dict[tuple[dt.datetime, str], set[str]] = {}
    for at, key in enumerate(names):
        caught.setdefault(key, set()).update(kind for kind, rows_of in zip(KINDS, broken, strict=True) if rows_of[at])
        if verdicts.condemned[at] and key not in spoilt:
            innocent.append(key)
    for key, kind in spoilt.items():
        first = kind == "time_backwards" and key[0] == START  # nothing was known before
        if kind not in caught[key] and not first:
            missed.append((key, kind, caught[key]))
    assert not innocent
    assert not missed
