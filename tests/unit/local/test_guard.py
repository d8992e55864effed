"""Nothing the desk starts outlives it: ended in order, by Ctrl-C, or killed -9."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from options_agent.errors import ServiceError
from options_agent.local.environment import environment_of
from options_agent.local.guard import MARK_VARIABLE, marked
from options_agent.local.ports import choose_port, is_free
from options_agent.local.services import Desk, running_desk
from options_agent.settings import load_settings
from tests.conftest import REPOSITORY

#: A server with a child of its own that left its session, as run workers do.
FAMILY = (
    "import subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)'], start_new_session=True)\n"
    "time.sleep(120)\n"
)


def _guarded(mark: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "options_agent.local.guard", mark, sys.executable, "-c", FAMILY]
    return subprocess.Popen(command, stdin=subprocess.PIPE, cwd=REPOSITORY, start_new_session=True)


def _wait(count: int, mark: str, seconds: float = 10.0) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while len(found := marked(mark)) != count and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_when_the_parents_pipe_closes_the_whole_family_ends() -> None:
    mark = secrets.token_hex(8)
    guard = _guarded(mark)
    assert len(_wait(2, mark)) == 2
    assert guard.stdin is not None
    guard.stdin.close()
    guard.wait(10)
    assert _wait(0, mark) == []


def test_a_parent_killed_minus_9_leaves_nothing_behind() -> None:
    mark = secrets.token_hex(8)
    command = [sys.executable, "-m", "options_agent.local.guard", mark, sys.executable, "-c", FAMILY]
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, time; p = subprocess.Popen({command!r}, stdin=subprocess.PIPE); time.sleep(120)"],
        cwd=REPOSITORY,
    )
    assert len(_wait(2, mark)) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert _wait(0, mark) == []


def test_a_mark_covers_those_that_begin_with_it() -> None:
    mark = secrets.token_hex(8)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=os.environ | {MARK_VARIABLE: f"{mark}.mlflow"})
    try:
        assert [p.pid for p in _wait(1, mark)] == [child.pid]
        assert marked(mark[:-1]) == []
    finally:
        child.kill()
        child.wait()


def test_a_taken_port_is_replaced_by_a_free_one() -> None:
    import socket

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        assert not is_free(taken)
        other = choose_port(taken)
        assert other != taken
        assert is_free(other)
        assert choose_port(other, frozenset({other})) != other


def test_a_second_desk_of_the_same_home_is_refused_and_says_where_the_first_is(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, _env_file=None)
    said: list[str] = []
    with Desk(settings, said.append) as first:
        first.prepare()
        state = running_desk(settings)
        assert state is not None
        assert state["pid"] == os.getpid()
        with pytest.raises(ServiceError, match=r"already running.*127\.0\.0\.1"), Desk(settings, said.append):
            pass
    assert running_desk(settings) is None
    with Desk(settings, said.append):
        pass


def test_settings_survive_the_way_through_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        home=tmp_path,
        source="recorded",
        network="mainnet",
        underlyings=("BTC", "XRP_USDC"),
        recorded={"path": tmp_path},
        alerts={"urls": ("json://127.0.0.1:9/x",)},
        s3_secret_access_key="hush",
        _env_file=None,
    )
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings(_env_file=None) == settings
