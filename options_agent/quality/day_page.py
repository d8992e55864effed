"""The quality report of a day as files: JSON, and one self-contained page with pictures drawn as SVG."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from options_agent.durable import write_text
from options_agent.lake.receipts import Receipt, fingerprint
from options_agent.quality.day_report import day_report
from options_agent.quality.gaps import ANY_REGION

if TYPE_CHECKING:
    from options_agent.lake.store import Lake
    from options_agent.quality.day_report import Document
    from options_agent.settings import Settings

STAGE: Final = "quality_report"
_TEMPLATE: Final = Path(__file__).parent / "templates" / "day.html.j2"
_WIDE: Final = 900
_LEFT: Final = 76
_ROW: Final = 16
_COLOURS: Final = ("#3f6fb5", "#c2571a", "#3b8f5a", "#8a4fa3", "#5d6b74")


def report_path(settings: Settings, underlying: str, day: dt.date) -> Path:
    """`{home}/reports/{network}/quality/BTC-2026-01-31.html`; the JSON lies beside it."""
    return settings.reports_dir / "quality" / f"{underlying}-{day.isoformat()}.html"


def write_day_report(lake: Lake, underlying: str, day: dt.date, *, settings: Settings, now: dt.datetime | None = None) -> Receipt:
    """Write the report of a day, JSON and page, replacing the former one.

    Returns:
        Counts of what it tells (no receipt is kept: the report is made anew whenever it is asked for); `details` has `html`, `json`
        and `picture`, the coverage as SVG.

    Raises:
        DataError: nothing is known of the day.
        StorageError: the lake cannot be read or the report not written.
    """
    document = day_report(lake, underlying, day, settings=settings, now=now)
    page = report_path(settings, underlying, day)
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False)
    write_text(page.with_suffix(".json"), text + "\n")
    write_text(page, page_of(document))
    rows, gaps = document["rows"] or {}, document["gaps"]["counts"]
    counts = {
        "rows_in": rows.get("in", 0),
        "clean": rows.get("clean", 0),
        "quarantined": rows.get("quarantined", 0),
        "missing_intervals": document["gaps"]["missing"],
        "missing_expiries": gaps["expiry"],
        "missing_strikes": gaps["strike"],
        "disagreements": len(document["regions"]),
        "partial_sweeps": document["sweeps"]["count"] - document["sweeps"]["complete"],
    }
    details = {"html": str(page), "json": str(page.with_suffix(".json")), "picture": coverage_svg(document)}
    return Receipt(STAGE, underlying, day.isoformat(), fingerprint(text), counts, (), details)


def page_of(document: Document) -> str:
    """The whole page; nothing is fetched by it."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"minute": _minute, "count": lambda n: f"{n:,}", "number": _number}
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        d=document, coverage=coverage_svg(document), skew=skew_svg(document), verdict=verdict_of(document), gaps=told_gaps(document)
    )


def verdict_of(document: Document) -> list[tuple[str, str]]:
    """What to know first: (good or bad, a sentence), one for each part of the report."""
    rows, gaps, sweeps = document["rows"], document["gaps"], document["sweeps"]
    said: list[tuple[str, str]] = []
    if rows is None:
        said.append(("bad", "The day has not been judged yet."))
    else:
        allowed = document["thresholds"]["quality"]["max_quarantine_rate"]
        state = "good" if rows["share"] <= allowed else "bad"
        said.append((state, f"{rows['quarantined']:,} of {rows['in']:,} rows in quarantine ({rows['share']:.2%}; {allowed:.0%} allowed)."))
    counts = gaps["counts"]
    whole = not any(counts.values())
    said.append(
        (
            "good" if whole else "bad",
            "Nothing is missing."
            if whole
            else f"Missing: {gaps['missing']} snapshots in {_of(counts['interval'], 'gap')}, {_of(counts['expiry'], 'expiry')}, "
            f"{_of(counts['strike'], 'contract')}.",
        )
    )
    if len(document["harvesters"]) > 1:
        differ = len(document["regions"])
        said.append(("bad" if differ else "good", f"Regions differ in {_of(differ, 'way')}." if differ else "Regions agree."))
    if sweeps["count"]:
        whole = sweeps["complete"] == sweeps["count"]
        skew = f"skew {sweeps['median_skew_seconds']:.1f} s in the median, {sweeps['worst_skew_seconds']:.1f} s at worst"
        said.append(("good" if whole else "bad", f"{sweeps['complete']} of {sweeps['count']} sweeps complete; {skew}."))
    if document["damaged"] or document["set_aside"]:
        n = len(document["damaged"]) + len(document["set_aside"])
        said.append(("bad", f"{_of(n, 'raw file')} could not be read."))
    return said


def told_gaps(document: Document) -> list[Document]:
    """Gaps as people read them: one line where regions lack the same, and where contracts of an expiry lack together."""
    lines: dict[tuple[object, ...], Document] = {}
    by_hole: dict[tuple[object, ...], list[Document]] = {}
    for gap in document["gaps"]["listed"]:
        by_hole.setdefault((gap["kind"], gap["expiry"], gap["instrument"], gap["opened_at"], gap["closed_at"]), []).append(gap)
    for (kind, expiry, instrument, opened, closed), gaps in by_hole.items():
        regions = [gap["region"] for gap in gaps if gap["region"] != ANY_REGION]
        where = "all" if len(regions) > 1 and len(regions) == gaps[0]["regions"] else ", ".join(regions or [ANY_REGION])
        told = next((gap for gap in gaps if gap["region"] == ANY_REGION), gaps[0])
        same = len({gap["cause"] for gap in gaps}) == 1
        detail = "" if same and kind == "interval" and ":" in told["detail"] else told["detail"]
        line = lines.setdefault(
            (kind, expiry, where, opened, closed, told["cause"], detail),
            {**told, "where": where, "detail": detail, "contracts": []},
        )
        if instrument is not None:
            line["contracts"].append(str(instrument).removeprefix(_series(str(instrument))))
            line["series"] = _series(str(instrument))
    return list(lines.values())


def coverage_svg(document: Document) -> str:
    """Expiries by grid times: whether all contracts listed then are there, some, or none. Missing intervals stand in red."""
    expiries = document["coverage"]["expiries"]
    times = [dt.datetime.fromisoformat(at) for at in document["coverage"]["times"]]
    if not times:
        return ""
    midnight = dt.datetime.combine(dt.date.fromisoformat(document["day"]), dt.time(), dt.UTC)
    step = _step(document, times)
    width = _WIDE * step / 86_400
    high = _ROW * len(expiries)
    parts = []
    for n, row in enumerate(expiries):
        y = n * _ROW
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 12}" text-anchor="end">{escape(row["expiry"][:10])}</text>')
        for at, count, listed in zip(times, row["contracts"], row["listed"], strict=True):
            if listed:
                share = count / listed
                title = f"{at:%H:%M}: {count} of {listed}"
                parts.append(
                    f'<rect x="{_place(at, midnight):.1f}" y="{y + 1}" width="{max(width - 0.6, 0.8):.1f}" height="{_ROW - 2}" '
                    f'class="{"full" if share == 1 else "part" if share else "none"}"><title>{title}</title></rect>'
                )
    for gap in document["gaps"]["listed"]:
        if gap["kind"] == "interval" and (gap["regions"] == 1 or gap["region"] == "any"):
            first = max(dt.datetime.fromisoformat(gap["first_missing"]), midnight)
            last = min(dt.datetime.fromisoformat(gap["last_missing"]), midnight + dt.timedelta(days=1, seconds=-step))
            if last >= first:
                x, wide = _place(first, midnight), _place(last, first) - _LEFT + width - 0.6
                title = escape(f"{gap['missing']} snapshots missing: {gap['cause']}")
                parts.append(f'<rect x="{x:.1f}" y="0" width="{wide:.1f}" height="{high}" class="gap"><title>{title}</title></rect>')
    return _drawing("".join(parts), high, "contracts of each expiry by snapshot")


def skew_svg(document: Document) -> str:
    """Skew of every sweep, on a logarithmic scale of 1 s + skew, a colour a region; partial sweeps as rings. Empty where none told."""
    listed = document["sweeps"]["listed"]
    if not listed:
        return ""
    high = 110
    top = max(1.0, *(math.log10(1.0 + float(one["skew_seconds"])) for one in listed))
    midnight = dt.datetime.combine(dt.date.fromisoformat(document["day"]), dt.time(), dt.UTC)
    regions = sorted({f"{one['source']}/{one['region']}" for one in listed})
    parts = []
    last = float("inf")
    for seconds in (0, 1, 10, 100, 1_000, 10_000):
        y = high - 4 - (high - 12) * math.log10(1.0 + seconds) / top
        if 4 <= y <= last - 12:  # labels do not overlap
            last = y
            parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + _WIDE}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{seconds:,} s</text>')
    for one in listed:
        at, which = dt.datetime.fromisoformat(one["at"]), regions.index(f"{one['source']}/{one['region']}")
        x = _place(at, midnight) + 2.5 * which
        y = high - 4 - (high - 12) * math.log10(1.0 + float(one["skew_seconds"])) / top
        colour = _COLOURS[which % len(_COLOURS)]
        ink = f'fill="{"none" if one["missing"] else colour}" stroke="{colour}" stroke-width="1.2"'
        title = escape(f"{one['region']} {at:%H:%M}: {one['skew_seconds']:.2f} s, {one['received']} of {one['expected']}")
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" {ink}><title>{title}</title></circle>')
    legend = "".join(
        f'<circle cx="{_LEFT + 8 + 150 * n}" cy="{high + 30}" r="4" fill="{_COLOURS[n % len(_COLOURS)]}"/>'
        f'<text x="{_LEFT + 18 + 150 * n}" y="{high + 34}">{escape(name)}</text>'
        for n, name in enumerate(regions)
    )
    return _drawing("".join(parts) + legend, high, "skew of each sweep", below=22)


def _place(at: dt.datetime, since: dt.datetime) -> float:
    return _LEFT + _WIDE * (at - since).total_seconds() / 86_400


def _drawing(inside: str, high: int, label: str, below: int = 0) -> str:
    """An SVG with the hours of the day below."""
    hours = "".join(
        f'<text x="{_LEFT + _WIDE * hour / 24:.0f}" y="{high + 14}" text-anchor="middle">{hour:02d}</text>' for hour in range(0, 25, 3)
    )
    style = (
        "text{font:11px system-ui,sans-serif;fill:#5d6b74}.full{fill:#3f6fb5}.part{fill:#d9902f}.none{fill:#e39b92}"
        ".gap{fill:#c0392b;fill-opacity:.85}.grid{stroke:#5d6b74;stroke-opacity:.3}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDE + 16} {high + 20 + below}" role="img" '
        f'aria-label="{label}"><style>{style}</style>{inside}{hours}</svg>'
    )


def _series(instrument: str) -> str:
    """`BTC-6FEB26-` of `BTC-6FEB26-61500-P`."""
    return instrument.rsplit("-", 2)[0] + "-"


def _step(document: Document, times: list[dt.datetime]) -> float:
    """Seconds between grid times as drawn: the commonest spacing of the day."""
    apart = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
    return max(set(apart), key=apart.count) if apart else 3_600.0


def _of(n: int, what: str) -> str:
    plural = f"{what[:-1]}ies" if what.endswith("y") and what != "way" else f"{what}s"
    return f"{n} {what if n == 1 else plural}"


def _minute(at: str | None) -> str:
    return "-" if at is None else f"{dt.datetime.fromisoformat(at):%Y-%m-%d %H:%M}"


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
