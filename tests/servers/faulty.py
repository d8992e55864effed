"""A loopback proxy between a client and a real server that does what networks and stores do: slow, 500, 503, full, cut, corrupt.

The fault of each request is drawn by a seeded die. What a client sent before a fault may well have reached the server: a
put whose answer is lost is the hardest of them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS: Final = ("slow", "error_500", "error_503", "full_507", "cut_request", "cut_answer", "lost_answer", "corrupt_read")
_REASONS: Final = {500: "Internal Server Error", 503: "Service Unavailable", 507: "Insufficient Storage"}
_SLOW_SECONDS: Final = 0.1


@dataclass
class Faults:
    """Which faults befall which share of requests, and how many of each there were."""

    share: float = 0.0
    kinds: tuple[str, ...] = KINDS
    done: Counter[str] = field(default_factory=Counter)
    dice: random.Random = field(default_factory=lambda: random.Random(5))

    def draw(self) -> str | None:
        """The fault of the next request, or None."""
        return self.dice.choice(self.kinds) if self.dice.random() < self.share else None


@dataclass
class FaultyProxy:
    """A running proxy; change `faults` at any time."""

    target: str
    faults: Faults = field(default_factory=Faults)
    port: int = 0

    @property
    def endpoint(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """One request of one connection; the connection then ends."""
        try:
            await self._answer(client, back)
        except (OSError, asyncio.IncompleteReadError):
            back.transport.abort()
        finally:
            with contextlib.suppress(OSError):
                back.close()

    async def _answer(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        head, fault = await _head(client), self.faults.draw()
        if "100-continue" in head.get("expect", ""):
            back.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(head.get("content-length", "0"))
        if fault == "cut_request":
            await client.readexactly(length // 2)
            self._cut(back, fault)
            return
        body = await client.readexactly(length)
        if fault is not None and "_" in fault and fault.rsplit("_", 1)[1].isdigit():
            status = int(fault.rsplit("_", 1)[1])
            self.faults.done[fault] += 1
            back.write(f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await back.drain()
            return
        if fault == "slow":
            self.faults.done[fault] += 1
            await asyncio.sleep(_SLOW_SECONDS)
        answer = await self._asked(head[""], head, body)
        if fault == "lost_answer":
            self._cut(back, fault)
            return
        at = answer.index(b"\r\n\r\n") + 4
        if fault == "cut_answer" and len(answer) > at:
            back.write(answer[: at + (len(answer) - at) // 2])
            await back.drain()
            self._cut(back, fault)
            return
        if fault == "corrupt_read" and _is_object(head[""], answer[:at]) and len(answer) > at:
            self.faults.done[fault] += 1
            place = at + self.faults.dice.randrange(len(answer) - at)
            answer = answer[:place] + bytes([answer[place] ^ 1]) + answer[place + 1 :]
        back.write(answer)
        await back.drain()

    def _cut(self, back: asyncio.StreamWriter, fault: str) -> None:
        self.faults.done[fault] += 1
        back.transport.abort()

    async def _asked(self, line: str, head: dict[str, str], body: bytes) -> bytes:
        """What the server answers, whole."""
        host = urlsplit(self.target)
        reader, writer = await asyncio.open_connection(host.hostname, host.port)
        sent = {name: value for name, value in head.items() if name not in {"", "expect", "connection"}} | {"connection": "close"}
        writer.write("\r\n".join([line, *(f"{name}: {value}" for name, value in sent.items()), "", ""]).encode("latin-1") + body)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        first, rest = answer.split(b"\r\n", 1)
        return first + b"\r\nConnection: close\r\n" + rest


async def _head(client: asyncio.StreamReader) -> dict[str, str]:
    """A request's headers by lower-case name, and its first line under the empty name."""
    first, *lines = (await client.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {"": first} | {name.strip().lower(): value.strip() for name, value in pairs}


def _is_object(line: str, head: bytes) -> bool:
    """Whether an answer carries an object's bytes, not a listing or an error."""
    return line.startswith("GET ") and b" 200 " in head.split(b"\r\n", 1)[0] and not any(x in head.lower() for x in (b"/xml", b"/json"))


@contextlib.contextmanager
def running_proxy(target: str) -> Iterator[FaultyProxy]:
    """A proxy in front of `target` (http://host:port), in a thread of its own."""
    proxy, loop, ready = FaultyProxy(target), asyncio.new_event_loop(), threading.Event()

    async def start() -> None:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=2**20)
        proxy.port = server.sockets[0].getsockname()[1]
        ready.set()

    def work() -> None:
        asyncio.set_event_loop(loop)
        starting = loop.create_task(start())
        loop.run_forever()
        starting.result()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
