"""`options-agent train`: fine-tune a model on weeks of examples, follow it to its end, cancel it, list what was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from options_agent.settings import Settings


def train_command(
    weeks: Annotated[str | None, typer.Option(help="ISO weeks, 2026-W01,2026-W02 or 2026-W01:2026-W12; all by default")] = None,
    label: Annotated[
        str, typer.Option(help="expert: what the rules did; hindsight: what was worth most 3 days later; live: what models did")
    ] = "expert",
    base: Annotated[
        str, typer.Option(help="model to start from; the embedded server tunes desk-rules (trees) and desk-decoder (needs torch)")
    ] = "desk-rules",
    epochs: Annotated[int | None, typer.Option(min=1, help="passes over the data; the server's choice by default")] = None,
    cancel: Annotated[str | None, typer.Option(help="end this job (id or key) instead")] = None,
    list_jobs: Annotated[bool, typer.Option("--list", help="show every job and what came of it instead")] = False,
) -> None:
    """Fine-tune a model on decisions of past weeks; the latest fifth of the weeks is held out and never learnt from.

    The job is kept on the server and in the desk's home: stopped or killed, the same command follows it again and submits nothing twice. A
    model that was trained decides nothing before it is evaluated.
    """
    from options_agent.cli.terminal import console_of
    from options_agent.errors import ServiceError
    from options_agent.llm.fine_tuning import cancel as cancel_job
    from options_agent.llm.fine_tuning import fine_tune
    from options_agent.llm.shutdowns import alarm_shutdowns
    from options_agent.settings import load_settings

    settings, console = load_settings(), console_of()
    if list_jobs:
        _list(settings, console)
        return
    if cancel:
        done = cancel_job(settings, cancel)
        console.print(f"job {done.job or done.key}: {done.status}" + (f" ({done.reason})" if done.reason else ""), markup=False)
        return
    for end in alarm_shutdowns(settings, (base,)):
        console.print(f"[yellow]{end.what} ends on {end.on}: {end.remedy}[/]")
    chosen = _weeks(weeks) if weeks else None
    parameters = {"n_epochs": epochs} if epochs else None
    tune = fine_tune(
        settings, chosen, label=label, base=base, hyperparameters=parameters, progress=lambda said: console.print(said, markup=False)
    )
    if tune.status != "succeeded":
        remedy = "the same command tries again with a new job" if tune.job else "another --base, or another server"
        raise ServiceError(f"job {tune.job or tune.key} {tune.status}: {tune.reason}", remedy=remedy)
    for name, said in (
        ("model", tune.model),
        ("data", f"{tune.examples:,} examples labelled {tune.label}, sha256 {tune.data_sha256[:12]}, {tune.datasheet}"),
        ("learnt from", ", ".join(tune.weeks)),
        ("held out", ", ".join(tune.held_out) or "the last fifth of the week"),
        ("metrics", ", ".join(f"{n} {v:.4g}" for n, v in tune.metrics.items())),
        ("job", tune.job),
    ):
        console.print(f"{name:>12}  {said}", markup=False, highlight=False)


def _list(settings: Settings, console: Console) -> None:
    from rich.table import Table

    from options_agent.llm.fine_tuning import tunes

    table = Table(title="fine-tuning jobs", title_justify="left")
    for column in ("job", "status", "base", "label", "weeks", "examples", "model", "reason"):
        table.add_column(column, justify="right" if column == "examples" else "left", overflow="fold")
    for tune in tunes(settings):
        span = f"{tune.weeks[0]} to {tune.weeks[-1]}" if tune.weeks else "-"
        table.add_row(tune.job or tune.key, tune.status, tune.base, tune.label, span, f"{tune.examples:,}", tune.model or "-", tune.reason)
    console.print(table)


def _weeks(text: str) -> list[str]:
    import datetime as dt

    from options_agent.llm.training import week_bounds, weeks_between

    if ":" in text:
        first, last = (week_bounds(part.strip())[0].date() for part in text.split(":", 1))
        return weeks_between(first, last + dt.timedelta(days=6))
    found = [part.strip() for part in text.split(",")]
    for week in found:
        week_bounds(week)
    return found
