"""A loopback server of the vendor's datasets, for its own client: files by exchange, data type, day and symbol.

`GET /v1/deribit/options_chain/2025/06/01/OPTIONS.csv.gz` answers a gzip; without a key only the first day of a month,
else 401; a wrong key is 401 on every day; an unknown file 404. Faults are switched by the test, per request.
"""

from __future__ import annotations

import datetime as dt
import gzip
import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "key-of-the-test"
_PATH = re.compile(r"^/v1/deribit/(?P<type>[a-z_]+)/(?P<day>\d{4}/\d{2}/\d{2})/(?P<symbol>[A-Z0-9_%-]+)\.csv\.gz$")


@dataclass
class Faults:
    """What goes wrong, and how often: each count is used up by the requests it spoils."""

    busy: int = 0  # 429
    retry_after: str | None = "0"
    broken: int = 0  # 500
    cut: int = 0  # the connection ends in the middle of the body
    torn: int = 0  # a whole answer whose file is truncated
    stalled: int = 0  # headers, then nothing
    only: str = ""  # spoil this data type alone

    def take(self, name: str, kind: str) -> bool:
        """Whether this request is spoilt so."""
        if (self.only and kind != self.only) or not getattr(self, name):
            return False
        setattr(self, name, getattr(self, name) - 1)
        return True


@dataclass
class Vendor:
    """A running server: `files` by (data type, day, symbol), what was asked, and the faults in force."""

    url: str = ""
    files: dict[tuple[str, dt.date, str], bytes] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    asked: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    before_answer: Callable[[str], None] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)

    def put(self, kind: str, day: dt.date, symbol: str, text: str | bytes) -> None:
        """Serve this CSV for a day."""
        data = text.encode() if isinstance(text, str) else text
        self.files[kind, day, symbol] = gzip.compress(data, compresslevel=1, mtime=0)

    @property
    def settings(self) -> dict[str, Any]:
        """The group `tardis` that leads here."""
        return {"endpoint": f"{self.url}/v1", "api_key": KEY, "patience_seconds": 30.0}


@contextmanager
def vendor() -> Iterator[Vendor]:
    """A server without files on a free port of 127.0.0.1, until the block ends."""
    state = Vendor()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            path = self.path.split("?", 1)[0]
            with state.lock:
                state.asked[path] += 1
                state.headers.append(dict(self.headers))
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
            try:
                if state.before_answer is not None:
                    state.before_answer(path)
                self._answer(path)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with state.lock:
                    state.at_once -= 1

        def _answer(self, path: str) -> None:
            found = _PATH.match(path)
            if found is None:
                return self._refuse(404, 404, "no such path")
            day = dt.date.fromisoformat(found["day"].replace("/", "-"))
            given = self.headers.get("Authorization")
            if (given is not None and given != f"Bearer {KEY}") or (given is None and day.day != 1):
                return self._refuse(401, 100, "Unauthorized: the API key is missing or invalid")
            with state.lock:
                spoilt = next((n for n in ("busy", "broken", "cut", "torn", "stalled") if state.faults.take(n, found["type"])), "")
            if spoilt == "busy":
                extra = {} if state.faults.retry_after is None else {"Retry-After": state.faults.retry_after}
                return self._refuse(429, 120, "Too many requests", extra)
            if spoilt == "broken":
                return self._refuse(500, 500, "Internal error")
            data = state.files.get((found["type"], day, found["symbol"]))
            if data is None:
                return self._refuse(404, 404, "There is no data for this day")
            if spoilt == "torn":
                data = data[: len(data) * 2 // 3]
            self.send_response(200)
            self.send_header("Content-Type", "application/gzip")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if spoilt == "stalled":
                state.released.wait(60)
            self.wfile.write(data[: len(data) // 2] if spoilt in {"cut", "stalled"} else data)
            self.close_connection = spoilt in {"cut", "stalled"}
            with state.lock:
                state.served[path] += 1
            return None

        def _refuse(self, status: int, code: int, message: str, extra: dict[str, str] | None = None) -> None:
            body = json.dumps({"code": code, "message": message}).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(extra or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
