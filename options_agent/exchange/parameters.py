"""Parameters of calls: text and numbers as GET and POST send them, refused as the exchange refuses them (-32602, with the name)."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from options_agent.exchange.errors import RpcError
from options_agent.exchange.feed import currency_of, ms

if TYPE_CHECKING:
    from collections.abc import Iterable

Params = dict[str, Any]

#: What the exchange takes for a currency in listings and summaries.
_CURRENCIES: Final = frozenset({"BTC", "ETH", "USDC", "USDT", "EURR", "USDE", "SOL", "XRP", "ANY"})


def text(params: Params, name: str, default: str | None = None, among: Iterable[str] | None = None) -> str:
    """A text parameter; without a default it must be there."""
    value = params.get(name, default)
    if not isinstance(value, str):
        raise RpcError(-32602, reason="value required" if value is None else "must be a string", param=name)
    if among is not None and value not in among:
        raise RpcError(-32602, reason="invalid value", param=name)
    return value


def currency_in(params: Params, underlyings: Iterable[str], default: str | None = None) -> str:
    """The parameter `currency` in capitals: one the exchange has, listed here or not, or that of one of `underlyings`, or `ANY`."""
    currency = text(params, "currency", default).upper()
    if currency not in _CURRENCIES and currency not in {currency_of(u) for u in underlyings}:
        raise RpcError(-32602, reason="wrong currency", param="currency")
    return currency


def number(params: Params, name: str, default: int | None = None, least: int = 0, most: int = 1 << 62) -> int:
    """A whole number; GET sends it as text."""
    value = params.get(name, default)
    if value is None:
        raise RpcError(-32602, reason="value required", param=name)
    try:
        whole = int(value)
    except (TypeError, ValueError):
        raise RpcError(-32602, reason="must be an integer", param=name) from None
    if not least <= whole <= most:
        raise RpcError(-32602, reason=f"must be between {least} and {most}", param=name)
    return whole


def truth(params: Params, name: str) -> bool:
    """A boolean, false by default."""
    value = params.get(name, False)
    return value if isinstance(value, bool) else str(value).lower() == "true"


def moment(params: Params, name: str, default: dt.datetime | None = None) -> dt.datetime:
    """A time in milliseconds."""
    whole = number(params, name, ms(default) if default else None)
    try:
        return dt.datetime.fromtimestamp(whole / 1_000, dt.UTC)
    except (ValueError, OverflowError, OSError):
        raise RpcError(-32602, reason="no such time", param=name) from None
