"""A running exchange in a box: the real command in a process of its own, on a free port, its faults at hand."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from options_agent.exchange.control import ask

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

_READY_SECONDS = 60.0


@dataclass(slots=True)
class RunningBox:
    """An exchange that answers on `port`."""

    port: int
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """Without `/api/v2`."""
        return f"http://127.0.0.1:{self.port}"

    def fault(self, **switches: Any) -> dict[str, Any]:
        """Set faults, for instance `drop=0.1`."""
        return ask(self.port, "faults", switches)

    def stats(self) -> dict[str, Any]:
        """What it has served."""
        return ask(self.port, "stats")


@contextlib.contextmanager
def running_box(
    folder: Path,
    *,
    speed: float = 1.0,
    start: dt.datetime | None = None,
    limits: float = 1.0,
    underlyings: tuple[str, ...] = ("BTC", "ETH"),
    settings: dict[str, str] | None = None,
    faults: dict[str, Any] | None = None,
) -> Iterator[RunningBox]:
    """Start `options-agent exchange` and end it.

    Args:
        folder: an empty one, for its home.
        speed: market seconds a second.
        start: market time it opens at, whole minutes; now by default.
        limits: credit pools in multiples of mainnet's.
        underlyings: what it lists.
        settings: further environment, without the prefix `OPTIONS_AGENT_`.
        faults: switches from the start.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPTIONS_AGENT_")}
    environment |= {"OPTIONS_AGENT_HOME": str(folder / "box"), "OPTIONS_AGENT_UNDERLYINGS": str(list(underlyings)).replace("'", '"')}
    environment |= {f"OPTIONS_AGENT_{name}": value for name, value in (settings or {}).items()}
    command = [
        str(Path(sys.executable).with_name("options-agent")),
        "exchange",
        "--port",
        "0",
        "--speed",
        str(speed),
        "--limits",
        str(limits),
    ]
    if start is not None:
        command += ["--start", f"{start:%Y-%m-%dT%H:%M}"]
    for name, value in (faults or {}).items():
        command += ["--fault", f"{name}={value}"]
    log = folder / "exchange.log"
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT, text=True, cwd=folder)
    try:
        yield RunningBox(_port_of(process, log), process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _port_of(process: subprocess.Popen[str], log: Path) -> int:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        said = log.read_text(encoding="utf-8")
        if found := re.search(r"http://127\.0\.0\.1:(\d+)/api/v2", said):
            return int(found[1])
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"the exchange did not start: {log.read_text(encoding='utf-8')[-2_000:]}")
