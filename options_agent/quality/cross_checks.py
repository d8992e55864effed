"""Checks that compare rows: with their duplicates, their own past, their smile, and each other's executable prices.

They look only at rows that no earlier rule condemned (`believed`), so that one bad row does not cost its neighbours.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.quality.chain import MICROSECONDS, NO_TIME, Bools, Chain, Floats, Ints
from options_agent.quality.row_checks import Finding

if TYPE_CHECKING:
    from options_agent.settings import QualitySettings

#: Strikes with an IV that an expiry needs for its smile to say anything about one of them.
LEAST_STRIKES: Final = 7


def duplicate(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """Another row has the same snapshot, instrument and harvester, and is the better one.

    Better is, in this order: believed so far; more sides; a mark; known later; first in the table. One row stays.
    """
    from options_agent.quality.order_kernels import mark_repeated

    again = np.zeros(len(chain), bool)
    if not mark_repeated(_order(chain), chain.series, chain.snapshot, _series_codes(chain), again):
        return Finding(again)
    candidates = np.flatnonzero(again)
    again[:] = False
    sides = (~np.isnan(chain.number("bid")[candidates])).astype(np.int64) + ~np.isnan(chain.number("ask")[candidates])
    unmarked = np.isnan(chain.number("mark")[candidates])
    known = -np.maximum(chain.ts[candidates], NO_TIME + 1)
    series, snapshot = chain.series[candidates], chain.snapshot[candidates]
    best_first = np.lexsort((candidates, known, unmarked, -sides, ~believed[candidates], snapshot, series))
    series, snapshot = series[best_first], snapshot[best_first]
    again[candidates[best_first[1:][(series[1:] == series[:-1]) & (snapshot[1:] == snapshot[:-1])]]] = True
    return Finding(again)


def time_backwards(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """Known no later than a row of the same instrument that answers for an earlier snapshot. Measure: seconds back.

    A feed that freezes serves the same time again and again: that is caught here too. What earlier chunks of a long file
    taught is in `chain.kept["newest"]` (by series), and is brought up to date.
    """
    from options_agent.quality.order_kernels import NEVER, mark_backwards

    newest = chain.kept.setdefault("newest", np.full(_series_codes(chain), NEVER))
    before = np.full(len(chain), NEVER)
    if not mark_backwards(_order(chain), chain.series, chain.snapshot, chain.ts, believed, newest, before):
        return Finding(np.zeros(len(chain), bool))
    return Finding(before != NEVER, lambda at: (before[at] - chain.ts[at]) / MICROSECONDS)


def smile_outlier(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """IV far from the robust smile of its expiry and from its neighbours. Measure: distance from the smile, decimal.

    `smile_points` away from the fitted smile, and either `smile_z` robust deviations away and half of `smile_points` outside
    the span of its neighbouring strikes, or all of `smile_points` outside that span or from the other right of its strike, of
    which it is the farther from the smile: where a smile fits badly or a neighbour is wild too, they still speak.
    Expiries with an IV at fewer than `LEAST_STRIKES` strikes get no verdict.
    A fit costs the most, so only chains in which some row is far from its neighbours are fitted.
    """
    from options_agent.quality.kernels import apart_from_twin, far_from_neighbours, far_from_span

    rows = np.zeros(len(chain), bool)
    order, offsets = believed_chains(chain, believed)
    points = _smile_points(chain, settings, order[offsets[:-1]])
    strike, iv = chain.number("strike")[order], chain.number("mark_iv")[order]
    suspicious = far_from_neighbours(offsets, strike, iv, 0.5 * points, LEAST_STRIKES)
    outside = far_from_span(offsets, strike, iv, 0.5 * points, suspicious)
    suspects = np.flatnonzero(suspicious)
    if not len(suspects):
        return Finding(rows)
    points, outside = np.repeat(points[suspects], np.diff(offsets)[suspects]), _only(outside, offsets, suspects)[0]
    order, offsets = _only(order, offsets, suspects)
    fitted, scale = fitted_smile(chain, order, offsets)
    strike, iv = chain.number("strike")[order], chain.number("mark_iv")[order]
    distance, twin = np.abs(iv - fitted), apart_from_twin(offsets, strike, iv, fitted)
    apart = (distance >= settings.smile_z * scale) & (outside >= 0.5 * points) | (outside >= points) | (twin >= points)
    far = apart & (distance >= points)
    rows[order[far]] = True
    measure = np.full(len(chain), np.nan)
    measure[order] = distance
    return Finding(rows, lambda at: measure[at])


def static_arbitrage(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """Executable quotes of one chain give a riskless profit; the row farthest from fair is blamed. Measure: profit, coin.

    Vertical and butterfly spreads within a right must not pay more than `arbitrage_coin` at bid and ask, nor call
    against put against the forward more than `parity_coin` (a sweep takes seconds to minutes and the forward moves).
    Fair is Black-76 at the robust smile; where no smile can be fitted, the row's own mark.
    """
    from options_agent.pricing.black76 import price_coin
    from options_agent.quality.kernels import blame_arbitrage, may_have_arbitrage

    rows = np.zeros(len(chain), bool)
    order, offsets = believed_chains(chain, believed)

    def columns() -> tuple[Ints, Floats, Bools, Floats, Floats, Floats]:
        coin = _chain_coin(chain, order, offsets)
        bid, ask = chain.number("bid")[order] * coin, chain.number("ask")[order] * coin
        return offsets, chain.number("strike")[order], chain.is_call[order], bid, ask, chain.number("forward")[order]

    suspects = np.flatnonzero(may_have_arbitrage(*columns(), settings.arbitrage_coin, settings.parity_coin))
    if not len(suspects):
        return Finding(rows)
    order, offsets = _only(order, offsets, suspects)
    fitted, _ = fitted_smile(chain, order, offsets)
    fair = price_coin(chain.number("forward")[order], chain.number("strike")[order], chain.years[order], fitted, chain.is_call[order])
    fair = np.where(np.isnan(fair), chain.number("mark")[order] * chain.coin[order], fair)
    profit = np.full(len(order), np.nan)
    blamed = blame_arbitrage(*columns(), fair, settings.arbitrage_coin, settings.parity_coin, profit)
    rows[order[blamed]] = True
    measure = np.full(len(chain), np.nan)
    measure[order] = profit
    return Finding(rows, lambda at: measure[at])


def _smile_points(chain: Chain, settings: QualitySettings, at: Ints) -> Floats:
    """`smile_points` of the chains whose first rows these are: learnt for their family and tenor, or the fixed one."""
    points = np.full(len(at), settings.smile_points)
    for name, learnt in chain.learnt.items():
        if name in chain.families:
            own = chain.family[at] == chain.families.index(name)
            points[own] = learnt.at(chain.years[at[own]], settings.smile_points)
    return points


def _order(chain: Chain) -> Ints:
    """Row numbers in order of snapshot, or none where the rows lie so."""
    return np.empty(0, np.int64) if chain.by_snapshot is None else chain.by_snapshot


def _series_codes(chain: Chain) -> int:
    return len(chain.harvesters) * max(len(chain.instruments), 1)


def believed_chains(chain: Chain, believed: Bools) -> tuple[Ints, Ints]:
    """Believed rows in order of (harvester, snapshot, family, expiry, strike, right), and bounds of each expiry's chain."""
    from options_agent.quality.order_kernels import chains_in

    rows, bounds = chains_in(chain.by_expiry, believed, chain.harvester, chain.snapshot, chain.family, chain.expiry)
    return rows, bounds


def _only(values: Any, offsets: Ints, groups: Ints) -> tuple[Any, Ints]:
    """What is said of the rows of some groups alone, and the bounds of those."""
    lengths = offsets[groups + 1] - offsets[groups]
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    if not len(groups):
        return values[:0], bounds
    return np.concatenate([values[offsets[g] : offsets[g + 1]] for g in groups]), bounds


def fitted_smile(chain: Chain, order: Ints, offsets: Ints) -> tuple[Floats, Floats]:
    """Fitted IV of the rows in `order`, and the robust scale of each one's group."""
    from options_agent.pricing.smile import smile_residuals

    forward, index = chain.number("forward")[order], chain.number("index")[order]
    with np.errstate(divide="ignore", invalid="ignore"):
        moneyness = np.log(chain.number("strike")[order] / np.where(np.isnan(forward), index, forward))
    fitted, scale = smile_residuals(offsets, moneyness, chain.number("mark_iv")[order], np.ones(len(order)))
    return fitted, scale


def _chain_coin(chain: Chain, order: Ints, offsets: Ints) -> Floats:
    """What turns prices into coin, one factor per chain: a spread's legs must be measured with the same forward."""
    coin = chain.coin[order]
    if chain.is_linear.any():
        for first, last in itertools.pairwise(offsets):
            known = coin[first:last][~np.isnan(coin[first:last])]
            coin[first:last] = np.median(known) if len(known) else np.nan
    return coin
