"""`options-agent backtest` and `options-agent report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from options_agent.backtest.by_regime import SMALL_DAYS, SMALL_SAMPLE, heat
from options_agent.backtest.compare import interval_of, list_reports
from options_agent.backtest.metrics import METRICS
from options_agent.backtest.result import load_report, load_table
from options_agent.backtest.runner import backtest, clean_range, regime_labels
from options_agent.backtest.uncertainty import CONFIDENCE
from options_agent.cli.summary import FEW, HOW_TO_READ, metrics_table, strategy_table
from options_agent.cli.terminal import console_of, spare_pandas
from options_agent.errors import DataError
from options_agent.lake.store import open_lake
from options_agent.settings import load_settings
from options_agent.strategies.files import find_strategy

if TYPE_CHECKING:
    import datetime as dt

    from rich.console import Console

#: What the figures beside a number are.
WITHIN: Final = f"{100 * CONFIDENCE:.0f} % interval"


def backtest_one(name: str, underlying: str, start: dt.date | None, end: dt.date | None, *, draw: bool) -> None:
    """Play a strategy, write its report, show it."""
    spare_pandas()
    settings, console = load_settings(), console_of()
    strategy = find_strategy(name, settings)
    first, last = clean_range(open_lake(settings), underlying)
    with console.status("playing (the first time on a machine compiles the engine: half a minute)"):
        receipt, result = backtest(settings, strategy, underlying, start or first, end or last, draw=draw)
    if result is None:
        console.print("Nothing changed since the last run of this; its report stands.")
    _show(Path(receipt.details["report"]), list_reports(settings.reports_dir), console)


def show_report(run: str | None, regimes: list[str] | None = None, *, draw: bool = False) -> None:
    """List reports, or show the one whose hash starts with `run`: these metrics by regime where `regimes` is given (all if empty).

    With `draw`, its picture is drawn where there is none yet.

    Raises:
        DataError: no such report, or several.
    """
    spare_pandas()
    settings, console = load_settings(), console_of()
    paths = list_reports(settings.reports_dir)
    if run is None:
        table = Table(title=f"Reports in {settings.reports_dir} ({len(paths)} runs looked at)", title_justify="left")
        for column in ("run", "strategy", "underlying", "start", "end", "status", "return coin", WITHIN):
            table.add_column(column)
        for path in paths:
            r = load_report(path)
            value = r["metrics"]["return_coin"]
            span = (r["range"]["start"][:10], r["range"]["end"][:10])
            shown = "-" if value is None else f"{100 * value:+.2f} %"
            within = interval_of(r, "return_coin")
            spread = "-" if within is None else f"{100 * within[0]:+.1f} to {100 * within[1]:+.1f}"
            table.add_row(r["run"], r["strategy"]["name"], r["underlying"], *span, r["status"], shown, spread)
        console.print(table if paths else _none_yet(settings.reports_dir), soft_wrap=not paths)
        return
    found = [path for path in paths if path.stem.rsplit("-", 1)[-1].startswith(run)]
    if len(found) != 1:
        raise DataError(
            f"{len(found)} reports have a run that starts with {run!r}",
            place=str(settings.reports_dir),
            remedy="`options-agent report` lists them",
        )
    if draw:
        from options_agent.backtest.picture import drawn

        drawn(found[0], regime_labels(open_lake(settings), load_report(found[0])["underlying"]))
    if regimes is not None:
        _show_regimes(found[0], regimes, console)
        return
    _show(found[0], paths, console)


def _none_yet(folder: Path) -> str:
    """What to do where there is no report: to write one, or to look at the network that has some."""
    said = f"No report yet in {folder}: `options-agent run` or `options-agent backtest` writes them."
    for other in sorted(folder.parent.glob("*/")):
        if n := len(list_reports(other)):
            source = "synthetic" if other.name == "synthetic" else "recorded"  # or any other that belongs to a real network
            said += (
                f"\nThere are {n} of {other.name}: OPTIONS_AGENT_NETWORK={other.name} OPTIONS_AGENT_SOURCE={source} options-agent report"
            )
    return said


def _show_regimes(path: Path, metrics: list[str], console: Console) -> None:
    unknown = sorted(set(metrics) - {name for m in METRICS for name in (m.name, m.family)})
    if unknown:
        raise DataError(f"no metric {', '.join(unknown)}", remedy="their names are in docs/metrics.md")
    report, (regimes, lines) = load_report(path), heat(load_table(path, "regimes"), metrics)
    console.print(f"[bold]{report['strategy']['name']}[/] on {report['underlying']}, run {report['run']}")
    for condition, title, unit in (
        ("entry", "By the regime known at a trade's entry, with closed trades", "t"),
        ("path", "By the regime of each step of the equity, with days of the regime's own time", "d"),
    ):
        # four regimes to a table: more do not fit a terminal of a hundred columns
        for first in range(0, len(regimes), 4) if any(c == condition for _, c, _ in lines) else ():
            table = Table(title=title, title_justify="left")
            table.add_column("metric")
            for regime in regimes[first : first + 4]:
                table.add_column(regime, justify="right")
            for name, of, cells in lines:
                if of == condition:
                    table.add_row(name, *(_regime_cell(cell, unit) for cell in cells[first : first + 4]))
            console.print(table)
    console.print(
        f"[dim]Dim and in brackets: fewer than {SMALL_SAMPLE} trades or {SMALL_DAYS} days. In square ones the {WITHIN}; - is none.[/]"
    )


def _regime_cell(cell: dict[str, Any] | None, unit: str) -> str:
    if cell is None or cell["value"] is None:
        return "-"
    value = f"{cell['value']:,.4f}"
    within = "" if cell["low"] is None else f" [{cell['low']:,.2f} to {cell['high']:,.2f}]".replace("[", r"\[")
    text = f"{value}{within} ({cell['sample']:.0f} {unit})"
    return f"[dim]({text})[/]" if cell["small_sample"] else text


def _show(path: Path, looked_at: list[Path], console: Console) -> None:
    report = load_report(path)
    console.print(f"[bold]{report['strategy']['name']}[/] on {report['underlying']}: {report['strategy']['in_words']}")
    console.print(strategy_table([report], [load_report(one) for one in looked_at]))
    console.print(f"[dim]By regime, {FEW}. {HOW_TO_READ}[/]")
    above = report.get("uncertainty", {}).get("probabilistic_sharpe", {})
    if said := [f"{100 * odds:.0f} % in {'USD' if c == 'usd' else c}" for c, odds in above.items() if odds is not None]:
        console.print(f"Odds that the true Sharpe ratio is above 0 (probabilistic, before any look is counted): {', '.join(said)}")
    for reason in report["status_reasons"]:
        console.print(f"[yellow]INCONCLUSIVE[/]: {reason}")
    for proviso in report.get("provisos", []):
        console.print(f"[yellow]Proviso[/]: {proviso}")
    console.print(metrics_table(report))
    for currency, fall in report.get("drawdowns", {}).items():
        if fall is not None:
            back = f"back {fall['recovered_at'][:10]}" if fall["recovered_at"] else "not back by the end"
            console.print(
                f"Deepest fall in {currency}: {fall['depth']:.1%} from {fall['peak_at'][:10]} to {fall['trough_at'][:10]}, {back}, "
                f"{fall['days']:.0f} days"
            )
    for method, detail in report["settlement"].items():
        console.print(f"Settled by {method}: {detail['trades']} trades, price at most {detail['furthest_minutes']:.0f} minutes from expiry")
    declined = {k: n for k, n in report["decisions"].items() if k.startswith(("skip:", "cancel:"))}
    if declined:
        console.print("Entries declined: " + ", ".join(f"{k.split(':')[1]} {n}" for k, n in declined.items()))
    png = path.with_suffix(".png")
    picture = png if png.is_file() else f"`options-agent report {report['run']} --picture` draws it"
    console.print(f"Report {path}\nPicture {picture}\nTables {path.with_suffix('')}")
