"""A Dask scheduler and two workers, each a process of its own on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_WORKER = ("--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")


@dataclass
class DaskCluster:
    """Where the scheduler listens, and its workers."""

    address: str
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def dask_cluster(folder: Path, variables: Mapping[str, str]) -> Iterator[DaskCluster]:
    """Start them with these environment variables; killed at the end."""
    from distributed import Client

    file = folder / "scheduler.json"
    scheduler = _dask(folder, variables, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    workers = [_dask(folder, variables, "worker", "--scheduler-file", str(file), *_WORKER) for _ in range(2)]
    try:
        with Client(scheduler_file=str(file), timeout=60, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            client.wait_for_workers(2, timeout=90)  # type: ignore[no-untyped-call]
            address = client.scheduler.address
        yield DaskCluster(address, workers)
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def _dask(folder: Path, variables: Mapping[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | dict(variables)
    command = [sys.executable, "-c", "from dask.__main__ import main; main()", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
