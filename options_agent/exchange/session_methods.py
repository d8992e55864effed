"""Methods about the socket they come by: subscriptions, heartbeats, the end. Over HTTP there are none of them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from options_agent.exchange import channels
from options_agent.exchange.errors import RpcError
from options_agent.exchange.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable

    from options_agent.exchange.parameters import Params
    from options_agent.exchange.pump import Pump
    from options_agent.exchange.session import Session

_LEAST_HEARTBEAT: Final = 10.0
_MOST_HEARTBEAT: Final = 86_400.0
_MOST_CHANNELS: Final = 500


def _subscribe(pump: Pump, session: Session, params: dict[str, Any]) -> list[str]:
    names = params.get("channels")
    if not isinstance(names, list):
        raise RpcError(-32602, reason="value required", param="channels")
    if len(names) > _MOST_CHANNELS:
        raise RpcError(-32602, reason=f"at most {_MOST_CHANNELS} channels a call", param="channels")
    known = [channel for name in names if (channel := channels.parse(str(name), pump.market)) is not None]
    if session.grant is None and any(channel.raw for channel in known):
        raise RpcError(13778)  # all or none: a refused call has subscribed nothing
    for channel in known:
        if channel.name not in session.subscribed:
            pump.subscribe(session, channel)
    return [channel.name for channel in known]


def _unsubscribe(pump: Pump, session: Session, params: dict[str, Any]) -> list[str]:
    names = params.get("channels")
    if not isinstance(names, list):
        raise RpcError(-32602, reason="value required", param="channels")
    return [name for name in names if pump.unsubscribe(session, str(name))]


def _unsubscribe_all(pump: Pump, session: Session, _params: dict[str, Any]) -> str:
    for name in list(session.subscribed):
        pump.unsubscribe(session, name)
    return "ok"


def _set_heartbeat(_pump: Pump, session: Session, params: dict[str, Any]) -> str:
    try:
        interval = float(params["interval"])
    except (KeyError, TypeError, ValueError):
        raise RpcError(-32602, reason="value required", param="interval") from None
    if not _LEAST_HEARTBEAT <= interval <= _MOST_HEARTBEAT:
        raise RpcError(-32602, reason=f"must be between {_LEAST_HEARTBEAT:g} and {_MOST_HEARTBEAT:g}", param="interval")
    session.heartbeat, session.beat_at, session.tested_at = interval, time.monotonic(), None
    return "ok"


def _disable_heartbeat(_pump: Pump, session: Session, _params: dict[str, Any]) -> str:
    session.heartbeat, session.tested_at = 0.0, None
    return "ok"


def _test(pump: Pump, session: Session, params: dict[str, Any]) -> Any:
    session.tested_at = None
    return METHODS["public/test"](pump.market, params)


def _log_out(_pump: Pump, session: Session, _params: dict[str, Any]) -> str:
    asyncio.get_running_loop().call_later(0.05, session.transport.close)
    return "ok"


#: By name.
SESSION_METHODS: Final[dict[str, Callable[[Pump, Session, Params], Any]]] = {
    "public/subscribe": _subscribe,
    "private/subscribe": _subscribe,
    "public/unsubscribe": _unsubscribe,
    "private/unsubscribe": _unsubscribe,
    "public/unsubscribe_all": _unsubscribe_all,
    "private/unsubscribe_all": _unsubscribe_all,
    "public/set_heartbeat": _set_heartbeat,
    "public/disable_heartbeat": _disable_heartbeat,
    "public/test": _test,
    "private/logout": _log_out,
}
