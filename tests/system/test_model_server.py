"""The embedded model server answers the official client as a provider would: chat, files, fine-tuning that trains, batches."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from options_agent.llm.prompts import load_prompt, render
from options_agent.llm.server import start_model_server
from options_agent.llm.server.app import Faults
from tests.conftest import REPOSITORY
from tests.servers.mlflow import free_port

pytestmark = pytest.mark.slow
FAULTS = Faults()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    url = start_model_server(tmp_path_factory.mktemp("models"), api_key="a-key", faults=FAULTS)
    with OpenAI(base_url=url, api_key="a-key", max_retries=2, timeout=60) as one:
        yield one


def decision(unrealised: float, dte: float, actions: tuple[str, ...] = ("hold", "close")) -> list[dict[str, str]]:
    state = f"- days to expiry: {dte:g}\n- bid, coin: 0.004\n- ask, coin: 0.0044\n- unrealised profit, share of premium: {unrealised:g}"
    names = {"exchange": "Deribit", "currency": "BTC", "strategy": "covered_call", "rules": "Sell a call.", "time": "2026-02-01 08:00"}
    names |= {"underlying": "BTC", "regime": "bull-calm", "state": state, "actions": ", ".join(actions)}
    return render(load_prompt("decision"), names)


def teacher(unrealised: float, dte: float) -> str:
    return "close" if unrealised > 0.35 or (dte < 2 and unrealised < 0) else "hold"


def chat_lines(count: int, seed: int) -> bytes:
    draw = random.Random(seed)
    lines = []
    for _ in range(count):
        unrealised, dte = draw.uniform(-1, 1), draw.uniform(0, 14)
        answer = json.dumps({"action": teacher(unrealised, dte), "rationale": "So it is."})
        lines.append(json.dumps({"messages": [*decision(unrealised, dte), {"role": "assistant", "content": answer}]}))
    return "\n".join(lines).encode()


def upload(client: OpenAI, data: bytes, purpose: Any = "fine-tune") -> str:
    return client.files.create(file=("examples.jsonl", data), purpose=purpose).id


def waited(client: OpenAI, job: str, *, until: tuple[str, ...] = ("succeeded", "failed", "cancelled")) -> Any:
    for _ in range(600):
        found = client.fine_tuning.jobs.retrieve(job)
        if found.status in until:
            return found
        time.sleep(0.1)
    raise AssertionError(f"job {job} is still {found.status}")


def test_models_answer_by_the_schema_in_one_piece_or_as_a_stream(client: OpenAI) -> None:
    assert {m.id for m in client.models.list()} >= {"desk-hold", "desk-rules", "desk-proposer"}
    assert client.models.retrieve("desk-rules").owned_by == "options-agent"
    shape: Any = {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": load_prompt("decision").response_schema},
    }
    messages: Any = decision(0.8, 5)
    whole = client.chat.completions.create(model="desk-rules", messages=messages, response_format=shape)
    assert json.loads(whole.choices[0].message.content or "")["action"] == "close"
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 100
    stream = client.chat.completions.create(model="desk-rules", messages=messages, stream=True, stream_options={"include_usage": True})
    parts = list(stream)
    assert "".join(c.delta.content or "" for p in parts for c in p.choices) == whole.choices[0].message.content
    assert parts[-1].usage == whole.usage
    short = client.chat.completions.create(model="desk-rules", messages=messages, max_tokens=3, n=2)
    assert [c.finish_reason for c in short.choices] == ["length", "length"]
    response = client.responses.create(model="desk-hold", input=messages, instructions="Be brief.")
    assert json.loads(response.output_text)["action"] == "hold"
    for action, actions in (("open", ("open", "skip")), ("skip", ("skip",))):
        said = client.chat.completions.create(model="desk-rules", messages=decision(0.0, 5, actions))  # type: ignore[arg-type]
        assert json.loads(said.choices[0].message.content or "")["action"] == action


def test_refusals_are_the_protocols_own(client: OpenAI) -> None:
    messages: Any = decision(0.1, 5)
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="gpt-nothing", messages=messages)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="another").models.list()
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve("file-nothing")
    with pytest.raises(openai.BadRequestError, match="not available for fine-tuning"):
        client.fine_tuning.jobs.create(model="desk-hold", training_file=upload(client, chat_lines(12, 0)))
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.fine_tuning.jobs.create(model="desk-rules", training_file=upload(client, b"{}", "batch"))
    impossible: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"required": ["poem"]}}}
    with pytest.raises(openai.BadRequestError, match="cannot answer by this schema"):
        client.chat.completions.create(model="desk-rules", messages=messages, response_format=impossible)
    open_ended: Any = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": {"type": "object", "properties": {}}}}
    with pytest.raises(openai.BadRequestError, match="additionalProperties") as refused:
        client.chat.completions.create(model="desk-rules", messages=messages, response_format=open_ended)
    assert (refused.value.code, refused.value.param) == ("invalid_json_schema", "response_format")
    for wrong in ({"n": 0}, {"max_tokens": "many"}, {"messages": []}, {"messages": [3]}):
        with pytest.raises(openai.BadRequestError):
            client.post("/chat/completions", body={"model": "desk-rules", "messages": messages} | wrong, cast_to=object)
    with pytest.raises(openai.NotFoundError):
        client.get("/nothing", cast_to=object)
    with pytest.raises(openai.PermissionDeniedError, match="evil"):
        client.with_options(default_headers={"Host": "evil.example"}).models.list()
    with pytest.raises(openai.BadRequestError, match="n_epochs"):
        client.fine_tuning.jobs.create(model="desk-rules", training_file=upload(client, b"{}"), hyperparameters={"n_epochs": 1000})
    with pytest.raises(openai.BadRequestError, match="nothing with id"):
        client.files.list(after="file-nothing")
    FAULTS.waiting += [(429, 0.1), (500, 0.1)]
    assert client.chat.completions.create(model="desk-rules", messages=messages).choices
    assert FAULTS.waiting == []


def test_files_come_back_as_they_were_sent(client: OpenAI) -> None:
    data = chat_lines(11, 1)
    key = upload(client, data)
    assert client.files.content(key).content == data
    assert client.files.retrieve(key).bytes == len(data)
    assert key in [f.id for f in client.files.list(purpose="fine-tune")]
    assert client.files.delete(key).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(key)


def test_a_job_truly_trains_and_its_model_answers_as_it_was_taught(client: OpenAI) -> None:
    files = upload(client, chat_lines(400, 2)), upload(client, chat_lines(80, 3))
    made = client.fine_tuning.jobs.create(model="desk-rules", training_file=files[0], validation_file=files[1], suffix="calls", seed=7)
    job = waited(client, made.id)
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model in {m.id for m in client.models.list()}
    draw, right = random.Random(4), 0
    for _ in range(60):
        unrealised, dte = draw.uniform(-1, 1), draw.uniform(0, 14)
        messages: Any = decision(unrealised, dte)
        said = client.chat.completions.create(model=job.fine_tuned_model, messages=messages).choices[0].message.content
        right += json.loads(said or "")["action"] == teacher(unrealised, dte)
    assert right >= 57
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=2))  # pages by `after`
    assert [e.message for e in events][-1] == "The job is queued"
    assert "succeeded" in events[0].message
    steps = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    assert [c.step_number for c in steps] == [120, 90, 60, 30]
    assert steps[0].metrics.valid_mean_token_accuracy is not None
    assert steps[0].metrics.valid_mean_token_accuracy > 0.95
    assert client.files.content(job.result_files[0]).text.splitlines()[-1].startswith("120,")
    ask: Any = {"messages": decision(0.8, 5)}
    early = client.chat.completions.create(model=steps[-1].fine_tuned_model_checkpoint, **ask)
    assert json.loads(early.choices[0].message.content or "")["action"] == "close"
    assert client.models.delete(steps[-1].fine_tuned_model_checkpoint).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=steps[-1].fine_tuned_model_checkpoint, **ask)


def test_a_job_that_cannot_train_says_why(client: OpenAI) -> None:
    good = chat_lines(20, 5).splitlines()
    unfinished = json.dumps({"messages": decision(0.1, 2)}).encode()
    for data, other, why in (
        (b"\n".join(good[:9]), None, "at least 10"),
        (b"\n".join([*good, unfinished]), None, "line 21"),
        (b"\n".join(good), b"\n".join(good[5:]), "15 examples stand in both"),
    ):
        files: Any = {"training_file": upload(client, data)} | ({"validation_file": upload(client, other)} if other else {})
        job = waited(client, client.fine_tuning.jobs.create(model="desk-rules", **files).id)
        assert job.status == "failed"
        assert job.error is not None
        assert why in str(job.error.message)
        assert job.fine_tuned_model is None


def test_a_job_can_be_paused_resumed_and_cancelled_in_the_middle(client: OpenAI) -> None:
    file = upload(client, chat_lines(60, 6))
    long: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 50}}}
    job = client.fine_tuning.jobs.create(model="desk-rules", training_file=file, method=long)
    waited(client, job.id, until=("running",))
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    client.fine_tuning.jobs.resume(job.id)
    while not (reached := list(client.fine_tuning.jobs.checkpoints.list(job.id))):
        time.sleep(0.05)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    time.sleep(0.5)
    found = client.fine_tuning.jobs.retrieve(job.id)
    assert (found.status, found.fine_tuned_model) == ("cancelled", None)
    assert reached[-1].step_number == 500
    assert len(list(client.fine_tuning.jobs.checkpoints.list(job.id))) < 4
    assert not [m.id for m in client.models.list() if job.id[6:14] in m.id and "ckpt" not in m.id]
    with pytest.raises(openai.BadRequestError, match="already cancelled"):
        client.fine_tuning.jobs.cancel(job.id)


def test_a_batch_is_answered_by_custom_id_in_any_order(client: OpenAI) -> None:
    body = {"model": "desk-rules", "messages": decision(0.9, 3)}
    lines = [{"custom_id": f"d{n}", "method": "POST", "url": "/v1/chat/completions", "body": body} for n in range(5)]
    lines.append({"custom_id": "bad", "method": "POST", "url": "/v1/chat/completions", "body": body | {"model": "none"}})
    file = upload(client, "\n".join(map(json.dumps, lines)).encode(), "batch")
    batch = client.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h")
    while (found := client.batches.retrieve(batch.id)).status != "completed":
        time.sleep(0.05)
    assert found.request_counts is not None
    assert (found.request_counts.completed, found.request_counts.failed) == (5, 1)
    out = [json.loads(line) for line in client.files.content(str(found.output_file_id)).text.splitlines()]
    assert {o["custom_id"] for o in out} == {f"d{n}" for n in range(5)}
    assert [o["custom_id"] for o in out] != [f"d{n}" for n in range(5)]


def test_a_batch_that_cannot_be_read_fails_and_a_cancelled_one_keeps_what_it_has(client: OpenAI) -> None:
    body = {"model": "desk-rules", "messages": decision(0.9, 3)}
    lines = [{"custom_id": f"d{n}", "method": "POST", "url": "/v1/chat/completions", "body": body} for n in range(2000)]

    def batch(requests: list[dict[str, Any]]) -> Any:
        file = upload(client, "\n".join(map(json.dumps, requests)).encode(), "batch")
        return client.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h")

    twice = batch([lines[0], lines[0]])
    while (found := client.batches.retrieve(twice.id)).status != "failed":
        time.sleep(0.02)
    assert [e.line for e in found.errors.data] == [2]
    long = batch(lines)
    client.batches.cancel(long.id)
    while (found := client.batches.retrieve(long.id)).status != "cancelled":
        time.sleep(0.02)
    assert found.request_counts.completed < 2000
    with pytest.raises(openai.BadRequestError, match="already cancelled"):
        client.batches.cancel(long.id)


def test_of_two_servers_over_one_folder_one_trains_and_both_cancel(tmp_path: Path) -> None:
    first, second = (OpenAI(base_url=start_model_server(tmp_path), api_key="none") for _ in range(2))
    long: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 40}}}
    for one, other in ((first, second), (second, first)):
        job = one.fine_tuning.jobs.create(model="desk-rules", training_file=upload(one, chat_lines(50, 9)), method=long)
        waited(other, job.id, until=("running",))
        assert other.fine_tuning.jobs.cancel(job.id).status == "cancelled"
        assert [e.message for e in one.fine_tuning.jobs.list_events(job.id)].count("The job has started") == 1


def test_killed_in_the_middle_of_a_job_the_next_server_ends_it(tmp_path: Path) -> None:
    port = free_port()
    command = [
        sys.executable,
        "-c",
        f"from pathlib import Path; from options_agent.llm.server.running import serve; serve(Path({str(tmp_path)!r}), {port})",
    ]

    def up() -> subprocess.Popen[bytes]:
        server = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)
        for _ in range(200):
            try:
                client.models.list()
                return server
            except openai.APIConnectionError:
                time.sleep(0.1)
        raise AssertionError("the server does not come up")

    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
    server = up()
    job = client.fine_tuning.jobs.create(model="desk-rules", training_file=upload(client, chat_lines(300, 8)), seed=1)
    waited(client, job.id, until=("running",))
    server.send_signal(signal.SIGKILL)
    server.wait()
    server = up()
    try:
        assert waited(client, job.id).status == "succeeded"
        assert any("anew" in e.message for e in client.fine_tuning.jobs.list_events(job.id))
    finally:
        server.terminate()
        server.wait(20)
