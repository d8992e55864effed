"""`options-agent alerts`: what is open, what was, which rule catches what, whether a route works, and quiet for a while."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from options_agent.alerts.channels import Channel
    from options_agent.alerts.rules import RuleBook

app = typer.Typer(invoke_without_command=True, help="Open and past alerts; check rules, try routes, silence.")

#: Keys this desk raises, for `check`.
_EXAMPLES: Final = ("gap/BTC/deribit", "regions/BTC/deribit", "run/0a1b2c3d", "schedule/harvest")
_SPAN: Final = re.compile(r"^(\d+)([mhd])$")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


@app.callback()
def show(context: typer.Context, history: Annotated[bool, typer.Option(help="those that are over, too")] = False) -> None:
    """List what is open; with --history, everything of the last month."""
    if context.invoked_subcommand is not None:
        return
    from rich.table import Table

    from options_agent.alerts.state import AlertState
    from options_agent.cli.terminal import console_of
    from options_agent.settings import load_settings

    settings, now = load_settings(), dt.datetime.now(dt.UTC)
    state = AlertState(settings.state_dir)
    found = state.history() if history else state.open_alerts()
    table = Table(title=f"alerts of {settings.network}", title_justify="left")
    for column in ("key", "severity", "since", "until", "title", "told"):
        table.add_column(column, overflow="fold")
    for alert in found:
        until = f"{alert.closed_at:%Y-%m-%d %H:%M}" if alert.closed_at else "[bold red]open[/]"
        table.add_row(alert.key, alert.severity, f"{alert.opened_at:%Y-%m-%d %H:%M}", until, alert.title, ", ".join(alert.told))
    console = console_of()
    console.print(table if found else f"No alert is open on {settings.network}.")
    for pattern, end in state.silences(now).items():
        console.print(f"silenced until {end:%Y-%m-%d %H:%M} UTC: {pattern}")
    if waiting := state.pending():
        console.print(f"{len(waiting)} notices wait for their route or their hour.")


@app.command()
def check(key: Annotated[list[str] | None, typer.Argument(help="keys to try, for instance gap/BTC/deribit")] = None) -> None:
    """Read the rules and show which of them catches which key, where it is told, and when."""
    from rich.table import Table

    from options_agent.alerts.rules import due_at, rule_book
    from options_agent.cli.terminal import console_of
    from options_agent.settings import load_settings

    book, now = rule_book(load_settings()), dt.datetime.now(dt.UTC)
    table = Table(title=f"{len(book.rules)} rules, routes: {', '.join(book.channels)}", title_justify="left")
    for column in ("key", "rule", "severity", "told", "a warning now would be told at", "escalation"):
        table.add_column(column, overflow="fold")
    for name in key or _EXAMPLES:
        rule = book.rule_for(name)
        due = due_at(rule, rule.severity or "warning", now)
        escalation = (
            f"after {rule.escalate_minutes:g} min to {', '.join(rule.escalate_to) or 'the same'}" if rule.escalate_minutes else "none"
        )
        when = "once" if due <= now else f"{due:%Y-%m-%d %H:%M} UTC"
        table.add_row(name, rule.what, rule.severity or "its own", ", ".join(book.routes_of(rule)) or "nobody", when, escalation)
    console_of().print(table)


@app.command()
def test(route: Annotated[str, typer.Argument(help="name of a route, or `file`")]) -> None:
    """Send a test notice by one route, now, past all rules."""
    from options_agent.alerts.rules import rule_book
    from options_agent.alerts.state import Notice
    from options_agent.cli.terminal import console_of
    from options_agent.settings import load_settings

    settings, now = load_settings(), dt.datetime.now(dt.UTC)
    channel = _channel(rule_book(settings), route)
    body = f"A test from `options-agent alerts test {route}`. Nothing is wrong."
    channel.send(Notice(0, "test", "event", route, "info", f"{settings.network}: test of route {route}", body, now, 0))
    console_of().print(f"{route} took the notice.")


@app.command()
def silence(
    key: Annotated[str, typer.Argument(help="a key or a pattern, for instance 'gap/BTC/*'")],
    span: Annotated[str, typer.Option("--for", help="30m, 2h, 1d; 0m lifts it")] = "1h",
) -> None:
    """Hold back what fits until then. What opens meanwhile and is still open is told afterwards."""
    from options_agent.alerts.state import AlertState
    from options_agent.cli.terminal import console_of
    from options_agent.errors import SettingsError
    from options_agent.settings import load_settings

    found = _SPAN.match(span)
    if found is None:
        raise SettingsError(f"{span!r} is no span of time", place="--for", remedy="for instance 30m, 2h or 1d")
    until = dt.datetime.now(dt.UTC) + dt.timedelta(**{_UNITS[found[2]]: int(found[1])})
    AlertState(load_settings().state_dir).silence(key, until)
    console_of().print(f"{key} is silent until {until:%Y-%m-%d %H:%M} UTC.")


def _channel(book: RuleBook, route: str) -> Channel:
    from options_agent.errors import SettingsError

    if route not in book.channels:
        raise SettingsError(f"no route is called {route!r}", remedy=f"there are {', '.join(book.channels)}")
    return book.channels[route]
