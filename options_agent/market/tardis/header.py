"""The vendor's datasets: their columns as published, and what to do when a file has others.

Units: microseconds UTC, volatilities in percent, an empty cell is null. Rows are ordered by `local_timestamp`, the
instant they arrived at the vendor's recorder; `timestamp` is the exchange's own.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from options_agent.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

#: The smallest gzip there is: header and trailer around nothing.
_LEAST_GZIP: Final = 18
_LONGEST_HEADER: Final = 1 << 16
FETCH_AGAIN: Final = "run the same backfill again: the damaged file was removed and is fetched anew"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data type of the vendor: its published columns, and those that are read here."""

    name: str
    columns: tuple[str, ...]
    read: tuple[str, ...]


_CHAIN: Final = (
    "exchange,symbol,timestamp,local_timestamp,type,strike_price,expiration,open_interest,last_price,bid_price,bid_amount,bid_iv,"
    "ask_price,ask_amount,ask_iv,mark_price,mark_iv,underlying_index,underlying_price,delta,gamma,vega,theta,rho"
)
_TICKER: Final = (
    "exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,predicted_funding_rate,open_interest,last_price,"
    "index_price,mark_price"
)
_TRADES: Final = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"


def _dataset(name: str, header: str, unread: set[str]) -> Dataset:
    columns = tuple(header.split(","))
    return Dataset(name, columns, tuple(column for column in columns if column not in unread))


OPTIONS_CHAIN: Final = _dataset("options_chain", _CHAIN, {"exchange", "timestamp", "last_price", "rho"})
DERIVATIVE_TICKER: Final = _dataset(
    "derivative_ticker",
    _TICKER,
    {"exchange", "timestamp", "funding_timestamp", "predicted_funding_rate", "open_interest", "last_price"},
)
TRADES: Final = _dataset("trades", _TRADES, {"exchange"})


class DamagedFileError(DataError):
    """A fetched file is truncated or corrupt: another fetch may mend it."""


class ChangedHeaderError(DataError):
    """A file lacks columns that are read: no other fetch mends it."""


def header_of(path: Path, dataset: Dataset) -> tuple[str, ...]:
    """Column names of a fetched file; nothing where it is an empty gzip, the vendor's way to say that there is no data.

    Columns that the vendor did not publish, or did and that are not read, are no reason to refuse a file: see `strangers`.

    Raises:
        DamagedFileError: it is no gzip, or is cut within its first line.
        ChangedHeaderError: a column that is read is missing; both it and the unknown ones are named.
    """
    try:
        if path.stat().st_size < _LEAST_GZIP:
            raise DamagedFileError(f"the file has {path.stat().st_size} bytes and is no gzip", place=str(path), remedy=FETCH_AGAIN)
        with gzip.open(path, "rb") as stream:
            line = stream.readline(_LONGEST_HEADER)
    except (OSError, EOFError, zlib.error) as error:
        raise DamagedFileError(f"the file is truncated or corrupt: {error}", place=str(path), remedy=FETCH_AGAIN) from error
    if not line:
        return ()
    names = tuple(name.strip().strip('"') for name in line.decode("utf-8", "replace").rstrip("\r\n").split(","))
    missing = [name for name in dataset.read if name not in names]
    if missing:
        unknown = [name[:40] for name in names if name not in dataset.columns]
        raise ChangedHeaderError(
            f"the vendor changed the header of {dataset.name}: missing {missing}, unknown {unknown}",
            place=str(path),
            remedy="compare with the vendor's changelog, then map the new names in options_agent/market/tardis/header.py",
        )
    return names


def strangers(names: tuple[str, ...], dataset: Dataset) -> list[str]:
    """Columns beyond the published ones, which are not read."""
    return [name for name in names if name not in dataset.columns]
