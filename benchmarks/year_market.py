"""A year of hourly option chains of two underlyings, some ten million quotes, made by a seed: what the backtests are measured on.

A chain has ten expiries (three dailies, the next Fridays, the ends of months), each of 29 strikes fixed when it is listed, calls and
puts; one row in a hundred is missing, so that contracts have gaps. The index walks; prices are Black-76 under a smile, on the exchange's
ticks. The lake, the packed history and a Parquet file for other libraries are kept below the user's cache.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from options_agent.backtest.history import build_history
from options_agent.backtest.history_pack import COLUMNS
from options_agent.contracts import option_name
from options_agent.lake.receipts import Receipt, write_receipt
from options_agent.lake.root import open_lake
from options_agent.lake.store import days, write_day, write_series
from options_agent.pricing.black76 import greeks
from options_agent.quotes import CLEAN_SCHEMA
from options_agent.series import FUNDING_SCHEMA, PRICE_SCHEMA
from options_agent.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from options_agent.backtest.history import History
    from options_agent.settings import Settings

VERSION = 1
UNDERLYINGS = ("BTC", "ETH")
FIRST = dt.date(2025, 1, 1)
EXPIRIES, STRIKES, MISSING = 10, 29, 0.01
HOUR_US, DAY_US, YEAR_US = 3_600_000_000, 86_400_000_000, 365 * 86_400_000_000
EPOCH = dt.date(1970, 1, 1)
#: Index at the start (USD), its volatility a year, and the steps strikes are listed at.
START = {"BTC": 94_000.0, "ETH": 3_300.0}
VOLATILITY = {"BTC": 0.5, "ETH": 0.7}
STEP = {"BTC": 250.0, "ETH": 10.0}
CARRY = 0.05
#: Rows of a snapshot become known so many seconds after it.
KNOWN_AFTER = 3


@functools.cache
def index_of(underlying: str, days: int = 365, seed: int = 1) -> np.ndarray:
    """(24 days + 1,) the index at every hour, USD: a random walk whose volatility moves slowly; longer years begin alike."""
    random = np.random.default_rng([seed, UNDERLYINGS.index(underlying)])
    normal, slow = random.standard_normal((2, 24 * 730 + 1))
    level = VOLATILITY[underlying] * np.exp(_mean_reverting(slow, 0.995, 0.25))
    steps = level * np.sqrt(1 / 8_760) * normal
    steps[0] = 0.0
    drift = -0.5 * level**2 / 8_760 * (np.arange(steps.size) > 0)
    index: np.ndarray = np.round(START[underlying] * np.exp(np.cumsum(steps + drift)), 2)
    return index[: 24 * days + 1]


def year_tables(underlying: str, days: int = 365, seed: int = 1) -> Iterator[pa.Table]:
    """One table a day, in the columns of `history_pack.COLUMNS`: hourly snapshots of some 574 quotes."""
    index = index_of(underlying, days, seed)
    random = np.random.default_rng([seed, UNDERLYINGS.index(underlying), 1])
    base = VOLATILITY[underlying] * np.exp(_mean_reverting(random.standard_normal(24 * 730), 0.998, 0.2)) * 1.1
    first = (FIRST - EPOCH).days
    listed: dict[int, dict[str, Any]] = {}
    for day in range(days):
        before, after = _expiries(first + day - 1), _expiries(first + day)
        for expiry in sorted(set(before) | set(after)):
            if expiry not in listed:
                listed[expiry] = _list(underlying, expiry, float(index[24 * day + (8 if expiry in after and expiry not in before else 0)]))
        parts = []
        for hours, expiries in ((np.arange(8), before), (np.arange(8, 24), after)):
            parts.append(_quotes(random, [listed[e] for e in expiries], 24 * day + hours, index, base))
        names, columns = _joined(parts)
        yield _table(names, columns)
        for gone in [e for e in listed if e <= first + day]:
            del listed[gone]


def year_settings(folder: Path | None = None) -> Settings:
    """Settings of the desk that holds the year."""
    return load_settings(home=(folder or year_folder()) / "home", network="synthetic", _env_file=None)


def year_folder() -> Path:
    """Where the year is kept: below the user's cache, or OPTIONS_AGENT_BENCH_CACHE."""
    default = os.environ.get("XDG_CACHE_HOME") or (Path.home() / ".cache" if os.access(Path.home(), os.W_OK) else tempfile.gettempdir())
    return Path(os.environ.get("OPTIONS_AGENT_BENCH_CACHE") or Path(default) / "options-agent-bench") / f"year-{VERSION}"


def year_history(underlying: str, folder: Path | None = None, days_made: int = 365) -> History:
    """The first `days_made` days as a history: made, written to a lake and packed where that was not done before."""
    settings = year_settings(folder)
    lake = open_lake(settings)
    have = len(days(lake, "clean", underlying))
    if have < days_made:
        for number, table in enumerate(year_tables(underlying, days_made)):
            if number >= have:
                day = FIRST + dt.timedelta(days=number)
                record = write_day(lake, "clean", underlying, day, _clean(table, underlying))
                # as a judged day has one: without it the history is known by sizes only
                write_receipt(lake, Receipt("quality", underlying, day.isoformat(), record.sha256, {}, (record,)))
        for number in range(-1, days_made + 1):
            day = FIRST + dt.timedelta(days=number)
            write_series(lake, "prices", underlying, day, _prices(underlying, number, days_made))
            write_series(lake, "funding", underlying, day, _funding(underlying, number))
    return build_history(lake, underlying, FIRST, FIRST + dt.timedelta(days=days_made - 1), settings)


def year_parquet(folder: Path | None = None, days_made: int = 365) -> dict[str, Path]:
    """The same rows for other libraries, one Parquet file an underlying; beside each the index and delivery prices (`-prices`)."""
    paths = {}
    for underlying in UNDERLYINGS:
        path = (folder or year_folder()) / f"{underlying}-{days_made}.parquet"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            writing = path.with_suffix(".writing")
            with pq.ParquetWriter(writing, _schema(), compression="zstd") as writer:
                tables = year_tables(underlying, days_made)
                while month := list(itertools.islice(tables, 30)):
                    writer.write_table(pa.concat_tables(month))
            prices = pa.concat_tables([_prices(underlying, number, days_made) for number in range(-1, days_made + 1)])
            pq.write_table(prices, path.with_name(f"{path.stem}-prices.parquet"))
            writing.rename(path)
        paths[underlying] = path
    return paths


def _mean_reverting(normal: np.ndarray, keep: float, spread: float) -> np.ndarray:
    """An AR(1) of the given standard deviation."""
    out, level, scale = np.empty(normal.size), 0.0, spread * np.sqrt(1 - keep * keep)
    for n in range(normal.size):
        level = keep * level + scale * normal[n]
        out[n] = level
    return out


def _expiries(day: int) -> list[int]:
    """Days since 1970 of the ten expiries listed after 08:00 of `day`: three dailies, four Fridays, then ends of months."""
    fridays = [d for d in range(day + 1, day + 500) if (d + 3) % 7 == 4]  # 1970-01-01 was a Thursday
    month_ends = [d for d in fridays if (EPOCH + dt.timedelta(days=d)).month != (EPOCH + dt.timedelta(days=d + 7)).month]
    chosen: list[int] = []
    for d in [day + 1, day + 2, day + 3, *fridays[:4], *month_ends]:
        if d not in chosen and len(chosen) < EXPIRIES:
            chosen.append(d)
    return sorted(chosen)


def _list(underlying: str, expiry: int, index: float) -> dict[str, Any]:
    """Contracts of an expiry: strikes of a round step about the index, to three deviations of a month or of its own life."""
    life = max((expiry - (FIRST - EPOCH).days) / 365, 3 / 365)
    width = 3.0 * VOLATILITY[underlying] * np.sqrt(min(life, 60 / 365)) * index
    step = max(1.0, round(2 * width / STRIKES / STEP[underlying])) * STEP[underlying]
    middle = round(index / step) * step
    strikes = middle + step * (np.arange(STRIKES) - STRIKES // 2)
    strike = np.repeat(strikes[strikes > 0], 2)
    call = np.tile([True, False], strike.size // 2)
    at = dt.datetime.combine(EPOCH + dt.timedelta(days=expiry), dt.time(8), dt.UTC)
    names = [option_name(underlying, at, k, "C" if c else "P") for k, c in zip(strike.tolist(), call.tolist(), strict=True)]
    return {"expiry": np.full(strike.size, expiry * DAY_US + 8 * HOUR_US), "strike": strike, "call": call, "name": names}


def _quotes(
    random: np.random.Generator, expiries: list[dict[str, Any]], hours: np.ndarray, index: np.ndarray, base: np.ndarray
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Quotes of these contracts at these hours of the year; `code` numbers the contracts."""
    names = [name for each in expiries for name in each["name"]]
    n, hour = len(names), np.repeat(hours, len(names))
    expiry, strike, call = (np.tile(np.concatenate([each[k] for each in expiries]), hours.size) for k in ("expiry", "strike", "call"))
    snapshot = (FIRST - EPOCH).days * DAY_US + hour * HOUR_US
    years = (expiry - snapshot) / YEAR_US
    forward = np.round(index[hour] * np.exp(CARRY * years), 4)
    distance = np.clip(np.log(strike / forward) / np.sqrt(years + 5 / 365), -2.5, 2.5)
    vol = np.round(base[hour] * (1 + 0.1 * np.exp(-years * 12)) - 0.08 * distance + 0.22 * distance**2, 4)
    price, delta, *_ = greeks(forward, strike, years, vol, call)
    half = np.maximum(0.00012, 0.015 * price + 0.0001) * random.uniform(0.6, 1.4, price.size)
    bid, ask = _on_ticks(price - half, np.floor), _on_ticks(price + half, np.ceil)
    interest = np.tile(np.round(random.exponential(120, n), 1), hours.size)
    columns = {
        "code": np.tile(np.arange(n), hours.size),
        "ts": snapshot + KNOWN_AFTER * 1_000_000,
        "snapshot": snapshot,
        "expiry": expiry,
        "strike": strike,
        "call": call,
        "bid": np.where(bid > 0, bid, np.nan),
        "ask": np.maximum(ask, 0.0001),
        "bid_size": np.where(bid > 0, np.round(random.exponential(12, price.size) + 0.1, 1), np.nan),
        "ask_size": np.round(random.exponential(12, price.size) + 0.1, 1),
        "mark": np.round(np.maximum(price, 0.00001), 6),
        "mark_iv": vol,
        "delta": np.round(delta, 5),
        "forward": forward,
        "index": index[hour],
        "open_interest": interest,
    }
    kept = random.random(price.size) >= MISSING
    return names, {name: values[kept] for name, values in columns.items()}


def _on_ticks(price: np.ndarray, rounding: Any) -> np.ndarray:
    """Prices on the exchange's grid: 0.0001 below 0.005 coin, 0.0005 above."""
    fine, coarse = rounding(price / 0.0001 - 1e-9) * 0.0001, rounding(price / 0.0005 - 1e-9) * 0.0005
    ticks: np.ndarray = np.round(np.where(price < 0.005, fine, coarse), 4)
    return ticks


def _joined(parts: list[tuple[list[str], dict[str, np.ndarray]]]) -> tuple[list[str], dict[str, np.ndarray]]:
    names: list[str] = []
    for part, columns in parts:
        columns["code"] = columns["code"] + len(names)
        names += part
    return names, {name: np.concatenate([columns[name] for _, columns in parts]) for name in parts[0][1]}


def _table(names: list[str], columns: dict[str, np.ndarray]) -> pa.Table:
    """As Arrow: NaN becomes null."""
    instruments = pa.array(names).take(pa.array(columns["code"]))
    rights = pa.array(["P", "C"]).take(pa.array(columns["call"].astype(np.int8)))
    made = {"instrument": instruments, "right": rights}
    arrays = []
    for field in _schema():
        if field.name in made:
            arrays.append(made[field.name])
        elif pa.types.is_timestamp(field.type):
            arrays.append(pa.array(columns[field.name]).cast(field.type))
        else:
            arrays.append(pa.array(columns[field.name], field.type, from_pandas=True))
    return pa.Table.from_arrays(arrays, schema=_schema())


def _schema() -> pa.Schema:
    return pa.schema([CLEAN_SCHEMA.field(name) for name in COLUMNS])


def _clean(table: pa.Table, underlying: str) -> pa.Table:
    """The day in the clean layer's schema; what backtests do not read is null."""
    given = {
        "underlying": underlying,
        "settlement": "coin",
        "source": "synthetic",
        "network": "synthetic",
        "region": "local",
        "iv_computed": False,
        "greeks_computed": False,
    }
    arrays = []
    for field in CLEAN_SCHEMA:
        if field.name in table.column_names:
            arrays.append(table[field.name].combine_chunks())
        elif field.name in given:
            arrays.append(pa.repeat(pa.scalar(given[field.name], field.type), table.num_rows))
        else:
            arrays.append(pa.nulls(table.num_rows, field.type))
    return pa.Table.from_arrays(arrays, schema=CLEAN_SCHEMA).sort_by([(n, "ascending") for n in ("ts", "expiry", "strike", "right")])


def _prices(underlying: str, number: int, days_made: int) -> pa.Table:
    """Index of every hour of a day and the delivery price of 08:00, which is the index then. Before the year: its first."""
    index = index_of(underlying, days_made)
    hours = np.arange(24 * number, 24 * (number + 1))
    ts = ((FIRST - EPOCH).days * 24 + hours) * HOUR_US
    price = index[np.clip(hours, 0, index.size - 1)]
    rows = [*zip(ts.tolist(), price.tolist(), ["index"] * 24, strict=True), (int(ts[8]), float(price[8]), "delivery")]
    columns = [pa.array([r[0] for r in rows]).cast(PRICE_SCHEMA.field("ts").type), pa.repeat(underlying, len(rows))]
    columns += [pa.array([r[1] for r in rows]), pa.array([r[2] for r in rows]), pa.repeat("synthetic", len(rows))]
    return pa.Table.from_arrays(columns, schema=PRICE_SCHEMA)


def _funding(underlying: str, number: int) -> pa.Table:
    """Rates at 00:00, 08:00 and 16:00."""
    random = np.random.default_rng([UNDERLYINGS.index(underlying), number + 1])
    ts = ((FIRST - EPOCH).days + number) * DAY_US + np.array([0, 8, 16]) * HOUR_US
    columns = [pa.array(ts).cast(FUNDING_SCHEMA.field("ts").type), pa.repeat(underlying, 3)]
    columns += [pa.array(np.round(random.normal(1e-4, 1e-4, 3), 8)), pa.repeat("synthetic", 3)]
    return pa.Table.from_arrays(columns, schema=FUNDING_SCHEMA)


def main() -> None:
    """Make the year and say what it is."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else year_folder()
    began, rows = time.perf_counter(), 0
    for underlying in UNDERLYINGS:
        history = year_history(underlying, folder)
        rows += history.rows
        print(f"{underlying}: {history.rows:,} quotes, {history.snapshots:,} snapshots, {len(history.instruments):,} contracts")
    year_parquet(folder)
    print(f"{rows:,} quotes in {time.perf_counter() - began:.0f} s below {folder}")


if __name__ == "__main__":
    main()
