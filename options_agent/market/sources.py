"""The protocol every source of market data keeps, and the one place that opens them by name."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.errors import DataError, SettingsError
from options_agent.lake.receipts import fingerprint, read_receipt
from options_agent.lake.store import days, open_lake, read_range, read_series, underlyings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from options_agent.lake.receipts import Receipt
    from options_agent.lake.store import Lake
    from options_agent.settings import Network, Settings


class Source(Protocol):
    """Market data of one network. Ranges are half-open, [start, end), of UTC-aware times.

    Sources differ in nothing that a reader of their tables could tell, but the columns `source` and `region`.
    """

    @property
    def name(self) -> str:
        """What stands in the column `source`."""

    @property
    def network(self) -> Network:
        """What stands in the column `network`."""

    @property
    def live(self) -> bool:
        """Whether `latest` answers: the source goes on as time does."""

    def underlyings(self) -> tuple[str, ...]:
        """Families there are chains of."""

    def span(self, underlying: str) -> tuple[dt.datetime, dt.datetime] | None:
        """First and last snapshot there is; None where the source has no end."""

    def interval(self, underlying: str) -> dt.timedelta:
        """Spacing of the snapshot grid."""

    def snapshots(self, underlying: str, start: dt.datetime, end: dt.datetime) -> Iterator[pa.Table]:
        """Quote tables, one per snapshot whose grid time lies in the range, ascending.

        Raises:
            DataError: the family is unknown, or the data behind cannot be read.
        """

    def latest(self, underlying: str, now: dt.datetime) -> pa.Table | None:
        """The newest snapshot known at `now`, or None. Raises DataError where the source is not live."""

    def prices(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """`PRICE_SCHEMA` rows known in the range, ascending."""

    def dvol(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """`DVOL_SCHEMA` rows known in the range, ascending."""

    def funding(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """`FUNDING_SCHEMA` rows known in the range, ascending."""

    def fingerprint(self, underlying: str, start: dt.datetime, end: dt.datetime) -> str:
        """Changes when the data of the range would."""


@runtime_checkable
class DayFileSource(Protocol):
    """A source whose files hold a day of every family: one pass harvests all, so it does so itself."""

    def backfill_day(self, lake: Lake, underlying: str, day: dt.date) -> Receipt:
        """The receipt of the family's day, which the pass of another family may have left already."""


def open_source(settings: Settings) -> Source:
    """The source that `settings.source` names.

    Raises:
        SettingsError: it lacks a setting it needs.
        DataError: the recorded files cannot be read or are of no known format.
    """
    if settings.source == "synthetic":
        from options_agent.market.synthetic.source import SyntheticSource

        return SyntheticSource(
            settings.synthetic,
            interval=dt.timedelta(minutes=settings.interval_minutes),
            live_interval=dt.timedelta(minutes=settings.live_interval_minutes),
            region=settings.region,
        )
    if settings.source == "recorded":
        if settings.recorded.path is None:
            raise SettingsError(
                "source 'recorded' needs to know where the recorded chains are",
                place="OPTIONS_AGENT_RECORDED__PATH",
                remedy="set it to a file or folder, or run `options-agent run --data PATH`",
            )
        from options_agent.market.recorded.source import RecordedSource

        return RecordedSource(settings.recorded, network=settings.network, region=settings.region)
    if settings.source == "deribit":
        from options_agent.market.deribit.source import DeribitSource

        return DeribitSource(settings)
    if settings.source == "tardis":
        from options_agent.market.tardis.source import open_tardis

        return open_tardis(settings)
    return LakeSource(open_lake(settings))


def day_range(day: dt.date) -> tuple[dt.datetime, dt.datetime]:
    """[midnight, next midnight) UTC of a day."""
    start = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
    return start, start + dt.timedelta(days=1)


def days_of(start: dt.datetime, end: dt.datetime) -> Iterator[dt.date]:
    """Days that [start, end) touches.

    Raises:
        DataError: a time is naive.
    """
    if start.tzinfo is None or end.tzinfo is None:
        raise DataError(f"the range {start} to {end} is naive; every time here is UTC-aware", remedy="pass datetimes with tzinfo=UTC")
    day = start.astimezone(dt.UTC).date()
    while day_range(day)[0] < end:
        yield day
        day += dt.timedelta(days=1)


def by_snapshot(table: pa.Table) -> Iterator[pa.Table]:
    """Split a quote table into its snapshots, ascending; the order of rows within each is kept."""
    stamps = np.asarray(table["snapshot"].combine_chunks().cast(pa.int64()))
    order = np.argsort(stamps, kind="stable")
    table, stamps = table.take(pa.array(order)), stamps[order]
    bounds = [0, *(np.flatnonzero(stamps[1:] != stamps[:-1]) + 1).tolist(), stamps.size]
    for first, last in itertools.pairwise(bounds):
        if last > first:
            yield table.slice(first, last - first)


@dataclass(frozen=True, slots=True)
class LakeSource:
    """The lake reads back as a source: its clean quotes and its series."""

    lake: Lake
    name: str = "lake"
    live: bool = False

    @property
    def network(self) -> Network:
        """The lake's own."""
        return self.lake.network  # type: ignore[return-value]

    def underlyings(self) -> tuple[str, ...]:
        """Families with clean quotes."""
        return tuple(underlyings(self.lake, "clean"))

    def span(self, underlying: str) -> tuple[dt.datetime, dt.datetime] | None:
        """First and last clean snapshot."""
        found = self._days(underlying)
        first = read_range(self.lake, "clean", underlying, found[0], found[0], columns=["snapshot"])
        last = read_range(self.lake, "clean", underlying, found[-1], found[-1], columns=["snapshot"])
        return pc.min(first["snapshot"]).as_py(), pc.max(last["snapshot"]).as_py()

    def interval(self, underlying: str) -> dt.timedelta:
        """Median spacing of the snapshots of the newest week."""
        found = self._days(underlying)
        rows = read_range(self.lake, "clean", underlying, found[-min(7, len(found))], found[-1], columns=["snapshot"])
        stamps = np.unique(np.asarray(rows["snapshot"].combine_chunks().cast(pa.int64())))
        return dt.timedelta(microseconds=int(np.median(np.diff(stamps)))) if stamps.size > 1 else dt.timedelta(hours=1)

    def snapshots(self, underlying: str, start: dt.datetime, end: dt.datetime) -> Iterator[pa.Table]:
        """Clean quotes, without what quality added to them."""
        from options_agent.quotes import QUOTE_SCHEMA

        present = set(self._days(underlying))
        for day in days_of(start, end):
            if day in present:
                rows = read_range(self.lake, "clean", underlying, day, day, columns=QUOTE_SCHEMA.names)
                inside = pc.and_(pc.greater_equal(rows["snapshot"], pa.scalar(start)), pc.less(rows["snapshot"], pa.scalar(end)))
                yield from by_snapshot(rows.filter(inside))

    def latest(self, underlying: str, now: dt.datetime) -> pa.Table | None:
        """Not live: what is in the lake is in the lake."""
        raise DataError("the lake is not a live source", place=self.lake.root, remedy="harvest from a live source into it")

    def prices(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """See `Source.prices`."""
        return read_series(self.lake, "prices", underlying, start, end)

    def dvol(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """See `Source.dvol`."""
        return read_series(self.lake, "dvol", underlying, start, end)

    def funding(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """See `Source.funding`."""
        return read_series(self.lake, "funding", underlying, start, end)

    def fingerprint(self, underlying: str, start: dt.datetime, end: dt.datetime) -> str:
        """From the quality receipts of the range."""
        marks = [r.fingerprint for d in days_of(start, end) if (r := read_receipt(self.lake, "quality", underlying, d.isoformat()))]
        return fingerprint("lake", underlying, start, end, marks)

    def _days(self, underlying: str) -> list[dt.date]:
        found = days(self.lake, "clean", underlying)
        if not found:
            raise DataError(
                f"the lake has no clean quotes of {underlying!r}",
                place=self.lake.root,
                remedy=f"harvest it first; there are {underlyings(self.lake, 'clean')}",
            )
        return found
