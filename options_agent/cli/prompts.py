"""`options-agent prompts`: versions of prompts with what each came to, their differences, and who is champion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from options_agent.llm.prompts import Prompt

app = typer.Typer(no_args_is_help=True, help="Versions of prompts, what each came to on held-out decisions, and which one is used.")

_COLUMNS: Final = ("version", "alias", "sha256", "made", "decisions", "usable", "regret, coin", "against champion, 95 %", "USD a decision")
_NAME = Annotated[str, typer.Argument(help="a prompt: decision, study")]


@app.command("list")
def list_command(name: Annotated[str | None, typer.Argument(help="one prompt; all by default")] = None) -> None:
    """List versions, newest last, with their aliases and results; files that changed are registered first, as challengers."""
    import datetime as dt

    from rich.table import Table

    from options_agent.cli.terminal import console_of, desk_settings
    from options_agent.llm.prompts import load_prompt, prompt_names
    from options_agent.llm.registry import prompt_versions, register_prompts

    settings, console = desk_settings(), console_of()
    names = (name,) if name else prompt_names()
    register_prompts([load_prompt(n) for n in names], settings)
    for one in names:
        table = Table(title=one, title_justify="left")
        for column in _COLUMNS:
            table.add_column(column, justify="left" if column in {"alias", "sha256", "made"} else "right")
        for version in prompt_versions(one, settings):
            made = dt.datetime.fromtimestamp(version.created_ms / 1e3, dt.UTC)
            row = (str(version.version), ", ".join(version.aliases), version.prompt.sha256[:10], f"{made:%Y-%m-%d %H:%M}")
            table.add_row(*row, *_result(version.result))
        console.print(table)
    console.print(
        "[dim]Regret: value of the best action less the chosen one's, coin a decision, on held-out decisions: `options-agent evaluate`.[/]"
    )


@app.command("diff")
def diff_command(
    name: _NAME,
    old: Annotated[str, typer.Argument(help="a version's number or alias, or `file`")] = "champion",
    new: Annotated[str, typer.Argument(help="a version's number or alias, or `file`")] = "file",
) -> None:
    """Show what changed between two versions, line by line."""
    import difflib

    from rich.markup import escape

    from options_agent.cli.terminal import console_of, desk_settings
    from options_agent.llm.prompts import load_prompt
    from options_agent.llm.registry import version_of

    settings, console = desk_settings(), console_of()
    before, after = (_lines(load_prompt(name) if which == "file" else version_of(name, which, settings).prompt) for which in (old, new))
    colours = {"+": "green", "-": "red", "@": "cyan"}
    lines = list(difflib.unified_diff(before, after, old, new, lineterm="", n=2))
    for line in lines:
        colour = colours.get(line[:1])
        console.print(f"[{colour}]{escape(line)}[/]" if colour else escape(line), soft_wrap=True)
    if not lines:
        console.print(f"{name}: {old} and {new} say the same")


@app.command("promote")
def promote_command(
    name: _NAME,
    version: Annotated[str, typer.Argument(help="a version's number or alias")] = "challenger",
    force: Annotated[bool, typer.Option(help="although the gate is not passed")] = False,
) -> None:
    """Make a version champion, if its evaluation passed the gate."""
    from options_agent.cli.terminal import console_of, desk_settings
    from options_agent.errors import SettingsError
    from options_agent.llm.registry import promote, version_of

    settings = desk_settings()
    lacking = version_of(name, version, settings).result.get("lacking", ["it was not evaluated: `options-agent evaluate --prompt`"])
    if lacking and not force:
        raise SettingsError(f"prompt {name} {version} does not pass the gate: {'; '.join(lacking)}", remedy="improve it, or --force")
    done = promote(name, version, settings)
    console_of().print(f"{name} version {done.version} is champion" + (" (forced past the gate)" if lacking else ""))


@app.command("rollback")
def rollback_command(name: _NAME) -> None:
    """Make the former champion champion again."""
    from options_agent.cli.terminal import console_of, desk_settings
    from options_agent.llm.registry import rollback

    done = rollback(name, desk_settings())
    console_of().print(f"{name} version {done.version} is champion again")


def _result(result: dict[str, Any]) -> tuple[str, ...]:
    if not result:
        return ("-",) * 5
    low, high = result.get("low"), result.get("high")
    return (
        f"{result['decisions']:,}",
        f"{result['valid']:.1%}",
        f"{result['regret']:.6f}",
        "-" if low is None or high is None else f"{low:+.6f} to {high:+.6f}",
        f"{result['cost_usd']:.6f}",
    )


def _lines(prompt: Prompt) -> list[str]:
    import json

    parts = [line for m in prompt.messages for line in (f"[{m.role}]", *m.template.splitlines())]
    return [*parts, "[response schema]", *json.dumps(prompt.response_schema, indent=1, sort_keys=True).splitlines()]
