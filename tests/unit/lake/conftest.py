from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from options_agent.lake.store import Lake


@pytest.fixture(params=["local", "memory"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """An empty lake, on a local folder and on an object store."""
    return Lake(str(tmp_path / "lake") if request.param == "local" else f"memory://{uuid.uuid4().hex}", "synthetic")


@pytest.fixture
def local_lake(tmp_path: Path) -> Lake:
    """An empty lake in a local folder."""
    return Lake(str(tmp_path / "lake"), "synthetic")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk needs the right to mount a tmpfs: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
