"""Tracking against a real MLflow server: nothing is lost when it is down, nothing is logged twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from options_agent.errors import ServiceError, SettingsError
from options_agent.llm import registry
from options_agent.llm.prompts import Message, Prompt, load_prompt
from options_agent.settings import Settings, load_settings
from options_agent.tracking import runs as tracking
from tests.servers.mlflow import free_port, start_mlflow, stop_mlflow

pytestmark = pytest.mark.slow


def _settings(tmp_path: Path, uri: str | None) -> Settings:
    return load_settings(home=tmp_path / "home", mlflow_tracking_uri=uri, _env_file=None)


def _run(tmp_path: Path, key: str = "abc123") -> tracking.TrackedRun:
    report = tmp_path / "covered_call.json"
    report.write_text('{"trades": 3}')
    return tracking.TrackedRun(
        key=key,
        experiment="synthetic/covered_call",
        name=f"covered_call BTC {key}",
        params={"underlying": "BTC"},
        metrics={"return_coin": 0.0125},
        tags={"dagster.run_url": "http://127.0.0.1:3000/runs/1"},
        artifacts=[str(report)],
        note="[Dagster run](http://127.0.0.1:3000/runs/1)",
        start_ms=1_700_000_000_000,
        end_ms=1_700_000_001_000,
    )


def _client(uri: str):
    from mlflow import MlflowClient

    return MlflowClient(uri)


def test_a_run_is_found_in_mlflow_with_its_metrics_report_and_link_back(tmp_path: Path, mlflow_server: str) -> None:
    settings = _settings(tmp_path, mlflow_server)
    url = tracking.track(_run(tmp_path, "k1"), settings)
    assert url is not None
    assert url.startswith(mlflow_server)
    run = _client(mlflow_server).get_run(url.rsplit("/", 1)[1])
    assert run.data.metrics == {"return_coin": 0.0125}
    assert run.data.tags["dagster.run_url"].endswith("/runs/1")
    assert [a.path for a in _client(mlflow_server).list_artifacts(run.info.run_id)] == ["covered_call.json"]
    assert run.info.status == "FINISHED"


def test_tracking_the_same_run_twice_leaves_one_run(tmp_path: Path, mlflow_server: str) -> None:
    settings = _settings(tmp_path, mlflow_server)
    first = tracking.track(_run(tmp_path, "k2"), settings)
    second = tracking.track(_run(tmp_path, "k2"), settings)
    assert first == second
    assert tracking.tracked_url("k2", settings) == first


def test_a_server_that_is_down_keeps_the_run_in_the_outbox_until_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    settings = _settings(tmp_path, f"http://127.0.0.1:{port}")
    assert tracking.track(_run(tmp_path), settings) is None
    assert [p.name for p in tracking.pending(settings)] == ["abc123.json"]
    with pytest.raises(ServiceError, match="1 tracked runs wait"):
        tracking.sync_pending(settings)
    server = start_mlflow(tmp_path / "server", port)
    try:
        assert tracking.sync_pending(settings) == 1
        assert not list(tracking.pending(settings))
        assert tracking.tracked_url("abc123", settings) is not None
    finally:
        stop_mlflow(server)


def test_prompts_are_versioned_by_their_text_and_the_first_is_champion(tmp_path: Path, mlflow_server: str) -> None:
    settings = _settings(tmp_path, mlflow_server)
    prompt = load_prompt("decision")
    [first] = registry.register_prompts([prompt], settings)
    [again] = registry.register_prompts([prompt], settings)
    assert (first.version, first.aliases) == (1, ("champion",))
    assert again == first
    changed = Prompt(prompt.name, (*prompt.messages, Message("user", "Be brief.")), prompt.response_schema, "0" * 64)
    [second] = registry.register_prompts([changed], settings)
    assert (second.version, second.aliases) == (2, ("challenger",))


def test_tracking_without_a_server_configured_says_which_variable_to_set(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="OPTIONS_AGENT_MLFLOW_TRACKING_URI"):
        registry.register_prompts([load_prompt()], _settings(tmp_path, None))
