"""`options-agent strategies`: the catalogue and one's own, each with its legs, rules and defaults."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from options_agent.strategies.rules import Strategy

app = typer.Typer(help="Strategies: the catalogue and one's own files, with legs, rules and defaults.", rich_markup_mode="markdown")

SECURED: Final = {
    "coin": "the coin, a short call each",
    "cash": "USD, the strike of each short put",
    "margin": "a coin of equity a unit",
    "standard": "the exchange's initial margin",
}


@app.callback(invoke_without_command=True)
def strategies(context: typer.Context) -> None:
    """List every strategy there is."""
    if context.invoked_subcommand is not None:
        return
    from rich.table import Table

    from options_agent.cli.terminal import console_of
    from options_agent.settings import load_settings
    from options_agent.strategies.catalogue import CATALOGUE
    from options_agent.strategies.files import own_strategies

    settings, console = load_settings(), console_of()
    own, broken = own_strategies(settings)
    table = Table(title=f"{len(CATALOGUE) + len(own)} strategies", title_justify="left")
    for column in ("name", "what it does", "secured by"):
        table.add_column(column, no_wrap=column == "name")
    for strategy in (CATALOGUE | own).values():
        mark = " [cyan](own)[/]" if strategy.name in own else ""
        table.add_row(strategy.name + mark, strategy.description, _secured(strategy))
    console.print(table)
    console.print("`options-agent strategies show NAME` prints its legs and rules; one's own: docs/strategies.md.", markup=False)
    console.print(f"Own strategies: {settings.own_strategies_dir} ({len(own)} sound)")
    for error in broken.values():
        console.print(f"[yellow]not sound[/]: {error}")


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
    from options_agent.cli.terminal import console_of
    from options_agent.strategies.files import strategy_from_file

    strategy = strategy_from_file(file)
    console = console_of()
    console.print(f"[green]sound[/]: {file}")
    console.print(f"[bold]{strategy.name}[/]: {strategy.in_words()}")


def _show(strategy: Strategy, console: Console) -> None:
    from rich.table import Table

    from options_agent.strategies.files import strategy_to_toml

    console.print(f"[bold]{strategy.name}[/] ({strategy.family}): {strategy.description}")
    console.print(strategy.in_words())
    console.print(f"Secured by {_secured(strategy)}; starts in {strategy.starts_in}")
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
    console.print("As a file (fields at their defaults are left out; give it a name of its own):\n")
    console.print(strategy_to_toml(strategy), markup=False, highlight=False)


def _secured(strategy: Strategy) -> str:
    hedged = ", hedged by the perpetual" if strategy.hedge else ""
    wheel = ", then the coin" if strategy.assigned_legs else ""
    return SECURED[strategy.collateral] + wheel + hedged
