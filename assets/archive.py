"""Stage archive: judged days in an object store, proven."""

import datetime as dt
from collections.abc import Iterator

import dagster as dg

from assets.quality import CLEAN, QUARANTINED
from assets.shared import ONE_RUN, OWNERS, RETRY, counts, each_partition, fresh, tell_run
from dagster_project.partitions import market_days, underlying_and_day
from resources.desk import Desk


@dg.asset(
    partitions_def=market_days,
    deps=[CLEAN, QUARANTINED],
    group_name="archive",
    owners=OWNERS,
    kinds={"s3", "parquet"},
    retry_policy=RETRY,
    backfill_policy=ONE_RUN,
    freshness_policy=fresh(warn=dt.timedelta(hours=26), fail=dt.timedelta(hours=50)),
)
def archived_quotes(context: dg.AssetExecutionContext, desk: Desk) -> Iterator[dg.MaterializeResult]:
    """Clean and quarantined days in the archive (local folder, S3, GCS), put only if absent, each with SHA-256 in a manifest.

    The compacted raw day joins the day's manifest the next night, when `storage_upkeep` has made it.
    Restored and proven byte for byte by `options-agent archive restore`. Some 10 ms a day locally, 50 ms on S3.
    """
    from options_agent.lake.archive import archive_day

    lake, archive = desk.lake(), desk.archive()
    total = 0
    for key, receipt in each_partition(context, "archive", lambda k: archive_day(lake, archive, *underlying_and_day(k))):
        context.add_asset_metadata(counts(receipt, "rows"), partition_key=key)
        total += receipt.counts["bytes"]
    yield dg.MaterializeResult(metadata={"archive": archive.files.url})
    tell_run(context, lake, "archive", ("quotes", "bytes"), "archived_quotes", bytes=total)


@dg.asset_check(
    asset=archived_quotes, description="The newest archived day of each underlying reads back with the SHA-256 of its manifest."
)
def archive_reads_back(desk: Desk) -> dg.AssetCheckResult:
    """Re-read a little of the archive at every run; `options-agent archive verify` re-reads it all."""
    from options_agent.lake.archive import archived, verify

    archive = desk.archive()
    newest = {underlying: day for underlying, day, _ in sorted(archived(archive), key=lambda entry: entry[1])}
    proofs = [proof for underlying, day in newest.items() for proof in verify(archive, underlying, day)]
    broken = [proof.path for proof in proofs if proof.found != proof.expected]
    return dg.AssetCheckResult(passed=bool(proofs) and not broken, metadata={"objects": len(proofs), "broken": ", ".join(broken) or "none"})
