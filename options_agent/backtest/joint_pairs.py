"""The joint book of every strategy that has a current run on BTC and one on ETH."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from options_agent.backtest.joint import joint_book
from options_agent.backtest.runner import current_reports, regime_labels
from options_agent.backtest.saved_runs import label_of, load_run
from options_agent.durable import write_json
from options_agent.errors import DataError
from options_agent.lake.store import open_lake

if TYPE_CHECKING:
    from options_agent.settings import Settings


def write_joint_books(settings: Settings) -> tuple[list[dict[str, Any]], list[str]]:
    """Write each book to `joint/{strategy}.json` in the folder of reports.

    Returns:
        One row a book for a table, and a sentence for each strategy that has none.

    Raises:
        StorageError: one cannot be written.
    """
    lake = open_lake(settings)
    paths: dict[str, dict[str, Path]] = {}
    reports = current_reports(settings)
    for report in reports:
        paths.setdefault(report["strategy"]["name"], {})[report["underlying"]] = Path(report["path"])
    rows, said = [], []
    for strategy, of in sorted(paths.items()):
        if not {"BTC", "ETH"} <= of.keys():
            said.append(f"{strategy}: a run on {' and '.join(sorted({'BTC', 'ETH'} - of.keys()))} is missing")
            continue
        try:
            runs = [load_run(of[underlying], label_of(n)) for n, underlying in enumerate(("BTC", "ETH"))]
            book = joint_book(runs, {run.underlying: regime_labels(lake, run.underlying) for run in runs}, among=reports)
        except DataError as error:
            said.append(f"{strategy}: {error.message}")
            continue
        write_json(settings.reports_dir / "joint" / f"{strategy}.json", book)
        rows.append(_row(strategy, book))
    return rows, said


def _row(strategy: str, book: dict[str, Any]) -> dict[str, Any]:
    metrics, risk, (pair,) = book["metrics"], book["risk"], book["correlation"]
    low, high = book["intervals"]["sharpe_usd"] or (None, None)
    return {
        "strategy": strategy,
        "start": book["range"]["start"],
        "end": book["range"]["end"],
        "status": "ok" if all(run["status"] == "ok" for run in book["runs"]) else "inconclusive",
        "days": book["days"],
        "return_usd": metrics["return_usd"],
        "max_drawdown_usd": metrics["max_drawdown_usd"],
        "sharpe_usd": metrics["sharpe_usd"],
        "sharpe_usd_low": low,
        "sharpe_usd_high": high,
        **book["odds"],
        "correlation": pair["runs"]["value"],
        "correlation_low": pair["runs"]["low"],
        "correlation_high": pair["runs"]["high"],
        "correlation_underlyings": pair["underlyings"],
        "diversification_ratio": risk["diversification_ratio"],
        "btc_share_of_volatility": risk["components"][0]["volatility_share"],
        "btc_share_of_shortfall": risk["components"][0]["expected_shortfall_share"],
    }
