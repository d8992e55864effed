"""What every stage's assets share: owner, retries, the loop over a run's partitions, pictures as metadata."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import dagster as dg

from options_agent.progress import report_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from options_agent.lake.receipts import Receipt

OWNERS = ["team:desk"]
#: Three more tries, half a minute, a minute, two minutes apart, each jittered so that workers do not come back together.
RETRY = dg.RetryPolicy(max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
ONE_RUN = dg.BackfillPolicy.single_run()


def each_partition(context: dg.AssetExecutionContext, stage: str, work: Callable[[str], Receipt]) -> Iterator[tuple[str, Receipt]]:
    """Do `work` on every partition of the run, in order, telling the terminal how far it is."""
    keys = list(context.partition_keys)
    parts: dict[str, int] = {}
    totals: dict[str, int] = {}
    done: dict[str, int] = {}
    for key in keys:
        totals[key.split("|")[-1]] = totals.get(key.split("|")[-1], 0) + 1
    for key in keys:
        receipt = work(key)
        part = key.split("|")[-1]
        parts[part] = parts.get(part, 0) + rows_of(receipt)
        done[part] = done.get(part, 0) + 1
        report_progress(stage, part, done[part], totals[part], parts[part])
        yield key, receipt


def rows_of(receipt: Receipt) -> int:
    """The rows a receipt counts, by whatever name its stage gives them."""
    return next((receipt.counts[name] for name in ("rows", "rows_in", "quotes", "train") if name in receipt.counts), 0)


def counts(receipt: Receipt) -> dict[str, Any]:
    """A receipt's numbers as metadata; rules that caught nothing are left out."""
    shown = {k: v for k, v in receipt.counts.items() if v or not k.startswith(("rule:", "warn:"))}
    return {k.replace(":", "_"): dg.MetadataValue.int(v) for k, v in shown.items()}


def picture(png: bytes) -> dg.MarkdownMetadataValue:
    """A PNG to look at in the asset's page."""
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(png).decode()})")
