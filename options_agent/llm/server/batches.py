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
ENDPOINT: Final = "/v1/chat/completions"


def create_batch(store: Store, asked: dict[str, Any]) -> dict[str, Any]:
    """Take a batch.

    Raises:
        WireError: the endpoint, window or file cannot be used.
    """
    if asked.get("endpoint") != ENDPOINT:
        raise WireError(400, f"endpoint is {ENDPOINT}", param="endpoint")
    if asked.get("completion_window") != "24h":
        raise WireError(400, "completion_window is 24h", param="completion_window")
    lines = [line for line in store.data(str(asked.get("input_file_id"))).decode().splitlines() if line.strip()]
    if not 0 < len(lines) <= MOST_REQUESTS:
        raise WireError(400, f"{len(lines)} requests, 1 to {MOST_REQUESTS:,} are possible", param="input_file_id")
    batch = {
        "id": new_id("batch"),
        "object": "batch",
        "endpoint": ENDPOINT,
        "input_file_id": asked["input_file_id"],
        "completion_window": "24h",
        "status": "validating",
        "created_at": now(),
        "output_file_id": None,
        "error_file_id": None,
        "metadata": asked.get("metadata"),
        "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
    }
    return store.put("batches", batch)


async def work_batch(store: Store, key: str, ask: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer a batch's requests, last first: the order is not kept, as providers do not keep it. Starts anew where it was interrupted."""
    batch = store.put("batches", store.get("batches", key) | {"status": "in_progress"})
    good: list[str] = []
    bad: list[str] = []
    for line in reversed(store.data(batch["input_file_id"]).decode().splitlines()):
        if not line.strip():
            continue
        if store.get("batches", key)["status"] == "cancelling":
            store.put("batches", store.get("batches", key) | {"status": "cancelled", "cancelled_at": now()})
            return
        custom, response, error = None, None, None
        try:
            request = json.loads(line)
            custom = request["custom_id"]
            body = await asyncio.to_thread(ask, request["body"])
            response = {"status_code": 200, "request_id": new_id("req"), "body": body}
        except WireError as problem:
            error = {"code": problem.code or str(problem.status), "message": problem.message}
        except (ValueError, KeyError, TypeError) as problem:
            error = {"code": "invalid_request", "message": f"{type(problem).__name__}: {problem}"}
        (bad if error else good).append(json.dumps({"id": new_id("batch_req"), "custom_id": custom, "response": response, "error": error}))
    counts = batch["request_counts"] | {"completed": len(good), "failed": len(bad)}
    files = {
        f"{name}_file_id": store.add_file(f"{key}_{name}.jsonl", "batch_output", "\n".join(lines).encode())["id"]
        for name, lines in (("output", good), ("error", bad))
        if lines
    }
    store.put("batches", batch | {"status": "completed", "completed_at": now(), "request_counts": counts} | files)
