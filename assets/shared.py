"""What every stage's assets share: owner, retries, freshness, the loop over a run's partitions, pictures as metadata."""

from __future__ import annotations

import base64
import datetime as dt
from collections import Counter
from typing import TYPE_CHECKING, Any

import dagster as dg

from options_agent.errors import BudgetError, DataError, OptionsAgentError, SettingsError
from options_agent.progress import report_progress
from options_agent.settings import LIVE_SOURCES, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from options_agent.lake.receipts import Receipt
    from options_agent.lake.store import Lake

OWNERS = ["team:desk"]
#: Three more tries, 5, 10 and 20 seconds apart, each jittered so that workers do not come back together.
RETRY = dg.RetryPolicy(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
ONE_RUN = dg.BackfillPolicy.single_run()
#: A second try would find the same: the data, the settings or the limit must change first.
_FINAL = (DataError, SettingsError, BudgetError)
_DAYS_DRAWN = 180


def fresh(warn: dt.timedelta, fail: dt.timedelta) -> dg.FreshnessPolicy | None:
    """How old an asset may grow; None where the configured source has an end, and so nothing new to expect."""
    return dg.FreshnessPolicy.time_window(fail_window=fail, warn_window=warn) if load_settings().source in LIVE_SOURCES else None


def fresh_by_schedule() -> dg.FreshnessPolicy | None:
    """As `quality.freshness` has it: warn where quotes are late, fail where they are stale."""
    settings = load_settings()
    late = dt.timedelta(minutes=settings.live_interval_minutes + settings.alerts.gap_grace_minutes)
    stale = late + settings.freshness.stale_intervals * dt.timedelta(minutes=settings.live_interval_minutes)
    return fresh(warn=late, fail=stale)


def each_partition(
    context: dg.AssetExecutionContext, stage: str, work: Callable[[str], Receipt], *, go_on: bool = False
) -> Iterator[tuple[str, Receipt]]:
    """Do `work` on every partition of the run, in order, telling the terminal how far it is.

    With `go_on` a partition that fails leaves the others be: they are done and recorded as materialized before the run fails.

    Raises:
        dg.Failure: a partition failed; the message names it, and what no second try would mend is not tried again.
    """
    failed: dict[str, OptionsAgentError] = {}
    recorded: dict[str, Receipt] = {}
    totals = Counter(key.split("|")[-1] for key in context.partition_keys)
    done: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    for key in context.partition_keys:
        try:
            receipt = work(key)
        except OptionsAgentError as error:
            if not go_on:
                raise dg.Failure(f"{stage} {key}: {error}", allow_retries=not isinstance(error, _FINAL)) from error
            failed[key] = error
            continue
        part = key.split("|")[-1]
        done[part] += 1
        rows[part] += rows_of(receipt)
        report_progress(stage, part, done[part], totals[part], rows[part])
        recorded[key] = receipt
        yield key, receipt
    if failed:
        for key, receipt in recorded.items():  # the run's own materialization is of all its partitions or of none
            context.log_event(dg.AssetMaterialization(context.asset_key, partition=key, metadata=counts(receipt)))
        first, cause = next(iter(failed.items()))
        others = f"; and {len(failed) - 1} others: {', '.join(list(failed)[1:6])}" if len(failed) > 1 else ""
        retry = any(not isinstance(one, _FINAL) for one in failed.values())
        raise dg.Failure(f"{stage} {first}: {cause}{others}; {len(recorded)} partitions are done", allow_retries=retry) from cause


def _part(key: str) -> str:
    """What progress is told by: the underlying of a two-part key, everything together of a plain one."""
    return key.split("|")[1] if "|" in key else "all"


def rows_of(receipt: Receipt) -> int:
    """The rows a receipt counts, by whatever name its stage gives them."""
    return next((receipt.counts[name] for name in ("rows", "rows_in", "quotes", "train") if name in receipt.counts), 0)


def counts(receipt: Receipt, rows: str | None = None) -> dict[str, Any]:
    """A receipt's numbers as metadata; rules that caught nothing are left out. `rows` names the count of the partition's rows."""
    shown = {k: v for k, v in receipt.counts.items() if v or not k.startswith(("rule:", "warn:"))}
    row_count = {"dagster/partition_row_count": dg.MetadataValue.int(receipt.counts[rows])} if rows else {}
    return row_count | {k.replace(":", "_"): dg.MetadataValue.int(v) for k, v in shown.items()}


def tell_run(context: dg.AssetExecutionContext, lake: Lake, stage: str, names: tuple[str, ...], asset: str, **numbers: str | int) -> None:
    """Observe, once for the whole run, what it worked on, its totals, and a picture of the stage's last months.

    After the materializations, so that the asset's page shows it beside the newest of them.
    """
    from options_agent.lake.plot import plot_by_day
    from options_agent.lake.receipts import receipts

    keys = context.partition_keys
    if len({key.split("|")[0] for key in keys}) < 2:  # the schedules' runs, of one day, draw nothing
        return
    pictures = {
        f"{underlying}_by_day": picture(plot_by_day(receipts(lake, stage, underlying)[-_DAYS_DRAWN:], names, f"{underlying}, {stage}"))
        for underlying in dict.fromkeys(key.split("|")[-1] for key in keys)
    }
    run = {"partitions": f"{keys[0]} to {keys[-1]} ({len(keys)})", **numbers, **pictures}
    context.log_event(dg.AssetObservation(asset, description="the run as a whole", metadata=run))


def picture(png: bytes) -> dg.MarkdownMetadataValue:
    """A PNG to look at in the asset's page."""
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(png).decode()})")


def drawing(svg: str) -> dg.MarkdownMetadataValue:
    """An SVG to look at in the asset's page."""
    return dg.MetadataValue.md(f"![drawing](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")
