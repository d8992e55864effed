"""The seam for trading: private methods join this table and nothing else changes.

A private method is called after the log-in is checked and the call is paid for (`credits` already counts orders in the matching engine's
pool). It gets the market, the parameters and the caller's grant, returns the exchange's `result`, and raises `RpcError` for anything else,
for instance 10009 not_enough_funds. The state of accounts belongs in an object that its methods are bound to, by `Grant.client`.
Channels `user.*` are to be parsed in `channels.parse` beside the public ones, with the client as their subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.exchange.errors import RpcError

if TYPE_CHECKING:
    from collections.abc import Callable

    from options_agent.exchange.access import Grant
    from options_agent.exchange.methods import Market
    from options_agent.exchange.parameters import Params


@dataclass(frozen=True, slots=True)
class PrivateMethod:
    """What answers, and the scope it needs: `trade:read_write` lets `trade:read` calls in too."""

    answer: Callable[[Market, Params, Grant], Any]
    scope: str


#: By name, as `private/buy`. None yet.
PRIVATE: Final[dict[str, PrivateMethod]] = {}


def call(name: str, market: Market, params: Params, grant: Grant) -> Any:
    """Answer a private call.

    Raises:
        RpcError: -32601 where there is no such method, 13021 where the token may not, and what the method raises.
    """
    method = PRIVATE.get(name)
    if method is None:
        raise RpcError(-32601)
    if not allows(grant.scope, method.scope):
        raise RpcError(13021, reason=f"{method.scope} scope required")
    return method.answer(market, params, grant)


def allows(scope: str, wanted: str) -> bool:
    """Whether a token's scope covers a need: the same area (or `mainaccount`), and writing where writing is needed."""
    area, _, need = wanted.partition(":")
    for each in scope.split():
        has_area, _, has = each.partition(":")
        if has_area in {area, "mainaccount"} and (has in {need, "read_write"} or not has):
            return True
    return False
