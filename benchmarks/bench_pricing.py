"""What an option costs to price, with four greeks, and to invert: the kernels beside what one would write first.

Run: python benchmarks/bench_pricing.py. CPU time per option on one core, the best of several rounds over a batch that stays
in the cache, peers and kernels taking turns in one run, so that ratios hold on a noisy machine.
"""

from __future__ import annotations

import json
import math
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
RESULT = REPOSITORY / "benchmarks" / "results" / "pricing.json"
OPTIONS = 20_000
ROUNDS = 40


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


@njit
def coin_plain(forward: float, strike: float, years: float, vol: float, sign: float) -> float:
    """The textbook with erfc, one option."""
    v = vol * math.sqrt(years)
    d1 = math.log(forward / strike) / v + 0.5 * v
    near = 0.5 * math.erfc(-sign * d1 * 0.7071067811865476)
    far = 0.5 * math.erfc(-sign * (d1 - v) * 0.7071067811865476)
    return sign * (near - strike / forward * far)


@njit
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


@njit
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


def fastest(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Nanoseconds of CPU per option of each call, the best of `ROUNDS` in turns."""
    best = dict.fromkeys(calls, math.inf)
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], (time.process_time() - start) / OPTIONS * 1e9)
    return best


def worst(values: np.ndarray, truth: np.ndarray) -> float:
    """The largest relative error; infinite where a value is missing."""
    error = np.abs(values / truth - 1)
    return float(np.where(np.isnan(error), np.inf, error).max())


def measure(reach: float) -> dict[str, dict[str, float]]:
    """Figures of both tasks on strikes to `reach` standard deviations."""
    batch = options(reach)
    forward, strike, years, vol, is_call = batch
    price = price_coin(*batch)
    quoted = (price, forward, strike, years, is_call)
    peers = {"numpy + scipy ndtr": greeks_numpy, "numba, erfc": greeks_plain, "options_agent": greeks}
    solvers = {"numba, Newton and bisection": implied_plain, "options_agent": implied_volatility}
    pricing = fastest({name: (lambda f=f: f(*batch)) for name, f in peers.items()})
    solving = fastest({name: (lambda f=f: f(*quoted)) for name, f in solvers.items()})
    return {
        "price and four greeks, ns": pricing,
        "price and four greeks, worst error against options_agent": {name: worst(f(*batch)[0], price) for name, f in peers.items()},
        "implied volatility, ns": solving,
        "implied volatility, worst error": {name: worst(f(*quoted), vol) for name, f in solvers.items()},
    }


def main() -> None:
    """Measure, print, keep."""
    figures = {f"to {reach:g} deviations": measure(reach) for reach in (2.0, 6.0)}
    table = Table("strikes", "task", "who", "ns", "ratio", "worst error", title="Pricing, one core")
    for strikes, parts in figures.items():
        for task, errors in (
            ("price and four greeks", "price and four greeks, worst error against options_agent"),
            ("implied volatility", "implied volatility, worst error"),
        ):
            own = parts[f"{task}, ns"]["options_agent"]
            for who, ns in parts[f"{task}, ns"].items():
                table.add_row(strikes, task, who, f"{ns:.0f}", f"{ns / own:.2f}", f"{parts[errors][who]:.1e}")
    Console().print(table)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    machine = {"python": platform.python_version(), "machine": platform.machine(), "options": OPTIONS, "rounds": ROUNDS}
    RESULT.write_text(json.dumps({"machine": machine, **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
