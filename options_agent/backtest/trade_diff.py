"""Trades of two runs held against each other: which only one made, which both made on other terms, and why they came out otherwise."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.aligned import begin_of, iso, lacking, spacing, tolerance
from options_agent.backtest.saved_trades import PARTS, Trade, ending, read_trades
from options_agent.backtest.trade_reasons import TERMS, doing_at, reasons_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from options_agent.backtest.aligned import Range
    from options_agent.backtest.saved_runs import SavedRun

#: Kinds of a pair, in the order they are shown.
KINDS: Final = ("other_terms", "other_contracts", "only_base", "only_other", "same")
#: The same contracts opened at another time are one trade where the times lie within this many usual steps, and a day at most.
_STEPS: Final = 4.0
_DAY_US: Final = 86_400_000_000


def trade_diff(base: SavedRun, other: SavedRun, within: Range) -> dict[str, Any]:
    """Trades opened within a range by both runs, matched.

    First those of the same contracts, by the nearest opening time; then, of the rest, those opened at the same time in other contracts.

    Returns:
        `compared` (False, with `why`, where tables lack or the underlyings differ), `counts` by `KINDS`, `outside` (opened by each run
        out of the range), `exits` (how each run's trades ended) and `trades`, the largest difference of profit first.
    """
    for run in (base, other):
        if run.trades is None or run.fills is None:
            return none(f"the trades of {run.label} cannot be read")
    if base.underlying != other.underlying:
        return none(f"{base.label} trades {base.underlying} and {other.label} {other.underlying}: they have no contract in common")
    mine, theirs = read_trades(base), read_trades(other)
    left = [t for t in mine if begin_of(base.ts, within) <= t.opened <= within.end]
    right = [t for t in theirs if begin_of(other.ts, within) <= t.opened <= within.end]
    near = tolerance((base, other))
    apart = max(near, min(_DAY_US, int(_STEPS * max(spacing(base.ts), spacing(other.ts)))))
    pairs = match(left, right, lambda a, b: sorted(a.instruments) == sorted(b.instruments), apart)
    paired_left, paired_right = {a.trade for a, _ in pairs}, {b.trade for _, b in pairs}
    rest_left = [t for t in left if t.trade not in paired_left]
    rest_right = [t for t in right if t.trade not in paired_right]
    others = match(rest_left, rest_right, lambda _a, _b: True, near)
    known = [("pair", a, b) for a, b in pairs] + [("other_contracts", a, b) for a, b in others]
    entries = [_pair(kind, a, b, base, other, near) for kind, a, b in known]
    taken_left, taken_right = {a.trade for _, a, _ in known}, {b.trade for _, _, b in known}
    entries += [_alone("only_base", t, other, near) for t in left if t.trade not in taken_left]
    entries += [_alone("only_other", t, base, near) for t in right if t.trade not in taken_right]
    entries.sort(key=lambda e: (-abs(e["difference_coin"] or 0.0), e["opened_at"], e["kind"]))
    return {
        "compared": True,
        "why": None,
        "counts": {kind: sum(e["kind"] == kind for e in entries) for kind in KINDS},
        "difference_coin": {kind: sum(e["difference_coin"] or 0.0 for e in entries if e["kind"] == kind) for kind in KINDS},
        "effects_coin": _totals(entries),
        "terms": {term: n for term in TERMS if (n := sum(term in e["terms"] for e in entries))},
        "outside": {"base": len(mine) - len(left), "other": len(theirs) - len(right)},
        "exits": {"base": _exits(left), "other": _exits(right)},
        "trades": entries,
    }


def _totals(entries: list[dict[str, Any]]) -> dict[str, float]:
    """Effects summed over the trades that both made."""
    each = [e["effects_coin"] for e in entries if e["effects_coin"] is not None]
    return {name: sum(e[name] for e in each) for name in ("size", *PARTS, "rest")}


def none(why: str) -> dict[str, Any]:
    return {
        "compared": False,
        "why": why,
        "counts": None,
        "difference_coin": None,
        "effects_coin": None,
        "terms": None,
        "outside": None,
        "exits": None,
        "trades": [],
    }


def match(left: list[Trade], right: list[Trade], alike: Callable[[Trade, Trade], bool], apart: int) -> list[tuple[Trade, Trade]]:
    """Pairs of alike trades opened within `apart` microseconds, the nearest first, each trade in one pair at most."""
    keyed = [((abs(a.opened - b.opened), a.opened, a.trade, b.trade), a, b) for a, b in _within(left, right, apart) if alike(a, b)]
    near = sorted(keyed, key=lambda pair: pair[0])
    used_left: set[int] = set()
    used_right: set[int] = set()
    pairs = []
    for _, a, b in near:
        if a.trade not in used_left and b.trade not in used_right:
            used_left.add(a.trade)
            used_right.add(b.trade)
            pairs.append((a, b))
    return pairs


def _within(left: list[Trade], right: list[Trade], apart: int) -> Iterator[tuple[Trade, Trade]]:
    ordered = sorted(right, key=lambda t: t.opened)
    opened = [t.opened for t in ordered]
    for a in left:
        first, last = bisect.bisect_left(opened, a.opened - apart), bisect.bisect_right(opened, a.opened + apart)
        for b in ordered[first:last]:
            yield a, b


def _exits(trades: list[Trade]) -> dict[str, int]:
    """How trades ended, by reason; `open` where they did not."""
    ends = [ending(t) for t in trades]
    return {end: ends.count(end) for end in sorted(set(ends))}


def _alone(kind: str, trade: Trade, other: SavedRun, near: int) -> dict[str, Any]:
    mine = trade.as_dict()
    return {
        "kind": kind,
        "opened_at": mine["opened_at"],
        "base": mine if kind == "only_base" else None,
        "other": mine if kind == "only_other" else None,
        "difference_coin": -trade.profit if kind == "only_base" else trade.profit,
        "effects_coin": None,
        "terms": [],
        "why": [why_alone(trade, other, near)],
    }


def why_alone(trade: Trade, other: SavedRun, near: int) -> str:
    """What the other run was doing when this trade was opened."""
    if other.ts.size and lacking(np.array([trade.opened]), other.ts, near)[0]:
        return f"{other.label} has no snapshot then"
    return f"{other.label} {doing_at(trade.opened, other, near) or 'opened nothing then'}"


def _pair(kind: str, a: Trade, b: Trade, base: SavedRun, other: SavedRun, near: int) -> dict[str, Any]:
    why = reasons_of(a, b, base, other, near)
    return {
        "kind": kind if kind == "other_contracts" else "other_terms" if why else "same",
        "opened_at": iso(a.opened),
        "base": a.as_dict(),
        "other": b.as_dict(),
        "difference_coin": b.profit - a.profit,
        "effects_coin": effects(a, b),
        "terms": list(dict.fromkeys(term for term, _ in why)),
        "why": [sentence for _, sentence in why],
    }


def effects(a: Trade, b: Trade) -> dict[str, float]:
    """The difference of two trades' profits, in coin, by what made it; it sums to the difference.

    `size` is what b's size would have changed in a's result; the parts are b's contracts times the difference of each part a contract;
    `rest` is what no part explains (0 but for rounding, unless a run books more than these parts).
    """
    if not a.contracts or not b.contracts:
        return {"size": 0.0, **dict.fromkeys(PARTS, 0.0), "rest": b.profit - a.profit}
    size = (b.contracts - a.contracts) * (a.profit / a.contracts)
    found = {part: sign * b.contracts * (b.parts[part] / b.contracts - a.parts[part] / a.contracts) for part, sign in PARTS.items()}
    return {"size": size, **found, "rest": b.profit - a.profit - size - sum(found.values())}
