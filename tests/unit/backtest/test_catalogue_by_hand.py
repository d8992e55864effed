"""Every strategy of the catalogue with its default rules, on a few quotes, against numbers worked out on paper: in coin, and in USDC.

The index is 100,000 where nothing else is said, the account one coin, or 100,000 USD where the strategy starts in cash. A contract pays
0.0003 coin a trade, 0.00015 at delivery on a Friday; of what is bought and sold at once the cheaper side is free.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from options_agent.strategies.catalogue import CATALOGUE
from tests.unit.backtest.by_hand import decided, fills, near, played
from tests.unit.backtest.reference_book import Outcome
from tests.unit.backtest.test_accounting import FRIDAY, MONDAY, delivered_at
from tests.unit.backtest.worlds import DAY, HOUR, World

WEEK, MONTH = "9JAN26", "30JAN26"
EXPIRY = dt.datetime(2026, 1, 30, 8, tzinfo=dt.UTC)
FEE, DELIVERY = 0.0003, 0.00015
START = 100_000.0
#: right, strike, bid, ask, absolute delta
Quote = tuple[str, int, float, float, float]


def quoted(world: World, at: dt.datetime, expiry: str, *quotes: Quote, index: float = START) -> World:
    """Quotes of one expiry. Returns the world."""
    unit = START if world.underlying.endswith("_USDC") else 1.0
    for right, strike, bid, ask, delta in quotes:
        name = f"{world.underlying}-{expiry}-{strike}-{right}"
        world.quote(at, name, bid * unit, ask * unit, index=index, delta=delta if right == "C" else -delta)
    return world


def ended(world: World, expiry: dt.datetime, price: float) -> World:
    """Delivered at a price, and a snapshot four hours later in which there is something else to see."""
    far = f"{world.underlying}-26JUN26-300000-C"
    return delivered_at(world.quote(expiry + 4 * HOUR, far, 0.001, 0.002, index=price, delta=0.9), expiry, price)


def opened(name: str, *quotes: Quote, expiry: str = WEEK, underlying: str = "BTC") -> tuple[World, Any]:
    """A Monday on which a strategy finds what it looks for."""
    return quoted(World(underlying), MONDAY, expiry, *quotes), CATALOGUE[name]


def cash(out: Outcome) -> float:
    """Coins at the end."""
    return float(out.equity[-1]["cash"])


# One leg


def test_covered_call() -> None:
    world, play = opened("covered_call", ("C", 105_000, 0.010, 0.011, 0.25))
    out = played(ended(world, FRIDAY, 110_000.0), play)
    assert cash(out) == near(1 + 0.010 - FEE - 5_000 / 110_000 - DELIVERY)
    assert out.equity[0]["im"] == near(0.10 + 0.0105)


def test_covered_call_rolled() -> None:
    world, play = opened("covered_call_rolled", ("C", 105_000, 0.010, 0.011, 0.25))
    quoted(world, MONDAY + 2 * DAY, WEEK, ("C", 105_000, 0.021, 0.022, 0.50), index=104_000.0)
    quoted(world, MONDAY + 2 * DAY, "16JAN26", ("C", 112_000, 0.0175, 0.0185, 0.25), index=104_000.0)
    out = played(world, play)
    assert decided(out) == [("open", "entered"), ("roll", "delta_breach"), ("open", "rolled"), ("skip", "max_open")]
    left = 1 + 0.010 - FEE - 0.022 - FEE  # 0.9874 coins secure nine lots
    assert cash(out) == near(left + 0.9 * (0.0175 - FEE))


def test_covered_call_ladder() -> None:
    world, play = opened("covered_call_ladder", ("C", 115_000, 0.010, 0.011, 0.20), expiry=MONTH)
    quoted(world, MONDAY + 5 * DAY, MONTH, ("C", 115_000, 0.010, 0.011, 0.20))
    quoted(world, MONDAY + 6 * DAY, MONTH, ("C", 115_000, 0.010, 0.011, 0.20))
    quoted(world, MONDAY + 6 * DAY + HOUR, "6FEB26", ("C", 115_000, 0.012, 0.013, 0.20))
    out = played(world, play, {"capital_coin": 2.0})
    # a rally to 125,000 costs 10,000 / 125,000 less the premium: 0.07 a unit; a fortieth of two coins is 0.05
    assert [t["units"] for t in out.trades] == [near(0.7), near(0.7)]  # 2.006 / 40 / 0.068 is 0.737
    assert [t["opened_at"] - MONDAY for t in out.trades] == [0 * DAY, 6 * DAY + HOUR]
    assert ("skip", "no_expiry") in decided(out)  # on the sixth day one rung holds the only expiry; on the fifth it is too early


def test_cash_secured_put() -> None:
    world, play = opened("cash_secured_put", ("P", 95_000, 0.012, 0.013, 0.25))
    out = played(ended(world, FRIDAY, 90_000.0), play)
    assert cash(out) == near(0.012 - FEE - 5_000 / 90_000 - DELIVERY)  # 100,000 USD secure ten lots
    assert out.equity[-1]["usd_cash"] == 100_000.0
    assert out.equity[-1]["usd"] == near(100_000 + 90_000 * (0.012 - FEE - DELIVERY) - 5_000, 1e-6)


def test_wheel() -> None:
    world, play = opened("wheel", ("P", 95_000, 0.012, 0.013, 0.30))
    ended(world, FRIDAY, 90_000.0)
    quoted(world, FRIDAY + 4 * HOUR, "16JAN26", ("C", 92_000, 0.020, 0.021, 0.30), index=90_000.0)
    out = played(ended(world, FRIDAY + 7 * DAY, 100_000.0), play)
    bought = 100_000 / 90_000 + 0.012 - FEE - 5_000 / 90_000 - DELIVERY  # 95,000 USD worth of coin at the strike, 5,000 at 90,000
    assert out.equity[1]["cash"] == near(bought + 1.0 * (0.020 - FEE))
    called = bought + 0.020 - FEE - 8_000 / 100_000 - DELIVERY
    assert (cash(out), out.equity[-1]["usd_cash"]) == (near(0.0), near(100_000 * called, 1e-6))


# Two legs of one side pay both fees


def test_short_strangle() -> None:
    world, play = opened("short_strangle", ("C", 110_000, 0.006, 0.007, 0.16), ("P", 90_000, 0.007, 0.008, 0.16))
    quoted(world, MONDAY + DAY, WEEK, ("C", 110_000, 0.028, 0.030, 0.5), ("P", 90_000, 0.002, 0.003, 0.05), index=110_000.0)
    out = played(world, play)
    assert decided(out)[1] == ("close", "stop")  # 0.033 to close what brought 0.013: more than one and a half premiums lost
    assert cash(out) == near(1 + 0.013 - 2 * FEE - 0.033 - 2 * FEE)


def test_short_strangle_hedged() -> None:
    world, play = opened("short_strangle_hedged", ("C", 110_000, 0.006, 0.007, 0.16), ("P", 90_000, 0.007, 0.008, 0.16))
    quoted(world, MONDAY + DAY, WEEK, ("C", 110_000, 0.0115, 0.0125, 0.40), ("P", 90_000, 0.0035, 0.0045, 0.08), index=105_000.0)
    quoted(world, MONDAY + DAY + 4 * HOUR, WEEK, ("C", 110_000, 0.0125, 0.0135, 0.40), ("P", 90_000, 0.003, 0.004, 0.08), index=106_000.0)
    out = played(world.pay(MONDAY + DAY, 0.0004), play)
    # half a coin of each; delta less value: -0.5 (0.16 - 0.0065) - 0.5 (-0.16 - 0.0075) = 0.007 coin, within the band
    assert out.equity[0]["notional"] == 0.0
    # -0.5 (0.40 - 0.012) - 0.5 (-0.08 - 0.004) = -0.152 coin are 15,960 USD to buy
    assert out.equity[1]["notional"] == 15_960.0
    left = 1 + 0.5 * (0.013 - 2 * FEE) - 0.152 * (0.0005 + 0.00005)
    assert out.equity[1]["cash"] == near(left)
    assert out.equity[2]["cash"] == near(left + 15_960 * (1 / 105_000 - 1 / 106_000) - 0.152 * 0.0004 / 2)  # four hours of eight


@pytest.mark.parametrize(("dear", "strike"), [(0.65, 112_000), (0.5, 110_000), (0.85, 115_000)])
def test_short_strangle_rich(dear: float, strike: int) -> None:
    calls = (("C", 110_000, 0.006, 0.007, 0.16), ("C", 112_000, 0.005, 0.006, 0.13), ("C", 115_000, 0.003, 0.004, 0.10))
    world, play = opened("short_strangle_rich", *calls, ("P", 90_000, 0.007, 0.008, 0.16))
    known = {"implied_vol": [dear], "implied_less_realised": [0.02]}
    out = played(world, play, features=known, size_correlation=[0.75])
    assert fills(out)[0][:2] == (f"BTC-{WEEK}-{strike}-C", near(-0.7))  # three quarters of ten lots
    cheap = known | {"implied_less_realised": [0.0199]}
    assert decided(played(world, play, features=cheap, size_correlation=[1.0])) == [("skip", "signal")]


def test_short_straddle() -> None:
    at_the_money: tuple[Quote, ...] = (("C", 100_000, 0.030, 0.031, 0.51), ("P", 100_000, 0.029, 0.030, 0.49))
    world, play = opened("short_straddle", *at_the_money, ("P", 95_000, 0.012, 0.013, 0.30))
    out = played(ended(world, FRIDAY, 104_000.0), play)
    assert fills(out)[:2] == [(f"BTC-{WEEK}-100000-C", -0.5, 0.030), (f"BTC-{WEEK}-100000-P", -0.5, 0.029)]
    assert cash(out) == near(1 + 0.5 * (0.059 - 2 * FEE - 4_000 / 104_000 - DELIVERY))  # a delta of 0.02 needs no hedge


# Spreads: the cheaper side is free


def test_iron_condor() -> None:
    quotes = (
        ("C", 110_000, 0.010, 0.011, 0.20),
        ("C", 120_000, 0.003, 0.004, 0.08),
        ("P", 90_000, 0.009, 0.010, 0.20),
        ("P", 80_000, 0.002, 0.003, 0.08),
    )
    world, play = opened("iron_condor", *quotes, expiry=MONTH)
    out = played(ended(world, EXPIRY, 125_000.0), play)
    # a fall to 70,000 costs 20,000 / 70,000 - 10,000 / 70,000 - 0.012 = 0.1309 a unit, a rise to 130,000 half: 0.1 coin is 7 lots
    wings = [(f"BTC-{MONTH}-{k}-{right}", near(n), p) for k, right, n, p in ((110_000, "C", -0.7, 0.010), (120_000, "C", 0.7, 0.004))]
    assert fills(out)[:2] == wings
    assert out.equity[0]["cash"] == near(1 + 0.7 * (0.010 - 0.004 + 0.009 - 0.003 - 2 * FEE))
    paid = 15_000 / 125_000 + DELIVERY - 5_000 / 125_000 + DELIVERY  # delivery is free for neither side
    assert cash(out) == near(1 + 0.7 * (0.012 - 2 * FEE - paid))


def test_put_credit_spread() -> None:
    quotes: tuple[Quote, ...] = (("P", 95_000, 0.020, 0.021, 0.30), ("P", 85_000, 0.006, 0.007, 0.12))
    world, play = opened("put_credit_spread", *quotes, expiry=MONTH)
    quoted(world, EXPIRY - 5 * DAY, MONTH, ("P", 95_000, 0.010, 0.011, 0.3), ("P", 85_000, 0.0015, 0.002, 0.05))
    out = played(world, play)
    # 0.1 / (10,000 / 70,000 - 0.013) = 0.77; the price of 0.007 pays 0.0003, that of 0.0015 an eighth of itself
    assert decided(out)[1] == ("close", "days_left")
    assert cash(out) == near(1 + 0.7 * (0.020 - 0.007 - FEE - 0.011 + 0.0015 - FEE))
    assert sum(f["fee"] for f in out.fills if f["kind"] == "close") == near(0.7 * FEE)


def test_call_credit_spread() -> None:
    quotes: tuple[Quote, ...] = (("C", 108_000, 0.018, 0.019, 0.30), ("C", 118_000, 0.006, 0.007, 0.12))
    world, play = opened("call_credit_spread", *quotes, expiry=MONTH)
    out = played(ended(world, EXPIRY, 110_000.0), play)
    # 0.1 / (10,000 / 130,000 - 0.011) = 1.52, but one coin secures one unit
    assert cash(out) == near(1 + 0.018 - 0.007 - FEE - 2_000 / 110_000 - DELIVERY)


def test_put_ratio() -> None:
    quotes: tuple[Quote, ...] = (("P", 96_000, 0.024, 0.025, 0.35), ("P", 88_000, 0.011, 0.012, 0.18))
    world, play = opened("put_ratio", *quotes, expiry=MONTH)
    out = played(ended(world, EXPIRY, 80_000.0), play)
    assert [f["fee"] for f in out.fills[:2]] == [0.0, near(0.5 * 2 * FEE)]  # one bought is cheaper than two sold
    worth = 16_000 / 80_000 - DELIVERY - 2 * (8_000 / 80_000 + DELIVERY)
    assert cash(out) == near(1 + 0.5 * (2 * 0.011 - 0.025 - 2 * FEE + worth))


def test_jade_lizard() -> None:
    quotes: tuple[Quote, ...] = (
        ("P", 92_000, 0.014, 0.015, 0.25),
        ("C", 110_000, 0.013, 0.014, 0.25),
        ("C", 115_000, 0.007, 0.008, 0.15),
    )
    world, play = opened("jade_lizard", *quotes, expiry=MONTH)
    quoted(world, MONDAY + 9 * DAY, MONTH, ("P", 92_000, 0.004, 0.005, 0.1), ("C", 110_000, 0.006, 0.0065, 0.2))
    quoted(world, MONDAY + 9 * DAY, MONTH, ("C", 115_000, 0.0025, 0.003, 0.1))
    out = played(world, play)
    assert decided(out)[1] == ("close", "take_profit")  # 0.019 taken, 0.005 + 0.0065 - 0.0025 = 0.009 given back
    assert cash(out) == near(1 + 0.5 * (0.019 - 2 * FEE - 0.009 - 2 * FEE))


def test_calendar() -> None:
    world, play = opened("calendar", ("C", 101_000, 0.020, 0.021, 0.45))
    quoted(world, MONDAY, "13FEB26", ("C", 101_000, 0.054, 0.056, 0.50), ("C", 106_000, 0.040, 0.042, 0.4))
    quoted(world, FRIDAY - DAY, WEEK, ("C", 101_000, 0.004, 0.005, 0.3)).quote(
        FRIDAY - DAY, "BTC-13FEB26-101000-C", 0.048, 0.050, index=START, delta=0.47
    )
    out = played(world, play)
    assert fills(out)[:2] == [(f"BTC-{WEEK}-101000-C", -0.5, 0.020), ("BTC-13FEB26-101000-C", 0.5, 0.056)]
    assert decided(out)[1] == ("close", "days_left")  # won 0.007 of the 0.036 that were paid, a fifth
    assert cash(out) == near(1 + 0.5 * (0.020 - 0.056 - FEE + 0.048 - 0.005 - FEE))


def test_collar() -> None:
    quotes: tuple[Quote, ...] = (("C", 112_000, 0.014, 0.015, 0.25), ("P", 85_000, 0.006, 0.0065, 0.15))
    world, play = opened("collar", *quotes, expiry=MONTH)
    out = played(ended(world, EXPIRY, 70_000.0), play)
    end = 1 + 0.014 - 0.0065 - FEE + 15_000 / 70_000 - DELIVERY
    assert cash(out) == near(end)
    assert out.equity[-1]["usd"] == near(85_000 + 70_000 * (0.014 - 0.0065 - FEE - DELIVERY), 1e-6)  # the floor, and what it brought


# USDC options: the same structures move USD, and one coin is still one coin


def test_a_linear_covered_call() -> None:
    world, play = opened("covered_call", ("C", 105_000, 0.010, 0.011, 0.25), underlying="BTC_USDC")
    out = played(ended(world, FRIDAY, 110_000.0), play)
    usd = 1_000 - 0.0003 * 100_000 - 5_000 - 0.00015 * 110_000
    assert (cash(out), out.equity[-1]["usd_cash"]) == (1.0, near(usd, 1e-9))
    assert out.equity[-1]["usd"] == near(110_000 + usd, 1e-6)


def test_a_linear_cash_secured_put() -> None:
    world, play = opened("cash_secured_put", ("P", 95_000, 0.012, 0.013, 0.25), underlying="BTC_USDC")
    out = played(ended(world, FRIDAY, 90_000.0), play)
    units = 1.05  # 100,000 over 95,000 in lots of a hundredth
    assert out.equity[-1]["usd_cash"] == near(100_000 + units * (1_200 - 30 - 5_000 - 0.00015 * 90_000), 1e-6)


def test_a_linear_iron_condor() -> None:
    quotes = (
        ("C", 110_000, 0.010, 0.011, 0.20),
        ("C", 120_000, 0.003, 0.004, 0.08),
        ("P", 90_000, 0.009, 0.010, 0.20),
        ("P", 80_000, 0.002, 0.003, 0.08),
    )
    world, play = opened("iron_condor", *quotes, expiry=MONTH, underlying="BTC_USDC")
    out = played(ended(world, EXPIRY, 125_000.0), play)
    # 10,000 - 1,200 USD are lost on either side: 0.088 coin; 0.1 coin is 1.13 units, one coin secures one
    sold = 2 * 0.0003 * 100_000
    assert out.equity[0]["usd_cash"] == near(1_200 - sold, 1e-9)
    assert out.equity[-1]["usd_cash"] == near(1_200 - sold - 10_000 - 2 * 0.00015 * 125_000, 1e-9)


def test_a_linear_wheel() -> None:
    world, play = opened("wheel", ("P", 95_000, 0.012, 0.013, 0.30), underlying="BTC_USDC")
    out = played(ended(world, FRIDAY, 90_000.0), play)
    usd = 100_000 + 1.05 * (1_200 - 30 - 5_000 - 0.00015 * 90_000)
    assert (cash(out), out.equity[-1]["usd_cash"]) == (near(usd / 90_000), near(0.0, 1e-9))
