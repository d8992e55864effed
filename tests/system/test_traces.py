"""Traces of calls on a real MLflow server: each once, with its cost, and their sum is the ledger's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from options_agent.errors import ServiceError
from options_agent.llm import traces
from options_agent.llm.spend import SENDING, Settlement, mark_traces, reserve, settle, spent, untraced
from options_agent.settings import Settings, load_settings
from options_agent.tracking.server import mlflow_of
from tests.servers.mlflow import free_port

pytestmark = pytest.mark.slow


def desk(tmp_path: Path, uri: str) -> Settings:
    return load_settings(home=tmp_path, mlflow_tracking_uri=uri, _env_file=None)


def call(settings: Settings, n: int) -> None:
    one = reserve(
        settings, "study" if n % 2 else "evaluation", "gpt-4.1-mini", f"study@{n % 3}", 0.01, [{"role": "user", "content": f"{n}?"}]
    )
    settle(settings, one, Settlement("failed" if n == 5 else "settled", 0.001 * n, 100 + n, n, 0.25, f"answer {n}"))


def all_traces(settings: Settings) -> list[Any]:
    mlflow = mlflow_of(settings)
    experiment = mlflow.get_experiment_by_name("synthetic/language-model")
    return list(mlflow.search_traces(locations=[experiment.experiment_id], return_type="list", max_results=500))


def linked(settings: Settings, prompt: str) -> set[str]:
    mlflow = mlflow_of(settings)
    experiment = mlflow.get_experiment_by_name("synthetic/language-model")
    found = mlflow.search_traces(locations=[experiment.experiment_id], filter_string=f"prompt = '{prompt}'", return_type="list")
    return {t.info.trace_id for t in found}


def test_traces_wait_for_the_server_go_once_and_sum_to_the_ledger(
    tmp_path: Path, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = desk(tmp_path, mlflow_server)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: call(settings, n), range(12)))
    own = {row["call"] for row in untraced(settings)}
    reserve(settings, "study", "gpt-4.1-mini", "", 0.01, [])  # not over: no trace
    with pytest.raises(ServiceError, match="away"):
        traces.send_traces(desk(tmp_path, f"http://127.0.0.1:{free_port()}"))
    real, sent = traces._send, []

    def dies_in_the_middle(mlflow: Any, experiment: str, row: dict[str, Any]) -> None:
        real(mlflow, experiment, row)
        sent.append(row["call"])
        if len(sent) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(traces, "_send", dies_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        traces.send_traces(settings)
    assert len(untraced(settings)) == 9  # the fourth went and was not marked
    monkeypatch.setattr(traces, "_send", real)
    assert traces.send_traces(settings) == 8
    assert traces.send_traces(settings) == 0
    found = [t for t in all_traces(settings) if t.info.tags[traces.CALL_TAG] in own]  # other tests send to this server too
    assert len(found) == 12
    assert len({t.info.tags[traces.CALL_TAG] for t in found}) == 12
    ledger = sum(row["cost_usd"] for row in spent(settings))
    assert sum(t.data.spans[0].attributes["mlflow.llm.cost"]["total_cost"] for t in found) == pytest.approx(ledger)
    tokens = sum(row["tokens_in"] + row["tokens_out"] for row in spent(settings))
    assert sum(t.data.spans[0].attributes["mlflow.chat.tokenUsage"]["total_tokens"] for t in found) == tokens
    assert {t.info.execution_duration for t in found} == {250}
    assert sum(t.info.state == "ERROR" for t in found) == 1
    of_the_prompt = {t.info.trace_id for t in found if t.info.tags["prompt"] == "study@1"}
    assert of_the_prompt == linked(settings, "study/1") & {t.info.trace_id for t in found}
    assert len(of_the_prompt) == 4


def test_two_senders_at_once_send_each_trace_once(tmp_path: Path, mlflow_server: str) -> None:
    settings = desk(tmp_path, mlflow_server)
    for n in range(70, 76):
        call(settings, n)
    own = {row["call"] for row in untraced(settings)}
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: traces.send_traces(settings), range(3)))
    assert traces.send_traces(settings) == 0
    assert sorted(t.info.tags[traces.CALL_TAG] for t in all_traces(settings) if t.info.tags[traces.CALL_TAG] in own) == sorted(own)


def test_what_a_killed_sender_left_in_doubt_is_looked_up(tmp_path: Path, mlflow_server: str) -> None:
    settings = desk(tmp_path, mlflow_server)
    for n in (50, 51):
        call(settings, n)
    first, second = (row["call"] for row in untraced(settings))
    mlflow = mlflow_of(settings)
    traces._send(mlflow, traces.experiment_id(mlflow, "synthetic/language-model"), untraced(settings)[0])
    mark_traces(settings, [first, second], SENDING)
    assert traces.send_traces(settings) == 1
    assert sorted(t.info.tags[traces.CALL_TAG] for t in all_traces(settings) if t.info.tags[traces.CALL_TAG] in {first, second}) == sorted(
        [first, second]
    )
