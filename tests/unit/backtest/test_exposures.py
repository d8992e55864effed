"""Greeks of what is held equal those of a plain walk over the fills and the quotes."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from options_agent.backtest.engine import play
from options_agent.backtest.exposures import greek_exposures
from options_agent.pricing.black76 import greeks
from options_agent.settings import BacktestSettings
from options_agent.strategies.catalogue import CATALOGUE
from tests.unit.backtest.worlds import random_world

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize("name", ["covered_call", "short_strangle", "calendar", "wheel"])
def test_the_greeks_held_are_those_of_each_leg_s_last_row(name: str) -> None:
    world = random_world(4, snapshots=70, listed=True)
    history = world.history()
    played = play(history, CATALOGUE[name], BacktestSettings(capital_coin=3))
    found = greek_exposures(history, played.fills)
    chains: dict[int, dict[str, dict]] = {}
    for quote in world.quotes:
        chains.setdefault((quote["snapshot"] - EPOCH) // dt.timedelta(microseconds=1), {})[quote["instrument"]] = quote
    held: dict[tuple[int, int], tuple[str, float]] = {}
    last: dict[str, tuple[float, float, float]] = {}
    for s in range(history.snapshots):
        for fill in played.fills[played.fills[:, 3] == s]:
            key = (int(fill[0]), int(fill[1]))
            if fill[2] == 0:
                held[key] = (history.instruments[int(fill[5])], float(fill[6]))
                last.pop(held[key][0], None)
            else:
                held.pop(key, None)
        expected = np.zeros(3)
        for instrument, contracts in held.values():
            row = chains[int(history.snapshot[s])].get(instrument)
            years = 0.0 if row is None else (row["expiry"] - EPOCH) / dt.timedelta(days=365) - history.known_at[s] / 86_400e6 / 365
            if row is not None and row["mark_iv"] and row["forward"] and years > 0:
                _, _, gamma, vega, theta = (
                    float(g[0]) for g in greeks([row["forward"]], [row["strike"]], [years], [row["mark_iv"]], [row["right"] == "C"])
                )
                last[instrument] = (gamma, vega / history.index[s], theta / history.index[s])
            elif row is not None:
                last.pop(instrument, None)
            expected += contracts * np.array(last.get(instrument, (0.0, 0.0, 0.0)))
        assert [found[g][s] for g in ("gamma", "vega", "theta")] == pytest.approx(expected, rel=1e-7, abs=1e-10)
