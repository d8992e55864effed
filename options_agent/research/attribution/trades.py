"""P&L of every leg of every trade, step by step between its known rows, and summed by trade. In the settlement currency (coin, or USDC)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from options_agent.contracts import SECONDS_PER_YEAR, settlement_of
from options_agent.research.attribution.terms import GREEK_TERMS, derivatives, terms

if TYPE_CHECKING:
    from options_agent.backtest.history import History
    from options_agent.backtest.result import BacktestResult

YEAR_US: Final = SECONDS_PER_YEAR * 1e6
#: What a trade's P&L is made of. `settlement`: payoff at the delivery price less the last value, and its fee; `residual`: what no term
#: explains of a change of value.
COMPONENTS: Final = (*GREEK_TERMS, "residual", "slippage", "fees", "settlement")
#: What a book has besides. `translation`: cash of the other currency at the new index; `conversion`: a wheel's; `liquidation` is in fees.
BOOK: Final = (*COMPONENTS, "hedge", "funding", "hedge_fees", "translation", "conversion")


def leg_steps(result: BacktestResult, history: History) -> pa.Table:
    """A row a step of a leg: trade, leg, instrument, right, at (microseconds, its new value was known), dte at its start, `COMPONENTS`.

    A fill is a step too: what it paid beside the value (`slippage`) and its fee. Values are the engine's: a row's mark if positive, else
    the mid of its quotes, else the last one; at the opening the price paid where there is no mark.
    """
    linear = settlement_of(result.underlying) == "usdc"
    rows: list[dict[str, Any]] = []
    moves: list[tuple[int, int, int, float, float, float]] = []  # row of `rows`, start row, end row, contracts, value before and after
    fills = result.fills.to_pylist()
    ends = {(f["trade"], f["leg"]): f for f in fills if f["kind"] != "open"}
    for opened in (f for f in fills if f["kind"] == "open"):
        closed = ends.get((opened["trade"], opened["leg"]))
        _leg(opened, closed, history, rows, moves)
    table = {name: np.zeros(len(rows)) for name in COMPONENTS}
    for n, row in enumerate(rows):
        for name in ("slippage", "fees", "settlement"):
            table[name][n] = row.pop(name)
    _explain(moves, history, table, linear=linear)
    names = ("trade", "leg", "instrument", "right", "at", "dte")
    columns = {name: pa.array([row[name] for row in rows]) for name in names}
    return pa.table(columns | {name: pa.array(values) for name, values in table.items()})


def _leg(opened: dict[str, Any], closed: dict[str, Any] | None, history: History, rows: list[dict[str, Any]], moves: list[Any]) -> None:
    quotes, contract, q = history.quotes, opened["contract"], opened["contracts"]
    expiry, right = int(history.contracts["expiry"][contract]), "C" if history.contracts["call"][contract] else "P"

    def add(at: int, row: int, **costs: float) -> int:
        known = int(history.known_at[quotes["snapshot"][row]])
        common = {"trade": opened["trade"], "leg": opened["leg"], "instrument": opened["instrument"], "right": right, "at": at}
        rows.append(common | {"dte": (expiry - known) / 86.4e9, "slippage": 0.0, "fees": 0.0, "settlement": 0.0} | costs)
        return len(rows) - 1

    row = int(opened["row"])
    mark = float(quotes["mark"][row])
    value = mark if mark > 0 else float(opened["price"])
    add(_us(opened), row, slippage=q * (value - opened["price"]), fees=-opened["fee"])
    last = int(closed["row"]) if closed is not None and closed["kind"] == "close" else -1
    until = _us(closed) if closed is not None else np.iinfo(np.int64).max
    while (following := int(quotes["next"][row])) >= 0 and int(history.known_at[quotes["snapshot"][following]]) <= until and row != last:
        after = _value(quotes, following, value)
        moves.append((add(int(history.known_at[quotes["snapshot"][following]]), row), row, following, q, value, after))
        row, value = following, after
    if closed is None:
        return
    if closed["kind"] == "close":
        add(until, row, slippage=q * (closed["price"] - value), fees=-closed["fee"])
    else:
        add(until, row, settlement=q * (closed["price"] - value) - closed["fee"])


def _value(quotes: Any, row: int, before: float) -> float:
    mark, bid, ask = (float(quotes[name][row]) for name in ("mark", "bid", "ask"))
    return mark if mark > 0 else (bid + ask) / 2 if bid > 0 and ask > 0 else before


def _explain(moves: list[tuple[int, int, int, float, float, float]], history: History, table: dict[str, Any], *, linear: bool) -> None:
    """Fill in greeks and residual of the steps between rows."""
    if not moves:
        return
    place, start, end = (np.array([m[n] for m in moves], np.int64) for n in range(3))
    contracts, before, after = (np.array([m[n] for m in moves]) for n in range(3, 6))
    quotes, held = history.quotes, history.contracts[history.quotes["contract"][start]]
    at = [history.known_at[quotes["snapshot"][rows]] for rows in (start, end)]
    years = (held["expiry"] - at[0]) / YEAR_US
    forward, vol = quotes["forward"], quotes["mark_iv"]
    by = derivatives(forward[start], held["strike"], years, vol[start], held["call"] == 1, linear=linear)
    found = terms(by, forward[end] - forward[start], vol[end] - vol[start], (at[1] - at[0]) / YEAR_US)
    usable = np.isfinite(sum(found.values())) & (vol[start] > 0) & (vol[end] > 0) & (years > 0)
    changed = contracts * (after - before)
    explained = np.zeros(len(moves))
    for name, values in found.items():
        part = np.where(usable, contracts * values, 0.0)
        table[name][place] = part
        explained += part
    table["residual"][place] = changed - explained


def by_trade(steps: pa.Table) -> pa.Table:
    """Components summed by trade, in the trades' order."""
    sums = steps.group_by("trade", use_threads=False).aggregate([(name, "sum") for name in COMPONENTS]).sort_by("trade")
    return sums.rename_columns([name.removesuffix("_sum") for name in sums.column_names])


def _us(fill: dict[str, Any]) -> int:
    return int(fill["ts"].timestamp() * 1e6 + 0.5)
