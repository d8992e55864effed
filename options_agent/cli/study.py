"""`options-agent study`: declare a search, run it, see what survives the number of looks, and ask the holdout once."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from options_agent.research.studies.runner import Ended
    from options_agent.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    help="Search a strategy's parameters in the open: declared before, every trial counted, a holdout that answers once.",
)
_DAY = ["%Y-%m-%d"]
_MAKES_NONE = "The search discovered nothing: a pass confirms a discovery, it makes none; luck passes as often as the rule lets it."
_NAME = Annotated[str, typer.Argument(help="the study's name")]


@app.command("new")
def new_command(
    name: _NAME,
    strategy: Annotated[str, typer.Argument(help="a strategy of the catalogue, or a file of one's own")] = "covered_call",
    underlying: Annotated[str, typer.Argument(help="BTC or ETH")] = "BTC",
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", "-p", help="field=low:high, field=low:high:step, or field=a,b,off; by default about the strategy's own"
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="of each proposer")] = 100,
    proposer: Annotated[list[str] | None, typer.Option(help="random, tpe, model, placebo, best_fixed; again for each")] = None,
    objective: Annotated[
        list[str] | None, typer.Option(help="a number of the sweep's summary, sharpe_coin:max by default; two are possible")
    ] = None,
    start: Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="first day; everything clean by default")] = None,
    end: Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="last day, inclusive")] = None,
    embargo_days: Annotated[int | None, typer.Option(min=0, help="between the parts; by default as long as a trade can live")] = None,
    seconds: Annotated[float | None, typer.Option(help="budget of time of a run")] = None,
    usd: Annotated[float | None, typer.Option(help="budget of money of all")] = 1.0,
    batch: Annotated[int, typer.Option(min=1, help="proposals asked for at once")] = 10,
    seed: Annotated[int, typer.Option(help="of everything drawn")] = 0,
) -> None:
    """Declare a study: the space, the split of the days, who proposes, and the budgets. It stands once written."""
    from options_agent.backtest.runner import clean_range
    from options_agent.cli.terminal import console_of
    from options_agent.lake.store import open_lake
    from options_agent.research.studies.declaration import Study, costs_sha256, declare, rules_sha256, space_about
    from options_agent.research.studies.space import SearchSpace
    from options_agent.research.studies.splits import longest_life_days
    from options_agent.settings import load_settings
    from options_agent.strategies.files import find_strategy

    settings = load_settings()
    found = find_strategy(strategy, settings)
    first, last = clean_range(open_lake(settings), underlying)
    space = SearchSpace(tuple(parse_parameter(text) for text in parameter)) if parameter else space_about(found)
    study = Study(
        name=name,
        strategy=strategy,
        rules_sha256=rules_sha256(found),
        costs_sha256=costs_sha256(settings),
        underlying=underlying,
        space=space,
        start=start.date() if start else first,
        end=end.date() if end else last,
        embargo_days=longest_life_days(found, space) if embargo_days is None else embargo_days,
        objectives=tuple((o.partition(":")[0], o.partition(":")[2] or "max") for o in objective or ["sharpe_coin"]),
        proposers=tuple(proposer or ("random", "tpe", "model")),
        trials=trials,
        batch=batch,
        seconds=seconds,
        usd=usd,
        seed=seed,
    )
    path = declare(study, found, settings)
    console = console_of()
    _show_declaration(study, console)
    console.print(f"Declared in {path}\nNext: [bold]options-agent study run {name}[/]")


@app.command("run")
def run_command(name: _NAME, seconds: Annotated[float | None, typer.Option(help="budget of this run's time")] = None) -> None:
    """Run a study, or go on with it where it was left; every proposal is in its ledger before it is played."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from options_agent.cli.terminal import console_of, desk_settings
    from options_agent.research.studies.declaration import load
    from options_agent.research.studies.report import run_and_report

    settings, console = desk_settings(), console_of()
    bars = Progress(
        TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console, transient=True
    )
    with bars:
        tasks = {p: bars.add_task(p, total=load(name, settings).trials) for p in load(name, settings).proposers}
        ended = run_and_report(
            name, settings, seconds=seconds, progress=lambda who, done, total: bars.update(tasks[who], completed=done, total=total)
        )
    _show(name, ended, settings, console)


@app.command("show")
def show_command(name: _NAME, trials: Annotated[int, typer.Option(help="rows of the leaderboard")] = 15) -> None:
    """Show what a study declared, who proposed what, and the leaderboard, raw and corrected."""
    from options_agent.cli.terminal import console_of
    from options_agent.research.studies.declaration import load
    from options_agent.research.studies.report import ended_of
    from options_agent.settings import load_settings

    settings, console = load_settings(), console_of()
    _show_declaration(load(name, settings), console)
    _show(name, ended_of(name, settings), settings, console, rows=trials)


@app.command("list")
def list_command() -> None:
    """List studies: trials, looks, what was discovered, and whether the holdout was asked."""
    from rich.markup import escape
    from rich.table import Table

    from options_agent.cli.terminal import console_of
    from options_agent.errors import OptionsAgentError
    from options_agent.research.studies.declaration import load, studies
    from options_agent.research.studies.report import ended_of, holdout_answer
    from options_agent.settings import load_settings

    settings, console = load_settings(), console_of()
    table = Table()
    for column in ("study", "strategy", "looks", "state", "discovered", "holdout"):
        table.add_column(column, justify="right" if column == "looks" else "left")
    for name in studies(settings):
        study = load(name, settings)
        try:
            ended = ended_of(name, settings)
        except OptionsAgentError as error:
            table.add_row(name, f"{study.strategy} {study.underlying}", "-", f"cannot go on: {escape(error.message)}", "-", "-")
            continue
        found = "-" if ended.verdict is None else "yes" if ended.verdict.discovered else "no"
        table.add_row(
            name,
            f"{study.strategy} {study.underlying}",
            f"{ended.state.looks:,}",
            ended.why,
            found,
            holdout_answer(name, settings) or "locked",
        )
    console.print(table)


@app.command("compare")
def compare_command(
    name: _NAME,
    trials: Annotated[int, typer.Option(min=5, help="of each proposer and seed")] = 50,
    seeds: Annotated[int, typer.Option(min=3, help="how often")] = 10,
) -> None:
    """Race the study's proposers at equal budget: what each would have chosen on training, on validation, with intervals over seeds."""
    from rich.table import Table

    from options_agent.cli.terminal import console_of
    from options_agent.research.studies.comparison import OF_SEEDS, compare_proposers
    from options_agent.settings import load_settings

    console = console_of()
    with console.status("racing") as status:
        race = compare_proposers(
            name, load_settings(), trials=trials, seeds=seeds, progress=lambda who, done: status.update(f"{who}: seed {done} of {seeds}")
        )
    table = Table(title=f"{race.objective} on validation of the trial best on training, mean of {seeds} seeds", title_justify="left")
    marks = [*(n for n in (1, 5, 10, 20, 50, 100, 200, 500) if n < trials), trials]
    for column in ("proposer", *(f"after {n}" for n in marks), "trials"):
        table.add_column(column, justify="left" if column == "proposer" else "right")
    for who, curve in race.curves.items():
        table.add_row(who, *(f"{curve[n - 1]:.2f}" for n in marks), f"{sum(race.played[who]) / seeds:.0f}")
    console.print(table)
    console.print("Racers saw training only: validation was kept back from all of them.")
    for pair, (mean, low, high) in race.differences.items():
        console.print(f"{pair}: {mean:+.2f} ({low:+.2f} to {high:+.2f})")
    console.print(f"[bold]{race.words}[/] {race.looks:,} looks more. {OF_SEEDS}")


@app.command("open-holdout")
def open_command(name: _NAME, yes: Annotated[bool, typer.Option("--yes", help="do not ask back")] = False) -> None:
    """Ask the locked holdout about the study's chosen trial: pass or fail, once for ever."""
    from options_agent.cli.terminal import console_of
    from options_agent.research.studies.holdout import open_holdout
    from options_agent.research.studies.report import discovered
    from options_agent.settings import load_settings

    if not yes:
        typer.confirm(f"The holdout of {name} answers once. Ask it now?", abort=True)
    settings, console = load_settings(), console_of()
    answer = open_holdout(name, settings)
    if answer == "pass" and not discovered(name, settings):
        console.print(_MAKES_NONE)
    console.print(f"holdout of {name}: [bold {'green' if answer == 'pass' else 'red'}]{answer}[/]")


@app.command("verify")
def verify_command(name: _NAME) -> None:
    """Check a study's ledger: every line, and every round's returns, as they were written."""
    from options_agent.cli.terminal import console_of
    from options_agent.research.studies import ledger
    from options_agent.research.studies.declaration import folder_of, load
    from options_agent.research.studies.runner import returns_of, state_of
    from options_agent.settings import load_settings

    settings = load_settings()
    study = load(name, settings)
    events = ledger.read(folder_of(name, settings) / "ledger.jsonl")
    state_of(study, events)
    trials, _ = returns_of(study, settings)
    last = events[-1]["hash"][:16] if events else "-"
    console_of().print(f"{name}: {len(events)} events and {len(trials)} played trials are as they were written; the last hash is {last}")


def parse_parameter(text: str) -> Any:
    """A parameter from words: `exit.take_profit=0.25,0.5,off`, `legs.sold.target=0.1:0.4`, `entry.days=3:30:1`.

    Raises:
        SettingsError: it is none.
    """
    from options_agent.backtest.grid import parse_grid
    from options_agent.errors import SettingsError
    from options_agent.research.studies.space import Parameter

    name, equals, rest = text.partition("=")
    ends = rest.split(":")
    if not name or not equals or not rest:
        raise SettingsError(f"{text!r} is no parameter", remedy="field=low:high, field=low:high:step, or field=a,b,off")
    if len(ends) == 1:
        return Parameter(name, "choice", values=tuple(parse_grid([text])[name]))
    try:
        low, high, step = (float(e) for e in (*ends, "nan")[: max(3, len(ends))])
        return Parameter(name, "float", low, high, None if len(ends) == 2 else step)
    except (ValueError, TypeError):
        raise SettingsError(f"{text!r} is no parameter", remedy="low:high or low:high:step are numbers") from None


def _show_declaration(study: Any, console: Console) -> None:
    from rich.table import Table

    parts = study.splits
    console.print(
        f"[bold]{study.name}[/]: {study.strategy} on {study.underlying}, {study.trials:,} trials each of {', '.join(study.proposers)}"
    )
    table = Table()
    for column in ("parameter", "from", "to", "step", "choices"):
        table.add_column(column)
    for p in study.space.parameters:
        numbers = ["" if v is None else f"{v:g}" for v in (p.low, p.high, p.step)]
        table.add_row(p.name, *numbers, ", ".join("off" if v is None else f"{v:g}" if isinstance(v, float) else str(v) for v in p.values))
    console.print(table)
    told = [
        f"{label} {days[0]} to {days[1]}"
        for label, days in (("training", parts.train), ("validation", parts.validation), ("holdout", parts.holdout))
    ]
    console.print(f"{', '.join(told)}; {parts.embargo_days} days of embargo between")
    console.print(f"[dim]declaration {study.sha256[:16]}, space {study.space.sha256[:16]}[/]")


def _show(name: str, ended: Ended, settings: Settings, console: Console, rows: int = 10) -> None:
    from rich.markup import escape
    from rich.table import Table

    from options_agent.research.studies.declaration import load
    from options_agent.research.studies.leaderboard import COLUMNS
    from options_agent.research.studies.report import board_of, holdout_answer

    study, state = load(name, settings), ended.state
    table = Table(title="Who proposed", title_justify="left")
    for column in ("proposer", "trials", "inconclusive", "failed", "refused", "best validation"):
        table.add_column(column, justify="left" if column == "proposer" else "right")
    objective, sign = board_of(name, settings, ended)[0], -1.0 if study.objectives[0][1] == "min" else 1.0
    for who, trials in state.trials.items():
        able = [t["validation"][objective] for t in trials if t["status"] == "ok"]
        poor, failed = (sum(t["status"] == status for t in trials) for status in ("inconclusive", "failed"))
        best = max(able, key=lambda v: v * sign) if able else None
        refused = len(state.refusals[who])
        table.add_row(who, f"{len(trials):,}", f"{poor:,}", f"{failed:,}", f"{refused:,}", "-" if best is None else f"{best:.2f}")
    console.print(table)
    board = board_of(name, settings, ended, rows)[1]
    if board is None:
        console.print(f"search: {ended.why}; no trial was played yet")
        return
    console.print(f"[bold]{board.looks}[/]")
    leaders = Table(title="Raw and corrected", title_justify="left")
    words = COLUMNS.index("hypothesis")  # a sentence a row hides the numbers: the pages have them all, here is the first
    for column in (*COLUMNS[:words], *COLUMNS[words + 1 :]):
        leaders.add_column(column, overflow="fold", justify="right" if column in COLUMNS[2:6] else "left")
    for row in board.rows:
        leaders.add_row(*row[:words], *row[words + 1 :])
    console.print(leaders)
    for what, figure, meaning in board.study:
        console.print(f"{what}: [bold]{figure}[/] [dim]{meaning}[/]")
    if board.rows[0][words]:
        console.print(f"why, said {board.rows[0][1]} of trial {board.rows[0][0]}: {escape(board.rows[0][words])}")
    console.print(f"[bold]{board.words}[/]")
    answer = holdout_answer(name, settings)
    if answer == "pass" and ended.verdict is not None and not ended.verdict.discovered:
        console.print(_MAKES_NONE)
    told = f"the holdout answered [bold]{answer}[/]" if answer else f"the holdout is locked: `options-agent study open-holdout {name}`"
    console.print(f"search: {ended.why}; {told}")
