"""A run whose decisions somebody outside the rules makes, one after the other, each seeing what its own earlier ones led to.

The rules still say when an entry is due and what is sold; whoever is asked may skip it, and decides on every exit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.engine import Directions, play, run_backtest
from options_agent.backtest.market import prepare
from options_agent.backtest.result import decisions_table
from options_agent.errors import DataError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from options_agent.backtest.history import History
    from options_agent.backtest.result import BacktestResult
    from options_agent.settings import BacktestSettings
    from options_agent.strategies.rules import Strategy

#: What may be answered, by what the engine was about to do.
CHOICES: Final[dict[str, tuple[str, str]]] = {"open": ("open", "skip"), "hold": ("hold", "close"), "close": ("hold", "close")}
#: Reasons of decisions that are asked; others (not quoted, rolled, a near leg that expired) leave no choice.
_ASKED: Final = ("entered", "directed")


@dataclass(frozen=True, slots=True)
class DirectedRun:
    """The run as directed, and every decision asked on its way: rows of the decision table, with `answer` among them."""

    result: BacktestResult
    asked: tuple[dict[str, Any], ...]


def play_directed(
    history: History,
    strategy: Strategy,
    settings: BacktestSettings,
    ask: Callable[[Sequence[dict[str, Any]]], Sequence[str]],
    features: Mapping[str, NDArray[np.float64]] | None = None,
    *,
    ahead: int = 1,
) -> DirectedRun:
    """Play `strategy`, asking at each decision.

    Args:
        history, strategy, settings, features: as for `engine.run_backtest`; one structure at a time (`max_open` of 1).
        ask: given rows of the decision table in order of time, each with `choices`; returns one of its choices for each.
        ahead: how many decisions are asked at once. Those behind an answer that changes the course are asked anew: more is quicker where
            asking is slow, and dearer where it is paid. The run does not depend on it, if an answer depends on its row alone.

    Raises:
        SettingsError: the strategy holds several structures at once.
        DataError: an answer is none of the choices; or as `run_backtest`.
    """
    if strategy.entry.max_open > 1:
        raise SettingsError(
            f"{strategy.name} holds up to {strategy.entry.max_open} structures: one answer a snapshot cannot direct them",
            remedy="a strategy with max_open = 1",
        )
    directions = Directions(np.ones(history.snapshots, np.bool_), np.zeros(history.snapshots, np.bool_))
    prepared = prepare(history, settings)
    asked: list[dict[str, Any]] = []
    settled = 0  # decisions of the run that are final
    while True:
        raw = play(history, strategy, settings, features, prepared, directions).decisions
        turned = False
        while settled < len(raw) and not turned:
            table = decisions_table(raw[settled : settled + ahead], history).to_pylist()
            choosing = [n for n, row in enumerate(table) if row["action"] in CHOICES and row["reason"] in _ASKED]
            rows = [table[n] | {"choices": CHOICES[table[n]["action"]]} for n in choosing]
            answers = ask(rows) if rows else []
            for n, row, answer in zip(choosing, rows, answers, strict=True):
                if answer not in row["choices"]:
                    raise DataError(f"{answer!r} is none of {row['choices']}", place=f"decision of {strategy.name} at {row['ts']}")
                asked.append(row | {"answer": answer})
                if turned := answer != row["action"]:
                    at = int(raw[settled + n, 0])
                    (directions.enter if answer == "skip" else directions.close)[at] = answer != "skip"
                    settled += n + 1  # what was asked behind it did not come to pass
                    break
            else:
                settled += ahead
        if not turned:
            return DirectedRun(run_backtest(history, strategy, settings, features, prepared, directions), tuple(asked))
