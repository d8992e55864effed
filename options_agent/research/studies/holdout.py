"""The locked holdout: asked once a study, about one trial, answered with pass or fail; every asking is in the ledger before its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.backtest.overfitting import probabilistic_sharpe
from options_agent.backtest.sweep import play_points
from options_agent.backtest.sweep_summary import SUMMARY
from options_agent.errors import SettingsError
from options_agent.research.studies import ledger
from options_agent.research.studies.declaration import folder_of, load
from options_agent.research.studies.runner import judge, state_of
from options_agent.research.studies.trials import configuration, declared_strategy, ground_of, part_of

if TYPE_CHECKING:
    from options_agent.settings import Settings

PASS, FAIL = "pass", "fail"
RULE: Final = (
    "pass: odds of {odds:.0%} that the true daily Sharpe ratio in coin on the holdout is above 0, and {trades} closed trades at least"
)


def open_holdout(name: str, settings: Settings) -> str:
    """Ask the holdout about the study's chosen trial; `pass` or `fail`, by the rule that was declared. Nothing else is told.

    A process that dies between the opening and the answer may ask again for that same answer; who was answered may not.

    Raises:
        SettingsError: no such study, its search is not finished, it has no conclusive trial, or it was answered before (also written).
        DataError: the ledger is broken, or the holdout has no clean quotes.
    """
    study = load(name, settings)
    path = folder_of(name, settings) / "ledger.jsonl"
    with ledger.writing(path):
        events = ledger.read(path)
        state = state_of(study, events)
        answered = next((e for e in events if e["kind"] == "holdout_answered"), None)
        if answered is not None:
            ledger.append(path, "holdout_refused", why="answered before")
            raise SettingsError(
                f"the holdout of study {name!r} was asked on {answered['at'][:10]} and answered {answered['answer']!r}: once is all",
                remedy="declare a new study, on days not seen yet",
            )
        if not state.finished:
            raise SettingsError(f"the search of study {name!r} is not finished", remedy=f"`options-agent study run {name}`")
        ground = ground_of(study, settings)
        found = judge(study, settings, state, ground)
        if found is None or found.chosen is None:
            raise SettingsError(f"study {name!r} has no conclusive trial to ask about", remedy="a wider space or a longer range")
        values = next(t["values"] for trials in state.trials.values() for t in trials if t["number"] == found.chosen)
        if not state.opened:
            rule = RULE.format(odds=study.pass_odds, trades=settings.backtest.min_trades)
            ledger.append(path, "holdout_opened", trial=found.chosen, values=values, looks=state.looks, rule=rule)
        part = part_of(study.splits.holdout, study, declared_strategy(study, settings), settings)
        numbers = play_points(part.history, [configuration(ground, values)], part.features)
        row, returns = numbers.table[0], numbers.returns[0, 0]
        closed, skew, kurtosis = (row[SUMMARY.index(n)] for n in ("closed_trades", "skew_coin", "kurtosis_coin"))
        spread = float(np.std(returns)) if np.isfinite(returns).all() else 0.0
        odds = probabilistic_sharpe(float(np.mean(returns)) / spread, returns.size, float(skew), float(kurtosis)) if spread > 0 else 0.0
        answer = PASS if odds >= study.pass_odds and closed >= settings.backtest.min_trades else FAIL
        ledger.append(path, "holdout_answered", trial=found.chosen, answer=answer)
        return answer
