"""Checks that look at one row at a time. Each gives the rows that fail, and how far they are off where that is a number.

Comparisons with NaN (nothing given) are false: a missing value never fails a check but `missing_field`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.quality.chain import MICROSECONDS, NO_TIME, NUMBERS, Bools, Chain, Floats, equals, names_that_disagree
from options_agent.quotes import FIELDS

if TYPE_CHECKING:
    from options_agent.settings import QualitySettings


@dataclass(frozen=True, slots=True)
class Finding:
    """Rows (shape (n,)) that fail a check, and the measure a reason quotes (NaN where it means nothing)."""

    rows: Bools
    measure: Floats | None = None


_REQUIRED: Final = tuple(f.name for f in FIELDS if not f.nullable)
_ABOVE_ZERO: Final = ("strike", "bid", "ask", "forward", "index")
_NOT_BELOW_ZERO: Final = ("mark", "bid_size", "ask_size", "bid_iv", "ask_iv", "mark_iv", "open_interest", "volume_24h", "gamma", "vega")


def missing_field(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """A row nobody can use: without identity, without any value, or without anything to set its strike against.

    A missing bid or ask alone is normal (8 % of BTC rows, all of some assets) and never fails.
    """
    rows = np.zeros(len(chain), bool)
    for name in _REQUIRED:
        column = chain.table.column(name)
        if column.null_count:
            rows |= np.asarray(column.is_null().to_numpy())
    absent = {name: np.isnan(chain.number(name)) for name in ("bid", "ask", "mark", "mark_iv", "forward", "index")}
    rows |= absent["mark"] & absent["mark_iv"] & (absent["bid"] | absent["ask"])
    rows |= absent["forward"] & absent["index"]
    return Finding(rows)


def not_finite(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """NaN or infinity stands where a number, or null for none, should."""
    rows = np.zeros(len(chain), bool)
    for name in NUMBERS:
        finite = np.isfinite(chain.number(name))
        column = chain.table.column(name)
        if int(finite.sum()) + column.null_count != len(chain):
            rows |= ~finite & np.asarray(column.is_valid().to_numpy())
    return Finding(rows)


def not_positive(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """A price of nothing or less, a negative size, a delta beyond one."""
    rows = np.abs(chain.number("delta")) > 1.0 + 1e-6
    for name in _ABOVE_ZERO:
        rows |= chain.number(name) <= 0.0
    for name in _NOT_BELOW_ZERO:
        rows |= chain.number(name) < 0.0
    return Finding(rows)


def unknown_instrument(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """The name is no option's, or contradicts the row's own family, expiry, strike, right or settlement."""
    return Finding(names_that_disagree(chain))


def foreign_network(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """The row is of another network than the lake it lies in: prices of one are worthless for the other."""
    if chain.network is None:
        return Finding(np.zeros(len(chain), bool))
    return Finding(~equals(chain.table.column("network"), chain.network))


def expired(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """Known at or after the instrument's own expiry."""
    return Finding((chain.ts >= chain.expiry) & (chain.expiry != NO_TIME))


def stale(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """Known so long before the grid time it answers for that it is another time's market. Measure: seconds."""
    age = _seconds(chain.snapshot, chain.ts)
    return Finding(age > settings.stale_seconds, age)


def late(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """Known so long after the grid time that it cannot be its answer. Measure: seconds."""
    delay = _seconds(chain.ts, chain.snapshot)
    return Finding(delay > settings.late_seconds, delay)


def crossed(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """The bid is above the ask. Measure: by how much."""
    gap = chain.number("bid") - chain.number("ask")
    return Finding(gap > 0.0, gap)


def locked(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """The bid is the ask: possible for an instant while a sweep runs, so it warns."""
    return Finding(chain.number("bid") == chain.number("ask"))


def off_tick(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """A bid or ask between two prices of the family's grid. Measure: share of a tick it is off.

    Families whose tick only the exchange knows are not judged; marks and combos are no business of this grid.
    """
    worst = np.zeros(len(chain))
    for name in ("bid", "ask"):
        price = chain.number(name)
        steps = price / chain.ticks_at(price)
        off = np.abs(steps - np.rint(steps))
        worst = np.fmax(worst, off)
    return Finding(worst > settings.tick_tolerance, worst)


def absurd_iv(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """An implied volatility no market has. Measure: the mark IV.

    Bid and ask IV are bounds of wide quotes and may be 0 or enormous; negative ones fail `not_positive`.
    """
    vol = chain.number("mark_iv")
    return Finding((vol < settings.iv_min) | (vol > settings.iv_max), vol)


def mark_band(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """The mark lies far outside a two-sided quote, in ticks and as a share of itself. Measure: ticks beyond it."""
    bid, ask, mark = chain.number("bid"), chain.number("ask"), chain.number("mark")
    beyond = np.maximum(bid - mark, mark - ask)  # NaN where a side is missing: no verdict
    ticks = beyond / chain.ticks_at(mark)
    return Finding((ticks > settings.mark_band_ticks) & (beyond > settings.mark_band_share * mark), ticks)


def mark_model(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """The mark is not what Black-76 gives at the row's own forward and IV. Measure: coin."""
    from options_agent.pricing.black76 import price_coin

    model = price_coin(chain.number("forward"), chain.number("strike"), chain.years, chain.number("mark_iv"), chain.is_call)
    off = np.abs(chain.number("mark") * chain.coin - model)
    return Finding(off > settings.mark_model_coin, off)


def _seconds(later: np.ndarray, earlier: np.ndarray) -> Floats:
    seconds: Floats = (later - earlier) / MICROSECONDS
    seconds[(later == NO_TIME) | (earlier == NO_TIME)] = np.nan
    return seconds
