"""Load on the exchange in a box: 2,000 instruments to 8 clients that hear every ticker, at real speed, the box on one core.

Run: python benchmarks/bench_exchange.py [--every 1.0] [--seconds 20]. The box runs in a process bound to one core, the clients in another.
The synthetic market lists about 1,500 options; more strikes beside them make up the number. Every quote moves at every new chain, which is
harder than a real minute. Latency is from the stamp in the message to its arrival, so it counts the wait for the next round (0.1 s).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pyarrow as pa

from options_agent.exchange.opening import feed_source, serve_box
from options_agent.exchange.server import make_box
from options_agent.market.clock import clock_at
from options_agent.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULT = Path(__file__).resolve().parent / "results" / "exchange.json"
INSTRUMENTS, CLIENTS = 2_000, 8
FAMILIES = ("BTC", "ETH")
#: Channels a call: the exchange takes 500.
PER_CALL = 500


class Padded:
    """The synthetic source with strikes beside its own, until a family has as many options as wanted."""

    def __init__(self, source: Any, wanted: int) -> None:
        self._source, self._wanted = source, wanted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def latest(self, underlying: str, now: dt.datetime) -> pa.Table | None:
        """The newest chain with the further strikes."""
        table = self._source.latest(underlying, now)
        more = table.slice(0, max(self._wanted - table.num_rows, 0))
        strikes = [strike + 1.0 for strike in more["strike"].to_pylist()]
        names = [
            "-".join((*name.split("-")[:2], str(int(k)), name[-1])) for name, k in zip(more["instrument"].to_pylist(), strikes, strict=True)
        ]
        for column, values in (("strike", strikes), ("instrument", names)):
            position = more.schema.get_field_index(column)
            more = more.set_column(position, more.schema.field(position), pa.array(values, more.schema.field(position).type))
        return pa.concat_tables([table, more])


def serve(every: float) -> None:
    """The box, on the first core of those allowed; its port on standard output."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    settings = load_settings(_env_file=None)
    settings = settings.model_copy(update={"exchange": settings.exchange.model_copy(update={"every_seconds": every})})
    source = Padded(feed_source(settings), INSTRUMENTS // len(FAMILIES))
    box = make_box(source, FAMILIES, clock_at(dt.datetime.now(dt.UTC), 1.0), limits=0)
    asyncio.run(serve_box(box, 0, lambda port: print(port, flush=True)))


@contextlib.contextmanager
def running(every: float) -> Iterator[tuple[int, int]]:
    """Port and process id of a box of its own."""
    process = subprocess.Popen([sys.executable, __file__, "--serve", "--every", str(every)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.terminate()
        process.wait(20)


async def listen(port: int, names: list[str], counts: list[int], late: list[float], until: float) -> None:
    """A client: subscribes to everything, counts, and times a message in sixteen."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://127.0.0.1:{port}/ws/api/v2", max_msg_size=0) as socket:
        for n in range(0, len(names), PER_CALL):
            await socket.send_json(
                {"jsonrpc": "2.0", "id": n, "method": "public/subscribe", "params": {"channels": names[n : n + PER_CALL]}}
            )
        heard = 0
        while (left := until - time.monotonic()) > 0:
            try:
                text = await asyncio.wait_for(socket.receive_str(), left) if heard == 0 else await socket.receive_str()
            except TimeoutError:
                break
            heard += 1
            if heard % 16 == 0 and heard > 2 * len(names):
                stamp = orjson.loads(text)["params"]["data"]["timestamp"]
                late.append(time.time() - stamp / 1_000)
        counts.append(heard)


def fetch(port: int, path: str) -> Any:
    """A reply of the box."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return json.load(answer)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(every: float, seconds: float) -> dict[str, Any]:
    """Load a box and say how it bore it."""
    with running(every) as (port, pid):
        names = [f"ticker.{each['instrument_name']}.100ms" for each in fetch(port, "/api/v2/public/get_instruments?currency=any")["result"]]

        async def load() -> tuple[int, list[float], dict[str, Any], dict[str, Any], float]:
            counts: list[int] = []
            late: list[float] = []
            until = time.monotonic() + seconds
            clients = [asyncio.create_task(listen(port, names, counts, late, until)) for _ in range(CLIENTS)]
            await asyncio.sleep(3.0)
            before, used = await asyncio.to_thread(fetch, port, "/box/stats"), cpu_seconds(pid)
            await asyncio.sleep(max(until - time.monotonic() - 0.5, 0.5))
            after, used = await asyncio.to_thread(fetch, port, "/box/stats"), cpu_seconds(pid) - used
            await asyncio.gather(*clients)
            return sum(counts), late, before, after, used

        heard, late, before, after, used = asyncio.run(load())
        late.sort()
        span = (dt.datetime.fromisoformat(after["now"]) - dt.datetime.fromisoformat(before["now"])).total_seconds()
        return {
            "every_seconds": every,
            "channels": len(names),
            "clients": CLIENTS,
            "messages_a_second": round((after["messages"] - before["messages"]) / span),
            "heard": heard,
            "pump_busy": round((after["busy_seconds"] - before["busy_seconds"]) / span, 3),
            "core": round(used / span, 3),
            "rounds_a_second": round((after["rounds"] - before["rounds"]) / span, 2),
            "behind_seconds": after["behind_seconds"],
            "late_rounds": after["late_rounds"] - before["late_rounds"],
            "latency_p50_ms": round(late[len(late) // 2] * 1e3, 1),
            "latency_p99_ms": round(late[int(len(late) * 0.99)] * 1e3, 1),
        }


def main() -> None:
    """Measure, say, and keep the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--every", type=float, action="append", help="market seconds between chains; repeatable")
    arguments.add_argument("--seconds", type=float, default=20.0)
    arguments.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.serve:
        serve(given.every[0])
        return
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(0, os.sched_getaffinity(0) - {min(os.sched_getaffinity(0))} or os.sched_getaffinity(0))
    rows = []
    for every in given.every or [1.0]:
        rows.append(measure(every, given.seconds))
        print(json.dumps(rows[-1], indent=1))
    report = {"machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", "loads": rows}
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
