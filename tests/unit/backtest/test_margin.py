"""Standard margin is the exchange's formula, written again in plain Python, and the laws that follow from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from options_agent.backtest.margin import PERPETUAL_INITIAL, PERPETUAL_MAINTENANCE, perpetual_margin, standard_margin
from options_agent.errors import DataError

FORWARDS = st.floats(1.0, 500_000.0)
MONEYNESS = st.floats(0.05, 8.0)
COIN_MARKS = st.floats(0.0, 8.0)


def _by_hand(call: bool, strike: float, forward: float, mark: float) -> tuple[float, float]:
    """Inverse, coin: the words of the exchange's page, one at a time."""
    in_the_money = forward > strike if call else strike > forward
    out_of_the_money_amount = 0.0 if in_the_money else abs(strike - forward)
    share = 0.15 - out_of_the_money_amount / forward
    if share < 0.10:
        share = 0.10
    if call:
        return share + mark, 0.075 + mark
    keeps = 0.075 * mark + mark if mark > 1 else 0.075 + mark
    opens = share + mark
    return max(opens, keeps), keeps


def _margin(call: bool, strike: float, forward: float, mark: float, settlement: str = "coin") -> tuple[float, float]:
    initial, maintenance = standard_margin(call, strike, forward, mark, settlement=settlement)
    return float(initial), float(maintenance)


@given(call=st.booleans(), forward=FORWARDS, moneyness=MONEYNESS, mark=COIN_MARKS)
def test_inverse_margin_is_the_formula(call: bool, forward: float, moneyness: float, mark: float) -> None:
    strike = moneyness * forward
    assert _margin(call, strike, forward, mark) == pytest.approx(_by_hand(call, strike, forward, mark), rel=1e-13)


@given(call=st.booleans(), forward=FORWARDS, moneyness=MONEYNESS, mark=COIN_MARKS)
def test_linear_margin_is_the_inverse_one_times_the_forward(call: bool, forward: float, moneyness: float, mark: float) -> None:
    strike = moneyness * forward
    expected = [forward * one for one in _by_hand(call, strike, forward, mark)]
    assert _margin(call, strike, forward, mark * forward, "usdc") == pytest.approx(expected, rel=1e-12)


@given(call=st.booleans(), forward=FORWARDS, moneyness=MONEYNESS, mark=COIN_MARKS, settlement=st.sampled_from(["coin", "usdc"]))
def test_maintenance_is_never_above_initial(call: bool, forward: float, moneyness: float, mark: float, settlement: str) -> None:
    scale = forward if settlement == "usdc" else 1.0
    initial, maintenance = _margin(call, moneyness * forward, forward, mark * scale, settlement)
    assert maintenance <= initial
    if call:
        assert initial - maintenance >= 0.025 * scale * (1 - 1e-9) - 1e-9 * initial


def test_only_the_outer_maximum_keeps_a_deep_put_s_initial_above_its_maintenance() -> None:
    """0.075 of the mark outgrows 0.15 of a coin from a mark of 2 on: a put struck at three times the forward."""
    assert _margin(False, 300_000, 100_000, 1.99) == pytest.approx((0.15 + 1.99, 1.075 * 1.99))
    assert _margin(False, 320_000, 100_000, 2.2) == pytest.approx((1.075 * 2.2, 1.075 * 2.2))
    assert 0.15 + 2.2 < 1.075 * 2.2


@given(call=st.booleans(), forward=FORWARDS, moneyness=MONEYNESS, mark=COIN_MARKS, more=st.floats(1e-6, 1.0))
def test_margin_rises_with_the_mark_at_least_one_for_one(call: bool, forward: float, moneyness: float, mark: float, more: float) -> None:
    before, after = (np.array(_margin(call, moneyness * forward, forward, m)) for m in (mark, mark + more))
    assert (after - before >= more - 1e-9).all()
    assert (after - before <= 1.075 * more + 1e-9).all()


@given(call=st.booleans(), forward=FORWARDS, moneyness=MONEYNESS, farther=st.floats(0.0, 2.0), mark=COIN_MARKS)
def test_initial_margin_falls_as_a_strike_moves_out_of_the_money(
    call: bool, forward: float, moneyness: float, farther: float, mark: float
) -> None:
    assume(moneyness > farther or call)
    near, far = moneyness * forward, (moneyness + farther if call else moneyness - farther) * forward
    assert _margin(call, far, forward, mark)[0] <= _margin(call, near, forward, mark)[0] + 1e-12
    assert _margin(call, far, forward, mark)[1] == _margin(call, near, forward, mark)[1]


EXAMPLES = {
    "call at the money": ((True, 100_000, 100_000, 0.03, "coin"), (0.18, 0.105)),
    "call 3 % out of the money": ((True, 103_000, 100_000, 0.02, "coin"), (0.14, 0.095)),
    "call 5 % out of the money": ((True, 105_000, 100_000, 0.01, "coin"), (0.11, 0.085)),
    "call far out of the money": ((True, 150_000, 100_000, 0.001, "coin"), (0.101, 0.076)),
    "call in the money": ((True, 80_000, 100_000, 0.205, "coin"), (0.355, 0.28)),
    "put 3 % out of the money": ((False, 97_000, 100_000, 0.02, "coin"), (0.14, 0.095)),
    "put in the money": ((False, 120_000, 100_000, 0.21, "coin"), (0.36, 0.285)),
    "put worth more than a coin": ((False, 250_000, 100_000, 1.5, "coin"), (1.65, 1.6125)),
    "linear call 3 % out of the money": ((True, 103_000, 100_000, 2_000.0, "usdc"), (14_000.0, 9_500.0)),
    "linear put in the money": ((False, 120_000, 100_000, 21_000.0, "usdc"), (36_000.0, 28_500.0)),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_worked_examples_of_the_docs(name: str) -> None:
    arguments, expected = EXAMPLES[name]
    assert _margin(*arguments) == pytest.approx(expected, rel=1e-12)


def test_bought_options_need_nothing_and_nothing_offsets() -> None:
    got = standard_margin(
        call=np.array([True, True, False]),
        strike=np.array([100_000.0, 105_000.0, 95_000.0]),
        forward=100_000.0,
        mark=np.array([0.03, 0.01, 0.012]),
        contracts=np.array([-2.0, 2.0, 0.0]),
    )
    np.testing.assert_allclose(got, [[0.36, 0.21], [0, 0], [0, 0]])


def test_arrays_keep_their_shape_and_unknown_marks_stay_unknown() -> None:
    got = standard_margin(True, 100_000.0, np.full((2, 3), 100_000.0), np.array([0.01, np.nan, 0.02]))
    assert got.shape == (2, 3, 2)
    np.testing.assert_array_equal(np.isnan(got[..., 0]), [[False, True, False]] * 2)
    assert standard_margin(True, 1.0, np.nan, np.nan, contracts=1.0).tolist() == [0.0, 0.0]
    assert standard_margin(np.array([], dtype=bool), [], [], []).shape == (0, 2)


@pytest.mark.parametrize("forward", [0.0, -1.0])
def test_a_forward_at_or_below_zero_is_refused(forward: float) -> None:
    with pytest.raises(DataError, match="forward"):
        standard_margin(True, 100.0, forward, 0.1)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="fit"):
        standard_margin([True, False], [1.0, 2.0, 3.0], 1.0, 0.1)


def test_the_perpetual_s_margin_is_the_page_s_example() -> None:
    """Linear Perpetual, BTC: 25 BTC need 2.125 % and 1.125 %, 350 BTC 3.75 % and 2.75 %."""
    np.testing.assert_allclose(perpetual_margin([25.0, 350.0, -25.0]), [[0.53125, 0.28125], [13.125, 9.625], [0.53125, 0.28125]])
    assert math.isclose(float(perpetual_margin(1e-9)[0]), PERPETUAL_INITIAL * 1e-9, rel_tol=1e-6)
    assert PERPETUAL_MAINTENANCE < PERPETUAL_INITIAL
