"""Stage backtests: every strategy on every underlying, broken down by regime, side by side."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.quality import CLEAN
from assets.regimes import RangeConfig, days_of, market_regimes
from assets.shared import ONE_RUN, OWNERS, counts, each_partition, picture
from dagster_project.partitions import strategies, strategy_and_underlying
from resources.desk import Desk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from options_agent.lake.receipts import Receipt

_SAME_UNDERLYING = dg.DimensionPartitionMapping("underlying", dg.IdentityPartitionMapping())


@dg.asset(
    partitions_def=strategies,
    deps=[
        dg.AssetDep(CLEAN, partition_mapping=dg.MultiPartitionMapping({"underlying": _SAME_UNDERLYING})),
        dg.AssetDep(market_regimes, partition_mapping=dg.MultiToSingleDimensionPartitionMapping("underlying")),
    ],
    group_name="backtests",
    owners=OWNERS,
    kinds={"python", "numba", "mlflow"},
    backfill_policy=ONE_RUN,
)
def backtest_results(context: dg.AssetExecutionContext, desk: Desk, config: RangeConfig) -> dg.MaterializeResult:
    """A strategy played over the clean history under the exchange's fees and the spread; report, picture and tables.

    Lies in `reports/{network}`, each also a run in MLflow. Ten milliseconds a run once compiled; a run without trades is inconclusive.
    """
    from options_agent.backtest.runner import backtest, clean_range, current_reports
    from options_agent.backtest.uncertainty import above_luck
    from options_agent.strategies.files import find_strategy

    settings, lake = desk.settings(), desk.lake()

    def work(key: str) -> "Receipt":
        name, underlying = strategy_and_underlying(key)
        return backtest(settings, find_strategy(name, settings), underlying, *days_of(config, clean_range(lake, underlying)))[0]

    played: dict[str, Receipt] = {}
    try:
        played.update(each_partition(context, "backtests", work))
    finally:  # what was played is told where a later one failed, too
        luck = above_luck(current_reports(settings))
        for key, receipt in played.items():
            context.add_asset_metadata(_metadata(receipt, luck, context.run_id, desk), partition_key=key)
    return dg.MaterializeResult()


def _metadata(receipt: "Receipt", luck: "Mapping[str, Mapping[str, float]]", run_id: str, desk: Desk) -> dict[str, Any]:
    from pathlib import Path

    from options_agent.backtest.compare import interval_of
    from options_agent.backtest.result import load_report
    from options_agent.tracking.reports import log_backtest

    report = load_report(Path(receipt.details["report"])) | {"path": receipt.details["report"], "plot": receipt.details["plot"]}
    odds = luck.get(report["run"], {})
    url = log_backtest(report, desk.settings(), above_luck=odds, dagster_run_id=run_id)
    headline = {k: report["metrics"][k] for k in ("return_coin", "return_usd", "max_drawdown_coin", "sharpe_coin", "win_rate")}
    spread = {f"{name}_interval": f"{w[0]:.4f} to {w[1]:.4f}" for name in headline if (w := interval_of(report, name))}
    return {
        **counts(receipt),
        **{k: round(float(v), 6) for k, v in headline.items() if v is not None},
        **spread,
        **{f"probabilistic_sharpe_{c}": round(v, 4) for c, v in report["uncertainty"]["probabilistic_sharpe"].items() if v is not None},
        **{k: round(v, 4) for k, v in odds.items()},
        "status": report["status"],
        "why": "; ".join(report["status_reasons"]) or "-",
        "provisos": "; ".join(report.get("provisos", [])) or "-",
        "report": dg.MetadataValue.path(receipt.details["report"]),
        "mlflow": dg.MetadataValue.url(url) if url else "waits in the outbox until MLflow is back",
        "equity": picture(Path(receipt.details["plot"]).read_bytes()),
    }


class SweepConfig(RangeConfig):
    """Which grid is swept; by default some thousand configurations about the strategy's own."""

    grid: list[str] = []  # noqa: RUF012 - Dagster reads the default; each word as `options-agent sweep --grid` takes it


@dg.asset(
    partitions_def=strategies,
    deps=[dg.AssetDep(backtest_results)],
    group_name="backtests",
    owners=OWNERS,
    kinds={"python", "numba", "mlflow"},
    backfill_policy=ONE_RUN,
)
def parameter_sweeps(context: dg.AssetExecutionContext, desk: Desk, config: SweepConfig) -> dg.MaterializeResult:
    """A grid of configurations of a strategy over the clean history, and what the best of them is worth after so many looks.

    Lies in `reports/{network}/sweeps`; in MLflow one run with the best below it. Not nightly: every look is counted, so look on purpose.
    """
    from options_agent.backtest.grid import parse_grid
    from options_agent.backtest.runner import clean_range
    from options_agent.backtest.sweep_runner import run_sweep
    from options_agent.strategies.files import find_strategy
    from options_agent.tracking.reports import log_sweep

    settings = desk.settings()
    for key in context.partition_keys:
        name, underlying = strategy_and_underlying(key)
        span = days_of(config, clean_range(desk.lake(), underlying))
        content, paths = run_sweep(settings, find_strategy(name, settings), underlying, parse_grid(config.grid) or None, *span)
        url = log_sweep(content, str(paths.report), str(paths.table), settings, dagster_run_id=context.run_id)
        figures = {**content["status"], **content["median"], "overfitting": content["overfitting"]}
        numbers = {k: v for k, v in figures.items() if v is not None}
        context.add_asset_metadata(
            {
                "looks": content["looks"],
                **numbers,
                "best": _table([{k: _shown(v) for k, v in row.items()} for row in content["best"]]),
                "report": dg.MetadataValue.path(str(paths.report)),
                "mlflow": dg.MetadataValue.url(url) if url else "waits in the outbox until MLflow is back",
            },
            partition_key=key,
        )
    return dg.MaterializeResult()


@dg.asset_check(asset=backtest_results, description="Every current backtest supports a number; those that do not say why.")
def conclusive(desk: Desk) -> dg.AssetCheckResult:
    """Inconclusive is not a failure of the desk, but no success either."""
    from options_agent.backtest.runner import current_reports

    reports = current_reports(desk.settings())
    why = {f"{r['strategy']['name']} {r['underlying']}": "; ".join(r["status_reasons"]) for r in reports if r["status"] != "ok"}
    return dg.AssetCheckResult(
        passed=bool(reports) and not why, severity=dg.AssetCheckSeverity.WARN, metadata=why or {"reports": len(reports)}
    )


@dg.asset(deps=[backtest_results], group_name="backtests", owners=OWNERS, kinds={"python", "table"})
def regime_performance(desk: Desk) -> dg.MaterializeResult:
    """Each strategy by regime: trades by the regime known at entry, returns by the regime of each step.

    `by_metric` is the headlines by regime, small samples in brackets; every metric is in each run's `regimes.parquet`.
    """
    from options_agent.backtest.heat_page import heat_page
    from options_agent.backtest.runner import current_reports

    reports = current_reports(desk.settings())
    rows = [
        {"strategy": r["strategy"]["name"], "underlying": r["underlying"]}
        | regime
        | {"small_sample": "few trades" * regime["small_sample"]}
        for r in reports
        for regime in r["regimes"]
    ]
    by_metric = dg.MetadataValue.md(heat_page(reports, ("return", "sharpe", "max_drawdown", "win_rate", "average_trade", "exposure")))
    return dg.MaterializeResult(metadata={"rows": len(rows), "by_regime": _table(rows), "by_metric": by_metric})


@dg.asset(deps=[backtest_results], group_name="backtests", owners=OWNERS, kinds={"python", "table"})
def joint_book(desk: Desk) -> dg.MaterializeResult:
    """Each strategy's BTC and ETH runs as one book in USD, half each: return, correlation, and what each contributes to risk.

    Written to `reports/{network}/joint/{strategy}.json`. Pairs that share no time are said and left out.
    """
    from options_agent.backtest.joint_pairs import write_joint_books

    rows, skipped = write_joint_books(desk.settings())
    return dg.MaterializeResult(metadata={"books": len(rows), "joint": _table(rows), "left_out": "; ".join(skipped) or "-"})


@dg.asset(deps=[backtest_results], group_name="backtests", owners=OWNERS, kinds={"python", "table"})
def strategy_comparison(desk: Desk) -> dg.MaterializeResult:
    """Every current run side by side, best Sharpe in coin first, with how many were looked at; sends what waits for MLflow."""
    from options_agent.backtest.compare import comparison
    from options_agent.backtest.runner import current_reports
    from options_agent.tracking.runs import pending, sync_pending
    from options_agent.tracking.server import server_reachable

    settings = desk.settings()
    sent = sync_pending(settings) if server_reachable(settings) else 0
    rows = comparison(current_reports(settings))
    waiting = len(list(pending(settings)))
    return dg.MaterializeResult(
        metadata={"looks": len(rows), "comparison": _table(rows), "mlflow_sent_late": sent, "mlflow_waiting": waiting}
    )


def _shown(value: Any) -> Any:
    """An interval in words; anything else as it is."""
    return f"{value[0]:.3f} to {value[1]:.3f}" if isinstance(value, list) else value


def _table(rows: list[dict[str, Any]]) -> dg.TableMetadataValue | str:
    records = [dg.TableRecord({k: "" if v is None else round(v, 4) if isinstance(v, float) else v for k, v in row.items()}) for row in rows]
    if not records:
        return "no runs yet"
    schema = dg.TableSchema([dg.TableColumn(name, _type(rows, name)) for name in rows[0]])
    return dg.MetadataValue.table(records, schema)


def _type(rows: list[dict[str, Any]], name: str) -> str:
    return "string" if any(isinstance(row[name], str) or row[name] is None for row in rows) else "float"
