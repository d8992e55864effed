"""Backtests as journals: books that were never live, so that a comparison can be shadowed before the agent trades."""

from __future__ import annotations

from typing import TYPE_CHECKING

from options_agent.backtest.engine import run_backtest
from options_agent.journal.entries import journal_path, read_journal, write_entry

if TYPE_CHECKING:
    from pathlib import Path

    from options_agent.backtest.history import History
    from options_agent.settings import Settings
    from options_agent.strategies.rules import Strategy


def journal_of_strategy(settings: Settings, strategy: Strategy, underlying: str, book: str) -> Path:
    """Play a strategy over the clean days and write its marks and fills as a book's journal; entries that are there already stay.

    A journal only grows: days judged since are appended, by their own time.

    Raises:
        DataError: there are no clean quotes, or the journal is broken.
        StorageError: it cannot be written.
    """
    from options_agent.backtest.history import build_history
    from options_agent.backtest.runner import clean_range, known_features
    from options_agent.lake.store import open_lake

    lake = open_lake(settings)
    history: History = build_history(lake, underlying, *clean_range(lake, underlying), settings)
    result = run_backtest(history, strategy, settings.backtest, known_features(lake, history) if strategy.features else None)
    path = journal_path(settings, book)
    known = read_journal(path)
    newest = max((e["ts"] for e in known), default=None)
    if not known:
        write_entry(path, "note", result.start, text=f"shadow of a backtest: {strategy.name} on {underlying}, run {result.run}")
    entries = [
        ("fill", f["ts"], {n: f[n] for n in ("instrument", "contracts", "price", "fee", "currency")}) for f in result.fills.to_pylist()
    ]
    entries += [("mark", e["ts"], {n: e[n] for n in ("equity_coin", "equity_usd", "index")}) for e in result.equity.to_pylist()]
    for kind, ts, content in sorted(entries, key=lambda e: (e[1], e[0])):
        if newest is None or ts > newest:
            write_entry(path, kind, ts, **content)  # type: ignore[arg-type]
    return path
