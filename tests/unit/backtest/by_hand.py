"""Plays a small world on the engine and on the slow reference, and hands what both agree on to a test that knows it from paper."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from options_agent.backtest import market
from options_agent.strategies.rules import Strategy
from tests.unit.backtest.reference_agreement import agree
from tests.unit.backtest.reference_book import Outcome
from tests.unit.backtest.reference_costs import model_spread
from tests.unit.backtest.worlds import World


@dataclass
class Drawn:
    """Stands in for the random numbers of a seed: those given, then `rest`."""

    values: list[float]
    rest: float

    def random(self, count: int) -> np.ndarray:
        return np.array((self.values + [self.rest] * count)[:count])

    standard_normal = random


def played(world: World, strategy: Strategy, settings: dict[str, Any] | None = None, **streams: Any) -> Outcome:
    """What the reference plays, the engine having played the same to 1e-9 coin.

    `streams` are the reference's: features, latency_z, fill_u, size_correlation. With a `model_spread` other than the documented one the
    reference plays alone, for the engine has no other.
    """
    out = world.slow(strategy, settings, **({"model_spread": model_spread} | streams))
    if "model_spread" in streams:
        return out
    features = {name: np.array([math.nan if v is None else v for v in values]) for name, values in streams.get("features", {}).items()}
    if "size_correlation" in streams:
        features["correlation"] = 1.5 - np.array(streams["size_correlation"])
    drawn = {market.LATENCY: Drawn(streams.get("latency_z", []), 0.0), market.FILLS: Drawn(streams.get("fill_u", []), 1.0)}
    with patch.object(market, "draws", lambda seed, stream: drawn[stream]):
        agree(world.play(strategy, features, **(settings or {})), out)
    return out


def near(value: float, tolerance: float = 1e-12) -> Any:
    """That value, but for the last bits."""
    return pytest.approx(value, abs=tolerance)


def decided(out: Outcome) -> list[tuple[str, str]]:
    """Actions and reasons in their order."""
    return [(action, reason) for _, action, reason in out.decisions]


def fills(out: Outcome) -> list[tuple[str, float, float]]:
    """Instrument, signed contracts and price."""
    return [(f["instrument"], f["contracts"], f["price"]) for f in out.fills]
