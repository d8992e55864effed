"""An evaluation on real servers: the same decisions for all, regret in MLflow, and a gate that opens for a better model only."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from options_agent.errors import SettingsError
from options_agent.llm.evaluation import evaluate as room
from options_agent.llm.evaluation.evaluate import champion_model, evaluate, newest_evaluation, promote_model
from options_agent.llm.spend import spent
from options_agent.llm.training import Decision
from options_agent.settings import Settings, load_settings
from options_agent.tracking.server import mlflow_of

pytestmark = pytest.mark.slow
START = dt.datetime(2026, 3, 2, 8, tzinfo=dt.UTC)


def decisions(count: int) -> list[Decision]:
    """Positions of which those far in profit had better be closed, as rules of thumb do; never trading regrets it."""
    random, found = np.random.default_rng(3), []
    for n in range(count):
        kept = float(random.uniform(-1, 1))
        values = {"hold": -0.01 if kept > 0.5 else 0.01, "close": 0.0}
        state = {"dte": 5.0, "bid": 0.004, "ask": 0.0044, "unrealised": kept}
        at = START + dt.timedelta(hours=6 * n)
        found.append(
            Decision(
                at, "BTC", "covered_call", "Sell a call.", "bull-calm", ("hold", "close"), "hold", "So.", state, values=values, known_at=at
            )
        )
    return found


@pytest.fixture
def desk(tmp_path: Path, mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(room, "held_out_decisions", lambda *_: decisions(80))
    monkeypatch.setattr(room, "LOGGED", 4)
    return load_settings(home=tmp_path, mlflow_tracking_uri=mlflow_server, _env_file=None)


def test_models_are_judged_on_the_same_decisions_and_found_in_mlflow(desk: Settings) -> None:
    found = evaluate(desk, ["desk-rules", "desk-hold"], ["2026-W10"], prompt_version="file", play=False)
    regret = {s.model: s.regret for s in found.scores}
    assert set(regret) == {"rule-based", "always-hold", "desk-rules", "desk-hold"}
    assert regret["desk-rules"] == 0
    assert regret["always-hold"] == regret["desk-hold"] == regret["rule-based"] > 0
    assert found.scores[0].model == "desk-rules"
    against = {d.model: d for d in found.differences}["desk-hold"]
    assert against.low is not None
    assert against.low > 0
    assert found.passage is None
    assert (newest_evaluation(desk) or {})["key"] == found.key
    assert sum(row["calls"] for row in spent(desk)) == 160
    with pytest.raises(SettingsError, match="no challenger"):
        promote_model(desk, found)
    mlflow = mlflow_of(desk)
    experiment = mlflow.get_experiment_by_name("synthetic/evaluation")
    runs = {r.data.params["model"]: r.data.metrics for r in mlflow.search_runs([experiment.experiment_id], output_format="list")}
    assert runs["desk-hold"]["regret"] == pytest.approx(regret["desk-hold"])
    assert runs["desk-hold"]["regret/mean"] > 0
    assert runs["desk-rules"]["usable/mean"] == 1.0


def test_a_better_challenger_passes_and_a_worse_one_does_not(desk: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    away = desk.model_copy(update={"mlflow_tracking_uri": None})
    real = room.ask
    monkeypatch.setattr(
        room, "ask", lambda s, model, *rest: real(s, {"ft:good": "desk-rules", "ft:bad": "desk-hold"}.get(model, model), *rest)
    )
    monkeypatch.setattr(room, "BASE", "desk-hold")
    good = evaluate(away, ["desk-hold", "ft:good"], ["2026-W10"], prompt_version="file", play=False, gate=room.Gate(least_decisions=50))
    assert good.passage is not None
    assert good.passage.passed, good.passage.lacking
    assert promote_model(away, good) == champion_model(away) == "ft:good"
    bad = evaluate(away, ["ft:bad"], ["2026-W10"], prompt_version="file", play=False)
    assert bad.champion == "ft:good"
    with pytest.raises(SettingsError, match="does not pass the gate"):
        promote_model(away, bad)
    assert champion_model(away) == "ft:good"
