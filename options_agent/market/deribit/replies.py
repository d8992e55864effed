"""The exchange's replies taken apart: envelopes into results or errors, tickers and summaries into the values of a quote row.

A missing side is null or 0.0 in the replies and null here; volatility is in percent there and decimal here.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.contracts import Option, parse_name
from options_agent.errors import DataError, ExchangeError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

TOO_MANY_REQUESTS: Final = 10028
MAINTENANCE: Final = 11051
NOT_FOUND: Final = 13020
INVALID_PARAMS: Final = -32602
#: Worth asking again: retry, the matching queue, maintenance' shadow, a time-out at the exchange.
PASSING: Final = frozenset({10040, 10041, 10047, 13888})

#: Values of a quote row, in this order, of `ticker_values` and `summary_values`.
VALUES: Final = (
    "bid",
    "ask",
    "mark",
    "bid_size",
    "ask_size",
    "bid_iv",
    "ask_iv",
    "mark_iv",
    "delta",
    "gamma",
    "vega",
    "theta",
    "forward",
    "index",
    "open_interest",
    "volume_24h",
)
Values = tuple[float | None, ...]
_PERCENT: Final = 100.0


class RefusalError(ExchangeError):
    """The exchange answered with an error of its own; `code` says which (errors are told apart by code, never by text)."""

    def __init__(self, code: int, message: str, data: object, *, place: str) -> None:
        detail = f" ({data})" if data else ""
        super().__init__(f"the exchange refused with {code} {message}{detail}", place=place, remedy=_REMEDIES.get(code))
        self.code = code


_REMEDIES: Final = {
    TOO_MANY_REQUESTS: "lower OPTIONS_AGENT_DERIBIT__CREDIT_SHARE, or harvest from fewer places with one address",
    MAINTENANCE: "the exchange is in maintenance: wait, the harvest goes on by itself",
    13004: "check the client id and secret of this network; mainnet's and testnet's keys differ",
    13009: "log in with a valid key of this network",
    INVALID_PARAMS: "the exchange does not have what is asked for: check OPTIONS_AGENT_UNDERLYINGS",
    NOT_FOUND: "the instrument is not listed any more",
}


def result_of(envelope: object, *, place: str) -> Any:
    """The `result` of a reply.

    Raises:
        RefusalError: it holds an error.
        ExchangeError: it is no reply of the exchange: a proxy's page, for instance.
    """
    error = envelope.get("error") if isinstance(envelope, dict) else None
    if isinstance(error, dict) and isinstance(error.get("code"), int):
        raise RefusalError(error["code"], str(error.get("message", "")), error.get("data"), place=place)
    if not isinstance(envelope, dict) or error or "result" not in envelope:
        raise ExchangeError(
            f"not a JSON-RPC reply: {str(envelope)[:80]!r}", place=place, remedy="check that the URL is the exchange's (…/api/v2)"
        )
    return envelope["result"]


def require_network(network: str, envelope: object, place: str) -> None:
    """Refuse an answer that says it is of the other network: prices of one are worthless for the other.

    Raises:
        ExchangeError: its member `testnet` contradicts the setting.
    """
    says = envelope.get("testnet") if isinstance(envelope, dict) else None
    if isinstance(says, bool) and says is not (network != "mainnet"):
        whose = "testnet" if says else "mainnet"
        raise ExchangeError(
            f"the server says it is {whose}, this desk is set to {network}",
            place=place,
            remedy="set OPTIONS_AGENT_NETWORK and the URL to one network",
        )


@contextlib.contextmanager
def as_documented(method: str, place: str) -> Iterator[None]:
    """Read a result within this: one that is not as the exchange documents it is the exchange's failure, and ends no harvest.

    Raises:
        ExchangeError: a member is missing or of another kind.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ExchangeError(
            f"the answer to {method} is not as documented: {type(error).__name__} {error}",
            place=place,
            remedy="it is asked again; where it stays so, the exchange has changed the method",
        ) from error


@dataclass(frozen=True, slots=True)
class Contract:
    """A listed option: its parts by name, and what the exchange says of it."""

    name: str
    option: Option
    expiry: dt.datetime
    tick: float
    size: float


def contracts_of(instruments: object, *, place: str) -> dict[str, Contract]:
    """The options in a reply of `get_instruments` that are of a form this desk knows, by name.

    Raises:
        ExchangeError: the reply is no list of instruments.
    """
    if not isinstance(instruments, list) or not all(isinstance(each, dict) for each in instruments):
        raise ExchangeError("get_instruments gave no list of instruments", place=place, remedy="it is asked again")
    found = {}
    for each in instruments:
        if each.get("kind") != "option" or not each.get("is_active", True):
            continue
        try:
            option = parse_name(each["instrument_name"])
        except (DataError, KeyError, TypeError, AttributeError):
            continue
        if isinstance(option, Option):
            found[each["instrument_name"]] = Contract(
                each["instrument_name"], option, option.expiry, float(each.get("tick_size") or 0), float(each.get("contract_size") or 1)
            )
    return found


def ticker_values(data: dict[str, Any]) -> Values:
    """`VALUES` of a ticker."""
    greeks = data.get("greeks") or {}
    bid, ask = _positive(data.get("best_bid_price")), _positive(data.get("best_ask_price"))
    return (
        bid,
        ask,
        _positive(data.get("mark_price")),
        _number(data.get("best_bid_amount")) if bid is not None else None,
        _number(data.get("best_ask_amount")) if ask is not None else None,
        _volatility(data.get("bid_iv")) if bid is not None else None,
        _volatility(data.get("ask_iv")) if ask is not None else None,
        _volatility(data.get("mark_iv")),
        _number(greeks.get("delta")),
        _number(greeks.get("gamma")),
        _number(greeks.get("vega")),
        _number(greeks.get("theta")),
        _positive(data.get("underlying_price")),
        _positive(data.get("index_price")),
        _number(data.get("open_interest")),
        _number((data.get("stats") or {}).get("volume")),
    )


def summary_values(data: dict[str, Any], index: float | None) -> Values:
    """`VALUES` of a book summary, which has no greeks, sizes or bid and ask volatility; the index is from elsewhere."""
    return (
        _positive(data.get("bid_price")),
        _positive(data.get("ask_price")),
        _positive(data.get("mark_price")),
        None,
        None,
        None,
        None,
        _volatility(data.get("mark_iv")),
        None,
        None,
        None,
        None,
        _positive(data.get("underlying_price")),
        index,
        _number(data.get("open_interest")),
        _number(data.get("volume")),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def _volatility(percent: object) -> float | None:
    """999 stands for no ask in some replies."""
    value = _positive(percent)
    return value / _PERCENT if value is not None and value < 999 else None
