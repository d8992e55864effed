"""What a backtest costs over ten million quotes: one, a thousand, a whole command; beside hand-vectorised Polars and optopsy.

Run: python benchmarks/bench_backtest.py. The year is `year_market`'s, made once and kept below the user's cache. All take turns in one
run, so that ratios hold on a noisy machine; the load is noted. Other libraries are measured where their own environment is
(benchmarks/peers/README.md). The trades of the hand-written script are compared with the engine's: where they differ the benchmark fails.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

import year_market as year
from sweep_cost import measure_growth, measure_sweep, sweep_once

from options_agent.backtest.engine import play, run_backtest
from options_agent.backtest.market import prepare
from options_agent.settings import BacktestSettings
from options_agent.strategies.catalogue import strategy
from options_agent.strategies.rules import Sizing

if TYPE_CHECKING:
    from collections.abc import Callable

    from options_agent.backtest.history import History

REPOSITORY = Path(__file__).resolve().parents[1]
PEERS = REPOSITORY / "benchmarks" / "peers"
RESULT = REPOSITORY / "benchmarks" / "results" / "backtest.json"
PICTURE = REPOSITORY / "docs" / "images" / "backtest_cost.png"
DAYS = int(os.environ.get("OPTIONS_AGENT_BENCH_DAYS", "365"))
ROUNDS, SLOW_ROUNDS, COMMANDS = 15, 3, 7
#: Peers that take longer than this are not asked in every round.
SLOW_SECONDS = 1.0
CAPITAL = {"BTC": 1.0, "ETH": 10.0}
#: Every cost model at once, and how far an account can be from the plain one.
ALL_COSTS: dict[str, Any] = {
    "latency_seconds": 30.0,
    "latency_sigma": 0.5,
    "impact": 0.5,
    "missing_quotes": "model",
    "fills": "maker",
    "option_value_in_margin": True,
}
POLARS = "Polars, by hand"


def settings_of(underlying: str, **costs: Any) -> BacktestSettings:
    """Capital of a covered call that can always trade, and costs."""
    return BacktestSettings(capital_coin=CAPITAL[underlying], **costs)


class Peers:
    """The libraries of the peers' environment, asked one at a time."""

    def __init__(self, python: Path | None) -> None:
        command = [str(python), str(PEERS / "backtest.py")] if python else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) if python else None
        self.names: list[str] = []
        self.missing: dict[str, str] = {}
        self.reading: dict[str, float] = {}
        if self.process:
            answer = self.ask({"open": {name: str(path) for name, path in year.year_parquet(days_made=DAYS).items()}})
            self.names, self.missing, self.reading = answer["peers"], answer["missing"], answer["seconds"]

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self.process
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def run(self, name: str) -> tuple[float, float]:
        """CPU and wall seconds of a play."""
        answer = self.ask({"run": name})
        return answer["cpu"], answer["wall"]

    def close(self) -> None:
        if self.process and self.process.stdin:
            self.process.stdin.close()
            self.process.wait(timeout=60)


def peers_python() -> Path | None:
    """The peers' interpreter: OPTIONS_AGENT_PEERS, else the environment `make bench-peers` makes."""
    named = os.environ.get("OPTIONS_AGENT_PEERS")
    path = Path(named) if named else PEERS / ".venv" / "bin" / "python"
    return path if path.is_file() else None


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def in_turns(calls: dict[str, Callable[[], tuple[float, float]]], rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Median and least seconds of each, all taking turns; what is slow is asked in the first rounds only."""
    spent: dict[str, list[tuple[float, float]]] = {name: [call()] for name, call in calls.items()}  # the first warms up
    for turn in range(rounds):
        for name, call in calls.items():
            if turn < SLOW_ROUNDS or spent[name][0][1] < SLOW_SECONDS:
                spent[name].append(call())
    found = {}
    for name, pairs in spent.items():
        cpu, wall = ([pair[n] for pair in pairs[1:]] for n in (0, 1))
        found[name] = {"cpu": statistics.median(cpu), "wall": statistics.median(wall), "least_cpu": min(cpu), "turns": len(cpu)}
    return found


def measure_single(histories: dict[str, History], peers: Peers) -> dict[str, Any]:
    """One backtest over both underlyings, history opened."""
    rules = strategy("covered_call")
    plain, costly = {u: settings_of(u) for u in histories}, {u: settings_of(u, **ALL_COSTS) for u in histories}
    on_margin = {u: dataclasses.replace(rules, collateral="standard", sizing=Sizing("fixed", CAPITAL[u])) for u in histories}
    ready = {u: prepare(h, plain[u]) for u, h in histories.items()}
    costly_ready = {u: prepare(h, costly[u]) for u, h in histories.items()}

    def over(work: Callable[[str], object]) -> Callable[[], tuple[float, float]]:
        return lambda: timed(lambda: [work(u) for u in histories])

    calls = {
        "play": over(lambda u: play(histories[u], rules, plain[u], prepared=ready[u])),
        "prepare and play": over(lambda u: play(histories[u], rules, plain[u])),
        "play, every cost model": over(lambda u: play(histories[u], on_margin[u], costly[u], prepared=costly_ready[u])),
        "run_backtest (tables and metrics)": over(lambda u: run_backtest(histories[u], rules, plain[u])),
    }
    calls |= {name: functools.partial(peers.run, name) for name in peers.names}
    found = in_turns(calls)
    own = found["play"]
    ratios = {name: {"cpu": row["cpu"] / own["cpu"], "wall": row["wall"] / own["wall"]} for name, row in found.items() if name != "play"}
    return {"seconds": found, "ratio_to_play": ratios, "peers_reading_seconds": peers.reading, "missing": peers.missing}


def check_same_trades(histories: dict[str, History], peers: Peers) -> dict[str, Any]:
    """The script's trades and hourly equity against the engine's.

    Raises:
        AssertionError: they differ.
    """
    if POLARS not in peers.names:
        return {}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        peers.ask({"save": POLARS, "path": folder})
        for underlying, history in histories.items():
            result = run_backtest(history, strategy("covered_call"), settings_of(underlying))
            theirs = pq.read_table(f"{folder}/{underlying}-trades.parquet")
            ours = result.trades
            assert theirs["instrument"].to_pylist() == [name[0] for name in ours["instruments"].to_pylist()]
            assert theirs["opened"].to_pylist() == ours["opened_at"].cast("int64").to_pylist()
            closed, exits = ours["closed_at"].cast("int64").to_pylist(), ours["exit"].to_pylist()
            settled = [e == "settled" for e in exits]
            assert [t for t, s in zip(theirs["closed"].to_pylist(), settled, strict=True) if not s] == [
                t for t, s in zip(closed, settled, strict=True) if not s
            ]
            assert [e == "settled" for e in theirs["exit"].to_pylist()] == settled
            done = [n for n, t in enumerate(closed) if t is not None]
            profit = np.abs(np.array(theirs["profit"])[done] - np.array(ours["profit_coin"])[done]).max()
            equity = np.abs(
                np.array(pq.read_table(f"{folder}/{underlying}-equity.parquet")["equity"]) - np.array(result.equity["equity_coin"])
            )
            assert profit < 1e-9, profit
            assert equity.max() < 1e-9, equity.max()
            found[underlying] = {"trades": len(exits), "furthest_profit": float(profit), "furthest_equity": float(equity.max())}
    return found


def measure_command(python: Path | None) -> dict[str, Any]:
    """From the shell to the printed result, BTC alone: the project's command and the script, each a process, in turns."""
    paths = year.year_parquet(days_made=DAYS)
    home = year.year_settings().home
    own = [sys.executable, "-m", "options_agent", "backtest", "covered_call", "BTC"]
    program = Path(sys.executable).with_name("options-agent")
    if program.is_file():
        own = [str(program), *own[3:]]
    turn = [int(time.time())]

    def command(arguments: list[str], *, fresh: bool = False) -> tuple[float, float]:
        turn[0] += fresh  # the seed of nothing drawn: a run of its own with the same result, so that no receipt answers for it
        environment = os.environ | {"OPTIONS_AGENT_HOME": str(home), "OPTIONS_AGENT_NETWORK": "synthetic"}
        environment["OPTIONS_AGENT_BACKTEST__SEED"] = str(turn[0])
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # libraries are compiled by the first turn, as by a person's first run
        before = os.times()
        began = time.perf_counter()
        subprocess.run(arguments, check=True, capture_output=True, env=environment, cwd=tempfile.gettempdir())
        wall, after = time.perf_counter() - began, os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system, wall

    calls = {"options-agent backtest": lambda: command(own, fresh=True), "the same again, nothing changed": lambda: command(own)}
    if python:
        script = [str(python), str(PEERS / "backtest_polars.py"), str(paths["BTC"])]
        calls["Polars script"] = lambda: command(script)
    return in_turns(calls, COMMANDS)


def child(what: str) -> dict[str, Any]:
    """A process of its own for what only a fresh one can tell."""
    answer = subprocess.run(
        [sys.executable, __file__, "--child", what], check=True, capture_output=True, text=True, env=os.environ.copy()
    ).stdout
    found: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return found


def in_child(what: str) -> dict[str, Any]:
    """What `child` runs: opening and a first play, or the memory of a play or a sweep."""
    rules, began = strategy("covered_call"), time.perf_counter()
    before = _peak()
    histories = {u: year.year_history(u, days_made=DAYS) for u in year.UNDERLYINGS}
    opened = time.perf_counter() - began
    arrays = sum(getattr(h, name).nbytes for h in histories.values() for name in ("snaps", "groups", "chain", "quotes", "contracts"))
    if what == "open":
        from options_agent.backtest.history import open_history

        folders = [p.parent for p in year.year_settings().home.glob("cache/history/*/*/*/meta.json")]
        newest = sorted(folders, key=lambda p: p.stat().st_mtime)[-2:]
        began = time.perf_counter()
        for folder in newest:
            open_history(folder)
        mapped = time.perf_counter() - began
        first = timed(lambda: [play(h, rules, settings_of(u)) for u, h in histories.items()])
        return {"found_and_opened": opened, "opened": mapped, "first_play": {"cpu": first[0], "wall": first[1]}}
    if what == "play":
        for u, h in histories.items():
            run_backtest(h, rules, settings_of(u))
    else:
        sweep_once(histories["BTC"], settings_of("BTC"), 1_000)
        arrays = sum(getattr(histories["BTC"], name).nbytes for name in ("snaps", "groups", "chain", "quotes", "contracts"))
    return {"peak_bytes": _peak(), "before_bytes": before, "arrays_bytes": arrays, "peak_over_arrays": _peak() / arrays}


def _peak() -> int:
    """The most memory this process had resident since it began, mapped files included, bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # elsewhere it may begin with its parent's
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def measure_building() -> dict[str, Any]:
    """Packing sixty days into a history, and one day more, BTC, lake read included."""
    import datetime as dt
    import shutil

    from options_agent.backtest.history import build_history
    from options_agent.lake.root import open_lake

    kept = year.year_settings()
    with tempfile.TemporaryDirectory(dir=year.year_folder()) as folder:
        settings = kept.model_copy(update={"home": Path(folder)})
        lake, days = open_lake(kept), min(60, DAYS - 1)
        last = year.FIRST + dt.timedelta(days=days - 1)
        build_history(lake, "BTC", year.FIRST, year.FIRST + dt.timedelta(days=1), settings)  # compiles
        shutil.rmtree(Path(folder) / "cache")
        whole = timed(lambda: build_history(lake, "BTC", year.FIRST, last, settings))
        renewed = timed(lambda: build_history(lake, "BTC", year.FIRST, last + dt.timedelta(days=1), settings))
    return {"days": days, "whole": whole[1], "a_day_more": renewed[1]}


def main() -> None:
    """Measure everything, write the results, show them."""
    if "--child" in sys.argv:
        print(json.dumps(in_child(sys.argv[-1])))
        return
    console, python = Console(), peers_python()
    histories = {u: year.year_history(u, days_made=DAYS) for u in year.UNDERLYINGS}
    report: dict[str, Any] = {
        "machine": {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()},
        "quotes": sum(h.rows for h in histories.values()),
        "snapshots": sum(h.snapshots for h in histories.values()),
    }
    peers = Peers(python)
    try:
        report["same_trades"] = check_same_trades(histories, peers)
        report["single"] = measure_single(histories, peers)
    finally:
        peers.close()
    report["command"] = measure_command(python)
    report["opening"] = child("open")
    report["memory"] = {"play": child("play"), "sweep of 1,000": child("sweep")}
    report["building"] = measure_building()
    report["sweep"] = measure_sweep(histories["BTC"], settings_of("BTC"))
    report["growth"] = measure_growth(histories["BTC"], settings_of("BTC"), DAYS, PICTURE)
    report["machine"]["load_after"] = os.getloadavg()
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    show(report, console)


def show(report: dict[str, Any], console: Console) -> None:
    """The figures as tables."""
    single = report["single"]
    table = Table(title=f"A covered call over {report['quotes']:,} quotes of two underlyings, history opened", title_justify="left")
    for column in ("", "CPU ms", "wall ms", "times play, CPU"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in single["seconds"].items():
        ratio = 1.0 if name == "play" else single["ratio_to_play"][name]["cpu"]
        table.add_row(name, f"{1e3 * row['cpu']:,.1f}", f"{1e3 * row['wall']:,.1f}", f"{ratio:,.1f}")
    console.print(table)
    for name, row in report["command"].items():
        console.print(f"{name}, BTC, whole process: {row['wall']:.2f} s wall, {row['cpu']:.2f} s CPU")
    for part in ("same_trades", "opening", "memory", "building", "sweep"):
        console.print(part, report[part])
    console.print(f"load {report['machine']['load'][0]:.1f}; written to {RESULT}, {PICTURE}")


if __name__ == "__main__":
    main()
