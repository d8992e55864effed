"""The server's endpoints. Loopback only; a key is asked for only where one is set."""

from __future__ import annotations

import asyncio
import hmac
import json
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from options_agent.llm.server.batches import UNFINISHED, cancel_batch, create_batch, work_batch
from options_agent.llm.server.jobs import Jobs
from options_agent.llm.server.models import answer, delete_model, models_in
from options_agent.llm.server.shapes import schema_of
from options_agent.llm.server.store import Store
from options_agent.llm.server.wire import WireError, chunks, completion, cut, listed, new_id, now, usage_of, whole_number

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

MOST_BYTES: Final = 512 * 1024 * 1024
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
MOST_TOKENS, MOST_CHOICES = 1_000_000, 128
PURPOSES: Final = ("fine-tune", "batch", "assistants", "vision", "user_data", "evals")


class Faults:
    """Refusals to come, for tests: each is (status, seconds to wait), used once."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, float]] = []


def build_app(folder: Path, *, api_key: str | None = None, faults: Faults | None = None) -> web.Application:
    """The application; state lies below `folder`."""
    store = Store(folder)
    server = _Server(store, Jobs(store), api_key, faults or Faults())
    app = web.Application(client_max_size=MOST_BYTES, middlewares=[server.refusals])
    get, post, delete = app.router.add_get, app.router.add_post, app.router.add_delete
    get("/v1/models", server.models)
    get("/v1/models/{id}", server.model)
    delete("/v1/models/{id}", server.delete_model)
    post("/v1/chat/completions", server.chat)
    post("/v1/responses", server.responses)
    post("/v1/files", server.upload)
    get("/v1/files", server.files)
    get("/v1/files/{id}", server.file)
    get("/v1/files/{id}/content", server.content)
    delete("/v1/files/{id}", server.delete_file)
    post("/v1/fine_tuning/jobs", server.create_job)
    get("/v1/fine_tuning/jobs", server.jobs_page)
    get("/v1/fine_tuning/jobs/{id}", server.job)
    get("/v1/fine_tuning/jobs/{id}/events", server.events)
    get("/v1/fine_tuning/jobs/{id}/checkpoints", server.checkpoints)
    post("/v1/fine_tuning/jobs/{id}/{what:cancel|pause|resume}", server.change_job)
    post("/v1/batches", server.create_batch)
    get("/v1/batches", server.batches_page)
    get("/v1/batches/{id}", server.batch)
    post("/v1/batches/{id}/cancel", server.cancel_batch)
    app.cleanup_ctx.append(server.working)
    return app


class _Server:
    """Handlers over one store."""

    def __init__(self, store: Store, jobs: Jobs, api_key: str | None, faults: Faults) -> None:
        self.store, self.jobs, self.api_key, self.faults = store, jobs, api_key, faults
        self.tasks: set[asyncio.Task[None]] = set()

    async def working(self, _: web.Application) -> AsyncIterator[None]:
        """Jobs and batches go on as long as the server is up."""
        self._start(self.jobs.run())
        for batch in self.store.all("batches"):
            if batch["status"] in UNFINISHED:
                self._start(work_batch(self.store, batch["id"], self._complete))
        yield
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @web.middleware
    async def refusals(self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        """Keys, planned faults, and every error in the protocol's envelope."""
        try:
            if request.url.host not in LOOPBACK:  # a page in a browser may have a name of its own resolve to this machine
                raise WireError(403, f"this server answers to 127.0.0.1, not to {request.url.host!r}")
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if self.api_key is not None and not hmac.compare_digest(given, self.api_key):
                raise WireError(401, "Incorrect API key provided.", code="invalid_api_key")
            if self.faults.waiting and request.method == "POST":
                status, wait = self.faults.waiting.pop(0)
                raise WireError(status, "Planned refusal", retry_after=wait)
            return await handler(request)
        except WireError as error:
            return error.response()
        except web.HTTPException as error:
            return WireError(error.status, f"{error.reason}: {request.method} {request.path}").response()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return WireError(400, f"the request cannot be read: {type(error).__name__}: {error}").response()

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": models_in(self.store.folder)})

    async def model(self, request: web.Request) -> web.Response:
        key = request.match_info["id"]
        found = next((m for m in models_in(self.store.folder) if m["id"] == key), None)
        if found is None:
            raise WireError(404, f"The model {key!r} does not exist", param="model", code="model_not_found")
        return web.json_response(found)

    async def delete_model(self, request: web.Request) -> web.Response:
        key = request.match_info["id"]
        delete_model(self.store.folder, key)
        return web.json_response({"id": key, "object": "model", "deleted": True})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        asked = await _json(request)
        whole = await asyncio.to_thread(self._complete, asked)
        if not asked.get("stream"):
            return web.json_response(whole)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        for chunk in chunks(whole, with_usage=bool((asked.get("stream_options") or {}).get("include_usage"))):
            await response.write(chunk.encode())
        await response.write_eof()
        return response

    async def responses(self, request: web.Request) -> web.Response:
        asked = await _json(request)
        given = asked.get("input")
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else [_plain_message(m) for m in given or []]
        if asked.get("instructions"):
            messages.insert(0, {"role": "system", "content": asked["instructions"]})
        shape = (asked.get("text") or {}).get("format") or {}
        schema = schema_of(shape, shape)
        text = await asyncio.to_thread(answer, self.store.folder, str(asked.get("model")), messages, schema, None)
        text, why = cut(text, whole_number(asked, ("max_output_tokens",), MOST_TOKENS))
        usage = usage_of(messages, [text])
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {"type": "message", "id": new_id("msg"), "role": "assistant", "status": "completed", "content": [part]}
        done = {"status": "completed", "incomplete_details": None}
        body = {
            "id": new_id("resp"),
            "object": "response",
            "created_at": now(),
            "model": asked.get("model"),
            "output": [message],
            "error": None,
        }
        body |= done if why == "stop" else {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        body |= {
            "instructions": asked.get("instructions"),
            "metadata": {},
            "parallel_tool_calls": True,
            "temperature": 0.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
        }
        counted = {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
        }
        counted |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        return web.json_response(body | {"usage": counted})

    async def upload(self, request: web.Request) -> web.Response:
        purpose, name, data = "", "file", None
        async for part in await request.multipart():
            if part.name == "purpose":  # type: ignore[union-attr]
                purpose = await part.text()  # type: ignore[union-attr]
            elif part.name == "file":  # type: ignore[union-attr]
                name, data = part.filename or "file", bytes(await part.read(decode=False))  # type: ignore[union-attr]
        if data is None or not purpose:
            raise WireError(400, "file and purpose are asked for", param="file" if data is None else "purpose")
        if len(data) > MOST_BYTES:
            raise WireError(413, f"a file has at most {MOST_BYTES:,} bytes", param="file")
        if purpose not in PURPOSES:
            raise WireError(400, f"{purpose!r} is not one of {', '.join(PURPOSES)}", param="purpose")
        return web.json_response(self.store.add_file(name, purpose, data))

    async def files(self, request: web.Request) -> web.Response:
        purpose = request.query.get("purpose")
        return web.json_response(listed([f for f in self.store.all("files") if purpose in {None, f["purpose"]}], request.query))

    async def file(self, request: web.Request) -> web.Response:
        return web.json_response(self.store.get("files", request.match_info["id"]))

    async def content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.store.data(request.match_info["id"]), content_type="application/octet-stream")

    async def delete_file(self, request: web.Request) -> web.Response:
        key = request.match_info["id"]
        self.store.delete("files", key)
        return web.json_response({"id": key, "object": "file", "deleted": True})

    async def create_job(self, request: web.Request) -> web.Response:
        return web.json_response(self.jobs.create(await _json(request)))

    async def jobs_page(self, request: web.Request) -> web.Response:
        return web.json_response(listed(self.store.all("jobs"), request.query))

    async def job(self, request: web.Request) -> web.Response:
        return web.json_response(self.store.get("jobs", request.match_info["id"]))

    async def events(self, request: web.Request) -> web.Response:
        return web.json_response(listed(self.jobs.events(request.match_info["id"]), request.query))

    async def checkpoints(self, request: web.Request) -> web.Response:
        return web.json_response(listed(self.jobs.checkpoints(request.match_info["id"]), request.query))

    async def change_job(self, request: web.Request) -> web.Response:
        return web.json_response(self.jobs.change(request.match_info["id"], request.match_info["what"]))

    async def create_batch(self, request: web.Request) -> web.Response:
        batch = create_batch(self.store, await _json(request))
        self._start(work_batch(self.store, batch["id"], self._complete))
        return web.json_response(batch)

    async def batches_page(self, request: web.Request) -> web.Response:
        return web.json_response(listed(self.store.all("batches"), request.query))

    async def batch(self, request: web.Request) -> web.Response:
        return web.json_response(self.store.get("batches", request.match_info["id"]))

    async def cancel_batch(self, request: web.Request) -> web.Response:
        return web.json_response(cancel_batch(self.store, request.match_info["id"]))

    def _complete(self, asked: dict[str, Any]) -> dict[str, Any]:
        messages = asked.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) and "role" in m for m in messages):
            raise WireError(400, "messages is a list of objects with role and content", param="messages")
        shape = asked.get("response_format") or {}
        schema = schema_of(shape, shape.get("json_schema"))
        most = whole_number(asked, ("max_completion_tokens", "max_tokens"), MOST_TOKENS)
        count = whole_number(asked, ("n",), MOST_CHOICES) or 1
        plain = [_plain_message(m) for m in messages]
        text = answer(self.store.folder, str(asked.get("model")), plain, schema, asked.get("seed"))
        return completion(str(asked["model"]), plain, [cut(text, most)] * count)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.text())
    except ValueError:
        raise WireError(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise WireError(400, "the body is a JSON object")
    return body


def _plain_message(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    return {"role": message.get("role", "user"), "content": "".join(str(p.get("text", "")) for p in parts)}
