"""What a sweep costs beside single runs, that it finds the same, and how cost grows. Used by `bench_backtest.py`."""

from __future__ import annotations

import datetime as dt
import math
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import year_market as year

from options_agent.backtest.engine import play, run_backtest
from options_agent.backtest.history import build_history
from options_agent.backtest.market import prepare
from options_agent.backtest.sweep import sweep
from options_agent.lake.root import open_lake
from options_agent.strategies.catalogue import strategy

if TYPE_CHECKING:
    from options_agent.backtest.history import History
    from options_agent.settings import BacktestSettings
    from options_agent.strategies.rules import Strategy

MEASURED, ROUNDS = 100, 3
SHARES = (0.125, 0.25, 0.5, 1.0)
COUNTS = (1, 10, 100, 1_000, 10_000)
#: More configurations are not tried once a sweep took this long.
LONGEST_SECONDS = 60.0


def grid_of(points: int) -> dict[str, list[float]]:
    """A grid of so many covered calls: delta, then profit taken, then stop, then days to expiry."""
    sides = [1, 1, 1, 1]
    for n in range(round(math.log10(points))):
        sides[n % 4] *= 10
    ends = {"legs.0.target": (0.12, 0.38), "exit.take_profit": (0.25, 0.85), "exit.stop_loss": (0.8, 4.0), "filters.max_spread": (0.2, 0.6)}
    return {name: np.round(np.linspace(high, low, n), 6).tolist() for (name, (low, high)), n in zip(ends.items(), sides, strict=True)}


def sweep_once(history: History, settings: BacktestSettings, points: int) -> float:
    """Wall seconds of a sweep on all cores."""
    began = time.perf_counter()
    sweep(history, strategy("covered_call"), grid_of(points), settings)
    return time.perf_counter() - began


def measure_sweep(history: History, settings: BacktestSettings) -> dict[str, Any]:
    """A thousand configurations in one pass against single runs of the same, a hundred of which are measured.

    Raises:
        AssertionError: a number of the sweep is not the single run's to the last bit.
    """
    rules, grid = strategy("covered_call"), grid_of(1_000)
    sweep(history, rules, grid_of(10), settings)
    swept = sweep(history, rules, grid, settings)
    chosen = np.linspace(0, len(swept.points.points) - 1, MEASURED).astype(int)
    ready = prepare(history, settings)
    prepared, whole, cpu, wall = [], [], [], []
    for turn in range(ROUNDS):
        began, spent = time.perf_counter(), time.process_time()
        sweep(history, rules, grid, settings)
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - spent)
        for n in chosen[turn::ROUNDS]:
            point = swept.points.points[n]
            spent = time.process_time()
            play(history, point.strategy, point.settings, prepared=ready)
            prepared.append(time.process_time() - spent)
            spent = time.process_time()
            result = run_backtest(history, point.strategy, point.settings)
            whole.append(time.process_time() - spent)
            _same(swept.table.slice(n, 1).to_pylist()[0], result.metrics)
    return {
        "configurations": len(swept.points.points),
        "cpu": min(cpu),
        "wall": min(wall),
        "single": {"play": float(np.median(prepared)), "run_backtest": float(np.median(whole))},
        "in_single_runs": {
            "play, CPU": min(cpu) / float(np.median(prepared)),
            "run_backtest, CPU": min(cpu) / float(np.median(whole)),
            "run_backtest, wall": min(wall) / float(np.median(whole)),
        },
        "compared_bit_by_bit": len(prepared),
        "contracts_with_gaps": gaps(history),
    }


def _same(row: dict[str, Any], metrics: dict[str, float]) -> None:
    """Every number the sweep shares with the run's metrics, to the last bit."""
    shared = [name for name in row if name in metrics]
    assert len(shared) >= 10, shared
    for name in shared:
        ours, single = row[name], metrics[name]
        none = single is None or math.isnan(single)
        assert (ours is None) if none else ours == single, f"{name}: {ours!r} in the sweep, {single!r} alone"


def gaps(history: History) -> int:
    """Contracts whose series has a hole: fewer rows than snapshots between its first and last."""
    contract, snapshot = history.quotes["contract"], history.quotes["snapshot"]
    size = len(history.instruments)
    rows = np.bincount(contract, minlength=size)
    first, last = np.full(size, 2**31), np.full(size, -1)
    np.minimum.at(first, contract, snapshot)
    np.maximum.at(last, contract, snapshot)
    return int(np.sum(last - first + 1 > rows))


def measure_growth(history: History, settings: BacktestSettings, days: int, picture: Path) -> dict[str, Any]:
    """Seconds against rows (a run; a sweep of 100) and against configurations (the whole history); drawn to `picture`."""
    rules, lake = strategy("covered_call"), open_lake(year.year_settings())
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=year.year_folder()) as folder:
        own = year.year_settings().model_copy(update={"home": Path(folder)})
        for share in SHARES:
            part = history
            if share < 1.0:
                part = build_history(lake, "BTC", year.FIRST, year.FIRST + dt.timedelta(days=int(days * share) - 1), own)
            ready = prepare(part, settings)
            play(part, rules, settings, prepared=ready)
            single = min(_seconds(part, rules, settings, ready) for _ in range(9))
            rows.append({"rows": part.rows, "play": single, "sweep of 100": min(sweep_once(part, settings, 100) for _ in range(ROUNDS))})
            del part
    counts: list[dict[str, float]] = []
    for points in COUNTS:
        spent = min(sweep_once(history, settings, points) for _ in range(1 if points > 1_000 else ROUNDS))
        counts.append({"configurations": points, "sweep": spent})
        if spent * 10 > LONGEST_SECONDS:
            break
    slope = np.polyfit(np.log([r["rows"] for r in rows]), np.log([r["play"] for r in rows]), 1)[0]
    found = {"rows": rows, "configurations": counts, "power_of_rows": float(slope), "load": os.getloadavg()}
    draw(found, picture)
    return found


def _seconds(history: History, rules: Strategy, settings: BacktestSettings, ready: Any) -> float:
    spent = time.process_time()
    play(history, rules, settings, prepared=ready)
    return time.process_time() - spent


def draw(found: dict[str, Any], picture: Path) -> None:
    """Cost against rows and against configurations, on logarithmic axes with a line for what grows alike."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    rows = np.array([r["rows"] for r in found["rows"]])
    for name in ("play", "sweep of 100"):
        left.loglog(rows, [1e3 * r[name] for r in found["rows"]], "o-", label="one backtest, CPU" if name == "play" else name)
    first = 1e3 * found["rows"][0]["play"]
    left.loglog(rows, first * rows / rows[0], "k:", label="linear")
    left.set(xlabel="quotes", ylabel="ms", title="Cost against rows")
    counts = np.array([c["configurations"] for c in found["configurations"]])
    spent = 1e3 * np.array([c["sweep"] for c in found["configurations"]])
    right.loglog(counts, spent, "o-", label=f"sweep over {rows[-1] / 1e6:.1f} million quotes")
    right.loglog(counts, spent[0] * counts, "k:", label="linear")
    right.set(xlabel="configurations", ylabel="ms", title="Cost against configurations")
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.grid(visible=True, which="major", alpha=0.3)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=120, metadata={"Software": None})
    plt.close(figure)
