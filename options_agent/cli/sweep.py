"""`options-agent sweep`: a grid of configurations over the clean history, and what the best of them is worth."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

_DAY = ["%Y-%m-%d"]


def sweep_command(
    strategy: Annotated[str, typer.Argument(help="a strategy of the catalogue, or a file of one's own")],
    underlying: Annotated[str, typer.Argument(help="BTC or ETH")] = "BTC",
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", "-g", help="field=value,value or field=from:to:step; again for each field; about 1,000 by default"),
    ] = None,
    start: Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="first day; everything clean by default")] = None,
    end: Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="last day, inclusive")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="threads; all cores by default; the result is the same")] = None,
    reject_below: Annotated[
        float | None, typer.Option(help="give up on what has returned less than this in coin after a third of the range, e.g. -0.2")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="address of a Dask scheduler to play on, tcp://host:port")] = None,
    store: Annotated[str | None, typer.Option(help="with --cluster: where the workers read the history, e.g. s3://lake/histories")] = None,
) -> None:
    """Play every configuration of a grid, and say what the best is worth after so many looks.

    Fields: `legs.0.target`, `legs.sold.target` (every sold leg chosen by delta), `entry.days` (the target, and 0.6 to 1.6 times it),
    `exit.take_profit` (`off` for none), `sizing.value`, `hedge.band`, `costs.crossing`, and every other of docs/strategies.md.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from options_agent.backtest.grid import parse_grid
    from options_agent.backtest.sweep import EarlyRejection
    from options_agent.backtest.sweep_runner import run_sweep
    from options_agent.cli.terminal import console_of
    from options_agent.settings import load_settings
    from options_agent.strategies.files import find_strategy

    settings, console = load_settings(), console_of()
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True
    )
    with bars:
        task = bars.add_task("playing (compiles first, on a new machine)", total=None)
        content, paths = run_sweep(
            settings,
            find_strategy(strategy, settings),
            underlying,
            parse_grid(grid) if grid else None,
            start.date() if start else None,
            end.date() if end else None,
            workers=workers,
            early=EarlyRejection(1 / 3, reject_below) if reject_below is not None else None,
            cluster=(cluster, store) if cluster else None,
            progress=lambda done, total: bars.update(task, completed=done, total=total, description="playing"),
        )
    show_sweep(content, console)
    console.print(f"Report {paths.report}\nTable {paths.table}")


def show_sweep(content: dict[str, Any], console: Console) -> None:
    """The best configurations, with how many were looked at and what luck explains."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    looks, start, end = content["looks"], content["range"]["start"][:10], content["range"]["end"][:10]
    console.print(f"[bold]{content['strategy']['name']}[/] on {content['underlying']}, {start} to {end}: {looks:,} configurations")
    # as narrow as it goes: four fields of a grid beside six numbers fit eighty columns
    table = Table(title="Best by Sharpe ratio in coin", title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for name in content["grid"]:
        field = name.removeprefix("legs.").removeprefix("entry.").removeprefix("exit.")
        words = field.replace("_", " ").replace(".", " ")
        table.add_column(words, justify="right", min_width=max(len(word) for word in words.split()))
    for name in ("trades", "coin %", "USD %", "max DD %", "Sharpe"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("above luck", justify="right", min_width=len("above"))
    for row in content["best"]:
        odds = row["deflated_sharpe_coin"]
        table.add_row(
            *(_value(row[name]) for name in content["grid"]),
            f"{row['closed_trades']:.0f}",
            _percent(row["return_coin"], "") + _within(row, "return_coin", digits=0),
            _percent(row["return_usd"], "") + _within(row, "return_usd", digits=0),
            _percent(row["max_drawdown_coin"], "").lstrip("+") + _within(row, "max_drawdown_coin"),
            ("-" if row["sharpe_coin"] is None else f"{row['sharpe_coin']:.2f}") + _within(row, "sharpe_coin", 1.0),
            "-" if odds is None else f"{odds:.0%}",
        )
    console.print(table)
    status, positive, median = content["status"], content["positive"], content["median"]
    console.print(
        f"{status['ok']:,} support a number, {status['inconclusive']:,} made too few trades, {status['rejected']:,} were given up early"
        + (f", {content['unsound']:,} of the grid are no sound strategy" if content["unsound"] else "")
    )
    console.print(
        f"Of those, {positive['coin']:,} ended above their coin and {positive['usd']:,} above their USD; "
        f"the median made {_percent(median['return_coin'])} in coin and {_percent(median['return_usd'])} in USD"
    )
    odds = content["overfitting"]
    if odds is not None:
        console.print(f"Probability of overfitting {odds:.0%}: so often the best of one half of the time is below the other half's median")
    console.print(
        "[dim]Below each number its 90 % interval, the same days in another order (drawdowns of midnights). "
        "Above luck: odds that the true Sharpe ratio is above what luck gives the best of so many looks (deflated Sharpe ratio). "
        "Under 95 % it proves nothing.[/]"
    )


def _within(row: dict[str, Any], name: str, scale: float = 100.0, digits: int = 1) -> str:
    """A number's interval on a line of its own; nothing where it has none."""
    found = row.get(f"{name}_interval")
    return "" if found is None else f"\n[dim]{scale * found[0]:.{digits}f}..{scale * found[1]:.{digits}f}[/]"


def _value(value: Any) -> str:
    return "off" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _percent(value: float | None, unit: str = " %") -> str:
    return "-" if value is None else f"{100 * value:+.1f}{unit}"
