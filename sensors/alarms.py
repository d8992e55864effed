"""Sensors that raise alerts: `gap/{underlying}/{source}` when quotes stop coming, `run/{run}` when a run or a blocking check fails."""

import datetime as dt
import json

import dagster as dg

from dagster_project.failures import failed_steps

_TELLING = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.ASSET_CHECK_EVALUATION}


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Raises alert `gap/{underlying}/{source}`: once when no snapshot came in time, once more when they come again.",
)
def harvest_gap(context: dg.SensorEvaluationContext) -> dg.SkipReason | dg.SensorResult:
    """Look at the newest snapshot of each underlying. Launches no run; what is open is kept beside the desk's state, so that restarts
    repeat nothing. What a long-running harvester wrote, beside the orchestrator, is told to the asset, whose freshness it is.
    """
    from options_agent.alerts.gap_watch import watch_gaps
    from options_agent.alerts.notify import tick
    from options_agent.lake.store import open_lake
    from options_agent.settings import load_settings

    settings, now = load_settings(), dt.datetime.now(dt.UTC)
    lake = open_lake(settings)
    watched = watch_gaps(lake, settings, now)
    tick(settings)
    if not watched:
        return dg.SkipReason(f"source {settings.source!r} is not live: nothing to watch")
    says = "; ".join(f"{w.underlying}: {w.state}" + (f", overdue by {w.overdue}" if w.overdue else "") for w in watched)
    if settings.source == "deribit":
        from options_agent.market.deribit.source import harvester_runs

        known = json.loads(context.cursor) if context.cursor else {}
        newest = {w.underlying: w.newest.isoformat() for w in watched if w.newest and w.newest.isoformat() > known.get(w.underlying, "")}
        if newest and harvester_runs(settings, lake, now):
            told = [_written(underlying, at) for underlying, at in newest.items()]
            return dg.SensorResult(asset_events=told, cursor=json.dumps(known | newest, sort_keys=True), skip_reason=dg.SkipReason(says))
    return dg.SkipReason(says)


def _written(underlying: str, at: str) -> dg.AssetMaterialization:
    """A snapshot that a harvester outside the orchestrator wrote."""
    told = {"newest_snapshot": at, "written_by": "options-agent harvest"}
    return dg.AssetMaterialization("option_quotes", partition=f"{at[:10]}|{underlying}", metadata=told)


@dg.run_failure_sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Raises alert `run/{run}`: a run failed, which a failed blocking check makes it do. Each run is said once.",
    monitor_all_code_locations=True,  # runs of the pipeline, in-process, belong to no code location
)
def run_or_blocking_check_failed(context: dg.RunFailureSensorContext) -> None:
    """Say which steps failed and why, with a link to the run."""
    from options_agent.alerts.gap_watch import run_failed
    from options_agent.settings import load_settings

    settings = load_settings()
    run = context.dagster_run
    url = f"{settings.dagster_url.rstrip('/')}/runs/{run.run_id}" if settings.dagster_url else None
    events = [r.event_log_entry.dagster_event for r in context.instance.get_records_for_run(run.run_id, of_type=_TELLING).records]
    steps = "\n".join(failed_steps(event for event in events if event is not None))
    run_failed(run.job_name, run.run_id, steps or context.failure_event.message or "run failed", url, settings)


SENSORS = [harvest_gap, run_or_blocking_check_failed]
