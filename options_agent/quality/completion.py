"""Implied volatility and greeks where the source gave none, computed from the row itself and flagged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from options_agent.quality.chain import Floats, chain_of
from options_agent.quotes import CLEAN_SCHEMA, QUOTE_SCHEMA

if TYPE_CHECKING:
    from options_agent.settings import QualitySettings

GREEKS: Final = ("delta", "gamma", "vega", "theta")
#: Decimals a computed greek is kept to, finer than the exchange shows: full doubles would be half the bytes of a day.
DECIMALS: Final = {"delta": 6, "gamma": 9, "vega": 5, "theta": 5}


def complete(table: pa.Table, settings: QualitySettings) -> pa.Table:
    """Quotes with the blanks in `mark_iv` and the greeks filled, and the two flags of the clean schema.

    `mark_iv` is solved from the mark, the greeks are Black-76 at `mark_iv`; both on the row's forward or, where it has
    none, on the index (near enough under a week, and flagged either way; `forward` itself stays null). What was given is
    never changed. A mark no volatility explains (zero, or at intrinsic value), or one outside `iv_min` to `iv_max`,
    leaves the IV null, and the greeks with it.

    Args:
        table: `QUOTE_SCHEMA` rows that passed the rules.

    Returns:
        `CLEAN_SCHEMA` rows, in the same order.
    """
    from options_agent.pricing.black76 import greeks
    from options_agent.pricing.implied import implied_volatility

    chain = chain_of(table)
    forward = chain.number("forward")
    forward = np.where(np.isnan(forward), chain.number("index"), forward)
    strike, years, is_call = chain.number("strike"), chain.years, chain.is_call
    columns = {name: table.column(name) for name in QUOTE_SCHEMA.names}

    vol = chain.number("mark_iv").copy()
    blank = np.flatnonzero(np.isnan(vol) & ~np.isnan(chain.number("mark")))
    with np.errstate(invalid="ignore"):
        price = np.where(chain.is_linear, chain.number("mark") / forward, chain.number("mark"))[blank]
        solved = implied_volatility(price, forward[blank], strike[blank], years[blank], is_call[blank])
        solved[~((solved >= settings.iv_min) & (solved <= settings.iv_max))] = np.nan
    vol[blank] = solved
    iv_computed = np.zeros(len(table), bool)
    iv_computed[blank] = ~np.isnan(solved)
    if iv_computed.any():
        columns["mark_iv"] = _column(vol)

    given = {name: chain.number(name) for name in GREEKS}
    blank = np.flatnonzero(np.any([np.isnan(values) for values in given.values()], axis=0) & ~np.isnan(vol) & ~np.isnan(forward))
    _, *computed = greeks(forward[blank], strike[blank], years[blank], vol[blank], is_call[blank])
    greeks_computed = np.zeros(len(table), bool)
    for name, values in zip(GREEKS, computed, strict=True):
        fill = np.isnan(given[name][blank]) & np.isfinite(values)
        if fill.any():
            filled = given[name].copy()
            filled[blank[fill]] = np.round(values[fill], DECIMALS[name])
            columns[name] = _column(filled)
            greeks_computed[blank[fill]] = True
    return pa.Table.from_arrays([*columns.values(), pa.array(iv_computed), pa.array(greeks_computed)], schema=CLEAN_SCHEMA)


def _column(values: Floats) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))
