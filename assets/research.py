"""Stage research: where P&L came from, and studies that search in the open."""

import dagster as dg

from assets.backtests import backtest_results
from assets.shared import OWNERS
from resources.desk import Desk


@dg.asset(deps=[backtest_results], group_name="research", owners=OWNERS, kinds={"python", "parquet", "html"})
def pnl_attribution(context: dg.AssetExecutionContext, desk: Desk) -> dg.MaterializeResult:
    """P&L of every current backtest by greeks, costs, funding and settlement; sums to the ledger. Pages lie beside the reports."""
    from options_agent.backtest.runner import current_reports
    from options_agent.research.attribution.report import attribute_strategy
    from options_agent.strategies.files import find_strategy

    settings, rows = desk.settings(), []
    for report in current_reports(settings):
        name, underlying = report["strategy"]["name"], report["underlying"]
        content, paths = attribute_strategy(settings, find_strategy(name, settings), underlying)
        told = {key: f"{value:+.5f}" for key, value in content["total"].items()}
        rows.append({"run": f"{name} {underlying}", "change": f"{content['change']:+.5f}", **told, "page": str(paths.page)})
        context.log.info("%s %s: residual %.2f %%", name, underlying, 100 * content["residual_share"])
    records = [dg.TableRecord(row) for row in rows]
    return dg.MaterializeResult(metadata={"runs": len(rows), "by_component": dg.MetadataValue.table(records) if records else "none"})


NO_NUMBERS = {"spa_consistent": "-", "overfitting": "-"}


class StudyConfig(dg.Config):
    """Which studies go on, and for how long each."""

    names: list[str] = []  # noqa: RUF012 - Dagster reads the default; all that are declared and not finished
    seconds: float | None = None


@dg.asset(deps=[backtest_results], group_name="research", owners=OWNERS, kinds={"python", "optuna", "openai", "mlflow"})
def study_trials(desk: Desk, config: StudyConfig) -> dg.MaterializeResult:
    """Declared studies, run to their end or their budget, and judged with every look counted.

    Declare one with `options-agent study new`. A run that was killed goes on where it was. One that cannot go on (costs or quotes changed,
    a ledger was touched) keeps no other from running; the step fails when all had their turn. The holdout is never touched here.
    """
    from options_agent.errors import OptionsAgentError
    from options_agent.research.studies.declaration import studies
    from options_agent.research.studies.report import run_each, unfinished

    settings, rows, stuck = desk.settings(), [], []
    for name, ended in run_each(config.names or studies(settings), settings, seconds=config.seconds):
        if isinstance(ended, OptionsAgentError):
            rows.append(dg.TableRecord({"study": name, "state": "cannot go on", "looks": "-", **NO_NUMBERS, "verdict": str(ended)}))
            stuck += [f"{name}: {ended}"] if name in unfinished(settings) else []
            continue
        found = ended.verdict
        numbers = {n: "-" if found is None or (v := getattr(found, n)) is None else f"{v:.3f}" for n in ("spa_consistent", "overfitting")}
        told = "-" if found is None else found.words
        rows.append(dg.TableRecord({"study": name, "state": ended.why, "looks": ended.state.looks, **numbers, "verdict": told}))
    metadata = {"studies": len(rows), "leaderboards": dg.MetadataValue.table(rows) if rows else "none declared"}
    if stuck:
        raise dg.Failure("; ".join(stuck), metadata=metadata, allow_retries=False)
    return dg.MaterializeResult(metadata=metadata)


@dg.asset(group_name="research", owners=OWNERS, kinds={"python", "jsonl"})
def ab_tests(desk: Desk) -> dg.MaterializeResult:
    """Every declared comparison of live (paper) books, looked at once more: intervals that stay valid however often one looks."""
    from options_agent.errors import DataError
    from options_agent.research.ab.declaration import comparisons, load
    from options_agent.research.ab.report import words, write_report

    settings, rows = desk.settings(), []
    for name in comparisons(settings):
        one = load(name, settings)
        try:
            found, path = write_report(one, settings)
        except DataError as error:
            rows.append(dg.TableRecord({"comparison": name, "verdict": "cannot be judged", "says": str(error), "report": "-"}))
            continue
        rows += [dg.TableRecord({"comparison": name, "verdict": s.verdict, "says": words(s, one), "report": str(path)}) for s in found]
    return dg.MaterializeResult(metadata={"comparisons": len(rows), "standings": dg.MetadataValue.table(rows) if rows else "none declared"})
