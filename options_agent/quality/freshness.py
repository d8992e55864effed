"""How fresh the quotes are: the one answer that the orchestrator, the alerts, `doctor` and the dashboard all show."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from options_agent.errors import DataError
from options_agent.lake.encoding import summary_of
from options_agent.lake.layout import parse_snapshot_name
from options_agent.lake.raw import sweeps
from options_agent.lake.retained import retained_days
from options_agent.lake.store import days, snapshot_files
from options_agent.lake.sweeps import SweepNote, note_in
from options_agent.quality.gaps import ANY_REGION
from options_agent.settings import LIVE_SOURCES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from options_agent.lake.store import Lake, SnapshotFile
    from options_agent.settings import Settings

State = Literal["fresh", "late", "stale", "never"]
#: From best to worst.
STATES: Final[tuple[State, ...]] = ("fresh", "late", "stale", "never")


@dataclass(frozen=True, slots=True)
class Freshness:
    """The last good snapshot of an underlying from one region of a source, or (`region` = `any`) from whichever has the newest.

    `newest` is None where there never was one; `allowed` None where nothing new is expected (a source with an end, or one the
    settings do not name): its state is then `fresh`. `passed_over`: newer snapshots that were too partial, or unreadable.
    """

    underlying: str
    source: str
    region: str
    newest: dt.datetime | None
    age: dt.timedelta | None
    allowed: dt.timedelta | None
    state: State
    passed_over: int = 0


def freshness(lake: Lake, settings: Settings, now: dt.datetime) -> list[Freshness]:
    """The last good snapshot per underlying, source and region, and of the regions together, with how it stands.

    Good is a snapshot whose file can be read and whose sweep, where it says so, has at least `freshness.good_share` of the listed
    contracts. `late`: older than `live_interval_minutes` + `alerts.gap_grace_minutes`; `stale`: by another
    `freshness.stale_intervals` intervals. Regions silent for `freshness.retired_days` while others are heard are left out.

    Args:
        lake: raw snapshots of one network.
        settings: underlyings, the source and its schedule, the region of this desk.
        now: the present, UTC-aware.

    Returns:
        Rows by underlying, source and region, `any` last; a configured underlying of which there is
            nothing has one of state `never`.

    Raises:
        StorageError: the lake cannot be read.
    """
    found: list[Freshness] = []
    for underlying in settings.underlyings:
        good = _last_good(lake, underlying, settings)
        if not good or (settings.source in LIVE_SOURCES and not any(source == settings.source for source, _ in good)):
            good[settings.source, settings.region] = (None, 0)
        for source in sorted({source for source, _ in good}):
            allowed = _allowed(source, settings)
            regions = {region: one for (of, region), one in sorted(good.items()) if of == source}
            newest = max((at for at, _ in regions.values() if at is not None), default=None)
            passed = min(skipped for at, skipped in regions.values() if at == newest)
            regions[ANY_REGION] = (newest, passed)
            found += [_judged(underlying, source, region, *one, allowed, now, settings) for region, one in regions.items()]
    return found


def worst(found: Sequence[Freshness]) -> State:
    """The worst state among those of the regions together: one region may be down while others stand in for it."""
    return max((one.state for one in found if one.region == ANY_REGION), key=STATES.index, default="never")


def describe(one: Freshness) -> str:
    """`last good snapshot 2026-01-31 12:00 UTC, 14 min ago (20 min allowed)`."""
    if one.newest is None or one.age is None:
        return "no good snapshot yet"
    says = f"last good snapshot {one.newest:%Y-%m-%d %H:%M} UTC, {_ago(one.age)} ago"
    if one.allowed is not None:
        says += f" ({_ago(one.allowed)} allowed)"
    return says + (f"; {one.passed_over} newer too partial or unreadable" if one.passed_over else "")


def _judged(
    underlying: str,
    source: str,
    region: str,
    newest: dt.datetime | None,
    passed: int,
    allowed: dt.timedelta | None,
    now: dt.datetime,
    settings: Settings,
) -> Freshness:
    if newest is None:
        return Freshness(underlying, source, region, None, None, allowed, "never", passed)
    age = now - newest
    state: State = "fresh"
    if allowed is not None and age > allowed:
        stale = allowed + settings.freshness.stale_intervals * dt.timedelta(minutes=settings.live_interval_minutes)
        state = "stale" if age > stale else "late"
    return Freshness(underlying, source, region, newest, age, allowed, state, passed)


def _allowed(source: str, settings: Settings) -> dt.timedelta | None:
    if source != settings.source or source not in LIVE_SOURCES:
        return None
    return dt.timedelta(minutes=settings.live_interval_minutes + settings.alerts.gap_grace_minutes)


def _last_good(lake: Lake, underlying: str, settings: Settings) -> dict[tuple[str, str], tuple[dt.datetime | None, int]]:
    """The last good snapshot of each (source, region) that wrote within the last days, and how many newer were passed over."""
    retained = {day: one.snapshots for day, one in retained_days(lake, underlying).items() if one.snapshots}
    present = sorted({*days(lake, "raw", underlying), *retained}, reverse=True)
    good: dict[tuple[str, str], tuple[dt.datetime | None, int]] = {}
    for day in present:
        if (present[0] - day).days > settings.freshness.retired_days:
            break
        files = retained.get(day) or _files(lake, underlying, day)
        notes: dict[tuple[dt.datetime, str, str], SweepNote] | None = None
        for file in sorted(files, key=lambda file: file.snapshot, reverse=True):
            newest, passed = good.get((file.source, file.region), (None, 0))
            if newest is not None:
                continue
            if notes is None and file.path and parse_snapshot_name(file.path.rsplit("/", 1)[-1]) is None:
                notes = {(note.snapshot, note.source, note.region): note for note in _notes(lake, underlying, day)}
            fine = _is_good(lake, file, notes or {}, settings.freshness.good_share)
            good[file.source, file.region] = (file.snapshot, passed) if fine else (None, passed + 1)
    return good


def _files(lake: Lake, underlying: str, day: dt.date) -> Sequence[SnapshotFile]:
    try:
        return snapshot_files(lake, underlying, day)
    except DataError:
        return ()  # the compacted file is damaged: no snapshot of that day can be read


def _notes(lake: Lake, underlying: str, day: dt.date) -> Sequence[SweepNote]:
    try:
        return sweeps(lake, underlying, day)
    except DataError:
        return ()


def _is_good(lake: Lake, file: SnapshotFile, notes: dict[tuple[dt.datetime, str, str], SweepNote], least: float) -> bool:
    """Whether a snapshot can be read and is whole enough. One that lies in the archive only was, or it would not have been deleted."""
    told: SweepNote | None = notes.get((file.snapshot, file.source, file.region))
    if file.path and parse_snapshot_name(file.path.rsplit("/", 1)[-1]) is not None:
        data, place = lake.files.read_or_none(file.path), lake.files.place(file.path)
        if data is None:  # compacted this very moment
            return True
        try:
            if summary_of(data, place=place).rows == 0:
                return False
            note = note_in(data, place=place)
        except DataError:
            return False
        told = SweepNote(file.snapshot, file.source, file.region, note) if note is not None else None
    return told is None or told.share >= least


def _ago(age: dt.timedelta) -> str:
    minutes = age.total_seconds() / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.1f} days"
