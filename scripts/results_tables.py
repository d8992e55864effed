"""The tables of `docs/results.md` and of the README from the reports of a desk, so that no figure in them is typed by hand.

options-agent run --data FOLDER --no-stay
export OPTIONS_AGENT_SOURCE=recorded OPTIONS_AGENT_NETWORK=mainnet
for s in covered_call short_strangle iron_condor; do for u in BTC ETH; do options-agent sweep $s $u; done; done
python scripts/results_tables.py
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from options_agent.backtest.compare import interval_of
from options_agent.backtest.runner import current_reports
from options_agent.backtest.uncertainty import deflated
from options_agent.settings import load_settings
from options_agent.strategies.catalogue import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHOWN = ("covered_call", "cash_secured_put", "short_strangle")
WITHIN = "90 % interval"
HEADERS = ("trades", "return, coin", WITHIN, "return, USD", "max drawdown, coin", "Sharpe, coin", WITHIN, "above luck", "win rate", "")


def main() -> None:
    """Print the three tables."""
    settings = load_settings()
    reports = sorted(current_reports(settings), key=lambda r: (r["underlying"], list(CATALOGUE).index(r["strategy"]["name"])))
    odds = deflated(reports)
    rows = [strategy_row(report, odds.get(report["run"])) for report in reports]
    held = [f"{100 * report['metrics']['hold_return_usd']:+.1f} %" for report in reports]
    best = sorted(
        ([*row[:6], coin, *row[6:-1]] for row, coin in zip(rows, held, strict=True) if row[0] in SHOWN), key=lambda r: SHOWN.index(r[0])
    )
    say("## README", table(("strategy", "", *HEADERS[:4], "coin held, USD", *HEADERS[4:-1]), best))
    say("## docs/results.md", table(("strategy", "", *HEADERS), rows))
    losing = [currency_losses(reports, name) for name in ("return_coin", "return_usd")]
    say("", f"{len(reports)} runs; lost in coin {losing[0]}, in USD {losing[1]}; largest odds above luck {max(odds.values()):.0%}")
    sweeps = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((settings.reports_dir / "sweeps").glob("*.json"))]
    say("## sweeps", table(SWEEP_HEADERS, [sweep_row(content) for content in sweeps]))


SWEEP_HEADERS = (
    "",
    "support a number",
    "above their coin",
    "above their USD",
    "median, coin",
    "median, USD",
    "best Sharpe, coin",
    WITHIN,
    "its odds above luck",
    "overfitting",
)


def strategy_row(report: Mapping[str, Any], odds: float | None) -> list[str]:
    """A run: its headlines, each with its interval."""
    m = report["metrics"]
    return [
        report["strategy"]["name"],
        report["underlying"],
        f"{m['closed_trades']:.0f}",
        f"{100 * m['return_coin']:+.1f} %",
        within(interval_of(dict(report), "return_coin"), 100, 0),
        f"{100 * m['return_usd']:+.1f} %",
        f"{100 * m['max_drawdown_coin']:.1f} %",
        f"{m['sharpe_coin']:.1f}",
        within(interval_of(dict(report), "sharpe_coin"), 1, 1),
        "-" if odds is None else f"{100 * odds:.0f} %",
        f"{100 * m['win_rate']:.0f} %",
        "" if report["status"] == "ok" else report["status"],
    ]


def sweep_row(content: Mapping[str, Any]) -> list[str]:
    """A sweep: what its configurations came to, and what the best is worth."""
    best, status, positive, median = content["best"][0], content["status"], content["positive"], content["median"]
    return [
        f"{content['strategy']['name']} {content['underlying']}",
        f"{status['ok']:,} of {content['looks']:,}",
        f"{positive['coin']:,}",
        f"{positive['usd']:,}",
        f"{100 * median['return_coin']:+.1f} %",
        f"{100 * median['return_usd']:+.1f} %",
        f"{best['sharpe_coin']:.1f}",
        within(best["sharpe_coin_interval"], 1, 1),
        f"{100 * best['deflated_sharpe_coin']:.0f} %",
        f"{100 * content['overfitting']:.0f} %",
    ]


def within(interval: Sequence[float] | None, scale: float, digits: int) -> str:
    """`-13 to 10`."""
    return "-" if interval is None else f"{scale * interval[0]:.{digits}f} to {scale * interval[1]:.{digits}f}"


def currency_losses(reports: Sequence[Mapping[str, Any]], name: str) -> int:
    """How many runs lost."""
    return sum(report["metrics"][name] < 0 for report in reports)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (headers, ["---"] * len(headers), *rows))


def say(title: str, text: str) -> None:
    """Print, with a title."""
    print(f"{title}\n\n{text}\n" if title else f"{text}\n")  # noqa: T201 the script's one job


if __name__ == "__main__":
    main()
