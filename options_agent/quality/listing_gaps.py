"""Missing expiries and strikes: contracts that a snapshot lacks though the exchange listed them.

Listed is a contract from the first snapshot that has it until it expires, an expiry besides whenever the calendar says so, and
whatever a sweep's note names as listed and not received. Days are read one after the other: a year by the hour takes seconds.
"""

from __future__ import annotations

import copy
import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow.compute as pc

from options_agent.contracts import expected_expiries, listed_expiries, parse_option
from options_agent.errors import DataError
from options_agent.lake.presence import read_presence
from options_agent.lake.store import days
from options_agent.lake.sweeps import SweepNote
from options_agent.quality.gap_causes import EXCHANGE, UNKNOWN, cause_in, read_diaries, told_together, why_missing
from options_agent.quality.gaps import ANY_REGION, GAP_SCHEMA, gap_table

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from options_agent.lake.presence import Presence
    from options_agent.lake.store import Lake
    from options_agent.quality.gap_causes import Diaries

    Ints = NDArray[np.int64]

#: A harvester that saw a smaller share of the expiries the calendar names keeps a selection: the calendar says nothing of it.
WHOLE_LISTING: Final = 0.5
_MICROSECONDS: Final = 1_000_000
_HOUR: Final = 3_600 * _MICROSECONDS
_EIGHT, _DAY = 8 * _HOUR, 24 * _HOUR
#: By expiry, contract (None: all of it), index before and index after (-1: none): the indices that lack it.
_Ends = dict[tuple[int, int | None, int, int], set[int]]


@dataclass(slots=True)
class _Codes:
    """Numbers for names: every contract's, and which expiry (by number) it is of; -1 for a name that is no option's."""

    number: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    expiry_of: list[int] = field(default_factory=list)
    expiries: dict[dt.datetime, int] = field(default_factory=dict)

    def of(self, name: str) -> int:
        if (known := self.number.get(name)) is not None:
            return known
        try:
            expiry = self.expiries.setdefault(parse_option(name).expiry, len(self.expiries))
        except DataError:
            expiry = -1  # a spoilt name is quality's to judge
        self.number[name] = len(self.names)
        self.names.append(name)
        self.expiry_of.append(expiry)
        return self.number[name]


@dataclass(slots=True)
class _Trail:
    """One harvester's snapshots as they are read: their instants, and where each contract and expiry was seen.

    `holes` are (number, index before, index after) of contracts that were there, were not, and were there again.
    `first` and `last` are the indices at which a contract was seen first and last, -1 for never.
    """

    at: list[int] = field(default_factory=list)  # microseconds
    holes: list[Ints] = field(default_factory=list)
    expiry_seen: list[Ints] = field(default_factory=list)  # pairs (expiry, index)
    first: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    last: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    sweeps: dict[int, SweepNote] = field(default_factory=dict)  # by microseconds


def find_listing_gaps(lake: Lake, underlying: str, start: dt.date, end: dt.date) -> pa.Table:
    """Missing expiries and strikes that touch the days `start` to `end` (inclusive), per source and region and for `any` region.

    The nearest days with data on either side are read too. An expiry that a snapshot lacks altogether is one finding of kind
    `expiry`; its contracts are not told again one by one. What snapshots that are missing as a whole would have held is not
    counted: those are missing intervals. Days in the archive only, and files that cannot be read, are passed over.

    Args:
        lake: raw snapshots of one network.
        underlying: family.
        start, end: days, by grid time.

    Returns:
        `gaps.GAP_SCHEMA` rows of kinds `expiry` and `strike`; `missing` counts snapshots.

    Raises:
        DataError: a file of events is damaged.
        StorageError: the lake cannot be read.
    """
    codes, trails = _read(lake, underlying, start, end)
    rows: list[dict[str, Any]] = []
    diaries: Diaries | None = None
    for (source, region), trail in sorted(trails.items()):
        found = [hole for hole in _holes_of(trail, codes, underlying) if _touches(hole, trail, start, end)]
        if not found:
            continue
        if diaries is None:
            diaries = read_diaries(lake, underlying, start, end)
        regions = sorted(of for of_source, of in trails if of_source == source and of != ANY_REGION)
        sweeps = [trails[source, of].sweeps for of in regions] if region == ANY_REGION else [trail.sweeps]
        expiries = list(codes.expiries)
        for hole in found:
            row = _described(hole, trail, codes, expiries)
            cause, detail = _why(hole, trail, sweeps, row, diaries, (underlying, source, regions if region == ANY_REGION else [region]))
            if row["expiry"] not in listed_expiries(row["first_missing"]):
                detail = "; ".join(part for part in (detail, "not in the listing calendar") if part)
            whose = {"underlying": underlying, "source": source, "region": region, "regions": len(regions)}
            rows.append(row | whose | {"cause": cause, "detail": detail})
    return gap_table(rows) if rows else GAP_SCHEMA.empty_table()


@dataclass(frozen=True, slots=True)
class _Hole:
    """An expiry (`contract` is None) or a contract that lacks at the indices `absent`; `before`, `after`: where it was there, or -1."""

    expiry: int
    contract: int | None
    before: int
    after: int
    absent: tuple[int, ...]


def _read(lake: Lake, underlying: str, start: dt.date, end: dt.date) -> tuple[_Codes, dict[tuple[str, str], _Trail]]:
    present = days(lake, "raw", underlying)
    before, after = [day for day in present if day < start][-1:], [day for day in present if day > end][:1]
    codes: _Codes = _Codes()
    trails: dict[tuple[str, str], _Trail] = {}
    for day in [*before, *(day for day in present if start <= day <= end), *after]:
        _add_day(read_presence(lake, underlying, day), codes, trails)
    return codes, trails


def _add_day(day: Presence, codes: _Codes, trails: dict[tuple[str, str], _Trail]) -> None:
    """Walk every harvester's trail, and that of the regions together, through one more day."""
    if not len(day.rows):
        return
    number = _numbered(day.rows["instrument"], codes)
    at = day.rows["snapshot"].cast("int64").to_numpy()
    expires = np.array([*(round(expiry.timestamp()) * _MICROSECONDS for expiry in codes.expiries), 0], np.int64)
    alive = at < expires[np.array(codes.expiry_of, np.int64)[number]]  # a row after its own expiry, or of no option, is quality's to judge
    at, number = at[alive], number[alive]
    sources, regions = (pc.dictionary_encode(day.rows[name].combine_chunks()) for name in ("source", "region"))
    of_source, of_region = sources.indices.to_numpy()[alive], regions.indices.to_numpy()[alive]
    for s, source in enumerate(sources.dictionary.to_pylist()):
        of_this = of_source == s
        here = [(r, region) for r, region in enumerate(regions.dictionary.to_pylist()) if (of_this & (of_region == r)).any()]
        known = {region for of, region in trails if of == source}
        if ANY_REGION not in known and len(known | {region for _, region in here}) > 1:  # so far one region was all there was
            trails[source, ANY_REGION] = copy.deepcopy(trails[source, known.pop()]) if known else _Trail()
        for r, region in here:
            mine = of_this & (of_region == r)
            _walk(trails.setdefault((source, region), _Trail()), at[mine], number[mine], codes)
        if here and (source, ANY_REGION) in trails:
            _walk(trails[source, ANY_REGION], at[of_this], number[of_this], codes)
    for note in day.sweeps:
        instant = round(note.snapshot.timestamp()) * _MICROSECONDS
        if (note.source, note.region) not in trails:
            continue
        trails[note.source, note.region].sweeps[instant] = note
        if (note.source, ANY_REGION) not in trails:
            continue
        together = trails[note.source, ANY_REGION].sweeps
        lacking = set(note.note["missing"])
        if instant in together:
            lacking &= set(together[instant].note["missing"])
        together[instant] = SweepNote(note.snapshot, note.source, ANY_REGION, {**note.note, "missing": sorted(lacking)})


def _numbered(instruments: pa.ChunkedArray, codes: _Codes) -> Ints:
    encoded = pc.dictionary_encode(instruments.combine_chunks())
    translated = np.array([codes.of(name) for name in encoded.dictionary.to_pylist()], np.int64)
    numbers: Ints = translated[encoded.indices.to_numpy()]
    return numbers


def _walk(trail: _Trail, at: Ints, number: Ints, codes: _Codes) -> None:
    """One day of one harvester: new snapshots, and the holes that end on it."""
    offset, instants = len(trail.at), _distinct(at)
    trail.at += instants.tolist()
    index = offset + np.searchsorted(instants, at)
    width = offset + len(instants)
    _grow(trail, len(codes.names))
    pairs = _distinct(number * width + index)  # by contract, then time; a row told twice counts once
    contract, where = pairs // width, pairs % width
    opens = np.concatenate([[True], contract[1:] != contract[:-1]])
    before = np.concatenate([[-1], where[:-1]])
    before[opens] = trail.last[contract[opens]]
    hole = (before >= 0) & (where - before > 1)
    if hole.any():
        trail.holes.append(np.stack([contract[hole], before[hole], where[hole]], axis=1))
    fresh = opens & (trail.first[contract] < 0)
    trail.first[contract[fresh]] = where[fresh]
    closes = np.concatenate([opens[1:], [True]])
    trail.last[contract[closes]] = where[closes]
    expiry = np.array(codes.expiry_of, np.int64)[contract]
    seen = _distinct(expiry[expiry >= 0] * width + where[expiry >= 0])
    trail.expiry_seen.append(np.stack([seen // width, seen % width], axis=1))


def _distinct(values: Ints) -> Ints:
    """The values ascending, each once. By sorting: contracts of a day come nearly sorted, and hashing them costs ten times as much."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def _grow(trail: _Trail, size: int) -> None:
    more = size - len(trail.first)
    if more > 0:
        trail.first = np.concatenate([trail.first, np.full(more, -1, np.int64)])
        trail.last = np.concatenate([trail.last, np.full(more, -1, np.int64)])


def _holes_of(trail: _Trail, codes: _Codes, underlying: str) -> list[_Hole]:
    """Everything a harvester's snapshots lack: whole expiries first, then contracts where their expiry was there."""
    width = len(trail.at)
    seen = np.concatenate(trail.expiry_seen)
    keys = _distinct(seen[:, 0] * width + seen[:, 1])
    expiry, where = keys // width, keys % width
    apart = np.flatnonzero((expiry[1:] == expiry[:-1]) & (where[1:] - where[:-1] > 1))
    found = [
        _Hole(e, None, a, b, tuple(range(a + 1, b)))
        for e, a, b in zip(expiry[apart].tolist(), where[apart].tolist(), where[apart + 1].tolist(), strict=True)
    ]
    if trail.holes:
        holes = np.concatenate(trail.holes)
        of = np.array(codes.expiry_of, np.int64)[holes[:, 0]]
        low, high = np.searchsorted(keys, of * width + holes[:, 1] + 1), np.searchsorted(keys, of * width + holes[:, 2])
        for i in np.flatnonzero((high > low) & (of >= 0)).tolist():
            contract, a, b = holes[i].tolist()
            found.append(_Hole(int(of[i]), contract, a, b, tuple(where[low[i] : high[i]].tolist())))
    return found + _at_the_ends(trail, codes, keys, underlying)


def _at_the_ends(trail: _Trail, codes: _Codes, keys: Ints, underlying: str) -> list[_Hole]:
    """What lacks before it was ever seen, or since it was seen last: by the calendar, by contracts' own lives, by sweeps' notes."""
    found: _Ends = {}
    _add_calendar(found, trail, codes, keys, underlying)
    _add_vanished(found, trail, codes, keys)
    _add_noted(found, trail, codes, keys)
    return [_Hole(*key, tuple(sorted(indices))) for key, indices in sorted(found.items(), key=str)]


def _add_calendar(found: _Ends, trail: _Trail, codes: _Codes, keys: Ints, underlying: str) -> None:
    """Expiries the calendar says were open before this harvester first saw them, or that it never saw."""
    at, width = np.array(trail.at, np.int64), len(trail.at)
    session = (at - _EIGHT) // _DAY * 2 + ((at - _EIGHT) % _DAY < _HOUR)  # the calendar is the same all along one of these
    open_at: dict[int, list[Ints]] = {}
    for one in np.unique(session):
        indices = np.flatnonzero(session == one)
        for listed in expected_expiries(underlying, _at(trail, int(indices[0]))):
            open_at.setdefault(codes.expiries.setdefault(listed, len(codes.expiries)), []).append(indices)
    expected = {expiry: np.concatenate(parts) for expiry, parts in open_at.items()}
    met = sum(int(np.isin(indices, _seen(keys, expiry, width)).sum()) for expiry, indices in expected.items())
    if met < WHOLE_LISTING * sum(map(len, expected.values())):
        return
    for expiry, indices in expected.items():
        seen = _seen(keys, expiry, width)
        first = int(seen[0]) if len(seen) else -1
        if len(early := indices[indices < first] if len(seen) else indices):
            found.setdefault((expiry, None, -1, first), set()).update(early.tolist())


def _add_vanished(found: _Ends, trail: _Trail, codes: _Codes, keys: Ints) -> None:
    """Expiries and contracts that are not seen again though they had not expired: the exchange delists nothing before its time.

    One that was seen in a single snapshot proves nothing: it may be a spoilt name.
    """
    at, width = np.array(trail.at, np.int64), len(trail.at)
    for expiry, number in codes.expiries.items():
        seen = _seen(keys, number, width)
        end = int(np.searchsorted(at, round(expiry.timestamp()) * _MICROSECONDS))
        if len(seen) > 1 and end > seen[-1] + 1:
            found.setdefault((number, None, int(seen[-1]), -1), set()).update(range(int(seen[-1]) + 1, end))
    of = np.array(codes.expiry_of[: len(trail.last)], np.int64)
    low, high = np.searchsorted(keys, of * width + trail.last + 1), np.searchsorted(keys, (of + 1) * width)
    for contract in np.flatnonzero((of >= 0) & (trail.last > trail.first) & (high > low)).tolist():
        absent = (keys[low[contract] : high[contract]] % width).tolist()
        found.setdefault((int(of[contract]), contract, int(trail.last[contract]), -1), set()).update(absent)


def _add_noted(found: _Ends, trail: _Trail, codes: _Codes, keys: Ints) -> None:
    """Contracts that sweeps name as missing outside of the time between their first and their last row."""
    width = len(trail.at)
    index_of = {at: i for i, at in enumerate(trail.at)}
    absent: dict[int, list[int]] = {}
    for at, note in trail.sweeps.items():
        for name in note.note["missing"]:
            number, i = codes.of(name), index_of.get(at)
            if i is not None and codes.expiry_of[number] >= 0:
                absent.setdefault(number, []).append(i)
    _grow(trail, len(codes.names))
    expires = {number: round(expiry.timestamp()) * _MICROSECONDS for expiry, number in codes.expiries.items()}
    for contract, indices in absent.items():
        first, last, expiry = int(trail.first[contract]), int(trail.last[contract]), codes.expiry_of[contract]
        of_expiry = _seen(keys, expiry, width)
        with_expiry = set(of_expiry.tolist())
        for i in indices:
            if expires[expiry] <= trail.at[i]:  # a listing that still names what has expired
                continue
            if first >= 0 and first <= i <= last:  # told already, or there in another region
                continue
            whole = i not in with_expiry
            before, after = (last if first >= 0 and i > last else -1), (first if i < first else -1)
            if whole:  # the expiry lacks altogether: between snapshots that have it, it is told already; else once for all its contracts
                earlier, later = of_expiry[of_expiry < i], of_expiry[of_expiry > i]
                if len(earlier) and len(later):
                    continue
                before, after = int(earlier[-1]) if len(earlier) else -1, int(later[0]) if len(later) else -1
            found.setdefault((expiry, None if whole else contract, before, after), set()).add(i)


def _seen(keys: Ints, expiry: int, width: int) -> Ints:
    """The indices at which an expiry was seen, ascending."""
    return keys[np.searchsorted(keys, expiry * width) : np.searchsorted(keys, (expiry + 1) * width)] % width


def _touches(hole: _Hole, trail: _Trail, start: dt.date, end: dt.date) -> bool:
    return _at(trail, hole.absent[-1]).date() >= start and _at(trail, hole.absent[0]).date() <= end


def _at(trail: _Trail, index: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(trail.at[index] // _MICROSECONDS, dt.UTC)


def _described(hole: _Hole, trail: _Trail, codes: _Codes, expiries: list[dt.datetime]) -> dict[str, Any]:
    expiry, first = expiries[hole.expiry], _at(trail, hole.absent[0])
    spacing = np.diff(np.array(trail.at[max(hole.absent[0] - 1, 0) : hole.absent[-1] + 2]))
    return {
        "kind": "expiry" if hole.contract is None else "strike",
        "expiry": expiry,
        "instrument": None if hole.contract is None else codes.names[hole.contract],
        "opened_at": _at(trail, hole.before) if hole.before >= 0 else None,
        "closed_at": _at(trail, hole.after) if hole.after >= 0 else None,
        "first_missing": first,
        "last_missing": _at(trail, hole.absent[-1]),
        "missing": len(hole.absent),
        "interval_seconds": float(np.median(spacing)) / _MICROSECONDS if len(spacing) else 0.0,
    }


def _why(
    hole: _Hole,
    trail: _Trail,
    sweeps: list[dict[int, SweepNote]],
    row: dict[str, Any],
    diaries: Diaries,
    harvester: tuple[str, str, list[str]],
) -> tuple[str, str]:
    """The cause by the sweeps' notes: what they say of the rows they lack, or that the exchange did not list it."""
    underlying, source, regions = harvester
    step = dt.timedelta(seconds=row["interval_seconds"])
    causes = []
    for index in hole.absent:
        notes = [(of, note) for of, told in zip(regions, sweeps, strict=True) if (note := told.get(trail.at[index])) is not None]
        if not notes:
            causes += [why_missing(diaries, underlying, source, of, _at(trail, index), step) for of in regions] or [UNKNOWN]
        for _, note in notes:
            named = row["instrument"] in note.note["missing"] if row["instrument"] else not note.complete
            causes.append(cause_in(note.note["cause"] or "") if named else EXCHANGE)
    return told_together(causes)
