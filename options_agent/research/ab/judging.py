"""A comparison as of now: paired days from the books' journals, the interval so far, and what may be concluded."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.durable import plain_json
from options_agent.errors import DataError
from options_agent.journal.chain import append_line, read_chain
from options_agent.journal.entries import journal_path, marks_table
from options_agent.research.ab.declaration import folder_of
from options_agent.research.ab.sequential import always_valid_p, intervals, mixing_for, smallest_visible, variances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from options_agent.research.ab.declaration import Arm, Comparison
    from options_agent.settings import Settings

    Floats = NDArray[np.float64]

DAY_US: Final = 86_400_000_000
#: Share of days that may be missing on either side before a comparison is refused.
MOST_MISSING: Final = 0.1
OPEN, BETTER, WORSE, FUTILE = "open", "better", "worse", "no difference seen"


@dataclass(frozen=True, slots=True)
class Standing:
    """An arm beside the control.

    Attributes:
        days: paired days of the test; missing: days of the test on which either book has no mark.
        mean, low, high: of the daily difference (arm less control, decimal) and its always-valid interval.
        p: always-valid. variance: long-run, of one day, as of now; shadow_days it began with.
        verdict: open, better, worse, or no difference seen (at most_days).
        visible: smallest daily difference that would be seen by most_days with 80 % power.
        path: (days,) of interval ends, for the plot.
    """

    arm: str
    control: str
    days: int
    missing: int
    mean: float
    low: float
    high: float
    p: float
    variance: float
    shadow_days: int
    verdict: str
    visible: float
    path: tuple[tuple[float, float], ...]


def standings(comparison: Comparison, settings: Settings, *, until: dt.datetime | None = None) -> list[Standing]:
    """Every arm beside the control, by what the journals hold (up to `until`).

    Raises:
        DataError: a journal is missing or broken, covers too little of the other's days, or the shadow period is too short.
    """
    control, *others = comparison.arms
    return [_standing(comparison, control, arm, settings, until) for arm in others]


def look(comparison: Comparison, settings: Settings) -> list[Standing]:
    """`standings`, and a line in the ledger of looks where there is a day more than at the last one. Looking costs nothing here."""
    found = standings(comparison, settings)
    path = folder_of(comparison.name, settings) / "looks.jsonl"
    before = read_chain(path)
    now = [{k: v for k, v in asdict(s).items() if k != "path"} for s in found]
    if not before:
        append_line(path, {"kind": "declared", "sha256": comparison.sha256})
    elif before[0]["sha256"] != comparison.sha256:
        raise DataError("the comparison was begun with another declaration", place=str(path), remedy="restore declaration.toml")
    last = next((e for e in reversed(before) if e["kind"] == "look"), None)
    if last is None or [s["days"] for s in last["standings"]] != [s["days"] for s in now]:
        append_line(path, {"kind": "look", "standings": plain_json(now)})
    return found


def _standing(comparison: Comparison, control: Arm, arm: Arm, settings: Settings, until: dt.datetime | None) -> Standing:
    ours, theirs = (daily(settings, a.book, comparison.metric, until) for a in (control, arm))
    begin, start = (
        int(dt.datetime.combine(d, dt.time(), dt.UTC).timestamp()) // 86_400 for d in (comparison.shadow_start, comparison.start)
    )
    shadow, _ = paired(ours, theirs, begin, start)
    end = max(max(s, default=start - 1) for s in (ours, theirs)) + 1
    test, missing = paired(ours, theirs, start, min(end, start + comparison.most_days))
    days = len(test)
    if days and missing > MOST_MISSING * (days + missing):
        raise DataError(
            f"{missing} of {days + missing} days of the test lack a mark of {control.book} or {arm.book}",
            place=str(journal_path(settings, arm.book)),
            remedy="find out why a book was silent; a comparison of the days that are left would flatter whoever was silent on bad ones",
        )
    differences = np.array([test[d] for d in sorted(test)])
    by_day = variances(np.array([shadow[d] for d in sorted(shadow)]), differences)
    mixing, alpha, variance = mixing_for(comparison.effect), comparison.alpha_each, float(by_day[-1])
    visible = smallest_visible(comparison.most_days, variance, mixing, alpha)
    if not days:
        return Standing(arm.name, control.name, 0, missing, 0.0, -np.inf, np.inf, 1.0, variance, len(shadow), OPEN, visible, ())
    lows, highs = intervals(differences, by_day, mixing, alpha)
    p = float(always_valid_p(differences, by_day, mixing)[-1])
    low, high, verdict = float(lows[-1]), float(highs[-1]), OPEN
    if days >= comparison.least_days:
        verdict = BETTER if low > 0 else WORSE if high < 0 else FUTILE if days >= comparison.most_days else OPEN
    path = tuple(zip(lows.tolist(), highs.tolist(), strict=True))
    return Standing(
        arm.name, control.name, days, missing, float(differences.mean()), low, high, p, variance, len(shadow), verdict, visible, path
    )


def daily(settings: Settings, book: str, metric: str, until: dt.datetime | None = None) -> dict[int, float]:
    """Return of each whole UTC day (its number since the epoch), decimal: last mark of the day over that of the day before.

    Raises:
        DataError: there is no journal, or it is broken, or equity is not positive.
    """
    path = journal_path(settings, book)
    if not path.exists():
        raise DataError(f"book {book!r} has no journal", place=str(path), remedy="`options-agent ab run-shadow`, or start the book")
    table = marks_table(path, until=until)
    ts, values = np.asarray(table["ts"].combine_chunks().cast("int64")), table[metric].to_numpy()
    if values.size and not (values > 0).all():
        raise DataError(f"book {book!r} has marks that are not positive", place=str(path), remedy="a ruined book is no arm of a test")
    closes = {int(t // DAY_US): float(v) for t, v in zip(ts, values, strict=True)}  # the last of a day stays
    newest = max(closes, default=0)  # this day may not be over
    return {day: closes[day] / closes[day - 1] - 1 for day in closes if day - 1 in closes and day < newest}


def paired(control: dict[int, float], arm: dict[int, float], first: int, end: int) -> tuple[dict[int, float], int]:
    """Arm less control on the days [first, end) that both have, and how many days one of them lacks."""
    both = {day: arm[day] - control[day] for day in range(first, end) if day in control and day in arm}
    return both, max(0, end - first) - len(both)


def as_dict(one: Standing) -> dict[str, Any]:
    """Plain data."""
    plain: dict[str, Any] = plain_json(asdict(one))
    return plain
