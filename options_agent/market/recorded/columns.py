"""From a recorder's columns to values in the quote table's units: instants, numbers, prices, volatilities.

Every failure names the file, the column and the row (counted from 1 after the header).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from options_agent.errors import DataError

Unit = Literal["us", "ms", "s"]

INSTANT: Final = pl.Datetime("us", "UTC")
#: An ask volatility of 999 percent is how the exchange says there is no ask.
NO_VOLATILITY: Final = 999.0
_PER_UNIT: Final = {"us": 1, "ms": 1_000, "s": 1_000_000}
_PLAUSIBLE: Final = (1_230_768_000_000_000, 4_102_444_800_000_000)  # 2009 to 2100, microseconds


@dataclass(frozen=True, slots=True)
class Columns:
    """A recorder's table and the file it came from. An absent column reads as null throughout."""

    table: pl.DataFrame
    place: str

    def number(self, *names: str) -> pl.Series:
        """Values of the first of `names` that is there; NaN is null.

        Raises:
            DataError: a value is not a number.
        """
        name = next((n for n in names if n in self.table.columns), None)
        if name is None:
            return pl.Series(names[0], [None] * self.table.height, dtype=pl.Float64)
        values = self.table[name]
        if not (values.dtype.is_numeric() or values.dtype in (pl.String, pl.Null)):
            raise DataError(f"column {name!r} holds {values.dtype}, not numbers", place=self.place, remedy="write numbers, null for none")
        numbers = values.cast(pl.Float64, strict=False)
        if values.dtype == pl.String:
            self._refuse(numbers.is_null() & values.is_not_null() & (values != ""), name, values, "is not a number")
        return numbers.fill_nan(None)

    def given(self, *names: str) -> pl.Series:
        """Numbers where 0 means none: prices, sizes of a side, forwards, index."""
        values = self.number(*names)
        return values.set(values == 0.0, None)

    def volatility(self, *names: str, percent: bool) -> pl.Series:
        """Implied volatility, decimal; 0 and 999 percent mean none."""
        values = self.number(*names)
        values = values.set((values == 0.0) | (values >= (NO_VOLATILITY if percent else NO_VOLATILITY / 100.0)), None)
        return hundredths(values) if percent else values

    def text(self, name: str) -> pl.Series:
        """Text that must be there in every row.

        Raises:
            DataError: a row has none.
        """
        values = self.table[name].cast(pl.String)
        self._refuse(values.is_null() | (values == ""), name, values, "is missing")
        return values

    def right(self, name: str) -> pl.Series:
        """`C` or `P` from call, put, C, P in any case.

        Raises:
            DataError: a value is none of them.
        """
        values = self.text(name)
        rights = values.str.to_uppercase().str.slice(0, 1)
        known = values.str.to_lowercase().is_in(["call", "put", "c", "p"])
        self._refuse(~known, name, values, "is neither call nor put")
        return rights

    def instant(self, name: str, unit: Unit | None = None) -> pl.Series:
        """Instants: ISO text or timestamps with a zone, or counts of `unit` since 1970.

        Raises:
            DataError: a value is missing, naive, malformed, or (counts) outside 2009 to 2100.
        """
        values = self.table[name]
        self._refuse(values.is_null(), name, values, "is missing")
        if isinstance(values.dtype, pl.Datetime):
            if values.dtype.time_zone is None:
                raise self._naive(name, values)
            return values.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
        return self._text_instant(name, values) if unit is None else self._counted_instant(name, values, unit)

    def _text_instant(self, name: str, values: pl.Series) -> pl.Series:
        if values.dtype != pl.String:
            raise DataError(f"column {name!r} holds {values.dtype}, not times", place=self.place, remedy="write ISO 8601 with a zone")
        zoned = values.str.contains(r"(Z|[+-]\d{2}:?\d{2})$")
        if not zoned.all():
            raise self._naive(name, values.filter(~zoned), row=int((~zoned).arg_max() or 0) + 1)
        text = values.str.replace(" ", "T", literal=True).str.replace(r"Z$", "+00:00").str.replace(r"([+-]\d{2})(\d{2})$", "${1}:${2}")
        instants = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", time_zone="UTC", strict=False)
        self._refuse(instants.is_null(), name, values, "is not a time")
        return instants

    def _counted_instant(self, name: str, values: pl.Series, unit: Unit) -> pl.Series:
        counts = values.cast(pl.Int64, strict=False) if values.dtype == pl.String else values
        if not counts.dtype.is_numeric():
            raise DataError(f"column {name!r} holds {counts.dtype}, not {unit} since 1970", place=self.place)
        self._refuse(counts.is_null(), name, values, f"is not a count of {unit} since 1970")
        stamps = (counts * _PER_UNIT[unit]).cast(pl.Int64)
        self._refuse(~stamps.is_between(*_PLAUSIBLE), name, values, f"is not a time in {unit} since 1970")
        return stamps.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")

    def _refuse(self, wrong: pl.Series, name: str, values: pl.Series, complaint: str) -> None:
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            raise DataError(
                f"{name} {complaint}: {values[row]!r} ({int(wrong.sum())} such rows)",
                place=f"{self.place}, column {name!r}, row {row + 1}",
                remedy="mend or remove the row, or fetch the file again",
            )

    def _naive(self, name: str, values: pl.Series, row: int = 1) -> DataError:
        return DataError(
            f"column {name!r} holds times without a zone, for instance {str(values[0])!r}; every time here is UTC-aware",
            place=f"{self.place}, column {name!r}, row {row}",
            remedy="attach the zone the recorder wrote in (UTC: append +00:00) before import",
        )


def hundredths(percent: pl.Series) -> pl.Series:
    """Percent as decimals, correctly rounded (62.89 is 0.6289: the engine's own division multiplies by 0.01)."""
    return pl.Series(percent.name, percent.to_numpy() / 100.0).fill_nan(None)
