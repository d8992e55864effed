"""`options-agent fees`: a fee schedule's versions as a table, with their sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from options_agent.backtest.fee_table import FeeVersion

_OF_ROWS: Final = {
    "option_taker": "inverse option, taker",
    "option_maker": "inverse option, maker",
    "option_cap": "  at most, of its price",
    "linear_taker": "USDC option, taker, of the index",
    "linear_maker": "USDC option, maker, of the index",
    "linear_cap": "  at most, of its price",
    "combo_discount": "combo: cheaper side free",
    "delivery": "delivery, inverse (dailies free)",
    "delivery_cap": "  at most, of the payoff",
    "linear_delivery": "delivery, USDC (dailies free)",
    "linear_delivery_cap": "  at most, of the payoff",
    "perpetual_taker": "perpetual, taker",
    "perpetual_maker": "perpetual, maker",
    "future_taker": "future, taker",
    "future_maker": "future, maker",
    "option_liquidation": "liquidation, options",
    "future_liquidation": "liquidation, futures",
}


def fees_command(
    name: Annotated[str | None, typer.Argument(help="deribit, none, or a TOML file; by default the one backtests use")] = None,
    as_toml: Annotated[bool, typer.Option("--toml", help="print the table's file, to start one's own from")] = False,
) -> None:
    """Show what a fee schedule charges from which day on, and where the figures are from."""
    from rich.markup import escape

    from options_agent.backtest.fee_table import read_schedule, table_path
    from options_agent.cli.terminal import console_of
    from options_agent.settings import load_settings

    name = name or load_settings().backtest.fee_schedule
    versions = read_schedule(name)
    if as_toml:
        typer.echo(table_path(name).read_text(encoding="utf-8"), nl=False)
        return
    console = console_of()
    console.print(_table(name, versions))
    console.print("percent of one coin a contract, where nothing else is said; ? = unsettled, see the sources")
    for version in versions:
        console.print(f"  [bold]{version.effective_from}[/] {escape(version.source)}", soft_wrap=True)


def _table(name: str, versions: tuple[FeeVersion, ...]) -> object:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"fees: {escape(name)}", title_justify="left")
    table.add_column("from")
    for version in versions:
        table.add_column(f"{version.effective_from}{'?' if 'effective_from' in version.unsettled else ''}", justify="right")
    for field, words in _OF_ROWS.items():
        table.add_row(words, *(f"{_figure(getattr(v, field))}{'?' if field in v.unsettled else ''}" for v in versions))
    return table


def _figure(value: float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{100 * value:.6g} %"
