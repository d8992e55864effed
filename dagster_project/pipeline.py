"""`python -m dagster_project.pipeline --start DAY --end DAY`: the whole graph over a range, on DAGSTER_HOME.

Runs are real and seen in the UI; only partitions whose work changed are in them. Underlyings go side by side, a process each
as far as there are cores; every run is in-process. Called by `options-agent run`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import multiprocessing
import os
import sys
import time
from typing import TYPE_CHECKING, Final

import dagster as dg

from dagster_project.definitions import defs
from dagster_project.failures import failed_steps
from dagster_project.leftovers import OWNER_TAG, close_leftovers, owner
from dagster_project.partitions import strategies
from jobs.desk_jobs import ranged
from options_agent.errors import OptionsAgentError
from options_agent.progress import report_progress
from options_agent.settings import load_settings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from options_agent.settings import Settings

_QUIET: Final = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}
_POLL_SECONDS: Final = 0.5

Range = tuple[dt.date, dt.date]


class PipelineError(Exception):
    """A run of the pipeline failed; the message names job, step, partition and cause."""


def main() -> int:
    """Run the pipeline; 0 when every run succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=dt.date.fromisoformat, required=True)
    parser.add_argument("--end", type=dt.date.fromisoformat, required=True, help="inclusive")
    parser.add_argument("--wait-for-tracking", type=float, default=0.0, metavar="SECONDS", help="a tracking server still starting")
    arguments = parser.parse_args()
    logging.getLogger("dagster").setLevel(logging.WARNING)
    try:
        materialize(arguments.start, arguments.end, wait_for_tracking=arguments.wait_for_tracking)
    except (PipelineError, OptionsAgentError) as error:
        print(f"pipeline: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201 the caller shows the last line
        return 1
    return 0


def materialize(start: dt.date, end: dt.date, *, wait_for_tracking: float = 0.0) -> None:
    """Materialize what changed of [start, end], stage after stage.

    Args:
        start, end: days, both inclusive.
        wait_for_tracking: how many seconds a tracking server that is still starting is waited for before backtests.

    Raises:
        PipelineError: a run failed; later stages were not started, finished work is kept.
    """
    settings = load_settings()
    families = settings.underlyings
    with dg.DagsterInstance.get() as instance:
        close_leftovers(instance, settings)
        _prepare_pools(instance)
    worked = _market_data({family: stale_ranges(settings, family, start, end) for family in families})
    days = {"config": {"start": start.isoformat(), "end": end.isoformat()}}
    with dg.DagsterInstance.get() as instance:
        if worked or not _gaps_known(settings):
            _run(instance, "gaps", tags=ranged(families[0], families[-1]))
        else:
            _unchanged("gaps")
        if regimes_stale(settings, start, end):
            _run(instance, "regimes", {"market_regimes": days}, ranged(families[0], families[-1]))
        else:
            _unchanged("regimes")
        if backtests_stale(settings, start, end):
            _await_tracking(settings, wait_for_tracking)
            keys = strategies.get_partition_keys()
            _run(instance, "backtests", {"backtest_results": days}, ranged(keys[0], keys[-1]))
            from options_agent.llm.training import weeks_between

            weeks = weeks_between(start, end)
            _run(instance, "weekly_training", tags=ranged(f"{weeks[0]}-1", f"{weeks[-1]}-1"))
            _run(instance, "comparison")
            return
        _unchanged("backtests", "training")
        if _comparison_due(instance, settings):
            _await_tracking(settings, wait_for_tracking)
            _run(instance, "comparison")


def _prepare_pools(instance: dg.DagsterInstance) -> None:
    """Write the pools' limits before runs start side by side: on Postgres the second of two that write the same one fails."""
    for pool in sorted({pool for node in defs.resolve_job_def("market_data").nodes for pool in node.definition.pools}):
        instance.event_log_storage.initialize_concurrency_limit_to_default(pool)


def stale_ranges(settings: Settings, underlying: str, start: dt.date, end: dt.date) -> list[Range]:
    """Stretches of days whose harvest, verdict or archive is not what it would be now."""
    from options_agent.lake.store import open_lake
    from options_agent.market.harvest import harvest_fingerprint
    from options_agent.market.sources import open_source
    from options_agent.quality.work import day_is_done

    lake, source = open_lake(settings), open_source(settings)
    ranges: list[Range] = []
    for day in (start + dt.timedelta(days=n) for n in range((end - start).days + 1)):
        if day_is_done(lake, underlying, day, settings, harvest_fingerprint(source, underlying, day)):
            continue
        if ranges and day - ranges[-1][1] == dt.timedelta(days=1):
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def regimes_stale(settings: Settings, start: dt.date, end: dt.date) -> bool:
    """Whether any underlying's regimes would come out of other inputs than they did."""
    from options_agent.lake.receipts import read_receipt, unchanged
    from options_agent.lake.store import open_lake
    from options_agent.regimes.label import regimes_fingerprint

    lake = open_lake(settings)
    return not all(
        unchanged(lake, read_receipt(lake, "regimes", u, "all"), regimes_fingerprint(lake, u, start, end)) for u in settings.underlyings
    )


def backtests_stale(settings: Settings, start: dt.date, end: dt.date) -> bool:
    """Whether any strategy's report would come out of other inputs than it did."""
    from options_agent.backtest.runner import backtest_fingerprint
    from options_agent.lake.receipts import read_receipt
    from options_agent.lake.store import open_lake
    from options_agent.strategies.files import played_strategies

    lake = open_lake(settings)
    for underlying in settings.underlyings:
        for strategy in played_strategies(settings).values():
            receipt = read_receipt(lake, "backtest", underlying, strategy.name)
            if receipt is None or receipt.fingerprint != backtest_fingerprint(lake, settings, strategy, underlying, start, end):
                return True
    return False


def _market_data(stale: dict[str, list[Range]]) -> bool:
    """Harvest, judge and archive what is stale, underlyings side by side; whether there was anything."""
    work = {family: ranges for family, ranges in stale.items() if ranges}
    if not work:
        _unchanged("harvest", "quality", "archive")
        return False
    processes = min(len(work), os.cpu_count() or 1)
    # never forked: looking for stale days has started the threads of the file readers, and a fork would wait for them for ever
    context = multiprocessing.get_context("spawn")
    children = []
    for n in range(processes):
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=_market_data_of, args=(dict(list(work.items())[n::processes]), there), daemon=True)
        child.start()
        there.close()
        children.append((child, here))
    problems = []
    for child, here in children:
        try:
            problems.append(here.recv())
        except EOFError:
            child.join()
            problems.append(f"job market_data: its process ended with code {child.exitcode}")
        child.join()
    if failed := [problem for problem in problems if problem]:
        raise PipelineError("; ".join(failed))
    return True


def _market_data_of(work: dict[str, list[Range]], answer: Connection) -> None:
    """In a process of its own: a run for every stretch of days; answers what failed, or nothing."""
    problem = ""
    try:
        with dg.DagsterInstance.get() as instance:
            for family, ranges in work.items():
                for first, last in ranges:
                    _run(
                        instance,
                        "market_data",
                        tags={"quotes": f"{family} {first} to {last}", **ranged(f"{first}|{family}", f"{last}|{family}")},
                    )
    except (PipelineError, OptionsAgentError) as error:
        problem = str(error)
    answer.send(problem)


def _comparison_due(instance: dg.DagsterInstance, settings: Settings) -> bool:
    """Whether runs wait for the tracking server, the prompts changed since they were registered, or no table was made yet."""
    from options_agent.llm.prompts import load_prompt, prompt_names
    from options_agent.tracking.runs import pending

    made = instance.get_latest_materialization_event(dg.AssetKey("strategy_comparison"))
    prompts = instance.get_latest_materialization_event(dg.AssetKey("prompt_versions"))
    if made is None or prompts is None or prompts.asset_materialization is None:
        return True
    if not settings.mlflow_tracking_uri:
        return False
    if any(pending(settings)):
        return True
    known = prompts.asset_materialization.metadata.get("registered_sha256")
    return known is None or known.value != ",".join(load_prompt(name).sha256 for name in prompt_names())


def _gaps_known(settings: Settings) -> bool:
    from options_agent.lake.receipts import read_receipt
    from options_agent.lake.store import open_lake

    return all(read_receipt(open_lake(settings), "gaps", underlying, "all") for underlying in settings.underlyings)


def _await_tracking(settings: Settings, seconds: float) -> None:
    from options_agent.tracking.server import server_reachable

    deadline = time.monotonic() + seconds
    while settings.mlflow_tracking_uri and time.monotonic() < deadline and not server_reachable(settings):
        time.sleep(_POLL_SECONDS)


def _unchanged(*stages: str) -> None:
    for stage in stages:
        report_progress(stage, "all", 1, 1, note="unchanged")


def _run(instance: dg.DagsterInstance, job: str, ops: dict[str, object] | None = None, tags: dict[str, str] | None = None) -> None:
    config: dict[str, object] = {**_QUIET, **({"ops": ops} if ops else {})}
    tags = {**(tags or {}), OWNER_TAG: owner()}
    result = defs.resolve_job_def(job).execute_in_process(instance=instance, run_config=config, tags=tags, raise_on_error=False)
    if not result.success:
        raise PipelineError(f"job {job}, {'; '.join(failed_steps(result.all_events)) or 'failed'} (run {result.run_id})")


if __name__ == "__main__":
    sys.exit(main())
