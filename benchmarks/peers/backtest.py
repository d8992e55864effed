"""Plays the year in other libraries on request of `bench_backtest.py`, in their own environment.

Lines of JSON in, one line of JSON out for each: {"open": {underlying: path}} -> {"peers": [name, ...], "missing": {name: why},
"seconds": {name: of reading}}; {"run": name} -> {"cpu": s, "wall": s} of a play over all underlyings, data opened; {"save": name,
"path": folder} -> the trades and hourly equity as Parquet, where the peer plays the same rules.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import warnings
from pathlib import Path

POLARS, OPTOPSY = "Polars, by hand", "optopsy, looser rules"


class Polars:
    """The hand-vectorised script on opened tables."""

    def __init__(self, paths) -> None:
        import backtest_polars

        self.script = backtest_polars
        self.tables = {name: (backtest_polars.read(path), backtest_polars.prices_of(path)) for name, path in paths.items()}

    def play(self):
        return {name: self.script.play(name, *tables) for name, tables in self.tables.items()}

    def save(self, folder) -> None:
        for name, (trades, equity) in self.play().items():
            trades.write_parquet(folder / f"{name}-trades.parquet")
            equity.write_parquet(folder / f"{name}-equity.parquet")


class Optopsy:
    """What the library can say of the rule: weekly calls at a delta, sold and bought back on days, 50 % and 200 %; no account, no hours.

    Given only the calls of at most eleven days, which it would filter by itself.
    """

    def __init__(self, paths) -> None:
        import optopsy
        import polars as pl

        self.library, self.tables = optopsy, {}
        near = (pl.col("expiry") - pl.col("ts")) <= pl.duration(days=11)
        for name, path in paths.items():
            rows = pl.read_parquet(path, columns=["ts", "snapshot", "expiry", "strike", "right", "bid", "ask", "delta"])
            rows = rows.filter((pl.col("right") == "C") & near)
            frame = rows.select(
                "strike",
                "ask",
                "delta",
                bid=pl.col("bid").fill_null(0.0),
                expiration=pl.col("expiry").dt.replace_time_zone(None),
                quote_date=pl.col("snapshot").dt.replace_time_zone(None),
            ).to_pandas()
            frame["underlying_symbol"], frame["option_type"] = name, "c"
            self.tables[name] = frame.astype({"underlying_symbol": object, "option_type": object})

    def play(self):
        delta = self.library.TargetRange(target=0.25, min=0.13, max=0.37)
        rules = {"max_entry_dte": 7, "exit_dte": 0, "min_bid_ask": 0.0005, "slippage": "spread", "stop_loss": -2.0, "take_profit": 0.5}
        return {name: self.library.short_calls(table, raw=True, leg1_delta=delta, **rules) for name, table in self.tables.items()}


def main() -> None:
    warnings.simplefilter("ignore")
    replies, peers = sys.stdout, {}
    for line in sys.stdin:
        asked = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):
            if "open" in asked:
                missing, seconds = {}, {}
                for name, make in ((POLARS, Polars), (OPTOPSY, Optopsy)):
                    began = time.perf_counter()
                    try:
                        peers[name] = make(asked["open"])
                        seconds[name] = time.perf_counter() - began
                    except Exception as error:  # noqa: BLE001 - whatever keeps a library from importing, its name is what matters
                        missing[name] = f"{type(error).__name__}: {error}"
                answer = {"peers": list(peers), "missing": missing, "seconds": seconds}
            elif "save" in asked:
                peers[asked["save"]].save(Path(asked["path"]))
                answer = {"saved": True}
            else:
                wall, cpu = time.perf_counter(), time.process_time()
                peers[asked["run"]].play()
                answer = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
