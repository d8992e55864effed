"""Alarms for real: a harvester that is stopped, a run that fails, and what a webhook on loopback hears of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dagster_project.definitions import defs
from options_agent.alerts.state import AlertState
from tests.conftest import REPOSITORY
from tests.orchestration.desks import FIRST, OrchestratedDesk, desk_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HARVESTER = """
import time
from options_agent.lake.store import open_lake
from options_agent.market.harvest import harvest_latest
from options_agent.market.sources import open_source
from options_agent.settings import load_settings
settings = load_settings()
while True:
    harvest_latest(open_source(settings), open_lake(settings), "BTC")
    time.sleep(1)
"""
TICK = """
import dagster as dg
from sensors.alarms import harvest_gap
print(harvest_gap(dg.build_sensor_context()).skip_message)
"""


class Webhook:
    """Hears what is posted to it."""

    def __init__(self) -> None:
        self.heard: list[dict[str, str]] = []
        heard = self.heard

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self.server.server_port}/desk"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def titles(self) -> list[str]:
        return [message["title"].partition(" [#")[0] for message in self.heard]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    receiver = Webhook()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def start_harvester(desk: OrchestratedDesk) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", HARVESTER], cwd=REPOSITORY, env=desk.environment)


def ticks_until(desk: OrchestratedDesk, state: str, seconds: float) -> list[str]:
    """Tick the sensor, each time in a new process, until it sees `state`."""
    seen: list[str] = []
    deadline = time.monotonic() + seconds
    while not seen or state not in seen[-1]:
        assert time.monotonic() < deadline, seen
        seen.append(desk.python(TICK))
    return seen


@pytest.mark.slow
def test_a_stopped_harvester_is_said_once_when_its_gap_opens_and_once_when_it_closes(tmp_path: Path, webhook: Webhook) -> None:
    alerts = {"urls": [webhook.url], "gap_grace_minutes": 0}
    desk = desk_at(tmp_path / "home", underlyings=("BTC",), live_interval_minutes=1, alerts=alerts)
    harvester = start_harvester(desk)
    try:
        ticks_until(desk, "BTC: fresh", 30)
        while not list((desk.settings.home / "lake").rglob("*.parquet")):
            time.sleep(0.2)
    finally:
        harvester.kill()
        harvester.wait()
    fresh = ticks_until(desk, "BTC: opened", 150)
    assert all("fresh" in state for state in fresh[:-1])
    assert all("BTC: open, overdue" in desk.python(TICK) for _ in range(2))
    assert webhook.titles == ["synthetic: no new BTC quotes from synthetic"]
    harvester = start_harvester(desk)
    try:
        ticks_until(desk, "BTC: closed", 90)
    finally:
        harvester.kill()
        harvester.wait()
    # no further tick: the next gap opens at the turn of a minute, which may be now
    assert webhook.titles == ["synthetic: no new BTC quotes from synthetic", "synthetic: BTC quotes from synthetic are back"]
    assert AlertState(desk.settings.state_dir).open_alerts() == []


def failure_tick(instance: dg.DagsterInstance, cursor: str | None) -> str | None:
    """One evaluation of the failure sensor, as the daemon does it; returns the next cursor."""
    sensor = defs.get_repository_def().get_sensor_def("run_or_blocking_check_failed")
    context = dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=defs.get_repository_def())
    with context:
        return sensor.evaluate_tick(context).cursor


@pytest.mark.slow
def test_a_run_stopped_by_a_blocking_check_is_said_once_with_the_check_and_a_link(
    tmp_path: Path, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_at(
        tmp_path / "home",
        underlyings=("BTC",),
        synthetic={"defect_rate": 0.3},
        alerts={"urls": [webhook.url]},
        dagster_url="http://127.0.0.1:3000",
    )
    for name, value in desk.environment.items():
        if name.startswith("OPTIONS_AGENT_"):
            monkeypatch.setenv(name, value)
    with desk.instance() as instance:
        cursor = failure_tick(instance, None)
        assert desk.pipeline(FIRST, FIRST)[0] == 1
        for _ in range(2):
            cursor = failure_tick(instance, cursor)
        failure_tick(instance, None)  # a daemon that lost its cursor
        (run,) = instance.get_runs()
    assert webhook.titles == ["synthetic: market_data failed"]
    message = webhook.heard[0]["message"]
    assert "judge_quotes: check quarantine_rate failed" in message
    assert f"http://127.0.0.1:3000/runs/{run.run_id}" in message
    assert webhook.heard[0]["type"] == "failure"
