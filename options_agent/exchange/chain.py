"""A chain as the box tells of it: columns turned into plain rows once, and what the source has not given worked out.

The exchange gives greeks and volatilities with every ticker; a recorded chain may lack them. They are computed here, once a chain, as
quality computes them, so that a ticker never says zero for what is only unknown.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.contracts import SECONDS_PER_YEAR, settlement_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

Row = dict[str, Any]

_GREEKS: Final = ("delta", "gamma", "vega", "theta")
_REPEATED: Final = ("ts", "expiry", "right", "settlement")
_NUMBERS: Final = (
    *("strike", "bid", "ask", "mark", "bid_size", "ask_size", "bid_iv", "ask_iv", "mark_iv"),
    *(*_GREEKS, "forward", "index", "open_interest", "volume_24h"),
)
#: Volatilities outside are taken for none.
_LEAST_IV, _MOST_IV = 0.01, 10.0


def rows_of(table: pa.Table) -> list[Row]:
    """Rows of one chain, in order: the quote columns the exchange's messages are made of, null as None.

    Beside them `rho` (USD per point of the rate), `mark_pc`, `bid_pc`, `ask_pc` (volatility in percent, 0.0 where there is none) and
    `least`, `most` (the price band).

    Args:
        table: `QUOTE_SCHEMA` rows of one underlying.
    """
    table = _completed(table)
    numbers = {name: _floats(table[name]) for name in _NUMBERS}
    years = np.maximum(_seconds(table["expiry"]) - _seconds(table["ts"]), 1.0) / SECONDS_PER_YEAR
    is_call = np.asarray(pc.equal(table["right"], "C"))
    _solve_sides(table, numbers, years, is_call)
    mark = np.nan_to_num(numbers["mark"])
    made = {
        "rho": _rho(numbers, years, is_call),
        "mark_pc": _percent(numbers["mark_iv"], numbers["mark_iv"]),
        "bid_pc": _percent(numbers["bid_iv"], numbers["bid"]),
        "ask_pc": _percent(numbers["ask_iv"], numbers["ask"]),
        "least": np.round(mark * 0.5, 6),
        "most": np.round(mark * 1.5 + 0.01, 6),
    }
    columns = {"instrument": table["instrument"].to_pylist()}
    columns |= {name: _repeated(table[name]) for name in _REPEATED}
    columns |= {name: _nullable(values) for name, values in (numbers | made).items()}
    names = tuple(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _completed(table: pa.Table) -> pa.Table:
    """The chain with mark volatility and greeks where the source gave none and they can be computed."""
    blank = pc.and_(pc.is_null(table["mark_iv"]), pc.is_valid(table["mark"]))
    for name in _GREEKS:
        blank = pc.or_(blank, pc.and_(pc.is_null(table[name]), pc.is_valid(table["mark_iv"])))
    if not pc.any(blank).as_py():
        return table
    from options_agent.quality.completion import complete
    from options_agent.settings import QualitySettings

    return complete(table, QualitySettings())


def _solve_sides(table: pa.Table, numbers: dict[str, Floats], years: Floats, is_call: Bools) -> None:
    """Volatilities of bid and ask where a price is given and its volatility is not."""
    forward = np.where(np.isnan(numbers["forward"]), numbers["index"], numbers["forward"])
    for side in ("bid", "ask"):
        price, volatility = numbers[side], numbers[f"{side}_iv"]
        blank = np.flatnonzero(np.isnan(volatility) & ~np.isnan(price) & ~np.isnan(forward))
        if not blank.size:
            continue
        from options_agent.pricing.implied import implied_volatility

        linear = settlement_of(table["underlying"][0].as_py()) == "usdc"
        coin = price[blank] / forward[blank] if linear else price[blank]
        solved = implied_volatility(coin, forward[blank], numbers["strike"][blank], years[blank], is_call[blank])
        with np.errstate(invalid="ignore"):
            solved[~((solved >= _LEAST_IV) & (solved <= _MOST_IV))] = np.nan
        numbers[f"{side}_iv"] = volatility.copy()
        numbers[f"{side}_iv"][blank] = solved


def _rho(numbers: dict[str, Floats], years: Floats, is_call: Bools) -> Floats:
    """Strike x years x N(+-d2) / 100; 0 where volatility or forward is unknown."""
    forward = np.where(np.isnan(numbers["forward"]), numbers["index"], numbers["forward"])
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = numbers["mark_iv"] * np.sqrt(years)
        d2 = np.log(forward / numbers["strike"]) / deviation - deviation / 2
    sign = np.where(is_call, 1.0, -1.0)
    share = np.array([0.5 * math.erfc(x) for x in (-sign * d2 / math.sqrt(2.0)).tolist()])
    rho: Floats = np.nan_to_num(np.round(sign * numbers["strike"] * years * share / 100, 5))
    return rho


def _percent(volatility: Floats, price: Floats) -> Floats:
    percent: Floats = np.where(np.isnan(price), 0.0, np.nan_to_num(np.round(volatility * 100, 4)))
    return percent


def _floats(column: pa.ChunkedArray) -> Floats:
    """Nulls as NaN."""
    return np.asarray(column.to_numpy(), np.float64)


def _seconds(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.cast(pa.int64()).to_numpy(), np.float64) / 1e6


def _nullable(values: Floats) -> list[float | None]:
    """NaN as None; a list of Python numbers, which the encoder takes faster than NumPy's."""
    plain: list[float | None] = values.tolist()
    for position in np.flatnonzero(np.isnan(values)).tolist():
        plain[position] = None
    return plain


def _repeated(column: pa.ChunkedArray) -> list[Any]:
    """A column of few values: each is made into a Python object once."""
    coded = column.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.chunk(0)
    values = coded.dictionary.to_pylist()
    return [values[code] for code in coded.indices.to_numpy().tolist()]
