"""A sweep from the lake to its written report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from options_agent.backtest.runner import clean_range, known_features
from options_agent.lake.store import open_lake

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Mapping, Sequence

    from options_agent.backtest.sweep import EarlyRejection
    from options_agent.backtest.sweep_report import SweepPaths
    from options_agent.settings import Settings
    from options_agent.strategies.rules import Strategy


def run_sweep(
    settings: Settings,
    strategy: Strategy,
    underlying: str,
    grid: Mapping[str, Sequence[Any]] | None = None,
    start: dt.date | None = None,
    end: dt.date | None = None,
    *,
    workers: int | None = None,
    early: EarlyRejection | None = None,
    cluster: tuple[str, str | None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], SweepPaths]:
    """Play a grid (`grid.default_grid` by default) over the clean days and write its report below `reports/{network}/sweeps`.

    Args:
        cluster: address of a Dask scheduler, and the URL its workers read the history from; this machine's threads by default.

    Raises:
        SettingsError: the grid names an unknown field or has no sound point, or a cluster is asked for without a store.
        DataError: there are no clean quotes in the range.
        StorageError: the report cannot be written.
    """
    from options_agent.backtest.grid import default_grid
    from options_agent.backtest.history import build_history
    from options_agent.backtest.sweep import sweep
    from options_agent.backtest.sweep_report import sweep_content, write_sweep

    lake = open_lake(settings)
    first, last = clean_range(lake, underlying)
    history = build_history(lake, underlying, start or first, end or last, settings)
    features = known_features(lake, history) if strategy.features else None
    grid = default_grid(strategy) if grid is None else grid
    if cluster is not None:
        from options_agent.backtest.cluster import sweep_history_on_cluster

        swept = sweep_history_on_cluster(*cluster, history, settings, strategy, grid, features, progress=progress)
    else:
        swept = sweep(history, strategy, grid, settings.backtest, features, workers=workers, early=early, progress=progress)
    content = sweep_content(swept, history, strategy, grid, settings.backtest)
    return content, write_sweep(swept, content, settings.reports_dir)
