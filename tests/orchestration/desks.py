"""A desk on disk whose pipeline and sensors run in processes of their own, as they do in earnest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from options_agent.local.environment import environment_of
from options_agent.settings import Settings, load_settings
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

FIRST, LAST = "2026-10-05", "2026-10-06"
#: What the desks of the tests play: the whole catalogue would take minutes.
STRATEGIES = ("covered_call", "cash_secured_put", "short_strangle")


@dataclass
class OrchestratedDesk:
    """Settings, a DAGSTER_HOME with the storage of a profile, and what further variables its processes see."""

    settings: Settings
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def dagster_home(self) -> Path:
        return self.settings.home / "dagster" / self.settings.network

    def prepare(self) -> OrchestratedDesk:
        """Write dagster.yaml of the profile."""
        self.dagster_home.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "deploy" / self.settings.profile / "dagster.yaml", self.dagster_home)
        return self

    def with_settings(self, **changes: Any) -> OrchestratedDesk:
        """The same desk under other settings."""
        return OrchestratedDesk(
            load_settings(
                **{name: getattr(self.settings, name) for name in ("home", "underlyings", "strategies")} | {"_env_file": None} | changes
            ),
            self.variables,
        )

    @property
    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("OPTIONS_AGENT_")}
        return clean | environment_of(self.settings) | {"DAGSTER_HOME": str(self.dagster_home), "PYTHONWARNINGS": "ignore"} | self.variables

    def start_pipeline(self, first: str = FIRST, last: str = LAST) -> subprocess.Popen[str]:
        """The pipeline as `options-agent run` starts it, in a session of its own."""
        command = [sys.executable, "-m", "dagster_project.pipeline", "--start", first, "--end", last]
        return subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def pipeline(self, first: str = FIRST, last: str = LAST) -> tuple[int, str]:
        """Run it to its end: exit code and what it printed."""
        process = self.start_pipeline(first, last)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def python(self, program: str) -> str:
        """What a program prints in a new process of the desk."""
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=REPOSITORY, env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.strip()

    def instance(self) -> dg.DagsterInstance:
        """The desk's instance, from here; use as a context."""
        return dg.DagsterInstance.from_config(str(self.dagster_home))

    def runs(self) -> list[dg.DagsterRun]:
        """Every run, oldest first."""
        with self.instance() as instance:
            return list(instance.get_runs())[::-1]


def desk_at(home: Path, **settings: Any) -> OrchestratedDesk:
    """A prepared synthetic desk below `home`."""
    chosen = {"strategies": STRATEGIES} | settings
    return OrchestratedDesk(load_settings(home=home, _env_file=None, **chosen)).prepare()
