"""A quote table as plain arrays, with the codes and orders that rules group rows by.

Nulls become NaN, `NO_TIME` or -1; nothing is judged here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from options_agent.contracts import SECONDS_PER_YEAR, parse_option, settlement_of, specification
from options_agent.errors import DataError
from options_agent.quotes import FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: A missing time.
NO_TIME: Final = int(np.iinfo(np.int64).min)
MICROSECONDS: Final = 1_000_000
NUMBERS: Final = tuple(f.name for f in FIELDS if pa.types.is_float64(f.type))


@dataclass(frozen=True)
class Chain:
    """Rows of one or many snapshots. Arrays have shape (rows,); codes index `instruments` and `families`.

    `harvester` codes (source, region) pairs. `network` is the one the rows should be of, None where any will do.
    """

    table: pa.Table
    ts: Ints
    snapshot: Ints
    expiry: Ints
    instrument: Ints
    family: Ints
    harvester: Ints
    is_call: Bools
    instruments: tuple[str | None, ...]
    families: tuple[str | None, ...]
    network: str | None = None

    def __len__(self) -> int:
        return len(self.table)

    def number(self, name: str) -> Floats:
        """A numeric column; null is NaN."""
        return self._numbers[name]

    @cached_property
    def _numbers(self) -> dict[str, Floats]:
        return {name: _floats(self.table.column(name)) for name in NUMBERS if name in self.table.column_names}

    @cached_property
    def years(self) -> Floats:
        """Time from `ts` to expiry in years of 365 days; 0 where past, NaN where either is missing."""
        years: Floats = np.maximum(self.expiry - self.ts, 0) / (MICROSECONDS * SECONDS_PER_YEAR)
        years[(self.expiry == NO_TIME) | (self.ts == NO_TIME)] = np.nan
        return years

    @cached_property
    def is_linear(self) -> Bools:
        """Whether prices are in USDC rather than in coin."""
        return equals(self.table.column("settlement"), "usdc")

    @cached_property
    def coin(self) -> Floats:
        """What turns a price of the row into coin: 1 for inverse rows, 1 / forward for linear ones (NaN without a forward)."""
        if not self.is_linear.any():
            return np.ones(len(self))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.is_linear, 1.0 / self.number("forward"), 1.0)

    def ticks_at(self, price: Floats) -> Floats:
        """Tick size that applies at `price`; NaN for families without a known one."""
        ticks = np.full(len(self), np.nan)
        for code, name in enumerate(self.families):
            spec = specification(name) if name else None
            if spec is None:
                continue
            rows = self.family == code if len(self.families) > 1 else slice(None)
            tick = np.full(len(ticks[rows]), spec.tick)
            for above, step in spec.tick_steps:
                tick[price[rows] > above * (1.0 + 1e-9)] = step
            ticks[rows] = tick
        return ticks

    @cached_property
    def by_expiry(self) -> Ints:
        """Row numbers in order of (harvester, snapshot, family, expiry, strike, right); stable."""
        keys = (self.harvester, self.snapshot, self.family, self.expiry, self.number("strike"), self.is_call.astype(np.int64))
        return np.argsort(_rank(*keys), kind="stable")

    @cached_property
    def series(self) -> Ints:
        """Code of the row's instrument from its harvester: rows of one code are one thing watched over time."""
        return self.harvester * max(len(self.instruments), 1) + self.instrument

    @cached_property
    def identity(self) -> Ints:
        """Code of the row's (series, snapshot); ordered as those are."""
        return _rank(self.series, self.snapshot)

    @cached_property
    def by_identity(self) -> Ints:
        """Row numbers in order of (series, snapshot); stable."""
        return np.argsort(self.identity, kind="stable")


def chain_of(table: pa.Table, network: str | None = None) -> Chain:
    """Take a quote table apart.

    Args:
        table: columns of the quote schema.
        network: the network all rows should be of.
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
        harvester=source * max(len(regions), 1) + region if len(sources) else source,
        is_call=equals(table.column("right"), "C"),
        instruments=instruments,
        families=families,
        network=network,
    )


def names_that_disagree(chain: Chain) -> Bools:
    """Rows whose instrument name is not an option's, or says another family, expiry, strike or right than the row."""
    count = len(chain.instruments)
    expiry, strike, is_call, family = np.full(count, NO_TIME), np.full(count, np.nan), np.zeros(count, bool), np.full(count, -2)
    families = {name: code for code, name in enumerate(chain.families)}
    for at, name in enumerate(chain.instruments):
        try:
            option = parse_option(name or "")
        except DataError:
            continue
        expiry[at] = int(option.expiry.timestamp()) * MICROSECONDS
        strike[at] = float(option.strike)
        is_call[at] = option.right == "C"
        family[at] = families.get(option.underlying, -2)
    code = chain.instrument
    with np.errstate(invalid="ignore"):
        same_strike = np.abs(chain.number("strike") - strike[code]) <= 1e-9 * strike[code]
    named = (expiry[code] == chain.expiry) & same_strike & (family[code] == chain.family)
    right = np.where(is_call[code], equals(chain.table.column("right"), "C"), equals(chain.table.column("right"), "P"))
    disagree: Bools = ~(named & right & _settles_as_named(chain))
    return disagree


def _settles_as_named(chain: Chain) -> Bools:
    linear = np.zeros(max(len(chain.families), 1), bool)
    for code, name in enumerate(chain.families):
        try:
            linear[code] = settlement_of(name or "") == "usdc"
        except DataError:
            continue
    return np.where(linear[chain.family], chain.is_linear, equals(chain.table.column("settlement"), "coin"))


def _codes(column: pa.ChunkedArray) -> tuple[Ints, tuple[str | None, ...]]:
    """Codes of a text column and what they stand for; null has a code of its own, the last."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = pa.concat_arrays(encoded.chunks) if encoded.num_chunks else pa.array([], pa.dictionary(pa.int32(), pa.string()))
    values: Sequence[str | None] = encoded.dictionary.to_pylist()
    codes = pc.fill_null(encoded.indices, len(values)).to_numpy().astype(np.int64)
    return codes, (*values, None) if encoded.null_count else tuple(values)


def _rank(*columns: Ints | Floats) -> Ints:
    """One code per combination of values, ordered as the columns are (the first counts most). Shape (rows,)."""
    rank = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        codes, distinct = _ranks(column)
        rank = rank * max(distinct, 1) + codes
    return rank


def _ranks(column: Ints | Floats) -> tuple[Ints, int]:
    """Rank of every value among the distinct ones, and how many those are (a hash table beats sorting the rows)."""
    encoded = pa.array(column).dictionary_encode()
    distinct = encoded.dictionary.to_numpy()
    ranks = np.empty(len(distinct), dtype=np.int64)
    ranks[np.argsort(distinct, kind="stable")] = np.arange(len(distinct))
    return ranks[encoded.indices.to_numpy()], len(distinct)


def _times(column: pa.ChunkedArray) -> Ints:
    return np.asarray(pc.fill_null(column.cast(pa.int64()), NO_TIME).to_numpy())


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray((pc.fill_null(column, np.nan) if column.null_count else column).to_numpy())


def equals(column: pa.ChunkedArray, text: str) -> Bools:
    """Rows of a text column that hold `text`; null does not."""
    return np.asarray(pc.fill_null(pc.equal(column, text), False).to_numpy(zero_copy_only=False))
