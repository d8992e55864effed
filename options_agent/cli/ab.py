"""`options-agent ab`: books side by side on one market, looked at as often as one likes."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Compare live (paper) strategies or prompts day by day, with intervals that stay valid however often one looks.",
)
_DAY = ["%Y-%m-%d"]
_NAME = Annotated[str, typer.Argument(help="the comparison's name")]


@app.command("new")
def new_command(
    name: _NAME,
    arm: Annotated[list[str], typer.Option(help="name=book, the control first; again for each arm")],
    start: Annotated[dt.datetime, typer.Option(formats=_DAY, help="first day of the test")],
    shadow_start: Annotated[dt.datetime, typer.Option(formats=_DAY, help="first day of the shadow period that measures the variance")],
    metric: Annotated[str, typer.Option(help="equity_coin or equity_usd")] = "equity_coin",
    effect: Annotated[float, typer.Option(help="difference of the daily mean return one hopes to see, decimal")] = 0.001,
    alpha: Annotated[float, typer.Option(help="chance of a false verdict, of all arms together")] = 0.05,
    least_days: Annotated[int, typer.Option(min=1, help="no verdict before")] = 14,
    most_days: Annotated[int, typer.Option(min=1, help="then it ends without one")] = 180,
) -> None:
    """Declare a comparison: who, since when, by what, and when it stops. It stands once written."""
    from options_agent.cli.terminal import console_of
    from options_agent.errors import SettingsError
    from options_agent.research.ab.declaration import Arm, Comparison, declare
    from options_agent.settings import load_settings

    arms = []
    for text in arm:
        label, equals, book = text.partition("=")
        if not (label and equals and book):
            raise SettingsError(f"{text!r} is no arm", remedy="name=book, for instance calls=covered_call-BTC")
        arms.append(Arm(label, book))
    one = Comparison(name, tuple(arms), shadow_start.date(), start.date(), metric, effect, alpha, least_days, most_days)
    path = declare(one, load_settings())
    console_of().print(f"Declared in {path}, {one.sha256[:16]}\nNext: `options-agent ab show {name}`")


@app.command("run-shadow")
def shadow_command(
    book: Annotated[list[str], typer.Argument(help="books to write, each strategy-UNDERLYING: covered_call-BTC")],
) -> None:
    """Write journals of books that were never live, from backtests over the clean days; what is there already stays."""
    from options_agent.cli.terminal import console_of
    from options_agent.errors import SettingsError
    from options_agent.research.ab.shadow import journal_of_strategy
    from options_agent.settings import load_settings
    from options_agent.strategies.files import find_strategy

    settings, console = load_settings(), console_of()
    for one in book:
        strategy, dash, underlying = one.rpartition("-")
        if not dash:
            raise SettingsError(f"{one!r} is no shadow book", remedy="strategy-UNDERLYING, for instance covered_call-BTC")
        console.print(f"{one}: {journal_of_strategy(settings, find_strategy(strategy, settings), underlying, one)}")


@app.command("show")
def show_command(name: _NAME) -> None:
    """Look: the interval so far and what may be concluded. Every look is written down; none costs anything."""
    from rich.table import Table

    from options_agent.cli.terminal import console_of
    from options_agent.research.ab.declaration import load
    from options_agent.research.ab.report import words, write_report
    from options_agent.settings import load_settings

    settings, console = load_settings(), console_of()
    comparison = load(name, settings)
    found, path = write_report(comparison, settings)
    table = Table(title=f"{name}: {comparison.metric}, daily, since {comparison.start}", title_justify="left")
    for column in ("arm", "beside", "days", "missing", "bp a day", "interval", "p", "verdict"):
        table.add_column(column, justify="left" if column in {"arm", "beside", "verdict"} else "right")
    for s in found:
        between = f"{1e4 * s.low:+.1f} to {1e4 * s.high:+.1f}" if s.days else "-"
        table.add_row(s.arm, s.control, str(s.days), str(s.missing), f"{1e4 * s.mean:+.2f}", between, f"{s.p:.3f}", s.verdict)
    console.print(table)
    for s in found:
        console.print(words(s, comparison))
    console.print(f"Report {path}")


@app.command("list")
def list_command() -> None:
    """List declared comparisons."""
    from options_agent.cli.terminal import console_of
    from options_agent.research.ab.declaration import comparisons, load
    from options_agent.settings import load_settings

    settings, console = load_settings(), console_of()
    for name in comparisons(settings):
        one = load(name, settings)
        console.print(f"{name}: {', '.join(f'{a.name} ({a.book})' for a in one.arms)}, since {one.start}")
