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
#: Partial states folded into one only now and then: a fold costs a pass over every instrument.
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
        for slot, rows in latest.feed(batch):
            yield from _by_family(rows, grid.instant(slot), latest.options, region, place, thinned)
    for slot, rows in latest.rest():
        yield from _by_family(rows, grid.instant(slot), latest.options, region, place, thinned)
    if thinned.foreign and not any(latest.options.values()):
        raise DataError(
            f"no row of the file is an option's; names are like {thinned.foreign[:3]}",
            place=place,
            remedy="the vendor may have changed how it writes symbols: compare with options_agent.contracts.parse_option",
        )


class _Latest:
    """The latest row of each instrument, as the ticks go by."""

    def __init__(self, grid: Grid, families: frozenset[str], thinned: Thinned) -> None:
        self.options: dict[str, Option | None] = {}
        self._grid, self._families, self._thinned = grid, families, thinned
        self._slot = grid.slots.start
        self._parts: list[pa.Table] = []

    def feed(self, batch: pa.RecordBatch) -> Iterator[tuple[int, pa.Table]]:
        """Take in ticks; gives the grid times they leave behind, with the rows that had arrived by each."""
        arrived = batch.column("local_timestamp")
        symbols = batch.column("symbol")
        if arrived.null_count or symbols.null_count:
            raise DataError("a row has no symbol or no local_timestamp", remedy="the vendor's file is not as published: fetch it again")
        instants = np.from_dlpack(arrived)
        wanted = np.array([self._is_wanted(name) for name in symbols.dictionary.to_pylist()], bool)
        codes = np.from_dlpack(symbols.indices)
        keep = wanted[codes]
        slots = np.maximum((instants + (self._grid.step_us - 1)) // self._grid.step_us, self._grid.slots.start)
        outside = keep & ((instants < self._grid.start_us) | (slots >= self._grid.slots.stop))
        late = keep & ~outside & (slots < np.maximum.accumulate(np.concatenate(([self._slot], np.where(outside, 0, slots))))[1:])
        self._count("arrived outside the day", outside)
        self._count("out of order", late)
        rows = np.flatnonzero(keep & ~outside & ~late)
        edges = np.flatnonzero(np.diff(slots[rows])) + 1
        for part in np.split(rows, edges):
            if part.size:
                slot = int(slots[part[0]])
                yield from self._leave_behind(slot)
                self._parts.append(_taken(batch, _last_of_each(codes[part], part)))
        if len(self._parts) > _FOLD_EVERY:
            self._fold()

    def rest(self) -> Iterator[tuple[int, pa.Table]]:
        """The grid times that are left when the file ends."""
        yield from self._leave_behind(self._grid.slots.stop)

    def _leave_behind(self, slot: int) -> Iterator[tuple[int, pa.Table]]:
        while self._slot < slot:
            self._fold()
            if self._parts:
                yield self._slot, self._parts[0]
            self._slot += 1

    def _fold(self) -> None:
        """One table of the latest rows, without those that no later snapshot may hold."""
        if not self._parts:
            return
        rows = pa.concat_tables(self._parts).combine_chunks()
        codes = np.from_dlpack(pc.dictionary_encode(rows["symbol"].combine_chunks()).indices)
        last = np.sort(_last_of_each(codes, np.arange(len(rows))))
        at = self._slot * self._grid.step_us
        fresh = np.from_dlpack(rows["local_timestamp"].combine_chunks())[last] >= at - self._grid.max_age // dt.timedelta(microseconds=1)
        rows = rows.take(pa.array(last[fresh]))
        instant = self._grid.instant(self._slot)
        alive = [(option := self.options[name]) is not None and option.expiry > instant for name in rows["symbol"].to_pylist()]
        rows = rows.filter(pa.array(alive, pa.bool_()))
        self._parts = [rows] if len(rows) else []

    def _is_wanted(self, name: str) -> bool:
        if name not in self.options:
            try:
                self.options[name] = parse_option(name)
            except DataError:
                self.options[name] = None
                if len(self._thinned.foreign) < _NAMES_KEPT:
                    self._thinned.foreign.append(name)
        option = self.options[name]
        return option is not None and option.underlying in self._families

    def _count(self, reason: str, mask: np.ndarray) -> None:
        if count := int(mask.sum()):
            self._thinned.left_out[reason] += count


def _last_of_each(codes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of each code the last of its `rows`."""
    last = np.full(int(codes.max()) + 1 if codes.size else 0, -1, np.int64)
    last[codes] = rows  # of equal codes the last assignment stays
    return np.sort(last[last >= 0])


def _taken(batch: pa.RecordBatch, rows: np.ndarray) -> pa.Table:
    """Rows of a batch, copied out of it, so that the batch can go."""
    table = pa.Table.from_batches([batch.take(pa.array(rows))])
    place = table.schema.get_field_index("symbol")
    return table.set_column(place, "symbol", table["symbol"].cast(pa.string()))


def _by_family(
    rows: pa.Table, snapshot: dt.datetime, options: dict[str, Option | None], region: str, place: str, thinned: Thinned
) -> Iterator[tuple[str, pa.Table]]:
    """The rows as quotes, a table a family."""
    parsed = [option for name in rows["symbol"].to_pylist() if (option := options[name]) is not None]
    families = np.array([option.underlying for option in parsed])
    for family in sorted(set(families.tolist())):
        mask = families == family
        own = [option for option, inside in zip(parsed, mask, strict=True) if inside]
        table = _quotes(rows.filter(pa.array(mask)), own, snapshot, region, place, thinned)
        if len(table):
            yield family, table


def _quotes(rows: pa.Table, options: list[Option], snapshot: dt.datetime, region: str, place: str, thinned: Thinned) -> pa.Table:
    columns = Columns(pl.DataFrame(pl.from_arrow(rows)), place)
    named = pl.DataFrame(
        {
            "strike": [float(option.strike) for option in options],
            "expiry": pl.Series([option.expiry for option in options], dtype=pl.Datetime("us", "UTC")),
            "right": [option.right for option in options],
        }
    )
    true = (
        (columns.number("strike_price") == named["strike"])
        & (columns.instant("expiration", "us") == named["expiry"])
        & (columns.right("type") == named["right"])
    ).fill_null(value=False)
    forward = columns.given("underlying_price")
    is_index = columns.table["underlying_index"].str.to_lowercase().eq_missing(_INDEX_NAME)
    count = len(options)
    table = quote_table(
        {
            "ts": columns.instant("local_timestamp", "us").to_arrow(),
            "snapshot": pa.array([snapshot] * count, UTC_US),
            "underlying": [option.underlying for option in options],
            "instrument": [format_name(option) for option in options],
            "expiry": named["expiry"].to_arrow(),
            "strike": named["strike"].to_arrow(),
            "right": named["right"].to_list(),
            "settlement": [option.settlement for option in options],
            "bid": columns.given("bid_price").to_arrow(),
            "ask": columns.given("ask_price").to_arrow(),
            "mark": columns.given("mark_price").to_arrow(),
            "bid_size": columns.given("bid_amount").to_arrow(),
            "ask_size": columns.given("ask_amount").to_arrow(),
            **{name: columns.volatility(name, percent=True).to_arrow() for name in ("bid_iv", "ask_iv", "mark_iv")},
            **{name: columns.number(name).to_arrow() for name in ("delta", "gamma", "vega", "theta", "open_interest")},
            "forward": forward.to_arrow(),
            "index": forward.set(~is_index, None).to_arrow(),
            "source": [SOURCE] * count,
            "network": ["mainnet"] * count,
            "region": [region] * count,
        },
        place=place,
    )
    if not true.all():
        thinned.left_out["name, strike, expiry and type contradict each other"] += int((~true).sum())
        believed = {format_name(option) for option, ok in zip(options, true.to_list(), strict=True) if ok}
        table = table.filter(pc.is_in(table["instrument"], pa.array(sorted(believed), pa.string())))
    return table
