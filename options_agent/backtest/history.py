"""History: clean quotes as contiguous arrays, opened by memory map, laid out for O(1) and O(log) look-ups.

Rows lie by (day, contract, time) and are chained by `next_row`, so that a held contract is followed in O(1) through memory that was
just read; a leg is found among the strikes of one (snapshot, expiry, right) group of the chain, which lies by (snapshot, expiry, right,
strike) and points at rows.

| table | a row is | fields |
|---|---|---|
| `snaps` | a snapshot, and a bound | `known_at` (us, of its last row), `snapshot` (grid time), `index` (USD, last known), `group` |
| `groups` | (snapshot, expiry, right), and one bound | `expiry` (us), `call` (1 or 0), `first` (its place in the chain) |
| `chain` | a quote, in the chain's order | `strike`, `delta`, `row` |
| `quotes` | a quote | `history_pack.ROW_FLOATS` (NaN for null), `snapshot`, `contract`, `next` (-1 ends) |
| `contracts` | a contract, in the order they came | `expiry`, `strike`, `call` |
| `prices` | a price | `ts` (us, known), `price` (USD), `kind` (place in `PRICE_KINDS`) |
| `funding` | a rate | `ts` (us, known), `rate_8h` (decimal, longs pay when positive) |
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from options_agent.backtest.history_pack import COLUMNS, DAY_US, GROWING, Packer, link_rows
from options_agent.errors import DataError, StorageError
from options_agent.lake import layout
from options_agent.lake.receipts import fingerprint, read_receipt
from options_agent.lake.store import days, read_range, read_series
from options_agent.series import FUNDING_SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from options_agent.lake.store import Lake
    from options_agent.settings import Settings

__all__ = ["COLUMNS", "TABLES", "History", "build_history", "history_from_table", "open_history"]

HISTORY_VERSION: Final = 3
#: Cached histories of one underlying: the whole range, and a few that were looked at.
KEPT: Final = 6
KILLED_AFTER_SECONDS: Final = 3_600.0
#: Days read at a time while packing.
BLOCK_DAYS: Final = 16
PRICE_KINDS: Final = ("other", "index", "delivery")
PRICE: Final = np.dtype([("ts", "<i8"), ("price", "<f8"), ("kind", "<i8")])
FUNDING: Final = np.dtype([("ts", "<i8"), ("rate_8h", "<f8")])
TABLES: Final = {**GROWING, "prices": PRICE, "funding": FUNDING}


@dataclass(frozen=True, slots=True)
class History:
    """See the module's table."""

    underlying: str
    fingerprint: str
    days: tuple[tuple[str, str], ...]
    instruments: tuple[str, ...]
    snaps: NDArray[Any]
    groups: NDArray[Any]
    chain: NDArray[Any]
    quotes: NDArray[Any]
    contracts: NDArray[Any]
    prices: NDArray[Any]
    funding: NDArray[Any]

    @property
    def rows(self) -> int:
        """Quotes."""
        return int(self.quotes.size)

    @property
    def snapshots(self) -> int:
        """Chains."""
        return int(self.snaps.size) - 1

    @property
    def start(self) -> dt.datetime:
        """When the first snapshot was known."""
        return _time(self.known_at[0])

    @property
    def end(self) -> dt.datetime:
        """When the last snapshot was known."""
        return _time(self.known_at[-1])

    @property
    def known_at(self) -> NDArray[np.int64]:
        """(snapshots,) microseconds."""
        return self.snaps["known_at"][:-1]

    @property
    def snapshot(self) -> NDArray[np.int64]:
        """(snapshots,) grid time, microseconds."""
        return self.snaps["snapshot"][:-1]

    @property
    def index(self) -> NDArray[np.float64]:
        """(snapshots,) USD."""
        return self.snaps["index"][:-1]

    @property
    def strike(self) -> NDArray[np.float64]:
        """(quotes,) USD; made when asked for."""
        strike: NDArray[np.float64] = self.contracts["strike"][self.quotes["contract"]]
        return strike


def build_history(lake: Lake, underlying: str, start: dt.date, end: dt.date, settings: Settings) -> History:
    """The history of the clean days in [start, end], opened from the cache where it was built before.

    The cache lies below `{home}/cache/history`; its key is the hash of every clean day's own hash, so that a day judged
    anew is a new history. One that begins with the same days is taken over and only the others are packed. It is built beside
    its place and renamed into it.

    Raises:
        DataError: there are no clean quotes in the range.
        StorageError: the cache cannot be written.
    """
    wanted = [d for d in days(lake, "clean", underlying) if start <= d <= end]
    if not wanted:
        raise DataError(
            f"no clean quotes of {underlying} from {start} to {end}",
            place=lake.root,
            remedy="harvest and judge the range first: `options-agent run`",
        )
    hashes = tuple((d.isoformat(), _clean_hash(lake, underlying, d)) for d in wanted)
    mark = fingerprint(HISTORY_VERSION, underlying, hashes, _series_mark(lake, underlying, start, end), start, end)
    folder = settings.home / "cache" / "history" / settings.network / underlying / mark[:24]
    if (folder / "meta.json").is_file():
        try:
            return open_history(folder)
        except StorageError:
            shutil.rmtree(folder, ignore_errors=True)  # torn by a crash of the machine: it is only a cache
    building = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        _make_room(folder.parent)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        former, shared = _longest_prefix(folder.parent, underlying, hashes)
        files = _Files(building)
        packer = _taken_over(former, hashes[:shared], files) if former and shared else Packer(files)
        for at in range(shared, len(wanted), BLOCK_DAYS):
            block = wanted[at : at + BLOCK_DAYS]
            packer.add(read_range(lake, "clean", underlying, block[0], block[-1], columns=list(COLUMNS)))
        packer.finish()
        for name, values in _series(lake, underlying, start, end).items():
            files.append(name, values)
        files.close()
        quotes = np.memmap(building / "quotes.bin", dtype=TABLES["quotes"], mode="r+")
        link_rows(quotes, len(packer.instruments))
        quotes.flush()
        _write_meta(building, underlying, mark, hashes, packer)
        if folder.exists():  # another process was first
            shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        if not (folder / "meta.json").is_file():
            raise StorageError(
                f"the history cannot be cached: {error.strerror or error}", place=str(folder), remedy="free disk space, then run again"
            ) from error
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return open_history(folder)


def history_from_table(
    table: pa.Table,
    prices: pa.Table,
    *,
    underlying: str,
    mark: str = "",
    hashes: tuple[tuple[str, str], ...] = (),
    funding: pa.Table | None = None,
) -> History:
    """Pack quotes (`COLUMNS`, any order), prices (`PRICE_SCHEMA`) and funding (`FUNDING_SCHEMA`) of one underlying, in memory.

    Args:
        table, prices, funding: what is packed.
        underlying: whose they are.
        mark: what identifies the content; a hash of it by default.
        hashes: clean days and their sha256, for provenance.

    Raises:
        DataError: the table is empty.
    """
    if table.num_rows == 0:
        raise DataError(f"no quotes of {underlying} to pack", remedy="widen the range")
    funding = FUNDING_SCHEMA.empty_table() if funding is None else funding
    memory = _Memory({name: [] for name in GROWING})
    packer = Packer(memory)
    packer.add(table)
    packer.finish()
    tables: dict[str, Any] = {name: np.concatenate(parts) for name, parts in memory.parts.items()}
    link_rows(tables["quotes"], len(packer.instruments))
    return History(
        underlying=underlying,
        fingerprint=mark or hashlib.sha256(b"".join(_table_hash(t) for t in (table, prices, funding))).hexdigest(),
        days=hashes,
        instruments=tuple(packer.instruments),
        **tables,
        **_series_tables(prices, funding),
    )


def open_history(folder: Path) -> History:
    """Memory-map a built history; nothing is read until it is touched.

    Raises:
        StorageError: the cache is incomplete; delete the folder.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        tables: dict[str, Any] = {name: _map(folder / f"{name}.bin", kind, meta["sizes"][name]) for name, kind in TABLES.items()}
        names = (folder / "instruments.txt").read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(
            f"the cached history is not whole: {error}", place=str(folder), remedy="delete the folder; it is built again"
        ) from error
    return History(
        underlying=meta["underlying"],
        fingerprint=meta["fingerprint"],
        days=tuple((d, h) for d, h in meta["days"]),
        instruments=tuple(names[: meta["sizes"]["contracts"]]),
        **tables,
    )


@dataclass(frozen=True, slots=True)
class _Memory:
    parts: dict[str, list[NDArray[Any]]]

    def append(self, name: str, values: NDArray[Any], /) -> None:
        self.parts[name].append(values)


class _Files:
    """Arrays as raw files that grow by appending."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open: dict[str, Any] = {}

    def append(self, name: str, values: NDArray[Any], /) -> None:
        if name not in self.open:
            self.open[name] = (self.folder / f"{name}.bin").open("ab")
        np.ascontiguousarray(values, dtype=TABLES[name]).tofile(self.open[name])

    def close(self) -> None:
        for stream in self.open.values():
            stream.close()


def _map(path: Path, kind: np.dtype[Any], size: int) -> NDArray[Any]:
    """An array of a file, mapped for reading; a file of another length is torn."""
    width = kind.itemsize
    if path.stat().st_size != size * width:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, not {size * width}")
    if size == 0:
        return np.empty(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r", shape=(size,)).view(np.ndarray)


def _longest_prefix(shelf: Path, underlying: str, hashes: tuple[tuple[str, str], ...]) -> tuple[History | None, int]:
    """The cached history that begins with most of these days, and how many."""
    best, shared = None, 0
    for meta in sorted(shelf.glob("*/meta.json")):
        try:
            history = open_history(meta.parent)
        except StorageError:
            continue
        same = 0
        while same < min(len(hashes), len(history.days)) and history.days[same] == hashes[same]:
            same += 1
        if history.underlying == underlying and same > shared:
            best, shared = history, same
    return best, shared


def _taken_over(former: History, hashes: tuple[tuple[str, str], ...], files: _Files) -> Packer:
    """A packer that goes on after the shared days of a former history, its arrays copied."""
    after = (dt.date.fromisoformat(hashes[-1][0]) - dt.date(1970, 1, 1)).days * DAY_US + DAY_US
    snapshots = int(np.searchsorted(former.snapshot, after))
    groups = int(former.snaps["group"][snapshots])
    rows = int(former.groups["first"][groups])
    contracts = int(former.quotes["contract"][:rows].max()) + 1  # contracts are numbered as they come
    for name, end in (("snaps", snapshots), ("groups", groups), ("chain", rows), ("quotes", rows), ("contracts", contracts)):
        files.append(name, getattr(former, name)[:end])
    return Packer(
        files,
        rows=rows,
        snapshots=snapshots,
        groups=groups,
        known_at=int(former.known_at[snapshots - 1]),
        index=float(former.index[snapshots - 1]),
        last_snapshot=int(former.snapshot[snapshots - 1]),
        instruments={name: n for n, name in enumerate(former.instruments[:contracts])},
    )


def _write_meta(building: Path, underlying: str, mark: str, hashes: tuple[tuple[str, str], ...], packer: Packer) -> None:
    """Names, then what makes the folder whole."""
    (building / "instruments.txt").write_text("\n".join(packer.instruments), encoding="utf-8")
    sizes = {name: (building / f"{name}.bin").stat().st_size // kind.itemsize for name, kind in TABLES.items()}
    meta = {"underlying": underlying, "fingerprint": mark, "days": hashes, "sizes": sizes}
    (building / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _make_room(shelf: Path) -> None:
    """Drop what builds that were killed left, and all but the newest histories: the range grows by a day every day."""
    if not shelf.is_dir():
        return
    long_ago = time.time() - KILLED_AFTER_SECONDS
    for left in shelf.glob(".*"):
        if left.stat().st_mtime < long_ago:
            shutil.rmtree(left, ignore_errors=True)
    built = sorted((p for p in shelf.iterdir() if not p.name.startswith(".")), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in built[KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)  # whoever has it mapped keeps it


def _series(lake: Lake, underlying: str, start: dt.date, end: dt.date) -> dict[str, NDArray[Any]]:
    """Prices and funding of the range and a day around it."""
    reach = dt.timedelta(days=1)
    span = (_midnight(start) - reach, _midnight(end) + 2 * reach)
    return _series_tables(read_series(lake, "prices", underlying, *span), read_series(lake, "funding", underlying, *span))


def _series_tables(prices: pa.Table, funding: pa.Table) -> dict[str, Any]:
    """By time, as `PRICE` and `FUNDING`."""
    numbers = {kind: n for n, kind in enumerate(PRICE_KINDS)}
    out = {"prices": np.empty(prices.num_rows, PRICE), "funding": np.empty(funding.num_rows, FUNDING)}
    for name, table in (("prices", prices), ("funding", funding)):
        out[name]["ts"] = np.asarray(table["ts"].combine_chunks().cast(pa.int64()), np.int64)
    out["prices"]["price"] = np.asarray(prices["price"].combine_chunks(), np.float64)
    kinds = prices["kind"].combine_chunks().dictionary_encode()
    if prices.num_rows:
        out["prices"]["kind"] = np.array([numbers.get(kind, 0) for kind in kinds.dictionary.to_pylist()])[np.asarray(kinds.indices)]
    out["funding"]["rate_8h"] = np.asarray(funding["rate_8h"].combine_chunks(), np.float64)
    return {name: table[np.argsort(table["ts"], kind="stable")] for name, table in out.items()}


def _series_mark(lake: Lake, underlying: str, start: dt.date, end: dt.date) -> str:
    """A hash of the files that `_series` reads: quicker than to read what is in them, which an opened history needs no more."""
    digest = hashlib.sha256()
    reach = dt.timedelta(days=2)
    for name in ("prices", "funding"):
        found = lake.files.find(layout.series_folder(name, underlying))
        paths = [
            path for path in found if path.endswith(".parquet") and (day := layout.day_of(path)) and start - reach <= day <= end + reach
        ]
        for path, content in zip(paths, lake.files.read_many(paths), strict=True):
            digest.update(path.encode())
            digest.update(content)
    return digest.hexdigest()


def _table_hash(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).digest()


def _clean_hash(lake: Lake, underlying: str, day: dt.date) -> str:
    receipt = read_receipt(lake, "quality", underlying, day.isoformat())
    found = [f.sha256 for f in receipt.files if f.path.startswith("clean/")] if receipt else []
    return found[0] if found else f"unreceipted:{lake.files.size(f'clean/quotes/underlying={underlying}/day={day}/day.parquet')}"


def _time(micros: np.int64) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=int(micros))


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
