"""`options-agent import PATH`: show what recorded files hold, then bring it into the lake."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from options_agent.market.recorded.importing import Imported
    from options_agent.market.recorded.source import RecordedSource

app = typer.Typer(no_args_is_help=True, help="Bring recorded option chains, prices, DVOL and funding into the lake.")


@app.command(name="import")
def import_command(
    path: Annotated[Path, typer.Argument(help="file or folder of recorded chains (Parquet, CSV, CSV.gz; formats may be mixed)")],
    prices: Annotated[
        Path | None, typer.Option(help="folder of prices, DVOL and funding; default: in PATH, else the folder `prices` next to it")
    ] = None,
    network: Annotated[str, typer.Option(help="network the files were recorded from: mainnet or testnet")] = "mainnet",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what the files hold and write nothing")] = False,
) -> None:
    """Look into every file, show what was found and what is left out and why, then write it to the lake.

    Nothing is written when a file is damaged, of an unknown format, or holds an unknown instrument.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from options_agent.lake.store import open_lake
    from options_agent.market.recorded.importing import import_recorded
    from options_agent.market.recorded.source import RecordedSource
    from options_agent.settings import load_settings

    settings = load_settings(network=network, source="recorded", recorded={"path": path, "prices": prices})
    console = Console(highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        looking = progress.add_task("looking into files", total=None, note="")
        source = RecordedSource(
            settings.recorded,
            network=settings.network,
            region=settings.region,
            told=lambda file, done, total: progress.update(looking, completed=done, total=total, note=file.name),
        )
        progress.remove_task(looking)
        console.print(_files_table(source))
        console.print(f"Prices, DVOL and funding: {source.series_from}", soft_wrap=True)
        if dry_run:
            console.print("Dry run: nothing was written.")
            return
        tasks = {name: progress.add_task(name, total=None, note="") for name in source.underlyings()}

        def tell(underlying: str, done: int, total: int, rows: int) -> None:
            if underlying not in tasks:
                tasks[underlying] = progress.add_task(underlying, total=total, note="")
            progress.update(tasks[underlying], completed=done, total=total, note=f"{rows:,} rows")

        imported = import_recorded(source, open_lake(settings), tell)
    _show_imported(console, imported, f"{settings.lake_url} ({settings.network})")
    console.print(
        f"Raw so far: `options-agent run --data {path}` judges, archives and backtests these days; or `clean_quotes` in Dagster.",
        soft_wrap=True,
    )


def _files_table(source: RecordedSource) -> Table:
    from rich.table import Table

    table = Table(title=f"Recorded files in {source.path}", title_justify="left")
    for name in ("file", "format", "rows", "kept", "families", "snapshots", "first", "last", "left out, and why"):
        table.add_column(name, justify="right" if name in {"rows", "kept", "snapshots"} else "left", overflow="fold")
    beside = source.series_catalogue.reports if source.series_catalogue is not source.catalogue else ()
    for report in (*source.catalogue.reports, *(r for r in beside if r.kind == "series")):
        why = "; ".join([*(f"{count:,} {reason}" for reason, count in report.left_out.items()), *([report.note] if report.note else [])])
        families, snapshots = ", ".join(report.underlyings), f"{report.snapshots:,}" if report.kind == "chain" else ""
        rows, kept = ("", "") if report.kind == "skipped" else (f"{report.rows:,}", f"{report.kept:,}")
        form = f"{report.format}" if report.kind != "skipped" else f"[dim]{report.format} (skipped)[/]"
        table.add_row(report.name, form, rows, kept, families, snapshots, _minute(report.start), _minute(report.end), why)
    return table


def _show_imported(console: Console, imported: Sequence[Imported], place: str) -> None:
    from rich.table import Table

    table = Table(title=f"In the lake {place}", title_justify="left")
    for name in ("underlying", "days", "snapshots", "rows", "bytes", "prices", "dvol", "funding"):
        table.add_column(name, justify="left" if name == "underlying" else "right")
    for one in imported:
        counts = (one.days, one.snapshots, one.rows, one.bytes, one.prices, one.dvol, one.funding)
        table.add_row(one.underlying, *(f"{count:,}" for count in counts))
    console.print(table)


def _minute(at: dt.datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"
