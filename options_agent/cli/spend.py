"""`options-agent spend`: what language models cost, by feature, model, prompt and day, and what of the budgets is left."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

_DAY = ["%Y-%m-%d"]


def spend_command(
    by: Annotated[list[str] | None, typer.Option(help="feature, model, prompt, day; again for each; feature and model by default")] = None,
    since: Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="first day")] = None,
    send: Annotated[bool, typer.Option("--send", help="send the traces that wait to MLflow")] = False,
) -> None:
    """Show the ledger of calls: every one was reserved before it was made and settled after it."""
    from rich.table import Table

    from options_agent.cli.terminal import console_of, desk_settings
    from options_agent.errors import SettingsError
    from options_agent.llm.prices import table_date
    from options_agent.llm.spend import GROUPS, budgets, spent, untraced
    from options_agent.llm.spend_watch import watch_budgets
    from options_agent.llm.traces import send_traces

    settings, console = desk_settings(), console_of()
    groups = by or ["feature", "model"]
    if unknown := [g for g in groups if g not in GROUPS]:
        raise SettingsError(f"spend is not kept by {', '.join(unknown)}", remedy=f"one of {', '.join(GROUPS)}")
    table = Table(title=f"Calls of language models, priced by {table_date()}", title_justify="left")
    for name in (*groups, "calls", "failed", "tokens in", "tokens out", "USD", "USD reserved", "seconds"):
        table.add_column(name, justify="left" if name in groups else "right")
    for row in spent(settings, groups, since.date() if since else None):
        counts = (f"{row[n]:,}" for n in ("calls", "failed", "tokens_in", "tokens_out"))
        table.add_row(
            *(str(row[g]) for g in groups), *counts, f"{row['cost_usd']:.6f}", f"{row['reserved_usd']:.6f}", f"{row['seconds']:,.1f}"
        )
    console.print(table)
    for budget in budgets(settings):
        console.print(f"budget of {budget.name}: {budget.used:.4f} of {budget.limit:g} USD today ({budget.share:.0%})")
    watch_budgets(settings)
    console.print(
        f"{send_traces(settings)} traces sent"
        if send
        else f"{len(untraced(settings)):,} traces wait: --send"
        if untraced(settings, 1)
        else "every trace is sent"
    )
