"""Why two trades that match came out otherwise: one sentence for each of their terms that differs, the other run's value first."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.aligned import lacking
from options_agent.backtest.codes import REASONS_IN_WORDS
from options_agent.backtest.saved_runs import times
from options_agent.backtest.saved_trades import ROLLED, ending

if TYPE_CHECKING:
    from options_agent.backtest.saved_runs import SavedRun
    from options_agent.backtest.saved_trades import Leg, Trade


#: Terms of a trade that two runs can differ in, in words.
TERMS: Final = {
    "contracts": "contracts",
    "opening_time": "time of opening",
    "size": "size",
    "opening_price": "price of opening",
    "opening_fee": "fee of opening",
    "exit": "exit",
    "closing_time": "time of closing",
    "closing_price": "price of closing",
    "closing_fee": "fee of closing or delivery",
    "settlement_price": "settlement price",
}
Reason = tuple[str, str]


def reasons_of(a: Trade, b: Trade, base: SavedRun, other: SavedRun, near: int) -> list[Reason]:
    """Every term in which trade b of `other` differs from trade a of `base`, as (one of `TERMS`, sentence); empty where none does."""
    return [
        *_contracts(a, b),
        *_opening_time(a, b, base, other, near),
        *_size(a, b, base, other),
        *_fills("opening", a.opening, b.opening, base, other, same_time=abs(a.opened - b.opened) <= near),
        *_ending(a, b, base, other, near),
        *_settlement(a, b),
    ]


def same(a: float | None, b: float | None) -> bool:
    """Whether two numbers are one but for rounding."""
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))


def _contracts(a: Trade, b: Trade) -> list[Reason]:
    if sorted(a.instruments) == sorted(b.instruments):
        return []
    return [("contracts", f"{', '.join(b.instruments)} in place of {', '.join(a.instruments)}")]


def _opening_time(a: Trade, b: Trade, base: SavedRun, other: SavedRun, near: int) -> list[Reason]:
    if abs(a.opened - b.opened) <= near:
        return []
    late = b if b.opened > a.opened else a
    early, of_early, of_late = (a, base, other) if late is b else (b, other, base)
    why = ""
    if lacking(np.array([early.opened]), of_late.ts, near)[0]:
        why = f": {of_late.label} has no snapshot at the earlier time"
    elif doing := doing_at(early.opened, of_late, near):
        why = f": {of_late.label} {doing} at the earlier time"
    elif (slow := _setting(of_late, "latency_seconds") or 0.0) > (fast := _setting(of_early, "latency_seconds") or 0.0):
        why = f": latency {_number(slow)} s in {of_late.label} against {_number(fast)} s"
    return [("opening_time", f"opened {_span(b.opened - a.opened)}{why}")]


def doing_at(at: int, run: SavedRun, near: int) -> str:
    """What kept a run from opening at a time: an entry declined and why, or its open positions; empty where neither is known."""
    if run.decisions is not None:
        rows = np.flatnonzero(np.abs(times(run.decisions, "ts") - at) <= near)
        seen = [(run.decisions["action"][int(i)].as_py(), run.decisions["reason"][int(i)].as_py()) for i in rows]
        declined = [reason for action, reason in seen if action in ("skip", "cancel")]
        if declined:
            return f"declined: {REASONS_IN_WORDS.get(declined[0], declined[0])}"
    if run.decisions is not None and run.trades is not None:
        opened, closed = times(run.trades, "opened_at"), times(run.trades, "closed_at")
        held = int(((opened <= at) & ((closed > at) | (closed == np.iinfo(np.int64).min))).sum())
        if held:
            return f"had {held} open"
    return ""


def _size(a: Trade, b: Trade, base: SavedRun, other: SavedRun) -> list[Reason]:
    if same(a.contracts, b.contracts):
        return []
    mine, theirs = (_capital(run) for run in (base, other))
    in_proportion = mine and theirs and same(a.contracts / mine, b.contracts / theirs)
    words = f"size {_number(b.contracts)} against {_number(a.contracts)}" + (", in proportion to the capital" if in_proportion else "")
    return [("size", words)]


def _capital(run: SavedRun) -> float | None:
    settings = run.report["provenance"].get("settings") or {}
    return settings.get("capital_coin") or None


def _fills(
    done: str, mine: dict[str, Leg], theirs: dict[str, Leg], base: SavedRun, other: SavedRun, *, same_time: bool, of_fees: bool = False
) -> list[Reason]:
    """Prices and fees a contract, leg by leg; of fees only where contracts were settled: that price has a sentence of its own."""
    verb = {"opening": "opened", "closing": "closed"}[done]
    said = []
    for instrument, p in mine.items():
        q = theirs.get(instrument)
        if q is None:
            continue
        where = f"{instrument} " if len(mine) > 1 else ""
        if not of_fees and not same(p.price, q.price):
            why = _why_price(p, q, base, other, same_time=same_time)
            said.append((f"{done}_price", f"{where}{verb} at {_number(q.price)} against {_number(p.price)}{why}"))
        fees = [leg.fee / abs(leg.contracts) if leg.contracts else 0.0 for leg in (p, q)]
        if not same(fees[0], fees[1]):
            name = "delivery" if of_fees else done
            said.append((f"{done}_fee", f"{where}{name} fee {_number(fees[1])} against {_number(fees[0])}{_why_fee(p, q, base, other)}"))
    return said


def _why_price(p: Leg, q: Leg, base: SavedRun, other: SavedRun, *, same_time: bool) -> str:
    if p.source != q.source and p.source and q.source:
        return f" (filled by {q.source} against {p.source})"
    if not same_time:
        return ", at another time"
    if p.mid is not None and q.mid is not None:
        if not same(p.mid, q.mid):
            return f" (other quotes: mid {_number(q.mid)} against {_number(p.mid)})"
        mine, theirs = _setting(base, "crossing"), _setting(other, "crossing")
        if mine != theirs:
            return f" (crossing {_number(theirs)} against {_number(mine)}, same mid {_number(p.mid)})"
        return f" (another way of filling, same mid {_number(p.mid)})"
    return " (a side was not quoted: whether the quotes were the same is not known)"


def _why_fee(p: Leg, q: Leg, base: SavedRun, other: SavedRun) -> str:
    mine, theirs = _setting(base, "fee_schedule"), _setting(other, "fee_schedule")
    if mine != theirs:
        return f" (schedule {theirs} against {mine})"
    return " (capped by the price)" if not same(p.price, q.price) else ""


def _ending(a: Trade, b: Trade, base: SavedRun, other: SavedRun, near: int) -> list[Reason]:
    mine, theirs = ending(a), ending(b)
    if a.closed is None or b.closed is None:
        if a.closed is b.closed:
            return []
        run, end, at = (base, theirs, b.closed) if a.closed is None else (other, mine, a.closed)
        late = at is not None and run.ts.size > 0 and int(run.ts[-1]) < at
        words = f"still open in {run.label}{', whose run ends before' if late else ''}; the other ended {_time(at)}, {_words(end)}"
        return [("exit", words)]
    said = []
    at_once = abs(a.closed - b.closed) <= near
    if mine != theirs:
        words = f"ended by another exit: {_words(theirs)} ({_time(b.closed)}) against {_words(mine)} ({_time(a.closed)})"
        said.append(("exit", words))
    elif not at_once:
        said.append(("closing_time", f"ended {_span(b.closed - a.closed)}, both {_words(mine)}"))
    settled = [t.exit == "settled" for t in (a, b)]
    if settled[0] == settled[1]:
        said += _fills("closing", a.closing, b.closing, base, other, same_time=at_once, of_fees=settled[0])
    return said


def _settlement(a: Trade, b: Trade) -> list[Reason]:
    if a.settlement_price is None or b.settlement_price is None or same(a.settlement_price, b.settlement_price):
        return []
    if sorted(a.instruments) != sorted(b.instruments) and a.closed != b.closed:
        return []  # of another expiry: no wonder
    how = f" ({b.settlement} against {a.settlement})" if a.settlement != b.settlement else ""
    return [("settlement_price", f"settled at {b.settlement_price:,.2f} against {a.settlement_price:,.2f} USD{how}: other prices")]


def _setting(run: SavedRun, name: str) -> Any:
    return (run.report["provenance"].get("settings") or {}).get(name)


def _words(end: str) -> str:
    reason, rolled, _ = end.partition(ROLLED)
    return REASONS_IN_WORDS.get(reason, reason) + rolled


def _span(us: int) -> str:
    hours = abs(us) / 3.6e9
    long = f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"
    return f"{long} {'later' if us > 0 else 'earlier'}"


def _time(us: int | None) -> str:
    return "-" if us is None else f"{dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=us):%Y-%m-%d %H:%M}"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
