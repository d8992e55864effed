"""`options-agent compare`: two runs or more, held against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, RenderableType

    from options_agent.backtest.compare_rows import Line

#: Trades of a pair that are shown; the page has more, the JSON all.
_TRADES: Final = 8


def compare_command(
    runs: Annotated[list[str], typer.Argument(help="two or more: the start of a run's hash, or the path of its report")],
    html: Annotated[Path | None, typer.Option("--html", help="write one self-contained page here")] = None,
    as_json: Annotated[str | None, typer.Option("--json", help="write the JSON here; - prints it and nothing else")] = None,
    base: Annotated[str | None, typer.Option(help="which run the others are held against; the first by default")] = None,
) -> None:
    """Compare backtest runs: figures on the time they share, what differs, and trade by trade."""
    import json

    from options_agent.backtest.compare import list_reports
    from options_agent.backtest.compare_page import page_of
    from options_agent.backtest.diff import compare_runs, curves
    from options_agent.backtest.result import load_report
    from options_agent.backtest.saved_runs import find_runs
    from options_agent.cli.terminal import console_of
    from options_agent.durable import write_text
    from options_agent.settings import load_settings

    folder = load_settings().reports_dir
    found, said = find_runs(runs, folder, base)
    among = [load_report(path) for path in list_reports(folder)] if folder.is_dir() else []
    document = compare_runs(found, among=[r for r in among if "metrics" in r], said=said)
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"
    if as_json == "-":
        typer.echo(text, nl=False)
    console = console_of(stderr=as_json == "-")
    if as_json not in (None, "-"):
        write_text(Path(as_json), text)
    if html is not None:
        write_text(html, page_of(document, curves(found)))
    if as_json != "-":
        show(document, console)
    for name, path in (("Page", html), ("JSON", None if as_json == "-" else as_json)):
        if path is not None:
            console.print(f"{name} {path}", markup=False, soft_wrap=True)


def show(document: Mapping[str, Any], console: Console) -> None:
    """The comparison as text, readable at a hundred columns."""
    from rich.markup import escape

    from options_agent.backtest.compare_rows import FEW

    for run in document["runs"]:
        status = "" if run["status"] == "ok" else " [yellow]INCONCLUSIVE[/]"
        span = f"{str(run['range']['start'])[:10]} to {str(run['range']['end'])[:10]}"
        console.print(f"[bold]{run['label']}[/] {escape(run['strategy'])} {escape(run['underlying'])}, {span}, run {run['run']}{status}")
    console.print()
    _sentences("Differences that matter", [d["says"] for d in document["differences"] if d["matters"]], console)
    _sentences("For the record", [d["says"] for d in document["differences"] if not d["matters"]], console, style="dim")
    if not document["differences"]:
        console.print("Nothing differs in rules, settings, data, range and code.\n")
    for table in figures(document):
        console.print(table)
    console.print(f"[dim]Within: the {100 * document['method']['confidence']:.0f} % interval, the same days in another order.[/]")
    console.print(
        "[dim]Probabilistic: odds that Sharpe is above 0; deflated: above the luck of the best of "
        f"{document['looks']} runs; under 0.95 proves nothing.[/]"
    )
    console.print(f"[dim]{FEW} Intervals know no loss that did not come.[/]\n")
    for pair in document["pairs"]:
        _show_pair(document, pair, console)


def _sentences(title: str, said: Sequence[str], console: Console, style: str = "") -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    if not said:
        return
    console.print(title, style=style or "bold")
    table = Table.grid(padding=(0, 1))
    for sentence in said:
        table.add_row(Text("-", style=style), Text(sentence, style=style))
    console.print(Padding(table, (0, 0, 1, 0)))


def figures(document: Mapping[str, Any]) -> list[RenderableType]:
    """Headlines, a few runs a table: on the shared time with intervals, and the whole range beside."""
    from options_agent.backtest.compare_rows import headlines, kinds_of

    lines, runs, common = headlines(document), document["runs"], document["common_range"]
    kinds = kinds_of(document)
    at_once = {1: 5, 2: 3, 3: 2}[len(kinds)]  # what a hundred columns hold
    where = f"on the shared {common['days']:.0f} days" if common else "whole ranges"
    title = f"Figures {where}; {document['looks']} runs looked at"
    groups = [[0, *range(n, min(n + at_once - 1, len(runs)))] for n in range(1, len(runs), at_once - 1)]
    return [_figures(lines, runs, group, kinds, "(continued)" if n else title) for n, group in enumerate(groups)]


def _figures(
    lines: Sequence[Line], runs: Sequence[Mapping[str, Any]], group: Sequence[int], kinds: Sequence[str], title: str
) -> RenderableType:
    from rich.table import Table

    table = Table(title=title, title_justify="left", padding=(0, 1, 0, 0))
    table.add_column("")
    for n in group:
        label = runs[n]["label"]
        for kind in kinds:
            name = {"common": label, "interval": "within", "whole": f"{label} whole"}[kind]
            dim = kind == "interval" or (kind == "whole" and kinds[0] == "common")
            table.add_column(name, justify="right", no_wrap=True, style="dim" if dim else None)
    for line in lines:
        table.add_row(line.words, *(getattr(line.cells[n], kind) for n in group for kind in kinds))
    return table


def _show_pair(document: Mapping[str, Any], pair: Mapping[str, Any], console: Console) -> None:
    from rich.table import Table

    from options_agent.backtest import compare_rows as rows
    from options_agent.backtest.trade_reasons import TERMS

    _sentences(f"{pair['other']} against {pair['base']}", pair["says"], console)
    if pair["daily"]:
        currencies = rows.comparable(document, pair)
        table = Table(title=f"{pair['other']} less {pair['base']}, day by day", title_justify="left")
        table.add_column("")
        for name in rows.currency_names(document, pair):
            table.add_column(name, justify="right")
        for words, cells in rows.daily_lines(pair, currencies):
            table.add_row(words.format(other=pair["other"]), *cells)
        console.print(table)
    trades = pair["trades"]
    if not trades["compared"]:
        return
    for side in ("base", "other"):
        ends = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in trades["exits"][side].items())
        console.print(f"{pair[side]} ended by: {ends or 'no trade'}", markup=False)
    if trades["terms"]:
        words = ", ".join(f"{TERMS[name]} {n}" for name, n in trades["terms"].items())
        console.print(f"Terms that differ, in how many trades: {words}", markup=False)
        console.print(f"Of the trades both made, the difference comes from (coin): {rows.effects_words(pair) or 'nothing'}", markup=False)
    told = [t for t in trades["trades"] if t["kind"] != "same"]
    if told:
        console.print(f"\n[bold]Trades that differ, the largest {min(len(told), _TRADES)} of {len(told)}[/]")
    for one in told[:_TRADES]:
        _show_trade(one, pair, console)
    console.print()


def _show_trade(one: Mapping[str, Any], pair: Mapping[str, Any], console: Console) -> None:
    """A trade in two lines: what it was and made, and why it differs."""
    from rich.padding import Padding
    from rich.text import Text

    from options_agent.backtest import compare_rows as rows

    made = ", ".join(f"{pair[side]} {rows.coin_amount(one[side]['profit_coin'])}" for side in ("base", "other") if one[side])
    which = rows.KIND_WORDS[one["kind"]].format(base=pair["base"], other=pair["other"])
    console.print(Text(f"{rows.moment(one['opened_at'])}  {rows.contracts_words(one)}  {which}  ({made} coin)"))
    console.print(Padding(Text("; ".join(one["why"]), style="dim"), (0, 0, 0, 4)))
