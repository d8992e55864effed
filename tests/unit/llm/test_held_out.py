"""Who may be judged on which weeks: nobody on a week that he, or one after which he, learnt from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from options_agent.durable import write_json
from options_agent.errors import DataError
from options_agent.llm.evaluation.evaluate import evaluate
from options_agent.llm.fine_tuning import Tune, tunes
from options_agent.settings import Settings, load_settings


def trained(settings: Settings, model: str, *weeks: str) -> None:
    tune = Tune(model[3:], "succeeded", "desk-rules", "expert", "", weeks, (), 50, {}, "", "embedded", job="ftjob-1", model=model)
    write_json(settings.home / "models" / settings.network / "tunes" / f"{tune.key}.json", asdict(tune))


@pytest.mark.parametrize("week", ["2026-W07", "2026-W09", "2026-w09"])
@pytest.mark.parametrize("model", ["ft:b", "ft:b:ckpt-step-3"])
def test_a_model_is_not_judged_on_weeks_it_learnt_from_or_on_earlier_ones(tmp_path: Path, week: str, model: str) -> None:
    settings = load_settings(home=tmp_path, _env_file=None)
    trained(settings, "ft:a", "2026-W01")
    trained(settings, "ft:b", "2026-W08", "2026-W09")
    assert len(tunes(settings)) == 2
    with pytest.raises(DataError, match=rf"{model} was trained on weeks up to 2026-W09"):
        evaluate(settings, [model], [week], prompt_version="file")


def test_a_champion_that_learnt_from_a_week_spoils_it_for_a_challenger_that_did_not(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, _env_file=None)
    trained(settings, "ft:all", "2026-W08", "2026-W09")
    trained(settings, "ft:early", "2026-W08")
    write_json(settings.home / "models" / settings.network / "champion.json", {"model": "ft:all"})
    with pytest.raises(DataError, match="ft:all was trained"):
        evaluate(settings, ["ft:early"], ["2026-W09"], prompt_version="file")
    with pytest.raises(DataError, match="hold no decision"):  # all may be judged on it; there is nothing there
        evaluate(settings, ["ft:early"], ["2026-W10"], prompt_version="file")
