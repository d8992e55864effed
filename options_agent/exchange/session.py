"""One web-socket session of the box: what it subscribed to, its heartbeat, and the bytes on their way to it.

Text frames are made here, once per message, and written many at a time: a message to eight clients is encoded once.
"""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from options_agent.exchange.access import Grant
    from options_agent.exchange.channels import Channel
    from options_agent.exchange.credits import Account
    from options_agent.exchange.faults import Dice, Faults

#: A client this far behind is cut off, as the exchange does with slow readers.
MOST_WAITING: Final = 256 * 2**20


def frame(payload: bytes) -> bytes:
    """A whole unmasked text frame (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        return b"\x81" + bytes((size,)) + payload
    if size < 65_536:
        return b"\x81\x7e" + struct.pack("!H", size) + payload
    return b"\x81\x7f" + struct.pack("!Q", size) + payload


def notification(channel: str, data: Any) -> bytes:
    """A subscription message as a frame."""
    return notification_of(channel, orjson.dumps(data))


def notification_of(channel: str, data: bytes) -> bytes:
    """The same of what is JSON already. Names of channels are plain: `channels.parse` took them."""
    return frame(b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"' + channel.encode() + b'","data":' + data + b"}}")


@dataclass(eq=False, slots=True)
class Session:
    """An open socket."""

    transport: asyncio.Transport
    account: Account
    subscribed: dict[str, Channel] = field(default_factory=dict)
    grant: Grant | None = None
    heartbeat: float = 0.0
    tested_at: float | None = None
    beat_at: float = field(default_factory=time.monotonic)
    waiting: list[bytes] = field(default_factory=list)
    held: list[bytes] = field(default_factory=list)
    told_at: dict[str, int] = field(default_factory=dict)
    sent: int = 0
    lost: int = 0

    def tell(self, message: bytes) -> None:
        """Put a notification on its way."""
        self.waiting.append(message)

    def flush(self, faults: Faults, dice: Dice) -> None:
        """Write what waits, with the faults of notifications done to it. A stalled session keeps nothing either."""
        messages, self.waiting = self.waiting, []
        if faults.stalled or not (messages or self.held):
            return
        if faults.drop or faults.duplicate or faults.late or faults.reorder:
            messages = self._spoilt(messages, faults, dice)
        self.sent += len(messages)
        data = b"".join(messages)
        if messages and dice.hit(faults.half_frame):
            self.transport.write(data[: max(len(data) - len(messages[-1]) // 2 - 1, 1)])
            asyncio.get_running_loop().call_later(0.05, self.transport.abort)
            return
        if data and not self.transport.is_closing():
            self.transport.write(data)
            if self.transport.get_write_buffer_size() > MOST_WAITING:
                self.transport.abort()

    def _spoilt(self, messages: list[bytes], faults: Faults, dice: Dice) -> list[bytes]:
        kept, late = self.held, []
        for message in messages:
            if dice.hit(faults.drop):
                self.lost += 1
            elif dice.hit(faults.late):
                late.append(message)
            else:
                kept.append(message)
                if dice.hit(faults.duplicate):
                    kept.append(message)
        self.held = late
        if dice.hit(faults.reorder):
            dice.source.shuffle(kept)
        return kept

    def beat(self, now: float) -> bool:
        """Send the heartbeat that is due; False where the last test went unanswered and the session is to be closed.

        Args:
            now: wall seconds, monotonic. Heartbeats keep to the wall's clock: they are about the socket, not the market.
        """
        if not self.heartbeat or now - self.beat_at < self.heartbeat:
            return True
        if self.tested_at is not None:
            return False
        self.beat_at = self.tested_at = now
        for kind in ("heartbeat", "test_request"):
            self.transport.write(frame(orjson.dumps({"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": kind}})))
        return True
