"""Fixtures every test may use: small settings in a folder of their own, and the recorded data where it lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from options_agent.settings import Settings, load_settings

pytest_plugins = ["tests.servers.gcs", "tests.servers.mlflow", "tests.servers.s3"]

# Machines are noisy and kernels compile on first use: a law fails on its merits, never on the clock. CI draws the same
# examples every time; a developer's run goes on looking for new ones.
hypothesis_settings.register_profile("desk", deadline=None, derandomize="CI" in os.environ)
hypothesis_settings.load_profile("desk")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the developer's settings: OPTIONS_AGENT_ variables are cleared and home is temporary."""
    for name in list(os.environ):
        if name.startswith("OPTIONS_AGENT_") and name != "OPTIONS_AGENT_TEST_DATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPTIONS_AGENT_HOME", str(tmp_path / "home"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an empty synthetic desk below `tmp_path`."""
    return load_settings(home=tmp_path / "home", _env_file=None)


@pytest.fixture(scope="session")
def market_data() -> Path:
    """Folder of recorded market data; tests that need it skip, saying so, where it is absent."""
    folder = Path(os.environ.get("OPTIONS_AGENT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"recorded market data is absent (looked in {folder}; set OPTIONS_AGENT_TEST_DATA)")
    return folder
