"""Ticks of the option chain, thinned to the grid: per instrument the last row that had arrived by each grid time.

A day's file answers for the grid times after its first midnight up to and including its last. The day starts with what
was heard that day only: nothing is carried over midnight, so each file alone decides its snapshots, in whatever order
days are done. Memory holds the latest row of each instrument.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.contracts import Option, format_name, parse_option
from options_agent.errors import DataError
from options_agent.market.recorded.columns import Columns
from options_agent.quotes import UTC_US, quote_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SOURCE: Final = "tardis"
_SECOND_US: Final = 1_000_000
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: Blocks held before only the latest rows are copied out of them: a fold costs a pass over every instrument.
_FOLD_EVERY: Final = 16
_NAMES_KEPT: Final = 20
#: Name of the exchange's own index where a row's forward is that index.
_INDEX_NAME: Final = "index_price"


@dataclass(frozen=True, slots=True)
class Grid:
    """Which snapshots a day's file answers for, and how old a row may be in them."""

    day: dt.date
    interval: dt.timedelta
    max_age: dt.timedelta

    @property
    def start_us(self) -> int:
        """Midnight, microseconds since 1970."""
        return (self.day - _EPOCH.date()).days * 86_400 * _SECOND_US

    @property
    def step_us(self) -> int:
        """Spacing, microseconds."""
        return self.interval // dt.timedelta(microseconds=1)

    @property
    def slots(self) -> range:
        """Grid times of the day, as multiples of the spacing since 1970: after its first midnight, up to its last."""
        return range(self.start_us // self.step_us + 1, (self.start_us + 86_400 * _SECOND_US) // self.step_us + 1)

    def instant(self, slot: int) -> dt.datetime:
        """The grid time of a slot."""
        return _EPOCH + slot * self.interval


@dataclass(slots=True)
class Thinned:
    """What was left out of a day's snapshots, by reason, and some names that are no option's."""

    left_out: Counter[str] = field(default_factory=Counter)
    foreign: list[str] = field(default_factory=list)


def snapshots_of(
    batches: Iterable[pa.RecordBatch], grid: Grid, families: frozenset[str], *, region: str, place: str, thinned: Thinned
) -> Iterator[tuple[str, pa.Table]]:
    """Quote tables by family and grid time, ascending in time, while the ticks come.

    A row of the same instrument that arrived later takes the former's place. Expired instruments, and those not heard
    of for `grid.max_age`, are not in a snapshot; a family without any row has none.

    Args:
        batches: columns of `OPTIONS_CHAIN.read`, ordered by arrival.
        grid: the day, the spacing and the greatest age.
        families: which underlyings to keep; the file holds all of the exchange.
        region: what stands in the column `region`.
        place: the file, for errors.
        thinned: counts what is left out.

    Raises:
        DataError: a kept value is not what its column should hold, or no row of the whole file is an option's.
    """
    latest = _Latest(grid, families, thinned)
    for batch in batches:
        for slot, rows, listed in latest.feed(batch):
            yield from _by_family(rows, listed, grid.instant(slot), region, place, thinned)
    for slot, rows, listed in latest.rest():
        yield from _by_family(rows, listed, grid.instant(slot), region, place, thinned)
    if thinned.foreign and not latest.has_options:
        raise DataError(
            f"no row of the file is an option's; names are like {thinned.foreign[:3]}",
            place=place,
            remedy="the vendor may have changed how it writes symbols: compare with options_agent.contracts.parse_option",
        )


@dataclass(frozen=True, slots=True)
class _Listed:
    """What an instrument's name says, parsed once a day."""

    name: str
    option: Option
    strike: float
    expiry_us: int


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of some ticks, ascending, and the code of each one's instrument."""

    ticks: pa.Table
    rows: np.ndarray
    codes: np.ndarray


class _Latest:
    """The latest row of each instrument, as the ticks go by."""

    def __init__(self, grid: Grid, families: frozenset[str], thinned: Thinned) -> None:
        self.has_options = False
        self._grid, self._families, self._thinned = grid, families, thinned
        self._slot = grid.slots.start
        self._parts: list[_Part] = []
        self._code_of: dict[str, int] = {}  # of a symbol; -1 where it is not kept
        self._listed: list[_Listed] = []

    def feed(self, batch: pa.RecordBatch) -> Iterator[tuple[int, pa.Table, list[_Listed]]]:
        """Take in ticks; gives the grid times they leave behind, with the rows that had arrived by each, and their instruments."""
        arrived = batch.column("local_timestamp")
        symbols = batch.column("symbol")
        if arrived.null_count or symbols.null_count:
            raise DataError("a row has no symbol or no local_timestamp", remedy="the vendor's file is not as published: fetch it again")
        instants = np.from_dlpack(arrived)
        known = self._code_of
        names = symbols.dictionary.to_pylist()
        codes = np.array([known[name] if name in known else self._learn(name) for name in names], np.int64)[np.from_dlpack(symbols.indices)]
        keep = codes >= 0
        slots = np.maximum((instants + (self._grid.step_us - 1)) // self._grid.step_us, self._grid.slots.start)
        outside = keep & ((instants < self._grid.start_us) | (slots >= self._grid.slots.stop))
        late = keep & ~outside & (slots < np.maximum.accumulate(np.concatenate(([self._slot], np.where(outside, 0, slots))))[1:])
        self._count("arrived outside the day", outside)
        self._count("out of order", late)
        rows = np.flatnonzero(keep & ~outside & ~late)
        ticks = pa.Table.from_batches([batch])
        for part in np.split(rows, np.flatnonzero(np.diff(slots[rows])) + 1):
            if part.size:
                yield from self._leave_behind(int(slots[part[0]]))
                self._parts.append(_Part(ticks, part, codes[part]))
        if len(self._parts) > _FOLD_EVERY:
            self._fold()

    def rest(self) -> Iterator[tuple[int, pa.Table, list[_Listed]]]:
        """The grid times that are left when the file ends."""
        yield from self._leave_behind(self._grid.slots.stop)

    def _leave_behind(self, slot: int) -> Iterator[tuple[int, pa.Table, list[_Listed]]]:
        while self._slot < slot:
            self._fold()
            for latest in self._parts:  # one, or none
                yield self._slot, latest.ticks, [self._listed[code] for code in latest.codes.tolist()]
            self._slot += 1

    def _fold(self) -> None:
        """One part of the latest rows, copied out of their blocks, without those that no later snapshot may hold."""
        owner, row = np.full(len(self._listed), -1, np.int64), np.zeros(len(self._listed), np.int64)
        for number, part in enumerate(self._parts):
            owner[part.codes], row[part.codes] = number, part.rows  # of one instrument's rows the last stays
        at = self._slot * self._grid.step_us
        alive = np.array([listed.expiry_us > at for listed in self._listed], bool)
        tables, codes = [], []
        for number, part in enumerate(self._parts):
            own = np.flatnonzero((owner == number) & alive)
            rows = part.ticks.take(pa.array(row[own]))
            fresh = np.from_dlpack(rows["local_timestamp"].combine_chunks()) >= at - self._grid.max_age // dt.timedelta(microseconds=1)
            tables.append(rows.filter(pa.array(fresh)))
            codes.append(own[fresh])
        held = np.concatenate(codes) if codes else np.empty(0, np.int64)
        self._parts = [_Part(pa.concat_tables(tables).combine_chunks(), np.arange(held.size), held)] if held.size else []

    def _learn(self, name: str) -> int:
        """The code of a symbol that was not met before."""
        code = -1
        try:
            option = parse_option(name)
        except DataError:
            if len(self._thinned.foreign) < _NAMES_KEPT:
                self._thinned.foreign.append(name)
        else:
            self.has_options = True
            if option.underlying in self._families:
                code = len(self._listed)
                expiry_us = (option.expiry - _EPOCH) // dt.timedelta(microseconds=1)
                self._listed.append(_Listed(format_name(option), option, float(option.strike), expiry_us))
        self._code_of[name] = code
        return code

    def _count(self, reason: str, mask: np.ndarray) -> None:
        if count := int(mask.sum()):
            self._thinned.left_out[reason] += count


def _by_family(
    rows: pa.Table, listed: list[_Listed], snapshot: dt.datetime, region: str, place: str, thinned: Thinned
) -> Iterator[tuple[str, pa.Table]]:
    """The rows as quotes, a table a family."""
    table = _quotes(rows, listed, snapshot, region, place, thinned)
    for family in sorted(pc.unique(table["underlying"]).to_pylist()):
        yield family, table.filter(pc.equal(table["underlying"], family))


def _quotes(rows: pa.Table, listed: list[_Listed], snapshot: dt.datetime, region: str, place: str, thinned: Thinned) -> pa.Table:
    columns = Columns(pl.DataFrame(pl.from_arrow(rows.drop_columns("symbol"))), place)
    strikes = pl.Series([one.strike for one in listed], dtype=pl.Float64)
    expiries = pl.Series([one.expiry_us for one in listed], dtype=pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    rights = pl.Series([one.option.right for one in listed], dtype=pl.String)
    true = (
        (columns.number("strike_price") == strikes) & (columns.instant("expiration", "us") == expiries) & (columns.right("type") == rights)
    ).fill_null(value=False)
    forward = columns.given("underlying_price")
    is_index = columns.table["underlying_index"].str.to_lowercase().eq_missing(_INDEX_NAME)
    count = len(listed)
    table = quote_table(
        {
            "ts": columns.instant("local_timestamp", "us").to_arrow(),
            "snapshot": pa.repeat(pa.scalar(snapshot, UTC_US), count),
            "underlying": pa.array([one.option.underlying for one in listed], pa.string()),
            "instrument": pa.array([one.name for one in listed], pa.string()),
            "expiry": expiries.to_arrow(),
            "strike": strikes.to_arrow(),
            "right": rights.to_arrow(),
            "settlement": pa.array([one.option.settlement for one in listed], pa.string()),
            "bid": columns.given("bid_price").to_arrow(),
            "ask": columns.given("ask_price").to_arrow(),
            "mark": columns.given("mark_price").to_arrow(),
            "bid_size": columns.given("bid_amount").to_arrow(),
            "ask_size": columns.given("ask_amount").to_arrow(),
            **{name: columns.volatility(name, percent=True).to_arrow() for name in ("bid_iv", "ask_iv", "mark_iv")},
            **{name: columns.number(name).to_arrow() for name in ("delta", "gamma", "vega", "theta", "open_interest")},
            "forward": forward.to_arrow(),
            "index": forward.set(~is_index, None).to_arrow(),
            "source": pa.repeat(SOURCE, count),
            "network": pa.repeat("mainnet", count),
            "region": pa.repeat(region, count),
        },
        place=place,
    )
    if not true.all():
        thinned.left_out["name, strike, expiry and type contradict each other"] += int((~true).sum())
        believed = [one.name for one, ok in zip(listed, true.to_list(), strict=True) if ok]
        table = table.filter(pc.is_in(table["instrument"], pa.array(believed, pa.string())))
    return table
