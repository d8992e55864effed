"""What is to be believed of one day: rows judged, gaps, regions, sweeps and coverage, as one plain document.

Read from what the stages left (receipts, quarantine, notes of sweeps and events); `day_page` makes a page of it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow.compute as pc

from options_agent.contracts import expected_expiries, parse_option
from options_agent.errors import DataError
from options_agent.lake.presence import read_presence
from options_agent.lake.receipts import read_receipt
from options_agent.lake.retained import retained_day
from options_agent.lake.store import read_day
from options_agent.quality.gap_causes import CAUSES
from options_agent.quality.gap_report import all_gaps
from options_agent.quality.gaps import merged_view, scheduled_step
from options_agent.quality.regions import compare_regions
from options_agent.quality.rules import RULES

if TYPE_CHECKING:
    import pyarrow as pa

    from options_agent.lake.presence import Presence
    from options_agent.lake.store import Lake
    from options_agent.lake.sweeps import SweepNote
    from options_agent.settings import Settings

#: So many quarantined rows are shown: of every rule its worst before any rule's second.
EXAMPLES: Final = 10
#: So many gaps of a kind are listed, the longest; all are counted.
MOST_GAPS: Final = 60
_SHOWN: Final = ("ts", "snapshot", "instrument", "bid", "ask", "mark", "mark_iv", "source", "region", "rule", "rules", "reason")
_A_DAY: Final = dt.timedelta(days=1)

Document = dict[str, Any]


def day_report(lake: Lake, underlying: str, day: dt.date, *, settings: Settings, now: dt.datetime | None = None) -> Document:
    """Everything known of the quality of one day, JSON throughout. The same lake, settings and day give the same document.

    Args:
        lake: raw, judged and noted.
        underlying: family.
        day: UTC.
        settings: schedule and thresholds.
        now: the present where the day is not over; None = it is.

    Returns:
        `rows` (in, clean, quarantined, by rule; None where the day is not judged), `examples`, `gaps`, `harvesters`, `regions`,
        `sweeps`, `coverage`, `thresholds`, and `learnt`: what was learnt from history in place of fixed ones.

    Raises:
        DataError: nothing is known of the day, or a compacted file is damaged.
        StorageError: the lake cannot be read.
    """
    presence = read_presence(lake, underlying, day)
    retained = retained_day(lake, underlying, day)
    receipt = read_receipt(lake, "quality", underlying, day.isoformat())
    if not len(presence.rows) and receipt is None and retained is None:
        raise DataError(f"nothing is known of {underlying} on {day}", place=lake.root, remedy="harvest the day, and judge it")
    live_now = now if now is not None and now.date() == day else None
    gaps = all_gaps(lake, underlying, day, day, settings=settings, now=live_now)
    sweeps = list(presence.sweeps or (retained.sweeps if retained else ()))
    end = live_now or dt.datetime.combine(day + _A_DAY, dt.time(), dt.UTC)
    return {
        "underlying": underlying,
        "day": day.isoformat(),
        "network": lake.network,
        "archived": list(retained.layers) if retained else [],
        "damaged": list(presence.damaged),
        "rows": _rows(receipt.counts) if receipt else None,
        "set_aside": receipt.details.get("set_aside", []) if receipt else [],
        "examples": _examples(read_day(lake, "quarantine", underlying, day)) if receipt else [],
        "gaps": _gaps(gaps),
        "harvesters": _harvesters(lake, underlying, presence, sweeps, settings, end),
        "regions": [{"kind": one.kind, "says": str(one), "source": one.source} for one in _disagreements(lake, underlying, day, settings)],
        "sweeps": _sweeps(sweeps),
        "coverage": _coverage(presence, underlying, day),
        "thresholds": _thresholds(settings),
        "learnt": receipt.details.get("learnt") if receipt else None,
    }


def _rows(counts: dict[str, int]) -> Document:
    rules = {rule.name: rule for rule in RULES}
    by_rule = [
        {"rule": name, "severity": rules[name].severity, "reason": rules[name].reason, "rows": n}
        for key, n in counts.items()
        if (name := key.partition(":")[2]) in rules and n
    ]
    by_rule.sort(key=lambda row: (row["severity"], -int(str(row["rows"]))))
    into = counts["rows_in"]
    return {
        "in": into,
        "clean": counts["clean"],
        "quarantined": counts["quarantined"],
        "share": counts["quarantined"] / into if into else 0.0,
        "snapshots": counts.get("snapshots", 0),
        "files_set_aside": counts.get("files_set_aside", 0),
        "by_rule": by_rule,
    }


def _examples(quarantined: pa.Table) -> list[Document]:
    """The worst rows: those that broke most rules, one of every rule before another of any."""
    if not len(quarantined):
        return []
    broken = pc.count_substring(quarantined["rules"], ",").to_numpy()
    order = np.argsort(-broken, kind="stable")
    names = quarantined["rule"].to_pylist()
    seen: dict[str, int] = {}
    ranked = []
    for at in order.tolist():
        ranked.append((seen.get(names[at], 0), at))
        seen[names[at]] = seen.get(names[at], 0) + 1
    chosen = [at for _, at in sorted(ranked, key=lambda pair: pair[0])[:EXAMPLES]]
    return [_json(row) for row in quarantined.select(list(_SHOWN)).take(chosen).to_pylist()]


def _gaps(gaps: pa.Table) -> Document:
    rows = gaps.to_pylist()
    lake_wide = merged_view(gaps).to_pylist()
    kinds = ("interval", "expiry", "strike")
    longest = {kind: sorted((r for r in rows if r["kind"] == kind), key=lambda r: -r["missing"])[:MOST_GAPS] for kind in kinds}
    return {
        "counts": {kind: sum(row["kind"] == kind for row in lake_wide) for kind in kinds},
        "missing": sum(row["missing"] for row in lake_wide if row["kind"] == "interval"),
        "listed": [_json(row) for kind in kinds for row in sorted(longest[kind], key=lambda row: row["first_missing"])],
        "more": sum(max(0, sum(row["kind"] == kind for row in rows) - MOST_GAPS) for kind in kinds),
        "causes": {row["cause"]: CAUSES[row["cause"]] for row in rows},
    }


def _harvesters(
    lake: Lake, underlying: str, presence: Presence, sweeps: list[SweepNote], settings: Settings, end: dt.datetime
) -> list[Document]:
    """What each region wrote, and how old its last good snapshot was when the day ended (or is now)."""
    rows = presence.rows
    found = []
    per = rows.group_by(["source", "region", "snapshot"]).aggregate([("instrument", "count_distinct")]).to_pylist() if len(rows) else []
    shares = {(note.source, note.region, note.snapshot): note.share for note in sweeps}
    for source, region in sorted({(row["source"], row["region"]) for row in per}):
        mine = {row["snapshot"]: row["instrument_count_distinct"] for row in per if (row["source"], row["region"]) == (source, region)}
        good = [at for at in mine if shares.get((source, region, at), 1.0) >= settings.freshness.good_share]
        step = scheduled_step(lake, underlying, source, settings)
        found.append(
            {
                "source": source,
                "region": region,
                "snapshots": len(mine),
                "expected": round(_A_DAY / step) if step and end - min(mine) >= _A_DAY else None,
                "rows": sum(mine.values()),
                "contracts": max(mine.values()),
                "first": min(mine).isoformat(),
                "last_good": max(good).isoformat() if good else None,
                "age_minutes": round((end - max(good)).total_seconds() / 60, 1) if good else None,
                "partial": sum(shares.get((source, region, at), 1.0) < 1.0 for at in mine),
            }
        )
    return found


def _disagreements(lake: Lake, underlying: str, day: dt.date, settings: Settings) -> list[Any]:
    try:
        return list(compare_regions(lake, underlying, day, settings.regions))
    except DataError:
        return []  # a damaged file is told under `damaged`


def _sweeps(sweeps: list[SweepNote]) -> Document:
    skews = [float(one.note["skew_seconds"]) for one in sweeps]
    return {
        "count": len(sweeps),
        "complete": sum(one.complete for one in sweeps),
        "median_skew_seconds": median(skews) if skews else None,
        "worst_skew_seconds": max(skews, default=None),
        "worst_share": min((one.share for one in sweeps), default=None),
        "listed": [
            {
                "at": one.snapshot.isoformat(),
                "source": one.source,
                "region": one.region,
                "expected": one.note["expected"],
                "received": one.note["received"],
                "missing": len(one.note["missing"]),
                "skew_seconds": one.note["skew_seconds"],
                "transport": one.note["transport"],
                "cause": one.note["cause"],
            }
            for one in sweeps
        ],
    }


def _coverage(presence: Presence, underlying: str, day: dt.date) -> Document:
    """Contracts of every expiry in each snapshot, whichever region has them, beside those listed then; expiries nobody has.

    Listed is a contract from its first snapshot of the day to its last.
    """
    rows = presence.rows
    if not len(rows):
        return {"times": [], "expiries": [], "never_seen": []}
    names = pc.dictionary_encode(rows["instrument"].combine_chunks())
    instants, column = np.unique(rows["snapshot"].cast("int64").to_numpy(), return_inverse=True)
    there = np.zeros((len(names.dictionary), len(instants)), bool)
    there[names.indices.to_numpy(), column] = True
    times = [dt.datetime.fromtimestamp(int(at) // 1_000_000, dt.UTC) for at in instants]
    contracts: dict[dt.datetime, list[int]] = {}
    for number, name in enumerate(names.dictionary.to_pylist()):
        with contextlib.suppress(DataError):  # a spoilt name is told among the rows in quarantine
            contracts.setdefault(parse_option(name).expiry, []).append(number)
    listed = np.maximum.accumulate(there, axis=1) & np.maximum.accumulate(there[:, ::-1], axis=1)[:, ::-1]
    expiries = []
    for expiry in sorted(contracts):
        living = np.array([at < expiry for at in times])
        if living.any():
            of = contracts[expiry]
            counts, due = ((grid[of] & living).sum(axis=0).tolist() for grid in (there, listed))
            expiries.append({"expiry": expiry.isoformat(), "contracts": counts, "listed": due})
    noon = dt.datetime.combine(day, dt.time(12), dt.UTC)
    return {
        "times": [at.isoformat() for at in times],
        "expiries": expiries,
        "never_seen": [expiry.isoformat() for expiry in expected_expiries(underlying, noon) if expiry not in contracts],
    }


def _thresholds(settings: Settings) -> Document:
    return {
        "quality": settings.quality.model_dump(mode="json"),
        "freshness": settings.freshness.model_dump(mode="json"),
        "regions": settings.regions.model_dump(mode="json"),
        "live_interval_minutes": settings.live_interval_minutes,
        "gap_grace_minutes": settings.alerts.gap_grace_minutes,
    }


def _json(row: Document) -> Document:
    return {name: value.isoformat() if isinstance(value, dt.datetime) else value for name, value in row.items()}
