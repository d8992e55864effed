"""Stage training: decisions as examples, and the prompts they are rendered with."""

from typing import Literal

import dagster as dg
from pydantic import Field

from assets.backtests import backtest_results
from assets.shared import ONE_RUN, OWNERS, counts, each_partition
from dagster_project.partitions import week_of, weeks
from resources.desk import Desk


@dg.asset(
    partitions_def=weeks,
    deps=[dg.AssetDep(backtest_results, partition_mapping=dg.AllPartitionMapping())],
    group_name="training",
    owners=OWNERS,
    kinds={"jsonl", "python"},
    backfill_policy=ONE_RUN,
)
def training_examples(context: dg.AssetExecutionContext, desk: Desk) -> dg.MaterializeResult:
    """A week's decisions of the backtests as chat JSONL, split by time, deduplicated; outcomes in a file of their own.

    Lies in `lake/{network}/training`, with a datasheet and a hash. A second or two a week.
    """
    from options_agent.llm.decisions import build_week

    settings = desk.settings()
    for key, receipt in each_partition(context, "training", lambda k: build_week(settings, week_of(k))):
        context.add_asset_metadata(
            {**counts(receipt), "sha256": receipt.details["sha256"], "datasheet": receipt.details}, partition_key=key
        )
    return dg.MaterializeResult()


class FineTuning(dg.Config):
    """What to train on and from."""

    weeks: list[str] = Field(default=[], description="ISO weeks; all that are written by default")
    label: Literal["expert", "hindsight", "live"] = Field(default="expert", description="what an example answers with")
    base: str = Field(default="desk-rules", description="model to start from")


@dg.asset(
    deps=[dg.AssetDep(training_examples, partition_mapping=dg.AllPartitionMapping())],
    group_name="training",
    owners=OWNERS,
    kinds={"python", "openai"},
)
def fine_tuned_model(context: dg.AssetExecutionContext, config: FineTuning, desk: Desk) -> dg.MaterializeResult:
    """A model fine-tuned on weeks of decisions, the latest held out; `options-agent train` is the same.

    Lies on the model server; the job in `{home}/models/{network}/tunes`. Half a minute on two cores with the embedded server.
    """
    from options_agent.llm.fine_tuning import fine_tune
    from options_agent.llm.shutdowns import alarm_shutdowns

    settings = desk.settings()
    ending = alarm_shutdowns(settings, (config.base,))
    tune = fine_tune(settings, config.weeks or None, label=config.label, base=config.base, progress=context.log.info)
    if tune.status != "succeeded":
        raise dg.Failure(f"job {tune.job or tune.key} {tune.status}: {tune.reason}", allow_retries=False)
    return dg.MaterializeResult(
        metadata={
            "model": tune.model,
            "data_sha256": tune.data_sha256,
            "job": tune.job,
            "examples": tune.examples,
            "weeks": ", ".join(tune.weeks),
            "held_out": ", ".join(tune.held_out),
            "metrics": dict(tune.metrics),
            "datasheet": tune.datasheet,
            "ending": ", ".join(f"{e.what} on {e.on}" for e in ending),
        }
    )


class EvaluationConfig(dg.Config):
    """How much is asked, and what of the challenger."""

    most: int = Field(default=400, description="held-out decisions at most")
    margin: float = Field(default=0.0, description="how much less regret than the champion, coin a decision")
    promote: bool = Field(default=True, description="make the challenger champion where the gate lets it pass")


@dg.asset(deps=[fine_tuned_model], group_name="training", owners=OWNERS, kinds={"python", "openai", "mlflow"})
def model_evaluation(context: dg.AssetExecutionContext, config: EvaluationConfig, desk: Desk) -> dg.MaterializeResult:
    """Base, trained, rule-based and never-trading on the same held-out decisions: regret, agreement, P&L played; and the gate.

    In MLflow a run a model below experiment `{network}/evaluation`; `options-agent evaluate` is the same.
    """
    from options_agent.llm.evaluation.evaluate import evaluate, promote_model
    from options_agent.llm.evaluation.gate import Gate
    from options_agent.llm.evaluation.scores import as_row

    settings = desk.settings()
    found = evaluate(settings, most=config.most, gate=Gate(margin=config.margin), progress=context.log.info)
    passed = found.passage is not None and found.passage.passed
    champion = promote_model(settings, found) if passed and config.promote else found.champion
    scores = dg.MetadataValue.table([dg.TableRecord(as_row(s)) for s in found.scores])
    lacking = "; ".join(found.passage.lacking) if found.passage is not None else "no challenger"
    gate = "passed" if passed else lacking
    told: dict[str, dg.RawMetadataValue] = {
        "decisions": found.decisions,
        "weeks": ", ".join(found.weeks),
        "champion": champion,
        "gate": gate,
    }
    return dg.MaterializeResult(metadata={**told, "scores": scores, "report": dg.MetadataValue.path(found.report)})


@dg.asset(group_name="training", owners=OWNERS, kinds={"python", "mlflow"})
def language_model_spend(desk: Desk) -> dg.MaterializeResult:
    """What calls of language models cost, by feature and model; sends traces; alerts at 80 % of a budget, and before a model ends."""
    from options_agent.errors import ServiceError, SettingsError
    from options_agent.llm.evaluation.evaluate import champion_model
    from options_agent.llm.shutdowns import alarm_shutdowns
    from options_agent.llm.spend import spent
    from options_agent.llm.spend_watch import watch_budgets
    from options_agent.llm.traces import send_traces

    settings = desk.settings()
    try:
        traces: int | str = send_traces(settings)
    except (ServiceError, SettingsError) as error:
        traces = str(error)
    rows = [dg.TableRecord(row) for row in spent(settings, ("feature", "model"))]
    total = sum(row["cost_usd"] for row in spent(settings))
    near = ", ".join(watch_budgets(settings)) or "-"
    try:
        ending = ", ".join(f"{e.what} on {e.on}" for e in alarm_shutdowns(settings, (champion_model(settings),))) or "-"
    except (ServiceError, SettingsError) as error:
        ending = str(error)
    told: dict[str, dg.RawMetadataValue] = {"usd": total, "traces_sent": traces, "nearly_used": near, "ending": ending}
    return dg.MaterializeResult(metadata={**told, "by": dg.MetadataValue.table(rows) if rows else "no call yet"})


@dg.asset(group_name="training", owners=OWNERS, kinds={"mlflow", "markdown"})
def prompt_versions(desk: Desk) -> dg.MaterializeResult:
    """Prompts of `options_agent/llm/prompts` in MLflow's registry: a changed file is a new version; the first is champion."""
    from options_agent.errors import ServiceError, SettingsError
    from options_agent.llm.prompts import load_prompt, prompt_names
    from options_agent.llm.registry import register_prompts

    prompts = [load_prompt(name) for name in prompt_names()]
    try:
        registered = register_prompts(prompts, desk.settings())
    except (ServiceError, SettingsError) as error:
        return dg.MaterializeResult(metadata={"registered": 0, "missing": str(error), "prompts": ", ".join(p.name for p in prompts)})
    rows = [
        dg.TableRecord({"name": p.name, "version": p.version, "aliases": ", ".join(p.aliases), "sha256": p.sha256[:12]}) for p in registered
    ]
    return dg.MaterializeResult(
        metadata={
            "registered": len(rows),
            "registered_sha256": ",".join(p.sha256 for p in prompts),
            "versions": dg.MetadataValue.table(rows),
        }
    )
