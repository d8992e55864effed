"""Which format a file has, by its columns alone: never by its name, never by guessing past a missing column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from options_agent.errors import DataError
from options_agent.market.recorded import (
    book_summaries,
    deribit_sweeps,
    files,
    series,
    tardis_chain,
    tardis_hours,
    tickers,
)

if TYPE_CHECKING:
    from pathlib import Path

    from options_agent.market.recorded.family import ChainFormat
    from options_agent.market.recorded.series import SeriesFormat


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is no chain and no series, and why it is left alone."""

    name: str
    reason: str
    required: frozenset[str] = frozenset()


CHAINS: Final[tuple[ChainFormat, ...]] = (
    deribit_sweeps.FORMAT,
    tardis_hours.FORMAT,
    tickers.FLAT,
    tickers.NESTED,
    book_summaries.REPLY,
    book_summaries.HARVEST,
    tardis_chain.FORMAT,
)
SERIES_FORMATS: Final[tuple[SeriesFormat, ...]] = (series.BARS, series.DVOL, series.FUNDING)
#: Known, and not chains.
OTHERS: Final[tuple[Skipped, ...]] = (
    Skipped("option trades", "trades, not a chain", frozenset({"trade_seq", "trade_id", "instrument_name", "direction"})),
    Skipped("tardis trades", "trades, not a chain", frozenset({"symbol", "local_timestamp", "id", "side", "price", "amount"})),
    Skipped(
        "tardis book changes", "order book changes, not a chain", frozenset({"symbol", "local_timestamp", "is_snapshot", "side", "price"})
    ),
    Skipped(
        "tardis derivative ticker",
        "a ticker of futures, not a chain",
        frozenset({"symbol", "local_timestamp", "funding_rate", "predicted_funding_rate"}),
    ),
)


def detect(path: Path) -> ChainFormat | SeriesFormat | Skipped:
    """The format of a file.

    Raises:
        DataError: the file is damaged, or its columns fit no format; the message names the nearest one, the
            columns it expects and those that were found.
    """
    if reason := files.why_not_a_table(path):
        return Skipped("no table", reason)
    columns = files.column_names(path)
    if not columns:
        return Skipped("no data", "an empty file: the vendor had no data")
    found = frozenset(columns)
    known: tuple[ChainFormat | SeriesFormat | Skipped, ...] = (*CHAINS, *SERIES_FORMATS, *OTHERS)
    fitting = [form for form in known if form.required <= found]
    if fitting:
        return max(fitting, key=lambda form: len(form.required))
    nearest = max(known, key=lambda form: len(form.required & found) / len(form.required))
    missing = sorted(nearest.required - found)
    readable = ", ".join([*(form.name for form in CHAINS), *(form.name for form in SERIES_FORMATS)])
    raise DataError(
        f"unknown format; the nearest is {nearest.name!r}, which lacks column(s) {missing}. "
        f"Expected {sorted(nearest.required)}, found {sorted(found)}",
        place=str(path),
        remedy=f"add the missing column(s), or move the file away; formats read: {readable}",
    )
