"""Decisions of backtests as the training data takes them: rows of a run's decision table with regime and outcome."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from options_agent.backtest.history import build_history
from options_agent.backtest.market import prepare
from options_agent.backtest.result import load_table
from options_agent.backtest.runner import current_reports, regime_labels
from options_agent.errors import DataError
from options_agent.journal.entries import read_journal
from options_agent.lake.store import open_lake
from options_agent.llm.redaction import secrets_of
from options_agent.llm.training import Decision, week_bounds, write_week
from options_agent.llm.values import values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from options_agent.lake.receipts import Receipt
    from options_agent.settings import Settings

#: What could be done, by what was decided upon: an entry when flat, an exit when a position is open.
ALLOWED: Final = {"open": ("open", "skip"), "skip": ("open", "skip"), "hold": ("hold", "close"), "close": ("hold", "close")}
_WHY: Final = {
    "entered": "every filter passed and capital secures the trade",
    "no_expiry": "no expiry lies in the range of days",
    "no_delta": "no strike is near the target delta",
    "no_quote": "the side to trade against is not quoted",
    "premium": "the premium is too small",
    "spread": "the spread is too wide",
    "open_interest": "open interest is too small",
    "capital": "free capital does not secure one more lot",
    "max_open": "the most positions are open",
    "rules_hold": "no exit rule is met",
    "take_profit": "the take-profit rule is met",
    "stop": "the stop rule is met",
    "days_left": "few enough days are left",
    "not_quoted": "it is not quoted in this snapshot",
    "waiting": "an order is on its way",
}
#: Decisions that leave no choice: nothing to trade, or no capital to secure it.
_NO_CHOICE: Final = ("no_expiry", "no_delta", "no_quote", "capital", "max_open", "not_quoted", "waiting")
#: What a journal's decision names as its model where none was asked.
_OWN_RULES: Final = ("", "rules", "rule-based")
_STATE: Final = ("index", "dte", "delta", "bid", "ask", "mark_iv", "unrealised", "open_positions")


def build_week(settings: Settings, week: str) -> Receipt:
    """Training examples of an ISO week from every current backtest and every journal of a live book; see `training.write_week`.

    Raises:
        DataError: a report or its tables cannot be read, or an example is not fit.
        StorageError: the files cannot be written.
    """
    reports = [r for r in current_reports(settings) if r["status"] == "ok"]
    decisions = [d for report in reports for d in decisions_of(report, settings)]
    journals = journal_decisions(settings)
    live = [d for some in journals.values() for d in some]
    start, end = week_bounds(week)
    inputs = [f"journal {book}: {sum(start <= d.at < end for d in some)} decisions" for book, some in journals.items()]
    runs = [r["run"] for r in reports]
    return write_week(open_lake(settings), decisions + live, week, inputs=runs + inputs, known=secrets_of(settings))


def journal_decisions(settings: Settings) -> dict[str, list[Decision]]:
    """By book: the decisions its journal holds, made live (paper); what their actions were worth is not known here.

    Those of a strategy's own rules are labelled `expert`, those of a model `live`.

    Raises:
        DataError: a journal is broken.
    """
    found: dict[str, list[Decision]] = {}
    for path in sorted((settings.home / "journal" / settings.network).glob("*.jsonl")):
        entries = read_journal(path, "decision")
        if entries:
            found[path.stem] = [
                Decision(
                    at=e["ts"],
                    underlying=e["underlying"],
                    strategy=e["strategy"],
                    rules=e["rules"],
                    regime=e["regime"],
                    actions=tuple(e["actions"]),
                    action=e["action"],
                    rationale=e["rationale"],
                    state={name: e["state"].get(name) for name in _STATE},
                    label="expert" if e["model"] in _OWN_RULES else "live",
                )
                for e in entries
            ]
    return found


def decisions_of(report: dict[str, Any], settings: Settings) -> list[Decision]:
    """The decisions of one run that a model could have made: entries taken and declined, positions held and closed."""
    path = Path(report["path"])
    rows = load_table(path, "decisions")
    worth = _worth(report, settings)
    outcome = {t["trade"]: (t["profit_coin"], t["closed_at"]) for t in load_table(path, "trades").to_pylist() if t["closed_at"] is not None}
    regimes = regimes_at(regime_labels(open_lake(settings), report["underlying"]), rows)
    found = []
    for row, regime in zip(rows.to_pylist(), regimes, strict=True):
        if row["action"] not in ALLOWED or row["reason"] in _NO_CHOICE:
            continue
        found_worth = worth(row)
        profit, known = outcome.get(row["trade"], (None, None))
        found.append(
            replace(
                decision_of_row(row, report["strategy"]["name"], report["strategy"]["in_words"], report["underlying"], regime),
                outcome_coin=profit,
                outcome_at=known,
                values=found_worth[0] if found_worth else None,
                known_at=found_worth[1] if found_worth else None,
            )
        )
    return found


def decision_of_row(row: Mapping[str, Any], strategy: str, rules: str, underlying: str, regime: str) -> Decision:
    """A row of a decision table as a model is shown it; nothing of what came of it is in it.

    Args:
        strategy, rules: name and rules in words. regime: last known at the time.
    """
    return Decision(
        at=row["ts"],
        underlying=underlying,
        strategy=strategy,
        rules=rules,
        regime=regime,
        actions=ALLOWED[row["action"]],
        action=row["action"],
        rationale=_rationale(row),
        state={name: row[name] for name in _STATE},
    )


def _worth(report: dict[str, Any], settings: Settings) -> Callable[[dict[str, Any]], tuple[dict[str, float], dt.datetime] | None]:
    """Values of one run's decisions; none where the strategy has several legs or hedges, or the quotes are others by now."""
    legs = report["strategy"]["legs"]
    if len(legs) != 1 or report["strategy"].get("assigned_legs"):
        return lambda _: None
    start, end = (dt.datetime.fromisoformat(report["range"][name]).date() for name in ("start", "end"))
    try:
        history = build_history(open_lake(settings), report["underlying"], start, end, settings)
        prepared = prepare(history, settings.backtest)
    except DataError:
        return lambda _: None
    return lambda row: values_of(row, sold=legs[0]["side"] == "sell", history=history, prepared=prepared)


def _rationale(row: Mapping[str, Any]) -> str:
    shown = [f"{name} {row[name]:.4g}" for name in ("delta", "dte", "bid", "ask", "unrealised") if row[name] is not None]
    why = _WHY.get(row["reason"], row["reason"])
    return f"{why[0].upper()}{why[1:]}" + (f" ({', '.join(shown)})." if shown else ".")


def regimes_at(labels: pa.Table, rows: pa.Table) -> Sequence[str]:
    """The regime last known at each decision."""
    if labels.num_rows == 0:
        return ["unknown"] * rows.num_rows
    known = np.asarray(labels["ts"].combine_chunks().cast(pa.int64()))
    asked = np.asarray(rows["ts"].combine_chunks().cast(pa.int64()))
    at = np.searchsorted(known, asked, side="right") - 1
    names = labels["regime"].to_pylist()
    return [names[i] if i >= 0 else "unknown" for i in at.tolist()]
