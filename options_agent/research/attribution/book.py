"""A book's P&L by component: its trades', its hedge's, and what its cash of the other currency made; sums to the change of equity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from options_agent.contracts import settlement_of
from options_agent.research.attribution.trades import BOOK, COMPONENTS, by_trade, leg_steps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from options_agent.backtest.history import History
    from options_agent.backtest.result import BacktestResult

    Floats = NDArray[np.float64]

DAY_US: Final = 86_400_000_000
#: Days to expiry at a step's start, by which tenors are told apart.
TENORS: Final = ((0.0, 1.0), (1.0, 3.0), (3.0, 7.0), (7.0, 14.0), (14.0, 35.0), (35.0, 1e9))


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where a run's P&L came from.

    Attributes:
        currency: `coin` of inverse options, `usd` of linear ones: what every figure is in.
        steps: see `leg_steps`; trades: components by trade.
        at: (snapshots,) microseconds; book: (snapshots,) by component of `BOOK`.
        total: by component, and `fx`: what the move of the index made of the equity held, in USD; change: of the equity, in `currency`.
        change_usd, components_usd: each snapshot's components at its own index; with `fx` they sum to the change in USD.
        residual_share: sum of absolute residuals over the sum of absolute P&L of the steps between quotes.
    """

    currency: str
    steps: pa.Table
    trades: pa.Table
    at: NDArray[np.int64]
    book: Mapping[str, Floats]
    total: Mapping[str, float]
    change: float
    components_usd: Mapping[str, float]
    fx: float
    change_usd: float
    residual_share: float


def attribute(result: BacktestResult, history: History) -> Attribution:
    """Split a run's P&L; `history` is what it was played on."""
    steps = leg_steps(result, history)
    at, equity = np.asarray(history.known_at), result.equity
    linear = settlement_of(result.underlying) == "usdc"  # of the family: a run may hedge without one option filled
    book = {name: np.zeros(at.size) for name in BOOK}
    # a settlement may be known between two snapshots: the next one strikes it
    place = np.minimum(np.searchsorted(at, steps["at"].to_numpy(), side="left"), at.size - 1) if steps.num_rows else np.empty(0, int)
    for name in COMPONENTS:
        np.add.at(book[name], place, steps[name].to_numpy())
    column = {name: equity[name].to_numpy() for name in equity.column_names if name != "ts"}
    index = column["index"]
    for name, source in (("hedge", "perpetual_pnl"), ("funding", "funding"), ("hedge_fees", "hedge_fee")):
        book[name] += column[source]
    _cash(book, column, result, linear=linear)
    total = {name: float(values.sum()) for name, values in book.items()}
    own = "equity_usd" if linear else "equity_coin"
    first = result.capital_coin * index[0] + result.capital_usd if linear else result.capital_coin + result.capital_usd / index[0]
    components_usd, fx = _in_usd(book, column, result, linear=linear)
    moved = np.abs(sum(steps[name].to_numpy() for name in (*COMPONENTS[:6],))) if steps.num_rows else np.zeros(1)
    whole = float(moved.sum())
    residual = float(np.abs(steps["residual"].to_numpy()).sum()) if steps.num_rows else 0.0
    return Attribution(
        "usd" if linear else "coin",
        steps,
        by_trade(steps),
        at,
        book,
        total,
        float(column[own][-1] - first),
        components_usd,
        fx,
        float(column["equity_usd"][-1] - (result.capital_coin * index[0] + result.capital_usd)),
        residual / whole if whole > 0 else 0.0,
    )


def _cash(book: dict[str, Floats], column: Mapping[str, Floats], result: BacktestResult, *, linear: bool) -> None:
    """What cash of the other currency is worth as the index moves, and what a wheel's conversions made."""
    index = column["index"]
    other, capital = ("coin_cash", result.capital_coin) if linear else ("usd_cash", result.capital_usd)
    before = np.concatenate(([capital], column[other][:-1]))
    rate = index if linear else 1 / index
    book["translation"][1:] += before[1:] * np.diff(rate)
    coin, usd = column["swapped_coin"], column["swapped_usd"]
    book["conversion"] += usd + coin * index if linear else coin + usd / index


def _in_usd(
    book: Mapping[str, Floats], column: Mapping[str, Floats], result: BacktestResult, *, linear: bool
) -> tuple[dict[str, float], float]:
    index = column["index"]
    if linear:
        return {name: float(values.sum()) for name, values in book.items()}, 0.0
    before = np.concatenate(([result.capital_coin + result.capital_usd / index[0]], column["equity_coin"][:-1]))
    fx = float((before[1:] * np.diff(index)).sum())
    return {name: float((values * index).sum()) for name, values in book.items()}, fx


def grouped(found: Attribution, by: str, labels: pa.Table | None = None) -> dict[str, dict[str, float]]:
    """Components of the trades by `right`, `tenor` or `regime`.

    Args:
        labels: regimes (`ts`, `regime`), for `regime`: that known when a step's value was.
    """
    steps = found.steps
    if not steps.num_rows:
        return {}
    if by == "right":
        keys = np.array(steps["right"].to_pylist())
    elif by == "tenor":
        keys = np.array([_tenor(d) for d in steps["dte"].to_numpy()])
    else:
        keys = _regimes(steps["at"].to_numpy(), labels)
    values = {name: steps[name].to_numpy() for name in COMPONENTS}
    return {str(key): {name: float(v[keys == key].sum()) for name, v in values.items()} for key in np.unique(keys)}


def shares(found: Attribution) -> dict[str, float]:
    """Each component over the sum of absolute ones: what proposers are shown."""
    whole = sum(abs(v) for v in found.total.values())
    return {name: round(v / whole, 4) for name, v in found.total.items() if v} if whole > 0 else {}


def _tenor(days: float) -> str:
    low, high = next(pair for pair in TENORS if days < pair[1])
    return f"{low:g}+ days" if high > 1e6 else f"{low:g}-{high:g} days"


def _regimes(at: NDArray[np.int64], labels: pa.Table | None) -> Any:
    if labels is None or not labels.num_rows:
        return np.full(at.size, "unknown")
    known = np.asarray(labels["ts"].combine_chunks().cast(pa.int64()))
    names = np.array(labels["regime"].to_pylist())
    places = np.searchsorted(known, at, side="right") - 1
    return np.where(places >= 0, names[np.maximum(places, 0)], "unknown")
