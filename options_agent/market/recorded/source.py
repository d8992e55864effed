"""Recorded files behind the source protocol: snapshots by file, prices from series and from the chains' own index.

Files are decoded whole and kept while they are being read through; Parquet files too big for that are read a day at
a time. Quotes come out as their recorder wrote them, in the quote table's units; nothing is computed here.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.contracts import coin_of
from options_agent.errors import DataError, SettingsError
from options_agent.lake.receipts import fingerprint
from options_agent.market.recorded import files
from options_agent.market.recorded import series as recorded_series
from options_agent.market.recorded.catalogue import Catalogue, build_catalogue
from options_agent.market.recorded.columns import Columns
from options_agent.market.recorded.family import MEASURES
from options_agent.market.recorded.instruments import resolve
from options_agent.quotes import QUOTE_SCHEMA, SORT_KEYS, sort_quotes
from options_agent.series import SERIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from options_agent.lake.layout import SeriesName
    from options_agent.market.recorded.catalogue import Snapshot
    from options_agent.settings import Network, RecordedSettings

#: Raised whenever the same files would decode to other quotes, so that harvests made before are done again.
READER_VERSION: Final = 1

#: Spacings a recorder can have meant, minutes.
_GRIDS: Final = (1, 5, 10, 15, 30, 60, 120, 180, 240, 360, 480, 720, 1_440, 10_080)
_WHOLE_ROWS: Final = 2_000_000
_KEPT_ROWS: Final = 1_000_000
_MARGIN: Final = dt.timedelta(hours=1)
_SERIES: Final[tuple[SeriesName, ...]] = ("prices", "dvol", "funding")


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Quotes of a file (or of one day of it), snapshot by snapshot in QUOTE order, and where each snapshot lies."""

    quotes: pa.Table
    where: dict[tuple[str, dt.datetime], tuple[int, int]]

    def snapshot(self, underlying: str, at: dt.datetime) -> pa.Table:
        return self.quotes.slice(*self.where[underlying, at])


class RecordedSource:
    """Option chains in files of this or other recorders; see `formats` for what is read.

    Args:
        settings: where the chains are, and optionally where prices, DVOL and funding are.
        network: which network the files were recorded from.
        region: what stands in the column `region`.
        told: called with a file, how many are done and how many there are while the files are looked into.

    Raises:
        SettingsError: no path is set.
        DataError: nothing is there, no file holds a chain, or a file is damaged or of unknown format.
    """

    name: Final = "recorded"
    live: Final = False

    def __init__(
        self,
        settings: RecordedSettings,
        *,
        network: Network = "mainnet",
        region: str = "local",
        told: Callable[[Path, int, int], None] | None = None,
    ) -> None:
        if settings.path is None:
            raise SettingsError(
                "source 'recorded' needs a path",
                place="OPTIONS_AGENT_RECORDED__PATH",
                remedy="set it to a file or folder of recorded chains",
            )
        self.network: Network = network
        self.region = region
        self.path = settings.path.expanduser().resolve()
        self.catalogue: Catalogue = build_catalogue(self.path, files.list_files(self.path), told)
        if not self.catalogue.snapshots and not self.catalogue.series:
            found = "; ".join(f"{report.name}: {report.note or report.format}" for report in self.catalogue.reports[:5])
            raise DataError("no file holds an option chain", place=str(self.path), remedy=f"name a folder that does; found {found}")
        #: The series' catalogue and where it is from: the setting, the path itself, or the folder `prices` beside it.
        self.series_catalogue, self.series_from = self._find_series(settings.prices)
        self._series: dict[str, dict[str, recorded_series.CoinSeries]] = {}
        self._big: dict[Path, bool] = {}
        self._kept: OrderedDict[tuple[Path, dt.date | None], _Decoded] = OrderedDict()

    def underlyings(self) -> tuple[str, ...]:
        """Families with chains, sorted."""
        return tuple(sorted(self.catalogue.snapshots))

    def span(self, underlying: str) -> tuple[dt.datetime, dt.datetime]:
        """First and last snapshot."""
        found = self._snapshots(underlying)
        return found[0].at, found[-1].at

    def interval(self, underlying: str) -> dt.timedelta:
        """Median spacing of the snapshots, rounded to the grid its recorder can have meant; an hour for a single one."""
        stamps = np.array([snapshot.at.timestamp() for snapshot in self._snapshots(underlying)])
        if stamps.size < 2:
            return dt.timedelta(hours=1)
        minutes = float(np.median(np.diff(stamps))) / 60.0
        return dt.timedelta(minutes=min(_GRIDS, key=lambda grid: abs(float(np.log(grid / minutes)))))

    def snapshots(self, underlying: str, start: dt.datetime, end: dt.datetime) -> Iterator[pa.Table]:
        """See `Source.snapshots`. Where several files hold a snapshot, each instrument comes from the first that has it."""
        for snapshot in self._between(underlying, start, end):
            first, *others = [self._decoded(path, snapshot.at).snapshot(underlying, snapshot.at) for path in snapshot.files]
            for other in others:
                fresh = pc.invert(pc.is_in(other["instrument"], first["instrument"].combine_chunks()))
                first = sort_quotes(pa.concat_tables([first, other.filter(fresh)])).combine_chunks()
            yield first

    def latest(self, underlying: str, now: dt.datetime) -> pa.Table | None:
        """Recorded files do not go on.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"recorded files are not a live source of {underlying}",
            place=str(self.path),
            remedy="harvest its days instead, or set OPTIONS_AGENT_SOURCE to a live source",
        )

    def prices(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """See `Source.prices`: closes of the coin's bars, and the index of each chain (kind `chain`, its median over the rows).

        Forwards are no prices of the coin: chains without an index column add nothing.
        """
        bars = self._cut("prices", underlying, start, end)
        early = start - dt.timedelta(days=1)
        points = [
            (snapshot.known, underlying, snapshot.index, "chain", self.name)
            for snapshot in (self._between(underlying, early, end) if underlying in self.catalogue.snapshots else [])
            if snapshot.index is not None and start <= snapshot.known < end
        ]
        chain = pl.DataFrame(points, schema=["ts", "underlying", "price", "kind", "source"], orient="row")
        if not points:
            return bars
        return pa.concat_tables([bars, recorded_series.to_arrow(chain, "prices")]).sort_by([("ts", "ascending"), ("source", "ascending")])

    def dvol(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """See `Source.dvol`."""
        return self._cut("dvol", underlying, start, end)

    def funding(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """See `Source.funding`."""
        return self._cut("funding", underlying, start, end)

    def fingerprint(self, underlying: str, start: dt.datetime, end: dt.datetime) -> str:
        """From the content of the chain files that have snapshots in the range, and the series' rows in it."""
        chains = {path for snapshot in self._between(underlying, start, end) for path in snapshot.files}
        series = [_content_of(self._cut(name, underlying, start, end)) for name in _SERIES]
        hashes = sorted(files.content_hash(path) for path in chains)
        return fingerprint("recorded", READER_VERSION, self.network, self.region, underlying, start, end, hashes, series)

    def series_span(self, name: SeriesName) -> dict[str, tuple[dt.datetime, dt.datetime]]:
        """First and last instant of a series, by coin."""
        return {coin: (own.table["ts"][0].as_py(), own.table["ts"][-1].as_py()) for coin, own in self._coins(name).items()}

    def _find_series(self, chosen: Path | None) -> tuple[Catalogue, str]:
        if chosen is not None:
            folder = chosen.expanduser().resolve()
            return build_catalogue(folder, files.list_files(folder)), f"{folder} (setting)"
        if self.catalogue.series:
            return self.catalogue, f"{self.path} (beside the chains)"
        beside = self.path.parent / "prices"
        if beside.is_dir() and beside != self.path:
            return build_catalogue(beside, files.list_files(beside)), f"{beside} (next to the chains' folder)"
        return self.catalogue, "nowhere: only the chains' own index"

    def _cut(self, name: SeriesName, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        coin = coin_of(underlying)
        return self._coins(name)[coin].cut(underlying, start, end) if coin in self._coins(name) else SERIES[name].empty_table()

    def _coins(self, name: SeriesName) -> dict[str, recorded_series.CoinSeries]:
        if name not in self._series:
            frames = [form.read(path) for path, form in self.series_catalogue.series if form.series == name]
            self._series[name] = recorded_series.by_coin(recorded_series.merge(frames, name), name)
        return self._series[name]

    def _snapshots(self, underlying: str) -> tuple[Snapshot, ...]:
        if underlying not in self.catalogue.snapshots:
            raise DataError(
                f"there is no recorded chain of {underlying!r}",
                place=str(self.path),
                remedy=f"choose among {', '.join(self.underlyings()) or 'none: the files hold series only'}",
            )
        return self.catalogue.snapshots[underlying]

    def _between(self, underlying: str, start: dt.datetime, end: dt.datetime) -> list[Snapshot]:
        return [snapshot for snapshot in self._snapshots(underlying) if start <= snapshot.at < end]

    def _decoded(self, path: Path, at: dt.datetime) -> _Decoded:
        """The file's options, whole or (big Parquet) those of the day of `at`; the most recently used are kept."""
        form = self.catalogue.formats[path]
        if path not in self._big:
            self._big[path] = form.time is not None and (files.row_count(path) or 0) > _WHOLE_ROWS
        big = self._big[path]
        key = (path, at.date() if big else None)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if big and form.time is not None:
            column, unit = form.time
            midnight = dt.datetime.combine(at.date(), dt.time(), dt.UTC)
            bounds = (midnight - _MARGIN, midnight + dt.timedelta(days=1) + _MARGIN)
            first, last = bounds if unit is None else (int(bound.timestamp() * 1_000_000) for bound in bounds)
            table = files.read_parquet_between(path, form.columns, column, first, last)
        else:
            table = form.load(path, form.columns).table
        options, _ = resolve(form.decode(Columns(table, str(path))), str(path))
        constant = {"source": self.name, "network": self.network, "region": self.region}
        absent = {name: pl.lit(None, pl.Float64) for name in MEASURES if name not in options.columns}
        self._kept[key] = _by_snapshot(options.with_columns(**absent, **{name: pl.lit(value) for name, value in constant.items()}))
        while len(self._kept) > 1 and sum(kept.quotes.num_rows for kept in self._kept.values()) > _KEPT_ROWS:
            self._kept.popitem(last=False)
        return self._kept[key]


def _by_snapshot(rows: pl.DataFrame) -> _Decoded:
    """Rows by underlying and snapshot, within each as `quotes.sort_quotes` has them."""
    ordered = rows.select(QUOTE_SCHEMA.names).sort("underlying", "snapshot", *SORT_KEYS, "instrument", maintain_order=True)
    where, first = {}, 0
    for underlying, at, count in ordered.group_by("underlying", "snapshot", maintain_order=True).len().iter_rows():
        where[underlying, at] = (first, count)
        first += count
    return _Decoded(ordered.to_arrow().cast(QUOTE_SCHEMA).combine_chunks(), where)


def _content_of(table: pa.Table) -> str:
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return hashlib.sha256(stream.getvalue()).hexdigest()
