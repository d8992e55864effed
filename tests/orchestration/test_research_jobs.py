"""Jobs of the research stage on a desk with quotes: backtests, examples, a model trained and judged, a study, attribution and spend."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_project.definitions import defs
from jobs.desk_jobs import ranged
from options_agent.durable import write_json
from options_agent.llm.evaluation import evaluate as evaluation
from options_agent.llm.fine_tuning import tunes
from options_agent.llm.spend import spent
from options_agent.research.studies import declaration
from options_agent.research.studies.declaration import Study, costs_sha256, declare, rules_sha256
from options_agent.research.studies.space import Parameter, SearchSpace
from options_agent.settings import Settings, load_settings
from options_agent.strategies.catalogue import strategy
from options_agent.tracking.server import mlflow_of
from tests.filled_desks import FIRST, fill_synthetic
from tests.orchestration.test_schedules import tick

pytestmark = pytest.mark.slow
DAYS = 56
PUT = "cash_secured_put"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mlflow_server: str) -> Settings:
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "UNDERLYINGS": '["BTC"]',
        "STRATEGIES": f'["{PUT}"]',
        "MLFLOW_TRACKING_URI": mlflow_server,
        "BACKTEST__MIN_TRADES": "1",
    }.items():
        monkeypatch.setenv(f"OPTIONS_AGENT_{name}", value)
    fill_synthetic(tmp_path / "home", DAYS)
    return load_settings()


def materialized(done: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """Metadata by asset."""
    assert done.success
    found = [event.step_materialization_data.materialization for event in done.get_asset_materialization_events()]
    return {
        m.asset_key.to_user_string(): {name: getattr(value, "records", value.value) for name, value in m.metadata.items()} for m in found
    }


def test_quotes_become_a_judged_model_a_verdict_and_a_bill(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "LOGGED", 4)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:

        def run(job: str, **more: Any) -> dict[str, dict[str, Any]]:
            return materialized(defs.resolve_job_def(job).execute_in_process(instance=instance, **more))

        run("backtests", tags=ranged(f"{PUT}|BTC", f"{PUT}|BTC"))
        run("weekly_training", tags=ranged("2026-W01-1", "2026-W08-1"))

        told = run("weekly_refresh", run_config={"ops": {"model_evaluation": {"config": {"most": 24}}}})
        (tune,) = tunes(settings)
        assert told["fine_tuned_model"]["model"] == tune.model
        assert told["fine_tuned_model"]["data_sha256"] == tune.data_sha256
        assert {tune.model, "desk-rules", "rule-based", "always-hold"} <= {row.data["model"] for row in told["model_evaluation"]["scores"]}
        assert set(told["model_evaluation"]["weeks"].split(", ")) == set(tune.held_out)
        assert told["model_evaluation"]["gate"]
        assert Path(told["model_evaluation"]["report"]).is_file()

        at = dt.datetime(2026, 11, 16, 22, tzinfo=dt.UTC)
        assert isinstance(tick("studies_nightly", at), dg.SkipReason)
        declare(short_study(settings, monkeypatch), strategy(PUT), settings)
        assert isinstance(tick("studies_nightly", at), dg.RunRequest)
        (row,) = run("studies")["study_trials"]["leaderboards"]
        assert (row.data["state"], row.data["looks"]) == ("finished", 4)
        assert isinstance(tick("studies_nightly", at), dg.SkipReason)

        assert run("attribution")["pnl_attribution"]["runs"] == 1
        write_json(
            settings.home / "models" / settings.network / "shutdown_dates.json",
            {"desk-rules": (dt.datetime.now(dt.UTC).date() + dt.timedelta(days=9)).isoformat()},
        )
        told = run("language_model_watch")["language_model_spend"]
        assert sum(row["calls"] for row in spent(settings)) > 24
        assert told["traces_sent"] == 0  # the study's run sent them all
        assert "desk-rules" in told["ending"]
    experiments = {e.name for e in mlflow_of(settings).search_experiments()}
    assert {"synthetic/evaluation"} <= experiments


def short_study(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(declaration, "longest_life_days", lambda *_: 3)
    return Study(
        name="night",
        strategy=PUT,
        rules_sha256=rules_sha256(strategy(PUT)),
        costs_sha256=costs_sha256(settings),
        underlying="BTC",
        space=SearchSpace((Parameter("legs.sold.target", "float", 0.1, 0.4, 0.05),)),
        start=FIRST,
        end=FIRST + dt.timedelta(days=DAYS - 1),
        embargo_days=3,
        train_share=0.4,
        validation_share=0.3,
        proposers=("model",),
        trials=4,
        batch=2,
    )
