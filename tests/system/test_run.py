"""`options-agent run` as a user has it: up, looked at in a browser, ended by Ctrl-C, run again, killed -9, started again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import pytest

from options_agent.local.guard import marked
from options_agent.local.services import running_desk
from options_agent.settings import load_settings
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

DAYS = ("--start", "2026-11-02", "--end", "2026-11-04")
UP = "Ctrl-C ends everything"


@dataclass
class Run:
    """A running command whose lines are collected as they come."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def wait_for(self, text: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not any(text in line for line in self.lines):
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.1)

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def page(self, name: str) -> str:
        found = re.search(rf"{name}\s+(http://\S+)", self.text)
        assert found, self.text
        return found[1]


def _start(home: Path, *arguments: str) -> Run:
    command = [sys.executable, "-c", "from options_agent.cli.main import main; main()", "run", *DAYS, *arguments]
    environment = os.environ | {
        "OPTIONS_AGENT_HOME": str(home),
        "OPTIONS_AGENT_STRATEGIES": '["covered_call","cash_secured_put","short_strangle"]',
    }
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    run = Run(process)

    def follow() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            run.lines.append(line)

    Thread(target=follow, daemon=True).start()
    return run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("desk")


@pytest.fixture(scope="module")
def desk(home: Path) -> Iterator[Run]:
    """A desk that is up; the first test that ends it leaves it ended."""
    run = _start(home)
    try:
        run.wait_for(UP, 420)
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()


def _mark(home: Path) -> str:
    state = running_desk(load_settings(home=home, _env_file=None))
    assert state
    return str(state["mark"])


def _graphql(url: str, query: str) -> dict:
    request = urllib.request.Request(f"{url}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return dict(json.load(reply)["data"])


def test_the_final_table_says_what_was_kept_and_what_each_strategy_made(desk: Run) -> None:
    for text in (
        "rows harvested",
        "rows quarantined",
        "bytes per quote",
        "gaps found",
        "covered_call BTC",
        "short_strangle ETH",
        "Dagster",
        "MLflow",
    ):
        assert text in desk.text
    assert "INCONCLUSIVE" in desk.text  # three days cannot hold five trades


def test_runs_schedules_and_sensors_are_in_the_orchestrator(desk: Run) -> None:
    answer = _graphql(
        desk.page("Dagster"),
        "{ runsOrError { ... on Runs { results { jobName status } } }"
        " repositoriesOrError { ... on RepositoryConnection { nodes {"
        " schedules { name scheduleState { status } } sensors { name sensorState { status } } } } } }",
    )
    runs = answer["runsOrError"]["results"]
    assert {"market_data", "regimes", "backtests", "weekly_training"} <= {r["jobName"] for r in runs}
    [repository] = answer["repositoriesOrError"]["nodes"]
    assert {s["scheduleState"]["status"] for s in repository["schedules"]} == {"RUNNING"}
    assert {s["sensorState"]["status"] for s in repository["sensors"]} == {"RUNNING"}


def test_backtests_are_runs_in_mlflow_with_a_link_to_the_run_that_made_them(desk: Run) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(desk.page("MLflow"))
    experiment = client.get_experiment_by_name("synthetic/covered_call")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {r.data.params["underlying"] for r in runs} == {"BTC", "ETH"}
    assert all(r.data.tags["dagster.run_url"].startswith(desk.page("Dagster")) for r in runs)
    prompt = client.get_prompt_version_by_alias("decision", "champion")
    assert int(prompt.version) == 1


def test_the_pages_show_the_assets_in_a_browser(desk: Run) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here")
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=quiet)
        page = chromium.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(f"{desk.page('Dagster')}/assets/clean_quotes?view=overview")
        page.get_by_text("Quotes that broke no error-level rule").first.wait_for(timeout=60_000)
        page.goto(desk.page("MLflow"))
        page.get_by_text("synthetic/covered_call").first.wait_for(timeout=60_000)
        chromium.close()


def test_ctrl_c_ends_everything_within_ten_seconds(desk: Run, home: Path) -> None:
    mark = _mark(home)
    assert len(marked(mark)) >= 6
    began = time.monotonic()
    desk.process.send_signal(signal.SIGINT)
    desk.process.wait(10)
    assert time.monotonic() - began < 10
    assert marked(mark) == []


def test_a_second_run_recomputes_nothing_and_kill_9_leaves_nothing_that_blocks_a_third(desk: Run, home: Path) -> None:
    assert desk.process.poll() is not None
    second = _start(home)
    try:
        second.wait_for(UP, 240)
        mark = _mark(home)
    finally:
        second.process.kill()
        second.process.wait()
    for stage in ("harvest", "quality", "archive", "regimes", "backtests", "training"):
        assert re.search(rf"{stage}\s+\d+/\d+\s+unchanged", second.text), second.text
    deadline = time.monotonic() + 15
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert marked(mark) == []
    third = _start(home, "--no-stay")
    assert third.process.wait(240) == 0, third.text
