"""Ten million quotes judged, reading included: ours against pandera on Polars, Polars expressions and DuckDB SQL.

Run: python benchmarks/bench_quality.py [--rows 10000000] [--repeats 3]. The quotes are recorded chains (OPTIONS_AGENT_TEST_DATA,
or the folder beside the repository) moved on in time until there are enough, or else the synthetic market's, with known defects
put in; kept below the temporary folder. All contenders ask the same rules of the same Parquet file on two threads, each in a
process of its own, in turn, and have to quarantine the same rows. What is timed starts after imports and a warm-up on a
small file: reading, rules, the numbers of the rows that fail. Seconds of CPU are those of the process, memory is its peak.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[1]
RESULT = REPOSITORY / "benchmarks" / "results" / "quality.json"
THREADS = 2
ROW_GROUP = 122_880
DEFECT_RATE = 0.0005
#: Rules that look at one row, and those besides that peers can say in a window; the rest need fits and compiled code.
ROW_RULES = (
    "missing_field",
    "not_finite",
    "not_positive",
    "foreign_network",
    "expired",
    "stale",
    "late",
    "crossed",
    "off_tick",
    "absurd_iv",
    "mark_band",
)
WINDOW_RULES = (*ROW_RULES, "duplicate", "time_backwards")
SETS = {"rows": ROW_RULES, "rows and windows": WINDOW_RULES}
CONTENDERS = ("ours", "polars", "pandera", "duckdb")
NETWORK: Literal["mainnet"] = "mainnet"
#: Whole weeks, so that expiries stay the weekdays they are, and longer than the recording.
STEP = dt.timedelta(days=126)


def recorded() -> pa.Table | None:
    """Five months of recorded BTC and ETH chains in order of snapshot, or None where they are absent."""
    from options_agent.market.recorded.source import RecordedSource
    from options_agent.settings import RecordedSettings

    path = Path(os.environ.get("OPTIONS_AGENT_TEST_DATA", REPOSITORY.parent / "shared" / "data")) / "deribit_6h_2026"
    if not path.is_dir():
        return None
    source = RecordedSource(RecordedSettings(path=path), network=NETWORK, region="local")
    chains = []
    for underlying in ("BTC", "ETH"):
        span = source.span(underlying)
        assert span is not None
        chains += list(source.snapshots(underlying, span[0], span[1] + dt.timedelta(seconds=1)))
    return pa.concat_tables(chains)


def synthetic() -> pa.Table:
    """Sixty days of both synthetic underlyings, said to be of the main network."""
    from options_agent.market.synthetic.source import SyntheticSource
    from options_agent.settings import SyntheticSettings

    source, start = SyntheticSource(SyntheticSettings(defect_rate=0.0, outage_rate=0.0)), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    chains = [t for u in ("BTC", "ETH") for t in source.snapshots(u, start, start + dt.timedelta(days=14))]
    table = pa.concat_tables(chains)
    network = pa.array([NETWORK] * len(table))
    return table.set_column(table.schema.get_field_index("network"), table.schema.field("network"), network)


def spoilt(table: pa.Table, seed: int) -> pa.Table:
    """The table in order of snapshot with a few defects of every kind, each put in on top of the others."""
    from options_agent.quality.injection import inject
    from options_agent.settings import QualitySettings

    for rule in WINDOW_RULES:
        table = inject(table, rule, DEFECT_RATE, seed=seed, settings=QualitySettings()).quotes
    keys = [(name, "ascending") for name in ("snapshot", "underlying", "expiry", "strike", "right")]
    return table.take(pc.sort_indices(table, sort_keys=keys))


def moved(table: pa.Table, by: dt.timedelta) -> pa.Table:
    """The same market later: times, expiries and the expiries in names."""
    from options_agent.contracts import format_name, parse_option

    names = table["instrument"].combine_chunks().dictionary_encode()
    later = []
    for name in names.dictionary.to_pylist():
        option = parse_option(name)
        later.append(format_name(type(option)(option.underlying, option.expiry + by, option.strike, option.right)))
    shift = pa.scalar(int(by.total_seconds() * 1e6), pa.duration("us"))
    for name in ("ts", "snapshot", "expiry"):
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), pc.add(table[name], shift))
    renamed = pa.DictionaryArray.from_arrays(names.indices, pa.array(later)).cast(pa.string())
    return table.set_column(table.schema.get_field_index("instrument"), table.schema.field("instrument"), renamed)


def prepared(rows: int) -> Path:
    """The file of at least so many rows, made once, a copy of the market at a time."""
    table = recorded()
    kind = "synthetic" if table is None else "recorded"
    folder = Path(tempfile.gettempdir()) / "options-agent-bench"
    folder.mkdir(exist_ok=True)
    path = folder / f"quotes-{kind}-{rows}-3.parquet"
    if path.is_file():
        return path
    table = synthetic() if table is None else table
    keys = [(name, "ascending") for name in ("snapshot", "underlying", "expiry", "strike", "right")]
    table = table.take(pc.sort_indices(table, sort_keys=keys)).combine_chunks()
    part = path.with_suffix(".part")
    with pq.ParquetWriter(part, table.schema, compression="zstd") as writer:
        for n in range(-(-rows // len(table))):
            writer.write_table(spoilt(moved(table, n * STEP), n), row_group_size=ROW_GROUP)
            print(f"copy {n + 1} of the market written", file=sys.stderr)
    part.replace(path)
    return path


# --- contenders: each gives the numbers of the rows it would quarantine ---------------------------------------------


def ours(path: Path, rules: tuple[str, ...]) -> np.ndarray:
    """`judge_files` with exactly these rules in force."""
    from options_agent.quality.rules import NAMES
    from options_agent.quality.stream import judge_files
    from options_agent.settings import QualitySettings

    settings = QualitySettings(disabled=tuple(name for name in NAMES if name not in rules))
    found = [judged.first + np.flatnonzero(judged.verdicts.condemned) for judged in judge_files([path], settings, network=NETWORK)]
    return np.concatenate(found)


def every(path: Path, rules: tuple[str, ...]) -> np.ndarray:
    """`judge_files` with all rules."""
    from options_agent.quality.rules import NAMES

    return ours(path, NAMES)


def polars_rules() -> dict[str, Any]:
    """Each row rule as an expression that is true where a row fails."""
    import polars as pl

    from options_agent.contracts import specification
    from options_agent.quality.chain import NUMBERS
    from options_agent.settings import QualitySettings

    s = QualitySettings()
    spec = specification("BTC")
    assert spec is not None
    ((above, step),) = spec.tick_steps
    bid, ask, mark, iv = pl.col("bid"), pl.col("ask"), pl.col("mark"), pl.col("mark_iv")
    has_tick = pl.col("underlying").is_in(["BTC", "ETH"])

    def given(expression: Any) -> Any:  # NaN counts as missing, and is greater than everything to Polars
        return expression.fill_nan(None)

    def tick(price: Any) -> Any:
        return pl.when(price > above * (1 + 1e-9)).then(step).otherwise(spec.tick)

    def off(price: Any) -> Any:
        steps = given(price) / tick(price)
        return (steps - steps.round(mode="half_to_even")).abs() > s.tick_tolerance

    def lacks(expression: Any) -> Any:
        return expression.is_null() | expression.is_nan()

    above_zero = ("strike", "bid", "ask", "forward", "index")
    not_below = ("mark", "bid_size", "ask_size", "bid_iv", "ask_iv", "mark_iv", "open_interest", "volume_24h", "gamma", "vega")
    required = ("ts", "snapshot", "underlying", "instrument", "expiry", "strike", "right", "settlement", "source", "network", "region")
    beyond = pl.max_horizontal(given(bid) - given(mark), given(mark) - given(ask))
    two_sided = given(bid).is_not_null() & given(ask).is_not_null()
    return {
        "missing_field": pl.any_horizontal(pl.col(name).is_null() for name in required)
        | (lacks(mark) & lacks(iv) & (lacks(bid) | lacks(ask)))
        | (lacks(pl.col("forward")) & lacks(pl.col("index"))),
        "not_finite": pl.any_horizontal(~pl.col(name).is_finite() for name in NUMBERS),
        "not_positive": pl.any_horizontal(
            *(pl.col(name) <= 0 for name in above_zero),
            *(pl.col(name) < 0 for name in not_below),
            given(pl.col("delta")).abs() > 1 + 1e-6,
            (pl.col("right") == "C") & (pl.col("delta") < -1e-6),
            (pl.col("right") == "P") & (given(pl.col("delta")) > 1e-6),
        ),
        "foreign_network": (pl.col("network") != NETWORK).fill_null(True),
        "expired": pl.col("ts") >= pl.col("expiry"),
        "stale": pl.col("snapshot") - pl.col("ts") > dt.timedelta(seconds=s.stale_seconds),
        "late": pl.col("ts") - pl.col("snapshot") > dt.timedelta(seconds=s.late_seconds),
        "crossed": given(bid) > given(ask),
        "off_tick": has_tick & (off(bid) | off(ask)),
        "absurd_iv": (given(iv) < s.iv_min) | (given(iv) > s.iv_max),
        "mark_band": has_tick & two_sided & (beyond / tick(mark) > s.mark_band_ticks) & (beyond > s.mark_band_share * mark),
    }


def polars(path: Path, rules: tuple[str, ...]) -> np.ndarray:
    """Expressions over a lazy scan; the windows over what is left of the columns."""
    import polars as pl

    rows = [polars_rules()[name].fill_null(False) for name in ROW_RULES]
    scan = pl.scan_parquet(path, row_index_name="row")
    if "duplicate" not in rules:
        return scan.filter(pl.any_horizontal(rows)).select("row").collect(engine="streaming")["row"].to_numpy()
    frame = scan.select(
        "row", "snapshot", "instrument", "source", "region", "ts", "bid", "ask", "mark", bad=pl.any_horizontal(rows)
    ).collect(engine="streaming")
    return polars_windows(frame)


def polars_windows(frame: Any) -> np.ndarray:
    """`duplicate` and `time_backwards` over a frame that says which rows are `bad` already."""
    import polars as pl

    identity, series = ["snapshot", "instrument", "source", "region"], ["instrument", "source", "region"]
    frame = frame.with_columns(pl.col(series).cast(pl.Categorical))  # halves what the windows cost
    twice = frame.lazy().group_by(identity).len().filter(pl.col("len") > 1)
    again = (
        frame.lazy().join(twice, on=identity, how="semi").with_columns(sides=frame_has("bid") + frame_has("ask"), marked=frame_has("mark"))
    )
    best_first = again.collect(engine="streaming").sort(
        ["bad", "sides", "marked", "ts", "row"], descending=[False, True, True, True, False]
    )
    worse = best_first.filter(~pl.struct(identity).is_first_distinct())["row"]
    frame = frame.with_columns(bad=pl.col("bad") | pl.col("row").is_in(worse.implode()))
    believed = frame.lazy().filter(~pl.col("bad"))
    back = believed.filter(pl.col("ts") <= pl.col("ts").cum_max().shift(1).over(series)).select("row").collect()
    return np.sort(np.concatenate([frame.filter("bad")["row"].to_numpy(), back["row"].to_numpy()]))


def frame_has(name: str) -> Any:
    """1 where a number is given, 0 where it is null or NaN."""
    import polars as pl

    return pl.col(name).fill_nan(None).is_not_null().cast(pl.Int8)


def pandera(path: Path, rules: tuple[str, ...]) -> np.ndarray:
    """A pandera schema with one check a rule over the same expressions; its failure cases name the rows."""
    import pandera.polars as pandera_polars
    import polars as pl
    from pandera.errors import SchemaErrors

    frame = pl.read_parquet(path)
    expressions = polars_rules()
    checks = [
        pandera_polars.Check(lambda data, e=expressions[name]: data.lazyframe.select(~e.fill_null(False)), name=name) for name in ROW_RULES
    ]
    schema = pandera_polars.DataFrameSchema(checks=checks)
    bad = np.empty(0, np.uint32)
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as failure:
        bad = np.unique(failure.failure_cases["index"].to_numpy())
    if "duplicate" not in rules:
        return bad
    failed = np.zeros(len(frame), bool)
    failed[bad] = True
    kept = frame.select("snapshot", "instrument", "source", "region", "ts", "bid", "ask", "mark")
    return polars_windows(kept.with_row_index("row").with_columns(bad=pl.Series(failed)))


def duckdb_condition() -> str:
    """The row rules in SQL, true where a row fails; DuckDB too takes NaN for the greatest number."""
    from options_agent.contracts import specification
    from options_agent.quality.chain import NUMBERS
    from options_agent.settings import QualitySettings

    s = QualitySettings()
    spec = specification("BTC")
    assert spec is not None
    ((above, step),) = spec.tick_steps

    def lacks(name: str) -> str:
        return f"({name} IS NULL OR isnan({name}))"

    def tick(price: str) -> str:
        return f"(CASE WHEN {price} > {above * (1 + 1e-9)!r}::DOUBLE THEN {step}::DOUBLE ELSE {spec.tick}::DOUBLE END)"

    def off(price: str) -> str:
        return f"(isfinite({price}) AND abs({price} / {tick(price)} - round_even({price} / {tick(price)}, 0)) > {s.tick_tolerance})"

    above_zero = ("strike", "bid", "ask", "forward", '"index"')
    not_below = ("mark", "bid_size", "ask_size", "bid_iv", "ask_iv", "mark_iv", "open_interest", "volume_24h", "gamma", "vega")
    required = ("ts", "snapshot", "underlying", "instrument", "expiry", "strike", '"right"', "settlement", "source", "network", "region")
    numbers, index = [f'"{name}"' for name in NUMBERS], '"index"'
    known = " AND ".join(f"NOT {lacks(name)}" for name in ("bid", "ask", "mark"))
    beyond = "greatest(bid - mark, mark - ask)"
    far = f"{beyond} / {tick('mark')} > {s.mark_band_ticks}"
    conditions = [
        *(f"{name} IS NULL" for name in required),
        f"({lacks('mark')} AND {lacks('mark_iv')} AND ({lacks('bid')} OR {lacks('ask')}))",
        f"({lacks('forward')} AND {lacks(index)})",
        *(f"NOT isfinite({name})" for name in numbers),
        *(f"{name} <= 0" for name in above_zero),
        *(f"{name} < 0" for name in not_below),
        f"(NOT isnan(delta) AND abs(delta) > {1 + 1e-6!r})",
        """("right" = 'C' AND delta < -1e-6)""",
        """("right" = 'P' AND NOT isnan(delta) AND delta > 1e-6)""",
        f"network IS DISTINCT FROM '{NETWORK}'",
        "ts >= expiry",
        f"epoch_us(snapshot) - epoch_us(ts) > {int(s.stale_seconds * 1e6)}",
        f"epoch_us(ts) - epoch_us(snapshot) > {int(s.late_seconds * 1e6)}",
        "(bid > ask AND NOT isnan(bid))",
        f"(underlying IN ('BTC', 'ETH') AND ({off('bid')} OR {off('ask')}))",
        f"(NOT isnan(mark_iv) AND (mark_iv < {s.iv_min} OR mark_iv > {s.iv_max}))",
        f"(underlying IN ('BTC', 'ETH') AND {known} AND {beyond} > {s.mark_band_share} * mark AND {far})",
    ]
    return "coalesce(" + ", false) OR coalesce(".join(conditions) + ", false)"


def duckdb(path: Path, rules: tuple[str, ...]) -> np.ndarray:
    """One SQL query over the file."""
    import duckdb as engine

    connection = engine.connect(config={"threads": THREADS})
    source = f"read_parquet('{path}', file_row_number = true)"
    if "duplicate" not in rules:
        query = f"SELECT file_row_number FROM {source} WHERE {duckdb_condition()}"
        return np.sort(connection.execute(query).fetchnumpy()["file_row_number"])
    has = {name: f"({name} IS NOT NULL AND NOT isnan({name}))::INT" for name in ("bid", "ask", "mark")}
    query = f"""
        WITH judged AS (
            SELECT file_row_number AS row, snapshot, instrument, source, region, ts, {duckdb_condition()} AS bad,
                   {has["bid"]} + {has["ask"]} AS sides, {has["mark"]} AS marked
            FROM {source}
        ), ranked AS (
            SELECT *, bad OR row_number() OVER (PARTITION BY snapshot, instrument, source, region
                                                ORDER BY bad, sides DESC, marked DESC, ts DESC, row) > 1 AS worse
            FROM judged
        ), told AS (
            SELECT row, worse, NOT worse AND ts <= max(CASE WHEN worse THEN NULL ELSE ts END)
                OVER (PARTITION BY instrument, source, region ORDER BY snapshot, row
                      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS back
            FROM ranked
        )
        SELECT row FROM told WHERE worse OR back"""
    return np.sort(connection.execute(query).fetchnumpy()["row"])


# --- the race -------------------------------------------------------------------------------------------------------


def run(contender: str, path: Path, rules: tuple[str, ...]) -> dict[str, Any]:
    """Warm up on a small file, then judge the large one, in this process."""
    work = {"ours": ours, "all 18": every, "polars": polars, "pandera": pandera, "duckdb": duckdb}[contender]
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.parquet"
        with pq.ParquetFile(path) as file:
            pq.write_table(file.read_row_group(0).slice(0, 5_000), small, row_group_size=2_000)
        work(small, rules)
    wall, cpu = time.perf_counter(), time.process_time()
    rows = work(path, rules)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_bytes": peak,
        "quarantined": len(rows),
        "sha256": hashlib.sha256(np.sort(rows).astype(np.int64).tobytes()).hexdigest(),
    }


def apart(contender: str, path: Path, rules: str) -> dict[str, Any]:
    """`run` in a process of its own."""
    command = [sys.executable, __file__, "--contender", contender, "--file", str(path), "--rules", rules]
    environment = os.environ | {"POLARS_MAX_THREADS": str(THREADS), "OMP_NUM_THREADS": str(THREADS)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def race(path: Path, repeats: int) -> Iterator[dict[str, Any]]:
    """Every contender in turn, so that the machine's moods meet all alike; medians of the repeats."""
    for rules in SETS:
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in (*CONTENDERS, *(("all 18",) if rules == "rows" else ()))}
        for _ in range(repeats):
            for name, found in runs.items():
                found.append(apart(name, path, rules))
        verdicts = {found[0]["sha256"] for name, found in runs.items() if name != "all 18"}
        assert len(verdicts) == 1, {name: (found[0]["quarantined"], found[0]["sha256"][:8]) for name, found in runs.items()}
        for name, found in runs.items():
            medians = {key: statistics.median(one[key] for one in found) for key in ("wall_s", "cpu_s", "peak_bytes")}
            yield {"rules": rules, "contender": name, "quarantined": found[0]["quarantined"], **medians}


def main() -> None:
    """Measure, print, and keep the result."""
    from rich.console import Console
    from rich.table import Table

    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rows", type=int, default=10_000_000)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--prepare", action="store_true")
    arguments.add_argument("--contender")
    arguments.add_argument("--file", type=Path)
    arguments.add_argument("--rules", default="rows")
    asked = arguments.parse_args()
    if asked.contender:
        print(json.dumps(run(asked.contender, asked.file, SETS[asked.rules])))
        return
    if asked.prepare:
        print(prepared(asked.rows))
        return
    command = [sys.executable, __file__, "--prepare", "--rows", str(asked.rows)]  # apart: a child starts with its parent's peak memory
    path = Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    with pq.ParquetFile(path) as file:
        rows, groups = file.metadata.num_rows, file.metadata.num_row_groups
        table_bytes = round(file.read_row_group(0).nbytes / file.metadata.row_group(0).num_rows * rows)
    load = os.getloadavg()
    found = list(race(path, asked.repeats))
    console = Console(width=140)
    out = Table(title=f"{rows:,} rows in {groups} row groups, {table_bytes / 1e9:.2f} GB as a table", title_justify="left")
    for column in ("rules", "contender", "quarantined", "CPU s", "wall s", "ours is faster by: CPU", "wall", "peak MB"):
        out.add_column(column, justify="left" if column in ("rules", "contender") else "right")
    for one in found:
        base = next(other for other in found if other["rules"] == one["rules"] and other["contender"] == "ours")
        one["cpu_ratio"], one["wall_ratio"] = one["cpu_s"] / base["cpu_s"], one["wall_s"] / base["wall_s"]
        figures = [f"{one[key]:.2f}" for key in ("cpu_s", "wall_s", "cpu_ratio", "wall_ratio")]
        out.add_row(one["rules"], one["contender"], f"{one['quarantined']:,}", *figures, f"{one['peak_bytes'] / 1e6:,.0f}")
    console.print(out)
    console.print(f"load of the machine before and after: {load[0]:.1f}, {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    result = {"python": platform.python_version(), "rows": rows, "table_bytes": table_bytes, "load": [load[0], os.getloadavg()[0]]}
    RESULT.write_text(json.dumps({**result, "runs": found}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
