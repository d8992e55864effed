"""What a quote costs on disk and to read: a file per snapshot, with another codec, and the encoded day.

Run: python benchmarks/bench_lake.py. Uses a recorded month where OPTIONS_AGENT_TEST_DATA (or the folder beside the
repository) has one, and a random chain on ticks always. Figures are ratios to a Snappy file per snapshot.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from options_agent.contracts import option_name
from options_agent.lake import encoding, layout
from options_agent.lake.store import Lake, read_range, read_raw_day, write_day, write_snapshot
from options_agent.quotes import CLEAN_SCHEMA, quote_table

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[1]
RESULT = REPOSITORY / "benchmarks" / "results" / "lake.json"
DAY = dt.date(2026, 1, 31)
RANGE_DAYS = 90


def random_day(contracts: int = 1_440, hours: int = 24) -> list[pa.Table]:
    """Hourly snapshots of a chain whose prices walk on ticks; greeks keep the exchange's digits, IV its percent."""
    random = np.random.default_rng(20_260_131)
    midnight = dt.datetime.combine(DAY, dt.time(), dt.UTC)
    expiries = np.repeat(
        [midnight + dt.timedelta(days=int(d), hours=8) for d in (1, 2, 3, 7, 14, 28, 56, 84, 147, 238, 329, 420)], contracts // 12
    )
    strikes = 1_000.0 * (40 + np.tile(np.arange(contracts // 24).repeat(2), 12))
    rights = np.tile(["C", "P"], contracts // 2)
    names = [option_name("BTC", e, float(k), r) for e, k, r in zip(expiries, strikes, rights, strict=True)]
    ticks = random.integers(2, 600, contracts)
    iv = random.integers(3_000, 9_000, contracts)
    greeks = {
        name: random.normal(0, scale, contracts) for name, scale in {"delta": 0.4, "gamma": 1e-5, "vega": 60.0, "theta": 80.0}.items()
    }
    forward = random.uniform(84_000, 90_000, 12).repeat(contracts // 12)
    interest = np.round(random.exponential(150, contracts), 1)
    tables = []
    for hour in range(hours):
        at = midnight + dt.timedelta(hours=hour)
        ticks = np.maximum(1, ticks + random.integers(-6, 7, contracts))
        iv = iv + random.integers(-40, 41, contracts)
        spread = random.integers(1, 12, contracts)
        no_bid = random.random(contracts) < 0.08
        moved = {name: values * (1 + random.normal(0, 0.02, contracts)) for name, values in greeks.items()}
        digits = {"delta": 5, "gamma": 5, "vega": 5, "theta": 5}
        columns: dict[str, Any] = {
            "ts": [at + dt.timedelta(seconds=5)] * contracts,
            "snapshot": [at] * contracts,
            "underlying": ["BTC"] * contracts,
            "instrument": names,
            "expiry": list(expiries),
            "strike": strikes,
            "right": list(rights),
            "settlement": ["coin"] * contracts,
            "bid": pa.array(np.round(ticks * 0.0005, 4), mask=no_bid),
            "ask": np.round((ticks + spread) * 0.0005, 4),
            "mark": np.round((ticks + spread / 2) * 0.0005 + random.normal(0, 1e-5, contracts), 6),
            "bid_size": np.round(random.exponential(20, contracts), 1),
            "ask_size": np.round(random.exponential(20, contracts), 1),
            "bid_iv": (iv - 60) / 100 / 100,
            "ask_iv": (iv + 60) / 100 / 100,
            "mark_iv": iv / 100 / 100,
            "forward": np.round(forward * (1 + random.normal(0, 0.004)), 2),
            "index": np.full(contracts, round(85_000 * (1 + random.normal(0, 0.004)), 2)),
            "open_interest": interest,
            "volume_24h": np.round(interest * random.uniform(0, 0.2), 1),
            "source": ["synthetic"] * contracts,
            "network": ["synthetic"] * contracts,
            "region": ["local"] * contracts,
        } | {name: np.round(values, digits[name]) for name, values in moved.items()}
        tables.append(quote_table(columns, place="random chain"))
    return tables


def recorded_days() -> list[pa.Table] | None:
    """Every BTC snapshot of a recorded month, or None where the recording is absent."""
    folder = Path(os.environ.get("OPTIONS_AGENT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    path = folder / "deribit_6h_2026" / "2026-01.parquet"
    if not path.is_file():
        return None
    table = pq.read_table(path)
    table = table.filter(pc.equal(table["currency"], "BTC"))
    at = table["timestamp"].cast(pa.timestamp("us", tz="UTC"))
    n = len(table)
    quotes = quote_table(
        {
            "ts": at,
            "snapshot": pc.floor_temporal(at, unit="minute"),
            "underlying": ["BTC"] * n,
            "instrument": table["instrument_name"].cast(pa.string()),
            "expiry": table["expiry_datetime"].cast(pa.timestamp("us", tz="UTC")),
            "strike": table["strike"].cast(pa.float64()),
            "right": pc.utf8_upper(pc.utf8_slice_codeunits(table["option_type"].cast(pa.string()), 0, 1)),
            "settlement": ["coin"] * n,
            "bid": table["bid_price"],
            "ask": table["ask_price"],
            "mark": table["mark_price"],
            "mark_iv": table["implied_volatility"],
            "delta": table["delta"],
            "vega": table["vega"],
            "forward": table["underlying"],
            "index": table["index_price"],
            "open_interest": table["open_interest"],
            "volume_24h": table["volume"],
            "source": ["recorded"] * n,
            "network": ["mainnet"] * n,
            "region": ["local"] * n,
        },
        place=str(path),
    )
    return [quotes.filter(pc.equal(quotes["snapshot"], snapshot)) for snapshot in pc.unique(quotes["snapshot"])]


def snappy(table: pa.Table) -> bytes:
    """What a recorder writes that thinks no further: pandas' default."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="snappy")
    return sink.getvalue()


def sorted_zstd(table: pa.Table) -> bytes:
    """One file, contract-major, Zstandard, floats as they are."""
    sink = io.BytesIO()
    pq.write_table(encoding.contract_major(table), sink, compression="zstd", compression_level=3)
    return sink.getvalue()


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The fastest of some runs."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def forms(snapshots: list[pa.Table], per_file: int) -> list[dict[str, float | str]]:
    """Bytes a row, and seconds to write and read all of it, for each way to keep the same rows; a day is `per_file` snapshots."""
    days = [pa.concat_tables(snapshots[i : i + per_file]) for i in range(0, len(snapshots), per_file)]
    rows = sum(map(len, snapshots))
    ways: list[tuple[str, list[pa.Table], Callable[[pa.Table], bytes], Callable[[bytes], object]]] = [
        ("Snappy file per snapshot", snapshots, snappy, lambda data: pq.read_table(pa.BufferReader(data))),
        ("Zstandard file per snapshot (raw)", snapshots, encoding.snapshot_bytes, lambda data: encoding.from_bytes(data, place="bench")),
        ("contract-major day, Zstandard, floats", days, sorted_zstd, lambda data: pq.read_table(pa.BufferReader(data))),
        ("encoded day (clean)", days, encoding.day_bytes, lambda data: encoding.in_time_order(encoding.from_bytes(data, place="bench"))),
    ]
    found = []
    for name, tables, write, read in ways:
        files = [write(table) for table in tables]
        found.append(
            {
                "form": name,
                "bytes_per_row": sum(map(len, files)) / rows,
                "write_s_per_million": seconds(lambda t=tables, w=write: [w(x) for x in t], 2) / rows * 1e6,  # type: ignore[misc]
                "read_s_per_million": seconds(lambda f=files, r=read: [r(x) for x in f]) / rows * 1e6,  # type: ignore[misc]
            }
        )
    return found


def on_disk(snapshots: list[pa.Table]) -> dict[str, float]:
    """Milliseconds to write and read a raw snapshot, and seconds to read a range of days, on this disk."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder, "synthetic")
        started = time.perf_counter()
        for table in snapshots:
            write_snapshot(lake, table)
        write_ms = (time.perf_counter() - started) / len(snapshots) * 1e3
        read_ms = seconds(lambda: read_raw_day(lake, "BTC", DAY)) / len(snapshots) * 1e3
        day = pa.concat_tables(snapshots)
        flags = pa.array(np.zeros(len(day), bool))
        for offset in range(RANGE_DAYS):
            shift = pa.scalar(offset * 86_400_000_000, pa.duration("us"))
            moved = [pc.add(day[name], shift) if name in {"ts", "snapshot"} else day[name] for name in day.column_names]
            write_day(
                lake, "clean", "BTC", DAY + dt.timedelta(days=offset), pa.Table.from_arrays([*moved, flags, flags], schema=CLEAN_SCHEMA)
            )
        end = DAY + dt.timedelta(days=RANGE_DAYS)
        some = ["ts", "expiry", "strike", "right", "bid", "ask", "delta"]
        return {
            "raw_write_ms": write_ms,
            "raw_read_ms": read_ms,
            "range_rows": len(day) * RANGE_DAYS,
            "range_seven_columns_s": seconds(lambda: read_range(lake, "clean", "BTC", DAY, end, some), 2),
            "range_all_columns_s": seconds(lambda: read_range(lake, "clean", "BTC", DAY, end), 2),
            "range_bytes_per_row": (lake.files.size(layout.day_path("clean", "BTC", DAY)) or 0) / len(day),
        }


def main() -> None:
    """Measure, print, and keep the result."""
    console = Console()
    worlds = {"random chain, hourly": (random_day(), 24)}
    if recorded := recorded_days():
        worlds["recorded BTC, 2026-01, 6-hourly"] = (recorded, 4)
    result: dict[str, Any] = {"python": platform.python_version(), "pyarrow": pa.__version__, "worlds": {}}
    for name, (snapshots, per_day) in worlds.items():
        rows = forms(snapshots, per_day)
        plain = rows[0]
        table = Table(title=f"{name}: {sum(map(len, snapshots)):,} rows in {len(snapshots)} snapshots", title_justify="left")
        for column in ("form", "bytes a row", "smaller by", "write s per million", "read s per million", "read faster by"):
            table.add_column(column, justify="left" if column == "form" else "right")
        for row in rows:
            row["smaller_by"] = float(plain["bytes_per_row"]) / float(row["bytes_per_row"])
            row["read_faster_by"] = float(plain["read_s_per_million"]) / float(row["read_s_per_million"])
            figures = [row[k] for k in ("bytes_per_row", "smaller_by", "write_s_per_million", "read_s_per_million", "read_faster_by")]
            table.add_row(str(row["form"]), *(f"{float(x):.2f}" for x in figures))
        console.print(table)
        result["worlds"][name] = rows
    result["disk"] = on_disk(worlds["random chain, hourly"][0])
    console.print({name: round(value, 2) for name, value in result["disk"].items()})
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
