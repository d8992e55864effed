"""Tracking against a real MLflow server: nothing is lost when it is down, nothing is logged twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from options_agent.cli.main import application
from options_agent.errors import ServiceError, SettingsError
from options_agent.llm import registry
from options_agent.llm.prompts import Message, Prompt, load_prompt, prompt_sha256
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
    changed = brief(prompt)
    [second] = registry.register_prompts([changed], settings)
    assert (second.version, second.aliases) == (2, ("challenger",))
    assert [v.prompt for v in registry.prompt_versions(prompt.name, settings)] == [prompt, changed]


def brief(prompt: Prompt, text: str = "Be brief.") -> Prompt:
    messages = (*prompt.messages, Message("user", text))
    return Prompt(prompt.name, messages, prompt.response_schema, prompt_sha256(messages, prompt.response_schema))


def test_a_promoted_version_is_spoken_with_and_a_rollback_brings_the_former_back(tmp_path: Path, mlflow_server: str) -> None:
    settings = _settings(tmp_path, mlflow_server)
    first = replace(load_prompt("decision"), name="walk")
    second, third = replace(brief(first), name="walk"), replace(brief(first, "Be bold."), name="walk")
    registry.register_prompts([first, second, third], settings)
    assert registry.prompt_in_use("walk", settings) == (first, "walk@1")
    for _ in range(2):
        assert registry.promote("walk", "3", settings).aliases == ("champion",)
    registry.record_result("walk", 3, {"regret": 0.001}, settings)
    assert registry.version_of("walk", "champion", settings).result == {"regret": 0.001}
    assert registry.prompt_in_use("walk", settings) == (third, "walk@3")
    away = settings.model_copy(update={"mlflow_tracking_uri": f"http://127.0.0.1:{free_port()}"})
    assert registry.prompt_in_use("walk", away) == (third, "walk@3")
    assert registry.rollback("walk", settings).version == 1
    assert registry.version_of("walk", "challenger", settings).version == 3
    assert registry.prompt_in_use("walk", settings)[1] == "walk@1"
    with pytest.raises(SettingsError, match="no other champion"):
        registry.rollback("walk", settings)
    with pytest.raises(SettingsError, match="no version '9'"):
        registry.promote("walk", "9", settings)
    with pytest.raises(ServiceError, match="not reachable"):
        registry.promote("walk", "2", away)


def test_the_terminal_lists_compares_and_promotes_past_the_gate_only(
    tmp_path: Path, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIONS_AGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPTIONS_AGENT_MLFLOW_TRACKING_URI", mlflow_server)
    settings = load_settings(_env_file=None)
    prompt = load_prompt("decision")
    registry.register_prompts([prompt, brief(prompt, "Mind the spread.")], settings)
    version = registry.version_of("decision", "challenger", settings).version

    def says(*arguments: str) -> str:
        done = CliRunner().invoke(application(), ["prompts", *arguments])
        return done.output + (str(done.exception) if done.exception else "")

    assert "challenger" in says("list", "decision")
    assert "+Mind the spread." in says("diff", "decision", "file", str(version))
    assert "was not evaluated" in says("promote", "decision", str(version))
    registry.record_result("decision", version, {"lacking": ["its regret is not below"]}, settings)
    assert "its regret is not below" in says("promote", "decision", str(version))
    assert "forced" in says("promote", "decision", str(version), "--force")
    assert "champion again" in says("rollback", "decision")


def test_tracking_without_a_server_configured_says_which_variable_to_set(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="OPTIONS_AGENT_MLFLOW_TRACKING_URI"):
        registry.register_prompts([load_prompt()], _settings(tmp_path, None))
