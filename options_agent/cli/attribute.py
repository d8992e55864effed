"""`options-agent attribute`: where a strategy's P&L came from."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

_DAY = ["%Y-%m-%d"]


def attribute_command(
    strategy: Annotated[str, typer.Argument(help="a strategy of the catalogue, or a file of one's own")],
    underlying: Annotated[str, typer.Argument(help="BTC or ETH")] = "BTC",
    start: Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="first day; everything clean by default")] = None,
    end: Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="last day, inclusive")] = None,
) -> None:
    """Split a strategy's P&L into greeks, costs, funding and settlement, by regime and tenor, and say which market moves it goes with."""
    from rich.table import Table

    from options_agent.cli.terminal import console_of
    from options_agent.research.attribution.report import WORDS, attribute_strategy
    from options_agent.research.attribution.trades import BOOK
    from options_agent.settings import load_settings
    from options_agent.strategies.files import find_strategy

    settings, console = load_settings(), console_of()
    span = (start.date() if start else None, end.date() if end else None)
    content, paths = attribute_strategy(settings, find_strategy(strategy, settings), underlying, *span)
    first, last = (content["range"][k][:10] for k in ("start", "end"))
    table = Table(title=f"{strategy} on {underlying}, {first} to {last}", title_justify="left")
    for name in ("where from", content["currency"], "USD", "share"):
        table.add_column(name, justify="left" if name == "where from" else "right")
    for name in BOOK:
        if content["total"][name]:
            figures = (
                f"{content['total'][name]:+.6f}",
                f"{content['usd']['components'][name]:+,.2f}",
                f"{content['shares'].get(name, 0):+.1%}",
            )
            table.add_row(WORDS[name], *figures)
    if content["currency"] == "coin":
        table.add_row("the coin's own move", "", f"{content['usd']['fx']:+,.2f}", "")
    table.add_section()
    table.add_row("change of equity", f"{content['change']:+.6f}", f"{content['usd']['change']:+,.2f}", "")
    console.print(table)
    console.print(
        f"Unexplained: {content['residual_share']:.2%} of the absolute P&L between quotes; not accounted for: {content['unaccounted']:.1e}"
    )
    factors = content["factors"]
    if factors["rows"]:
        told = Table(
            title=f"Daily returns on factors: {factors['days']} days, R² {factors['r_squared']:.2f}, Newey-West errors",
            title_justify="left",
        )
        for name in ("factor", "coefficient", "t", "p"):
            told.add_column(name, justify="left" if name == "factor" else "right")
        for name, row in factors["rows"].items():
            told.add_row(name, f"{row['coefficient']:+.6f}", f"{row['t']:+.2f}", f"{row['p']:.3f}")
        console.print(told)
    for name, why in factors["left_out"].items():
        console.print(f"[dim]{name} is left out: {why}[/]")
    console.print(f"Page {paths.page}\nSteps {paths.steps}")
