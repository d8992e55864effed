"""`options-agent`: the terminal's front door. Commands import what they need when they run."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - typer reads the annotations
import os
import sys
from importlib import import_module
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import typer

from options_agent.errors import OptionsAgentError

if TYPE_CHECKING:
    from collections.abc import Callable

_DAY = ["%Y-%m-%d"]


def run(
    data: Annotated[Path | None, typer.Option(help="recorded chains, a file or folder; the synthetic market by default")] = None,
    prices: Annotated[Path | None, typer.Option(help="folder of prices, DVOL and funding; by default found beside the chains")] = None,
    days: Annotated[int, typer.Option(min=1, help="how many days of the synthetic market, up to yesterday")] = 90,
    start: Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="first day")] = None,
    end: Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="last day, inclusive")] = None,
    stay: Annotated[bool, typer.Option(help="stay up with schedules and sensors on until Ctrl-C")] = True,
) -> None:
    """Start the desk on this machine and do its main job, from harvest to a report by regime; then stay up."""
    from options_agent.cli.run import run_desk

    raise typer.Exit(run_desk(data, prices, days, start.date() if start else None, end.date() if end else None, stay=stay))


def backtest(
    strategy: Annotated[str, typer.Argument(help="a strategy of the catalogue (`options-agent strategies`), or a file, my.toml")],
    underlying: Annotated[str, typer.Argument(help="BTC or ETH")] = "BTC",
    start: Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="first day; everything clean by default")] = None,
    end: Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="last day, inclusive")] = None,
    picture: Annotated[bool, typer.Option("--picture", help="draw the equity, too; `report RUN --picture` does it later")] = False,
) -> None:
    """Play one strategy over the clean history of the lake and write its report."""
    from options_agent.cli.backtest import backtest_one

    backtest_one(strategy, underlying, start.date() if start else None, end.date() if end else None, draw=picture)


def report(
    run: Annotated[str | None, typer.Argument(help="a run's hash or the start of it; a list of all by default")] = None,
    metrics: Annotated[list[str] | None, typer.Argument(help="with --regimes: which metrics or families; all by default")] = None,
    regimes: Annotated[bool, typer.Option("--regimes", help="every metric by regime, with sample sizes")] = False,
    picture: Annotated[bool, typer.Option("--picture", help="draw the equity beside the report")] = False,
) -> None:
    """List written reports, or show one, whole or by regime."""
    from options_agent.cli.backtest import show_report

    if metrics and not regimes:
        raise typer.BadParameter("metrics are named with --regimes only: `options-agent report RUN --regimes sharpe return`")
    if run is None and regimes:
        raise typer.BadParameter("--regimes is of one run: `options-agent report RUN --regimes`")
    if run is None and picture:
        raise typer.BadParameter("--picture is of one run: `options-agent report RUN --picture`")
    show_report(run, metrics or [] if regimes else None, draw=picture)


def doctor() -> None:
    """Say what is installed, running, reachable and stale, and how to mend each."""
    from options_agent.cli.doctor import examine

    raise typer.Exit(examine())


#: What `options-agent --help` shows: functions and groups of commands, as module:name below options_agent.cli where not of this module.
COMMANDS: Final[dict[str, dict[str, str | Callable[..., None]]]] = {
    "Start": {"run": run, "doctor": doctor},
    "Data": {
        "harvest": "harvest:harvest_command",
        "exchange": "exchange:app",
        "import": "imports:import_command",
        "backfill": "backfill:backfill_command",
        "history": "history:history_command",
        "agreement": "backfill:agreement_command",
        "judge": "judge:judge_command",
        "quality": "quality:quality_command",
        "archive": "archive:app",
        "alerts": "alerts:app",
    },
    "Backtests": {
        "strategies": "strategies:app",
        "backtest": backtest,
        "sweep": "sweep:sweep_command",
        "report": report,
        "compare": "compare:compare_command",
        "joint": "joint:joint_command",
        "attribute": "attribute:attribute_command",
        "fees": "fees:fees_command",
    },
    "Research": {"study": "study:app", "ab": "ab:app"},
    "Language models": {
        "train": "train:train_command",
        "evaluate": "evaluate:evaluate_command",
        "prompts": "prompts:app",
        "spend": "spend:spend_command",
        "model": "model:app",
    },
}


def application(asked: str = "") -> typer.Typer:
    """The program with the command asked for, or with all of them where it is none: building thirty takes longer than many a command."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        help="A research and trading desk for crypto options: harvest, judge, archive, backtest, explain by regime.\n\n"
        "Start with `options-agent run`; it needs no account and no network.",
        epilog="Settings come from the environment and .env (variables OPTIONS_AGENT_...); `options-agent doctor` shows them.",
    )
    app.callback()(lambda: None)  # one command alone would be the whole program
    known = any(asked in commands for commands in COMMANDS.values())
    for panel, commands in COMMANDS.items():
        for name, where in commands.items():
            if known and name != asked:
                continue
            command = _found(where) if isinstance(where, str) else where
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=name, rich_help_panel=panel)
            else:
                app.command(name=name, rich_help_panel=panel)(command)
    return app


def _found(where: str) -> Callable[..., None] | typer.Typer:
    module, _, name = where.partition(":")
    found: Callable[..., None] | typer.Typer = getattr(import_module(f"options_agent.cli.{module}"), name)
    return found


def main() -> None:
    """Entry of the console script: an error of ours is a sentence and a remedy, not a traceback."""
    try:
        application(sys.argv[1] if len(sys.argv) > 1 else "")()
    except OptionsAgentError as error:
        if os.environ.get("OPTIONS_AGENT_DEBUG"):
            raise
        from options_agent.cli.terminal import console_of

        console = console_of(stderr=True)
        console.print(f"[bold red]{type(error).__name__}[/]: {_escaped(error.message)}")
        if error.place:
            console.print(f"  at: {_escaped(error.place)}")
        if error.remedy:
            console.print(f"  [green]remedy[/]: {_escaped(error.remedy)}")
        sys.exit(1)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
