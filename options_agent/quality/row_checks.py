"""Checks that look at one row at a time. Each gives the rows that fail, and how far they are off where that is a number.

Comparisons with NaN (nothing given) are false: a missing value never fails a check but `missing_field`. All of them are
answered by the same few compiled passes over the rows (`row_kernels`), run when the first one asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.quality.chain import MICROSECONDS, NO_TIME, NUMBERS, Bools, Chain, Floats, Ints, told_by_names
from options_agent.quotes import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from options_agent.quality.row_kernels import Flags
    from options_agent.settings import QualitySettings


@dataclass(frozen=True, slots=True)
class Finding:
    """Rows (shape (n,)) that fail a check, and the measure a reason quotes: a function of row numbers (None where it means nothing)."""

    rows: Bools
    measure: Callable[[Ints], Floats] | None = None


_REQUIRED: Final = tuple(f.name for f in FIELDS if not f.nullable)
_NOT_BELOW_ZERO: Final = ("bid_size", "ask_size", "bid_iv", "ask_iv", "open_interest", "volume_24h", "gamma", "vega")


def missing_field(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """A row nobody can use: without identity, without any value, or without anything to set its strike against.

    A missing bid or ask alone is normal (8 % of BTC rows, all of some assets) and never fails.
    """
    from options_agent.quality.row_kernels import MISSING_FIELD

    rows = _flagged(chain, settings, MISSING_FIELD)
    for name in _REQUIRED:
        column = chain.table.column(name)
        if column.null_count:
            rows |= np.asarray(column.is_null().to_numpy())
    return Finding(rows)


def not_finite(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """NaN or infinity stands where a number, or null for none, should."""
    rows = np.zeros(len(chain), bool)
    for name, odd in _odd(chain, settings).items():
        column = chain.table.column(name)
        if odd != column.null_count:
            rows |= ~np.isfinite(chain.number(name)) & np.asarray(column.is_valid().to_numpy())
    return Finding(rows)


def not_positive(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """A price of nothing or less, a negative size, a delta beyond one or of the other right's sign."""
    from options_agent.quality.row_kernels import NOT_POSITIVE

    return Finding(_flagged(chain, settings, NOT_POSITIVE))


def unknown_instrument(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """The name is no option's, or contradicts the row's own family, expiry, strike, right or settlement."""
    from options_agent.quality.row_kernels import UNKNOWN_INSTRUMENT

    return Finding(_flagged(chain, settings, UNKNOWN_INSTRUMENT))


def foreign_network(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """The row is of another network than the lake it lies in: prices of one are worthless for the other."""
    if chain.network is None:
        return Finding(np.zeros(len(chain), bool))
    return Finding(~chain.text_is("network", chain.network))


def expired(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """Known at or after the instrument's own expiry."""
    from options_agent.quality.row_kernels import EXPIRED

    return Finding(_flagged(chain, settings, EXPIRED))


def stale(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """Known so long before the grid time it answers for that it is another time's market. Measure: seconds."""
    from options_agent.quality.row_kernels import STALE

    return Finding(_flagged(chain, settings, STALE), lambda at: _seconds(chain.snapshot[at], chain.ts[at]))


def late(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """Known so long after the grid time that it cannot be its answer. Measure: seconds."""
    from options_agent.quality.row_kernels import LATE

    return Finding(_flagged(chain, settings, LATE), lambda at: _seconds(chain.ts[at], chain.snapshot[at]))


def crossed(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """The bid is above the ask. Measure: by how much."""
    from options_agent.quality.row_kernels import CROSSED

    return Finding(_flagged(chain, settings, CROSSED), lambda at: chain.number("bid")[at] - chain.number("ask")[at])


def locked(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """The bid is the ask: possible for an instant while a sweep runs, so it warns."""
    from options_agent.quality.row_kernels import LOCKED

    return Finding(_flagged(chain, settings, LOCKED))


def off_tick(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """A bid or ask between two prices of the family's grid. Measure: share of a tick it is off.

    Families whose tick only the exchange knows are not judged; marks and combos are no business of this grid.
    """
    from options_agent.quality.row_kernels import OFF_TICK

    def measure(at: Ints) -> Floats:
        worst = np.zeros(len(at))
        for name in ("bid", "ask"):
            price = chain.number(name)[at]
            steps = price / _ticks(chain, at, price)
            worst = np.fmax(worst, np.abs(steps - np.rint(steps)))
        return worst

    return Finding(_flagged(chain, settings, OFF_TICK), measure)


def absurd_iv(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """An implied volatility no market has. Measure: the mark IV.

    Bid and ask IV are bounds of wide quotes and may be 0 or enormous; negative ones fail `not_positive`.
    """
    from options_agent.quality.row_kernels import ABSURD_IV

    return Finding(_flagged(chain, settings, ABSURD_IV), lambda at: chain.number("mark_iv")[at])


def mark_band(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """The mark lies far outside a two-sided quote, in ticks and as a share of itself. Measure: ticks beyond it."""
    from options_agent.quality.row_kernels import MARK_BAND

    def measure(at: Ints) -> Floats:
        bid, ask, mark = (chain.number(name)[at] for name in ("bid", "ask", "mark"))
        return np.maximum(bid - mark, mark - ask) / _ticks(chain, at, mark)

    return Finding(_flagged(chain, settings, MARK_BAND), measure)


def mark_model(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """The mark is not what Black-76 gives at the row's own forward and IV. Measure: coin.

    A source may know mark and forward at different moments: what a move of the forward by `mark_model_forward` does to the price
    in coin, |delta - price| times that move, is allowed on top of `mark_model_coin`.
    """
    from options_agent.pricing.black76 import price_coin

    model = price_coin(chain.number("forward"), chain.number("strike"), chain.years, chain.number("mark_iv"), chain.is_call)
    mark = chain.number("mark") * chain.coin if chain.is_linear.any() else chain.number("mark")
    off = np.abs(mark - model)
    rows = off > settings.mark_model_coin
    at = np.flatnonzero(rows)
    if len(at):
        rows[at] = off[at] > mark_tolerance(chain, settings, at)
    return Finding(rows, lambda at: off[at])


def mark_tolerance(chain: Chain, settings: QualitySettings, at: Ints) -> Floats:
    """How far the marks of these rows may lie from Black-76 at their own forward and IV, coin (see `mark_model`)."""
    from options_agent.pricing.black76 import greeks

    forward, strike, iv = (chain.number(name)[at] for name in ("forward", "strike", "mark_iv"))
    price, delta, *_ = greeks(forward, strike, chain.years[at], iv, chain.is_call[at])
    return settings.mark_model_coin + settings.mark_model_forward * np.abs(delta - price)


def _flagged(chain: Chain, settings: QualitySettings, bit: int) -> Bools:
    flags = _flags(chain, settings)
    if not chain.kept["any"] & bit:
        return np.zeros(len(chain), bool)
    flagged: Bools = (flags & np.uint32(bit)) != 0
    return flagged


def _odd(chain: Chain, settings: QualitySettings) -> dict[str, int]:
    """How many values of each numeric column are no finite numbers, nulls included."""
    _flags(chain, settings)
    odd: dict[str, int] = chain.kept["odd"]
    return odd


def _flags(chain: Chain, settings: QualitySettings) -> Flags:
    """Bits of `row_kernels`, worked out once a chain."""
    if "flags" not in chain.kept:
        from options_agent.quality import row_kernels

        flags = np.zeros(len(chain), np.uint32)
        number = {name: chain.number(name) for name in NUMBERS}
        odd = {}
        for name, values in number.items():
            if chain.table.column(name).null_count == len(chain):
                odd[name] = len(chain)
            elif name in _NOT_BELOW_ZERO:
                odd[name] = row_kernels.flag_signs(values, flags, False, row_kernels.NOT_POSITIVE)
            else:
                odd[name] = row_kernels.odd_values(values)
        bid, ask, mark, iv = number["bid"], number["ask"], number["mark"], number["mark_iv"]
        forward, index, delta, strike = number["forward"], number["index"], number["delta"], number["strike"]
        row_kernels.flag_values(bid, ask, mark, iv, forward, index, delta, strike, chain.right, settings.iv_min, settings.iv_max, flags)
        row_kernels.flag_times(chain.ts, chain.snapshot, chain.expiry, settings.stale_seconds, settings.late_seconds, flags)
        limits = (settings.tick_tolerance, settings.mark_band_ticks, settings.mark_band_share)
        row_kernels.flag_ticks(bid, ask, mark, chain.family, *chain.tick_grid, *limits, flags)
        told = told_by_names(chain)
        row_kernels.flag_names(chain.instrument, *told, chain.expiry, strike, chain.right, chain.family, chain.settles, flags)
        chain.kept.update(odd=odd, flags=flags, any=int(np.bitwise_or.reduce(flags)))
    found: Flags = chain.kept["flags"]
    return found


def _ticks(chain: Chain, at: Ints, price: Floats) -> Floats:
    from options_agent.quality.row_kernels import tick_of

    return np.array([tick_of(p, chain.family[row], *chain.tick_grid) for p, row in zip(price, at, strict=True)])


def _seconds(later: np.ndarray, earlier: np.ndarray) -> Floats:
    seconds: Floats = (later - earlier) / MICROSECONDS
    seconds[(later == NO_TIME) | (earlier == NO_TIME)] = np.nan
    return seconds
