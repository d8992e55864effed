"""The box's own pages under `/box/`: its clock, its counters, and the switches of its faults."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from options_agent.errors import SettingsError

if TYPE_CHECKING:
    from options_agent.exchange.server import Box


def add_routes(app: web.Application, box: Box) -> None:
    """`/box/clock`, `/box/stats` and `/box/faults`; the last is set by POST."""
    app.router.add_get("/box/clock", lambda _request: _json(_clock(box)))
    app.router.add_get("/box/stats", lambda _request: _json(_stats(box)))
    app.router.add_get("/box/faults", lambda _request: _json(box.market.faults.shown()))
    app.router.add_post("/box/faults", lambda request: _switch(box, request))


async def _switch(box: Box, request: web.Request) -> web.Response:
    try:
        return await _json(box.switch(await request.json()).shown())
    except (SettingsError, ValueError) as error:
        return web.json_response({"error": str(error)}, status=400)


def _clock(box: Box) -> dict[str, Any]:
    clock = box.market.feed.clock
    return {"speed": clock.speed, "origin": clock.origin, "began": clock.began, "now": clock.now().isoformat()}


def _stats(box: Box) -> dict[str, Any]:
    told = box.pump.told
    return {
        "now": box.market.feed.clock.now().isoformat(),
        "instruments": len(box.market.feed.listed),
        "sessions": len(box.pump.sessions),
        "rounds": told.rounds,
        "messages": told.messages,
        "busy_seconds": round(told.busy_seconds, 3),
        "behind_seconds": round(told.behind_seconds, 3),
        "late_rounds": told.late_rounds,
        "calls": sum(account.charged for account in box.accounts.values()),
        "refused": sum(account.refused for account in box.accounts.values()),
        "errors": {str(code): count for code, count in sorted(box.errors.items())},
        "incidents": box.incidents,
        "started": dt.datetime.fromtimestamp(box.market.feed.clock.began or time.time(), dt.UTC).isoformat(),
    }


async def _json(document: Any) -> web.Response:
    return web.json_response(body=orjson.dumps(document))
