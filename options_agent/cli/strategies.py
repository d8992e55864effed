"""`options-agent strategies`: the catalogue and one's own, each with its legs, rules and defaults."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from options_agent.strategies.rules import Strategy

app = typer.Typer(help="Strategies: the catalogue and one's own files, with legs, rules and defaults.", rich_markup_mode="markdown")


@app.callback(invoke_without_command=True)
def strategies(context: typer.Context) -> None:
    """List every strategy there is."""
    if context.invoked_subcommand is not None:
        return
    from rich.markup import escape
    from rich.table import Table

    from options_agent.cli.terminal import console_of
    from options_agent.settings import load_settings
    from options_agent.strategies.catalogue import CATALOGUE
    from options_agent.strategies.files import own_strategies
    from options_agent.strategies.page import risk, secured_by

    settings, console = load_settings(), console_of()
    own, broken = own_strategies(settings)
    table = Table(title=f"{len(CATALOGUE) + len(own)} strategies", title_justify="left")
    for column in ("name", "what it does", "secured by", "risk"):
        table.add_column(column, no_wrap=column == "name")
    for strategy in (CATALOGUE | own).values():
        mark = " [cyan](own)[/]" if strategy.name in own else ""
        table.add_row(strategy.name + mark, escape(strategy.description), secured_by(strategy), risk(strategy))
    console.print(table)
    console.print("`options-agent strategies show NAME` prints its legs and rules; one's own: docs/strategies.md.", markup=False)
    console.print(f"Own strategies: {settings.own_strategies_dir} ({len(own)} sound)")
    for error in broken.values():
        console.print(f"[yellow]not sound[/]: {escape(str(error))}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="its name, or a file")]) -> None:
    """Print a strategy: in words, its legs, and as the file one would start one's own from."""
    from options_agent.cli.terminal import console_of
    from options_agent.settings import load_settings
    from options_agent.strategies.files import find_strategy

    _show(find_strategy(name, load_settings()), console_of())


@app.command()
def check(file: Annotated[Path, typer.Argument(help="a strategy of one's own, *.toml")]) -> None:
    """Say whether a file is a sound strategy, and what it does."""
    from rich.markup import escape

    from options_agent.cli.terminal import console_of
    from options_agent.strategies.files import strategy_from_file

    strategy = strategy_from_file(file)
    console = console_of()
    console.print(f"[green]sound[/]: {escape(str(file))}")
    console.print(f"[bold]{strategy.name}[/]: {strategy.in_words()}")


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """Fields of tables within tables, by dotted name."""
    if not isinstance(value, dict):
        return [(name, value)]
    return [one for key, inner in value.items() for one in _flat(f"{name}.{key}", inner)]


def _show(strategy: Strategy, console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    from options_agent.strategies.files import strategy_to_toml
    from options_agent.strategies.page import risk, secured_by

    console.print(f"[bold]{strategy.name}[/] ({escape(strategy.family)}): {escape(strategy.description)}")
    console.print(strategy.in_words())
    console.print(f"Secured by {secured_by(strategy)}; starts in {strategy.starts_in}. Risk: {risk(strategy)}.")
    table = Table()
    for column in ("leg", "side", "right", "chosen by", "target", "ratio", "days of its own"):
        table.add_column(column)
    for label, legs in (("", strategy.legs), ("assigned ", strategy.assigned_legs)):
        for n, leg in enumerate(legs, 1):
            right = "call" if leg.right == "C" else "put"
            by = leg.by if leg.by != "offset" else f"offset from leg {leg.of + 1}"
            days = "-" if leg.dte is None else f"{leg.dte:g}"
            table.add_row(f"{label}{n}", leg.side, right, by, f"{leg.target:g}", f"{leg.ratio:g}", days)
    console.print(table)
    rules = Table()
    for column in ("rule", "value"):
        rules.add_column(column)
    plain = strategy.as_dict()
    for part in ("entry", "exit", "filters", "sizing", "hedge", "delta_dial", "share"):
        for name, value in _flat(part, plain[part]):
            rules.add_row(name, "off" if value is None else escape(str(value)))
    console.print(rules)
    console.print("As a file (fields at their defaults are left out; give it a name of its own):\n")
    console.print(strategy_to_toml(strategy), markup=False, highlight=False, soft_wrap=True)  # a broken line would be no TOML
