"""Switches: known by name, fitted to their type, and drawn alike from the same seed."""

from __future__ import annotations

import pytest

from options_agent.errors import SettingsError
from options_agent.exchange.faults import Dice, Faults


def test_switches_take_text_as_the_terminal_gives_it() -> None:
    faults = Faults().changed({"drop": "0.25", "maintenance": "on", "vanished": "A,B", "seed": "7"})
    assert (faults.drop, faults.maintenance, faults.vanished, faults.seed) == (0.25, True, ("A", "B"), 7)
    assert faults.changed({"maintenance": False, "vanished": []}).vanished == ()


@pytest.mark.parametrize(("name", "value"), [("dorp", 0.1), ("drop", "much"), ("maintenance", "perhaps"), ("seed", None)])
def test_what_does_not_fit_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name):
        Faults().changed({name: value})


def test_the_same_seed_gives_the_same_faults() -> None:
    one, two, other = Dice(3), Dice(3), Dice(4)
    drawn = [[dice.hit(0.3) for _ in range(200)] for dice in (one, two, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert 30 < sum(drawn[0]) < 90
    assert not Dice(3).hit(0.0)
