"""Portfolio margin: the exchange's own answer, a slow table by hand, and the laws of a worst case."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.backtest.margin import standard_margin
from options_agent.backtest.portfolio_margin import RiskModel, portfolio_margin
from options_agent.errors import DataError

DAYS = 11.0


def _black(forward: float, strike: float, years: float, vol: float, call: bool) -> float:
    """Coin, by the error function: nothing shared with the package."""
    sd = vol * math.sqrt(years)
    if sd == 0:
        return max((forward - strike) if call else (strike - forward), 0.0) / forward
    d1 = math.log(forward / strike) / sd + sd / 2
    n = lambda x: 0.5 * math.erfc(-x / math.sqrt(2))  # noqa: E731
    value = forward * n(d1) - strike * n(d1 - sd) if call else strike * n(sd - d1) - forward * n(-d1)
    return value / forward


def test_the_answer_of_the_exchange_s_documentation() -> None:
    """`private/pme/simulate`: a perpetual and a future of 28JUN24, index 65,666.19, on 2024-06-17."""
    got = portfolio_margin(index=65_666.19, futures=[0.314538364, -0.001187534], futures_days=[0.0, DAYS])
    losses = [-0.05968587238095239, -0.04272965863636364, -0.02724789826086957, -0.013056284583333334, 0.0]
    np.testing.assert_allclose(got.table[:5], np.repeat(losses, 3).reshape(5, 3), rtol=1e-12, atol=1e-18)
    np.testing.assert_array_equal(got.far, 0.0)
    assert got.roll_shock == pytest.approx(0.00315725898, rel=1e-9)
    assert got.initial == pytest.approx(0.06284313098, rel=1e-8)
    assert got.maintenance == pytest.approx(0.050274504784, rel=1e-8)
    assert (got.worst_move, got.worst_volatility) == (-0.16, "up")


def test_the_documentation_s_perpetual_alone_moves_no_farther_than_the_range() -> None:
    got = portfolio_margin(index=65_666.19, futures=[0.314538364], futures_days=[0.0], model=RiskModel(dampener_usd=0.0))
    assert got.table[8, 0] == pytest.approx(0.043384601931034494, rel=1e-12)
    np.testing.assert_allclose(got.far, [-0.05991206933333334] * 2 + [0.04338460193103449] * 6, rtol=1e-12)


BOOK = st.lists(
    st.tuples(
        st.floats(-5, 5), st.booleans(), st.floats(0.5, 2.0), st.floats(0.2, 1.5), st.sampled_from([0.2, 1.0, 7.0, 29.0, 30.0, 200.0])
    ),
    min_size=1,
    max_size=4,
)


@given(book=BOOK, held=st.floats(-3, 3))
def test_the_tables_are_those_of_a_slow_loop(book: list[tuple[float, bool, float, float, float]], held: float) -> None:
    forward, model = 80_000.0, RiskModel(dampener_usd=20_000.0)
    size, call, moneyness, vol, days = map(list, zip(*book, strict=True))
    strike = [m * forward for m in moneyness]
    forwards = [forward] * len(book)
    got = portfolio_margin(
        index=forward,
        contracts=size,
        call=call,
        strike=strike,
        forward=forwards,
        volatility=vol,
        days=days,
        futures=[held],
        futures_days=[0.0],
        model=model,
    )

    def account(move: float, how: str, futures_move: float) -> float:
        total = held * (1 - 1 / (1 + futures_move))
        for n, c, k, v, d in zip(size, call, strike, vol, days, strict=True):
            f = (30 / max(d, 1.0)) ** (0.30 if d < 30 else 0.13)
            shocked = {"up": max(v * (1 + 0.5 * f), 0.5), "same": v, "down": max(v * (1 - 0.25 * f), 0.0)}[how]
            total += n * (_black(forward * (1 + move), k, d / 365, shocked, c) - _black(forward, k, d / 365, v, c))
        return total

    moves = [-0.16, -0.12, -0.08, -0.04, 0.0, 0.04, 0.08, 0.12, 0.16]
    table = [[account(m, how, m) for how in ("up", "same", "down")] for m in moves]
    np.testing.assert_allclose(got.table, table, rtol=1e-9, atol=1e-10)
    for move, result in zip(model.far_moves, got.far, strict=True):
        raw = account(move, "up", max(-0.16, min(0.16, move)))
        softer = (abs(move) / 0.16 - 1) * 20_000.0 / forward
        expected = 0.0 if abs(raw) <= softer else raw - math.copysign(softer, raw)
        assert result == pytest.approx(expected, rel=1e-9, abs=1e-10)
    worst = min(0.0, *map(min, table), float(got.far.min()))
    assert got.initial == pytest.approx(-worst + got.roll_shock, rel=1e-9, abs=1e-10)
    assert got.maintenance == pytest.approx(0.8 * got.initial)


def _short(call: bool, strike: float, size: float = -1.0, **more: object) -> float:
    option = {"contracts": [size], "call": [call], "strike": [strike], "forward": [1e5], "volatility": [0.5], "days": [14.0]}
    return portfolio_margin(index=1e5, **(option | more)).initial  # type: ignore[arg-type]


def test_a_bought_option_costs_its_value_at_most_and_a_covered_call_less_than_a_naked_one() -> None:
    value = _black(1e5, 1.05e5, 14 / 365, 0.5, True)
    bought = portfolio_margin(
        index=1e5,
        contracts=[1.0],
        call=[True],
        strike=[1.05e5],
        forward=[1e5],
        volatility=[0.5],
        days=[14.0],
        model=RiskModel(roll_least=0, roll_move=0),
    )
    assert 0 < bought.initial <= value
    assert _short(True, 1.05e5, futures=[0.3], futures_days=[0.0]) < _short(True, 1.05e5)


def test_many_far_calls_sold_are_caught_by_the_extended_table_only() -> None:
    """A hundred calls at twice the forward lose next to nothing at +16 %, and most of a hundred coins at +500 %."""
    book = {"contracts": [-100.0], "call": [True], "strike": [2e5], "forward": [1e5], "volatility": [0.5], "days": [14.0]}
    got = portfolio_margin(index=1e5, **book)  # type: ignore[arg-type]
    assert got.table.min() > -0.5
    assert got.worst_move == 5.0
    assert got.initial > 30


def test_worked_example_of_the_docs() -> None:
    """A strangle of 14 days, 5 % out on both sides, volatility 50 %, forward 100,000."""
    got = portfolio_margin(
        index=1e5,
        contracts=[-1.0, -1.0],
        call=[True, False],
        strike=[1.05e5, 0.95e5],
        forward=[1e5] * 2,
        volatility=[0.5] * 2,
        days=[14.0] * 2,
    )
    marks = [_black(1e5, 1.05e5, 14 / 365, 0.5, True), _black(1e5, 0.95e5, 14 / 365, 0.5, False)]
    standard = standard_margin([True, False], [1.05e5, 0.95e5], 1e5, marks)
    assert f"{got.initial:.4f} {got.maintenance:.4f} {got.worst_move} {got.worst_volatility}" == "0.1212 0.0970 -0.16 up"
    assert f"{standard[:, 0].sum():.4f} {standard[:, 1].sum():.4f}" == "0.2381 0.1881"


@pytest.mark.parametrize(
    "wrong",
    [{"strike": [1.0, 2.0]}, {"forward": [0.0]}, {"volatility": [float("nan")]}, {"days": [-1.0]}, {"call": []}, {"index": 0.0}],
    ids=["lengths", "forward", "volatility", "days", "rights", "index"],
)
def test_what_cannot_be_priced_is_refused(wrong: dict[str, object]) -> None:
    whole: dict[str, object] = {
        "index": 1e5,
        "contracts": [-1.0],
        "call": [True],
        "strike": [1e5],
        "forward": [1e5],
        "volatility": [0.5],
        "days": [7.0],
    }
    with pytest.raises(DataError):
        portfolio_margin(**(whole | wrong))  # type: ignore[arg-type]


def test_an_empty_account_needs_nothing() -> None:
    got = portfolio_margin(index=1e5)
    assert (got.initial, got.maintenance) == (0.0, 0.0)
