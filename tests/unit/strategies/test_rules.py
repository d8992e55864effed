"""What a strategy refuses to be."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from options_agent.errors import SettingsError
from options_agent.strategies.catalogue import strategy
from options_agent.strategies.correlation import size_factor
from options_agent.strategies.rules import Exit, Roll, Sizing

CALL = strategy("covered_call")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"legs": (replace(CALL.legs[0], ratio=math.inf),)}, "ratio is positive and finite"),
        ({"legs": (replace(CALL.legs[0], by="offset", target=math.nan),)}, "target is a number"),
        ({"sizing": Sizing("margin", 40.0)}, "margin is a share"),
        ({"sizing": Sizing("fixed", math.inf)}, "value is positive"),
        ({"exit": Exit(roll=Roll(dte_min=30.0, dte_target=10.0, dte_max=40.0))}, "roll: days to expiry 30, 10, 40"),
        ({"exit": Exit(roll=Roll(dte_min=2 * CALL.entry.dte_max))}, "roll: days to expiry"),
    ],
)
def test_nonsense_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        replace(CALL, **changes)


def test_a_size_factor_needs_room_to_fall() -> None:
    with pytest.raises(SettingsError, match="leaves no room"):
        size_factor(np.array([0.5]), full_below=1.0)
