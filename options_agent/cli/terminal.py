"""The console every command prints to, and the settings of commands that want the running desk's servers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from options_agent.settings import Settings

#: Where no terminal says how wide it is (a pipe, a log), tables get this many columns.
WIDE = 132


def console_of(*, stderr: bool = False) -> Console:
    """A console without guessing at highlights; wide where its output is not a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(highlight=False, stderr=stderr, width=None if stream.isatty() else WIDE)


def desk_settings() -> Settings:
    """Settings, with the tracking server of the desk that runs in this home and network, where none is named."""
    from options_agent.local.services import running_desk
    from options_agent.settings import load_settings

    settings = load_settings()
    desk = None if settings.mlflow_tracking_uri else running_desk(settings)
    return settings.model_copy(update={"mlflow_tracking_uri": desk["mlflow"]}) if desk and desk.get("mlflow") else settings


def spare_pandas() -> None:
    """Let Arrow believe that pandas is not installed: it imports it (0.2 s) to ask whether the first array it makes is a pandas one.

    For commands that have no use for pandas, and end with their process.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    class Nowhere:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name == "pandas":
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, Nowhere)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(Nowhere)
