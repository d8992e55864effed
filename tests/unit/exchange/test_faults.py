"""Switches: known by name, fitted to their type, and drawn alike from the same seed."""

from __future__ import annotations

from typing import Any

import pytest

from options_agent.errors import SettingsError
from options_agent.exchange.faults import Dice, Faults


def test_switches_take_text_as_the_terminal_gives_it() -> None:
    faults = Faults().changed({"drop": "0.25", "maintenance": "on", "vanished": "A,B", "seed": "7"})
    assert (faults.drop, faults.maintenance, faults.vanished, faults.seed) == (0.25, True, ("A", "B"), 7)
    assert faults.changed({"maintenance": False, "vanished": []}).vanished == ()


NONSENSE = [
    *[("dorp", 0.1), ("drop", "much"), ("drop", 5), ("drop", -0.1), ("drop", "nan"), ("drop", True), ("half_frame", "1%")],
    *[("maintenance", "perhaps"), ("maintenance", 2), ("seed", None), ("seed", "1.5"), ("seed", "inf"), ("seed", -1)],
    *[("latency_seconds", -3), ("clock_skew_seconds", "inf"), ("clock_skew_seconds", 1e12), ("vanished", 5)],
]


@pytest.mark.parametrize(("name", "value"), NONSENSE)
def test_what_does_not_fit_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name):
        Faults().changed({name: value})


@pytest.mark.parametrize("changes", [[], 5, "drop=1", None])
def test_switches_come_by_name(changes: Any) -> None:
    with pytest.raises(SettingsError, match="faults cannot be"):
        Faults().changed(changes)


def test_the_same_seed_gives_the_same_faults() -> None:
    one, two, other = Dice(3), Dice(3), Dice(4)
    drawn = [[dice.hit(0.3) for _ in range(200)] for dice in (one, two, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert 30 < sum(drawn[0]) < 90
    assert not Dice(3).hit(0.0)
