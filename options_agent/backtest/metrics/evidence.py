"""What metrics are read off: a run's tables as arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pyarrow as pa

from options_agent.backtest.metrics import trades
from options_agent.backtest.metrics.grid import daily_returns

if TYPE_CHECKING:
    from numpy.typing import NDArray

Currency = Literal["coin", "usd"]
CURRENCIES: Final[tuple[Currency, ...]] = ("coin", "usd")


def paid_in(equity_rows: pa.Table) -> dict[Currency, float]:
    """What was paid in before the decisions of the first row, in each currency at its index; none where the rows begin later in a run.

    The first row is struck after the decisions of its snapshot: against it, what the first entries cost would be in no return.
    """
    if equity_rows.num_rows == 0 or "deposited_coin" not in equity_rows.column_names:
        return {}
    coin, usd, index = (float(equity_rows[name][0].as_py()) for name in ("deposited_coin", "deposited_usd", "index"))
    return {"coin": coin + usd / index, "usd": coin * index + usd} if coin or usd else {}


def since_paid_in(equity_rows: pa.Table, currency: Currency) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Times (microseconds UTC) and equity, what was paid in before the first row where that is known."""
    ts = np.asarray(equity_rows["ts"].combine_chunks().cast(pa.int64()))
    values = np.asarray(equity_rows[f"equity_{currency}"].to_numpy())
    before = paid_in(equity_rows).get(currency)
    return (ts, values) if before is None else (np.append(ts[:1], ts), np.append(before, values))


@dataclass(frozen=True)
class Evidence:
    """What metrics are read off: a run's tables as arrays, made once each."""

    trade_rows: pa.Table
    equity_rows: pa.Table
    fill_rows: pa.Table

    @cached_property
    def ts(self) -> NDArray[np.int64]:
        """Times of the equity, microseconds UTC."""
        return np.asarray(self.equity_rows["ts"].combine_chunks().cast(pa.int64()))

    @cached_property
    def closed(self) -> trades.ClosedTrades:
        """Trades that are over."""
        return trades.closed_trades(self.trade_rows)

    @cached_property
    def fills(self) -> trades.Fills:
        """Every fill."""
        return trades.fills_of(self.fill_rows)

    @cached_property
    def _returns(self) -> dict[Currency, NDArray[np.float64]]:
        return {c: daily_returns(self.ts, self.equity(c)) for c in CURRENCIES}

    @cached_property
    def _paths(self) -> dict[Currency, tuple[NDArray[np.int64], NDArray[np.float64]]]:
        return {c: since_paid_in(self.equity_rows, c) for c in CURRENCIES}

    def path(self, currency: Currency) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Times and equity from what was paid in on, see `since_paid_in`."""
        return self._paths[currency]

    def equity(self, currency: Currency) -> NDArray[np.float64]:
        """Equity at each time."""
        return np.asarray(self.equity_rows[f"equity_{currency}"].to_numpy())

    def returns(self, currency: Currency) -> NDArray[np.float64]:
        """Daily returns; none where there are too few, or after ruin."""
        return self._returns[currency]

    def profits(self, currency: Currency) -> NDArray[np.float64]:
        """Profits of closed trades after fees."""
        return self.closed.profit_coin if currency == "coin" else self.closed.profit_usd

    def column(self, name: str) -> NDArray[np.float64] | None:
        """A column of the equity table; None where this run has none of it."""
        if name not in self.equity_rows.column_names:
            return None
        return np.asarray(self.equity_rows[name].to_numpy(zero_copy_only=False))

    def flow(self, name: str, currency: Currency) -> float:
        """The sum of what moved at each snapshot, at the index of its time.

        NaN where the run has no such column, or no fill that says which currency a movement was in.
        """
        moved = self.column(name)
        if moved is None or (moved.any() and self.fill_rows.num_rows == 0):
            return math.nan
        if trades.settles_in_usd(self.fill_rows) == (currency == "usd"):
            return float(moved.sum())
        index = self.equity_rows["index"].to_numpy()
        return float((moved * index if currency == "usd" else moved / index).sum())

    def margin_share(self) -> NDArray[np.float64] | None:
        """Initial margin over equity at each time, where the run knows margin."""
        margin = self.column("initial_margin")
        return None if margin is None else margin / self.equity("coin")
