"""Tracking of experiments and prompts in MLflow, the only module that imports it.

Every record is first written to an outbox beside the desk's state, then sent. A server that is down loses
nothing: the record waits and goes with the next call of `sync_pending`. Sending twice makes one run, because a run is
found again by its own key.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from options_agent.durable import write_json
from options_agent.errors import ServiceError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlflow import MlflowClient

    from options_agent.llm.prompts import Prompt
    from options_agent.settings import Settings

log = structlog.get_logger(__name__)

KEY_TAG: Final = "options_agent.run"
PROMPT_HASH_TAG: Final = "options_agent.sha256"
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"


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


@dataclass(frozen=True, slots=True)
class RegisteredPrompt:
    """A version of a prompt in the registry and the aliases that point at it."""

    name: str
    version: int
    sha256: str
    aliases: tuple[str, ...] = field(default=())


def log_backtest(report: Mapping[str, Any], settings: Settings, *, dagster_run_id: str | None = None) -> str | None:
    """Record a written backtest report as a run of its strategy family's experiment.

    Args:
        report: a report's content with `path` and `plot`, as `backtest.runner.current_reports` gives it.
        settings: the tracking server, the network, where the orchestrator's pages are.
        dagster_run_id: the run that made it, linked both ways.

    Returns:
        The run's URL, or None when it waits in the outbox.
    """
    strategy, provenance = report["strategy"], report["provenance"]
    link = f"{settings.dagster_url.rstrip('/')}/runs/{dagster_run_id}" if settings.dagster_url and dagster_run_id else ""
    start, end = (report["range"][k] for k in ("start", "end"))
    note = [f"**{strategy['name']} on {report['underlying']}**, {start[:10]} to {end[:10]}: {report['status']}.", strategy["in_words"]]
    note += [f"- {reason}" for reason in report["status_reasons"]]
    if link:
        note.append(f"[The Dagster run that made it]({link})")
    rules = {f"{part}.{k}": str(v) for part in ("entry", "exit", "filters") for k, v in strategy[part].items()}
    intervals = report.get("uncertainty", {}).get("intervals", {})
    spread = {f"{name}_{end}": found[n] for name, found in intervals.items() if found for n, end in enumerate(("low", "high"))}
    regimes = {f"regime.{r['regime']}.{k}": r[k] for r in report["regimes"] for k in ("return_coin", "return_usd", "trades", "win_rate")}
    return track(
        TrackedRun(
            key=report["run"],
            experiment=f"{settings.network}/{strategy['family']}",
            name=f"{strategy['name']} {report['underlying']} {start[:10]}..{end[:10]}",
            params={
                "strategy": strategy["name"],
                "underlying": report["underlying"],
                "start": start,
                "end": end,
                "legs": strategy["in_words"],
            }
            | rules
            | {f"costs.{k}": str(v) for k, v in provenance["settings"].items()},
            metrics={k: float(v) for k, v in (report["metrics"] | spread | regimes).items() if v is not None},
            tags={
                "network": settings.network,
                "status": report["status"],
                "data_fingerprint": provenance["data_fingerprint"],
                "code_sha256": provenance["code_sha256"],
                "report": report["path"],
                "dagster.run_id": dagster_run_id or "",
                "dagster.run_url": link,
            },
            artifacts=[report["path"], report["plot"]],
            note="\n\n".join(note),
            start_ms=int(time.time() * 1_000),
            end_ms=int(time.time() * 1_000),
        ),
        settings,
    )


def log_sweep(content: Mapping[str, Any], report: str, table: str, settings: Settings, *, dagster_run_id: str | None = None) -> str | None:
    """Record a written sweep: one run with all its configurations as an artifact, and its best ones as runs below it.

    Args:
        content: as `backtest.sweep_report.sweep_content` gives it; report, table: where it was written.
        settings, dagster_run_id: as for `log_backtest`.

    Returns:
        The sweep's URL, or None when it waits in the outbox.
    """
    strategy, now = content["strategy"], int(time.time() * 1_000)
    start, end = (content["range"][k][:10] for k in ("start", "end"))
    link = f"{settings.dagster_url.rstrip('/')}/runs/{dagster_run_id}" if settings.dagster_url and dagster_run_id else ""
    name = f"{strategy['name']} {content['underlying']} {start}..{end}"
    common = {"strategy": strategy["name"], "underlying": content["underlying"], "start": start, "end": end}
    tags = {"network": settings.network, "data_fingerprint": content["data_fingerprint"], "code_sha256": content["code_sha256"]}
    flat = {"looks": content["looks"], "overfitting": content["overfitting"]} | content["status"]
    flat |= {f"median_{k}": v for k, v in content["median"].items()} | {f"positive_{k}": v for k, v in content["positive"].items()}
    key = f"sweep-{content['sweep']}"
    url = track(
        TrackedRun(
            key=key,
            experiment=f"{settings.network}/sweeps/{strategy['family']}",
            name=f"sweep of {name}",
            params=common | {f"grid.{k}": str(v) for k, v in content["grid"].items()},
            metrics={k: float(v) for k, v in flat.items() if v is not None},
            tags=tags | {"report": report, "dagster.run_url": link},
            artifacts=[report, table],
            note=f"**{content['looks']:,} configurations of {name}.** The best stand below this run; all of them are in the artifact.",
            start_ms=now,
            end_ms=now,
        ),
        settings,
    )
    for rank, row in enumerate(content["best"], 1):
        numbers = {k: v for k, v in row.items() if k not in content["grid"] and isinstance(v, (int, float))}
        track(
            TrackedRun(
                key=f"{key}_{rank:02d}",  # sorts after its parent's, which must be sent first
                experiment=f"{settings.network}/sweeps/{strategy['family']}",
                name=f"{rank} of {content['looks']:,}: {name}",
                params=common | {k: str(row[k]) for k in content["grid"]},
                metrics={k: float(v) for k, v in numbers.items()},
                tags=tags | {"status": row["status"]},
                start_ms=now,
                end_ms=now,
                parent=key,
            ),
            settings,
        )
    return url


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


def server_reachable(settings: Settings, *, timeout: float = 3.0) -> bool:
    """Whether the tracking server answers its health page; `timeout` in seconds."""
    uri = settings.mlflow_tracking_uri
    if not uri:
        return False
    if not uri.startswith(("http://", "https://")):
        return True  # a database URI is opened by the client itself
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=timeout) as answer:  # noqa: S310 the scheme is checked above
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def register_prompts(prompts: Sequence[Prompt], settings: Settings) -> list[RegisteredPrompt]:
    """Register prompt files whose text changed; the first version is champion, later ones challenger.

    Raises:
        ServiceError: the registry is away.
    """
    mlflow = _mlflow(settings)
    if not server_reachable(settings):
        raise ServiceError("the prompt registry is not reachable", place=settings.mlflow_tracking_uri, remedy="start the tracking server")
    client = mlflow.MlflowClient(settings.mlflow_tracking_uri)
    registered = []
    for prompt in prompts:
        latest = _latest_prompt(client, prompt.name)
        if latest is None or latest.tags.get(PROMPT_HASH_TAG) != prompt.sha256:
            version = mlflow.genai.register_prompt(
                name=prompt.name,
                template=[{"role": m.role, "content": m.template} for m in prompt.messages],
                response_format=prompt.response_schema,
                commit_message=f"file content {prompt.sha256[:12]}",
                tags={PROMPT_HASH_TAG: prompt.sha256},
            )
            mlflow.genai.set_prompt_alias(prompt.name, CHAMPION if latest is None else CHALLENGER, int(version.version))
        else:
            version = latest
        found = client.get_prompt_version(prompt.name, version.version)
        registered.append(RegisteredPrompt(prompt.name, int(version.version), prompt.sha256, tuple(sorted(found.aliases or ()))))
    return registered


def _send(path: Path, settings: Settings) -> str:
    """Send one record of the outbox and move it to the sent ones; resumes a run that was cut short."""
    mlflow = _mlflow(settings)
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException

    run = TrackedRun(**json.loads(path.read_text(encoding="utf-8")))
    missing = [a for a in run.artifacts if not Path(a).is_file()]
    if missing:
        raise ServiceError(f"run {run.name!r} names artifacts that are gone: {missing}", place=str(path), remedy="run the backtest again")
    try:
        client = mlflow.MlflowClient(settings.mlflow_tracking_uri)
        experiment = _experiment_id(client, run.experiment)
        run_id = _find_or_create(client, experiment, run)
        stamp = run.end_ms or 0
        client.log_batch(
            run_id,
            metrics=[Metric(k, v, stamp, 0) for k, v in run.metrics.items()],
            params=[Param(k, v[:6_000]) for k, v in run.params.items()],
            tags=[RunTag(k, v[:5_000]) for k, v in run.tags.items()] + [RunTag("mlflow.note.content", run.note)],
        )
        for artifact in run.artifacts:
            client.log_artifact(run_id, artifact)
        client.set_terminated(run_id, "FINISHED", run.end_ms)
    except (MlflowException, OSError) as error:
        raise ServiceError(f"MLflow did not take run {run.name!r}: {error}", place=settings.mlflow_tracking_uri) from error
    url = f"{(settings.mlflow_tracking_uri or '').rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"
    write_json(_sent(settings) / path.name, {"run_id": run_id, "experiment_id": experiment, "url": url, "name": run.name})
    path.unlink()
    return url


def _experiment_id(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException:  # another process of the desk was first
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


def _find_or_create(client: MlflowClient, experiment: str, run: TrackedRun) -> str:
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


def _latest_prompt(client: MlflowClient, name: str) -> Any | None:
    versions = list(client.search_prompt_versions(name)) if client.get_prompt(name) is not None else []
    return max(versions, key=lambda v: int(v.version)) if versions else None


def _mlflow(settings: Settings) -> Any:
    if not settings.mlflow_tracking_uri:
        raise SettingsError(
            "no tracking server is configured",
            place="OPTIONS_AGENT_MLFLOW_TRACKING_URI",
            remedy="set it, or start the desk with `options-agent run`",
        )
    # The catalogue and telemetry would be fetched from outside; a dead server must fail in seconds, not minutes.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_MODEL_CATALOG_URI", "")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    import mlflow
    import mlflow.genai

    mlflow.set_tracking_uri(settings.mlflow_tracking_uri)
    return mlflow


def _outbox(settings: Settings) -> Path:
    return settings.state_dir / "tracking" / "pending"


def _sent(settings: Settings) -> Path:
    return settings.state_dir / "tracking" / "sent"
