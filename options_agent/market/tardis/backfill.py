"""A day of the vendor's history into the lake: fetched, thinned while it streams, written, and only then receipted.

One pass over the file of all options serves every family asked for. Killed anywhere, the next call finds the fetched
files in the cache and the snapshots in the lake with the same bytes, and goes on; a day without its receipt is not done.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import shutil
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from options_agent.errors import DataError, StorageError
from options_agent.lake.raw import snapshot_files, write_snapshot
from options_agent.lake.receipts import Receipt, fingerprint, read_receipt, write_receipt
from options_agent.lake.retained import is_retained, retained_snapshots
from options_agent.lake.store import write_series
from options_agent.market.harvest import HARVEST_VERSION, STAGE
from options_agent.market.tardis.chain import SOURCE, Grid, Thinned, snapshots_of
from options_agent.market.tardis.fetch import ALL_OPTIONS, EXCHANGE, NoDataError, Wanted, fetch
from options_agent.market.tardis.header import DERIVATIVE_TICKER, OPTIONS_CHAIN, TRADES, DamagedFileError
from options_agent.market.tardis.series import perpetual_of, ticker_series, trades_of
from options_agent.market.tardis.stream import Read, batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    import pyarrow as pa

    from options_agent.lake.files import FileRecord
    from options_agent.lake.layout import SeriesName
    from options_agent.lake.store import Lake
    from options_agent.market.tardis.header import Dataset
    from options_agent.settings import Settings

_T = TypeVar("_T")

BACKFILL_VERSION: Final = 1
_WRITES_AHEAD: Final = 4
#: A day younger than this may be published in part: what is missing of it may still come.
_SETTLED: Final = dt.timedelta(days=2)
_LOOK_SECONDS: Final = 0.5


@dataclass(slots=True)
class Progress:
    """How far a day is: what it does, bytes fetched, compressed bytes and rows decoded, and the share of the work done."""

    day: dt.date
    doing: str = "waiting"
    fetched: int = 0
    decoded: int = 0
    rows: int = 0
    share: float = 0.0


@dataclass(slots=True)
class _Day:
    """One day being done: where its files go, and what came of them."""

    settings: Settings
    grid: Grid
    told: Callable[[Progress], None]
    progress: Progress
    details: dict[str, Any] = field(default_factory=lambda: {"files": {}, "ticks": {}, "missing": [], "unknown_columns": {}})

    @property
    def day(self) -> dt.date:
        return self.grid.day

    @property
    def folder(self) -> Path:
        return cache_folder(self.settings, self.day)

    def wanted(self, dataset: Dataset, symbol: str) -> Wanted:
        """A file of the day."""
        return Wanted(dataset.name, symbol, self.day, self.folder / f"{EXCHANGE}_{dataset.name}_{self.day}_{symbol}.csv.gz")

    def tell(self, doing: str, share: float) -> None:
        self.progress.doing, self.progress.share = doing, share
        self.told(self.progress)


def cache_folder(settings: Settings, day: dt.date) -> Path:
    """Where the vendor's files of a day lie until the day is done."""
    return settings.home / "cache" / SOURCE / f"{day:%Y-%m-%d}"


def backfill_fingerprint(settings: Settings, underlying: str, day: dt.date) -> str:
    """What a day depends on, but the vendor's bytes: those are fetched anew only when asked for `again`."""
    return fingerprint(HARVEST_VERSION, SOURCE, fingerprint([choices(settings, underlying, day)]))


def choices(settings: Settings, underlying: str, day: dt.date) -> str:
    """The settings that decide a day's rows, as a fingerprint; `market.harvest` makes the receipt's from those of its days."""
    vendor = settings.tardis
    chosen = (settings.interval_minutes, vendor.max_age_minutes, vendor.prices_seconds, vendor.trades)
    return fingerprint(BACKFILL_VERSION, vendor.endpoint, settings.region, underlying, day, chosen)


def is_done(settings: Settings, lake: Lake, underlying: str, day: dt.date) -> Receipt | None:
    """The day's receipt where it answers these settings and its snapshots are still in the lake or archived, else None."""
    receipt = read_receipt(lake, STAGE, underlying, day.isoformat())
    if receipt is None or receipt.fingerprint != backfill_fingerprint(settings, underlying, day):
        return None
    own = {
        file.snapshot.isoformat()
        for part in (day, day + dt.timedelta(days=1))
        for file in (*snapshot_files(lake, underlying, part), *retained_snapshots(lake, underlying, part))
        if (file.source, file.region) == (SOURCE, settings.region)
    }
    return receipt if own.issuperset(receipt.details["rows_of"]) else None


def backfill_day(
    settings: Settings,
    lake: Lake,
    day: dt.date,
    underlyings: Sequence[str] | None = None,
    *,
    again: bool = False,
    told: Callable[[Progress], None] | None = None,
    now: dt.datetime | None = None,
) -> dict[str, Receipt]:
    """Bring a day of chains, prices, funding and trades into the lake; nothing is fetched where nothing is to do.

    The snapshots are those of the grid after the day's first midnight up to and including its last, which lies in the
    folder of the next day. Rows of other sources stay beside these.

    Args:
        settings: the vendor's, the grid, the region.
        lake: where to; mainnet's.
        day: UTC.
        underlyings: families; default the settings'.
        again: fetch and write even where a receipt says that it is done.
        told: hears of progress; what it raises ends the work, with nothing half-done.
        now: the present, default the clock's.

    Returns:
        A receipt for each family: counts of `snapshots`, `rows`, `bytes`, `prices`, `funding`, `trades`.

    Raises:
        KeyNeededError, NoDataError, ExchangeError: the vendor, see `fetch.fetch`.
        DamagedFileError, ChangedHeaderError: a file, see `header`. A damaged one is fetched a second time first.
        DataError: a value is not what its column should hold, or the day lies in the archive only and would have to be done anew.
        StorageError: the cache or the lake cannot be written.
    """
    wanted = tuple(dict.fromkeys(underlyings or settings.underlyings))
    grid = Grid(day, dt.timedelta(minutes=settings.interval_minutes), dt.timedelta(minutes=settings.tardis.max_age_minutes))
    work = _Day(settings, grid, told or (lambda _: None), Progress(day))
    with _alone(work):
        done = {} if again else {name: receipt for name in wanted if (receipt := is_done(settings, lake, name, day))}
        todo = [name for name in wanted if name not in done]
        if todo:
            _refuse_archived(lake, todo, day)
            if again:
                shutil.rmtree(work.folder, ignore_errors=True)
            done |= _do(work, lake, todo, now or dt.datetime.now(dt.UTC))
        if not settings.tardis.keep_files:
            shutil.rmtree(work.folder, ignore_errors=True)
    work.tell("done", 1.0)
    return {name: done[name] for name in wanted}


def _do(work: _Day, lake: Lake, todo: list[str], now: dt.datetime) -> dict[str, Receipt]:
    rows_of = _chain(work, lake, todo)
    counts = {name: {"prices": 0, "dvol": 0, "funding": 0, "trades": 0} for name in todo}
    has_data = any(rows_of.values())
    if has_data:
        for number, name in enumerate(todo):
            work.tell(f"prices of {name}", 0.8 + 0.1 * number / len(todo))
            found = _ticker(work, name)
            for series, table in found.items():
                counts[name][series] = len(table)
                _write_beside(lake, series, name, work.day, table)
        if work.settings.tardis.trades:
            work.tell("trades", 0.9)
            for name, table in _trades(work, frozenset(todo)).items():
                counts[name]["trades"] = len(table)
                _write_beside(lake, "trades", name, work.day, table)
        _refuse_unsettled(work, now)
    receipts = {}
    for name in todo:
        written = [
            file
            for part in (work.day, work.day + dt.timedelta(days=1))
            for file in snapshot_files(lake, name, part)
            if (file.source, file.region) == (SOURCE, work.settings.region) and file.snapshot.isoformat() in rows_of[name]
        ]
        totals = {"snapshots": len(rows_of[name]), "rows": sum(rows_of[name].values()), "bytes": sum(file.bytes for file in written)}
        state = "done" if rows_of[name] else f"no options of {name}" if has_data else "no data"
        details = {
            "source": SOURCE,
            "region": work.settings.region,
            "interval_seconds": work.grid.interval.total_seconds(),
            "rows_of": rows_of[name],
            "state": state,
            **work.details,
        }
        mark = backfill_fingerprint(work.settings, name, work.day)
        receipts[name] = Receipt(STAGE, name, work.day.isoformat(), mark, totals | counts[name], (), details)
        write_receipt(lake, receipts[name])
    return receipts


def _chain(work: _Day, lake: Lake, todo: list[str]) -> dict[str, dict[str, int]]:
    """Fetch the options of the day and write their snapshots; rows by snapshot, by family."""
    # one snapshot written into a day that lies in the archive would pass for all there is of it
    gone = {name for name in todo if is_retained(lake, "raw", name, work.day + dt.timedelta(days=1))}

    def decode(path: Path, read: Read) -> dict[str, dict[str, int]]:
        rows_of: dict[str, dict[str, int]] = {name: {} for name in todo}
        thinned = Thinned()
        ticks = batches(path, OPTIONS_CHAIN, read, lambda: _tell_read(work, read))
        snapshots = snapshots_of(ticks, work.grid, frozenset(todo), region=work.settings.region, place=str(path), thinned=thinned)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="backfill") as writer:
            pending: deque[Future[FileRecord]] = deque()
            for family, table in snapshots:
                if family in gone and table["snapshot"][0].as_py().date() > work.day:
                    thinned.left_out["of an archived day"] += len(table)
                    continue
                pending.append(writer.submit(write_snapshot, lake, table, replace=True))
                rows_of[family][table["snapshot"][0].as_py().isoformat()] = len(table)
                if len(pending) > _WRITES_AHEAD:
                    pending.popleft().result()
            for write in pending:
                write.result()
        work.details |= {"left_out": dict(thinned.left_out), "no_options": thinned.foreign}
        return rows_of

    return _twice(work, OPTIONS_CHAIN, ALL_OPTIONS, decode)


def _ticker(work: _Day, underlying: str) -> dict[SeriesName, pa.Table]:
    every = dt.timedelta(seconds=work.settings.tardis.prices_seconds)

    def decode(path: Path, read: Read) -> dict[SeriesName, pa.Table]:
        ticks = batches(path, DERIVATIVE_TICKER, read, lambda: work.told(work.progress))
        prices, funding = ticker_series(ticks, work.grid, underlying, prices_every=every, place=str(path))
        return {"prices": prices, "funding": funding}

    try:
        return _twice(work, DERIVATIVE_TICKER, perpetual_of(underlying), decode)
    except NoDataError:
        work.details["missing"].append(f"{DERIVATIVE_TICKER.name} {perpetual_of(underlying)}")
        return {}


def _trades(work: _Day, families: frozenset[str]) -> dict[str, pa.Table]:
    def decode(path: Path, read: Read) -> dict[str, pa.Table]:
        thinned = Thinned()
        ticks = batches(path, TRADES, read, lambda: work.told(work.progress))
        found = trades_of(ticks, work.grid, families, place=str(path), left_out=thinned.left_out)
        work.details["trades_left_out"] = {reason: count for reason, count in thinned.left_out.items() if count}
        return found

    try:
        return _twice(work, TRADES, ALL_OPTIONS, decode)
    except NoDataError:
        work.details["missing"].append(f"{TRADES.name} {ALL_OPTIONS}")
        return {}


def _twice(work: _Day, dataset: Dataset, symbol: str, decode: Callable[[Path, Read], _T]) -> _T:
    """Fetch and decode a file; one that turns out damaged is removed and fetched once more."""
    wanted = work.wanted(dataset, symbol)
    before = work.progress.fetched

    def coming(size: int, waiting: str) -> None:
        work.progress.fetched = before + size
        work.tell(waiting or f"fetching {dataset.name}", work.progress.share)

    for attempt in (1, 2):
        path = fetch(wanted, work.settings.tardis, coming)
        work.progress.fetched = before + path.stat().st_size
        read = Read()
        try:
            found = decode(path, read)
        except DamagedFileError:
            path.unlink(missing_ok=True)
            if attempt == 2:
                raise
            continue
        name = f"{dataset.name} {symbol}"
        work.details["files"][name], work.details["ticks"][name] = path.stat().st_size, read.rows
        if read.strangers:
            work.details["unknown_columns"][dataset.name] = list(read.strangers)
        return found
    raise AssertionError("the second attempt either returned or raised")


def _tell_read(work: _Day, read: Read) -> None:
    work.progress.decoded, work.progress.rows = read.bytes, read.rows
    work.tell("thinning the chain", 0.4 + 0.4 * read.bytes / max(read.size, 1))


def _refuse_archived(lake: Lake, todo: list[str], day: dt.date) -> None:
    """Half of a day here would hide the whole that lies in the archive."""
    if gone := [name for name in todo if is_retained(lake, "raw", name, day)]:
        raise DataError(
            f"{day} of {', '.join(gone)} lies in the archive only, made under other settings or again asked for",
            place=lake.root,
            remedy=f"bring it back first: options-agent archive restore {gone[0]} {day}",
        )


def _refuse_unsettled(work: _Day, now: dt.datetime) -> None:
    """Of a recent day everything must be there before it is called done."""
    end = dt.datetime.combine(work.day + dt.timedelta(days=1), dt.time(), dt.UTC)
    if work.details["missing"] and now - end < _SETTLED:
        raise NoDataError(
            f"the vendor has not published all of {work.day} yet: {', '.join(work.details['missing'])}",
            remedy="run the backfill again later; a day is ready about 06:00 UTC of the next",
        )


def _write_beside(lake: Lake, name: SeriesName, underlying: str, day: dt.date, table: pa.Table) -> None:
    """Write a day of a series into a file of the vendor's own: what other sources tell of the day stays."""
    if len(table):
        write_series(lake, name, underlying, day, table, SOURCE)


@contextlib.contextmanager
def _alone(work: _Day) -> Iterator[None]:
    """One process and thread at a time does a day; the lock goes with its holder, however that ends."""
    locks = work.folder.parent / "locks"
    try:
        locks.mkdir(parents=True, exist_ok=True)
        stream = (locks / f"{work.day}.lock").open("w")
    except OSError as error:
        raise StorageError(
            f"the cache cannot be written: {error.strerror}", place=str(locks), remedy="free disk space, or check it"
        ) from error
    with stream as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                work.tell("another process does this day", 0.0)
                time.sleep(_LOOK_SECONDS)
        yield
