"""Series beside recorded chains: hourly price bars, the daily volatility index, perpetual funding.

`ts` is when a value was known: a bar's close (its open time plus its length), the end of a day, the funding instant.
The files name coins; a linear family (`XRP_USDC`) reads its coin's series.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import pyarrow as pa

from options_agent.errors import DataError
from options_agent.market.recorded import files
from options_agent.market.recorded.columns import Columns, hundredths
from options_agent.series import SERIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from options_agent.lake.layout import SeriesName

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_KNOWN_COINS: Final = ("BTC", "ETH", "SOL", "XRP", "TRX", "AVAX", "BNB", "PAXG", "DOGE")


@dataclass(frozen=True, slots=True)
class SeriesFormat:
    """A family of series files: its columns and the function that decodes them to a schema of `options_agent.series`."""

    name: str
    about: str
    series: SeriesName
    required: frozenset[str]
    optional: tuple[str, ...]
    decode: Callable[[Columns], pl.DataFrame]

    def read(self, path: Path) -> pl.DataFrame:
        """The file's rows by underlying and `ts`.

        Raises:
            DataError: the file is damaged, or a value is missing, naive or not a number.
        """
        table = files.read_columns(path, (*sorted(self.required), *self.optional))
        return self.decode(Columns(table, str(path))).sort("underlying", "ts", maintain_order=True)


def decode_bars(columns: Columns) -> pl.DataFrame:
    """Bars stamped with their OPEN: the close is known one bar length later. Only closes are read.

    The length is the most frequent spacing of an asset's stamps. `kind` comes from the bars' own `source`.
    """
    source = columns.text("source") if "source" in columns.table.columns else pl.Series("source", [Path(columns.place).stem])
    bars = pl.DataFrame(
        {"opened": columns.instant("ts"), "underlying": columns.text("asset").str.to_uppercase(), "price": columns.given("close")}
    ).with_columns(source=source if len(source) == columns.table.height else pl.lit(source[0]))
    spacing = (
        bars.sort("underlying", "opened")
        .with_columns(length=pl.col("opened").diff().over("underlying"))
        .group_by("underlying")
        .agg(pl.col("length").drop_nulls().mode().min())
    )
    kind = pl.when(pl.col("source").str.contains("perp")).then(pl.lit("perpetual")).otherwise(pl.lit("spot"))
    kind = pl.when(pl.col("source").str.contains("index")).then(pl.lit("index")).otherwise(kind)
    return (
        bars.join(spacing, on="underlying", how="left", maintain_order="left")
        .filter(pl.col("price").is_not_null())
        .select(
            ts=pl.col("opened") + pl.col("length").fill_null(dt.timedelta(hours=1)),
            underlying="underlying",
            price="price",
            kind=kind,
            source="source",
        )
    )


def decode_dvol(columns: Columns) -> pl.DataFrame:
    """Daily bars in percent, stamped with their day: known when the day has ended (midnight UTC after it)."""
    days = columns.text("date").str.to_date("%Y-%m-%d", strict=False)
    if days.null_count():
        row = int(days.is_null().arg_max() or 0) + 1
        raise DataError(
            f"date is not YYYY-MM-DD: {columns.table['date'][row - 1]!r}",
            place=f"{columns.place}, column 'date', row {row}",
            remedy="write the UTC day of the bar",
        )
    known = (days + dt.timedelta(days=1)).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    values = {name: hundredths(columns.number(name)) for name in ("open", "high", "low", "close")}
    bars = pl.DataFrame({"ts": known, "underlying": columns.text("symbol").str.to_uppercase(), **values})
    return bars.with_columns(source=pl.lit(Path(columns.place).stem)).filter(pl.col("close").is_not_null())


def decode_funding(columns: Columns) -> pl.DataFrame:
    """Rates in percent per 8 hours at the funding instant; the coin is in the file's name only."""
    stem = Path(columns.place).stem
    coin = next((coin for coin in _KNOWN_COINS if coin in stem.upper()), None)
    if coin is None:
        raise DataError(
            "a funding file says nowhere which coin it is of",
            place=columns.place,
            remedy=f"put the coin into the file's name, for instance btcusdt_funding.csv (known: {', '.join(_KNOWN_COINS)})",
        )
    rates = pl.DataFrame({"ts": columns.instant("t_ms", "ms"), "rate_8h": hundredths(columns.number("funding_rate_pct"))})
    named = rates.with_columns(underlying=pl.lit(coin), source=pl.lit(stem)).filter(pl.col("rate_8h").is_not_null())
    return named.select("ts", "underlying", "rate_8h", "source")


BARS: Final = SeriesFormat("price bars", "closes of hourly bars", "prices", frozenset({"asset", "ts", "close"}), ("source",), decode_bars)
DVOL: Final = SeriesFormat(
    "volatility index", "daily DVOL", "dvol", frozenset({"date", "symbol", "open", "high", "low", "close"}), (), decode_dvol
)
FUNDING: Final = SeriesFormat(
    "funding", "perpetual funding per 8 hours", "funding", frozenset({"t_ms", "funding_rate_pct"}), (), decode_funding
)


@dataclass(frozen=True, slots=True)
class CoinSeries:
    """One coin's series by `ts`, cut by instants in logarithmic time."""

    table: pa.Table
    stamps: npt.NDArray[np.int64]

    def cut(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """Rows known in [start, end), in the name of `underlying`."""
        first, last = np.searchsorted(self.stamps, [to_microseconds(start), to_microseconds(end)])
        rows = self.table.slice(int(first), max(0, int(last - first)))
        place = rows.schema.get_field_index("underlying")
        return rows.set_column(place, rows.schema.field(place), pa.repeat(pa.scalar(underlying), rows.num_rows))


def by_coin(frame: pl.DataFrame, name: SeriesName) -> dict[str, CoinSeries]:
    """Split a series by coin."""
    coins: dict[str, CoinSeries] = {}
    for (coin,), rows in frame.partition_by("underlying", as_dict=True, maintain_order=True).items():
        table = to_arrow(rows, name).combine_chunks()
        coins[str(coin)] = CoinSeries(table, table["ts"].combine_chunks().cast(pa.int64()).to_numpy())
    return coins


def to_arrow(frame: pl.DataFrame, name: SeriesName) -> pa.Table:
    """Columns in the series' order and types, by `ts`."""
    schema = SERIES[name]
    return frame.select(schema.names).sort("ts", maintain_order=True).to_arrow().cast(schema)


def to_microseconds(at: dt.datetime) -> int:
    """Microseconds since 1970."""
    return (at - _EPOCH) // dt.timedelta(microseconds=1)


def merge(frames: Sequence[pl.DataFrame], name: SeriesName) -> pl.DataFrame:
    """Frames of several files as one, by underlying and `ts`; the same instant of the same source counts once."""
    if not frames:
        return pl.DataFrame(pl.from_arrow(SERIES[name].empty_table()))
    keys = ["underlying", "ts", "source"]
    return pl.concat([f.select(SERIES[name].names) for f in frames]).unique(keys, keep="first", maintain_order=True).sort(keys)
