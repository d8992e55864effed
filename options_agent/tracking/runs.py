"""Runs in MLflow: an outbox beside the desk's state, then the server.

Every record is first written to an outbox beside the desk's state, then sent. A server that is down loses
nothing: the record waits and goes with the next call of `sync_pending`. Sending twice makes one run, because a run is
found again by its own key.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from options_agent.durable import write_json
from options_agent.errors import ServiceError
from options_agent.tracking.server import experiment_id, mlflow_of, server_reachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from options_agent.settings import Settings

log = structlog.get_logger(__name__)

KEY_TAG: Final = "options_agent.run"


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """What one run leaves in MLflow.

    Attributes:
        key: identifies the run for ever; the same key is never two runs.
        experiment: experiment name, one per network and strategy family.
        name: what a person reads in the run list.
        params, metrics, tags: as MLflow means them; metrics are finite floats.
        artifacts: files to attach, in the order given.
        note: Markdown shown on the run's page, with the links back.
        start_ms, end_ms: wall-clock times of the work, milliseconds since the epoch.
        parent: key of the run this one is a part of; that one is sent before.
    """

    key: str
    experiment: str
    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifacts: Sequence[str] = ()
    note: str = ""
    start_ms: int | None = None
    end_ms: int | None = None
    parent: str = ""


def track(run: TrackedRun, settings: Settings) -> str | None:
    """Record a run; returns its page's URL, or None when the server is away and the record waits in the outbox."""
    path = _outbox(settings) / f"{run.key}.json"
    write_json(path, asdict(run))
    if not server_reachable(settings):
        log.warning("tracking server is away: the run waits in the outbox", run=run.name, outbox=str(path))
        return None
    try:
        return _send(path, settings)
    except ServiceError as error:
        log.warning("tracking server refused the run: it waits in the outbox", run=run.name, error=str(error))
        return None


def sync_pending(settings: Settings) -> int:
    """Send every record that waits; returns how many went.

    Raises:
        ServiceError: the server is away while records wait, or refused one of them; the rest stays in the outbox.
    """
    waiting = list(pending(settings))
    if not waiting:
        return 0
    if not server_reachable(settings):
        raise ServiceError(
            f"{len(waiting)} tracked runs wait for MLflow",
            place=settings.mlflow_tracking_uri,
            remedy="start the tracking server (`options-agent run` does), then materialize again or call sync_pending",
        )
    for path in waiting:
        _send(path, settings)
    return len(waiting)


def pending(settings: Settings) -> Iterator[Path]:
    """Records that wait in the outbox, oldest name first."""
    yield from sorted(_outbox(settings).glob("*.json"))


def tracked_url(key: str, settings: Settings) -> str | None:
    """URL of the page of a run that was sent, None where it was not."""
    path = _sent(settings) / f"{key}.json"
    return str(json.loads(path.read_text(encoding="utf-8"))["url"]) if path.exists() else None


def _send(path: Path, settings: Settings) -> str:
    """Send one record of the outbox and move it to the sent ones; resumes a run that was cut short."""
    mlflow = mlflow_of(settings)
    entities = mlflow.entities

    run = TrackedRun(**json.loads(path.read_text(encoding="utf-8")))
    missing = [a for a in run.artifacts if not Path(a).is_file()]
    if missing:
        raise ServiceError(f"run {run.name!r} names artifacts that are gone: {missing}", place=str(path), remedy="run the backtest again")
    try:
        client = mlflow.MlflowClient(settings.mlflow_tracking_uri)
        experiment = experiment_id(mlflow, run.experiment)
        run_id = _find_or_create(client, experiment, run)
        stamp = run.end_ms or 0
        client.log_batch(
            run_id,
            metrics=[entities.Metric(k, v, stamp, 0) for k, v in run.metrics.items()],
            params=[entities.Param(k, v[:6_000]) for k, v in run.params.items()],
            tags=[entities.RunTag(k, v[:5_000]) for k, v in run.tags.items()] + [entities.RunTag("mlflow.note.content", run.note)],
        )
        for artifact in run.artifacts:
            client.log_artifact(run_id, artifact)
        client.set_terminated(run_id, "FINISHED", run.end_ms)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise ServiceError(f"MLflow did not take run {run.name!r}: {error}", place=settings.mlflow_tracking_uri) from error
    url = f"{(settings.mlflow_tracking_uri or '').rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"
    write_json(_sent(settings) / path.name, {"run_id": run_id, "experiment_id": experiment, "url": url, "name": run.name})
    path.unlink()
    return url


def _find_or_create(client: Any, experiment: str, run: TrackedRun) -> str:
    found = client.search_runs([experiment], filter_string=f"tags.`{KEY_TAG}` = '{run.key}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    tags = {KEY_TAG: run.key}
    if run.parent:
        above = client.search_runs([experiment], filter_string=f"tags.`{KEY_TAG}` = '{run.parent}'", max_results=1)
        if not above:
            raise ServiceError(f"the run above {run.name!r} was not sent", remedy="send the outbox again: `strategy_comparison` does")
        tags["mlflow.parentRunId"] = str(above[0].info.run_id)
    created = client.create_run(experiment, start_time=run.start_ms, run_name=run.name, tags=tags)
    return str(created.info.run_id)


def _outbox(settings: Settings) -> Path:
    return settings.state_dir / "tracking" / "pending"


def _sent(settings: Settings) -> Path:
    return settings.state_dir / "tracking" / "sent"
