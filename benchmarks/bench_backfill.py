"""A day of option ticks thinned to the hour: ticks a second, MB a second and peak memory, against readers of the whole file.

Run: python benchmarks/bench_backfill.py [--ticks-an-hour 10]. The file is made here in the vendor's format: 1,500 instruments
of BTC and ETH, and ten times as many ticks in the second one. Every reader runs in a process of its own and ends with the
same rows; its time counts from the first byte read, imports excluded. Then a day goes the whole way, from a server on loopback
to the receipts in a lake.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gzip
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[1]
RESULT = REPOSITORY / "benchmarks" / "results" / "backfill.json"
DAY = dt.date(2025, 6, 1)
START_US = 1_748_736_000_000_000
HOUR_US = 3_600_000_000
HEADER = (
    "exchange,symbol,timestamp,local_timestamp,type,strike_price,expiration,open_interest,last_price,bid_price,bid_amount,bid_iv,"
    "ask_price,ask_amount,ask_iv,mark_price,mark_iv,underlying_index,underlying_price,delta,gamma,vega,theta,rho\n"
)

OURS = """
from options_agent.market.tardis import chain, header, stream
import options_agent.quotes, pandas
started, cpu = time.perf_counter(), time.process_time()
grid = chain.Grid(dt.date(2025, 6, 1), dt.timedelta(hours=1), dt.timedelta(hours=1))
ticks = stream.batches(Path(path), header.OPTIONS_CHAIN, stream.Read())
families = frozenset({"BTC", "ETH"})
rows = sum(len(t) for _, t in chain.snapshots_of(ticks, grid, families, region="eu", place=path, thinned=chain.Thinned()))
"""
POLARS = """
import polars as pl
started, cpu = time.perf_counter(), time.process_time()
frame = pl.read_csv(path, infer_schema_length=10_000)
hour = (pl.col("local_timestamp") + 3_599_999_999) // 3_600_000_000
rows = frame.with_columns(hour=hour).unique(["symbol", "hour"], keep="last", maintain_order=True).height
"""
PANDAS = """
import pandas as pd
started, cpu = time.perf_counter(), time.process_time()
kept = []
for part in pd.read_csv(path, chunksize=200_000):
    part["hour"] = (part["local_timestamp"] + 3_599_999_999) // 3_600_000_000
    kept = [pd.concat([*kept, part]).drop_duplicates(["symbol", "hour"], keep="last")]
rows = len(kept[0])
"""
READERS = {"this desk, streamed": OURS, "pandas, in chunks": PANDAS, "Polars, whole file": POLARS}
FRAME = """
import json, resource, sys, time
import datetime as dt
from pathlib import Path
path = sys.argv[1]
{body}
took, cpu = time.perf_counter() - started, time.process_time() - cpu
print(json.dumps([rows, took, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def make(path: Path, ticks_an_hour: int) -> tuple[int, int]:
    """A day of ticks; rows and bytes of text."""
    rows = size = 0
    with gzip.open(path, "wb", compresslevel=3) as stream:
        stream.write(HEADER.encode())
        for hour in range(24):
            for tick in range(ticks_an_hour):
                arrived = START_US + hour * HOUR_US + (tick + 1) * (HOUR_US // (ticks_an_hour + 1))
                lines = []
                for n in range(1_500):
                    coin, strike, right = ("BTC", 20_000 + n * 500, "put") if n % 2 else ("ETH", 500 + n * 10, "call")
                    price = 0.0005 * (1 + (n * 7 + hour * 3 + tick) % 400)
                    lines.append(
                        f"deribit,{coin}-27JUN25-{strike}-{right[0].upper()},{arrived + n - 900},{arrived + n},{right},{strike},"
                        f"1751011200000000,{n % 90}.{n % 10},{price:.4f},{price:.4f},{n % 50}.{tick % 10},{40 + (n + tick) % 30}.5,"
                        f"{price + 0.001:.4f},{n % 40}.{tick % 10},{45 + (n + tick) % 30}.25,"
                        f"{price + 0.0004:.6f},{42 + n % 30}.{tick % 100:02d},"
                        f"SYN.{coin}-27JUN25,{104_000 + (n + tick) % 900}.{tick % 100:02d},{(n % 100) / 100:.5f},0.{n % 1000:05d},"
                        f"{n % 60}.{tick % 1000:05d},-{n % 70}.{tick % 1000:05d},{n % 30}.{n % 1000:05d}\n"
                    )
                text = "".join(lines).encode()
                rows, size = rows + len(lines), size + len(text)
                stream.write(text)
    return rows, size


def measure(body: str, path: Path) -> tuple[int, float, float, float]:
    """Rows kept, seconds, CPU seconds and peak MB of a reader in a process of its own."""
    command = [sys.executable, "-c", FRAME.format(body=body), str(path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    kept, took, cpu, peak = json.loads(done.stdout)
    return kept, took, cpu, peak


def whole_way(path: Path, ticks: int) -> dict[str, float]:
    """A day from a server on loopback to the receipts: seconds, and ticks and MB a second."""
    sys.path.insert(0, str(REPOSITORY))
    from options_agent.lake.store import open_lake
    from options_agent.market.tardis.backfill import backfill_day
    from options_agent.settings import load_settings
    from tests.servers.tardis import vendor

    with vendor() as server, tempfile.TemporaryDirectory() as home:
        data = path.read_bytes()
        server.files["options_chain", DAY, "OPTIONS"] = data
        settings = load_settings(home=home, network="mainnet", source="tardis", tardis=server.settings, _env_file=None)
        started = time.perf_counter()
        receipts = backfill_day(settings, open_lake(settings), DAY)
        took = time.perf_counter() - started
        rows = sum(receipt.counts["rows"] for receipt in receipts.values())
    return {"seconds": took, "rows": rows, "ticks_per_second": ticks / took, "mb_per_second": len(data) / took / 1e6}


def main() -> None:
    """Make the files, run the readers in turn, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks-an-hour", type=int, default=10, help="of each instrument, in the smaller file")
    ticks_an_hour = parser.parse_args().ticks_an_hour
    table = Table(title="A day of option ticks to hourly snapshots", title_justify="left")
    for name in ("file", "reader", "rows kept", "seconds", "CPU s", "ticks/s", "MB/s gzip", "peak MB"):
        table.add_column(name, justify="left" if name in {"file", "reader"} else "right")
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for times in (1, 10):
            path = Path(folder) / f"{times}.csv.gz"
            ticks, size = make(path, ticks_an_hour * times)
            packed = path.stat().st_size
            label = f"{ticks / 1e6:.1f} M ticks, {packed / 1e6:.0f} MB"
            for reader, body in READERS.items():
                kept, took, cpu, peak = measure(body, path)
                found.append(
                    {"ticks": ticks, "gzip_bytes": packed, "text_bytes": size, "reader": reader, "rows": kept}
                    | {"seconds": took, "cpu_seconds": cpu, "peak_mb": peak}
                )
                rates = (f"{ticks / took:,.0f}", f"{packed / took / 1e6:.1f}")
                table.add_row(label, reader, f"{kept:,}", f"{took:.2f}", f"{cpu:.2f}", *rates, f"{peak:,.0f}")
        way = whole_way(path, ticks)
    console = Console()
    console.print(table)
    rates = f"{way['ticks_per_second']:,.0f} ticks/s, {way['mb_per_second']:.1f} MB/s of gzip"
    console.print(f"the whole way of the larger file: {way['seconds']:.1f} s, {rates}")
    machine = {"cpus": os.cpu_count(), "python": platform.python_version()}
    RESULT.write_text(json.dumps({"machine": machine, "readers": found, "whole_way": way}, indent=1) + "\n")


if __name__ == "__main__":
    main()
