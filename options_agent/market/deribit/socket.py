"""One web-socket connection: calls with answers, notifications to a listener, heartbeats answered, silence noticed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from options_agent.errors import DataError, ExchangeError
from options_agent.market.deribit.replies import as_documented, require_network, result_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    import aiohttp

    from options_agent.market.deribit.pacing import Pacer
    from options_agent.settings import Settings

HEARTBEAT_SECONDS: Final = 30.0
#: Channels in one subscription call.
MOST_CHANNELS: Final = 500
_BIGGEST: Final = 2**24


@dataclass(slots=True)
class Socket:
    """An open socket. An async context manager; `closed` is set, with a reason, when it ends for whatever cause.

    `listener(channel, data)` is called for every notification, in order, from the event loop.
    """

    settings: Settings
    pacer: Pacer
    listener: Callable[[str, Any], None]
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""
    notifications: int = 0
    spoilt: int = 0
    _session: aiohttp.ClientSession | None = None
    _socket: aiohttp.ClientWebSocketResponse | None = None
    _reader: asyncio.Task[None] | None = None
    _answers: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    _background: set[asyncio.Task[Any]] = field(default_factory=set)
    _last_id: int = 0
    _heard: float = field(default_factory=time.monotonic)

    @property
    def url(self) -> str:
        """`wss://…/ws/api/v2`."""
        return self.settings.exchange_url.replace("http", "ws", 1) + "/ws/api/v2"

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ExchangeError: it cannot be.
        """
        import aiohttp

        self._session = aiohttp.ClientSession()
        try:
            async with asyncio.timeout(self.settings.deribit.timeout_seconds):
                self._socket = await self._session.ws_connect(self.url, max_msg_size=_BIGGEST, autoping=True)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            await self._session.close()
            why = (
                f"status {error.status}" if isinstance(error, aiohttp.WSServerHandshakeError) else f"{type(error).__name__} {error}".strip()
            )
            raise ExchangeError(
                f"the exchange's socket cannot be opened: {why}",
                place=self.url,
                remedy="it is tried again",
            ) from None
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for task in (*self._background, self._reader):
            if task is not None:
                task.cancel()
        if self._reader is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        with contextlib.suppress(Exception):
            if self._socket is not None:
                await asyncio.wait_for(self._socket.close(), 1.0)
        if self._session is not None:
            await self._session.close()
        self._end("closed by us")

    async def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """The result of a method.

        Raises:
            RefusalError: the exchange answered with an error.
            ExchangeError: the socket closed, or no answer came in time.
        """
        await self.pacer.pay(method)
        return await self._ask(method, params or {})

    async def subscribe(self, channels: list[str]) -> list[str]:
        """Subscribe, a few hundred channels a call; returns those the exchange took."""
        taken: list[str] = []
        for first in range(0, len(channels), MOST_CHANNELS):
            told = await self.call("public/subscribe", {"channels": channels[first : first + MOST_CHANNELS]})
            with as_documented("public/subscribe", self.url):
                taken += told
        return taken

    async def unsubscribe(self, channels: list[str]) -> None:
        """Hear no more of some channels."""
        for first in range(0, len(channels), MOST_CHANNELS):
            await self.call("public/unsubscribe", {"channels": channels[first : first + MOST_CHANNELS]})

    async def log_in(self) -> bool:
        """Log in with the network's key; False where there is none."""
        key = self.settings.exchange_credentials
        if not key.client_id or not key.client_secret:
            return False
        secret = key.client_secret.get_secret_value()
        await self.call("public/auth", {"grant_type": "client_credentials", "client_id": key.client_id, "client_secret": secret})
        return True

    async def beat(self) -> None:
        """Ask for heartbeats; from then on silence for longer than three of them ends the socket."""
        await self.call("public/set_heartbeat", {"interval": HEARTBEAT_SECONDS})

    async def watch(self) -> None:
        """Return when the socket has ended, or was silent for too long (then it is ended here)."""
        allowed = max(3 * HEARTBEAT_SECONDS, self.settings.deribit.timeout_seconds)
        while not self.closed.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.closed.wait(), 1.0)
            if time.monotonic() - self._heard > allowed:
                self._end(f"silent for {allowed:.0f} s")

    @property
    def silent_seconds(self) -> float:
        """Wall seconds since anything was heard."""
        return time.monotonic() - self._heard

    async def _ask(self, method: str, params: dict[str, Any]) -> Any:
        if self._socket is None or self.closed.is_set():
            raise ExchangeError(f"the socket is closed: {self.reason or 'never opened'}", place=self.url, remedy="it is opened again")
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        place = f"{self.url} {method}"
        try:
            await self._socket.send_str(orjson.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).decode())
            async with asyncio.timeout(self.settings.deribit.timeout_seconds):
                envelope = await answer
            require_network(self.settings.network, envelope, place)
            return result_of(envelope, place=place)
        except (TimeoutError, ConnectionError, OSError) as error:
            raise ExchangeError(f"no answer to {method}: {type(error).__name__}", place=place, remedy="it is tried again") from None
        finally:
            self._answers.pop(number, None)

    async def _read(self) -> None:
        import aiohttp

        socket = self._socket
        assert socket is not None  # noqa: S101 - set before the task starts
        try:
            async for message in socket:
                self._heard = time.monotonic()
                if message.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
                    self._take(message.data)
                elif message.type in {aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSE}:
                    break
            self._end(f"closed by the exchange (code {socket.close_code})")
        except (aiohttp.ClientError, OSError) as error:
            self._end(f"{type(error).__name__} {error}".strip())

    def _take(self, data: str | bytes) -> None:
        try:
            self._sort(orjson.loads(data))
        except (DataError, LookupError, TypeError, ValueError, AttributeError):  # one bad message must not cost the others
            self.spoilt += 1

    def _sort(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        if method == "subscription":
            self.notifications += 1
            self.listener(message["params"]["channel"], message["params"]["data"])
        elif method == "heartbeat":
            if message.get("params", {}).get("type") == "test_request":
                task = asyncio.create_task(self._answer_test())
                self._background.add(task)
                task.add_done_callback(self._background.discard)
        elif (answer := self._answers.get(message.get("id", 0))) is not None and not answer.done():
            answer.set_result(message)

    async def _answer_test(self) -> None:
        with contextlib.suppress(ExchangeError):
            await self.call("public/test")

    def _end(self, reason: str) -> None:
        if self.closed.is_set():
            return
        self.reason = reason
        self.closed.set()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ExchangeError(f"the socket closed: {reason}", place=self.url, remedy="it is opened again"))
