"""Alerts: one when something opens, none while it stays, one when it closes; through restarts, kills and dead channels."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from options_agent.alerts import close_alert, deliver_pending, is_open, open_alert, send
from options_agent.alerts.gap_watch import run_failed, watch_gaps
from options_agent.alerts.state import AlertState
from options_agent.errors import StorageError
from options_agent.lake.store import open_lake, write_snapshot
from options_agent.settings import Settings, load_settings
from tests.chains import chain

NOW = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


class Webhook:
    """A loopback receiver of webhooks; `taking` says whether it answers 200 or 500."""

    def __init__(self) -> None:
        self.received: list[dict[str, str]] = []
        self.taking = True
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if webhook.taking:
                    webhook.received.append(json.loads(body))
                self.send_response(200 if webhook.taking else 500)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://user:secret-word@127.0.0.1:{self.server.server_port}/secret-path"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def titles(self) -> list[str]:
        return [message["title"].partition(" [#")[0] for message in self.received]


@pytest.fixture
def webhook():
    receiver = Webhook()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def desk(tmp_path: Path, *urls: str, **more: object) -> Settings:
    return load_settings(home=tmp_path / "home", alerts={"urls": urls}, _env_file=None, **more)


def lines(settings: Settings) -> list[dict[str, object]]:
    return [json.loads(line) for line in (settings.home / "logs" / "alerts.jsonl").read_text().splitlines()]


def test_an_alert_is_said_once_when_it_opens_and_once_when_it_closes(tmp_path, webhook) -> None:
    settings = desk(tmp_path, webhook.url)
    for _ in range(3):
        open_alert("gap/BTC", "no quotes", "since noon", "warning", settings)
    assert is_open("gap/BTC", settings)
    for _ in range(3):
        close_alert("gap/BTC", "quotes are back", "2 lost", settings)
    assert not is_open("gap/BTC", settings)
    assert webhook.titles == ["no quotes", "quotes are back"]
    assert [message["type"] for message in webhook.received] == ["warning", "success"]
    assert [line["event"] for line in lines(settings)] == ["opened", "closed"]


def test_an_alert_that_opens_again_after_it_closed_is_news(tmp_path, webhook) -> None:
    settings = desk(tmp_path, webhook.url)
    for _ in range(2):
        assert open_alert("gap/BTC", "no quotes", "", "warning", settings).news
        assert close_alert("gap/BTC", "back", "", settings).news
    assert webhook.titles == ["no quotes", "back"] * 2


def test_closing_what_is_not_open_says_nothing(tmp_path, webhook) -> None:
    settings = desk(tmp_path, webhook.url)
    assert close_alert("gap/BTC", "back", "", settings).news is False
    assert webhook.received == []


def test_a_failing_channel_keeps_its_notices_in_order_and_the_caller_is_told_but_not_failed(tmp_path, webhook, caplog) -> None:
    settings = desk(tmp_path, webhook.url)
    webhook.taking = False
    with caplog.at_level(logging.WARNING):
        delivery = open_alert("gap/BTC", "no quotes", "", "warning", settings)
    assert (delivery.sent, delivery.pending) == (1, 1)  # the file has it, the webhook does not
    assert "did not take the alert" in delivery.failures[0]
    assert "not delivered" in caplog.text
    close_alert("gap/BTC", "back", "", settings)
    webhook.taking = True
    assert deliver_pending(settings).pending == 0
    assert webhook.titles == ["no quotes", "back"]


def test_a_channel_nobody_listens_on_does_not_stop_the_others(tmp_path, webhook) -> None:
    settings = desk(tmp_path, "json://127.0.0.1:9/nobody", webhook.url, "bogus://not-a-service")
    delivery = open_alert("gap/BTC", "no quotes", "", "warning", settings)
    assert webhook.titles == ["no quotes"]
    assert delivery.pending == 2
    assert any("not a URL apprise understands" in failure for failure in delivery.failures)


def test_no_secret_of_a_url_is_shown_or_stored(tmp_path, webhook, caplog) -> None:
    settings = desk(tmp_path, webhook.url)
    webhook.taking = False
    with caplog.at_level(logging.DEBUG, logger="options_agent"):
        delivery = open_alert("gap/BTC", "no quotes", "", "warning", settings)
    stored = (settings.state_dir / "alerts.sqlite").read_bytes() + (settings.home / "logs" / "alerts.jsonl").read_bytes()
    for text in (caplog.text, str(delivery), stored.decode("latin-1")):
        assert "secret-word" not in text
        assert "secret-path" not in text


def test_notices_of_a_url_that_left_the_settings_are_dropped(tmp_path) -> None:
    open_alert("gap/BTC", "no quotes", "", "warning", desk(tmp_path, "json://127.0.0.1:9/x"))
    assert deliver_pending(desk(tmp_path)).pending == 0


def test_an_event_of_the_same_key_is_said_once(tmp_path, webhook) -> None:
    settings = desk(tmp_path, webhook.url)
    for _ in range(2):
        run_failed("nightly_backtests", "abc", "boom\n  line 2", "http://127.0.0.1/runs/abc", settings)
    assert webhook.titles == ["synthetic: nightly_backtests failed"]
    assert "boom" in webhook.received[0]["message"]
    assert "runs/abc" in webhook.received[0]["message"]
    assert not is_open("run/abc", settings)


def test_memory_of_closed_alerts_ends_after_a_month(tmp_path) -> None:
    settings = desk(tmp_path)
    send("run/abc", "failed", "", "failure", settings, now=NOW)
    assert not send("run/abc", "failed", "", "failure", settings, now=NOW + dt.timedelta(days=29)).news
    deliver_pending(settings, now=NOW + dt.timedelta(days=31))
    assert send("run/abc", "failed", "", "failure", settings, now=NOW + dt.timedelta(days=31)).news


def test_state_that_cannot_be_kept_is_a_storage_error(tmp_path) -> None:
    settings = desk(tmp_path)
    settings.state_dir.parent.mkdir(parents=True)
    settings.state_dir.write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="state of alerts"):
        open_alert("gap/BTC", "no quotes", "", "warning", settings)


def _in_a_process(settings: Settings, url: str, code: str) -> subprocess.CompletedProcess[bytes]:
    program = f"""
import os, signal
from options_agent.settings import load_settings
from options_agent.alerts import open_alert, close_alert, deliver_pending
from options_agent.alerts.state import AlertState
settings = load_settings(home={str(settings.home)!r}, alerts={{"urls": [{url!r}]}}, _env_file=None)
{code}
"""
    return subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, env={**os.environ}, timeout=120)


OPEN = 'open_alert("gap/BTC", "no quotes", "", "warning", settings)'


def test_restarts_do_not_repeat_an_alert(tmp_path, webhook) -> None:
    settings = desk(tmp_path, webhook.url)
    for _ in range(2):
        assert _in_a_process(settings, webhook.url, OPEN).returncode == 0
    assert _in_a_process(settings, webhook.url, 'close_alert("gap/BTC", "back", "", settings)').returncode == 0
    assert webhook.titles == ["no quotes", "back"]


def test_killed_before_sending_the_alert_is_sent_by_the_next_process(tmp_path, webhook) -> None:
    settings = desk(tmp_path, webhook.url)
    die = "AlertState.delivering = lambda self: os.kill(os.getpid(), signal.SIGKILL)\n" + OPEN
    assert _in_a_process(settings, webhook.url, die).returncode == -signal.SIGKILL
    assert webhook.received == []
    assert open_alert("gap/BTC", "no quotes", "", "warning", settings).sent == 2
    assert webhook.titles == ["no quotes"]


def test_killed_between_sending_and_noting_it_the_alert_is_said_twice_with_one_number(tmp_path, webhook) -> None:
    settings = desk(tmp_path, webhook.url)
    die = "AlertState.done = lambda self, notice: os.kill(os.getpid(), signal.SIGKILL) if notice.channel != 'file' else None\n" + OPEN
    assert _in_a_process(settings, webhook.url, die).returncode == -signal.SIGKILL
    open_alert("gap/BTC", "no quotes", "", "warning", settings)
    assert len(webhook.received) == 2
    assert len({message["title"] for message in webhook.received}) == 1
    deliver_pending(settings)
    assert len(webhook.received) == 2


def test_processes_that_see_the_same_gap_at_once_say_it_once(tmp_path, webhook) -> None:
    settings = desk(tmp_path, webhook.url)
    threads = [threading.Thread(target=open_alert, args=("gap/BTC", "no quotes", "", "warning", settings)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert webhook.titles == ["no quotes"]


def test_a_gap_opens_one_alert_and_its_end_closes_it_with_the_count_of_what_is_lost(tmp_path, webhook) -> None:
    settings = desk(tmp_path, webhook.url, underlyings=("BTC",))
    lake = open_lake(settings)
    for minutes in (0, 15):
        write_snapshot(lake, chain(NOW + minutes * MINUTE))

    def states(*minutes: float) -> list[str]:
        return [watch_gaps(lake, settings, NOW + m * MINUTE)[0].state for m in minutes]

    assert states(1, 30, 35) == ["fresh", "fresh", "fresh"]  # due at 30, five minutes of grace
    assert states(36, 40, 75) == ["opened", "open", "open"]
    write_snapshot(lake, chain(NOW + 75 * MINUTE))
    assert states(76, 77) == ["closed", "fresh"]
    assert webhook.titles == ["synthetic: no new BTC quotes from synthetic", "synthetic: BTC quotes from synthetic are back"]
    assert "from 2026-01-31 12:15 to 2026-01-31 13:15 UTC: 3 snapshots lost" in webhook.received[1]["message"]


def test_a_new_desk_has_one_interval_before_it_is_told_off(tmp_path) -> None:
    settings = desk(tmp_path, underlyings=("BTC",))
    lake = open_lake(settings)
    write_snapshot(lake, chain(NOW - dt.timedelta(days=3)))
    assert [watch_gaps(lake, settings, NOW + m * MINUTE)[0].state for m in (0, 19, 21)] == ["fresh", "fresh", "opened"]


def test_a_desk_without_any_snapshot_is_told_and_the_first_one_closes_it(tmp_path) -> None:
    settings = desk(tmp_path, underlyings=("BTC",))
    lake = open_lake(settings)
    assert [watch_gaps(lake, settings, NOW + m * MINUTE)[0].state for m in (0, 21)] == ["fresh", "opened"]
    write_snapshot(lake, chain(NOW + 30 * MINUTE))
    assert watch_gaps(lake, settings, NOW + 31 * MINUTE)[0].state == "closed"
    assert "never been one" in str(lines(settings)[0]["body"])


def test_a_recorded_source_is_not_watched(tmp_path) -> None:
    settings = desk(tmp_path, network="mainnet", source="recorded")
    assert watch_gaps(open_lake(settings), settings, NOW) == []


def test_open_alerts_keep_what_they_were_opened_with(tmp_path) -> None:
    settings = desk(tmp_path)
    open_alert("a", "t", "b", "failure", settings, now=NOW, details={"last_good": "x"})
    (alert,) = AlertState(settings.state_dir).open_alerts()
    assert (alert.key, alert.severity, alert.opened_at, alert.details) == ("a", "failure", NOW, {"last_good": "x"})
