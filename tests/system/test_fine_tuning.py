"""Fine-tuning by the official client on the embedded server: to success, failed, cancelled, and followed on after a kill."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from openai import OpenAI

from options_agent.alerts.state import AlertState
from options_agent.durable import write_json
from options_agent.errors import ServiceError, SettingsError
from options_agent.lake.store import open_lake
from options_agent.llm import shutdowns
from options_agent.llm.client import openai_client
from options_agent.llm.fine_tuning import cancel, fine_tune, tunes
from options_agent.llm.shutdowns import alarm_shutdowns
from options_agent.llm.training import Decision, week_bounds, write_week

if TYPE_CHECKING:
    from options_agent.settings import Settings

pytestmark = pytest.mark.slow
WEEKS = ("2026-W05", "2026-W06", "2026-W07")
SHORT = {"n_epochs": 1}


def write_weeks(settings: Settings, *, one_action: bool = False) -> None:
    draw = random.Random(5)
    some = []
    for week in WEEKS:
        monday, _ = week_bounds(week)
        for n in range(40):
            unrealised = draw.uniform(-1, 1)
            action = "close" if unrealised > 0.4 and not one_action else "hold"
            at = monday + dt.timedelta(hours=4 * n)
            state = {"index": draw.uniform(6e4, 1e5), "unrealised": unrealised, "dte": draw.uniform(1, 9)}
            values, known = {"hold": 0.01 - unrealised / 50, "close": 0.0}, at + dt.timedelta(days=3)
            some.append(
                Decision(at, "BTC", "calls", "Sell.", "calm", ("hold", "close"), action, "So.", state, values=values, known_at=known)
            )
    for week in WEEKS:
        write_week(open_lake(settings), some, week, inputs=["run"])


def test_a_model_is_trained_once_and_the_latest_week_is_held_out(settings: Settings) -> None:
    write_weeks(settings)
    told: list[str] = []
    tune = fine_tune(settings, hyperparameters=SHORT, progress=told.append)
    assert (tune.status, tune.weeks, tune.held_out) == ("succeeded", WEEKS[:2], WEEKS[2:])
    assert tune.model in {m.id for m in openai_client(settings).models.list()}
    assert tune.metrics["valid_mean_token_accuracy"] > 0.8
    assert len(told) == len(set(told)) == tune.events_seen
    assert fine_tune(settings, hyperparameters=SHORT) == tune
    (settings.home / "models" / settings.network / "tunes" / f"{tune.key}.json").unlink()
    assert fine_tune(settings, hyperparameters=SHORT).job == tune.job  # found on the server by its key
    assert len(list(openai_client(settings).fine_tuning.jobs.list())) == 1


def test_a_job_that_fails_and_one_that_is_cancelled_say_why_and_can_be_tried_again(settings: Settings) -> None:
    write_weeks(settings, one_action=True)
    failed = fine_tune(settings, hyperparameters=SHORT)
    assert failed.status == "failed"
    assert "nothing to learn" in failed.reason

    def interrupt(said: str) -> None:
        if said == "The job has started":
            cancel(settings, tunes_by_label()["hindsight"], "changed my mind")

    def tunes_by_label() -> dict[str, str]:
        return {t.label: t.job for t in tunes(settings)}

    gone = fine_tune(settings, label="hindsight", hyperparameters={"n_epochs": 50}, progress=interrupt)
    assert (gone.status, gone.reason, gone.model) == ("cancelled", "changed my mind", "")
    assert cancel(settings, gone.job) == gone
    again = fine_tune(settings, hyperparameters=SHORT)
    assert again.job != failed.job
    with pytest.raises(SettingsError, match="no fine-tuning job"):
        cancel(settings, "ftjob-none")


def test_a_job_the_server_refuses_is_a_failed_one_with_its_reason(settings: Settings) -> None:
    write_weeks(settings)
    refused = fine_tune(settings, base="desk-hold")
    assert (refused.status, refused.job) == ("failed", "")
    assert "desk-hold is not available for fine-tuning" in refused.reason
    assert tunes(settings) == [refused]


def test_a_killed_follower_finds_its_job_again(settings: Settings) -> None:
    write_weeks(settings)
    code = "from options_agent.settings import load_settings\nfrom options_agent.llm.fine_tuning import fine_tune\n"
    code += "fine_tune(load_settings(), hyperparameters={'n_epochs': 3})"
    follower = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"OPTIONS_AGENT_HOME": str(settings.home)})
    folder = settings.home / "models" / settings.network / "tunes"
    while not any(json.loads(p.read_text())["job"] for p in folder.glob("*.json")):
        assert follower.poll() is None
        time.sleep(0.05)
    follower.send_signal(signal.SIGKILL)
    follower.wait()
    (before,) = tunes(settings)
    assert before.status in {"queued", "running"}
    after = fine_tune(settings, hyperparameters={"n_epochs": 3})
    assert (after.job, after.status) == (before.job, "succeeded")
    assert len(list(openai_client(settings).fine_tuning.jobs.list())) == 1


def test_a_models_end_is_alarmed_sixty_days_ahead(settings: Settings) -> None:
    today = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    ends = {"desk-rules": "2026-12-20", "desk-hold": "2026-11-02"}
    write_json(settings.home / "models" / settings.network / "shutdown_dates.json", ends)
    assert alarm_shutdowns(settings, ("desk-rules",), now=today - dt.timedelta(days=40)) == []
    due = alarm_shutdowns(settings, ("desk-rules",), now=today)
    assert [d.models for d in due] == [("desk-rules",)]
    assert [a.key for a in AlertState(settings.state_dir).open_alerts()] == ["shutdown/model desk-rules"]


def test_known_ends_of_a_hosted_offer_are_alarmed_although_its_server_is_away(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    hosted = settings.language_model.model_copy(update={"base_url": "https://api.openai.com/v1", "model": "gpt-4o-mini"})
    desk = settings.model_copy(update={"language_model": hosted})
    away = OpenAI(base_url="http://127.0.0.1:9/v1", api_key="none", max_retries=0)
    monkeypatch.setattr(shutdowns, "openai_client", lambda _: away)
    for today, due in ((dt.datetime(2026, 11, 6, tzinfo=dt.UTC), []), (dt.datetime(2026, 11, 20, tzinfo=dt.UTC), ["OpenAI's", "gpt-4o"])):
        with pytest.raises(ServiceError, match="list its models"):
            alarm_shutdowns(desk, now=today)
        said = [a.key.removeprefix("shutdown/").split()[0] for a in AlertState(desk.state_dir).open_alerts()]
        assert sorted(said) == due
