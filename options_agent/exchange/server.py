"""The box's front door: JSON-RPC 2.0 over HTTP (GET, POST) and web socket at the exchange's paths, and the box's own switches.

`/api/v2/...` and `/ws/api/v2` are the exchange's; `/box/...` is ours: faults, clock and counters.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from options_agent.exchange import private, switches
from options_agent.exchange.access import Access, Grant
from options_agent.exchange.credits import Account
from options_agent.exchange.errors import RpcError
from options_agent.exchange.faults import Faults
from options_agent.exchange.feed import Feed
from options_agent.exchange.methods import METHODS, Market
from options_agent.exchange.past import Past
from options_agent.exchange.pump import Pump
from options_agent.exchange.session import Session, frame
from options_agent.exchange.session_methods import SESSION_METHODS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from options_agent.market.clock import Clock
    from options_agent.market.sources import Source

log = logging.getLogger("options_agent.exchange")

CONNECTIONS: Final = 32
HTTP_LIFE_SECONDS: Final = 900.0
#: Methods that read long ranges of the source: answered beside the loop, or one of them would stop the market.
HISTORY: Final = frozenset(
    name
    for name in METHODS
    if any(part in name for part in ("last_trades", "history", "historical", "chart", "delivery", "settlements", "index_data"))
)


@dataclass(slots=True)
class Box:
    """The whole exchange: market, keys, credit, sessions.

    `limits` is how many times larger the credit pools are than the exchange's; 0 switches them off. `historian` is the thread that answers
    from `past`, where that has a source of its own.
    """

    market: Market
    access: Access = field(default_factory=Access)
    limits: float = 1.0
    accounts: dict[str, Account] = field(default_factory=dict)
    pump: Pump = field(init=False)
    connections: dict[str, weakref.WeakSet[asyncio.Transport]] = field(default_factory=dict)
    incidents: list[dict[str, Any]] = field(default_factory=list)
    errors: dict[int, int] = field(default_factory=dict)
    past: Past | None = None
    historian: ThreadPoolExecutor | None = None
    _ages: weakref.WeakKeyDictionary[Any, float] = field(default_factory=weakref.WeakKeyDictionary)

    def __post_init__(self) -> None:
        self.pump = Pump(self.market)

    def account(self, payer: str) -> Account:
        """The pools of an address or a key."""
        return self.accounts.setdefault(payer, Account())

    def switch(self, changes: dict[str, Any]) -> Faults:
        """Set faults at run time; when and what is kept among the incidents.

        Raises:
            SettingsError: there is no such switch.
        """
        faults = self.market.faults.changed(changes)
        self.incidents.append({"at": self.market.feed.clock.now().isoformat(), **changes})
        reseed = faults.seed != self.market.faults.seed
        self.market.faults = faults
        if reseed:
            self.pump.dice = type(self.pump.dice)(faults.seed)
        self.pump.tell_platform()
        if faults.down or faults.maintenance:
            for session in list(self.pump.sessions):
                session.flush(faults, self.pump.dice)
                session.transport.close() if faults.maintenance else session.transport.abort()
        return faults


def make_box(
    source: Source,
    underlyings: tuple[str, ...],
    clock: Clock,
    *,
    past: Source | None = None,
    keys: dict[str, str] | None = None,
    limits: float = 1.0,
) -> Box:
    """A box over a source, brought up to the clock's present.

    Args:
        source: what feeds the market.
        underlyings: what to list, as far as the source has it.
        clock: market time.
        past: another instance of the source, read by a thread of its own for history, so that a long range does not stop the market.
        keys: secrets by client id.
        limits: see `Box`.

    Raises:
        DataError: the source has none of the underlyings.
    """
    feed = Feed(source, underlyings, clock)
    feed.advance(clock.now())
    box = Box(Market(feed, Past(source), Faults()), Access(dict(keys or {})), limits)
    if past is not None:
        box.past, box.historian = Past(past), ThreadPoolExecutor(1, "exchange-history")
    return box


def application(box: Box) -> web.Application:
    """The web application of a box; its market moves while it is served."""
    app = web.Application(client_max_size=2**20)
    app.cleanup_ctx.append(lambda _app: _moving(box))
    app.router.add_get("/ws/api/v2", lambda request: _socket(box, request))
    app.router.add_post("/api/v2", lambda request: _http(box, request))
    app.router.add_route("*", "/api/v2/{scope}/{method}", lambda request: _http(box, request))
    switches.add_routes(app, box)
    return app


async def _moving(box: Box) -> AsyncIterator[None]:
    task = asyncio.create_task(box.pump.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    if box.historian is not None:
        box.historian.shutdown(wait=False, cancel_futures=True)


async def _http(box: Box, request: web.Request) -> web.StreamResponse:
    faults, began = box.market.faults, time.time_ns() // 1_000
    if faults.down:
        if request.transport is not None:
            request.transport.close()
        raise web.HTTPServiceUnavailable
    payer = request.remote or "unknown"
    if not _admitted(box, request, payer):
        return _turned_away()
    if faults.latency_seconds:
        await asyncio.sleep(faults.latency_seconds)
    if box.pump.dice.hit(faults.bad_gateway):
        return web.Response(status=502, content_type="text/html", text="<html><body><h1>502 Bad Gateway</h1></body></html>")
    body = await request.text() if request.method == "POST" else ""
    call: dict[str, Any] = {"id": None}
    try:
        call = _call_of(request, body)
        grant = _grant_of(box, request, call, body)
        result = await _answer(box, call, box.account(grant.client if grant else payer), grant)
        reply, status = _reply(call, result, began), 200
    except RpcError as error:
        reply, status = _failed(box, call, error, began), 400
    response = web.Response(body=orjson.dumps(reply), content_type="application/json", status=status)
    age = box._ages.setdefault(request.transport, time.monotonic()) if request.transport is not None else 0.0
    if time.monotonic() - age > HTTP_LIFE_SECONDS or (status == 400 and reply["error"]["code"] == 10028):
        response.force_close()
    return response


def _call_of(request: web.Request, body: str) -> dict[str, Any]:
    """The call in an HTTP request."""
    path = "/".join(request.match_info[name] for name in ("scope", "method")) if "scope" in request.match_info else None
    if request.method == "GET":
        return {"id": None, "method": path, "params": {name: _from_query(value) for name, value in request.query.items()}}
    if request.method != "POST":
        raise RpcError(11050, reason="method must be GET or POST")
    call = _parsed(body)
    if "method" not in call:
        raise RpcError(11050, reason="method is missing", param="method")
    return call


def _from_query(value: str) -> Any:
    if value[:1] in "[{":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _parsed(body: str | bytes) -> dict[str, Any]:
    try:
        call = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RpcError(-32700) from None
    if not isinstance(call, dict):
        raise RpcError(11050, reason="batches are not supported")
    if not isinstance(call.get("params", {}), dict):
        raise RpcError(-32602, reason="params must be named")
    return call


def _grant_of(box: Box, request: web.Request, call: dict[str, Any], body: str) -> Grant | None:
    now = box.market.feed.clock.seconds()
    if header := request.headers.get("Authorization"):
        return box.access.holder_of_header(header, (request.method, request.path_qs, body), now)
    if token := (call.get("params") or {}).get("access_token"):
        return box.access.holder(str(token), now)
    return None


async def _answer(box: Box, call: dict[str, Any], account: Account, grant: Grant | None, session: Session | None = None) -> Any:
    """Pay for a call and answer it.

    Raises:
        RpcError: whatever the exchange would say instead.
    """
    try:
        return await _paid(box, call, account, grant, session)
    except RpcError:
        raise
    except Exception as error:  # a fault of the box or of what feeds it: told in the protocol, and the socket lives on
        log.exception("%s failed", call.get("method"))
        raise RpcError(11094, reason=str(error)) from error


async def _paid(box: Box, call: dict[str, Any], account: Account, grant: Grant | None, session: Session | None) -> Any:
    method, params, faults = str(call.get("method")), dict(call.get("params") or {}), box.market.faults
    if faults.maintenance and method not in {"public/status", "public/test"}:
        raise RpcError(11051)
    if not account.charge(method, box.market.feed.clock.seconds(), box.limits) or box.pump.dice.hit(faults.too_many):
        raise RpcError(10028)
    if method == "public/fork_token":
        return box.access.fork(params, box.market.feed.clock.seconds())
    if method == "public/auth":
        granted, reply = box.access.log_in(params, box.market.now_ms() / 1_000)
        if session is not None:
            session.grant, session.account = granted, box.account(granted.client)
        return reply
    if method.startswith("private/") and grant is None:
        raise RpcError(13009, reason="unauthorized")
    if session is not None and (of_session := SESSION_METHODS.get(method)):
        return of_session(box.pump, session, params)
    if method.startswith("private/") and grant is not None:
        return private.call(method, box.market, params, grant)
    if (answer := METHODS.get(method)) is None:
        raise RpcError(-32601)
    if method in HISTORY and box.past is not None:
        beside = dataclasses.replace(box.market, past=box.past)
        return await asyncio.get_running_loop().run_in_executor(box.historian, answer, beside, params)
    return answer(box.market, params)


def _failed(box: Box, call: dict[str, Any], error: RpcError, began: int) -> dict[str, Any]:
    box.errors[error.code] = box.errors.get(error.code, 0) + 1
    return _reply(call, error, began)


def _reply(call: dict[str, Any], result: Any, began: int) -> dict[str, Any]:
    ended = time.time_ns() // 1_000
    reply: dict[str, Any] = {"jsonrpc": "2.0"}
    if call.get("id") is not None:
        reply["id"] = call["id"]
    if isinstance(result, RpcError):
        reply["error"] = result.reply()
    else:
        reply["result"] = result
    return reply | {"usIn": began, "usOut": ended, "usDiff": ended - began, "testnet": True}


async def _socket(box: Box, request: web.Request) -> web.StreamResponse:
    if box.market.faults.down or box.market.faults.maintenance:
        raise web.HTTPServiceUnavailable(text="maintenance")
    payer = request.remote or "unknown"
    if not _admitted(box, request, payer):
        return _turned_away()
    socket = web.WebSocketResponse(compress=False, max_msg_size=2**22)  # frames are written by hand: none compressed
    await socket.prepare(request)
    session = Session(cast("asyncio.Transport", request.transport), box.account(payer))
    box.pump.sessions.add(session)
    try:
        async for message in socket:
            if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                break
            if not await _serve(box, session, message.data):
                await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"too_many_requests")
                break
    finally:
        box.pump.leave(session)
    return socket


async def _serve(box: Box, session: Session, data: str | bytes) -> bool:
    """Answer a message of a socket; False where the session is to end."""
    began = time.time_ns() // 1_000
    if box.market.faults.stalled:
        return True
    if box.market.faults.latency_seconds:
        await asyncio.sleep(box.market.faults.latency_seconds)
    call: dict[str, Any] = {"id": None}
    try:
        call = _parsed(data)
        grant = session.grant
        if token := (call.get("params") or {}).get("access_token"):
            grant = box.access.holder(str(token), box.market.feed.clock.seconds())
        reply = _reply(call, await _answer(box, call, session.account, grant, session), began)
    except RpcError as error:
        reply = _failed(box, call, error, began)
    if not session.transport.is_closing():
        session.transport.write(frame(orjson.dumps(reply)))
    return bool(reply.get("error", {}).get("code") != 10028)


def _admitted(box: Box, request: web.Request, payer: str) -> bool:
    """Whether an address may have the connection a request came by: the open ones of it are counted, idle ones too."""
    known = box.connections.setdefault(payer, weakref.WeakSet())
    for each in [each for each in known if each.is_closing()]:
        known.discard(each)
    if request.transport is None or request.transport in known:
        return True
    if box.limits and len(known) >= CONNECTIONS:
        return False
    known.add(request.transport)
    return True


def _turned_away() -> web.Response:
    response = web.Response(status=429, text="too many connections")
    response.force_close()
    return response
