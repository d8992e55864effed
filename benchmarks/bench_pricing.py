"""What an option costs to price, with four greeks, and to invert: the project, other libraries, and what one would write first.

Run: python benchmarks/bench_pricing.py. CPU time per option on one core, the best of several rounds over a batch that stays
in the cache, all taking turns in one run, so that ratios hold on a noisy machine. Other libraries are measured where their own
environment is (benchmarks/peers/README.md). Then the accuracy of each on hard points, against fifty digits: an hour to a year, 5 to
300 % volatility, to eight deviations out of the money, calls and puts.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mpmath as mp  # type: ignore[import-untyped]
import numpy as np
from numba import njit
from rich.console import Console
from rich.table import Table
from scipy.special import ndtr

from options_agent.pricing.black76 import greeks, price_coin
from options_agent.pricing.implied import implied_volatility

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[1]
PEERS = REPOSITORY / "benchmarks" / "peers"
RESULT = REPOSITORY / "benchmarks" / "results" / "pricing.json"
OPTIONS = 20_000
ROUNDS = 40
#: A turn lasts this long, several calls if need be (and so in peers/pricing.py).
AT_LEAST_SECONDS = 0.02
#: A call that takes longer than this is not repeated in every round.
SLOW_SECONDS = 0.05
GREEKS, IMPLIED, OWN = "price and four greeks", "implied volatility", "options_agent"
#: What a figure further from the truth than this is called: wrong.
FAILED = 1e-6


def options(reach: float) -> tuple[np.ndarray, ...]:
    """Random options, a day to a year, 30 to 120 % volatility, strikes to `reach` standard deviations, out of the money."""
    random = np.random.default_rng(20_260_131)
    years = np.exp(random.uniform(math.log(1 / 365), 0.0, OPTIONS))
    vol = random.uniform(0.3, 1.2, OPTIONS)
    forward = random.uniform(80_000, 100_000, OPTIONS)
    strike = forward * np.exp(random.uniform(-reach, reach, OPTIONS) * vol * np.sqrt(years))
    return forward, strike, years, vol, strike >= forward


def greeks_numpy(forward: np.ndarray, strike: np.ndarray, years: np.ndarray, vol: np.ndarray, is_call: np.ndarray) -> tuple[Any, ...]:
    """The textbook over arrays, scipy's normal distribution."""
    root = np.sqrt(years)
    v = vol * root
    d1 = np.log(forward / strike) / v + 0.5 * v
    sign = np.where(is_call, 1.0, -1.0)
    delta = sign * ndtr(sign * d1)
    price = delta - sign * strike / forward * ndtr(sign * (d1 - v))
    density = np.exp(-0.5 * d1 * d1) * 0.3989422804014327
    theta = -forward * density * vol / (2 * root) * np.minimum(1 / 365, years)
    return price, delta, density / (forward * v), forward * density * root * 0.01, theta


@njit(error_model="numpy")
def coin_plain(forward: float, strike: float, years: float, vol: float, sign: float) -> float:
    """The textbook with erfc, one option."""
    v = vol * math.sqrt(years)
    d1 = math.log(forward / strike) / v + 0.5 * v
    near = 0.5 * math.erfc(-sign * d1 * 0.7071067811865476)
    far = 0.5 * math.erfc(-sign * (d1 - v) * 0.7071067811865476)
    return sign * (near - strike / forward * far)


@njit(error_model="numpy")
def greeks_plain(forward: np.ndarray, strike: np.ndarray, years: np.ndarray, vol: np.ndarray, is_call: np.ndarray) -> tuple[Any, ...]:
    """The textbook in a compiled loop."""
    n = forward.size
    price, delta, gamma, vega, theta = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        root = math.sqrt(years[i])
        v = vol[i] * root
        d1 = math.log(forward[i] / strike[i]) / v + 0.5 * v
        sign = 1.0 if is_call[i] else -1.0
        delta[i] = sign * 0.5 * math.erfc(-sign * d1 * 0.7071067811865476)
        price[i] = delta[i] - sign * strike[i] / forward[i] * 0.5 * math.erfc(-sign * (d1 - v) * 0.7071067811865476)
        density = math.exp(-0.5 * d1 * d1) * 0.3989422804014327
        gamma[i] = density / (forward[i] * v)
        vega[i] = forward[i] * density * root * 0.01
        theta[i] = -forward[i] * density * vol[i] / (2 * root) * min(1 / 365, years[i])
    return price, delta, gamma, vega, theta


@njit(error_model="numpy")
def implied_plain(price: np.ndarray, forward: np.ndarray, strike: np.ndarray, years: np.ndarray, is_call: np.ndarray) -> np.ndarray:
    """Newton's method on the price, bisection where it leaves its bracket, to the last digits a price has."""
    out = np.empty(price.size)
    for i in range(price.size):
        sign = 1.0 if is_call[i] else -1.0
        low, high, vol = 1e-4, 20.0, 0.6
        for _ in range(200):
            gap = coin_plain(forward[i], strike[i], years[i], vol, sign) - price[i]
            if gap > 0:
                high = vol
            else:
                low = vol
            v = vol * math.sqrt(years[i])
            d1 = math.log(forward[i] / strike[i]) / v + 0.5 * v
            vega = math.exp(-0.5 * d1 * d1) * 0.3989422804014327 * math.sqrt(years[i])
            following = vol - gap / vega if vega > 1e-300 else 0.0
            if not low < following < high:
                following = 0.5 * (low + high)
            if abs(following - vol) <= 1e-12 * vol:
                break
            vol = following
        out[i] = vol
    return out


class Peers:
    """The libraries of the peers' environment, called there one at a time."""

    def __init__(self, python: Path | None) -> None:
        command = [str(python), str(PEERS / "pricing.py")] if python else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) if python else None
        self.names: dict[str, list[str]] = {GREEKS: [], IMPLIED: []}
        self.missing: dict[str, str] = {}

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self.process
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def load(self, columns: tuple[np.ndarray, ...], price: np.ndarray, folder: Path) -> None:
        """Give them the options to work on."""
        if self.process:
            path = folder / "options.npz"
            forward, strike, years, vol, is_call = columns
            np.savez(path, forward=forward, strike=strike, years=years, vol=vol, is_call=is_call, price=price)
            answer = self.ask({"load": str(path)})
            self.names, self.missing = answer["tasks"], answer["missing"]

    def seconds(self, task: str, name: str) -> float:
        return self.ask({"run": [task, name]})["seconds"] or math.nan

    def result(self, task: str, name: str, folder: Path) -> np.ndarray | None:
        path = folder / "result.npy"
        answer = self.ask({"save": [task, name], "path": str(path)})
        return np.load(path) if answer["seconds"] is not None else None


def fastest(calls: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Nanoseconds of CPU per option of each call, which gives its seconds: the best of `ROUNDS` in turns, slow ones seldom."""
    for call in calls.values():
        call()
    best = {name: call() for name, call in calls.items()}
    for r in range(ROUNDS):
        for name, call in calls.items():
            if best[name] < SLOW_SECONDS or r % 10 == 0:
                best[name] = min(best[name], call())
    return {name: seconds / OPTIONS * 1e9 for name, seconds in best.items()}


def timed(call: Callable[..., object], *arguments: object) -> Callable[[], float]:
    """The call as one that gives its CPU seconds: the least of some in a row, so that a cache left cold by others is not charged."""

    def run() -> float:
        best, spent = math.inf, 0.0
        while spent < AT_LEAST_SECONDS:
            start = time.process_time()
            call(*arguments)
            seconds = time.process_time() - start
            best, spent = min(best, seconds), spent + seconds
        return best

    return run


def speeds(reach: float, peers: Peers, folder: Path) -> dict[str, dict[str, float]]:
    """Nanoseconds of both tasks, for everyone, on strikes to `reach` standard deviations."""
    batch = options(reach)
    forward, strike, years, _, is_call = batch
    price = price_coin(*batch)
    peers.load(batch, price, folder)
    pricing = {OWN: greeks, "by hand: numba, erfc": greeks_plain, "by hand: numpy, scipy's ndtr": greeks_numpy}
    solving = {OWN: implied_volatility, "by hand: numba, Newton and bisection": implied_plain}
    return {
        GREEKS: fastest(
            {name: timed(f, *batch) for name, f in pricing.items()}
            | {name: (lambda n=name: peers.seconds(GREEKS, n)) for name in peers.names[GREEKS]}
        ),
        IMPLIED: fastest(
            {name: timed(f, price, forward, strike, years, is_call) for name, f in solving.items()}
            | {name: (lambda n=name: peers.seconds(IMPLIED, n)) for name in peers.names[IMPLIED]}
        ),
    }


def hard_points() -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Hard points and their price in coin, delta, gamma, vega per point and theta per day, (5, n), in fifty digits."""
    rows, truths = [], []
    with mp.workdps(50):
        for years, vol, sigmas, is_call in itertools.product(
            (1 / 8_760, 1 / 365, 7 / 365, 30 / 365, 1.0), (0.05, 0.2, 0.6, 1.5, 3.0), np.linspace(0, 8, 17), (True, False)
        ):
            forward = 90_000.0
            strike = forward * math.exp((1 if is_call else -1) * sigmas * vol * math.sqrt(years))
            rows.append((forward, strike, years, vol, is_call))
            f, k, t, s = (mp.mpf(x) for x in rows[-1][:4])
            v = s * mp.sqrt(t)
            d1, sign = mp.log(f / k) / v + v / 2, 1 if is_call else -1
            near, far = (mp.erfc(-sign * d / mp.sqrt(2)) / 2 for d in (d1, d1 - v))
            n = mp.npdf(d1)
            theta = -f * n * s / (2 * mp.sqrt(t))
            truths.append((sign * (near - k / f * far), sign * near, n / (f * v), f * n * mp.sqrt(t) / 100, theta / 365))
    return tuple(np.array(c) for c in zip(*rows, strict=True)), np.array([[float(x) for x in row] for row in truths]).T


def judged(got: np.ndarray | None, truth: np.ndarray) -> dict[str, float]:
    """How many points have no figure or one further off than `FAILED`, and the worst relative error of the others."""
    if got is None:
        return {"failed": truth.shape[-1], "worst": math.inf}
    with np.errstate(all="ignore"):
        error = np.abs(got / truth - 1)
    bad = ~(error <= FAILED)
    points = bad.any(axis=0) if bad.ndim > 1 else bad
    return {"failed": int(points.sum()), "worst": float(error[~bad].max(initial=0.0))}


def accuracies(peers: Peers, folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Both tasks on hard points, for everyone."""
    columns, truth = hard_points()
    forward, strike, years, vol, is_call = columns
    peers.load(columns, truth[0], folder)
    capped = truth.copy()
    capped[4] *= np.minimum(1.0, years * 365)  # the project's own theta ends with the option, as the exchange's
    quoted = (truth[0], forward, strike, years, is_call)
    return {
        GREEKS: {
            OWN: judged(np.array(greeks(*columns)), capped),
            "by hand: numba, erfc": judged(np.array(greeks_plain(*columns)), capped),
            "by hand: numpy, scipy's ndtr": judged(np.array(greeks_numpy(*columns)), capped),
        }
        | {name: judged(peers.result(GREEKS, name, folder), truth) for name in peers.names[GREEKS]},
        IMPLIED: {
            OWN: judged(implied_volatility(*quoted), vol),
            "by hand: numba, Newton and bisection": judged(implied_plain(*quoted), vol),
        }
        | {name: judged(peers.result(IMPLIED, name, folder), vol) for name in peers.names[IMPLIED]},
    }


def peers_python() -> Path | None:
    """The interpreter of the peers' environment; none where there is no such environment."""
    path = Path(os.environ.get("OPTIONS_AGENT_PEERS", str(PEERS / ".venv" / "bin" / "python")))
    return path if path.exists() else None


def main() -> None:
    """Measure, print, keep."""
    python = peers_python()
    if not python:
        sys.stderr.write("no environment of peers: only hand-written code is measured beside (make bench-peers makes one)\n")
    peers = Peers(python)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        taken = {f"to {reach:g} deviations": speeds(reach, peers, folder) for reach in (2.0, 6.0)}
        right = accuracies(peers, folder)
    table = Table("strikes", "task", "who", "ns", "ratio", "hard points failed", "worst error of the rest", title="Pricing, one core")
    for strikes, parts in taken.items():
        for task, nanoseconds in parts.items():
            for who, ns in sorted(nanoseconds.items(), key=lambda item: item[1]):
                told = right[task][who]
                table.add_row(strikes, task, who, f"{ns:.1f}", f"{ns / nanoseconds[OWN]:.1f}", str(told["failed"]), f"{told['worst']:.1e}")
    Console(width=150).print(table)
    for who, why in peers.missing.items():
        sys.stderr.write(f"not measured: {who}: {why}\n")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    machine = {"python": platform.python_version(), "machine": platform.machine(), "options": OPTIONS, "rounds": ROUNDS}
    RESULT.write_text(json.dumps({"machine": machine, "ns": taken, "hard points": right, "missing": peers.missing}, indent=1) + "\n")


if __name__ == "__main__":
    main()
