"""The one door to language models: the official OpenAI client, on any server that speaks its protocol. The only module that imports it.

Every call is reserved in the ledger of spend before it is made and settled after it (`llm.spend`); what was said is traced from there.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from options_agent.errors import OptionsAgentError, ServiceError
from options_agent.llm.prices import Used, cost_usd, runs_here
from options_agent.llm.spend import FAILED, SETTLED, Reservation, Settlement, reserve, settle
from options_agent.llm.spend_watch import warn_once
from options_agent.settings import without_password

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openai import OpenAI

    from options_agent.settings import LanguageModelSettings, Settings

#: Which of the embedded server's models answers a feature where none is named.
EMBEDDED_MODELS: Final = {"study": "desk-proposer"}
#: A byte-level tokeniser makes no more tokens than bytes; and a few for each message's frame.
FRAME_TOKENS: Final = 16
#: Models that think before they answer: they choose their own temperature, and what they thought counts as output.
_REASONING: Final = ("o1", "o3", "o4", "gpt-5")


class AnswerError(OptionsAgentError):
    """A model's output cannot be used: not JSON, not of the schema, cut off, or a refusal. The text is in `text`."""

    def __init__(self, message: str, *, text: str, place: str, remedy: str = "") -> None:
        super().__init__(message, place=place, remedy=remedy)
        self.text = text


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said.

    Attributes:
        call: id of the call in the ledger and of its trace.
        text: as it came; `content`: parsed and checked, where a schema was given.
        tokens_in, tokens_out: as the server counted them. cost_usd: by the price table. seconds: until the answer was there.
    """

    call: str
    text: str
    content: dict[str, Any] | None
    model: str
    tokens_in: int
    tokens_out: int
    cost_usd: float
    seconds: float


def complete(
    settings: Settings,
    feature: str,
    messages: Sequence[Mapping[str, str]],
    *,
    schema: Mapping[str, Any] | None = None,
    prompt: str = "",
    model: str | None = None,
    max_tokens: int = 512,
    temperature: float = 0.0,
    seed: int | None = None,
) -> Answer:
    """Ask a model.

    Args:
        feature: who asks, for budgets and reports: `study`, `evaluation`, ...
        messages: chat messages, as `llm.prompts.render` makes them.
        schema: JSON schema of the answer, asked for strictly and checked here again.
        prompt: name and version of the prompt, `decision@3`.
        model: by default the feature's, else the settings'.
        max_tokens: of the answer, without what a model thinks before it; the most the call can cost is reserved by both.

    Raises:
        UnknownPriceError: nobody knows what the model costs; nothing was asked.
        BudgetError: a budget would be passed; nothing was asked.
        AnswerError: the output cannot be used; it is paid for.
        ServiceError: the server is away, refuses, or keeps failing.
    """
    asked = model or model_for(feature, settings)
    plain = [dict(m) for m in messages]
    if asked.startswith(_REASONING):
        max_tokens += settings.language_model.reasoning_tokens
    bound = Used(sum(len(m["content"].encode()) + FRAME_TOKENS for m in plain) + len(json.dumps(schema or {})), max_tokens)
    reservation = reserve(settings, feature, asked, prompt, cost_usd(asked, bound, settings), plain)
    options = _options(settings, asked, schema, max_tokens, temperature, seed)
    if not runs_here(settings):
        _PACE.wait(settings.language_model.requests_per_minute)
    began = time.monotonic()
    try:
        reply = openai_client(settings).chat.completions.create(model=asked, messages=plain, **options)  # type: ignore[arg-type]
        if not hasattr(reply, "choices"):  # a gateway's page: the package hands its text through
            raise ServiceError("the server answered with something that is no completion", place=_place(settings.language_model))
    except Exception as error:  # noqa: BLE001 whatever it was, the call is settled and told
        _settle_failure(settings, reservation, error, time.monotonic() - began)
        raise _told(error, settings, asked) from None  # the provider's own words may repeat the key
    seconds = time.monotonic() - began
    used = _used(reply, bound)
    cost = cost_usd(asked, used, settings)
    text, problem = (_without_key(part, settings.language_model) for part in _text(reply))
    content = None
    if schema is not None and not problem:
        content, problem = _checked(text, schema)
    status = FAILED if problem else SETTLED
    settle(settings, reservation, Settlement(status, cost, used.tokens_in, used.tokens_out, seconds, text or problem))
    warn_once(settings)
    if problem:
        raise AnswerError(f"{asked} gave no usable answer: {problem}", text=text, place=f"feature {feature}, call {reservation.call}")
    return Answer(reservation.call, text, content, asked, used.tokens_in, used.tokens_out, cost, seconds)


def model_for(feature: str, settings: Settings) -> str:
    """The model that answers a feature."""
    chosen = settings.language_model
    if feature in chosen.models:
        return chosen.models[feature]
    return EMBEDDED_MODELS.get(feature, chosen.model) if chosen.model.startswith("desk-") else chosen.model


def openai_client(settings: Settings) -> OpenAI:
    """The official client on the configured server; one a process and server. It never writes the key anywhere.

    Raises:
        ServiceError: the embedded server cannot be started.
    """
    chosen = settings.language_model
    url = chosen.base_url or _embedded_url(str(settings.models_dir))
    key = chosen.api_key.get_secret_value() if chosen.api_key else "none"
    return _client(url, key, chosen.timeout_seconds, chosen.retries)


@lru_cache
def _client(url: str, key: str, timeout: float, retries: int) -> OpenAI:
    from openai import OpenAI

    return OpenAI(base_url=url, api_key=key, timeout=timeout, max_retries=retries)


def _embedded_url(folder: str) -> str:
    from pathlib import Path

    from options_agent.llm.server import start_model_server

    with _STARTING:  # two first threads must not start two servers
        if folder not in _STARTED:
            _STARTED[folder] = start_model_server(Path(folder))
        return _STARTED[folder]


_STARTING: Final = threading.Lock()
_STARTED: Final[dict[str, str]] = {}


class _Pace:
    """Calls of all threads, evenly spaced."""

    def __init__(self) -> None:
        self.lock, self.next = threading.Lock(), 0.0

    def wait(self, per_minute: float) -> None:
        """Wait for this call's turn."""
        with self.lock:
            now = time.monotonic()
            mine = max(now, self.next)
            self.next = mine + 60 / per_minute
        time.sleep(max(0.0, mine - now))


_PACE: Final = _Pace()


def _options(
    settings: Settings, model: str, schema: Mapping[str, Any] | None, max_tokens: int, temperature: float, seed: int | None
) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if schema is not None:
        strict = {"name": "answer", "strict": True, "schema": dict(schema)}
        options["response_format"] = {"type": "json_schema", "json_schema": strict}
    if not model.startswith(_REASONING):
        options["temperature"] = temperature
    if seed is not None:
        options["seed"] = seed
    options["max_completion_tokens" if is_openai(settings.language_model) else "max_tokens"] = max_tokens
    return options


def is_openai(chosen: LanguageModelSettings) -> bool:
    """Whether the server is OpenAI's own."""
    host = urlsplit(chosen.base_url or "").hostname or ""
    return host == "openai.com" or host.endswith(".openai.com")


def _used(reply: Any, bound: Used) -> Used:
    """What the server counted; where it counted nothing, the most it can be."""
    usage = reply.usage
    if usage is None:
        return bound
    details = getattr(usage, "prompt_tokens_details", None)
    return Used(usage.prompt_tokens, usage.completion_tokens, (getattr(details, "cached_tokens", None) or 0) if details else 0)


def _text(reply: Any) -> tuple[str, str]:
    """The answer's text, and what is wrong with it."""
    if not reply.choices:
        return "", "the reply has no choice"
    choice = reply.choices[0]
    text = choice.message.content or ""
    if getattr(choice.message, "refusal", None):
        return text, f"it refused: {choice.message.refusal}"
    if choice.finish_reason == "length":
        return text, "it was cut off at max_tokens"
    return text, "" if text else "it is empty"


def _checked(text: str, schema: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    from jsonschema import Draft202012Validator

    try:
        content = json.loads(text)
    except ValueError as error:
        return None, f"it is no JSON ({error})"
    problem = next(Draft202012Validator(dict(schema)).iter_errors(content), None)
    if problem is not None:
        where = "/".join(map(str, problem.absolute_path))
        return None, f"it is not of the schema{f' at {where}' if where else ''}: {problem.message[:300]}"
    return content, ""


def _settle_failure(settings: Settings, reservation: Reservation, error: Exception, seconds: float) -> None:
    """A server that answered with an error charged nothing; one that did not answer may have, and counts in full."""
    from openai import APIStatusError

    cost = 0.0 if isinstance(error, APIStatusError) else reservation.usd
    settle(settings, reservation, Settlement(FAILED, cost, 0, 0, seconds, type(error).__name__))
    warn_once(settings)


def _told(error: Exception, settings: Settings, model: str) -> OptionsAgentError:
    """The error in our words; what the server says may repeat the key, so that it is taken out."""
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    chosen = settings.language_model
    place, remedy = _place(chosen), "look at OPTIONS_AGENT_LANGUAGE_MODEL__BASE_URL, API_KEY and MODEL"
    if isinstance(error, APITimeoutError):
        said, remedy = f"no answer in {chosen.timeout_seconds:g} s, {chosen.retries} retries", "raise LANGUAGE_MODEL__TIMEOUT_SECONDS"
    elif isinstance(error, APIConnectionError):
        said = "it cannot be reached"
    elif isinstance(error, APIStatusError):
        said = f"HTTP {error.status_code}: {_without_key(str(error.message), chosen)[:500]}"
    elif isinstance(error, OptionsAgentError):
        return error
    else:
        said = f"{type(error).__name__}: {_without_key(str(error), chosen)[:300]}"
    return ServiceError(f"language model {model!r} did not answer: {said}", place=place, remedy=remedy)


def _place(chosen: LanguageModelSettings) -> str:
    return without_password(chosen.base_url) if chosen.base_url else "the embedded server"


def _without_key(text: str, chosen: LanguageModelSettings) -> str:
    key = chosen.api_key.get_secret_value() if chosen.api_key else ""
    return text.replace(key, "**********") if key else text
