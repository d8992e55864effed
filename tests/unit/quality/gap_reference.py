"""Gaps found slowly and plainly, from sets, by another way than the code they are held against."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

from options_agent.contracts import parse_option

Seen = dict[dt.datetime, set[str]]  # contracts by grid time
Found = set[tuple[str, str | None, dt.datetime | None, dt.datetime | None, int]]


def missing_intervals(times: set[dt.datetime], step: dt.timedelta) -> Found:
    """Every run of grid times without a snapshot between the first and the last."""
    found: Found = set()
    run: list[dt.datetime] = []
    at, last = min(times), None
    while at <= max(times):
        if at in times:
            if run:
                found.add(("interval", None, last, at, len(run)))
            run, last = [], at
        else:
            run.append(at)
        at += step
    return found


def missing_contracts(seen: Seen) -> Found:
    """Every run of snapshots that lack an expiry, or a contract of an expiry they have, after one that has it and before its expiry."""
    times = sorted(seen)
    expiries = {at: {parse_option(name).expiry.isoformat() for name in names} for at, names in seen.items()}
    found: Found = {("expiry", *rest) for rest in _runs(times, expiries)}
    for name, before, after, _ in _runs(times, seen):
        expiry = parse_option(name).expiry.isoformat()
        without = [at for at in times if before < at and (after is None or at < after) and expiry in expiries[at]]
        if without:
            found.add(("strike", name, before, after, len(without)))
    return found


def _runs(times: list[dt.datetime], seen: dict[dt.datetime, set[str]]) -> set[tuple[str, dt.datetime, dt.datetime | None, int]]:
    found: set[tuple[str, dt.datetime, dt.datetime | None, int]] = set()
    for what in set().union(*seen.values()):
        expiry = dt.datetime.fromisoformat(what) if what[0] == "2" else parse_option(what).expiry
        there = [at for at in times if what in seen[at]]
        ends: list[tuple[dt.datetime, dt.datetime | None]] = [*pairwise(there)]
        if len(there) > 1:  # seen once, it may be a spoilt name
            ends.append((there[-1], None))
        for before, after in ends:
            between = [at for at in times if before < at < (after or expiry)]
            if between:
                found.add((what, before, after, len(between)))
    return found
