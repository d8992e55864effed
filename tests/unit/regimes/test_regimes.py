"""Regimes know nothing of the future, and their volatility is the prices' own."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from options_agent.quotes import UTC_US
from options_agent.regimes.features import Windows, features
from options_agent.regimes.label import label_chain, plot_regimes
from options_agent.regimes.learned import WalkForward, walk_forward_states
from options_agent.regimes.rules import REGIMES
from options_agent.series import PRICE_SCHEMA
from options_agent.strategies.ranking import trailing_rank

HOUR = 3_600_000_000
START = int(dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp() * 1e6)
DAYS = 40


def _times(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.int64()).cast(pa.timestamp("us")).cast(UTC_US)


def _prices(seed: int = 1, days: int = DAYS, kind: str = "index", vol: float = 0.5) -> pa.Table:
    rng = np.random.default_rng(seed)
    n = days * 24
    ts = START + HOUR * np.arange(n)
    level = np.where(np.arange(n) > n // 2, 2.0, 1.0) * vol
    price = 90_000 * np.exp(np.cumsum(level * math.sqrt(1 / 8760) * rng.standard_normal(n)))
    return pa.table(
        {"ts": _times(ts), "underlying": ["BTC"] * n, "price": price, "kind": [kind] * n, "source": ["made"] * n}, schema=PRICE_SCHEMA
    )


def _chain(seed: int = 2, days: int = DAYS, every: int = 6) -> pa.Table:
    """A chain every few hours: four expiries, a smile with skew, deltas from the smile's own IV."""
    from scipy.special import ndtr

    rng = np.random.default_rng(seed)
    rows: dict[str, list] = {name: [] for name in ("ts", "snapshot", "expiry", "strike", "right", "mark_iv", "delta", "forward")}
    for hour in range(0, days * 24, every):
        at = START + HOUR * hour
        level = 0.5 + 0.1 * math.sin(hour / 100) + 0.01 * rng.standard_normal()
        for tenor in (4, 20, 45, 120):
            expiry, years, forward = at + tenor * 24 * HOUR, tenor / 365, 90_000.0
            for k in np.linspace(-0.6, 0.6, 13):
                iv = level + 0.05 * tenor / 100 - 0.1 * k + 0.2 * k * k
                d1 = (-k + 0.5 * iv * iv * years) / (iv * math.sqrt(years))
                for right in "CP":
                    delta = float(ndtr(d1)) - (right == "P")
                    row = (at + 2_000_000, at, expiry, forward * math.exp(k), right, iv, delta, forward)
                    for name, value in zip(rows, row, strict=True):
                        rows[name].append(value)
    columns = {n: _times(np.array(v)) if n in ("ts", "snapshot", "expiry") else pa.array(v) for n, v in rows.items()}
    return pa.table(columns)


CHAIN, PRICES = _chain(), _prices()
LABELS = label_chain(CHAIN, PRICES, "BTC")


@settings(max_examples=12, deadline=None)
@given(st.integers(0, DAYS * 4 - 1), st.integers(0, 2**31))
def test_altering_the_future_changes_no_feature_and_no_label_of_the_past(cut: int, seed: int) -> None:
    moment = LABELS["ts"][cut].value
    rng = np.random.default_rng(seed)
    late_rows = np.asarray(CHAIN["ts"].cast(pa.int64())) > moment
    iv = np.where(late_rows, rng.uniform(0.1, 3.0, CHAIN.num_rows), CHAIN["mark_iv"].to_numpy())
    keep = ~late_rows | (rng.random(CHAIN.num_rows) < 0.7)
    chain = CHAIN.set_column(CHAIN.schema.get_field_index("mark_iv"), "mark_iv", pa.array(iv)).filter(pa.array(keep))
    late_prices = np.asarray(PRICES["ts"].cast(pa.int64())) > moment
    price = np.where(late_prices, PRICES["price"].to_numpy() * rng.uniform(0.2, 5.0, PRICES.num_rows), PRICES["price"].to_numpy())
    strangers = _prices(seed % 97, kind="perpetual").filter(pa.array(late_prices))
    prices = pa.concat_tables([PRICES.set_column(2, PRICES.schema.field("price"), pa.array(price)), strangers])
    assert label_chain(chain, prices, "BTC").slice(0, cut + 1).equals(LABELS.slice(0, cut + 1))


def test_realised_volatility_agrees_with_a_slow_sum_over_hourly_returns() -> None:
    table = features(CHAIN, PRICES)
    price = dict(zip(np.asarray(PRICES["ts"].cast(pa.int64())).tolist(), PRICES["price"].to_pylist(), strict=True))
    compared = 0
    for at, realised in zip(np.asarray(table["ts"].cast(pa.int64())).tolist(), table["realised_vol"].to_pylist(), strict=True):
        if realised is None:
            continue
        last = at // HOUR * HOUR
        total = sum(math.log(price[last - h * HOUR] / price[last - (h + 1) * HOUR]) ** 2 for h in range(240))
        assert realised == pytest.approx(math.sqrt(total * 365 / 10), rel=1e-9)
        compared += 1
    assert compared > 100


def test_implied_over_realised_volatility_is_no_constant() -> None:
    table = features(CHAIN, PRICES)
    ratio = [i / r for i, r in zip(table["implied_vol"].to_pylist(), table["realised_vol"].to_pylist(), strict=True) if i and r]
    assert np.std(ratio) > 0.05


def test_implied_volatility_skew_and_slope_are_the_smiles_own() -> None:
    table = features(CHAIN, PRICES)
    row = table.slice(0, 1).to_pylist()[0]
    level = _level(CHAIN)
    near, far = level + 0.05 * 20 / 100, level + 0.05 * 45 / 100
    variance = near**2 * 20 + (far**2 * 45 - near**2 * 20) * 10 / 25
    assert row["implied_vol"] == pytest.approx(math.sqrt(variance / 30), abs=2e-3)
    assert row["skew"] > 0.01
    assert row["term_slope"] > 0


def _level(chain: pa.Table) -> float:
    first = chain.slice(0, 26).to_pylist()
    return next(r["mark_iv"] for r in first if abs(r["strike"] - r["forward"]) < 1e-6) - 0.05 * 4 / 100


def test_no_label_is_given_before_the_windows_are_filled() -> None:
    early = [r for r in LABELS.to_pylist() if r["ts"] < dt.datetime(2026, 1, 10, tzinfo=dt.UTC)]
    assert {r["regime"] for r in early} == {"unknown"}
    assert all(r["realised_vol"] is None and r["trend_return"] is None for r in early)
    assert all(r["learned"] is None for r in early)


def test_a_window_with_a_hole_gives_null_not_a_number_from_half_of_it() -> None:
    ts = np.asarray(PRICES["ts"].cast(pa.int64()))
    hole = (ts > START + 12 * 24 * HOUR) & (ts < START + 16 * 24 * HOUR)
    table = features(CHAIN, PRICES.filter(pa.array(~hole)))
    inside = [
        r["realised_vol"] for r in table.to_pylist() if START + 16 * 24 * HOUR < int(r["ts"].timestamp() * 1e6) < START + 20 * 24 * HOUR
    ]
    assert inside
    assert all(v is None for v in inside)


def test_labels_are_of_the_known_regimes_and_follow_a_planted_change() -> None:
    rows = LABELS.to_pylist()
    assert {r["regime"] for r in rows} <= {*REGIMES, "unknown"}
    late = [r["weather"] for r in rows[-40:]]
    assert late.count("stormy") > len(late) / 2


@given(st.lists(st.one_of(st.floats(0.1, 2.0), st.just(math.nan)), min_size=1, max_size=60), st.integers(1, 40), st.integers(0, 20))
def test_the_trailing_rank_agrees_with_counting(values: list[float], lookback: int, least: int) -> None:
    ts = np.arange(len(values), dtype=np.int64)
    got = trailing_rank(ts, np.array(values), float(lookback), float(least))
    for i, value in enumerate(values):
        window = [(j, values[j]) for j in range(max(0, i - lookback), i + 1) if not math.isnan(values[j])]
        if math.isnan(value) or i - window[0][0] < least:
            assert math.isnan(got[i])
        else:
            assert got[i] == pytest.approx(sum(v <= value for _, v in window) / len(window))


def test_learned_states_are_ordered_by_volatility_and_walk_forward() -> None:
    rng = np.random.default_rng(5)
    n = 24 * 60
    ts = START + HOUR * np.arange(n)
    stormy = (np.arange(n) // 200) % 2 == 1
    vol = np.where(stormy, 0.9, 0.3) + 0.02 * rng.standard_normal(n)
    states = walk_forward_states(ts, np.column_stack([vol, rng.standard_normal(n)]), vol, WalkForward(states=2))
    labelled = states >= 0
    assert labelled.sum() > n / 3
    assert vol[labelled & (states == 1)].mean() > vol[labelled & (states == 0)].mean() + 0.3
    again = walk_forward_states(ts[:1200], np.column_stack([vol, vol])[:1200], vol[:1200], WalkForward(states=2))
    assert (again[: 21 * 24] == -1).all()


def test_an_empty_chain_gives_an_empty_table() -> None:
    assert label_chain(CHAIN.slice(0, 0), PRICES, "BTC").num_rows == 0


def test_the_plot_is_a_picture() -> None:
    assert plot_regimes(LABELS, "BTC").startswith(b"\x89PNG")


def test_shorter_windows_label_earlier() -> None:
    short = features(CHAIN, PRICES, Windows(trend_days=3, realised_days=3))
    assert short["realised_vol"].null_count < features(CHAIN, PRICES)["realised_vol"].null_count
