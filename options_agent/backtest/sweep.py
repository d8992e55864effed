"""Thousands of configurations over one history, in one pass of memory and on all cores; the same bytes on one core or many.

Every configuration plays the same compiled loop as a single run and its numbers come from the same functions, so they are the single
run's to the last bit. Only decisions are not written down.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from options_agent.backtest import kernel
from options_agent.backtest.engine import seat
from options_agent.backtest.grid import configurations
from options_agent.backtest.market import prepare
from options_agent.backtest.metrics.grid import midnights
from options_agent.backtest.sweep_summary import SUMMARY, summarise
from options_agent.backtest.tape import E_EQUITY, blank_tapes, new_players
from options_agent.backtest.weather import weather_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from options_agent.backtest.grid import Configuration, Configurations
    from options_agent.backtest.history import History
    from options_agent.backtest.market import Prepared
    from options_agent.settings import BacktestSettings
    from options_agent.strategies.rules import Strategy

#: Configurations that are played side by side, and the snapshots all of them play before the next.
CHUNK: Final = 16
BLOCK: Final = 24


@dataclass(frozen=True, slots=True)
class EarlyRejection:
    """Give up on configurations that have lost too much early: a first part is played, and the rest of the range by those above.

    What is left is no longer the whole grid's evidence: the rejected have no later numbers, and stay counted as looks.

    Attributes:
        share: of the range's snapshots that is played first.
        least_return: return in coin by then that is asked for, decimal.
    """

    share: float = 0.3
    least_return: float = -0.2


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found.

    Attributes:
        table: one row a configuration, in the grid's order: its values by field, `status` (ok, inconclusive, rejected), `SUMMARY` numbers.
        returns_coin, returns_usd: (days, configurations) daily returns, NaN columns where there are none.
        days: (days,) microseconds, the ends of those days.
        points: the configurations played.
    """

    table: pa.Table
    returns_coin: NDArray[np.float64]
    returns_usd: NDArray[np.float64]
    days: NDArray[np.int64]
    points: Configurations


@dataclass(frozen=True, slots=True)
class Numbers:
    """Of configurations: `table` (configurations, `SUMMARY`), `returns` (2, configurations, days) in coin and USD, `rejected`."""

    table: NDArray[np.float64]
    returns: NDArray[np.float64]
    rejected: NDArray[np.bool_]


def sweep(
    history: History,
    strategy: Strategy,
    grid: Mapping[str, Sequence[Any]],
    settings: BacktestSettings,
    features: Mapping[str, NDArray[np.float64]] | None = None,
    *,
    workers: int | None = None,
    early: EarlyRejection | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Swept:
    """Play every sound point of a grid.

    Args:
        history, strategy, settings, features: as for `engine.run_backtest`; the grid changes fields of the strategy and of the costs.
        grid: see `grid.configurations`.
        workers: threads; all cores by default. The result does not depend on it.
        early: give up early on what loses; off by default.
        progress: called with how many are done, and of how many.

    Raises:
        SettingsError: the grid names an unknown field, or has no sound point.
        DataError: as `run_backtest`.
    """
    points = configurations(strategy, settings, grid)
    found = play_points(history, points.points, features, workers=workers, early=early, progress=progress)
    days = midnights(np.ascontiguousarray(history.known_at))[1:]
    return Swept(result_table(points, found, settings), found.returns[0].T, found.returns[1].T, days, points)


def play_points(
    history: History,
    points: Sequence[Configuration],
    features: Mapping[str, NDArray[np.float64]] | None = None,
    *,
    workers: int | None = None,
    early: EarlyRejection | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Numbers:
    """Numbers and daily returns of configurations."""
    stage = _Stage(history, points, features or {})
    found = Numbers(
        np.full((len(points), len(SUMMARY)), np.nan),
        np.full((2, len(points), max(stage.midnights.size - 1, 0)), np.nan),
        np.zeros(len(points), np.bool_),
    )
    chunks = [chunk for group in stage.groups for chunk in _cut(group, CHUNK)]
    done, lock = [0], threading.Lock()

    def work(chunk: NDArray[np.int64]) -> None:
        _play_chunk(stage, chunk, found, early)
        if progress is not None:
            with lock:
                done[0] += chunk.size
                progress(done[0], len(points))

    # the first one compiles, if nothing has before: two threads would both
    work(chunks[0])
    with ThreadPoolExecutor(max_workers=workers or os.cpu_count() or 1) as pool:
        for _ in pool.map(work, chunks[1:]):
            pass
    return found


class _Stage:
    """What the configurations of a sweep share: the history under each kind of costs, and each kind of weather."""

    def __init__(self, history: History, points: Sequence[Configuration], features: Mapping[str, NDArray[np.float64]]) -> None:
        self.points, self.known_at, self.index = points, np.ascontiguousarray(history.known_at), np.ascontiguousarray(history.index)
        self.midnights = np.searchsorted(self.known_at, midnights(self.known_at), side="right") - 1
        self.markets: dict[BacktestSettings, Prepared] = {}
        kinds: dict[Any, int] = {}
        weather, self.which = [], np.zeros(len(points), np.int64)
        groups: dict[tuple[BacktestSettings, int], list[int]] = {}
        for n, point in enumerate(points):
            if point.settings not in self.markets:
                self.markets[point.settings] = prepare(history, point.settings)
            rules = (
                point.strategy.entry.signals,
                point.strategy.delta_dial,
                point.strategy.sizing.dial,
                point.strategy.sizing.correlation_aware,
            )
            if rules not in kinds:
                kinds[rules] = len(kinds)
                weather.append(weather_of(history, point.strategy, features))
            self.which[n] = kinds[rules]
            groups.setdefault((point.settings, point.strategy.entry.max_open), []).append(n)
        self.weather = np.array(weather)
        self.groups = [np.array(group) for group in groups.values()]


def _cut(group: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [group[first : first + size] for first in range(0, group.size, size)]


def _play_chunk(stage: _Stage, chunk: NDArray[np.int64], found: Numbers, early: EarlyRejection | None) -> None:
    """Play configurations of one kind of costs side by side and keep their numbers."""
    settings, snapshots = stage.points[chunk[0]].settings, stage.known_at.size
    prepared, slots = stage.markets[settings], stage.points[chunk[0]].strategy.entry.max_open
    first = snapshots if early is None else max(int(snapshots * early.share), 1)
    players = new_players(chunk.size, slots, stage.weather)
    legs = max(len(phase) for n in chunk for phase in (stage.points[n].strategy.legs, stage.points[n].strategy.assigned_legs))
    tapes = blank_tapes(chunk.size, snapshots, slots, record=False, legs=legs)
    capital = np.empty((chunk.size, 2))
    for k, n in enumerate(chunk):
        capital[k] = seat(players, k, stage.points[n].strategy, settings, prepared, float(stage.index[0]), record=False)
        players.which[k] = stage.which[n]
    if early is not None:
        kernel.play(prepared.market, players, tapes, first, BLOCK)
        paid = capital[:, 0] + capital[:, 1] / stage.index[0]
        lost = tapes.equity[:, E_EQUITY, first - 1] / paid - 1 < early.least_return
        found.rejected[chunk[lost]] = True
        if not lost.all():
            _play_chunk(stage, chunk[~lost], found, None)
        return
    kernel.play(prepared.market, players, tapes, snapshots, BLOCK)
    numbers, returns = np.empty((chunk.size, len(SUMMARY))), np.full((2, chunk.size, found.returns.shape[2]), np.nan)
    summarise(stage.known_at, stage.index, prepared.settlement.price, stage.midnights, prepared.linear, capital, tapes, numbers, returns)
    found.table[chunk], found.returns[:, chunk] = numbers, returns


def result_table(points: Configurations, found: Numbers, settings: BacktestSettings) -> pa.Table:
    """One row a configuration: values by field, status, numbers (null where one is not defined)."""
    columns: dict[str, Any] = {}
    for n, name in enumerate(points.names):
        values = [p.values[n] for p in points.points]
        if any(isinstance(v, float) for v in values):
            values = [float(v) if isinstance(v, int) else v for v in values]
        columns[name] = pa.array(values)
    closed = found.table[:, SUMMARY.index("closed_trades")]
    columns["status"] = pa.array(
        ["rejected" if r else "ok" if c >= settings.min_trades else "inconclusive" for c, r in zip(closed, found.rejected, strict=True)]
    )
    for n, name in enumerate(SUMMARY):
        columns[name] = pa.array(found.table[:, n], from_pandas=True)
    return pa.table(columns)
