"""What a family of chain files is: the columns it is known by and the function that decodes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import polars as pl

from options_agent.market.recorded import files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from options_agent.market.recorded.columns import Columns, Unit

#: Columns of the quote table that a family's `decode` may fill; those it does not are null.
MEASURES: Final = (
    "bid",
    "ask",
    "mark",
    "bid_size",
    "ask_size",
    "bid_iv",
    "ask_iv",
    "mark_iv",
    "delta",
    "gamma",
    "vega",
    "theta",
    "forward",
    "index",
    "open_interest",
    "volume_24h",
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Rows of a file as its recorder wrote them, how many it holds, and those left out on the way, by reason."""

    table: pl.DataFrame
    rows: int
    left_out: Counter[str] = field(default_factory=Counter)


def load_whole(path: Path, columns: Sequence[str]) -> Loaded:
    """Every row of a file."""
    table = files.read_columns(path, columns)
    return Loaded(table, table.height)


@dataclass(frozen=True, slots=True)
class ChainFormat:
    """A family of chain files.

    Args:
        name: what `options-agent import` calls it.
        about: one line for people.
        required: columns that tell the family; all must be there.
        optional: columns read where they are there.
        keys: columns that say when, what and at which index: enough for the catalogue.
        decode: from a recorder's columns to `ts`, `snapshot`, `name` and `MEASURES`, row for row.
        load: how rows are read; families that must be thinned bring their own.
        time: the column (and its unit, where it counts) whose range a big Parquet file can be cut by; None
            where a row's snapshot depends on its neighbours in the file.
        strays: from (underlying, snapshot, rows) of a file, which snapshots are no part of the record.
    """

    name: str
    about: str
    required: frozenset[str]
    keys: tuple[str, ...]
    decode: Callable[[Columns], pl.DataFrame]
    optional: tuple[str, ...] = ()
    load: Callable[[Path, Sequence[str]], Loaded] = load_whole
    time: tuple[str, Unit | None] | None = None
    strays: Callable[[pl.DataFrame], pl.Series] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read."""
        return (*sorted(self.required), *self.optional)


def sweep_starts(ts: pl.Series, name: pl.Series) -> pl.Series:
    """Per row, when its sweep began, floored to the minute: a sweep ends where a name comes again.

    Rows are in file order. Recorders that append write several sweeps into one file.
    """
    rows = pl.DataFrame({"ts": ts, "name": name})
    sweeps = rows.with_columns(sweep=pl.int_range(pl.len()).over("name")).with_columns(pl.col("sweep").cum_max())
    return sweeps.select(pl.col("ts").min().over("sweep").dt.truncate("1m"))["ts"]
