"""`options-agent harvest`: the long-running live harvester, one line a snapshot, a table at the end."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from options_agent.market.deribit.harvester import Harvested
    from options_agent.market.deribit.sweep import Taken
    from options_agent.settings import Settings


def harvest_command(
    network: Annotated[
        str | None, typer.Option(help="mainnet, testnet or synthetic (the exchange in a box): host, key, lake and state follow")
    ] = None,
    region: Annotated[str | None, typer.Option(help="this harvester's name among several that write to one lake")] = None,
    interval: Annotated[int | None, typer.Option(min=1, help="minutes between snapshots")] = None,
    snapshots: Annotated[int | None, typer.Option(min=1, help="end after so many grid times; the first is the one just past")] = None,
    underlying: Annotated[
        list[str] | None, typer.Option("--underlying", "-u", help="families, for instance BTC ETH SOL_USDC; repeatable")
    ] = None,
    quiet: Annotated[bool, typer.Option(help="say nothing but what went wrong")] = False,
) -> None:
    """Harvest live until Ctrl-C or SIGTERM. Killed at any instant, it loses the snapshot in flight and nothing else."""
    import asyncio  # with TLS: every command loads this module

    from options_agent.settings import load_settings

    changes: dict[str, Any] = {"source": "deribit", "network": network, "region": region, "live_interval_minutes": interval}
    if underlying:
        changes["underlyings"] = tuple(underlying)
    settings = load_settings(**{name: value for name, value in changes.items() if value is not None})
    done = asyncio.run(_harvest(settings, snapshots, quiet=quiet))
    if not quiet:
        _summary(done)
    raise typer.Exit(1 if snapshots and not done.snapshots else 0)


async def _harvest(settings: Settings, snapshots: int | None, *, quiet: bool) -> Harvested:
    import asyncio

    from options_agent.cli.terminal import console_of
    from options_agent.lake.store import open_lake
    from options_agent.market.deribit.harvester import first_grid_time, harvest
    from options_agent.market.deribit.market_time import clock_of, in_market_time

    clock = await clock_of(settings)
    settings = in_market_time(settings, clock)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    console, lake = console_of(), open_lake(settings)
    if not quiet:
        console.print(
            f"harvesting {', '.join(settings.underlyings)} from {settings.exchange_url} ({settings.network}) every "
            f"{settings.live_interval_minutes} min into {lake.root}/{lake.network}/raw as region {settings.region}, process {os.getpid()}",
            soft_wrap=True,
        )
        first = first_grid_time(clock.now(), dt.timedelta(minutes=settings.live_interval_minutes), past=snapshots is not None)
        console.print(
            f"the first snapshot is of {first:%Y-%m-%d %H:%M} UTC, it is now {clock.now():%H:%M:%S}    Ctrl-C ends it", soft_wrap=True
        )

    def told(taken: Taken) -> None:
        if not taken.rows:
            console.print(f"{taken.snapshot:%Y-%m-%d %H:%M} {taken.underlying:<9} [bold red]missed[/]: {taken.cause}", soft_wrap=True)
        elif taken.missing:
            lacks = f"[yellow]partial[/], {taken.missing} missing: {taken.cause}"
            console.print(f"{taken.snapshot:%Y-%m-%d %H:%M} {taken.underlying:<9} {taken.rows:>5} rows {lacks}", soft_wrap=True)
        elif not quiet:
            console.print(
                f"{taken.snapshot:%Y-%m-%d %H:%M} {taken.underlying:<9} {taken.rows:>5} rows, whole, by {taken.transport}, "
                f"skew {taken.skew_seconds:.1f} s",
                soft_wrap=True,
            )

    return await harvest(settings, lake, clock=clock, stop=stop, snapshots=snapshots, told=told)


def _summary(done: Harvested) -> None:
    from rich.table import Table

    from options_agent.cli.terminal import console_of

    table = Table(title="harvest", title_justify="left", show_header=False)
    for name in ("snapshots", "partial", "missed", "rows", "connections", "notifications", "refused", "clock_offset_seconds"):
        value = getattr(done, name)
        table.add_row(name, f"{value:,}" if isinstance(value, int) else f"{value}")
    for underlying, at in done.last.items():
        table.add_row(f"last {underlying}", f"{at:%Y-%m-%d %H:%M} UTC")
    console_of().print(table)
