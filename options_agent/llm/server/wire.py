"""Shapes of OpenAI's wire protocol: errors, completions, streams, lists. Token counts are the server's own: four characters are one."""

from __future__ import annotations

import json
import math
import time
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class WireError(Exception):
    """A request that is refused, as the protocol says it."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry_after = status, message, param, code, retry_after

    def envelope(self) -> dict[str, Any]:
        """The error as the protocol wraps it."""
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> web.Response:
        """As it is sent."""
        headers = {"Retry-After": f"{self.retry_after:g}"} if self.retry_after is not None else {}
        return web.json_response(self.envelope(), status=self.status, headers=headers)


def new_id(prefix: str) -> str:
    """An id as the protocol writes them."""
    return f"{prefix}-{uuid.uuid4().hex[:24]}"


def now() -> int:
    """Seconds since the epoch."""
    return int(time.time())


def tokens(text: str) -> int:
    """Tokens of a text: a token for each four characters begun."""
    return math.ceil(len(text) / 4)


def usage_of(messages: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> dict[str, Any]:
    """Tokens of a call; a message's frame counts three."""
    prompt = sum(tokens(str(m.get("content") or "")) + 3 for m in messages)
    completion = sum(tokens(a) for a in answers)
    details = {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **details}


def cut(text: str, most: int | None) -> tuple[str, str]:
    """A text of at most so many tokens, and why it ended."""
    return (text[: 4 * most], "length") if most is not None and tokens(text) > most else (text, "stop")


def whole_number(asked: Mapping[str, Any], names: Sequence[str], most: int) -> int | None:
    """The first of some parameters that is given, from 1 to `most`.

    Raises:
        WireError: it is no such number.
    """
    for name in names:
        value = asked.get(name)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise WireError(400, f"{name} is an integer from 1 to {most}", param=name)
            return value
    return None


def completion(model: str, messages: Sequence[Mapping[str, Any]], answers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A chat completion; `answers` are texts with why they ended."""
    choices = [
        {"index": n, "message": {"role": "assistant", "content": text, "refusal": None}, "logprobs": None, "finish_reason": why}
        for n, (text, why) in enumerate(answers)
    ]
    body = {"id": new_id("chatcmpl"), "object": "chat.completion", "created": now(), "model": model, "choices": choices}
    return body | {"usage": usage_of(messages, [text for text, _ in answers]), "system_fingerprint": "desk"}


def chunks(whole: Mapping[str, Any], *, with_usage: bool) -> Iterator[str]:
    """A completion as server-sent events."""
    head = {name: whole[name] for name in ("id", "created", "model", "system_fingerprint")} | {"object": "chat.completion.chunk"}

    unless_last = {"usage": None} if with_usage else {}

    def event(body: Mapping[str, Any]) -> str:
        return f"data: {json.dumps(unless_last | dict(body))}\n\n"

    for choice in whole["choices"]:
        text, place = choice["message"]["content"], choice["index"]
        parts = [text[n : n + 24] for n in range(0, len(text), 24)] or [""]
        for n, part in enumerate(parts):
            delta = {"content": part} | ({"role": "assistant"} if n == 0 else {})
            yield event(head | {"choices": [{"index": place, "delta": delta, "finish_reason": None}]})
        yield event(head | {"choices": [{"index": place, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    if with_usage:
        yield event(head | {"choices": [], "usage": whole["usage"]})
    yield "data: [DONE]\n\n"


def listed(items: Sequence[Mapping[str, Any]], query: Mapping[str, str], *, newest_first: bool = True) -> dict[str, Any]:
    """A page of a list: what stands behind `after`, at most `limit`.

    Raises:
        WireError: `after` names nothing, or `limit` is no number.
    """
    ordered = sorted(items, key=lambda item: (item["created_at"], item.get("order", 0)), reverse=newest_first)
    after = query.get("after")
    if after:
        places = [n for n, item in enumerate(ordered) if item["id"] == after]
        if not places:
            raise WireError(400, f"there is nothing with id {after!r}", param="after")
        ordered = ordered[places[0] + 1 :]
    try:
        limit = max(1, min(100, int(query.get("limit", 20))))
    except ValueError:
        raise WireError(400, "limit is a number", param="limit") from None
    page = [{k: v for k, v in item.items() if k != "order"} for item in ordered[:limit]]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return {"object": "list", "data": page, "has_more": len(ordered) > limit, **ends}
