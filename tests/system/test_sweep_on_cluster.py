"""A sweep on a Dask cluster of two worker processes, one of them killed in the middle, is the local sweep to the last byte."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from options_agent.backtest import cluster
from options_agent.backtest.history import History, build_history
from options_agent.backtest.sweep import sweep
from options_agent.errors import SettingsError
from options_agent.lake.root import open_lake
from options_agent.lake.store import write_day, write_series
from options_agent.series import PRICE_SCHEMA
from options_agent.settings import Settings, load_settings
from tests.chains import DAY, as_clean, chain_day
from tests.servers.dask import DaskCluster, dask_cluster
from tests.servers.s3 import S3Server
from tests.unit.backtest.worlds import weekly_call

GRID = {
    "legs.0.target": [round(0.05 + 0.02 * n, 2) for n in range(16)],
    "exit.take_profit": [0.2, 0.4, 0.6, None],
    "costs.crossing": [0.0, 0.5, 1.0],
}


@pytest.fixture
def two_workers(tmp_path: Path) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path, {"OPTIONS_AGENT_WORKER_CACHE": str(tmp_path / "histories")}) as cluster:
        yield cluster


@pytest.fixture
def desk(tmp_path: Path, own_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A desk with four clean days, whose object store is a real server."""
    monkeypatch.setenv("OPTIONS_AGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPTIONS_AGENT_S3_ENDPOINT_URL", own_s3_server.endpoint)
    monkeypatch.setenv("OPTIONS_AGENT_S3_ACCESS_KEY_ID", own_s3_server.access_key)
    monkeypatch.setenv("OPTIONS_AGENT_S3_SECRET_ACCESS_KEY", own_s3_server.secret_key)
    return load_settings(_env_file=None)


@pytest.fixture
def history(desk: Settings) -> History:
    import datetime as dt

    import pyarrow as pa

    lake = open_lake(desk)
    for n in range(4):
        day = DAY + dt.timedelta(days=n)
        write_day(lake, "clean", "BTC", day, as_clean(pa.concat_tables(chain_day(day, hours=24))))
        noon = dt.datetime.combine(day, dt.time(8), dt.UTC)
        rows = [{"ts": noon, "underlying": "BTC", "price": 85_000.0 + 300 * n, "kind": "index", "source": "test"}]
        write_series(lake, "prices", "BTC", day, pa.Table.from_pylist(rows, schema=PRICE_SCHEMA))
    return build_history(lake, "BTC", DAY, DAY + dt.timedelta(days=3), desk)


def test_a_worker_killed_in_the_middle_costs_nothing(
    two_workers: DaskCluster, desk: Settings, history: History, own_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "TASK", 4)
    local = sweep(history, weekly_call(), GRID, desk.backtest)
    assert len(set(local.table["return_coin"].to_pylist())) > 5
    killed = threading.Event()

    def progress(done: int, total: int) -> None:
        if not killed.is_set() and 0 < done < total:
            two_workers.workers[0].send_signal(signal.SIGKILL)
            killed.set()

    store = f"s3://{own_s3_server.bucket}/histories"
    swept = cluster.sweep_history_on_cluster(two_workers.address, store, history, desk, weekly_call(), GRID, progress=progress)
    assert killed.is_set()
    assert two_workers.workers[0].wait(30) == -signal.SIGKILL
    assert swept.table.equals(local.table)
    for name in ("returns_coin", "returns_usd", "days"):
        np.testing.assert_array_equal(getattr(swept, name), getattr(local, name))


def test_what_a_cluster_needs_is_said(desk: Settings, history: History) -> None:
    with pytest.raises(SettingsError, match="from a store"):
        cluster.sweep_history_on_cluster("tcp://127.0.0.1:9", None, history, desk, weekly_call(), GRID)
    with pytest.raises(SettingsError, match="no Dask scheduler"):
        cluster.sweep_history_on_cluster("tcp://127.0.0.1:9", str(desk.home / "store"), history, desk, weekly_call(), GRID)
