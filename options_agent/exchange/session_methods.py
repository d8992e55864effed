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
_MOST_CHANNELS: Final = 500


def _subscribe(pump: Pump, session: Session, params: dict[str, Any]) -> list[str]:
    names = params.get("channels")
    if not isinstance(names, list):
        raise RpcError(-32602, reason="value required", param="channels")
    if len(names) > _MOST_CHANNELS:
        raise RpcError(-32602, reason=f"at most {_MOST_CHANNELS} channels a call", param="channels")
    taken = []
    for name in names:
        channel = channels.parse(str(name), pump.market)
        if channel is None:
            continue
        if channel.raw and session.grant is None:
            raise RpcError(13778)
        if name not in session.subscribed:
            pump.subscribe(session, channel)
        taken.append(name)
    return taken


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
    if interval < _LEAST_HEARTBEAT:
        raise RpcError(-32602, reason="value too low", param="interval")
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
