from __future__ import annotations

import uuid
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
