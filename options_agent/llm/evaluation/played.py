"""A model's decisions played through the engine: what its choices come to when each lives with the ones before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from options_agent.llm.decisions import decision_of_row
from options_agent.llm.evaluation.asking import ask_one
from options_agent.llm.training import chat_messages, week_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from options_agent.llm.prompts import Prompt
    from options_agent.settings import Settings

#: What a choice counts as where a model's output cannot be used.
_IDLE = ("hold", "skip")


@dataclass(frozen=True, slots=True)
class Played:
    """Of one strategy and underlying over the held-out time: return in coin (decimal), worst drawdown, trades, decisions asked."""

    strategy: str
    underlying: str
    return_coin: float
    max_drawdown_coin: float
    trades: int
    asked: int


def play_model(
    settings: Settings, model: str, strategy_name: str, underlying: str, weeks: Sequence[str], prompt: Prompt, version: str
) -> Played:
    """Play a strategy over weeks with every choice made by a model; `rule-based` plays its own rules.

    Raises:
        SettingsError: the strategy holds several structures at once.
        DataError: there are no clean quotes in the weeks; or as `complete`.
    """
    import datetime as dt

    from options_agent.backtest.directed import play_directed
    from options_agent.backtest.engine import run_backtest
    from options_agent.backtest.history import build_history
    from options_agent.backtest.runner import known_features, regime_labels
    from options_agent.lake.store import open_lake
    from options_agent.llm.decisions import regimes_at
    from options_agent.llm.evaluation.asking import HOLD, RULES
    from options_agent.strategies.files import find_strategy

    strategy, lake = find_strategy(strategy_name, settings), open_lake(settings)
    spans = [week_bounds(week) for week in weeks]
    first, last = min(s for s, _ in spans).date(), max(e for _, e in spans).date() - dt.timedelta(days=1)
    history = build_history(lake, underlying, first, last, settings)
    features = known_features(lake, history) if strategy.features else None
    if model == RULES:
        result, asked = run_backtest(history, strategy, settings.backtest, features), 0
    else:
        labels = regime_labels(lake, underlying)

        def answer(rows: Sequence[dict[str, Any]]) -> list[str]:
            if model == HOLD:
                return [next(c for c in row["choices"] if c in _IDLE) for row in rows]
            times = pa.table({"ts": pa.array([row["ts"] for row in rows], pa.timestamp("us", "UTC"))})
            said = []
            for row, regime in zip(rows, regimes_at(labels, times), strict=True):
                decision = decision_of_row(row, strategy.name, strategy.in_words(), underlying, regime)
                found = ask_one(settings, model, chat_messages(decision, prompt)[0], row["choices"], prompt, version)
                said.append(found.action or next(c for c in row["choices"] if c in _IDLE))
            return said

        run = play_directed(history, strategy, settings.backtest, answer, features)
        result, asked = run.result, len(run.asked)
    metrics = result.metrics
    return Played(
        strategy.name, underlying, float(metrics["return_coin"]), float(metrics["max_drawdown_coin"]), result.trades.num_rows, asked
    )
