"""`options-agent history`: what the exchange itself keeps of past days, into the lake."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - typer reads the annotations
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from options_agent.market.deribit.backfill import HistoryDay

_DAY = ["%Y-%m-%d"]


def history_command(
    first: Annotated[dt.datetime, typer.Option("--from", formats=_DAY, help="first day, UTC")],
    last: Annotated[dt.datetime, typer.Option("--to", formats=_DAY, help="last day, inclusive")],
    network: Annotated[str | None, typer.Option(help="mainnet, testnet or synthetic (the exchange in a box)")] = None,
    underlying: Annotated[list[str] | None, typer.Option("--underlying", "-u", help="a family, repeatable; default: the settings'")] = None,
    again: Annotated[bool, typer.Option("--again", help="ask anew for days that are done")] = False,
) -> None:
    """Option trades, DVOL, funding, perpetual bars and delivery prices of past days, from the exchange. Needs no key.

    Safe to stop and to repeat: days that are done cost nothing. Option chains of the past are not to be had from the exchange:
    `options-agent backfill` has them.
    """
    import asyncio

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from options_agent.cli.backfill import duration
    from options_agent.cli.terminal import console_of
    from options_agent.lake.store import open_lake
    from options_agent.market.deribit.backfill import backfill_history
    from options_agent.market.deribit.market_time import clock_of
    from options_agent.market.tardis.days import days_between
    from options_agent.settings import load_settings

    changes: dict[str, Any] = {"source": "deribit", "network": network, "underlyings": tuple(underlying) if underlying else None}
    settings = load_settings(**{name: value for name, value in changes.items() if value is not None})
    days = days_between(first.date(), last.date())
    console, started, rows = console_of(), time.monotonic(), 0
    console.print(
        f"{len(days)} days of {', '.join(settings.underlyings)} from {settings.exchange_url} ({settings.network})", soft_wrap=True
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("history", total=len(days) * len(settings.underlyings))

        def tell(done: HistoryDay) -> None:
            nonlocal rows
            rows += 0 if done.done_before else sum(done.receipt.counts.values())
            pace = f"{rows / (time.monotonic() - started):,.0f} rows/s"
            progress.update(task, advance=1, description=f"{done.underlying} {done.day}, {pace}")

        found = backfill_history(settings, open_lake(settings), days, clock=asyncio.run(clock_of(settings)), again=again, told=tell)
    _show(found)
    seconds = time.monotonic() - started
    console.print(f"{rows:,} rows fetched in {duration(seconds)}, {rows / max(seconds, 1e-9):,.0f} rows/s", soft_wrap=True)


def _show(found: list[HistoryDay]) -> None:
    from rich.table import Table

    from options_agent.cli.terminal import console_of

    table = Table(title="history of the exchange", title_justify="left")
    table.add_column("underlying")
    names = ("prices", "dvol", "funding", "trades")
    for name in ("days", "done before", *names):
        table.add_column(name, justify="right")
    for underlying in dict.fromkeys(each.underlying for each in found):
        own = [each for each in found if each.underlying == underlying]
        sums = [f"{sum(each.receipt.counts.get(name, 0) for each in own):,}" for name in names]
        table.add_row(underlying, str(len(own)), str(sum(each.done_before for each in own)), *sums)
    console_of().print(table)
