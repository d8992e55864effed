"""The sweep of `sweep.py` on a Dask cluster: workers read the history from the object store and play chunks of the grid."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.grid import configurations
from options_agent.backtest.history import TABLES, History, open_history
from options_agent.backtest.metrics.grid import midnights
from options_agent.backtest.sweep import Numbers, Swept, play_points, result_table
from options_agent.backtest.sweep_summary import SUMMARY
from options_agent.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from options_agent.backtest.grid import Configuration
    from options_agent.settings import Settings
    from options_agent.strategies.rules import Strategy

#: Configurations of one task: a second or so of work.
TASK: Final = 64
#: How often a task is tried again where its worker died.
RETRIES: Final = 5
FILES: Final = (*(f"{name}.bin" for name in TABLES), "instruments.txt", "meta.json")


def sweep_history_on_cluster(
    scheduler: str,
    store: str | None,
    history: History,
    settings: Settings,
    strategy: Strategy,
    grid: Mapping[str, Sequence[Any]],
    features: Mapping[str, NDArray[np.float64]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Swept:
    """Publish a cached history and sweep it on the workers of a scheduler; the result is the local sweep's, byte for byte.

    Args:
        scheduler: `tcp://host:port`.
        store: URL that this machine writes and the workers read, `s3://bucket/histories`; they use the settings of S3 in force.
        history, strategy, grid, features, progress: as for `sweep.sweep`.

    Raises:
        SettingsError: no store, Dask is not installed, no scheduler answers, or the grid is not sound.
    """
    if store is None:
        raise SettingsError(
            "a cluster reads the history from a store", place="--store", remedy="name a URL that all workers reach, s3://..."
        )
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise SettingsError("Dask is not installed here", place="--cluster", remedy="install the extra: options-agent[cluster]") from None
    points = configurations(strategy, settings.backtest, grid)
    folder = settings.home / "cache" / "history" / settings.network / history.underlying / history.fingerprint[:24]
    options = storage_options(settings) if store.startswith("s3:") else {}
    url = publish_history(folder, store, options)
    chunks = [range(first, min(first + TASK, len(points.points))) for first in range(0, len(points.points), TASK)]
    days = midnights(np.ascontiguousarray(history.known_at))
    found = Numbers(
        np.empty((len(points.points), len(SUMMARY))),
        np.empty((2, len(points.points), max(days.size - 1, 0))),
        np.zeros(len(points.points), np.bool_),
    )
    try:
        client = Client(scheduler, timeout=10, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError) as error:
        raise SettingsError(f"no Dask scheduler answers: {error}", place=scheduler, remedy="start one: `dask scheduler`") from error
    with client, client.as_current():
        shared = client.scatter(dict(features), broadcast=True) if features else None  # type: ignore[no-untyped-call]
        tasks = {
            client.submit(play_task, url, options, [points.points[n] for n in chunk], shared, retries=RETRIES, pure=False): chunk
            for chunk in chunks
        }
        done = 0
        for task in as_completed(list(tasks)):  # type: ignore[no-untyped-call]
            chunk = tasks[task]
            found.table[chunk.start : chunk.stop], found.returns[:, chunk.start : chunk.stop] = task.result()
            done += len(chunk)
            if progress is not None:
                progress(done, len(points.points))
    return Swept(result_table(points, found, settings.backtest), found.returns[0].T, found.returns[1].T, days[1:], points)


def play_task(
    url: str, options: dict[str, Any], points: list[Configuration], features: Mapping[str, NDArray[np.float64]] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a worker does: numbers and returns of some configurations."""
    found = play_points(published_history(url, tuple(sorted(options.items()))), points, features, workers=1)
    return found.table, found.returns


def publish_history(folder: Path, store: str, options: Mapping[str, Any]) -> str:
    """Put a cached history below the store, named by its content; what is there already is not sent again. Returns its URL."""
    import fsspec

    files, root = fsspec.core.url_to_fs(f"{store.rstrip('/')}/{folder.name}", **options)
    if not files.exists(f"{root}/meta.json"):  # written last: with it the history is whole
        files.makedirs(root, exist_ok=True)
        for name in FILES:
            files.put_file(str(folder / name), f"{root}/{name}")
    return f"{store.rstrip('/')}/{folder.name}"


@lru_cache(maxsize=4)
def published_history(url: str, options: tuple[tuple[str, Any], ...]) -> History:
    """A published history, brought into this machine's own folder once and mapped."""
    import fsspec

    home = Path(os.environ.get("OPTIONS_AGENT_WORKER_CACHE", Path(tempfile.gettempdir()) / "options-agent-histories"))
    folder = home / url.rsplit("/", 1)[-1]
    if not (folder / "meta.json").is_file():
        files, root = fsspec.core.url_to_fs(url, **dict(options))
        coming = home / f".{folder.name}.{os.getpid()}"
        shutil.rmtree(coming, ignore_errors=True)
        coming.mkdir(parents=True)
        for name in FILES:
            files.get_file(f"{root}/{name}", str(coming / name))
        try:
            coming.rename(folder)
        except OSError:  # another worker of this machine was first
            shutil.rmtree(coming, ignore_errors=True)
    return open_history(folder)


def storage_options(settings: Settings) -> dict[str, Any]:
    """How the store is reached, as fsspec takes it; empty where the settings say nothing of S3."""
    if settings.s3_endpoint_url is None and settings.s3_access_key_id is None:
        return {}
    key, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    return {
        "endpoint_url": settings.s3_endpoint_url,
        "key": key.get_secret_value() if key else None,
        "secret": secret.get_secret_value() if secret else None,
    }
