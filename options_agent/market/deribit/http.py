"""Calls over HTTP: JSON-RPC by POST, paced, with a retry where asking again may help."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from options_agent.errors import ExchangeError
from options_agent.market.deribit.pacing import Pacer
from options_agent.market.deribit.replies import PASSING, TOO_MANY_REQUESTS, RefusalError, require_network, result_of

if TYPE_CHECKING:
    from types import TracebackType

    import aiohttp

    from options_agent.market.clock import Clock
    from options_agent.settings import Settings

TRIES: Final = 3
_DICE: Final = random.Random()  # noqa: S311 - jitter


@dataclass(slots=True)
class Caller:
    """The exchange of the settings' network, over HTTP. An async context manager."""

    settings: Settings
    clock: Clock
    pacer: Pacer = field(init=False)
    calls: int = 0
    retries: int = 0
    refused: int = 0
    """answers that were an error of the exchange's own, also where asking again helped"""
    _session: aiohttp.ClientSession | None = None

    def __post_init__(self) -> None:
        self.pacer = Pacer(self.clock, self.settings.deribit.credit_share)

    @property
    def url(self) -> str:
        """`…/api/v2`."""
        return f"{self.settings.exchange_url}/api/v2"

    async def __aenter__(self) -> Self:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=self.settings.deribit.timeout_seconds)
        self._session = aiohttp.ClientSession(timeout=timeout, headers={"Content-Type": "application/json"})
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, method: str, params: dict[str, Any] | None = None, *, tries: int = TRIES, host: str | None = None) -> Any:
        """The result of a method, `public/ticker` for instance.

        Args:
            method, params: what is asked.
            tries: at most.
            host: base URL of another server of the exchange; it is paced with the others.

        Raises:
            RefusalError: the exchange answered with an error.
            ExchangeError: it could not be reached, or answered with something else, `tries` times.
        """
        place = f"{host}/api/v2/{method}" if host else f"{self.url}/{method}"
        for attempt in range(1, tries + 1):
            try:
                return await self._once(method, params or {}, place)
            except RefusalError as error:
                self.refused += 1
                if error.code == TOO_MANY_REQUESTS:
                    self.pacer.drained(self.clock.seconds())
                if attempt == tries or error.code not in PASSING | {TOO_MANY_REQUESTS}:
                    raise
            except ExchangeError:
                if attempt == tries:
                    raise
            self.retries += 1
            await self.clock.sleep(self.settings.deribit.backoff_seconds * 2 ** (attempt - 1) * _DICE.uniform(0.5, 1.5))
        raise AssertionError("unreachable")

    async def _once(self, method: str, params: dict[str, Any], place: str) -> Any:
        import aiohttp

        if self._session is None:
            raise ExchangeError("the connection is not open", place=place, remedy="use the caller as an async context manager")
        await self.pacer.pay(method)
        self.calls += 1
        body = orjson.dumps({"jsonrpc": "2.0", "id": self.calls, "method": method, "params": params})
        try:
            async with self._session.post(place, data=body) as answer:
                content = await answer.read()
                status = answer.status
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ExchangeError(
                f"the exchange did not answer: {type(error).__name__} {error}".strip(),
                place=place,
                remedy="check the network; it is tried again",
            ) from None
        try:
            envelope = orjson.loads(content)
        except orjson.JSONDecodeError:
            raise ExchangeError(
                f"the exchange answered status {status} and no JSON: {content[:60]!r}", place=place, remedy="it is tried again"
            ) from None
        require_network(self.settings.network, envelope, place)
        return result_of(envelope, place=place)
