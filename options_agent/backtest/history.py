"""History: clean quotes as contiguous arrays, opened by memory map, laid out for O(1) and O(log) look-ups.

Rows are sorted by (snapshot, expiry, right, strike). A contract's rows are chained by `next_row`, so that a held contract is followed
in O(1); a leg is found among the strikes of one (snapshot, expiry, right) group.

| array | shape | what |
|---|---|---|
| `known_at`, `snapshot` | (S,) int64 | microseconds: when the snapshot's last row was known; its grid time |
| `index` | (S,) | USD, the last known at the snapshot |
| `snapshot_group` | (S+1,) int64 | bounds of each snapshot's groups |
| `group_expiry`, `group_call` | (G,) | microseconds; 1 for calls |
| `group_row` | (G+1,) int64 | bounds of each group's rows |
| `row_snapshot`, `row_contract`, `next_row` | (R,) int32, int32, int64 | -1 ends a chain |
| `strike`, `bid`, `ask`, `mark`, `mark_iv`, `delta`, `open_interest` | (R,) float64 | NaN for null |
| `contract_expiry`, `contract_strike`, `contract_call` | (C,) | the contracts that occur |
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.errors import DataError, StorageError
from options_agent.lake.receipts import fingerprint, read_receipt
from options_agent.lake.store import days, read_range, read_series

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from options_agent.lake.store import Lake
    from options_agent.settings import Settings

HISTORY_VERSION: Final = 2
#: Cached histories of one underlying: the whole range, and a few that were looked at.
KEPT: Final = 6
KILLED_AFTER_SECONDS: Final = 3_600.0
COLUMNS: Final = (
    "ts",
    "snapshot",
    "instrument",
    "expiry",
    "strike",
    "right",
    "bid",
    "ask",
    "mark",
    "mark_iv",
    "delta",
    "index",
    "open_interest",
)
_FLOATS: Final = ("strike", "bid", "ask", "mark", "mark_iv", "delta", "open_interest")


@dataclass(frozen=True, slots=True)
class History:
    """See the module's table. `prices` is (P, 2): microseconds known and USD; `price_is_index` says which are the index."""

    underlying: str
    fingerprint: str
    days: tuple[tuple[str, str], ...]
    instruments: tuple[str, ...]
    known_at: NDArray[np.int64]
    snapshot: NDArray[np.int64]
    index: NDArray[np.float64]
    snapshot_group: NDArray[np.int64]
    group_expiry: NDArray[np.int64]
    group_call: NDArray[np.int8]
    group_row: NDArray[np.int64]
    row_snapshot: NDArray[np.int32]
    row_contract: NDArray[np.int32]
    next_row: NDArray[np.int64]
    strike: NDArray[np.float64]
    bid: NDArray[np.float64]
    ask: NDArray[np.float64]
    mark: NDArray[np.float64]
    mark_iv: NDArray[np.float64]
    delta: NDArray[np.float64]
    open_interest: NDArray[np.float64]
    contract_expiry: NDArray[np.int64]
    contract_strike: NDArray[np.float64]
    contract_call: NDArray[np.int8]
    price_ts: NDArray[np.int64]
    price: NDArray[np.float64]
    price_is_index: NDArray[np.bool_]

    @property
    def rows(self) -> int:
        """Quotes."""
        return int(self.strike.size)

    @property
    def snapshots(self) -> int:
        """Chains."""
        return int(self.known_at.size)

    @property
    def start(self) -> dt.datetime:
        """When the first snapshot was known."""
        return _time(self.known_at[0])

    @property
    def end(self) -> dt.datetime:
        """When the last snapshot was known."""
        return _time(self.known_at[-1])


_ARRAYS: Final = tuple(f.name for f in fields(History) if f.name not in {"underlying", "fingerprint", "days", "instruments"})


def build_history(lake: Lake, underlying: str, start: dt.date, end: dt.date, settings: Settings) -> History:
    """The history of the clean days in [start, end], opened from the cache where it was built before.

    The cache lies below `{home}/cache/history`; its key is the hash of every clean day's own hash, so that a day judged
    anew is a new history. It is built beside its place and renamed into it.

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
    reach = dt.timedelta(days=1)
    prices = read_series(lake, "prices", underlying, _midnight(start) - reach, _midnight(end) + 2 * reach)
    mark = fingerprint(HISTORY_VERSION, underlying, hashes, _content(prices))
    folder = settings.home / "cache" / "history" / settings.network / underlying / mark[:24]
    if (folder / "meta.json").is_file():
        try:
            return open_history(folder)
        except StorageError:
            shutil.rmtree(folder, ignore_errors=True)  # torn by a crash of the machine: it is only a cache
    table = read_range(lake, "clean", underlying, start, end, columns=list(COLUMNS))
    history = history_from_table(table, prices, underlying=underlying, mark=mark, hashes=hashes)
    _save(history, folder)
    return open_history(folder)


def history_from_table(
    table: pa.Table, prices: pa.Table, *, underlying: str, mark: str = "", hashes: tuple[tuple[str, str], ...] = ()
) -> History:
    """Pack quotes (`COLUMNS`, any order) and prices (`PRICE_SCHEMA`) of one underlying.

    Args:
        table, prices: what is packed.
        underlying: whose they are.
        mark: what identifies the content; a hash of it by default.
        hashes: clean days and their sha256, for provenance.

    Raises:
        DataError: the table is empty.
    """
    if table.num_rows == 0:
        raise DataError(f"no quotes of {underlying} to pack", remedy="widen the range")
    micros = {name: _micros(table, name) for name in ("ts", "snapshot", "expiry")}
    call = np.asarray(pc.equal(table["right"], "C").combine_chunks(), dtype=np.int8)
    strike = _floats(table, "strike")
    order = np.lexsort((strike, call, micros["expiry"], micros["snapshot"]))
    snapshot, expiry, call, strike = micros["snapshot"][order], micros["expiry"][order], call[order], strike[order]
    new_snapshot = np.append(True, snapshot[1:] != snapshot[:-1])
    new_group = new_snapshot | np.append(True, (expiry[1:] != expiry[:-1]) | (call[1:] != call[:-1]))
    snapshot_row, group_row = np.flatnonzero(new_snapshot), np.flatnonzero(new_group)
    row_snapshot = (np.cumsum(new_snapshot) - 1).astype(np.int32)
    encoded = table["instrument"].combine_chunks().dictionary_encode()
    contract = np.asarray(encoded.indices)[order].astype(np.int32)
    first_of = np.zeros(len(encoded.dictionary), dtype=np.int64)
    first_of[contract[::-1]] = np.arange(contract.size)[::-1]
    price_order = np.argsort(_micros(prices, "ts"), kind="stable") if prices.num_rows else np.empty(0, np.int64)
    values = {name: _floats(table, name)[order] for name in _FLOATS if name != "strike"}
    known_at = np.maximum.reduceat(micros["ts"][order], snapshot_row)
    return History(
        underlying=underlying,
        fingerprint=mark or _content(table, prices),
        days=hashes,
        instruments=tuple(encoded.dictionary.to_pylist()),
        known_at=np.maximum.accumulate(known_at),
        snapshot=snapshot[snapshot_row],
        index=_index(_floats(table, "index")[order], micros["ts"][order], snapshot_row),
        snapshot_group=np.append(np.searchsorted(group_row, snapshot_row), group_row.size),
        group_expiry=expiry[group_row],
        group_call=call[group_row],
        group_row=np.append(group_row, snapshot.size),
        row_snapshot=row_snapshot,
        row_contract=contract,
        next_row=_chain(contract),
        strike=strike,
        contract_expiry=expiry[first_of],
        contract_strike=strike[first_of],
        contract_call=call[first_of],
        price_ts=_micros(prices, "ts")[price_order],
        price=_floats(prices, "price")[price_order],
        price_is_index=np.asarray(pc.equal(prices["kind"], "index").combine_chunks(), dtype=bool)[price_order],
        **values,
    )


def open_history(folder: Path) -> History:
    """Memory-map a built history; nothing is read until it is touched.

    Raises:
        StorageError: the cache is incomplete; delete the folder.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        arrays: dict[str, Any] = {name: np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray) for name in _ARRAYS}
    except (OSError, ValueError) as error:
        raise StorageError(
            f"the cached history is not whole: {error}", place=str(folder), remedy="delete the folder; it is built again"
        ) from error
    return History(
        underlying=meta["underlying"],
        fingerprint=meta["fingerprint"],
        days=tuple((d, h) for d, h in meta["days"]),
        instruments=tuple(meta["instruments"]),
        **arrays,
    )


def _save(history: History, folder: Path) -> None:
    building = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        _make_room(folder.parent)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        for name in _ARRAYS:
            np.save(building / f"{name}.npy", getattr(history, name))
        meta = {
            "underlying": history.underlying,
            "fingerprint": history.fingerprint,
            "days": history.days,
            "instruments": history.instruments,
        }
        (building / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        if folder.exists():  # a torn one from before its meta file was written, or another process was first
            shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        if (folder / "meta.json").is_file():
            return
        raise StorageError(
            f"the history cannot be cached: {error.strerror or error}", place=str(folder), remedy="free disk space, then run again"
        ) from error


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


def _chain(contract: NDArray[np.int32]) -> NDArray[np.int64]:
    """For each row the next row of the same contract, -1 at its end; rows are in time order."""
    by_contract = np.argsort(contract, kind="stable")
    same = contract[by_contract][1:] == contract[by_contract][:-1]
    following = np.full(contract.size, -1, dtype=np.int64)
    following[by_contract[:-1][same]] = by_contract[1:][same]
    return following


def _index(per_row: NDArray[np.float64], ts: NDArray[np.int64], snapshot_row: NDArray[np.int64]) -> NDArray[np.float64]:
    """The index each snapshot knew last, by its rows' own times; the former one where a snapshot has none."""
    snapshot = np.repeat(np.arange(snapshot_row.size), np.diff(np.append(snapshot_row, ts.size)))
    per_row = per_row[np.lexsort((ts, snapshot))]
    filled = np.where(np.isfinite(per_row), np.arange(per_row.size), -1)
    last = np.maximum.accumulate(filled)[np.append(snapshot_row[1:], per_row.size) - 1]
    return np.where(last >= 0, per_row[np.maximum(last, 0)], np.nan)


def _content(*tables: pa.Table) -> str:
    digest = hashlib.sha256()
    for table in tables:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table.combine_chunks())
        digest.update(sink.getvalue())
    return digest.hexdigest()


def _clean_hash(lake: Lake, underlying: str, day: dt.date) -> str:
    receipt = read_receipt(lake, "quality", underlying, day.isoformat())
    found = [f.sha256 for f in receipt.files if f.path.startswith("clean/")] if receipt else []
    return found[0] if found else f"unreceipted:{lake.files.size(f'clean/quotes/underlying={underlying}/day={day}/day.parquet')}"


def _micros(table: pa.Table, name: str) -> NDArray[np.int64]:
    return np.asarray(table[name].combine_chunks().cast(pa.int64()), dtype=np.int64)


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    return np.asarray(table[name].combine_chunks().to_numpy(zero_copy_only=False), dtype=np.float64)


def _time(micros: np.int64) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=int(micros))


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
