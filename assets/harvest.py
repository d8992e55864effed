"""Stage harvest: raw quotes from the configured source, and the holes in them."""

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from assets.shared import ONE_RUN, OWNERS, RETRY, counts, each_partition, fresh_by_schedule, tell_run
from dagster_project.partitions import market_days, underlying_and_day, underlyings
from resources.desk import Desk

if TYPE_CHECKING:
    from options_agent.lake.receipts import Receipt
    from options_agent.market.tardis.backfill import Progress
    from options_agent.market.tardis.days import DayReport


class HarvestConfig(dg.Config):
    """`latest_only` takes the newest snapshot of a live source into today's partition, as the schedule does."""

    latest_only: bool = False


@dg.asset(
    partitions_def=market_days,
    group_name="harvest",
    owners=OWNERS,
    kinds={"parquet", "python"},
    retry_policy=RETRY,
    backfill_policy=ONE_RUN,
    pool="exchange",
    freshness_policy=fresh_by_schedule(),
)
def option_quotes(context: dg.AssetExecutionContext, desk: Desk, config: HarvestConfig) -> Iterator[dg.MaterializeResult]:
    """Raw option chains, one immutable Parquet file per snapshot, with index prices, DVOL and funding beside them.

    Lies in `lake/{network}/raw`. Costs about 10 ms a snapshot; days whose source did not change cost nothing. Past days of the vendor
    Tardis are fetched a few at once, each alone: what is missing there fails the run after all others are done.
    """
    from options_agent.market.harvest import harvest_day, harvest_latest, live_receipt

    source, lake, settings = desk.source(), desk.lake(), desk.settings()
    total = 0
    if config.latest_only and settings.source == "deribit":
        from options_agent.market.deribit.source import harvest_now

        done = harvest_now(settings, lake)
        context.log.info(f"{done.snapshots} snapshots, {done.partial} of them partial, {done.missed} missed")

    vendor = _from_vendor(context, desk) if settings.source == "tardis" and not config.latest_only else {}

    def work(key: str) -> "Receipt":
        underlying, day = underlying_and_day(key)
        if day in vendor:
            if (error := vendor[day].error) is not None:
                raise error
            return vendor[day].receipts[underlying]
        if config.latest_only and settings.source == "deribit":
            return live_receipt(lake, underlying, day)
        live = harvest_latest(source, lake, underlying) if config.latest_only else None
        return live or harvest_day(source, lake, underlying, day)

    for key, receipt in each_partition(context, "harvest", work, go_on=bool(vendor)):
        context.add_asset_metadata(counts(receipt, "rows"), partition_key=key)
        total += receipt.counts["rows"]
    yield dg.MaterializeResult(metadata={"source": source.name, "lake": f"{lake.root}/{lake.network}/raw"})
    tell_run(context, lake, "harvest", ("rows", "snapshots"), "option_quotes", rows=total)


def _from_vendor(context: dg.AssetExecutionContext, desk: Desk) -> "dict[dt.date, DayReport]":
    """Every day of the run through the vendor's backfill, with a line in the log as each moves on."""
    from options_agent.market.tardis.days import backfill_days

    settings, asked = desk.settings(), [underlying_and_day(key) for key in context.partition_keys]
    families = tuple(dict.fromkeys([*settings.underlyings, *(underlying for underlying, _ in asked)]))
    doing: dict[dt.date, str] = {}

    def tell(progress: "Progress") -> None:
        if doing.get(progress.day) != progress.doing.split(" (")[0]:
            doing[progress.day] = progress.doing.split(" (")[0]
            context.log.info(f"{progress.day}: {progress.doing}, {progress.fetched / 1e6:,.1f} MB, {progress.rows:,} ticks")

    return {found.day: found for found in backfill_days(settings, desk.lake(), sorted({day for _, day in asked}), families, told=tell)}


@dg.asset(
    partitions_def=underlyings,
    deps=[dg.AssetDep(option_quotes, partition_mapping=dg.MultiToSingleDimensionPartitionMapping("underlying"))],
    group_name="harvest",
    owners=OWNERS,
    kinds={"python", "table"},
    backfill_policy=ONE_RUN,
)
def harvest_gaps(context: dg.AssetExecutionContext, desk: Desk) -> dg.MaterializeResult:
    """Holes in the harvest: missing intervals, expiries and strikes, each with when it was last and next good, and its cause.

    A year by the hour takes seconds. A gap that another region covers is that region's only; counts are of the lake as a whole.
    """
    from options_agent.quality.gap_report import gaps_receipt

    lake, found, now = desk.lake(), 0, dt.datetime.now(dt.UTC)
    for key, receipt in each_partition(context, "gaps", lambda underlying: gaps_receipt(lake, underlying, desk.settings(), now=now)):
        rows = [dg.TableRecord(row) for row in receipt.details["gaps"][-50:]]
        context.add_asset_metadata({**counts(receipt), **({"gaps_found": dg.MetadataValue.table(rows)} if rows else {})}, partition_key=key)
        found += receipt.counts["gaps"]
    return dg.MaterializeResult(metadata={"gaps_of_run": found})


@dg.asset_check(asset=harvest_gaps, description="No snapshot is missing. A hole stays a warning: what was not harvested live is gone.")
def nothing_missing(desk: Desk) -> dg.AssetCheckResult:
    """The last found gaps of each underlying."""
    from options_agent.lake.receipts import receipts

    missing = {found.underlying: found.counts["missing"] for found in receipts(desk.lake(), "gaps")}
    return dg.AssetCheckResult(passed=not any(missing.values()), severity=dg.AssetCheckSeverity.WARN, metadata=missing)


@dg.asset_check(
    asset=option_quotes, description="The last good snapshot of each underlying is no older than the schedule and its grace allow."
)
def quotes_are_fresh(desk: Desk) -> dg.AssetCheckResult:
    """What `options-agent doctor` and the alerts say too; of a source with an end nothing new is expected."""
    from options_agent.quality.freshness import freshness, worst

    found = freshness(desk.lake(), desk.settings(), dt.datetime.now(dt.UTC))
    rows = [
        dg.TableRecord(
            {
                "underlying": one.underlying,
                "source": one.source,
                "region": one.region,
                "newest": one.newest.isoformat() if one.newest else "never",
                "age_minutes": round(one.age.total_seconds() / 60, 1) if one.age else 0.0,
                "allowed_minutes": one.allowed.total_seconds() / 60 if one.allowed else "any",
                "state": one.state,
            }
        )
        for one in found
    ]
    expected = [one for one in found if one.allowed is not None or one.state == "never"]
    state = worst(expected) if expected else "fresh"
    table = {"freshness": dg.MetadataValue.table(rows)} if rows else {}
    return dg.AssetCheckResult(
        passed=state == "fresh",
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"worst": state, **table},
    )


@dg.asset_check(
    asset=option_quotes, description="Regions of the source have the same snapshots, know them in time, and tell the same marks."
)
def regions_agree(desk: Desk) -> dg.AssetCheckResult:
    """The last grid times of a live source, see `regions.watched_intervals`; opens and closes alert `regions/{underlying}/{source}`."""
    from options_agent.alerts.region_watch import watch_regions

    found = watch_regions(desk.lake(), desk.settings(), dt.datetime.now(dt.UTC))
    return dg.AssetCheckResult(
        passed=not found, severity=dg.AssetCheckSeverity.WARN, metadata={f"{one.underlying}_{n}": str(one) for n, one in enumerate(found)}
    )
