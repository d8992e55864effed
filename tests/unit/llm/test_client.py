"""The door to language models against servers on loopback: answers, refusals, waits, and what each leaves in the ledger."""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from options_agent.alerts.state import AlertState
from options_agent.errors import BudgetError, ServiceError
from options_agent.llm.client import AnswerError, complete
from options_agent.llm.prices import UnknownPriceError
from options_agent.llm.spend import spent, untraced
from options_agent.settings import Settings, load_settings

SCHEMA = {"type": "object", "properties": {"action": {"enum": ["hold", "close"]}}, "required": ["action"], "additionalProperties": False}
ASKED = [{"role": "system", "content": "Choose."}, {"role": "user", "content": "Hold or close?"}]
KEY = "sk-very-secret-key"
Reply = Callable[[dict[str, Any]], web.Response]


@contextmanager
def provider(reply: Reply) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers chats as told; yields its URL and the bodies it was sent."""
    seen: list[dict[str, Any]] = []

    async def chat(request: web.Request) -> web.Response:
        seen.append({"headers": dict(request.headers), **await request.json()})
        return reply(seen[-1])

    loop, up, port = asyncio.new_event_loop(), threading.Event(), []

    def run() -> None:
        asyncio.set_event_loop(loop)
        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        runner = web.AppRunner(app)
        loop.run_until_complete(runner.setup())
        loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
        port.append(runner.addresses[0][1])
        up.set()
        loop.run_forever()

    threading.Thread(target=run, daemon=True).start()
    assert up.wait(10)
    yield f"http://127.0.0.1:{port[0]}/v1", seen
    loop.call_soon_threadsafe(loop.stop)


def chat(content: str | None, *, finish: str = "stop", **message: Any) -> web.Response:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    usage = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100, "prompt_tokens_details": {"cached_tokens": 500}}
    return web.json_response({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage})


def desk(tmp_path: Path, url: str, **chosen: Any) -> Settings:
    chosen = {"base_url": url, "api_key": KEY, "model": "gpt-4.1-mini", "timeout_seconds": 5.0, "requests_per_minute": 60_000} | chosen
    return load_settings(home=tmp_path, language_model=chosen, _env_file=None)


def test_an_answer_is_checked_priced_and_in_the_ledger(tmp_path: Path) -> None:
    with provider(lambda _: chat('{"action": "close"}')) as (url, seen):
        settings = desk(tmp_path, url)
        answer = complete(settings, "evaluation", ASKED, schema=SCHEMA, prompt="decision@3", seed=4)
    assert answer.content == {"action": "close"}
    assert answer.cost_usd == pytest.approx((500 * 0.4 + 500 * 0.1 + 100 * 1.6) / 1e6)
    assert seen[0]["response_format"]["json_schema"]["strict"] is True
    assert (seen[0]["seed"], seen[0]["temperature"], seen[0]["model"]) == (4, 0.0, "gpt-4.1-mini")
    assert seen[0]["headers"]["Authorization"] == f"Bearer {KEY}"
    (row,) = spent(settings, ("feature", "model", "prompt"))
    assert (row["feature"], row["prompt"], row["calls"], row["failed"]) == ("evaluation", "decision@3", 1, 0)
    assert row["cost_usd"] == pytest.approx(answer.cost_usd)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (lambda _: chat("close it"), "no JSON"),
        (lambda _: chat('{"action": "buy"}'), "not of the schema at action"),
        (lambda _: chat('{"action": "close"', finish="length"), "cut off"),
        (lambda _: chat(None, refusal="I will not."), "refused: I will not"),
        (lambda _: chat(""), "empty"),
    ],
    ids=["text", "schema", "length", "refusal", "empty"],
)
def test_output_that_cannot_be_used_is_an_error_and_paid_for(tmp_path: Path, reply: Reply, said: str) -> None:
    with provider(reply) as (url, _):
        settings = desk(tmp_path, url)
        with pytest.raises(AnswerError, match=said):
            complete(settings, "study", ASKED, schema=SCHEMA)
    (row,) = spent(settings)
    assert (row["failed"], row["reserved_usd"]) == (1, 0.0)
    assert row["cost_usd"] > 0


def test_a_busy_server_is_asked_again_after_the_time_it_names(tmp_path: Path) -> None:
    answers = [
        web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0.2"}),
        chat('{"action": "hold"}'),
    ]
    with provider(lambda _: answers.pop(0)) as (url, seen):
        assert complete(desk(tmp_path, url), "study", ASKED, schema=SCHEMA).content == {"action": "hold"}
    assert len(seen) == 2


def test_a_server_that_refuses_costs_nothing_and_the_key_is_never_told(tmp_path: Path) -> None:
    refused = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    with provider(lambda _: web.json_response(refused, status=401)) as (url, _):
        settings = desk(tmp_path, url)
        with pytest.raises(ServiceError, match="HTTP 401") as error:
            complete(settings, "study", ASKED)
    told = "".join(traceback.format_exception(error.value))
    assert KEY not in told + repr(settings)
    (row,) = spent(settings)
    assert (row["failed"], row["cost_usd"]) == (1, 0.0)
    assert KEY not in json.dumps(untraced(settings))


def test_a_server_that_is_away_or_silent_counts_in_full(tmp_path: Path) -> None:
    settings = desk(tmp_path, "http://127.0.0.1:9/v1", retries=0)
    with pytest.raises(ServiceError, match="cannot be reached"):
        complete(settings, "study", ASKED, max_tokens=100)
    (row,) = spent(settings)
    assert row["cost_usd"] > 100 * 1.6 / 1e6


def test_what_may_not_be_paid_for_is_not_asked(tmp_path: Path) -> None:
    with provider(lambda _: chat("{}")) as (url, seen):
        with pytest.raises(UnknownPriceError):
            complete(desk(tmp_path, url), "study", ASKED, model="gpt-of-dreams")
        with pytest.raises(BudgetError):
            complete(desk(tmp_path, url, budgets={"study": 0.0001}), "study", ASKED, max_tokens=1_000)
    assert seen == []


def test_a_model_that_thinks_first_gets_room_for_it_and_the_room_is_reserved(tmp_path: Path) -> None:
    with provider(lambda _: chat('{"action": "hold"}')) as (url, seen):
        settings = desk(tmp_path, url, model="gpt-5-mini", reasoning_tokens=1_000)
        complete(settings, "study", ASKED, max_tokens=200)
        complete(settings, "study", ASKED, max_tokens=200, model="gpt-4.1-mini")
        assert [(body["max_tokens"], "temperature" in body) for body in seen] == [(1_200, False), (200, True)]
        poor = desk(tmp_path / "poor", url, model="gpt-5-mini", reasoning_tokens=1_000, budget_usd_per_day=0.002)
        with pytest.raises(BudgetError):  # 1,200 tokens of output at 2 USD a million
            complete(poor, "study", ASKED, max_tokens=200)


def test_the_call_that_takes_a_budget_to_four_fifths_opens_the_alert(tmp_path: Path) -> None:
    with provider(lambda _: chat('{"action": "hold"}')) as (url, _):
        price = complete(desk(tmp_path / "other", url), "study", ASKED).cost_usd
        settings = desk(tmp_path, url, budgets={"study": 1.9 * price, "evaluation": 1.0})
        complete(settings, "study", ASKED, max_tokens=10)
        assert not AlertState(settings.state_dir).open_alerts()
        complete(settings, "study", ASKED, max_tokens=10)
    assert [a.key for a in AlertState(settings.state_dir).open_alerts()] == ["spend/study"]


def test_a_key_that_comes_back_in_an_answer_is_kept_nowhere(tmp_path: Path) -> None:
    with provider(lambda _: chat(f"your key is {KEY}")) as (url, _):
        settings = desk(tmp_path, url)
        assert KEY not in complete(settings, "study", ASKED).text
        with pytest.raises(AnswerError) as error:
            complete(settings, "study", ASKED, schema=SCHEMA)
    assert KEY not in json.dumps(untraced(settings)) + error.value.text + str(error.value)


def test_a_password_in_the_url_is_not_shown(tmp_path: Path) -> None:
    settings = desk(tmp_path, "http://me:hush-hush@127.0.0.1:9/v1", retries=0)
    with pytest.raises(ServiceError) as error:
        complete(settings, "study", ASKED)
    assert "hush-hush" not in str(error.value) + repr(settings) + settings.model_dump_json()


def test_a_gateways_page_is_no_answer(tmp_path: Path) -> None:
    with provider(lambda _: web.Response(text="<html>busy</html>", content_type="text/html")) as (url, _):
        settings = desk(tmp_path, url)
        with pytest.raises(ServiceError, match="no completion"):
            complete(settings, "study", ASKED)
    (row,) = spent(settings)
    assert (row["failed"], row["reserved_usd"]) == (1, 0.0)


def test_models_of_the_desk_cost_nothing_on_this_machine_only(tmp_path: Path) -> None:
    with pytest.raises(UnknownPriceError):
        complete(desk(tmp_path, "https://paid.example/v1"), "study", ASKED, model="desk-rules")


def test_the_embedded_server_answers_where_none_is_named(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, _env_file=None)
    messages = [{"role": "user", "content": "- unrealised profit, share of premium: 0.9\n\nAllowed actions: hold, close."}]
    answer = complete(settings, "evaluation", messages)
    assert json.loads(answer.text)["action"] == "close"
    assert (answer.model, answer.cost_usd) == ("desk-rules", 0.0)
    assert json.loads(complete(settings, "study", messages).text) == {"proposals": []}
