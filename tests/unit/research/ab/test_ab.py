"""Comparisons: the statistic against a slow one, errors that hold whenever one stops, and reports that say what is known."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.errors import DataError, SettingsError
from options_agent.journal.entries import journal_path, write_entry
from options_agent.research.ab.declaration import Arm, Comparison, declare, folder_of, load
from options_agent.research.ab.judging import look, standings
from options_agent.research.ab.report import words, write_report
from options_agent.research.ab.sequential import (
    always_valid_p,
    half_width,
    intervals,
    log_ratio,
    long_run_variance,
    smallest_visible,
    variances,
)
from options_agent.settings import Settings, load_settings

FIRST = dt.date(2026, 1, 1)
START = FIRST + dt.timedelta(days=40)


def slow_ratio(sum_: float, n: int, variance: float, mixing: float) -> mp.mpf:
    """The mixture itself: likelihood ratio of a mean against 0, integrated over a normal prior."""

    def integrand(mean: mp.mpf) -> mp.mpf:
        likelihood = mp.exp((mean * sum_ - n * mean**2 / 2) / variance)
        return likelihood * mp.exp(-(mean**2) / (2 * mixing)) / mp.sqrt(2 * mp.pi * mixing)

    centre, width = sum_ / (n + variance / mixing), mp.sqrt(1 / (n / mp.mpf(variance) + 1 / mp.mpf(mixing)))
    return mp.quad(integrand, [centre - 12 * width, centre, centre + 12 * width])


@pytest.mark.parametrize(("sum_", "n", "variance", "mixing"), [(0.3, 20, 0.01, 0.002), (-1.2, 90, 0.04, 0.0005), (0.0, 5, 1.0, 1.0)])
def test_the_ratio_is_the_mixture_of_likelihood_ratios(sum_: float, n: int, variance: float, mixing: float) -> None:
    fast = float(log_ratio(np.array([sum_]), np.array([float(n)]), variance, mixing)[0])
    assert math.exp(fast) == pytest.approx(float(slow_ratio(sum_, n, variance, mixing)), rel=1e-9)


@given(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0), st.integers(1, 400), st.sampled_from([0.01, 0.05, 0.2]))
def test_interval_and_ratio_are_two_faces_of_one_test(variance: float, mixing: float, n: int, alpha: float) -> None:
    edge = half_width(n, variance, mixing, alpha)
    ratio = float(log_ratio(np.array([edge * n]), np.array([float(n)]), variance, mixing)[0])
    assert ratio == pytest.approx(math.log(1 / alpha), rel=1e-9)


@given(st.lists(st.floats(-0.02, 0.02), min_size=5, max_size=60))
@hypothesis_settings(max_examples=40)
def test_p_never_grows_and_agrees_with_the_intervals(values: list[float]) -> None:
    differences = np.array(values)
    p = always_valid_p(differences, 1e-4, 1e-6)
    low, high = intervals(differences, 1e-4, 1e-6, 0.05)
    assert (np.diff(p) <= 0).all()
    assert ((p <= 0.05) == np.maximum.accumulate((low > 0) | (high < 0))).all()


def test_the_variance_is_newey_wests() -> None:
    values = np.convolve(np.random.default_rng(0).normal(size=302), [1, 1, 1], "valid")
    n, lags = values.size, 5
    centred = values - values.mean()
    weights = np.array([[max(0.0, 1 - abs(i - j) / (lags + 1)) for j in range(n)] for i in range(n)])
    assert long_run_variance(values, lags) == pytest.approx(float(centred @ weights @ centred) / n)
    with pytest.raises(DataError, match="never differ"):
        long_run_variance(np.zeros(40))
    with pytest.raises(DataError, match="19 days"):
        long_run_variance(np.ones(19))


def test_looking_every_day_errs_no_more_than_alpha() -> None:
    random, wrong = np.random.default_rng(1), 0
    for _ in range(200):
        draw = random.standard_t(5, 220) * 0.004
        variance = variances(draw[:60], draw[60:])
        wrong += bool(always_valid_p(draw[60:], variance, (0.0004) ** 2)[-1] <= 0.05)
    assert wrong / 200 <= 0.05


# Comparisons over journals


def desk(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, _env_file=None)


def book(settings: Settings, name: str, returns: np.ndarray, *, skip: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    """Two marks a day, the second the day's last."""
    path, equity = journal_path(settings, name), 1.0
    for n, r in enumerate([0.0, *returns]):
        equity *= 1 + r
        day = dt.datetime.combine(FIRST + dt.timedelta(days=n - 1), dt.time(), dt.UTC)
        if n in skip:
            continue
        for hour, value in ((6, equity * 0.99), (20, equity)):
            write_entry(path, "mark", day + dt.timedelta(hours=hour), equity_coin=value, equity_usd=value * 9e4, index=9e4)


def declared(settings: Settings, **changes: Any) -> Comparison:
    basis = {"least_days": 5, "most_days": 40, "effect": 0.002}
    one = Comparison("calls", (Arm("old", "a"), Arm("new", "b")), FIRST, START, **(basis | changes))
    declare(one, settings)
    return one


def two_books(settings: Settings, edge: float, days: int = 75) -> None:
    random = np.random.default_rng(4)
    market = random.normal(0, 0.03, days)
    noise = random.normal(0, 0.002, days)
    book(settings, "a", market)
    book(settings, "b", market + noise + np.where(np.arange(days) >= 40, edge, 0.0))


def test_a_real_difference_is_seen_soon_and_none_is_not(tmp_path: Path) -> None:
    for name, edge in (("better", 0.004), ("worse", -0.004), ("open", 0.0)):
        settings = desk(tmp_path / name)
        two_books(settings, edge)
        (found,) = standings(declared(settings), settings)
        assert found.verdict == name
        assert found.days == 34  # the newest day may not be over
        assert found.shadow_days == 40
        assert found.low <= found.mean <= found.high


def test_what_comes_later_changes_no_earlier_look(tmp_path: Path) -> None:
    settings, longer = desk(tmp_path / "a"), desk(tmp_path / "b")
    two_books(settings, 0.001, days=60)
    two_books(longer, 0.001, days=60)
    until = dt.datetime.combine(FIRST + dt.timedelta(days=55), dt.time(), dt.UTC)
    one = declared(settings)
    before = standings(one, settings, until=until)
    for name in ("a", "b"):
        write_entry(journal_path(settings, name), "mark", until + dt.timedelta(days=9), equity_coin=9.0, equity_usd=9.0, index=1.0)
    assert standings(one, settings, until=until) == before


def test_looks_are_written_once_a_day_more_and_stand(tmp_path: Path) -> None:
    settings = desk(tmp_path)
    two_books(settings, 0.0)
    one = declared(settings)
    for _ in range(3):
        look(one, settings)
    path = folder_of("calls", settings) / "looks.jsonl"
    assert len(path.read_text().splitlines()) == 2
    with pytest.raises(SettingsError, match="declared otherwise"):
        declared(settings, alpha=0.1)
    (folder_of("calls", settings) / "declaration.toml").write_text(
        (folder_of("calls", settings) / "declaration.toml").read_text().replace("alpha = 0.05", "alpha = 0.2")
    )
    with pytest.raises(DataError, match="another declaration"):
        look(load("calls", settings), settings)


def test_a_silent_book_is_no_comparison(tmp_path: Path) -> None:
    settings = desk(tmp_path)
    returns = np.random.default_rng(2).normal(0, 0.01, 75)
    book(settings, "a", returns)
    book(settings, "b", returns * 1.1, skip=set(range(50, 58)))
    with pytest.raises(DataError, match="lack a mark"):
        standings(declared(settings), settings)
    with pytest.raises(DataError, match="has no journal"):
        standings(Comparison("x", (Arm("old", "a"), Arm("new", "nobody")), FIRST, START), settings)


@pytest.mark.parametrize(
    "wrong",
    [
        {"arms": (Arm("a", "x"),)},
        {"arms": (Arm("a", "x"), Arm("b", "x"))},
        {"metric": "luck"},
        {"alpha": 0.7},
        {"start": FIRST},
        {"least_days": 500},
    ],
)
def test_what_cannot_be_declared_is_said(wrong: dict[str, Any]) -> None:
    basis: dict[str, Any] = {"name": "x", "arms": (Arm("a", "x"), Arm("b", "y")), "shadow_start": FIRST, "start": START}
    with pytest.raises(SettingsError, match="cannot be declared"):
        Comparison(**(basis | wrong))


def test_several_arms_share_alpha() -> None:
    three = Comparison("x", (Arm("a", "x"), Arm("b", "y"), Arm("c", "z")), FIRST, START)
    assert three.alpha_each == 0.025
    assert smallest_visible(180, 1e-5, 1e-6, 0.025) > smallest_visible(180, 1e-5, 1e-6, 0.05)


def test_a_report_is_written_that_a_person_understands(tmp_path: Path) -> None:
    settings = desk(tmp_path)
    two_books(settings, 0.004)
    one = declared(settings)
    found, path = write_report(one, settings)
    assert "new is better than old" in path.read_text()
    assert (path.parent / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "four times of five" in words(found[0], one)
