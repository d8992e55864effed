"""A few short kernels of whatever version of the project is on the path, run on request of `track.py`, so that versions take turns.

Lines of JSON in, one line of JSON out for each: {"load": true} -> {"kernels": [name, ...], "missing": {name: why}}; {"run": name} ->
{"seconds": CPU time of one call, the least of some in a row}. A former version may not have a kernel, or another interface: it is left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[threads] = "1"
sys.path.append(str(Path(__file__).resolve().parent))

import numpy as np  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

#: A turn lasts this long, several calls if need be.
AT_LEAST_SECONDS = 0.05
OPTIONS, DAYS, CONFIGURATIONS = 20_000, 21, 64


def options() -> tuple[np.ndarray, ...]:
    """Random options: forward, strike, years, volatility, whether a call; out of the money to three deviations."""
    random = np.random.default_rng(7)
    years, vol = np.exp(random.uniform(-5.9, 0.0, OPTIONS)), random.uniform(0.3, 1.2, OPTIONS)
    forward = random.uniform(80_000, 100_000, OPTIONS)
    strike = forward * np.exp(random.uniform(-3, 3, OPTIONS) * vol * np.sqrt(years))
    return forward, strike, years, vol, strike >= forward


def pricing() -> Callable[[], object]:
    from options_agent.pricing.black76 import greeks

    batch = options()
    return lambda: greeks(*batch)


def implied() -> Callable[[], object]:
    from options_agent.pricing.black76 import price_coin
    from options_agent.pricing.implied import implied_volatility

    forward, strike, years, vol, is_call = options()
    price = price_coin(forward, strike, years, vol, is_call)
    return lambda: implied_volatility(price, forward, strike, years, is_call)


def quality() -> Callable[[], object]:
    import pyarrow as pa
    import year_market as year

    from options_agent.quality.judge import judge
    from options_agent.quotes import QUOTE_SCHEMA
    from options_agent.settings import QualitySettings

    tables = [year._clean(table, "BTC") for table in year.year_tables("BTC", 2)]
    table, settings = pa.concat_tables(tables).select(QUOTE_SCHEMA.names).replace_schema_metadata(QUOTE_SCHEMA.metadata), QualitySettings()
    return lambda: judge(table, settings)


def _history() -> Any:
    import pyarrow as pa
    import year_market as year

    from options_agent.backtest.history import history_from_table

    prices = pa.concat_tables([year._prices("BTC", day, DAYS) for day in range(-1, DAYS + 1)])
    return history_from_table(pa.concat_tables(list(year.year_tables("BTC", DAYS))), prices, underlying="BTC")


def playing() -> Callable[[], object]:
    from options_agent.backtest.engine import play
    from options_agent.backtest.market import prepare
    from options_agent.settings import BacktestSettings
    from options_agent.strategies.catalogue import strategy

    history, settings, rules = _history(), BacktestSettings(), strategy("covered_call")
    ready = prepare(history, settings)
    return lambda: play(history, rules, settings, prepared=ready)


def sweeping() -> Callable[[], object]:
    from options_agent.backtest.sweep import sweep
    from options_agent.settings import BacktestSettings
    from options_agent.strategies.catalogue import strategy

    history, settings, rules = _history(), BacktestSettings(), strategy("covered_call")
    grid = {"legs.0.target": np.linspace(0.15, 0.35, 8).tolist(), "exit.take_profit": np.linspace(0.3, 0.8, CONFIGURATIONS // 8).tolist()}
    return lambda: sweep(history, rules, grid, settings, workers=1)


KERNELS: dict[str, Callable[[], Callable[[], object]]] = {
    "pricing": pricing,
    "implied volatility": implied,
    "quality": quality,
    "play": playing,
    "sweep": sweeping,
}


def shortest(call: Callable[[], object]) -> float:
    """CPU seconds of the quickest of some calls in a row, so that a cache left cold by others is not charged."""
    best, spent = float("inf"), 0.0
    while spent < AT_LEAST_SECONDS:
        start = time.process_time()
        call()
        seconds = time.process_time() - start
        best, spent = min(best, seconds), spent + seconds
    return best


def main() -> None:
    """Answer until the input ends."""
    replies = sys.stdout
    calls: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any]
        with contextlib.redirect_stdout(sys.stderr):
            if "load" in asked:
                import options_agent

                missing = {}
                for name, make in KERNELS.items():
                    try:
                        calls[name] = make()
                        calls[name]()  # compiles, where the machine's cache has nothing yet
                    except Exception as error:  # noqa: BLE001 - whatever a former version lacks, its name is what matters
                        calls.pop(name, None)
                        missing[name] = f"{type(error).__name__}: {error}"
                answer = {"kernels": list(calls), "missing": missing, "tree": str(Path(options_agent.__file__).parents[1])}
            else:
                answer = {"seconds": shortest(calls[asked["run"]])}
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
