"""Upkeep of the lake's storage: compaction and retention every night, a restore drill every month."""

import datetime as dt

import dagster as dg

from resources.desk import Desk

_TAGS = {"dagster/max_retries": "2", "dagster/max_runtime": "7200", "dagster/retry_on_asset_or_op_failure": "false"}


@dg.op(
    description="Every raw day before today that still lies in small files becomes one sorted file, verified before they go, and archived."
)
def compact_raw_days(context: dg.OpExecutionContext, desk: Desk) -> None:
    """Compact what is complete and ship it. Some 0.4 s a day of hourly chains, nothing where nothing is new."""
    from options_agent.errors import DataError
    from options_agent.lake.retention import archive_compacted, compact_days
    from options_agent.lake.store import underlyings

    lake, archive, today = desk.lake(), desk.archive(), dt.datetime.now(dt.UTC).date()
    made, shipped, damaged = [], [], []
    for underlying in underlyings(lake, "raw"):
        try:
            made += compact_days(lake, underlying, today)
        except DataError as error:  # of one day; all others are done
            damaged.append(error)
        shipped += archive_compacted(lake, archive, underlying)
    if damaged:
        raise dg.Failure(f"a raw day could not be compacted: {damaged[0]}", allow_retries=False)
    rows, size = sum(record.rows for record in made), sum(record.bytes for record in made)
    context.add_output_metadata({"days": len(made), "rows": rows, "bytes": size, "days_archived": len(shipped)})


@dg.op(
    ins={"after": dg.In(dg.Nothing)},
    description="Local days older than the settings keep them, deleted where the archive, read back, proves to hold them.",
)
def retain_days(context: dg.OpExecutionContext, desk: Desk) -> None:
    """Delete what is proven; a day that is refused stays, is named, and fails the run, so that somebody looks."""
    from options_agent.lake.retention import retain

    lake, archive, settings = desk.lake(), desk.archive(), desk.settings()
    outcomes = retain(lake, archive, settings.retention, dt.datetime.now(dt.UTC).date(), apply=True)
    deleted = [one for one in outcomes if one.verdict == "deleted"]
    refused = [f"{one.due.underlying} {one.due.day}: {one.why}" for one in outcomes if one.verdict == "refused"]
    numbers = {"days_deleted": len(deleted), "bytes_freed": sum(one.due.bytes for one in deleted), "days_refused": len(refused)}
    if refused:
        raise dg.Failure(f"retention refused {len(refused)} days; first: {refused[0]}", metadata=numbers, allow_retries=False)
    context.add_output_metadata(numbers)


@dg.op(description="Some archived days of each underlying, other ones every month, restored to a scratch folder and checked row by row.")
def drill_restore(context: dg.OpExecutionContext, desk: Desk) -> None:
    """Restore, hash, read, compare with the lake; any problem fails the run."""
    from options_agent.lake.drill import drill

    lake, archive = desk.lake(), desk.archive()
    found = drill(lake, archive, dt.datetime.now(dt.UTC).date(), desk.settings().retention.drill_days)
    rows = [
        dg.TableRecord({"day": f"{one.underlying} {one.day}", "rows": one.rows, "lake": one.local, "problems": "; ".join(one.problems)})
        for one in found
    ]
    broken = [f"{one.underlying} {one.day}: {one.problems[0]}" for one in found if one.problems]
    table = {"drilled": dg.MetadataValue.table(rows)} if rows else {}
    if broken:
        raise dg.Failure(f"the restore drill failed for {len(broken)} of {len(found)} days; first: {broken[0]}", metadata=table)
    context.add_output_metadata({"days": len(found), "rows": sum(one.rows for one in found), "archive": archive.files.url, **table})


@dg.job(description="Compact complete raw days, then delete what retention allows and the archive proves.", tags=_TAGS)
def storage_upkeep() -> None:
    """Compact, then retain."""
    retain_days(after=compact_raw_days())


@dg.job(description="Prove that the archive can be restored from.", tags=_TAGS)
def restore_drill() -> None:
    """The drill."""
    drill_restore()


upkeep_nightly = dg.ScheduleDefinition(
    name="upkeep_nightly",
    job=storage_upkeep,
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Yesterday's raw files into one, and what is older than the settings keep it out of the lake.",
)
drill_monthly = dg.ScheduleDefinition(
    name="drill_monthly",
    job=restore_drill,
    cron_schedule="0 4 2 * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="The second of each month: some archived days restored and checked.",
)
