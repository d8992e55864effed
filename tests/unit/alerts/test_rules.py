"""Rules: which catches what, when it is told, to whom, and how often; laws over random days of opening and closing."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.alerts import close_alert, deliver_pending, open_alert, send, tick
from options_agent.alerts.rules import alert_settings, quiet_until, rule_book
from options_agent.alerts.state import AlertState
from options_agent.errors import SettingsError
from options_agent.settings import AlertRule, Settings, load_settings

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
NIGHT = dt.datetime(2026, 1, 31, 23, tzinfo=dt.UTC)
MINUTE, HOUR = dt.timedelta(minutes=1), dt.timedelta(hours=1)
NOWHERE = {"kind": "webhook", "url": "http://127.0.0.1:9/none", "timeout_seconds": 0.2}


def desk(folder: Path, *rules: dict[str, Any], routes: dict[str, Any] | None = None, **alerts: Any) -> Settings:
    return load_settings(home=folder / "home", alerts={"rules": rules, "routes": routes or {}, **alerts}, _env_file=None)


def said(settings: Settings) -> list[dict[str, Any]]:
    path = settings.home / "logs" / "alerts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_first_rule_that_fits_counts_and_without_one_everything_is_told_at_once(tmp_path: Path) -> None:
    book = rule_book(desk(tmp_path, {"what": "gap/BTC/*", "severity": "failure"}, {"what": "gap/*", "routes": []}))
    assert book.rule_for("gap/BTC/deribit").severity == "failure"
    assert book.routes_of(book.rule_for("gap/ETH/deribit")) == []
    assert book.routes_of(book.rule_for("run/1")) == ["file"]


def test_a_rules_severity_takes_the_place_of_the_alerts_own(tmp_path: Path) -> None:
    settings = desk(tmp_path, {"what": "gap/*", "severity": "failure"})
    open_alert("gap/BTC", "gone", "", "warning", settings, now=NOON)
    assert said(settings)[0]["severity"] == "failure"


@pytest.mark.parametrize(
    ("alerts", "named"),
    [
        ({"rules": [{"what": "*", "routes": ["pager"]}]}, "unknown routes.*pager"),
        ({"rules": [{"what": "*", "escalate_to": ["boss"]}]}, "unknown routes.*boss"),
        ({"rules": [{"what": ""}]}, "rules.0.what"),
        ({"rules": [{"what": "*", "quiet": "25:00-07:00"}]}, "rules.0.quiet"),
        ({"rules": [{"what": "*", "time_zone": "Mars/Base"}]}, "no time zone is called 'Mars/Base'"),
        ({"routes": {"x": {"kind": "pigeon"}}}, "routes.x"),
        ({"routes": {"x": {"kind": "email", "host": "h", "sender": "s", "to": []}}}, "routes.x.email.to"),
    ],
)
def test_a_bad_rule_is_named(tmp_path: Path, alerts: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load_settings(home=tmp_path, alerts=alerts, _env_file=None)


def test_rules_in_a_file_take_the_place_of_those_in_settings(tmp_path: Path) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text('[routes.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:9/x"\n\n[[rules]]\nwhat = "run/*"\nroutes = ["hook"]\n')
    settings = desk(tmp_path, rules_file=file)
    assert rule_book(settings).routes_of(rule_book(settings).rule_for("run/1")) == ["hook"]
    for text, named in (
        ("[[rules]]\nwhat = 'x'\nroutes = ['no']\n", "unknown routes"),
        ("[[rule]]\n", "unknown tables"),
        ("x = [", "not TOML"),
    ):
        file.write_text(text)
        with pytest.raises(SettingsError, match=named) as failed:
            alert_settings(settings)
        assert failed.value.place == str(file)
    with pytest.raises(SettingsError, match="cannot be read"):
        alert_settings(desk(tmp_path, rules_file=tmp_path / "none.toml"))


@given(
    at=st.datetimes(dt.datetime(2026, 1, 1), dt.datetime(2026, 12, 31), timezones=st.just(dt.UTC)),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
    hours=st.sampled_from(["22:00-07:00", "01:30-05:00", "00:00-23:59"]),
)
def test_quiet_hours_go_by_the_clock_on_the_wall(at: dt.datetime, zone: str, hours: str) -> None:
    end = quiet_until(AlertRule(quiet=hours, time_zone=zone), at)
    begin, last = (dt.time.fromisoformat(text) for text in hours.split("-"))
    wall = at.astimezone(ZoneInfo(zone))
    inside = begin <= wall.time() < last if begin < last else wall.time() >= begin or wall.time() < last
    if (
        wall.utcoffset() == (wall - dt.timedelta(hours=3)).utcoffset() == (wall + dt.timedelta(hours=3)).utcoffset()
    ):  # not while the clock is put
        assert (end is not None) is inside
    if end is not None:
        assert end > at
        assert end.astimezone(ZoneInfo(zone)).time() == last


def test_quiet_hours_hold_warnings_until_their_end_and_let_failures_through(tmp_path: Path) -> None:
    settings = desk(tmp_path, {"what": "*", "quiet": "22:00-07:00"})
    open_alert("gap/BTC", "no BTC", "", "warning", settings, now=NIGHT)
    open_alert("gap/ETH", "no ETH", "", "warning", settings, now=NIGHT + MINUTE)
    send("run/1", "run failed", "", "failure", settings, now=NIGHT + 2 * MINUTE)
    assert [line["title"] for line in said(settings)] == ["run failed"]
    tick(settings, now=NIGHT + 7 * HOUR + 59 * MINUTE)
    assert len(said(settings)) == 1
    tick(settings, now=NIGHT + 8 * HOUR)
    assert [line["title"] for line in said(settings)] == ["run failed", "synthetic: 2 alerts"]
    assert "no BTC" in said(settings)[1]["body"]
    assert "no ETH" in said(settings)[1]["body"]
    close_alert("gap/BTC", "BTC is back", "", settings, now=NIGHT + 9 * HOUR)
    assert said(settings)[-1]["title"] == "BTC is back"


def test_what_opens_and_ends_in_quiet_hours_is_told_as_one_that_is_over(tmp_path: Path) -> None:
    settings = desk(tmp_path, {"what": "*", "quiet": "22:00-07:00"})
    open_alert("gap/BTC", "no BTC", "", "warning", settings, now=NIGHT)
    close_alert("gap/BTC", "BTC is back", "Twelve snapshots lost.", settings, now=NIGHT + HOUR)
    tick(settings, now=NIGHT + 8 * HOUR)
    assert [(line["event"], line["title"], line["severity"]) for line in said(settings)] == [("closed", "no BTC: over", "info")]
    assert "Twelve snapshots lost" in said(settings)[0]["body"]


def test_a_group_waits_and_is_told_as_one_and_flapping_is_one_line(tmp_path: Path) -> None:
    settings = desk(tmp_path, {"what": "gap/*", "group_seconds": 120})
    for n in range(3):
        open_alert("gap/BTC", "no BTC", "", "warning", settings, now=NOON + n * 20 * MINUTE / 60)
        close_alert("gap/BTC", "BTC is back", "", settings, now=NOON + (n * 20 + 10) * MINUTE / 60)
    open_alert("gap/ETH", "no ETH", "", "warning", settings, now=NOON + MINUTE)
    tick(settings, now=NOON + MINUTE)
    assert said(settings) == []
    tick(settings, now=NOON + 4 * MINUTE)
    assert len(said(settings)) == 1
    assert "no BTC: over (3 times)" in said(settings)[0]["body"]
    assert "no ETH" in said(settings)[0]["body"]
    assert said(settings)[0]["severity"] == "warning"


def test_a_group_takes_along_what_came_while_it_waited(tmp_path: Path) -> None:
    settings = desk(tmp_path, {"what": "*", "group_seconds": 120})
    for second in range(0, 600, 10):  # the desk ticks all the while
        now = NOON + second * MINUTE / 60
        if second in (0, 40, 80):
            open_alert(f"gap/{second}", f"no {second}", "", "warning", settings, now=now)
        if second == 100:
            close_alert("gap/40", "back", "", settings, now=now)
        tick(settings, now=now)
        assert len(said(settings)) == (second >= 120)
    assert all(f"no {second}" in said(settings)[0]["body"] for second in (0, 40, 80))
    assert "no 40: over" in said(settings)[0]["body"]


def test_a_group_whose_wait_ends_in_quiet_hours_waits_for_their_end(tmp_path: Path) -> None:
    settings = desk(tmp_path, {"what": "*", "quiet": "22:00-07:00", "group_seconds": 120})
    before = NIGHT - HOUR - MINUTE
    open_alert("gap/BTC", "no BTC", "", "warning", settings, now=before)
    for minute in range(0, 9 * 60 + 1, 30):
        tick(settings, now=before + minute * MINUTE)
    assert said(settings) == []
    tick(settings, now=before + 9 * HOUR + MINUTE)
    assert [line["title"] for line in said(settings)] == ["no BTC"]


def test_what_stays_open_is_escalated_once_and_again_if_wanted_until_it_ends(tmp_path: Path) -> None:
    settings = desk(tmp_path, {"what": "*", "escalate_minutes": 30, "repeat_minutes": 60, "escalate_to": ["file"]})
    open_alert("gap/BTC", "no BTC", "", "warning", settings, now=NOON)
    for minutes in (29, 30, 31, 89, 90, 91, 150):
        tick(settings, now=NOON + minutes * MINUTE)
    titles = [line["title"] for line in said(settings)]
    assert titles == ["no BTC", *(f"still open after {n} min: no BTC" for n in (30, 90, 150))]
    assert said(settings)[1]["severity"] == "failure"
    close_alert("gap/BTC", "back", "", settings, now=NOON + 151 * MINUTE)
    tick(settings, now=NOON + 300 * MINUTE)
    assert [line["title"] for line in said(settings)][4:] == ["back"]


def test_the_recovery_goes_to_who_was_told_and_to_nobody_else(tmp_path: Path) -> None:
    settings = desk(tmp_path, {"what": "gap/*", "routes": ["file"]}, routes={"other": NOWHERE})
    open_alert("gap/BTC", "no BTC", "", "warning", settings, now=NOON)
    changed = desk(tmp_path, routes={"other": NOWHERE})  # no rules any more: everything to everybody
    assert close_alert("gap/BTC", "back", "", changed, now=NOON + MINUTE).pending == 0
    assert [line["title"] for line in said(settings)] == ["no BTC", "back"]


def test_a_silence_holds_back_what_fits_and_ends(tmp_path: Path) -> None:
    settings = desk(tmp_path)
    AlertState(settings.state_dir).silence("gap/*", NOON + 2 * HOUR)
    open_alert("gap/BTC", "no BTC", "", "failure", settings, now=NOON)
    open_alert("gap/ETH", "no ETH", "", "failure", settings, now=NOON)
    close_alert("gap/ETH", "ETH is back", "", settings, now=NOON + HOUR)
    open_alert("run/1", "run failed", "", "failure", settings, now=NOON)
    assert [line["title"] for line in said(settings)] == ["run failed"]
    tick(settings, now=NOON + 2 * HOUR)
    assert "no BTC" in said(settings)[1]["body"]
    assert "no ETH: over" in said(settings)[1]["body"]


def test_a_dead_route_is_tried_ever_more_rarely_and_holds_up_nobody(tmp_path: Path) -> None:
    settings = desk(tmp_path, routes={"dead": NOWHERE})
    open_alert("gap/BTC", "no BTC", "", "warning", settings, now=NOON)
    tries = [s for s in range(0, 3_600, 10) if deliver_pending(settings, now=NOON + dt.timedelta(seconds=s)).failures]
    assert [line["title"] for line in said(settings)] == ["no BTC"]
    assert 4 <= len(tries) <= 9
    gaps = [b - a for a, b in itertools.pairwise(tries)]
    assert gaps == sorted(gaps)


def test_a_state_of_the_first_version_goes_on(tmp_path: Path) -> None:
    settings = desk(tmp_path)
    settings.state_dir.mkdir(parents=True)
    with sqlite3.connect(settings.state_dir / "alerts.sqlite") as db:
        db.executescript(
            """
            CREATE TABLE alert (
                key TEXT PRIMARY KEY, severity TEXT NOT NULL, opened_at TEXT NOT NULL, closed_at TEXT, details TEXT NOT NULL
            );
            CREATE TABLE outbox (
                id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, event TEXT NOT NULL, channel TEXT NOT NULL,
                severity TEXT NOT NULL, title TEXT NOT NULL, body TEXT NOT NULL, at TEXT NOT NULL,
                attempts INTEGER NOT NULL DEFAULT 0, error TEXT
            );
            CREATE TABLE mark (name TEXT PRIMARY KEY, at TEXT NOT NULL);
            INSERT INTO alert VALUES ('gap/BTC', 'warning', '2026-01-31T11:00:00+00:00', NULL, '{"last_good": "x"}');
            INSERT INTO outbox (key, event, channel, severity, title, body, at)
                VALUES ('gap/BTC', 'opened', 'file', 'warning', 'no BTC', '', '2026-01-31T11:00:00+00:00');
            """
        )
    assert tick(settings, now=NOON).sent == 1
    assert [line["title"] for line in said(settings)] == ["no BTC"]
    assert AlertState(settings.state_dir).open_alerts()[0].details == {"last_good": "x"}
    assert close_alert("gap/BTC", "back", "", settings, now=NOON).news


@dataclass
class Story:
    """What ought to have been told, kept by a plain model of one route without rules of time."""

    open: set[str] = field(default_factory=set)
    openings: int = 0
    closings: int = 0


@hypothesis_settings(max_examples=15)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["open", "close", "tick"]), st.sampled_from(["gap/BTC", "gap/ETH", "run/1"]), st.integers(1, 90)),
        max_size=30,
    ),
    quiet=st.booleans(),
    group=st.sampled_from([0.0, 300.0]),
)
def test_every_opening_and_every_end_is_told_exactly_once_and_none_in_quiet_hours(
    steps: list[tuple[str, str, int]], quiet: bool, group: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = desk(Path(folder), {"what": "*", "quiet": "22:00-07:00" if quiet else None, "group_seconds": group})
        rule, story, now = settings.alerts.rules[0], Story(), NOON
        told_before = 0
        for action, key, minutes in steps:
            now += minutes * MINUTE
            if action == "open":
                open_alert(key, f"open {key}", "", "warning", settings, now=now)
                story.openings += key not in story.open
                story.open.add(key)
            elif action == "close":
                close_alert(key, f"end {key}", "", settings, now=now)
                story.closings += key in story.open
                story.open.discard(key)
            else:
                tick(settings, now=now)
            if quiet_until(rule, now) is not None:
                assert len(said(settings)) == told_before
            told_before = len(said(settings))
        waiting = AlertState(settings.state_dir).pending()
        tick(settings, now=now + dt.timedelta(days=2))
        assert AlertState(settings.state_dir).pending() == []
        if not quiet and not group:
            events = [line["event"] for line in said(settings)]
            assert (events.count("opened"), events.count("closed")) == (story.openings, story.closings)
            assert waiting == []
        numbers = [line["id"] for line in said(settings)]
        assert len(numbers) == len(set(numbers))
        assert len(said(settings)) <= story.openings + story.closings
