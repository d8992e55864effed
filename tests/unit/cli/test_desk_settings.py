"""What a command learns of the desk that runs beside it."""

from __future__ import annotations

import fcntl

import pytest

from options_agent.cli.terminal import desk_settings
from options_agent.durable import write_json
from options_agent.settings import load_settings


def test_a_command_speaks_to_the_running_desks_tracking_server_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    state = load_settings().state_dir
    assert desk_settings().mlflow_tracking_uri is None
    write_json(state / "desk.json", {"pid": 1, "mark": "m", "dagster": "http://127.0.0.1:3", "mlflow": "http://127.0.0.1:5"})
    assert desk_settings().mlflow_tracking_uri is None  # left by one that is gone
    with (state / "desk.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert desk_settings().mlflow_tracking_uri == "http://127.0.0.1:5"
        monkeypatch.setenv("OPTIONS_AGENT_MLFLOW_TRACKING_URI", "http://127.0.0.1:7")
        assert desk_settings().mlflow_tracking_uri == "http://127.0.0.1:7"
