"""Gaps found slowly and plainly, from sets, by another way than the code they are held against."""

from __future__ import annotations

import datetime as dt

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
    """Every run of snapshots that lack an expiry, or a contract of an expiry they have, between two that have it."""
    times = sorted(seen)
    expiries = {at: {parse_option(name).expiry.isoformat() for name in names} for at, names in seen.items()}
    found = {("expiry", *rest) for rest in _runs(times, expiries)}
    for name, before, after, _ in _runs(times, seen):
        expiry = parse_option(name).expiry.isoformat()
        without = [at for at in times if before < at < after and expiry in expiries[at]]
        if without:
            found.add(("strike", name, before, after, len(without)))
    return found


def _runs(times: list[dt.datetime], seen: dict[dt.datetime, set[str]]) -> set[tuple[str, dt.datetime, dt.datetime, int]]:
    found = set()
    for what in set().union(*seen.values()):
        there = [at for at in times if what in seen[at]]
        for i in range(len(there) - 1):
            between = [at for at in times if there[i] < at < there[i + 1]]
            if between:
                found.add((what, there[i], there[i + 1], len(between)))
    return found
