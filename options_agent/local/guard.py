"""Runs one command as a child and sees to it that nothing of it outlives the parent.

Started as `python -m options_agent.local.guard MARK COMMAND...`; its standard input is a pipe the parent holds open. When
the parent ends in any way, kill -9 included, the pipe closes and the whole family of the command is ended: its
descendants, and whatever else carries the mark in its environment (workers that were re-parented).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

MARK_VARIABLE: Final = "OPTIONS_AGENT_GUARD"
GRACE_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.2


def main(arguments: Sequence[str]) -> int:
    """Run the command until it ends or the parent does; returns the command's exit code."""
    mark, *command = arguments
    ending = False

    def end(_signal: int, _frame: FrameType | None) -> None:
        nonlocal ending
        ending = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides; a Ctrl-C reaches it too
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=os.environ | {MARK_VARIABLE: mark}, start_new_session=True)
    while child.poll() is None and not ending:
        readable, _, _ = select.select([sys.stdin], [], [], _POLL_SECONDS)
        if readable and not os.read(sys.stdin.fileno(), 64):
            ending = True
    end_family(child.pid, mark)
    return child.wait()


def end_family(root: int, mark: str) -> None:
    """Ask the family of a process to end, then kill what is left after `GRACE_SECONDS`."""
    family = _family(root, mark)
    for process in family:
        _send(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and any(_alive(p) for p in family):
        time.sleep(0.05)
    for _ in range(3):  # what was born meanwhile
        left = [p for p in {*family, *_family(root, mark)} if _alive(p)]
        if not left:
            return
        for process in left:
            _send(process, signal.SIGKILL)
        time.sleep(0.1)


def marked(mark: str) -> list[psutil.Process]:
    """Processes of this user that carry the mark in their environment, or one that begins with it and a dot."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and f"{process.environ().get(MARK_VARIABLE)}.".startswith(f"{mark}."):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _family(root: int, mark: str) -> list[psutil.Process]:
    try:
        parent = psutil.Process(root)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    return list({*family, *marked(mark)})


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
