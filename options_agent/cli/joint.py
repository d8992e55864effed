"""`options-agent joint`: several runs as one book in USD."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

#: Metrics of the book that the terminal shows; the JSON has all.
SHOWN: Final = (
    "return_usd",
    "hold_return_usd",
    "annual_return_usd",
    "volatility_usd",
    "sharpe_usd",
    "sortino_usd",
    "max_drawdown_usd",
    "max_drawdown_days_usd",
    "expected_shortfall_usd",
    "closed_trades",
    "win_rate",
    "fees_usd",
    "slippage_usd",
    "exposure",
    "margin_average",
)


def joint_command(
    runs: Annotated[list[str], typer.Argument(help="two or more: the start of a run's hash, or the path of its report")],
    weights: Annotated[str | None, typer.Option(help="shares of the capital at the start, as 0.5,0.5; equal by default")] = None,
    rebalance: Annotated[str, typer.Option(help="never (the split drifts) or daily (back to the weights at UTC midnights)")] = "never",
    as_json: Annotated[str | None, typer.Option("--json", help="write everything here; - prints it and nothing else")] = None,
) -> None:
    """Hold several runs as one book in USD: its metrics, correlation by regime, and what each contributes to risk."""
    import json

    from options_agent.backtest.compare import list_reports
    from options_agent.backtest.joint import joint_book
    from options_agent.backtest.result import load_report
    from options_agent.backtest.runner import regime_labels
    from options_agent.backtest.saved_runs import find_runs
    from options_agent.cli.terminal import console_of
    from options_agent.durable import write_text
    from options_agent.lake.store import open_lake
    from options_agent.settings import load_settings

    if rebalance not in ("never", "daily"):
        raise typer.BadParameter("never or daily", param_hint="--rebalance")
    settings = load_settings()
    found, said = find_runs(runs, settings.reports_dir)
    lake = open_lake(settings)
    labels = {underlying: regime_labels(lake, underlying) for underlying in dict.fromkeys(run.underlying for run in found)}
    among = (
        [r for path in list_reports(settings.reports_dir) if "metrics" in (r := load_report(path))] if settings.reports_dir.is_dir() else []
    )
    document = joint_book(found, labels, _numbers(weights), "daily" if rebalance == "daily" else "never", among=among)
    document["notes"] = [*said, *document["notes"]]
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"
    if as_json == "-":
        typer.echo(text, nl=False)
        return
    console = console_of()
    show(document, console)
    if as_json is not None:
        write_text(Path(as_json), text)
        console.print(f"JSON {as_json}", markup=False, soft_wrap=True)


def show(document: Mapping[str, Any], console: Console) -> None:
    """The book as text."""
    from rich.markup import escape
    from rich.table import Table

    from options_agent.backtest.metrics import METRICS

    risk, within = document["risk"], document["range"]
    console.print(f"[bold]Joint book[/] in USD, {within['start'][:10]} to {within['end'][:10]}, rebalanced {document['rebalance']}")
    parts = Table(title="Runs, with what each contributes to the risk of the book", title_justify="left")
    for column in ("", "run", "strategy", "weight", "of volatility", "of expected shortfall"):
        parts.add_column(column)
    for run, weight, one in zip(document["runs"], document["weights"], risk["components"], strict=True):
        who = f"{run['strategy']} {run['underlying']}" + ("" if run["status"] == "ok" else " [yellow]INCONCLUSIVE[/]")
        shares = (_percent(one["volatility_share"]), _percent(one["expected_shortfall_share"]))
        parts.add_row(run["label"], run["run"], who, _percent(weight), *shares)
    console.print(parts)
    console.print(
        f"Diversification ratio {_number(risk['diversification_ratio'])}{_within(document['intervals']['diversification_ratio'])}"
    )
    figures = Table(title="The book, headlines with their 90 % interval", title_justify="left", show_header=False)
    units = {m.name: m.unit for m in METRICS}
    for name in SHOWN:
        scale = 100.0 if units[name].startswith("share") else 1.0
        unit = units[name].replace("share", "%")
        figures.add_row(name, _scaled(document["metrics"].get(name), scale), _within(document["intervals"].get(name), scale), unit)
    console.print(figures)
    odds = document["odds"]
    if odds["probabilistic_sharpe_usd"] is not None:
        console.print(
            f"Odds that the true Sharpe ratio is above 0: {_percent(odds['probabilistic_sharpe_usd'])}; above what luck gives the best of "
            f"{odds['looks']} runs looked at: {_percent(odds['deflated_sharpe_usd'])}. Under 95 % it proves nothing; each pair is a look."
        )
    table = Table(title="Correlation of daily returns, with days", title_justify="left")
    for column in ("", "pair", "days", "runs", "underlyings"):
        table.add_column(column)
    lines = [("overall", document["days"], False, document["correlation"])]
    for underlying, regimes in document["by_regime"].items():
        lines += [(f"{underlying} {r['regime']}", r["days"], r["small_sample"], r["pairs"]) for r in regimes]
    for name, days, small, pairs in lines:
        for pair in pairs:
            runs = pair["runs"]
            within_text = _within(None if runs["low"] is None else (runs["low"], runs["high"]))
            who, *cells = (" ".join(pair["pair"]), str(days), _number(runs["value"]) + within_text, _number(pair["underlyings"]))
            table.add_row(name, who, *(f"[dim]({cell})[/]" if small and cell != "-" else cell for cell in cells))
    console.print(table)
    console.print("[dim]Regimes as known when the day began; dim and in brackets: of under thirty days. - is not defined.[/]")
    for note in document["notes"]:
        console.print(f"[yellow]{escape(note)}[/]")


def _numbers(weights: str | None) -> list[float] | None:
    if weights is None:
        return None
    try:
        return [float(part) for part in weights.split(",")]
    except ValueError as error:
        raise typer.BadParameter("numbers with commas between, as 0.5,0.5", param_hint="--weights") from error


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4f}"


def _scaled(value: float | None, scale: float) -> str:
    return "-" if value is None else f"{scale * value:,.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _within(within: Any, scale: float | None = None) -> str:
    if within is None:
        return ""
    low, high = (f"{v:,.3f}" for v in within) if scale is None else (f"{scale * v:,.2f}" for v in within)
    return f" ({low} to {high})"
