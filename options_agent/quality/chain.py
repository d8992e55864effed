"""A quote table as plain arrays, with the codes and orders that rules group rows by.

Nulls become NaN, `NO_TIME` or -1; nothing is judged here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from options_agent.contracts import SECONDS_PER_YEAR, parse_option, settlement_of, specification
from options_agent.errors import DataError
from options_agent.quotes import FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from options_agent.quality.thresholds import Learnt

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.int32]
Kinds = NDArray[np.int8]

#: A missing time.
NO_TIME: Final = int(np.iinfo(np.int64).min)
MICROSECONDS: Final = 1_000_000
NUMBERS: Final = tuple(f.name for f in FIELDS if pa.types.is_float64(f.type))
TEXTS: Final = tuple(f.name for f in FIELDS if pa.types.is_string(f.type))
RIGHTS: Final = ("C", "P")
SETTLEMENTS: Final = ("coin", "usdc")


@dataclass(frozen=True)
class Chain:
    """Rows of one or many snapshots. Arrays have shape (rows,); codes index `instruments` and `families`.

    `harvester` codes (source, region) pairs; `right` and `settles` index `RIGHTS` and `SETTLEMENTS`, -1 for anything else.
    `network` is the one the rows should be of, None where any will do;
    `learnt` are thresholds by underlying. `kept` is for what checks work out together.
    """

    table: pa.Table
    ts: Ints
    snapshot: Ints
    expiry: Ints
    instrument: Codes
    family: Codes
    harvester: Ints
    right: Kinds
    settles: Kinds
    instruments: tuple[str | None, ...]
    families: tuple[str | None, ...]
    harvesters: tuple[tuple[str | None, str | None], ...]
    network: str | None = None
    learnt: Mapping[str, Learnt] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.table)

    def number(self, name: str) -> Floats:
        """A numeric column; null is NaN."""
        return self._numbers[name]

    @cached_property
    def _numbers(self) -> dict[str, Floats]:
        return {name: _floats(self.table.column(name)) for name in NUMBERS if name in self.table.column_names}

    @cached_property
    def is_call(self) -> Bools:
        """Whether the row says it is a call."""
        is_call: Bools = self.right == 0
        return is_call

    @cached_property
    def years(self) -> Floats:
        """Time from `ts` to expiry in years of 365 days; 0 where past, NaN where either is missing."""
        years: Floats = np.maximum(self.expiry - self.ts, 0) / (MICROSECONDS * SECONDS_PER_YEAR)
        years[(self.expiry == NO_TIME) | (self.ts == NO_TIME)] = np.nan
        return years

    @cached_property
    def is_linear(self) -> Bools:
        """Whether prices are in USDC rather than in coin."""
        is_linear: Bools = self.settles == 1
        return is_linear

    @cached_property
    def coin(self) -> Floats:
        """What turns a price of the row into coin: 1 for inverse rows, 1 / forward for linear ones (NaN without a forward)."""
        if not self.is_linear.any():
            return np.ones(len(self))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.is_linear, 1.0 / self.number("forward"), 1.0)

    @cached_property
    def tick_grid(self) -> tuple[Floats, Floats, Floats]:
        """Base tick of each family (NaN: only the exchange knows), and its steps, equally many for each: price above which, tick."""
        known = [specification(name) if name else None for name in self.families]
        most = max((len(spec.tick_steps) for spec in known if spec), default=0)
        base, above, step = np.full(len(known), np.nan), np.full((len(known), most), np.inf), np.full((len(known), most), np.nan)
        for code, spec in enumerate(known):
            if spec is not None:
                base[code] = spec.tick
                for n, (price, tick) in enumerate(spec.tick_steps):
                    above[code, n], step[code, n] = price * (1.0 + 1e-9), tick
        return base, above.ravel(), step.ravel()

    @cached_property
    def by_expiry(self) -> Ints:
        """Row numbers in order of (harvester, snapshot, family, expiry, strike, right); stable."""
        from options_agent.quality.row_kernels import order_by_expiry

        strike, order = self.number("strike"), np.empty(len(self), np.int64)
        if order_by_expiry(self.harvester, self.snapshot, self.family, self.expiry, strike, self.is_call, order):
            return order
        keys = (self.harvester, self.snapshot, self.family, self.expiry, strike, self.is_call.astype(np.int64))
        return np.argsort(_rank(*keys), kind="stable")

    @cached_property
    def series(self) -> Ints:
        """Code of the row's instrument from its harvester: rows of one code are one thing watched over time."""
        return self.harvester * max(len(self.instruments), 1) + self.instrument

    @cached_property
    def by_snapshot(self) -> Ints | None:
        """Row numbers in order of snapshot, stable; None where the rows lie so."""
        from options_agent.quality.row_kernels import ascends

        return None if ascends(self.snapshot) else np.argsort(self.snapshot, kind="stable")

    def text_is(self, name: str, text: str) -> Bools:
        """Rows of a text column that hold `text`; null does not."""
        is_it: Bools = _kinds(self.table.column(name), (text,)) == 0
        return is_it


def chain_of(table: pa.Table, network: str | None = None, learnt: Mapping[str, Learnt] | None = None) -> Chain:
    """Take a quote table apart.

    Args:
        table: columns of the quote schema; texts may be dictionaries of texts.
        network: the network all rows should be of.
        learnt: thresholds by underlying.
    """
    instrument, instruments = _codes(table.column("instrument"))
    family, families = _codes(table.column("underlying"))
    source, sources = _codes(table.column("source"))
    region, regions = _codes(table.column("region"))
    return Chain(
        table=table,
        ts=_times(table.column("ts")),
        snapshot=_times(table.column("snapshot")),
        expiry=_times(table.column("expiry")),
        instrument=instrument,
        family=family,
        harvester=source.astype(np.int64) * max(len(regions), 1) + region,
        right=_kinds(table.column("right"), RIGHTS),
        settles=_kinds(table.column("settlement"), SETTLEMENTS),
        instruments=instruments,
        families=families,
        harvesters=tuple((source, region) for source in sources for region in regions),
        network=network,
        learnt=learnt or {},
    )


def told_by_names(chain: Chain) -> tuple[Ints, Floats, Kinds, Codes, Kinds]:
    """What each of `chain.instruments` says: expiry, strike, right (-2: no option's name), family; and what each family settles in."""
    from options_agent.quality.name_kernel import UNREAD, read_names

    count = len(chain.instruments)
    expiry, strike = np.full(count, NO_TIME), np.full(count, np.nan)
    right, family = np.full(count, -2, np.int8), np.full(count, -2, np.int32)
    read_names(*_bytes(chain.instruments), *_bytes(chain.families), expiry, strike, right, family)
    families = {name: code for code, name in enumerate(chain.families)}
    for at in np.flatnonzero(right == UNREAD):
        right[at] = -2
        if (told := _told(chain.instruments[at])) is not None:
            expiry[at], strike[at], right[at], underlying = told
            family[at] = families.get(underlying, -2)
    settles = np.zeros(len(chain.families), np.int8)
    for code, name in enumerate(chain.families):
        try:
            settles[code] = SETTLEMENTS.index(settlement_of(name or ""))
        except DataError:
            continue
    return expiry, strike, right, family, settles


@lru_cache(maxsize=65_536)
def _told(name: str | None) -> tuple[int, float, int, str] | None:
    try:
        option = parse_option(name or "")
    except DataError:
        return None
    return int(option.expiry.timestamp()) * MICROSECONDS, float(option.strike), RIGHTS.index(option.right), option.underlying


def _bytes(texts: tuple[str | None, ...]) -> tuple[NDArray[np.uint8], Codes]:
    """Texts as bytes and the offsets that bound them; null is empty."""
    array = pc.fill_null(pa.array(texts, pa.string()), "")
    _, ends, text = array.buffers()
    return np.frombuffer(text or b"", np.uint8), np.frombuffer(ends, np.int32, len(texts) + 1)


def _codes(column: pa.ChunkedArray) -> tuple[Codes, tuple[str | None, ...]]:
    """Codes of a text column and what they stand for; null has a code of its own, the last."""
    encoded = _dictionary(column)
    values = encoded.dictionary.to_pylist()
    if not encoded.null_count:
        return np.asarray(encoded.indices.to_numpy()), tuple(values)
    return pc.fill_null(encoded.indices, len(values)).to_numpy(), (*values, None)


def _kinds(column: pa.ChunkedArray, choices: tuple[str, ...]) -> Kinds:
    """Which of the choices each text is; -1 for null and others."""
    codes, values = _codes(column)
    kinds = np.array([choices.index(value) if value in choices else -1 for value in values] or [-1], np.int8)
    return np.full(len(codes), kinds[0]) if len(values) == 1 else kinds[codes]


def _dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """The column as one dictionary array with codes of 32 bits, in order of first appearance where it was plain text."""
    if not column.num_chunks:
        return pa.array([], pa.string()).dictionary_encode()
    if pa.types.is_dictionary(column.type):
        return (column.unify_dictionaries() if column.num_chunks > 1 else column).combine_chunks()
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded


def _rank(*columns: Ints | Floats | Codes) -> Ints:
    """One code per combination of values, ordered as the columns are (the first counts most). Shape (rows,)."""
    rank = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        codes, distinct = _ranks(column)
        rank = rank * max(distinct, 1) + codes
    return rank


def _ranks(column: Ints | Floats | Codes) -> tuple[Ints, int]:
    """Rank of every value among the distinct ones, and how many those are (a hash table beats sorting the rows)."""
    encoded = pa.array(column).dictionary_encode()
    distinct = encoded.dictionary.to_numpy()
    ranks = np.empty(len(distinct), dtype=np.int64)
    ranks[np.argsort(distinct, kind="stable")] = np.arange(len(distinct))
    return ranks[encoded.indices.to_numpy()], len(distinct)


def _times(column: pa.ChunkedArray) -> Ints:
    return np.asarray(pc.fill_null(column.cast(pa.int64()), NO_TIME).to_numpy())


@lru_cache(maxsize=4)
def _nothing(count: int) -> Floats:
    """So many NaN, made once: a source without sizes or greeks has none in any chunk."""
    values = np.full(count, np.nan)
    values.setflags(write=False)
    return values


def _floats(column: pa.ChunkedArray) -> Floats:
    if column.null_count == len(column):
        return _nothing(len(column))
    return np.asarray((pc.fill_null(column, np.nan) if column.null_count else column).to_numpy())
