"""The fill model's spread: never under a tick, and the shipped figures are what the calibration gives on the recorded chains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.backtest.market import spread_model
from options_agent.backtest.slippage import DAYS, DELTAS, SPREADS, model_half_spread
from tests.conftest import REPOSITORY

half = model_half_spread.py_func  # type: ignore[attr-defined]


@given(st.floats(0, 400), st.floats(0, 1), st.floats(1e-6, 2))
def test_the_spread_is_the_table_s_share_of_the_mark_and_at_least_a_tick(days: float, delta: float, mark: float) -> None:
    row = sum(days >= edge for edge in DAYS)
    column = sum(delta >= edge for edge in DELTAS)
    tick = 0.0001 if mark <= 0.005 else 0.0005
    assert 2 * half(spread_model(), days, delta, mark) == pytest.approx(max(SPREADS[row][column] * mark, tick))


def test_a_short_life_and_a_small_delta_cost_more_of_the_mark() -> None:
    table = np.array(SPREADS)
    assert table.shape == (len(DAYS) + 1, len(DELTAS) + 1)
    assert (np.diff(table[:, :5], axis=0) <= 0).all()
    assert (np.diff(table[:, :5], axis=1) < 0).all()


def test_the_shipped_figures_are_those_of_the_recorded_chains(market_data: Path) -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "calibrate_slippage.py", market_data],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    assert done.stdout.count("as shipped") == 2  # the spreads, and what size costs
    assert "NOT" not in done.stdout
