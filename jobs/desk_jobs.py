"""Jobs and their schedules: the live harvest, the daily judge-and-archive, nightly backtests, weekly training examples."""

import datetime as dt
from typing import Any, Final

import dagster as dg

from assets.archive import archived_quotes
from assets.backtests import backtest_results, joint_book, regime_performance, strategy_comparison
from assets.harvest import harvest_gaps, option_quotes
from assets.quality import CLEAN, QUARANTINED, quality_report
from assets.regimes import market_regimes
from assets.research import ab_tests, pnl_attribution, study_trials
from assets.training import fine_tuned_model, language_model_spend, model_evaluation, prompt_versions, training_examples
from dagster_project.partitions import strategies, strategy_and_underlying
from jobs.storage_jobs import drill_monthly, restore_drill, storage_upkeep, upkeep_nightly
from options_agent.settings import LIVE_SOURCES, load_settings
from options_agent.strategies.files import all_strategies

#: A killed worker's run is marked by the daemon and tried again, a stuck one is ended; a failed step had its own retries.
TAGS = {"dagster/max_retries": "2", "dagster/max_runtime": "3600", "dagster/retry_on_asset_or_op_failure": "false"}
#: A day of the vendor's ticks has gigabytes: a backfill of months goes on for a day, and where it was when it is asked for again.
_PAST = {"dagster/max_runtime": "86400"} if load_settings().source == "tardis" else {}
#: Given with every tick, too: a run request without configuration does not take the job's.
LATEST: Final[dict[str, Any]] = {"ops": {"option_quotes": {"config": {"latest_only": True}}}}

market_job = dg.define_asset_job(
    "market_data",
    selection=dg.AssetSelection.assets(option_quotes, CLEAN, QUARANTINED, archived_quotes),
    description="Harvest, judge and archive days of an underlying. Backfill a range from the UI: it is one run.",
    tags=TAGS | _PAST,
)
harvest_job = dg.define_asset_job(
    "live_harvest",
    selection=dg.AssetSelection.assets(option_quotes),
    description="The newest snapshot of the configured source into today's partition.",
    config=LATEST,
    tags=TAGS,
)
gaps_job = dg.define_asset_job("gaps", description="What is missing.", selection=dg.AssetSelection.assets(harvest_gaps), tags=TAGS)
report_job = dg.define_asset_job(
    "quality_reports",
    selection=dg.AssetSelection.assets(quality_report),
    description="The quality report of each day: page and JSON. Ask for a range from the UI.",
    tags=TAGS,
)
regimes_job = dg.define_asset_job(
    "regimes", description="What the weather was.", selection=dg.AssetSelection.assets(market_regimes), tags=TAGS
)
nightly_job = dg.define_asset_job(
    "gaps_and_regimes",
    selection=dg.AssetSelection.assets(harvest_gaps, market_regimes),
    description="What is missing and what the weather was, up to yesterday.",
    tags=TAGS,
)
backtests_job = dg.define_asset_job(
    "backtests",
    selection=dg.AssetSelection.assets(backtest_results),
    description="Every strategy on every underlying over everything clean.",
    tags=TAGS,
)
comparison_job = dg.define_asset_job(
    "comparison",
    description="Strategies by regime, as joint books and side by side; prompts into the registry.",
    selection=dg.AssetSelection.assets(regime_performance, joint_book, strategy_comparison, prompt_versions),
    tags=TAGS,
)
refresh_job = dg.define_asset_job(
    "weekly_refresh",
    description="A model trained on the weeks so far, judged on those it did not see, and promoted past the gate only.",
    selection=dg.AssetSelection.assets(fine_tuned_model, model_evaluation),
    tags=TAGS,
)
watch_job = dg.define_asset_job(
    "language_model_watch",
    description="Spend of language models, its traces and budgets, and the comparisons of live books.",
    selection=dg.AssetSelection.assets(language_model_spend, ab_tests),
    tags=TAGS,
)
attribution_job = dg.define_asset_job(
    "attribution",
    description="Where the P&L of every current backtest came from.",
    selection=dg.AssetSelection.assets(pnl_attribution),
    tags=TAGS,
)
studies_job = dg.define_asset_job(
    "studies",
    description="Declared studies, to their end or their budget; goes on where it was left. Every evening, where one is unfinished.",
    selection=dg.AssetSelection.assets(study_trials),
    tags=TAGS | {"dagster/max_runtime": "43200"},
)
training_job = dg.define_asset_job(
    "weekly_training",
    description="Decisions of the backtests as examples.",
    selection=dg.AssetSelection.assets(training_examples),
    tags=TAGS,
)


def ranged(start: str, end: str) -> dict[str, str]:
    """Tags that make one run of a range of partitions, both ends inclusive."""
    return {"dagster/asset_partition_range_start": start, "dagster/asset_partition_range_end": end}


_ON: Final[dict[str, Any]] = {"execution_timezone": "UTC", "default_status": dg.DefaultScheduleStatus.RUNNING}


def _names() -> tuple[str, str]:
    families = load_settings().underlyings
    return families[0], families[-1]


@dg.schedule(
    job=harvest_job, cron_schedule="*/15 * * * *", description="The live harvest; a recorded source has nothing new and is skipped.", **_ON
)
def harvest_every_15_minutes(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """The live harvest; a recorded source has nothing new and is skipped."""
    settings = load_settings()
    if settings.source not in LIVE_SOURCES:
        return dg.SkipReason(f"source {settings.source!r} is not live: there is nothing new to harvest")
    if settings.source == "deribit":
        from options_agent.lake.store import open_lake
        from options_agent.market.deribit.source import harvester_runs

        if harvester_runs(settings, open_lake(settings), context.scheduled_execution_time):
            return dg.SkipReason(f"a harvester of region {settings.region!r} is running: it takes this snapshot")
    first, last = _names()
    today = context.scheduled_execution_time.date().isoformat()
    key = f"{context.scheduled_execution_time:%Y%m%dT%H%M}"
    return dg.RunRequest(run_key=key, run_config=LATEST, tags=ranged(f"{today}|{first}", f"{today}|{last}"))


@dg.schedule(
    job=market_job,
    cron_schedule="20 0 * * *",
    description="Yesterday, complete now: harvested to the full, judged into its day files, archived.",
    **_ON,
)
def judge_and_archive_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Yesterday, complete now: harvested to the full, judged into its day files, archived."""
    settings = load_settings()
    if settings.source not in LIVE_SOURCES:
        return dg.SkipReason(f"source {settings.source!r} does not grow; materialize its days by hand or by `options-agent run`")
    first, last = _names()
    yesterday = (context.scheduled_execution_time.date() - dt.timedelta(days=1)).isoformat()
    return dg.RunRequest(run_key=yesterday, tags=ranged(f"{yesterday}|{first}", f"{yesterday}|{last}"))


@dg.schedule(
    job=nightly_job,
    cron_schedule="50 0 * * *",
    description="Gaps and regimes of every underlying in one run, before the backtests read them.",
    **_ON,
)
def regimes_nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Gaps and regimes of every underlying in one run, before the backtests read them."""
    return dg.RunRequest(run_key=f"{context.scheduled_execution_time:%Y%m%d}", tags=ranged(*_names()))


@dg.schedule(job=report_job, cron_schedule="0 1 * * *", description="The quality report of yesterday.", **_ON)
def quality_report_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """The quality report of yesterday."""
    if load_settings().source not in LIVE_SOURCES:
        return dg.SkipReason("the source does not grow; `options-agent quality DAY` writes the report of any day")
    first, last = _names()
    yesterday = (context.scheduled_execution_time.date() - dt.timedelta(days=1)).isoformat()
    return dg.RunRequest(run_key=yesterday, tags=ranged(f"{yesterday}|{first}", f"{yesterday}|{last}"))


@dg.schedule(job=backtests_job, cron_schedule="10 1 * * *", description="Every strategy on every underlying in one run.", **_ON)
def backtests_nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Every strategy on every underlying in one run."""
    settings = load_settings()
    played = settings.strategies or all_strategies(settings)  # the run loads anew: a range that ends at a file gone since is refused
    keys = [key for key in strategies.get_partition_keys() if strategy_and_underlying(key)[0] in played]
    return dg.RunRequest(run_key=f"{context.scheduled_execution_time:%Y%m%d}", tags=ranged(keys[0], keys[-1]))


comparison_nightly = dg.ScheduleDefinition(
    name="comparison_nightly",
    job=comparison_job,
    cron_schedule="40 1 * * *",
    description="Regimes and strategies side by side, prompts registered, what waited for MLflow sent.",
    **_ON,
)


refresh_weekly = dg.ScheduleDefinition(
    name="refresh_weekly",
    job=refresh_job,
    cron_schedule="0 3 * * 1",
    description="A model of the weeks so far, judged on those it did not see.",
    **_ON,
)
watch_hourly = dg.ScheduleDefinition(
    name="watch_hourly",
    job=watch_job,
    cron_schedule="50 * * * *",
    description="Spend and its budgets, traces that wait, comparisons of live books.",
    **_ON,
)


@dg.schedule(job=training_job, cron_schedule="0 2 * * 1", description="The ISO week that ended last night.", **_ON)
def training_weekly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """The ISO week that ended last night."""
    week = f"{context.scheduled_execution_time.date() - dt.timedelta(days=7):%G-W%V-1}"
    return dg.RunRequest(run_key=week, partition_key=week)


@dg.schedule(job=studies_job, cron_schedule="0 22 * * *", description="Studies that are declared and not finished, all night.", **_ON)
def studies_nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Studies that are declared and not finished, all night."""
    from options_agent.research.studies.report import unfinished

    if not unfinished(load_settings()):
        return dg.SkipReason("no study is declared and unfinished; `options-agent study new` declares one")
    return dg.RunRequest(run_key=f"{context.scheduled_execution_time:%Y%m%d}")


JOBS: Final[list[Any]] = [  # of definitions and of selections that become definitions
    market_job,
    harvest_job,
    gaps_job,
    report_job,
    regimes_job,
    nightly_job,
    backtests_job,
    comparison_job,
    training_job,
    attribution_job,
    studies_job,
    refresh_job,
    watch_job,
    storage_upkeep,
    restore_drill,
]
SCHEDULES = [
    harvest_every_15_minutes,
    judge_and_archive_daily,
    regimes_nightly,
    quality_report_daily,
    backtests_nightly,
    comparison_nightly,
    training_weekly,
    refresh_weekly,
    watch_hourly,
    studies_nightly,
    upkeep_nightly,
    drill_monthly,
]
