"""The quality report of a day: every part from what the stages left, as JSON and as a page that needs nothing else."""

from __future__ import annotations

import datetime as dt
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from options_agent.errors import DataError
from options_agent.lake.compaction import compact_raw_day
from options_agent.lake.events import Event, record_event
from options_agent.lake.store import open_lake, write_snapshot
from options_agent.lake.sweeps import with_sweep
from options_agent.quality.day_page import page_of, report_path, told_gaps, verdict_of, write_day_report
from options_agent.quality.day_report import EXAMPLES, day_report
from options_agent.quality.judge import judge_day
from options_agent.settings import load_settings
from tests.unit.quality.market import rows, table

MIDNIGHT = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DAY = MIDNIGHT.date()


def told(lake, region: str, at: dt.datetime, kind: str, after: float, detail: str = "") -> None:
    record_event(lake, "deribit", region, Event(at + dt.timedelta(seconds=after), kind, None, detail))


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    home = tmp_path_factory.mktemp("desk")
    return load_settings(home=home, source="deribit", network="synthetic", underlyings=("BTC",), region="eu1", live_interval_minutes=60)


@pytest.fixture(scope="module")
def lake(settings):
    """Two regions by the hour: maintenance at 5 and 6, us1 down at 10, an expiry gone at 14, a strike at 16, crossed rows at 3."""
    lake = open_lake(settings)
    for hour in range(24):
        at = MIDNIGHT + hour * HOUR
        for region in ("eu1", "us1"):
            if hour in {5, 6}:
                told(lake, region, at, "snapshot_missed", 9, f"{at.isoformat()}: maintenance")
                continue
            if region == "us1" and hour == 10:
                told(lake, region, at, "stopped", 0)
                continue
            if region == "us1" and hour == 11:
                told(lake, region, at, "started", -60)
            quotes = [row | {"source": "deribit", "region": region} for row in rows(at)]
            names = [str(row["instrument"]) for row in quotes]
            if hour == 14:
                quotes = [row for row in quotes if row["expiry"] != quotes[0]["expiry"]]
            if hour == 16:
                quotes = quotes[:5] + quotes[6:]
            if hour == 3:
                for row in quotes[20:35]:
                    row["bid"] = float(row["ask"]) + 0.01  # type: ignore[arg-type]
            made = with_sweep(
                table(quotes), expected=names, transport="websocket", started=at, ended=at, cause="the exchange did not answer: <b>x</b>"
            )
            write_snapshot(lake, made)
            told(lake, region, at, "alive", 10)
    judge_day(lake, "BTC", DAY, settings=settings)
    return lake


@pytest.fixture(scope="module")
def document(lake, settings):
    return day_report(lake, "BTC", DAY, settings=settings)


def test_rows_in_are_clean_or_quarantined_and_examples_come_from_quarantine(document) -> None:
    judged = document["rows"]
    assert judged["in"] == judged["clean"] + judged["quarantined"]
    assert judged["quarantined"] >= 30
    by_rule = {row["rule"]: row["rows"] for row in judged["by_rule"] if row["severity"] == "error"}
    assert sum(by_rule.values()) == judged["quarantined"]
    assert len(document["examples"]) == EXAMPLES
    assert {row["rule"] for row in document["examples"]} == set(by_rule)


def test_gaps_of_each_kind_with_their_causes(document) -> None:
    assert document["gaps"]["counts"] == {"interval": 1, "expiry": 1, "strike": 1}
    assert document["gaps"]["missing"] == 2
    lines = [(gap["kind"], gap["where"], gap["missing"], gap["cause"]) for gap in told_gaps(document)]
    assert lines == [
        ("interval", "all", 2, "maintenance"),
        ("interval", "us1", 1, "our outage"),
        ("expiry", "all", 1, "disconnected"),
        ("strike", "all", 1, "disconnected"),
    ]


def test_harvesters_sweeps_regions_and_coverage(document) -> None:
    eu1, us1 = document["harvesters"]
    assert (eu1["snapshots"], eu1["expected"], eu1["partial"], eu1["age_minutes"]) == (22, 24, 2, 60.0)
    assert us1["snapshots"] == 21
    assert (document["sweeps"]["count"], document["sweeps"]["complete"]) == (43, 39)
    assert document["sweeps"]["worst_share"] == 0.5
    assert [one["kind"] for one in document["regions"]] == ["missing"]
    near, far = document["coverage"]["expiries"]
    assert len(document["coverage"]["times"]) == 22
    assert [n for n, (there, due) in enumerate(zip(near["contracts"], near["listed"], strict=True)) if there < due] == [12, 14]
    assert far["contracts"] == far["listed"]
    assert document["coverage"]["never_seen"], "the calendar has more expiries than this chain"


def test_the_verdict_says_each_part_in_a_sentence(document) -> None:
    said = verdict_of(document)
    assert [state for state, _ in said] == ["good", "bad", "bad", "bad"]
    assert said[1][1] == "Missing: 2 snapshots in 1 gap, 1 expiry, 1 contract."
    assert said[2][1] == "Regions differ in 1 way."


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.outside += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_the_page_needs_nothing_else_and_escapes_what_others_wrote(document) -> None:
    page = page_of(document)
    links = Links()
    links.feed(page)
    assert links.outside == []
    assert "script" not in links.tags
    assert "@import" not in page
    assert "url(" not in page
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 2
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    assert "max_quarantine_rate" in page


def test_writing_is_idempotent_and_compaction_changes_nothing(lake, settings) -> None:
    first = write_day_report(lake, "BTC", DAY, settings=settings)
    page = report_path(settings, "BTC", DAY)
    before = page.read_bytes(), page.with_suffix(".json").read_bytes()
    compact_raw_day(lake, "BTC", DAY)
    assert write_day_report(lake, "BTC", DAY, settings=settings).fingerprint == first.fingerprint
    assert (page.read_bytes(), page.with_suffix(".json").read_bytes()) == before
    assert first.counts["missing_intervals"] == 2
    assert first.details["picture"].startswith("<svg")


def test_a_day_of_which_nothing_is_known_is_refused(lake, settings) -> None:
    with pytest.raises(DataError, match="nothing is known"):
        day_report(lake, "BTC", DAY + dt.timedelta(days=9), settings=settings)


def test_a_day_that_is_not_judged_says_so(tmp_path) -> None:
    settings = load_settings(home=tmp_path / "home")
    lake = open_lake(settings)
    write_snapshot(lake, table(rows(MIDNIGHT)))
    document = day_report(lake, "BTC", DAY, settings=settings)
    assert document["rows"] is None
    assert verdict_of(document)[0] == ("bad", "The day has not been judged yet.")
    assert "has not been judged" in page_of(document)


def test_the_command_prints_the_verdict_and_where_the_page_lies(lake, settings, monkeypatch) -> None:
    from options_agent.cli.main import application

    for name, value in (("HOME", str(settings.home)), ("SOURCE", "deribit"), ("REGION", "eu1"), ("LIVE_INTERVAL_MINUTES", "60")):
        monkeypatch.setenv(f"OPTIONS_AGENT_{name}", value)
    shown = CliRunner().invoke(application(), ["quality", "2026-01-31", "-u", "BTC"])
    assert shown.exit_code == 0, shown.output
    assert "Missing: 2 snapshots in 1 gap, 1 expiry, 1 contract." in shown.output
    assert "maintenance" in shown.output
    as_json = CliRunner().invoke(application(), ["quality", "2026-01-31", "-u", "BTC", "--json"])
    assert json.loads(as_json.output)[0]["gaps"]["missing"] == 2
    assert Path(report_path(settings, "BTC", DAY)).exists()
