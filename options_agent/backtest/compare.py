"""Runs side by side: one table, with how many were looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from options_agent.backtest.result import load_report
from options_agent.backtest.uncertainty import deflated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COMPARED: Final = (
    "closed_trades",
    "return_coin",
    "return_usd",
    "hold_return_usd",
    "max_drawdown_coin",
    "max_drawdown_usd",
    "sharpe_coin",
    "sharpe_usd",
    "win_rate",
    "profit_factor",
    "fees_coin",
    "assignment_rate",
)

#: Of those, the ones that stand with their interval in a comparison.
INTERVALS: Final = ("return_coin", "return_usd", "max_drawdown_coin", "max_drawdown_usd", "sharpe_coin", "sharpe_usd")


def list_reports(folder: Path) -> list[Path]:
    """Report files of a folder, oldest first by name."""
    return sorted(p for p in folder.glob("*.json") if not p.name.startswith("."))


def latest_reports(folder: Path) -> list[dict[str, Any]]:
    """The newest report of each strategy and underlying."""
    newest: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}
    for path in list_reports(folder):
        report = load_report(path)
        key, at = (report["strategy"]["name"], report["underlying"]), path.stat().st_mtime
        if key not in newest or at >= newest[key][0]:
            newest[key] = (at, report | {"path": str(path)})
    return [report for _, report in (newest[k] for k in sorted(newest))]


def comparison(reports: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a run: who, when, status and `COMPARED` metrics, best Sharpe in coin first; inconclusive runs last.

    `looks` is how many runs stand in the table: a best of many is worth less than the same number alone. The deflated Sharpe ratio says
    how much less. Intervals are a `_low` and a `_high` beside their number, None where the run has none.
    """
    odds = {currency: deflated(reports, currency) for currency in ("coin", "usd")}
    rows = [
        {
            "strategy": r["strategy"]["name"],
            "underlying": r["underlying"],
            "run": r["run"],
            "start": r["range"]["start"],
            "end": r["range"]["end"],
            "status": r["status"],
            "looks": len(reports),
            **{key: value for name in COMPARED for key, value in _with_interval(r, name).items()},
            **{f"probabilistic_sharpe_{c}": (r.get("uncertainty") or {}).get("probabilistic_sharpe", {}).get(c) for c in odds},
            **{f"deflated_sharpe_{currency}": of_run.get(r["run"]) for currency, of_run in odds.items()},
        }
        for r in reports
    ]
    return sorted(rows, key=lambda row: (row["status"] != "ok", -(row["sharpe_coin"] if row["sharpe_coin"] is not None else -1e9)))


def interval_of(report: dict[str, Any], name: str) -> tuple[float, float] | None:
    """The interval of a metric; None where it has none, or the report was written before there were any."""
    found = report.get("uncertainty", {}).get("intervals", {}).get(name)
    return (found[0], found[1]) if found else None


def _with_interval(report: dict[str, Any], name: str) -> dict[str, float | None]:
    value = {name: report["metrics"].get(name)}
    if name not in INTERVALS:
        return value
    low, high = interval_of(report, name) or (None, None)
    return value | {f"{name}_low": low, f"{name}_high": high}
