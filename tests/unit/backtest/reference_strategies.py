"""Any strategy that the rules can say, and any settings that costs can have, for property tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from options_agent.strategies.rules import Dial, Entry, Exit, Filters, Hedge, Leg, Roll, Signal, Sizing, Strategy

NAMES = ("realised_vol", "skew", "correlation", "funding_8h")
TARGETS: dict[str, list[float]] = {
    "delta": [0.1, 0.25, 0.4],
    "moneyness": [0.93, 1.0, 1.04, 1.1],
    "premium": [0.002, 0.01, 0.03],
    "offset": [0.0, 0.045, -0.045, 0.1, -0.1],
}


def mostly(off: Any, *values: Any) -> st.SearchStrategy[Any]:
    """Off every second time."""
    return st.one_of(st.just(off), st.sampled_from(values))


def rarely(off: Any, *values: Any) -> st.SearchStrategy[Any]:
    """Off four times of five."""
    return st.one_of(st.just(off), st.just(off), st.just(off), st.just(off), st.sampled_from(values))


@st.composite
def legs(draw: st.DrawFn, barred: frozenset[tuple[str, str]] = frozenset(), most: int = 4) -> tuple[Leg, ...]:
    """One to four legs, none of them `barred` as (side, right)."""
    found: list[Leg] = []
    for n in range(min(draw(st.sampled_from([1, 1, 2, 2, 3, 4])), most)):
        by = draw(st.sampled_from(["delta", "delta", "delta", "moneyness", "premium", *(["offset"] * 5 if n else [])]))
        kinds = [k for k in (("sell", "C"), ("sell", "P"), ("buy", "C"), ("buy", "P")) if k not in barred]
        side, right = draw(st.sampled_from(kinds))
        of = draw(st.integers(0, n - 1)) if by == "offset" else 0
        dte = draw(st.sampled_from([None, None, 11.0, 30.0])) if n else None
        targets = TARGETS[by]
        if by == "offset" and dte == found[of].dte and right == found[of].right:
            targets = [t for t in targets if t]  # else both legs are one row
        ratio = draw(st.sampled_from([1.0, 1.0, 2.0, 0.5]))
        found.append(Leg(side, right, draw(st.sampled_from(targets)), ratio, by, of, dte))  # type: ignore[arg-type]
    return tuple(found)


SIGNALS = st.lists(st.builds(Signal, st.sampled_from(NAMES), mostly(None, -1.0, 0.0), mostly(None, 1.0, 1.5)), max_size=2).map(tuple)
DIALS = st.builds(Dial, st.sampled_from(NAMES), st.sampled_from([((-0.5, 0.7), (0.5, 1.3)), ((0.0, 0.4),)]))
ROLLS = st.builds(
    Roll,
    on=st.sampled_from([("days_left", "take_profit"), ("stop", "delta_breach", "equity_stop"), ("days_left", "delta_breach", "stop")]),
    dte_min=mostly(None, 1.0),
    dte_target=mostly(None, 9.0),
    dte_max=mostly(None, 30.0),
    delta_factor=st.sampled_from([1.0, 0.7, 1.4]),
    max_debit=st.sampled_from([0.0, 0.01, 1.0, 1.0]),
)
EXITS = st.builds(
    Exit,
    take_profit=mostly(None, 0.2, 0.5),
    stop_loss=mostly(None, 0.5, 2.0),
    equity_stop=mostly(None, 0.01, 0.05),
    delta_breach=mostly(None, 0.35, 0.5),
    days_left=mostly(None, 0.0, 1.0, 3.0, 6.0),
    roll=st.one_of(st.none(), ROLLS),
)
ENTRIES = st.builds(
    Entry,
    dte_min=st.sampled_from([0.0, 0.0, 3.0]),
    dte_target=st.sampled_from([3.0, 7.0]),
    dte_max=st.sampled_from([7.0, 12.0, 40.0]),
    hour_utc=st.sampled_from([0, 0, 8, 20]),
    max_open=st.integers(1, 3),
    every_days=st.sampled_from([1, 1, 2, 5]),
    weekdays=st.sampled_from([(0, 1, 2, 3, 4, 5, 6), (0, 1, 2, 3, 4, 5, 6), (0, 2, 4)]),
    max_per_expiry=st.sampled_from([None, None, 1, 2]),
    signals=st.one_of(st.just(()), st.just(()), SIGNALS),
)
FILTERS = st.builds(
    Filters,
    min_premium=rarely(-1.0, 0.0005, 0.01),
    min_premium_usd=rarely(float("-inf"), 20.0),
    min_yield=rarely(float("-inf"), 0.1),
    max_spread=rarely(float("inf"), 0.1, 0.5, 2.0),
    min_open_interest=rarely(0.0, 10.0),
    min_size=rarely(0.0, 3.0),
    delta_tolerance=rarely(0.3, 0.05),
    strike_tolerance=rarely(0.2, 0.03),
)
SIZINGS = st.builds(
    Sizing,
    kind=st.sampled_from(["full", "fixed", "risk", "margin"]),
    value=st.sampled_from([0.1, 0.35, 2.0]),
    move=st.sampled_from([0.1, 0.3]),
    correlation_aware=st.booleans(),
    dial=st.one_of(st.none(), DIALS),
).filter(lambda sizing: sizing.kind in {"full", "fixed"} or sizing.value <= 1)
HEDGES = st.builds(
    Hedge,
    neutral_in=st.sampled_from(["coin", "usd"]),
    band=st.sampled_from([0.0, 0.02, 0.1]),
    interval_hours=st.sampled_from([0.0, 12.0]),
)


COLLATERALS = ("coin", "cash", "margin", "standard", "wheel")
#: An entry and filters that let nearly everything in, so that accounts fill up and positions meet their end.
EAGER = st.builds(Entry, st.just(0.0), st.sampled_from([2.0, 6.0]), st.just(14.0), st.just(0), st.integers(1, 3))
OPEN_FILTERS = Filters(min_premium=-1.0, max_spread=float("inf"), delta_tolerance=0.5, strike_tolerance=0.3)


@st.composite
def strategies(draw: st.DrawFn, collaterals: tuple[str, ...] = COLLATERALS, *, eager: bool = False) -> Strategy:
    """Any of all rule kinds: structures, calendars, ladders, wheels, rolls, dials, hedges. `eager`: one leg sold, little refused."""
    secured = draw(st.sampled_from(collaterals))
    wheel, collateral = secured == "wheel", "cash" if secured == "wheel" else secured
    barred = {"coin": {("sell", "P")}, "cash": {("sell", "C")}}.get(collateral, set())
    most = 1 if eager else 2 if wheel else 4
    assigned = barred_puts(draw, most) if wheel else ()
    return Strategy(
        "any",
        "any",
        "any",
        draw(legs(frozenset(barred | {("buy", "C"), ("buy", "P")} if eager else barred), most)),
        entry := draw(EAGER if eager else ENTRIES),
        in_order(entry, draw(st.one_of(st.just(Exit()), EXITS) if eager else EXITS)),
        OPEN_FILTERS if eager else draw(FILTERS),
        collateral,  # type: ignore[arg-type]
        draw(st.sampled_from([0.35, 1.0])),
        draw(st.one_of(st.just(Sizing()), SIZINGS)),
        draw(st.one_of(st.none(), HEDGES)),
        draw(st.sampled_from([None, None, "coin", "usd"])) if not wheel else None,  # type: ignore[arg-type]
        draw(st.one_of(st.none(), DIALS)),
        assigned,
    )


def in_order(entry: Entry, exits: Exit) -> Exit:
    """A roll's days, those left out being the entry's, from the least to the most."""
    if exits.roll is None:
        return exits
    names = ("dte_min", "dte_target", "dte_max")
    days = [getattr(entry, n) if (own := getattr(exits.roll, n)) is None else own for n in names]
    return exits if days == sorted(days) else replace(exits, roll=replace(exits.roll, **dict(zip(names, sorted(days), strict=True))))


def barred_puts(draw: st.DrawFn, most: int) -> tuple[Leg, ...]:
    """What a wheel trades from coin: no short put, and calls bought only beside calls sold where it is to be called away."""
    return draw(legs(frozenset({("sell", "P")} | ({("buy", "C"), ("buy", "P")} if most == 1 else set())), most))


SETTINGS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "capital_coin": st.sampled_from([1.0, 2.7]),
        "latency_seconds": st.sampled_from([0.0, 0.0, 30.0, 5 * 3600.0]),
        "latency_sigma": st.sampled_from([0.0, 0.7]),
        "crossing": st.sampled_from([1.0, 0.5, 0.0]),
        "impact": st.sampled_from([0.0, 0.5]),
        "impact_power": st.sampled_from([0.5, 1.0]),
        "assumed_depth": st.sampled_from([10.0, 3.0]),
        "missing_quotes": st.sampled_from(["none", "model"]),
        "fills": st.sampled_from(["cross", "maker"]),
        "maker_place": st.sampled_from([-1.0, 0.0]),
        "maker_patience_minutes": st.sampled_from([60.0, 20 * 60.0]),
        "option_value_in_margin": st.booleans(),
    }
)
