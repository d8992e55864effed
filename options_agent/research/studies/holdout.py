"""The locked holdout: asked once a study, about one trial, answered with pass or fail; every asking is in the ledger before its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.grid import configurations
from options_agent.backtest.overfitting import probabilistic_sharpe
from options_agent.backtest.sweep import play_points
from options_agent.backtest.sweep_summary import SUMMARY
from options_agent.errors import SettingsError
from options_agent.research.studies import ledger
from options_agent.research.studies.declaration import folder_of, load
from options_agent.research.studies.runner import judge, state_of
from options_agent.research.studies.trials import declared_strategy, ground_of, part_of

if TYPE_CHECKING:
    from pathlib import Path

    from options_agent.research.studies.declaration import Study
    from options_agent.settings import Settings

PASS, FAIL = "pass", "fail"
RULE: Final = (
    "pass: odds of {odds:.0%} that the true daily Sharpe ratio in coin on the holdout is above 0, and {trades} closed trades at least"
)


def open_holdout(name: str, settings: Settings) -> str:
    """Ask the holdout about the study's chosen trial; `pass` or `fail`, by the rule that was declared. Nothing else is told.

    Every opening is in a chain of the whole desk too: cutting a study's ledger, or declaring the same search under another name, opens
    nothing again; and days that others were asked about before ask for more (their number divides the odds that are left to luck).
    A process that dies between the opening and the answer may ask again for that same answer; who was answered may not.

    Raises:
        SettingsError: no such study, its search is not finished (that is written too), it has no conclusive trial, or it was asked before.
        DataError: a ledger is broken, or the holdout has no clean quotes.
    """
    study = load(name, settings)
    path, desk = folder_of(name, settings) / "ledger.jsonl", openings_path(settings)
    with ledger.writing(path), ledger.writing(desk):
        events = ledger.read(path)
        state = state_of(study, events)
        before, former = _former(study, settings)
        opened = next((e for e in events if e["kind"] == "holdout_opened"), None)
        if before is not None and before["study"] == name and opened and not any(e["kind"] == "holdout_answered" for e in events):
            # the desk's line was written and the process died before the study's: nobody was answered yet
            ledger.append(path, "holdout_answered", trial=opened["trial"], answer=before["answer"])
            return str(before["answer"])
        if before is not None:
            ledger.append(path, "holdout_refused", why="asked before")
            raise SettingsError(
                f"the holdout of study {name!r} was asked on {before['at'][:10]} (as {before['study']!r}) and answered: once is all",
                remedy="declare a new study, on days not seen yet",
            )
        if not state.finished:
            ledger.append(path, "holdout_refused", why="the search is not finished")
            raise SettingsError(f"the search of study {name!r} is not finished", remedy=f"`options-agent study run {name}`")
        if opened is None:
            found = judge(study, settings, state, ground_of(study, settings))
            if found is None or found.chosen is None:
                raise SettingsError(f"study {name!r} has no conclusive trial to ask about", remedy="a wider space or a longer range")
            values = next(t["values"] for trials in state.trials.values() for t in trials if t["number"] == found.chosen)
            odds = 1 - (1 - study.pass_odds) / (1 + former)
            rule = RULE.format(odds=odds, trades=settings.backtest.min_trades)
            asked = {"trial": found.chosen, "values": values, "looks": state.looks, "rule": rule, "odds": odds, "former": former}
            opened = ledger.append(path, "holdout_opened", **asked)
        answer = PASS if _passes(study, settings, opened) else FAIL
        parts = [day.isoformat() for day in study.splits.holdout]
        ledger.append(desk, "holdout_answered", study=name, strategy=study.strategy, underlying=study.underlying, days=parts, answer=answer)
        ledger.append(path, "holdout_answered", trial=opened["trial"], answer=answer)
        return answer


def openings_path(settings: Settings) -> Path:
    """The desk's chain of openings."""
    return settings.home / "studies" / settings.network / "openings.jsonl"


def _former(study: Study, settings: Settings) -> tuple[dict[str, Any] | None, int]:
    """The opening that forbids another: this study's, or of the same strategy on days that overlap; and how many others' days overlap."""
    first, last = (day.isoformat() for day in study.splits.holdout)
    every = [e for e in ledger.read(openings_path(settings)) if e["underlying"] == study.underlying]
    overlapping = [e for e in every if e["days"][0] <= last and e["days"][1] >= first]
    own = next((e for e in every if e["study"] == study.name), None) or next(
        (e for e in overlapping if e["strategy"] == study.strategy), None
    )
    return own, len(overlapping)


def _passes(study: Study, settings: Settings, opened: dict[str, Any]) -> bool:
    strategy = declared_strategy(study, settings)
    part = part_of(study.splits.holdout, study, strategy, settings)
    point = configurations(strategy, settings.backtest, {k: [v] for k, v in opened["values"].items()}).points[0]
    numbers = play_points(part.history, [point], part.features)
    row, returns = numbers.table[0], numbers.returns[0, 0]
    closed, skew, kurtosis = (row[SUMMARY.index(n)] for n in ("closed_trades", "skew_coin", "kurtosis_coin"))
    spread = float(np.std(returns)) if np.isfinite(returns).all() else 0.0
    odds = probabilistic_sharpe(float(np.mean(returns)) / spread, returns.size, float(skew), float(kurtosis)) if spread > 0 else 0.0
    return bool(odds >= opened["odds"] and closed >= settings.backtest.min_trades)
