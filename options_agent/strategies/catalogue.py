"""The catalogue: strategies by name, with the defaults a person would start from."""

from __future__ import annotations

from typing import Final

from options_agent.errors import SettingsError
from options_agent.strategies.rules import Entry, Exit, Leg, Strategy

CATALOGUE: Final[dict[str, Strategy]] = {
    s.name: s
    for s in (
        Strategy(
            "covered_call",
            "covered_call",
            "Hold the coin, sell a weekly out-of-the-money call against it.",
            (Leg("sell", "C", 0.25),),
            Entry(dte_min=4, dte_target=7, dte_max=11),
            Exit(take_profit=0.5, stop_loss=2.0),
            collateral="coin",
        ),
        Strategy(
            "cash_secured_put",
            "cash_secured_put",
            "Hold the strike in cash, sell a weekly out-of-the-money put against it.",
            (Leg("sell", "P", 0.25),),
            Entry(dte_min=4, dte_target=7, dte_max=11),
            Exit(take_profit=0.5, stop_loss=2.0),
            collateral="cash",
        ),
        Strategy(
            "short_strangle",
            "short_strangle",
            "Sell an out-of-the-money call and put on coin margin, one of each per coin at most.",
            (Leg("sell", "C", 0.16), Leg("sell", "P", 0.16)),
            Entry(dte_min=4, dte_target=7, dte_max=11),
            Exit(take_profit=0.5, stop_loss=1.5, days_left=1.0),
            collateral="margin",
        ),
    )
}


def strategy(name: str) -> Strategy:
    """The strategy of that name.

    Raises:
        SettingsError: there is none; the message names those there are.
    """
    try:
        return CATALOGUE[name]
    except KeyError:
        raise SettingsError(f"no strategy named {name!r}", remedy=f"one of {', '.join(CATALOGUE)}") from None
