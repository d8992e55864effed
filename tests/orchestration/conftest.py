"""Desks for the orchestration tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.orchestration.desks import OrchestratedDesk, desk_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def desk(tmp_path: Path) -> OrchestratedDesk:
    """An empty desk of one underlying."""
    return desk_at(tmp_path / "home", underlyings=("BTC",))


@pytest.fixture(scope="module")
def finished_desk(tmp_path_factory: pytest.TempPathFactory, _no_settings: None) -> OrchestratedDesk:
    """A desk whose pipeline went through two days; not to be changed."""
    made = desk_at(tmp_path_factory.mktemp("finished") / "home")
    code, output = made.pipeline()
    assert code == 0, output
    return made


@pytest.fixture(scope="module")
def _no_settings() -> Callable[[], None] | None:
    """Module-scoped desks start from defaults whatever this shell has set."""
    import os

    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OPTIONS_AGENT_")}
    yield None
    os.environ.update(kept)
