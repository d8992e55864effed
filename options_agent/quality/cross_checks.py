"""Checks that compare rows: with their duplicates, their own past, their smile, and each other's executable prices.

They look only at rows that no earlier rule condemned (`believed`), so that one bad row does not cost its neighbours.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

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
    order, rank = chain.by_identity, chain.identity
    again = np.zeros(len(chain), bool)
    repeated = rank[order][1:] == rank[order][:-1]
    if not repeated.any():
        return Finding(again)
    candidates = np.flatnonzero(np.isin(rank, rank[order][1:][repeated]))
    sides = (~np.isnan(chain.number("bid"))).astype(np.int64) + ~np.isnan(chain.number("ask"))
    marked = ~np.isnan(chain.number("mark"))
    best_first = candidates[
        np.lexsort(
            (
                candidates,
                -np.maximum(chain.ts[candidates], NO_TIME + 1),
                ~marked[candidates],
                -sides[candidates],
                ~believed[candidates],
                rank[candidates],
            )
        )
    ]
    again[best_first[1:][rank[best_first][1:] == rank[best_first][:-1]]] = True
    return Finding(again)


def time_backwards(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """Known no later than a row of the same instrument that answers for an earlier snapshot. Measure: seconds back.

    A feed that freezes serves the same time again and again: that is caught here too.
    """
    from options_agent.quality.kernels import earlier_than_before

    order = chain.by_identity
    before = np.empty(len(chain), dtype=np.int64)
    before[order] = earlier_than_before(chain.series[order], chain.snapshot[order], chain.ts[order], believed[order])
    rows = before != NO_TIME
    measure = np.full(len(chain), np.nan)
    measure[rows] = (before[rows] - chain.ts[rows]) / MICROSECONDS
    return Finding(rows, measure)


def smile_outlier(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """IV far from the robust smile of its expiry and from its neighbours. Measure: distance from the smile, decimal.

    All of: `smile_points` away from the fitted smile, `smile_z` robust deviations away, and half of `smile_points`
    outside the span of its neighbouring strikes. Expiries with an IV at fewer than `LEAST_STRIKES` strikes get no verdict.
    """
    from options_agent.quality.kernels import far_from_neighbours, far_from_span

    order, offsets = _by_expiry(chain, believed)
    strike, iv = chain.number("strike")[order], chain.number("mark_iv")[order]
    suspicious = np.flatnonzero(far_from_neighbours(offsets, strike, iv, 0.5 * settings.smile_points, LEAST_STRIKES))
    order, offsets = _only(order, offsets, suspicious)
    iv = chain.number("mark_iv")[order]
    fitted, scale = _smile(chain, order, offsets)
    distance = np.abs(iv - fitted)
    far = (distance >= settings.smile_points) & (distance >= settings.smile_z * scale)
    far &= far_from_span(offsets, chain.number("strike")[order], iv) >= 0.5 * settings.smile_points
    rows, measure = np.zeros(len(chain), bool), np.full(len(chain), np.nan)
    rows[order[far]] = True
    measure[order] = distance
    return Finding(rows, measure)


def static_arbitrage(chain: Chain, settings: QualitySettings, believed: Bools) -> Finding:
    """Executable quotes of one chain give a riskless profit; the row farthest from fair is blamed. Measure: profit, coin.

    Vertical and butterfly spreads within a right must not pay more than `arbitrage_coin` at bid and ask, nor call
    against put against the forward more than `parity_coin` (a sweep takes seconds to minutes and the forward moves).
    Fair is Black-76 at the robust smile; where no smile can be fitted, the row's own mark.
    """
    from options_agent.pricing.black76 import price_coin
    from options_agent.quality.kernels import blame_arbitrage

    rows, measure = np.zeros(len(chain), bool), np.full(len(chain), np.nan)
    order, offsets = _by_expiry(chain, believed)

    def look(order: Ints, offsets: Ints, fair: Floats, *, only_look: bool) -> tuple[Bools, Floats]:
        coin, profit = _chain_coin(chain, order, offsets), np.full(len(order), np.nan)
        blamed = blame_arbitrage(
            offsets,
            chain.number("strike")[order],
            chain.is_call[order],
            chain.number("bid")[order] * coin,
            chain.number("ask")[order] * coin,
            fair,
            chain.number("forward")[order],
            settings.arbitrage_coin,
            settings.parity_coin,
            profit,
            only_look,
        )
        return blamed, profit

    found, _ = look(order, offsets, np.full(len(order), np.nan), only_look=True)
    if not found.any():
        return Finding(rows)
    groups = np.unique(np.searchsorted(offsets, np.flatnonzero(found), side="right") - 1)
    order, offsets = _only(order, offsets, groups)
    fitted, _ = _smile(chain, order, offsets)
    fair = price_coin(chain.number("forward")[order], chain.number("strike")[order], chain.years[order], fitted, chain.is_call[order])
    fair = np.where(np.isnan(fair), chain.number("mark")[order] * chain.coin[order], fair)
    blamed, profit = look(order, offsets, fair, only_look=False)
    rows[order[blamed]] = True
    measure[order] = profit
    return Finding(rows, measure)


def _by_expiry(chain: Chain, believed: Bools) -> tuple[Ints, Ints]:
    """Believed rows in order of (harvester, snapshot, family, expiry, strike, right), and bounds of each expiry's chain."""
    order = chain.by_expiry
    order = order[believed[order]]
    keys = [column[order] for column in (chain.harvester, chain.snapshot, chain.family, chain.expiry)]
    starts = np.zeros(len(order), bool)
    starts[:1] = True
    for key in keys:
        starts[1:] |= key[1:] != key[:-1]
    return order, np.append(np.flatnonzero(starts), len(order))


def _only(order: Ints, offsets: Ints, groups: Ints) -> tuple[Ints, Ints]:
    """The rows of some groups alone."""
    lengths = offsets[groups + 1] - offsets[groups]
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    if not len(groups):
        return order[:0], bounds
    return np.concatenate([order[offsets[g] : offsets[g + 1]] for g in groups]), bounds


def _smile(chain: Chain, order: Ints, offsets: Ints) -> tuple[Floats, Floats]:
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
