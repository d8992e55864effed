"""Stage quality: clean and quarantined rows, and the checks that stop later stages from eating poison."""

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from assets.harvest import option_quotes
from assets.shared import ONE_RUN, OWNERS, RETRY, counts, drawing, each_partition, fresh, tell_run
from dagster_project.partitions import market_days, underlying_and_day
from resources.desk import Desk

if TYPE_CHECKING:
    from options_agent.lake.receipts import Receipt

CLEAN, QUARANTINED = dg.AssetKey("clean_quotes"), dg.AssetKey("quarantined_quotes")


@dg.multi_asset(
    name="judge_quotes",
    partitions_def=market_days,
    group_name="quality",
    retry_policy=RETRY,
    backfill_policy=ONE_RUN,
    specs=[
        dg.AssetSpec(
            CLEAN,
            deps=[option_quotes],
            owners=OWNERS,
            kinds={"parquet", "pandera"},
            description="Quotes that broke no error-level rule: one sorted, encoded file a day in `lake/{network}/clean`, "
            "IV and greeks computed and flagged where the source had none. Some 200 ms a day.",
            freshness_policy=fresh(warn=dt.timedelta(hours=26), fail=dt.timedelta(hours=50)),
        ),
        dg.AssetSpec(
            QUARANTINED,
            deps=[option_quotes],
            owners=OWNERS,
            kinds={"parquet"},
            description="Rows that a rule caught, with the rule and the reason, one file a day in `lake/{network}/quarantine`. "
            "Rows in = clean + quarantined, always.",
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "rows_in_equal_clean_plus_quarantined", asset=CLEAN, blocking=True, description="Nothing vanishes between raw and judged."
        ),
        dg.AssetCheckSpec("quarantine_rate", asset=CLEAN, blocking=True, description="No day has more in quarantine than settings allow."),
        dg.AssetCheckSpec("every_raw_file_readable", asset=CLEAN, description="No raw file had to be set aside as unreadable."),
    ],
)
def judge_quotes(context: dg.AssetExecutionContext, desk: Desk) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Judge each day's raw quotes by the rules of `options_agent.quality.rules`."""
    from options_agent.quality.judge import judge_each

    settings, lake = desk.settings(), desk.lake()
    total: Counter[str] = Counter()
    worst, unequal = ("", 0.0), []

    receipts = judge_each(lake, [underlying_and_day(key) for key in context.partition_keys], settings=settings)
    for key, receipt in each_partition(context, "quality", lambda _: next(receipts)):
        context.add_asset_metadata(counts(receipt, "clean") | _learnt(receipt), asset_key=CLEAN, partition_key=key)
        context.add_asset_metadata(_quarantined(receipt), asset_key=QUARANTINED, partition_key=key)
        total.update(receipt.counts)
        worst = max(worst, (key, receipt.counts["quarantined"] / max(receipt.counts["rows_in"], 1)), key=lambda pair: pair[1])
        if receipt.counts["rows_in"] != receipt.counts["clean"] + receipt.counts["quarantined"]:
            unequal.append(key)
    yield dg.MaterializeResult(asset_key=CLEAN)
    yield dg.MaterializeResult(asset_key=QUARANTINED)
    tell_run(context, lake, "quality", ("clean", "quarantined"), "clean_quotes", clean=total["clean"], quarantined=total["quarantined"])
    yield from _verdicts(total, worst, unequal, settings.quality.max_quarantine_rate)


def _quarantined(receipt: "Receipt") -> dict[str, int]:
    by_rule = {name.removeprefix("rule:"): n for name, n in receipt.counts.items() if name.startswith("rule:") and n}
    return {"dagster/partition_row_count": receipt.counts["quarantined"], **by_rule}


def _learnt(receipt: "Receipt") -> dict[str, str]:
    """By what thresholds the day was judged where they are not the fixed ones."""
    learnt = receipt.details.get("learnt")
    if not learnt:
        return {}
    points = ", ".join("fixed" if value is None else f"{value:g}" for value in learnt["points"])
    return {"smile_points_by_tenor": f"{points}; learnt from {sum(learnt['rows']):,} rows up to {learnt['until']}"}


def _verdicts(total: Counter[str], worst: tuple[str, float], unequal: list[str], allowed: float) -> Iterator[dg.AssetCheckResult]:
    rules = {k.replace(":", "_"): v for k, v in total.items() if k.startswith("rule:") and v}
    yield dg.AssetCheckResult(
        asset_key=CLEAN,
        check_name="rows_in_equal_clean_plus_quarantined",
        passed=not unequal,
        metadata={
            "rows_in": total["rows_in"],
            "clean": total["clean"],
            "quarantined": total["quarantined"],
            "unequal_days": ", ".join(unequal) or "none",
        },
    )
    yield dg.AssetCheckResult(
        asset_key=CLEAN,
        check_name="quarantine_rate",
        passed=worst[1] <= allowed,
        metadata={"worst_day": worst[0], "worst_rate": worst[1], "allowed": allowed, **rules},
    )
    yield dg.AssetCheckResult(
        asset_key=CLEAN,
        check_name="every_raw_file_readable",
        passed=total["files_set_aside"] == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"files_set_aside": total["files_set_aside"]},
    )


@dg.asset_check(asset=CLEAN, description="The newest clean day of each underlying, read back from disk, fits the schema of clean quotes.")
def newest_day_fits_schema(desk: Desk) -> dg.AssetCheckResult:
    """Every day is held to the schema before it is written; this reads one back."""
    from options_agent.errors import OptionsAgentError
    from options_agent.lake.store import days, read_day, underlyings
    from options_agent.quality.schema import check_quotes

    lake, wrong, rows = desk.lake(), {}, {}
    for underlying in underlyings(lake, "clean"):
        newest = days(lake, "clean", underlying)[-1]
        try:
            table = read_day(lake, "clean", underlying, newest)
            check_quotes(table, place=f"clean {underlying} {newest}", clean=True)
            rows[underlying] = f"{newest}: {table.num_rows} rows"
        except OptionsAgentError as error:
            wrong[underlying] = str(error)
    return dg.AssetCheckResult(passed=bool(rows) and not wrong, metadata=rows | wrong)


@dg.asset(
    partitions_def=market_days,
    deps=[CLEAN, QUARANTINED],
    group_name="quality",
    owners=OWNERS,
    kinds={"python", "html"},
    retry_policy=RETRY,
    backfill_policy=ONE_RUN,
)
def quality_report(context: dg.AssetExecutionContext, desk: Desk) -> dg.MaterializeResult:
    """What is to be believed of each day, as one page and as JSON in `reports/{network}/quality`: rows by rule with the worst of them,
    gaps with their causes, agreement of regions, skew of sweeps, coverage by expiry, thresholds. A second a day.
    """
    from options_agent.quality.day_page import write_day_report

    settings, lake, now = desk.settings(), desk.lake(), dt.datetime.now(dt.UTC)
    told: dict[str, dg.MetadataValue] = {}
    for key, receipt in each_partition(
        context, "quality_report", lambda k: write_day_report(lake, *underlying_and_day(k), settings=settings, now=now)
    ):
        drawn = receipt.details["picture"]
        told = {"page": dg.MetadataValue.path(receipt.details["html"]), **({"coverage": drawing(drawn)} if drawn else {})}
        context.add_asset_metadata({**counts(receipt), **told}, partition_key=key)
    return dg.MaterializeResult(metadata={"last_page": told["page"]} if told else {})
