"""`options-agent backtest` as a process: what it loads, and the picture that is drawn when it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY
from tests.filled_desks import fill_synthetic

if TYPE_CHECKING:
    from pathlib import Path

#: What takes longer to import than a year takes to play.
HEAVY = ("numba", "pandas", "matplotlib", "scipy", "mlflow", "dagster", "polars", "s3fs")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("desk")
    fill_synthetic(home, days=20)
    command(home, "backtest", "covered_call", "BTC")  # compiles, where nothing has before
    return home


def command(home: Path, *words: str, seed: int = 1) -> str:
    """What it prints; the heavy modules it loaded are the last line."""
    environment = os.environ | {
        "OPTIONS_AGENT_HOME": str(home),
        "OPTIONS_AGENT_BACKTEST__SEED": str(seed),
        "PYTHONPATH": str(REPOSITORY),
    }
    source = f"""
import atexit, sys
atexit.register(lambda: print("loaded:", [name for name in {HEAVY} if name in sys.modules]))
from options_agent.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", source, *words], env=environment, cwd=home, capture_output=True, text=True, check=True)
    return done.stdout


def test_a_backtest_loads_nothing_that_takes_longer_than_itself(home: Path) -> None:
    said = command(home, "backtest", "covered_call", "BTC", seed=2)
    assert "closed_trades" in said or "trades" in said
    assert said.splitlines()[-1] == "loaded: []"


def test_a_picture_is_drawn_when_it_is_asked_for_and_is_the_same_later(home: Path) -> None:
    said = command(home, "backtest", "covered_call", "BTC", seed=3)
    run = next(line for line in said.splitlines() if line.startswith("Picture")).split("report ")[1].split()[0]
    assert not list(home.rglob(f"*{run}.png"))
    command(home, "report", run, "--picture")
    (later,) = (path.read_bytes() for path in home.rglob(f"*{run}.png"))
    assert later.startswith(b"\x89PNG\r\n")
    next(home.rglob(f"*{run}.png")).unlink()
    assert f"{run}.png" in command(home, "backtest", "covered_call", "BTC", "--picture", seed=3), "a run that stands is drawn, too"
    (again,) = (path.read_bytes() for path in home.rglob(f"*{run}.png"))
    assert again == later
