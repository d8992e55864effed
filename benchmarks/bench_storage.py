"""Bytes and read time of a quote on recorded chains: ours against plain Snappy Parquet, CSV + gzip and raw JSON.

Run: python benchmarks/bench_storage.py. Every form keeps the same rows and columns; all forms of a world are read in turn,
again and again, so that a slow minute of the machine falls on all of them. Needs the recorded data (OPTIONS_AGENT_TEST_DATA,
or the folder beside the repository).
"""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import os
import platform
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from options_agent.lake import encoding
from options_agent.market.recorded.source import RecordedSource
from options_agent.quality.judge import judge
from options_agent.settings import RecordedSettings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[1]
RESULT = REPOSITORY / "benchmarks" / "results" / "storage.json"
REPEATS = 7
#: Name, folder, family, first and last day (the last one exclusive). The tardis chains have no bid and ask prices.
WORLDS: dict[str, tuple[str, str, dt.date, dt.date]] = {
    "BTC, hourly chain of a day (tardis, 2024-09-01)": ("tardis_hourly", "BTC", dt.date(2024, 9, 1), dt.date(2024, 9, 2)),
    "BTC, 6-hourly chains of a month (2026-01)": ("deribit_6h_2026", "BTC", dt.date(2026, 1, 1), dt.date(2026, 2, 1)),
    "ETH, 6-hourly chains of a month (2026-04)": ("deribit_6h_2026", "ETH", dt.date(2026, 4, 1), dt.date(2026, 5, 1)),
    "BTC, live book summaries, 1 to 3 a day (2025-12)": ("samples/book_summary_15min", "BTC", dt.date(2025, 12, 1), dt.date(2026, 1, 1)),
    "XRP_USDC, live book summaries (2025-12)": ("samples/book_summary_15min", "XRP_USDC", dt.date(2025, 12, 1), dt.date(2026, 1, 1)),
}

Form = tuple[str, list[pa.Table], "Callable[[pa.Table], bytes]", "Callable[[bytes], object]"]


def snappy(table: pa.Table) -> bytes:
    """What a recorder writes that thinks no further: the default of pandas and pyarrow."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="snappy")
    return sink.getvalue()


def csv_gzip(table: pa.Table) -> bytes:
    """CSV with a header, gzip at its default level."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return gzip.compress(frame.write_csv().encode(), 6, mtime=0)


def raw_json(table: pa.Table) -> bytes:
    """One JSON object a row, names included, as an exchange answers."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.write_ndjson().encode()


def read_parquet(data: bytes) -> object:
    """All columns."""
    return pq.read_table(pa.BufferReader(data))


def read_day(data: bytes) -> object:
    """A day of ours as readers get it: all columns, decoded and in time order."""
    return encoding.from_bytes(data, place="bench", in_time=True)


def forms(snapshots: list[pa.Table], clean: list[pa.Table]) -> list[Form]:
    """The ways to keep the raw rows and the clean rows; plain Snappy files per snapshot are what each group is held against."""
    ours: Callable[[bytes], object] = lambda data: encoding.from_bytes(data, place="bench")  # noqa: E731
    csv: Callable[[bytes], object] = lambda data: pl.read_csv(gzip.decompress(data), infer_schema_length=None)  # noqa: E731
    ndjson: Callable[[bytes], object] = lambda data: pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)  # noqa: E731
    made: list[Form] = []
    for layer, tables in (("raw", snapshots), ("clean", clean)):
        days = by_day(tables)
        made += [
            (f"{layer}: Snappy Parquet per snapshot", tables, snappy, read_parquet),
            (f"{layer}: Snappy Parquet per day", days, snappy, read_parquet),
            (f"{layer}: CSV + gzip per snapshot", tables, csv_gzip, csv),
            (f"{layer}: JSON per snapshot", tables, raw_json, ndjson),
        ]
        if layer == "raw":
            made.append(("raw: ours, file per snapshot (before compaction)", tables, encoding.snapshot_bytes, ours))
        name = "raw: ours, compacted day" if layer == "raw" else "clean: ours, day (lake and archive)"
        made.append((name, days, encoding.day_bytes, read_day))
    return made


def by_day(tables: list[pa.Table]) -> list[pa.Table]:
    """One table a day."""
    days: dict[dt.date, list[pa.Table]] = defaultdict(list)
    for table in tables:
        days[table["snapshot"][0].as_py().date()].append(table)
    return [pa.concat_tables(days[day]) for day in sorted(days)]


def measured(made: list[Form]) -> list[dict[str, Any]]:
    """Bytes a row, read seconds a million rows (median of interleaved repeats), and the ratio to Snappy files per snapshot."""
    files = [[write(table) for table in tables] for _, tables, write, _ in made]
    rows = [sum(map(len, tables)) for _, tables, _, _ in made]
    seconds: list[list[float]] = [[] for _ in made]
    for _ in range(REPEATS):
        for i, (_, _, _, read) in enumerate(made):
            started = time.perf_counter()
            for data in files[i]:
                read(data)
            seconds[i].append(time.perf_counter() - started)
    found: list[dict[str, Any]] = []
    for i, (name, _, _, _) in enumerate(made):
        size, took = sum(map(len, files[i])) / rows[i], median(seconds[i]) / rows[i] * 1e6
        against = next(row for row in [*found, {"form": name}] if row["form"].startswith(name.split(":")[0]))
        row = {"form": name, "bytes_per_quote": size, "read_s_per_million": took}
        row["smaller_by"] = against.get("bytes_per_quote", size) / size
        row["read_faster_by"] = against.get("read_s_per_million", took) / took
        found.append(row)
    return found


def main() -> None:
    """Measure every world, print it, and keep the result."""
    folder = Path(os.environ.get("OPTIONS_AGENT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        sys.exit(f"the recorded data is absent (looked in {folder}; set OPTIONS_AGENT_TEST_DATA)")
    console, quality = Console(width=120), load_settings(_env_file=None).quality
    result: dict[str, Any] = {"python": platform.python_version(), "pyarrow": pa.__version__, "worlds": {}}
    for name, (where, family, first, last) in WORLDS.items():
        source = RecordedSource(RecordedSettings(path=folder / where), network="mainnet")
        start, end = (dt.datetime.combine(day, dt.time(), dt.UTC) for day in (first, last))
        snapshots = list(source.snapshots(family, start, end))
        clean = [table for table in (judge(snapshot, quality).clean() for snapshot in snapshots) if len(table)]
        rows = measured(forms(snapshots, clean))
        title = f"{name}: {sum(map(len, snapshots)):,} quotes in {len(snapshots)} snapshots"
        table = Table("form", "bytes a quote", "smaller by", "read s per million", "read faster by", title=title, title_justify="left")
        for row in rows:
            table.add_row(
                row["form"], *(f"{row[k]:.2f}" for k in ("bytes_per_quote", "smaller_by", "read_s_per_million", "read_faster_by"))
            )
        console.print(table)
        result["worlds"][name] = {"quotes": sum(map(len, snapshots)), "snapshots": len(snapshots), "forms": rows}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
