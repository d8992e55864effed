"""`python -m dagster_project.pipeline --start DAY --end DAY`: the whole graph over a range, in this process, on DAGSTER_HOME.

Runs are real and seen in the UI; only partitions whose work changed are in them. Called by `options-agent run`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import sys
from typing import TYPE_CHECKING

import dagster as dg

from dagster_project.definitions import defs
from dagster_project.partitions import strategies
from jobs.desk_jobs import ranged
from options_agent.errors import OptionsAgentError
from options_agent.progress import report_progress
from options_agent.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from options_agent.settings import Settings

_QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}


class PipelineError(Exception):
    """A run of the pipeline failed; the message names the step and the cause."""


def main() -> int:
    """Run the pipeline; 0 when every run succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=dt.date.fromisoformat, required=True)
    parser.add_argument("--end", type=dt.date.fromisoformat, required=True, help="inclusive")
    arguments = parser.parse_args()
    logging.getLogger("dagster").setLevel(logging.WARNING)
    try:
        materialize(arguments.start, arguments.end)
    except (PipelineError, OptionsAgentError) as error:
        print(f"pipeline: {error}", file=sys.stderr)  # noqa: T201 the caller shows the last line
        return 1
    return 0


def materialize(start: dt.date, end: dt.date) -> None:
    """Materialize what changed of [start, end], stage after stage.

    Raises:
        PipelineError: a run failed; later stages were not started.
    """
    settings = load_settings()
    families = settings.underlyings
    with dg.DagsterInstance.get() as instance:
        for first, last in stale_ranges(settings, start, end):
            _run(instance, "market_data", tags=ranged(f"{first}|{families[0]}", f"{last}|{families[-1]}"))
        days = {"config": {"start": start.isoformat(), "end": end.isoformat()}}
        _run(instance, "gaps", tags=ranged(families[0], families[-1]))
        if regimes_stale(settings, start, end):
            _run(instance, "regimes", {"market_regimes": days}, ranged(families[0], families[-1]))
        else:
            report_progress("regimes", "all", 1, 1, note="unchanged")
        keys = strategies.get_partition_keys()
        if backtests_stale(settings, start, end):
            _run(instance, "backtests", {"backtest_results": days}, ranged(keys[0], keys[-1]))
            from options_agent.llm.training import weeks_between

            weeks = weeks_between(start, end)
            _run(instance, "weekly_training", tags=ranged(f"{weeks[0]}-1", f"{weeks[-1]}-1"))
        else:
            for stage in ("backtests", "training"):
                report_progress(stage, "all", 1, 1, note="unchanged")
        _run(instance, "comparison")


def stale_ranges(settings: Settings, start: dt.date, end: dt.date) -> Iterator[tuple[dt.date, dt.date]]:
    """Runs of days in which some underlying's harvest, verdict or archive is not what it would be now."""
    from options_agent.lake.store import open_lake
    from options_agent.market.sources import open_source
    from options_agent.quality.work import day_is_done

    lake, source = open_lake(settings), open_source(settings)
    stale = [
        day
        for day in (start + dt.timedelta(days=n) for n in range((end - start).days + 1))
        if not all(day_is_done(lake, source, underlying, day, settings) for underlying in settings.underlyings)
    ]
    if not stale:
        for stage in ("harvest", "quality", "archive"):
            report_progress(stage, "all", 1, 1, note="unchanged")
    first = 0
    for i in range(1, len(stale) + 1):
        if i == len(stale) or stale[i] - stale[i - 1] > dt.timedelta(days=1):
            yield stale[first], stale[i - 1]
            first = i


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
    from options_agent.strategies.catalogue import CATALOGUE

    lake = open_lake(settings)
    for underlying in settings.underlyings:
        for strategy in CATALOGUE.values():
            receipt = read_receipt(lake, "backtest", underlying, strategy.name)
            if receipt is None or receipt.fingerprint != backtest_fingerprint(lake, settings, strategy, underlying, start, end):
                return True
    return False


def _run(instance: dg.DagsterInstance, job: str, ops: dict[str, object] | None = None, tags: dict[str, str] | None = None) -> None:
    config: dict[str, object] = {**_QUIET, **({"ops": ops} if ops else {})}
    result = defs.resolve_job_def(job).execute_in_process(instance=instance, run_config=config, tags=tags, raise_on_error=False)
    if result.success:
        return
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            raise PipelineError(f"job {job}, step {event.step_key}: {error.message.strip() if error else 'failed'} (run {result.run_id})")
    raise PipelineError(f"job {job} failed (run {result.run_id})")


if __name__ == "__main__":
    sys.exit(main())
