"""Profile postgres: the whole command with Dagster's runs and MLflow's on a Postgres that the desk starts itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from options_agent.errors import ServiceError
from options_agent.local.postgres import running_postgres
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter: as root, Postgres runs as another."""
    folder = Path(tempfile.mkdtemp(prefix="desk-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _ask(url: str, database: str, query: str) -> list[tuple]:
    connection = psycopg2.connect(f"{url}/{database}")
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()
    finally:
        connection.close()


def test_the_pipeline_runs_on_postgres_from_first_start_to_last_table(open_folder: Path) -> None:
    command = [sys.executable, "-c", "from options_agent.cli.main import main; main()", "run", "--no-stay"]
    environment = os.environ | {
        "OPTIONS_AGENT_HOME": str(open_folder),
        "OPTIONS_AGENT_PROFILE": "postgres",
        "OPTIONS_AGENT_STRATEGIES": '["covered_call","cash_secured_put","short_strangle"]',
    }
    days = ["--start", "2026-11-03", "--end", "2026-11-04"]
    done = subprocess.run([*command, *days], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=420, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "rows harvested" in done.stdout
    with running_postgres(open_folder / "postgres") as url:
        jobs = dict(_ask(url, "dagster", "select pipeline_name, count(*) from runs where status = 'SUCCESS' group by 1"))
        assert {"market_data", "regimes", "backtests", "weekly_training"} <= set(jobs)
        [(tracked,)] = _ask(url, "mlflow", "select count(*) from runs")
        assert tracked == 6
    assert not (open_folder / "mlflow" / "synthetic" / "mlflow.db").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand its folder to another user")
def test_a_folder_that_others_may_not_enter_is_refused_with_the_remedy(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ServiceError, match="OPTIONS_AGENT_HOME"), running_postgres(closed / "postgres"):
        pass
