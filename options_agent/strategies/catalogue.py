"""The catalogue: strategies by name, with the defaults a person would start from."""

from __future__ import annotations

from typing import Final

from options_agent.errors import SettingsError
from options_agent.strategies.rules import Dial, Entry, Exit, Filters, Hedge, Leg, Roll, Signal, Sizing, Strategy

_WEEK: Final = Entry(dte_min=4, dte_target=7, dte_max=11)
_MONTH: Final = Entry(dte_min=18, dte_target=28, dte_max=45)
#: A spread pays less than a naked option, and its four quotes are wider together.
_SPREAD: Final = Filters(min_premium=0.001)
#: A structure that costs premium.
_DEBIT: Final = Filters(min_premium=-0.08)

CATALOGUE: Final[dict[str, Strategy]] = {
    s.name: s
    for s in (
        Strategy(
            "covered_call",
            "covered_call",
            "Hold the coin, sell a weekly out-of-the-money call against it.",
            (Leg("sell", "C", 0.25),),
            _WEEK,
            Exit(take_profit=0.5, stop_loss=2.0),
            collateral="coin",
        ),
        Strategy(
            "covered_call_rolled",
            "covered_call",
            "A covered call that is rolled out and up a day before expiry or when its delta reaches 0.5, for no more than half a percent.",
            (Leg("sell", "C", 0.25),),
            _WEEK,
            Exit(take_profit=0.7, delta_breach=0.5, days_left=1.0, roll=Roll(on=("delta_breach", "days_left"), max_debit=0.005)),
            collateral="coin",
        ),
        Strategy(
            "covered_call_ladder",
            "covered_call",
            "Up to four monthly covered calls, a week apart, each sized to lose a fortieth of the equity in a rally of a quarter.",
            (Leg("sell", "C", 0.2),),
            Entry(dte_min=18, dte_target=28, dte_max=38, max_open=4, every_days=6, max_per_expiry=1),
            Exit(take_profit=0.8),
            collateral="coin",
            sizing=Sizing("risk", 0.025, move=0.25),
        ),
        Strategy(
            "cash_secured_put",
            "cash_secured_put",
            "Hold the strike in cash, sell a weekly out-of-the-money put against it.",
            (Leg("sell", "P", 0.25),),
            _WEEK,
            Exit(take_profit=0.5, stop_loss=2.0),
            collateral="cash",
        ),
        Strategy(
            "wheel",
            "wheel",
            "Sell weekly puts on cash until assigned, then weekly calls on the coin until called away.",
            (Leg("sell", "P", 0.3),),
            _WEEK,
            collateral="cash",
            assigned_legs=(Leg("sell", "C", 0.3),),
        ),
        Strategy(
            "short_strangle",
            "short_strangle",
            "Sell an out-of-the-money call and put on coin margin, one of each per coin at most.",
            (Leg("sell", "C", 0.16), Leg("sell", "P", 0.16)),
            _WEEK,
            Exit(take_profit=0.5, stop_loss=1.5, days_left=1.0),
            collateral="margin",
        ),
        Strategy(
            "short_strangle_hedged",
            "short_strangle",
            "A strangle whose delta the perpetual takes off beyond five percent of the equity: what is left is implied against realised.",
            (Leg("sell", "C", 0.16), Leg("sell", "P", 0.16)),
            _WEEK,
            Exit(take_profit=0.5, days_left=1.0),
            collateral="margin",
            share=0.5,
            hedge=Hedge("coin", band=0.05, interval_hours=8.0),
        ),
        Strategy(
            "short_strangle_rich",
            "short_strangle",
            "A strangle only while implied volatility is above realised, further out while it is high, smaller as BTC and ETH move as one.",
            (Leg("sell", "C", 0.16), Leg("sell", "P", 0.16)),
            Entry(dte_min=4, dte_target=7, dte_max=11, signals=(Signal("implied_less_realised", above=0.02),)),
            Exit(take_profit=0.5, stop_loss=1.5, days_left=1.0),
            collateral="margin",
            sizing=Sizing(correlation_aware=True),
            delta_dial=Dial("implied_vol", ((0.6, 0.8), (0.8, 0.6))),
        ),
        Strategy(
            "short_straddle",
            "short_straddle",
            "Sell the call and put at the money on half the margin, hedged by the perpetual against the index.",
            (Leg("sell", "C", 0.5), Leg("sell", "P", 0.0, by="offset", of=0)),
            _WEEK,
            Exit(take_profit=0.4, stop_loss=0.75, days_left=1.0),
            collateral="margin",
            share=0.5,
            hedge=Hedge("coin", band=0.1, interval_hours=8.0),
        ),
        Strategy(
            "iron_condor",
            "iron_condor",
            "Sell a strangle and buy one a tenth of the index further out: the loss ends at the wings.",
            (
                Leg("sell", "C", 0.2),
                Leg("buy", "C", 0.1, by="offset", of=0),
                Leg("sell", "P", 0.2),
                Leg("buy", "P", -0.1, by="offset", of=2),
            ),
            _MONTH,
            Exit(take_profit=0.5, stop_loss=1.5, days_left=5.0),
            _SPREAD,
            collateral="margin",
            sizing=Sizing("risk", 0.1, move=0.3),
        ),
        Strategy(
            "put_credit_spread",
            "vertical",
            "Sell a put and buy one a tenth of the index lower: a bullish income trade with a known worst.",
            (Leg("sell", "P", 0.3), Leg("buy", "P", -0.1, by="offset", of=0)),
            _MONTH,
            Exit(take_profit=0.5, days_left=5.0),
            _SPREAD,
            collateral="margin",
            sizing=Sizing("risk", 0.1, move=0.3),
        ),
        Strategy(
            "call_credit_spread",
            "vertical",
            "Sell a call and buy one a tenth of the index higher: a bearish income trade with a known worst.",
            (Leg("sell", "C", 0.3), Leg("buy", "C", 0.1, by="offset", of=0)),
            _MONTH,
            Exit(take_profit=0.5, days_left=5.0),
            _SPREAD,
            collateral="margin",
            sizing=Sizing("risk", 0.1, move=0.3),
        ),
        Strategy(
            "put_ratio",
            "ratio",
            "Buy a put nearer the money and sell two further out: paid for a slow fall, exposed to a crash.",
            (Leg("buy", "P", 0.35), Leg("sell", "P", 0.18, ratio=2.0)),
            _MONTH,
            Exit(take_profit=1.0, equity_stop=0.08, days_left=5.0),
            Filters(min_premium=-0.005),
            collateral="margin",
            share=0.5,
        ),
        Strategy(
            "jade_lizard",
            "jade_lizard",
            "Sell a put, sell a call spread: no risk above if the premium is wider than the spread, a put's risk below.",
            (Leg("sell", "P", 0.25), Leg("sell", "C", 0.25), Leg("buy", "C", 0.05, by="offset", of=1)),
            _MONTH,
            Exit(take_profit=0.5, stop_loss=1.5, days_left=5.0),
            _SPREAD,
            collateral="margin",
            share=0.5,
        ),
        Strategy(
            "calendar",
            "calendar",
            "Sell a weekly call at the money and buy the same strike a month out: time passes faster in front.",
            (Leg("sell", "C", 0.45), Leg("buy", "C", 0.0, by="offset", of=0, dte=35)),
            _WEEK,
            Exit(take_profit=0.25, stop_loss=0.4, days_left=1.0),
            _DEBIT,
            collateral="margin",
            share=0.5,
        ),
        Strategy(
            "collar",
            "collar",
            "Hold the coin, sell a monthly call and buy a put with it: a floor paid for with the upside.",
            (Leg("sell", "C", 0.25), Leg("buy", "P", 0.15)),
            _MONTH,
            Exit(days_left=2.0),
            _DEBIT,
            collateral="coin",
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
