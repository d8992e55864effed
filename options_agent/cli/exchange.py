"""`options-agent exchange`: serve the exchange in a box, and turn its faults on and off while it runs."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from options_agent.exchange.server import Box
    from options_agent.settings import Settings

app = typer.Typer(
    invoke_without_command=True,
    help="Serve a Deribit-compatible exchange on this machine, fed by the synthetic market, recorded chains or the lake.",
)


@app.callback()
def serve(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(help="on 127.0.0.1; 0 for any free one")] = None,
    speed: Annotated[float | None, typer.Option(help="market seconds a second")] = None,
    start: Annotated[dt.datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="market time (UTC) it opens at")] = None,
    feed: Annotated[str | None, typer.Option(help="synthetic, recorded or lake")] = None,
    limits: Annotated[float | None, typer.Option(help="credit pools in multiples of mainnet's; 0 for none")] = None,
    fault: Annotated[list[str] | None, typer.Option(help="a fault from the start, as NAME=VALUE; repeatable")] = None,
) -> None:
    """Serve until Ctrl-C. `options-agent exchange fault NAME=VALUE` spoils it while it runs; `... fault` lists the switches."""
    if context.invoked_subcommand is not None:
        return
    from options_agent.exchange.faults import Faults
    from options_agent.settings import load_settings

    chosen = {"port": port, "speed": speed, "start": start, "feed": feed, "limits": limits}
    settings = load_settings(exchange={name: value for name, value in chosen.items() if value is not None})
    faults = Faults().changed(_pairs(fault or []))
    _serve(settings, faults.shown() if fault else {})


@app.command()
def fault(
    switches: Annotated[list[str] | None, typer.Argument(help="NAME=VALUE, for instance drop=0.01 maintenance=on")] = None,
    port: Annotated[int | None, typer.Option(help="of the running exchange")] = None,
) -> None:
    """Set faults of the running exchange; without any, show how they stand."""
    from options_agent.exchange.control import ask
    from options_agent.settings import load_settings

    where = port or load_settings().exchange.port
    shown = ask(where, "faults", _pairs(switches or []) or None)
    _table("faults", {name: value for name, value in shown.items() if name != "error"})


@app.command()
def stats(port: Annotated[int | None, typer.Option(help="of the running exchange")] = None) -> None:
    """What the running exchange has served: calls, refusals, messages, incidents, and whether it kept up."""
    from options_agent.exchange.control import ask
    from options_agent.settings import load_settings

    told = ask(port or load_settings().exchange.port, "stats")
    incidents = told.pop("incidents")
    told["errors"] = ", ".join(f"{count:,} x {code}" for code, count in told["errors"].items()) or "none"
    _table("exchange", {name: f"{value:,}" if isinstance(value, int) else value for name, value in told.items()})
    if incidents:
        _incidents(incidents)


def _serve(settings: Settings, faults: dict[str, Any]) -> None:
    import asyncio

    from options_agent.exchange.opening import box_of, serve_box

    box = box_of(settings)
    if faults:
        box.switch(faults)
    asyncio.run(serve_box(box, settings.exchange.port, lambda port: _said(box, settings, port)))


def _said(box: Box, settings: Settings, port: int) -> None:
    from options_agent.cli.terminal import console_of

    console = console_of()
    clock = box.market.feed.clock
    console.print(f"[bold]exchange in a box[/] at http://127.0.0.1:{port}/api/v2 and ws://127.0.0.1:{port}/ws/api/v2")
    console.print(
        f"{len(box.market.feed.listed)} instruments of {', '.join(box.market.feed.underlyings)} from {settings.exchange.feed}; "
        f"market time {clock.now():%Y-%m-%d %H:%M:%S} UTC, {clock.speed:g} x; limits {box.limits:g} x mainnet's"
    )
    console.print("harvest from it: [bold]options-agent harvest --network synthetic[/]    Ctrl-C ends it", soft_wrap=True)


def _pairs(texts: list[str]) -> dict[str, Any]:
    from options_agent.errors import SettingsError

    pairs = {}
    for each in texts:
        name, separator, value = each.partition("=")
        if not separator:
            raise SettingsError(f"{each!r} is not NAME=VALUE", remedy="for instance drop=0.01")
        pairs[name] = value
    return pairs


def _incidents(incidents: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from options_agent.cli.terminal import console_of

    table = Table("market time, UTC", "switched", title="incidents", title_justify="left")
    for each in incidents:
        table.add_row(each["at"][:19].replace("T", " "), "  ".join(f"{name}={value}" for name, value in each.items() if name != "at"))
    console_of().print(table)


def _table(title: str, values: dict[str, Any]) -> None:
    from rich.table import Table

    from options_agent.cli.terminal import console_of

    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in values.items():
        table.add_row(name, str(value))
    console_of().print(table)
