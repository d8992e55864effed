"""Batches: requests of a file answered in an order of the server's own, so that clients join on `custom_id`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from options_agent.llm.server.wire import WireError, new_id, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from options_agent.llm.server.store import Store

MOST_REQUESTS: Final = 50_000
MOST_BYTES: Final = 200_000_000
ENDPOINT: Final = "/v1/chat/completions"
UNFINISHED: Final = ("validating", "in_progress", "finalizing", "cancelling")
_TOLD_EVERY: Final = 50


def create_batch(store: Store, asked: dict[str, Any]) -> dict[str, Any]:
    """Take a batch; its lines are looked at later.

    Raises:
        WireError: the endpoint, window or file cannot be used.
    """
    if asked.get("endpoint") != ENDPOINT:
        raise WireError(400, f"endpoint is {ENDPOINT}", param="endpoint")
    if asked.get("completion_window") != "24h":
        raise WireError(400, "completion_window is 24h", param="completion_window")
    file = store.get("files", str(asked.get("input_file_id")))
    if file["purpose"] != "batch":
        raise WireError(400, f"File {file['id']} is not of purpose batch", param="input_file_id")
    batch = {
        "id": new_id("batch"),
        "object": "batch",
        "endpoint": ENDPOINT,
        "input_file_id": file["id"],
        "completion_window": "24h",
        "status": "validating",
        "created_at": now(),
        "expires_at": now() + 86_400,
        "output_file_id": None,
        "error_file_id": None,
        "errors": None,
        "metadata": asked.get("metadata"),
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
    }
    return store.put("batches", batch)


def cancel_batch(store: Store, key: str) -> dict[str, Any]:
    """Ask a batch to end; what is answered by then is in its output file.

    Raises:
        WireError: there is none, or it is over.
    """

    def by(batch: dict[str, Any]) -> dict[str, Any]:
        if batch["status"] not in UNFINISHED:
            raise WireError(400, f"Batch {key} has already {batch['status']}", code="invalid_batch_state")
        return batch | {"status": "cancelling", "cancelling_at": now()}

    return store.change("batches", key, by)


async def work_batch(store: Store, key: str, ask: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer a batch's requests, last first: the order is not kept, as providers do not keep it.

    Starts anew where a server died over it; where another server is at it, it is left to that one.
    """
    try:
        with store.locked(key, wait=False):
            if store.get("batches", key)["status"] in UNFINISHED:
                await _work(store, key, ask)
    except BlockingIOError:
        return


async def _work(store: Store, key: str, ask: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    requests, errors = _requests(store.data(store.get("batches", key)["input_file_id"]))
    if errors:
        store.change("batches", key, lambda b: b | {"status": "failed", "failed_at": now(), "errors": {"object": "list", "data": errors}})
        return
    good: list[str] = []
    bad: list[str] = []

    def counted(status: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        counts = {"total": len(requests), "completed": len(good), "failed": len(bad)}
        return lambda b: b | {"request_counts": counts} | ({} if b["status"] == "cancelling" else {"status": status})

    store.change("batches", key, counted("in_progress"))
    for n, request in enumerate(reversed(requests)):
        if store.get("batches", key)["status"] == "cancelling":
            break
        try:
            status, body = 200, await asyncio.to_thread(ask, request["body"])
        except WireError as problem:
            status, body = problem.status, problem.envelope()
        response = {"status_code": status, "request_id": new_id("req"), "body": body}
        line = json.dumps({"id": new_id("batch_req"), "custom_id": request["custom_id"], "response": response, "error": None})
        (good if status == 200 else bad).append(line)
        if n % _TOLD_EVERY == 0:
            store.change("batches", key, counted("in_progress"))
    store.change("batches", key, counted("finalizing"))
    files = {
        f"{name}_file_id": store.add_file(f"{key}_{name}.jsonl", "batch_output", "\n".join(lines).encode())["id"]
        for name, lines in (("output", good), ("error", bad))
        if lines
    }
    whole = len(good) + len(bad) == len(requests)
    end = {"status": "completed", "completed_at": now()} if whole else {"status": "cancelled", "cancelled_at": now()}
    store.change("batches", key, lambda b: b | end | files)


def _requests(data: bytes) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The requests of a file, and what is wrong with them, by line."""
    lines = [line for line in data.decode("utf-8", errors="replace").splitlines() if line.strip()]
    if not 0 < len(lines) <= MOST_REQUESTS or len(data) > MOST_BYTES:
        return [], [_error(None, f"{len(lines)} requests in {len(data):,} bytes; 1 to {MOST_REQUESTS:,} in {MOST_BYTES:,} are possible")]
    requests: list[dict[str, Any]] = []
    errors = []
    seen = set()
    for number, line in enumerate(lines, 1):
        try:
            request = json.loads(line)
            custom = request["custom_id"]
            if request["method"] != "POST" or request["url"] != ENDPOINT or not isinstance(request["body"], dict):
                raise ValueError(f"it is no POST of an object to {ENDPOINT}")
            if not isinstance(custom, str) or custom in seen:
                raise ValueError(f"custom_id {custom!r} is no text, or not the only one")
        except (ValueError, KeyError, TypeError) as problem:
            errors.append(_error(number, f"{type(problem).__name__}: {problem}"))
            continue
        seen.add(custom)
        requests.append(request)
    return requests, errors


def _error(line: int | None, message: str) -> dict[str, Any]:
    return {"code": "invalid_request", "line": line, "message": message, "param": None}
