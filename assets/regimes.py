"""Stage regimes: what the weather was, known at the time."""

import datetime as dt

import dagster as dg

from assets.quality import CLEAN
from assets.shared import ONE_RUN, OWNERS, counts, each_partition, picture
from dagster_project.partitions import underlyings
from resources.desk import Desk


class RangeConfig(dg.Config):
    """Days, both inclusive, `2026-01-31`; every clean day by default."""

    start: str | None = None
    end: str | None = None


@dg.asset(
    partitions_def=underlyings,
    deps=[dg.AssetDep(CLEAN, partition_mapping=dg.MultiToSingleDimensionPartitionMapping("underlying"))],
    group_name="regimes",
    owners=OWNERS,
    kinds={"parquet", "scikitlearn"},
    backfill_policy=ONE_RUN,
)
def market_regimes(context: dg.AssetExecutionContext, desk: Desk, config: RangeConfig) -> dg.MaterializeResult:
    """Trend (bull, bear, sideways) x weather (calm, stormy) at each snapshot, rule-based and learned, from data known then.

    One file per underlying in `lake/{network}/regimes`. Some six seconds a year of six-hourly chains.
    """
    from options_agent.backtest.runner import clean_range
    from options_agent.regimes.label import label_regimes, plot_regimes, read_regimes

    lake = desk.lake()
    for key, receipt in each_partition(context, "regimes", lambda u: label_regimes(lake, u, *days_of(config, clean_range(lake, u)))):
        table = read_regimes(lake, key)
        plot = {"regimes": picture(plot_regimes(table, f"{key} regimes"))} if table is not None and table.num_rows else {}
        context.add_asset_metadata({**counts(receipt), **plot}, partition_key=key)
    return dg.MaterializeResult()


def days_of(config: RangeConfig, everything: tuple[dt.date, dt.date]) -> tuple[dt.date, dt.date]:
    """The configured days, or all there are."""
    start, end = everything
    return dt.date.fromisoformat(config.start) if config.start else start, dt.date.fromisoformat(config.end) if config.end else end
