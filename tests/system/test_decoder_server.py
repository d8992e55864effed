"""The small decoder over the wire: the official client trains it, follows it, cancels it, and asks what came of it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from options_agent.llm.prompts import load_prompt, render
from options_agent.llm.server import jobs, start_model_server
from options_agent.llm.server.decoder import learning

pytestmark = pytest.mark.slow
needs_torch = pytest.mark.skipif(not learning.available(), reason=f"training a decoder needs torch: {learning.NEEDED}")
STRICT: Any = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": load_prompt("decision").response_schema}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    with OpenAI(base_url=start_model_server(tmp_path_factory.mktemp("models")), api_key="none", timeout=60) as one:
        yield one


def decision(unrealised: float, dte: float, actions: str = "hold, close") -> Any:
    state = f"- days to expiry: {dte:.4g}\n- bid, coin: 0.004\n- ask, coin: 0.0044\n- unrealised profit, share of premium: {unrealised:.4g}"
    names = {"exchange": "Deribit", "currency": "BTC", "strategy": "covered_call", "rules": "Sell a call.", "time": "2026-02-01 08:00"}
    names |= {"underlying": "BTC", "regime": "bull-calm", "state": state, "actions": actions}
    return render(load_prompt("decision"), names)


def draws(count: int, seed: int) -> list[tuple[float, float]]:
    dice = random.Random(seed)
    return [(dice.uniform(-1, 1), dice.uniform(0, 14)) for _ in range(count)]


def action_of(unrealised: float) -> str:
    return "close" if unrealised > 0.3 else "hold"


def uploaded(client: OpenAI, count: int, seed: int) -> str:
    lines = []
    for unrealised, dte in draws(count, seed):
        why = f"{'Enough is kept' if unrealised > 0.3 else 'No exit rule is met'} (dte {dte:.4g}, unrealised {unrealised:.4g})."
        answer = {"role": "assistant", "content": json.dumps({"action": action_of(unrealised), "rationale": why})}
        lines.append(json.dumps({"messages": [*decision(unrealised, dte), answer]}))
    return client.files.create(file=("examples.jsonl", "\n".join(lines).encode()), purpose="fine-tune").id


def tuned(client: OpenAI, file: str, epochs: int, **more: Any) -> Any:
    parameters = {"n_epochs": epochs, "batch_size": 8}
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": parameters}}
    return client.fine_tuning.jobs.create(model="desk-decoder", training_file=file, method=method, **more)


@needs_torch
def test_a_decoder_is_trained_and_writes_valid_answers_that_name_the_numbers_it_was_shown(client: OpenAI) -> None:
    job = tuned(client, uploaded(client, 160, 1), 5, validation_file=uploaded(client, 20, 2), suffix="small", seed=7)
    while job.status not in {"succeeded", "failed", "cancelled"}:
        time.sleep(0.2)
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model == f"ft:desk-decoder:desk:small:{job.id[6:14]}"
    assert job.fine_tuned_model in {m.id for m in client.models.list()}
    steps = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    assert [c.step_number for c in steps] == [5, 3, 2, 1]
    assert steps[0].metrics.valid_mean_token_accuracy is not None
    messages = [e.message for e in client.fine_tuning.jobs.list_events(job.id, limit=2)]
    assert messages[-1] == "The job is queued"
    assert any(m.startswith("Step 3/5") for m in messages)
    assert client.files.content(job.result_files[0]).text.splitlines()[-1].startswith("5,")
    right = named = 0
    for unrealised, dte in draws(40, 3):
        said = client.chat.completions.create(model=job.fine_tuned_model, messages=decision(unrealised, dte), response_format=STRICT)
        answer = json.loads(said.choices[0].message.content or "")
        right += answer["action"] == action_of(unrealised)
        named += f"{unrealised:.4g}" in answer["rationale"]
    assert right >= 32
    assert named >= 20
    other = client.chat.completions.create(model=job.fine_tuned_model, messages=decision(0.5, 3, "roll, wait"), response_format=STRICT)
    assert json.loads(other.choices[0].message.content or "")["action"] in {"roll", "wait"}
    again = [client.responses.create(model=job.fine_tuned_model, input=decision(0.5, 3)).output_text for _ in range(2)]
    assert again[0] == again[1]


@needs_torch
def test_a_decoders_training_can_be_cancelled_in_the_middle_and_its_checkpoint_asked(client: OpenAI) -> None:
    job = tuned(client, uploaded(client, 12, 4), 50)
    while not (reached := list(client.fine_tuning.jobs.checkpoints.list(job.id))):
        time.sleep(0.05)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    time.sleep(0.5)
    found = client.fine_tuning.jobs.retrieve(job.id)
    assert (found.status, found.fine_tuned_model) == ("cancelled", None)
    said = client.chat.completions.create(model=reached[-1].fine_tuned_model_checkpoint, messages=decision(0.1, 5))
    assert json.loads(said.choices[0].message.content or "")["action"] in {"hold", "close"}


def test_an_untrained_decoder_answers_nothing_and_says_so(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="fine-tune it"):
        client.chat.completions.create(model="desk-decoder", messages=decision(0.1, 5))


def test_where_torch_is_absent_training_is_refused_with_the_remedy(client: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "available", lambda: False)
    with pytest.raises(openai.BadRequestError, match="make decoder") as refused:
        tuned(client, uploaded(client, 12, 5), 1)
    assert (refused.value.code, refused.value.param) == ("model_not_available", "model")
