"""The pipeline on recorded chains: every stage in real runs, both underlyings side by side."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from options_agent.lake.receipts import receipts
from options_agent.lake.store import open_lake
from options_agent.local.environment import environment_of
from options_agent.settings import load_settings
from tests.conftest import REPOSITORY
from tests.orchestration.desks import STRATEGIES


@pytest.mark.data
@pytest.mark.slow
def test_two_recorded_days_go_from_file_to_report(market_data: Path, tmp_path: Path) -> None:
    settings = load_settings(
        home=tmp_path / "home",
        source="recorded",
        network="mainnet",
        recorded={"path": market_data / "deribit_6h_2026" / "raw_csv", "prices": market_data / "prices"},
        strategies=STRATEGIES,
        _env_file=None,
    )
    folder = tmp_path / "dagster"
    folder.mkdir()
    shutil.copy(REPOSITORY / "deploy" / "local" / "dagster.yaml", folder)
    command = [sys.executable, "-W", "ignore", "-m", "dagster_project.pipeline", "--start", "2026-02-01", "--end", "2026-02-02"]
    environment = os.environ | environment_of(settings) | {"DAGSTER_HOME": str(folder)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lake = open_lake(settings)
    for underlying in ("BTC", "ETH"):
        judged = {r.partition: r.counts for r in receipts(lake, "quality", underlying)}
        assert judged["2026-02-01"]["snapshots"] == 2
        assert judged["2026-02-01"]["rows_in"] == judged["2026-02-01"]["clean"] + judged["2026-02-01"]["quarantined"] > 1_000
        assert len(receipts(lake, "backtest", underlying)) == len(STRATEGIES)
