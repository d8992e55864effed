"""Thresholds learnt from history where one number cannot be right for all: how far an IV may lie from its smile.

A smile of a year's options is smooth to a point, one of the last hours is not; a fixed threshold wide enough for the latter
is blind to errors of ten points in the former. So it is learnt for each underlying and tenor from the weeks before a month
began, never from the month itself, kept as a receipt, and part of what a day's verdict answers. The fixed one holds where
there is too little history, and is never exceeded.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.errors import DataError
from options_agent.lake.receipts import Receipt, fingerprint, read_receipt, write_receipt
from options_agent.lake.store import days, read_raw_day
from options_agent.quality.chain import Bools, Chain, Floats, Ints, chain_of
from options_agent.quotes import QUOTE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from options_agent.lake.store import Lake
    from options_agent.settings import QualitySettings, Settings

STAGE: Final = "thresholds"
#: Raise when the same history would teach something else.
LEARNING_VERSION: Final = 1
#: Upper bounds of the tenors, days; the last has none.
TENORS: Final = (0.25, 1.0, 3.0, 10.0, 35.0, 100.0)
#: The threshold is so many times the distance that all but so large a share of past rows kept.
QUANTILE: Final = 0.995
FACTOR: Final = 6.0
#: No threshold is learnt below this, decimal volatility, nor from fewer rows or days.
FLOOR: Final = 0.05
LEAST_ROWS: Final = 1_000
LEAST_DAYS: Final = 7
_WEEKS_BACK: Final = dt.timedelta(days=56)
_MOST_DAYS: Final = 14
_SNAPSHOTS_A_DAY: Final = 4


@dataclass(frozen=True, slots=True)
class Learnt:
    """Distances from the smile, decimal volatility, beyond which a row is an outlier: one a tenor, None where rows were too few.

    `rows` (tenors,) is from how many rows each was learnt, `until` the last day (ISO) of those that taught it.
    """

    points: tuple[float | None, ...]
    rows: tuple[int, ...]
    until: str

    def document(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {"points": list(self.points), "rows": list(self.rows), "until": self.until}

    def at(self, years: Floats, fixed: float) -> Floats:
        """The threshold of rows of these times to expiry, never above the fixed one."""
        points = np.array([fixed if value is None else min(value, fixed) for value in self.points])
        return points[tenor_of(years)]

    def told(self, years: float) -> str:
        """Where a row's threshold comes from, for its reason; empty where it is the fixed one."""
        tenor = int(tenor_of(np.array([years]))[0])
        return "" if self.points[tenor] is None else f"learnt from {self.rows[tenor]:,} rows up to {self.until}"


def tenor_of(years: Floats) -> Ints:
    """Which tenor a time to expiry, in years of 365 days, belongs to."""
    return np.searchsorted(np.array(TENORS), years * 365.0, side="right")


def learn(history: pa.Table, settings: QualitySettings, *, until: dt.date) -> Learnt:
    """Learn from rows of one underlying. Pure.

    A row's distance is what the rule asks: the lesser of that from the fitted smile and twice that from the span of its
    neighbours. Rows that the fixed rules condemn teach nothing, and a share of bad ones under `1 - QUANTILE` hardly anything.

    Args:
        history: `QUOTE_SCHEMA`, all known before the rows to be judged.
        until: the last day of it.
    """
    from options_agent.quality.judge import Asked, ask
    from options_agent.quality.rules import active

    asked = Asked(chain_of(history.combine_chunks()), settings, active(settings))
    ask(asked)
    tenors, distance = distances(asked.chain, asked.believed)
    points: list[float | None] = []
    rows = []
    for tenor in range(len(TENORS) + 1):
        own = distance[tenors == tenor]
        rows.append(len(own))
        enough = len(own) >= LEAST_ROWS
        points.append(max(FLOOR, round(FACTOR * float(np.quantile(own, QUANTILE)), 4)) if enough else None)
    return Learnt(tuple(points), tuple(rows), until.isoformat())


def distances(chain: Chain, believed: Bools) -> tuple[Ints, Floats]:
    """Tenor and distance (as the rule measures it) of every believed row that has a smile to lie on."""
    from options_agent.quality.cross_checks import believed_chains, fitted_smile
    from options_agent.quality.kernels import distances_from_span

    order, offsets = believed_chains(chain, believed)
    iv = chain.number("mark_iv")[order]
    fitted, _ = fitted_smile(chain, order, offsets)
    distance = np.minimum(np.abs(iv - fitted), 2.0 * distances_from_span(offsets, chain.number("strike")[order], iv))
    known = ~np.isnan(distance)
    return tenor_of(chain.years[order[known]]), distance[known]


def learnt_before(lake: Lake, underlying: str, day: dt.date, *, settings: Settings) -> Learnt | None:
    """What was learnt for the month of a day, as it was kept; None where nothing was, or settings say not to."""
    if not settings.quality.learn_thresholds:
        return None
    receipt = read_receipt(lake, STAGE, underlying, f"{day:%Y-%m}")
    if receipt is None or receipt.fingerprint != _mark(settings.quality):
        return None
    kept: dict[str, Any] = receipt.details
    return Learnt(tuple(kept["points"]), tuple(kept["rows"]), kept["until"])


def ensure_learnt(lake: Lake, underlying: str, day: dt.date, *, settings: Settings) -> Learnt | None:
    """`learnt_before`, learning now what was not learnt yet; None while the weeks before have under `LEAST_DAYS` raw days.

    What is learnt stays until its receipt is deleted or the settings of quality change, so that days judged once stay judged.

    Raises:
        StorageError: the lake cannot be read or written.
    """
    known = learnt_before(lake, underlying, day, settings=settings)
    if known is not None or not settings.quality.learn_thresholds:
        return known
    month = day.replace(day=1)
    before = [past for past in days(lake, "raw", underlying) if month - _WEEKS_BACK <= past < month]
    if len(before) < LEAST_DAYS:
        return None
    chosen = _evenly(before, _MOST_DAYS)
    history = pa.concat_tables([QUOTE_SCHEMA.empty_table(), *(_some_of(lake, underlying, past) for past in chosen)])
    learnt = learn(history, settings.quality, until=before[-1])
    write_receipt(
        lake,
        Receipt(
            stage=STAGE,
            underlying=underlying,
            partition=f"{day:%Y-%m}",
            fingerprint=_mark(settings.quality),
            counts={"rows": sum(learnt.rows), "days": len(chosen)},
            details=learnt.document(),
        ),
    )
    return learnt


def _mark(settings: QualitySettings) -> str:
    return fingerprint(STAGE, LEARNING_VERSION, settings)


def _some_of(lake: Lake, underlying: str, day: dt.date) -> pa.Table:
    """A few snapshots of a raw day; nothing of a day that cannot be read."""
    try:
        table = read_raw_day(lake, underlying, day)
    except DataError:
        return QUOTE_SCHEMA.empty_table()
    snapshots = sorted(value for value in pc.unique(table.column("snapshot")).to_pylist() if value is not None)
    wanted = pa.array(_evenly(snapshots, _SNAPSHOTS_A_DAY), table.schema.field("snapshot").type)
    return table.filter(pc.is_in(table.column("snapshot"), wanted))


def _evenly(items: Sequence[Any], most: int) -> list[Any]:
    if len(items) <= most:
        return list(items)
    return [items[round(n * (len(items) - 1) / (most - 1))] for n in range(most)]
