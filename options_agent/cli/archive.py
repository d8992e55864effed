"""`options-agent archive`: ship judged days, bring them back, and prove that what lies there is what was shipped."""

from __future__ import annotations

import datetime as dt
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from options_agent.lake.archive import Proof

app = typer.Typer(no_args_is_help=True, help="Ship judged days to the archive, list, verify and restore them.")

_DAY = ["%Y-%m-%d"]
UnderlyingOption = Annotated[str | None, typer.Option("--underlying", "-u", help="instrument family, for instance BTC; all by default")]
StartOption = Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="first day")]
EndOption = Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="last day, inclusive")]
UnderlyingArgument = Annotated[str, typer.Argument(help="instrument family, for instance BTC")]
DayArgument = Annotated[dt.datetime, typer.Argument(formats=_DAY, help="the day")]


@app.command()
def run(underlying: UnderlyingOption = None, start: StartOption = None, end: EndOption = None) -> None:
    """Ship every judged day that the archive does not have as it is now. Safe to stop and to repeat."""
    from rich.progress import track

    from options_agent.lake.archive import archive_day, open_archive
    from options_agent.lake.store import days, open_lake, underlyings
    from options_agent.settings import load_settings

    settings = load_settings()
    lake, archive = open_lake(settings), open_archive(settings)
    wanted = [
        (name, day)
        for name in ([underlying] if underlying else underlyings(lake, "clean"))
        for day in days(lake, "clean", name)
        if (start is None or day >= start.date()) and (end is None or day <= end.date())
    ]
    receipts = [archive_day(lake, archive, name, day) for name, day in track(wanted, "archiving", transient=True)]
    table = _table(f"Archive {archive.files.url}", "underlying", "days", "objects", "rows", "bytes", "bytes per row")
    for name in sorted({receipt.underlying for receipt in receipts}):
        own = [receipt.counts for receipt in receipts if receipt.underlying == name]
        files, rows, size = (sum(counts[key] for counts in own) for key in ("files", "rows", "bytes"))
        table.add_row(name, f"{len(own):,}", f"{files:,}", f"{rows:,}", f"{size:,}", f"{size / rows:.1f}" if rows else "-")
    _print(table if receipts else f"Nothing to archive: {lake.files.url} holds no judged day in that range.")


@app.command()
def restore(
    underlying: UnderlyingArgument,
    day: DayArgument,
    to: Annotated[Path | None, typer.Option(help="folder to restore into; the lake itself by default")] = None,
    version: Annotated[int | None, typer.Option(help="a version of the day; the latest by default")] = None,
) -> None:
    """Restore a day and prove it: the SHA-256 expected and found of every file, as read back from where it now lies."""
    from options_agent.errors import SettingsError
    from options_agent.lake.archive import open_archive, restore_day
    from options_agent.lake.files import LocalFiles
    from options_agent.lake.store import open_lake
    from options_agent.settings import load_settings

    settings = load_settings()
    if to is None:
        files = open_lake(settings).files
        if not isinstance(files, LocalFiles):
            raise SettingsError("the lake is not a local folder", place="OPTIONS_AGENT_LAKE_ROOT", remedy="name a folder with --to")
        to = files.root
    report = restore_day(open_archive(settings), underlying, day.date(), to, version=version)
    _print(f"{underlying} {day:%Y-%m-%d}, version {report.version}, restored to {to}")
    _show_proofs(report.proofs)


@app.command()
def verify(underlying: UnderlyingOption = None, day: Annotated[dt.datetime | None, typer.Option(formats=_DAY)] = None) -> None:
    """Read every archived object again and compare its SHA-256 with the manifest's. Exit code 1 where one differs."""
    from options_agent.lake.archive import open_archive
    from options_agent.lake.archive import verify as verified
    from options_agent.settings import load_settings

    archive = open_archive(load_settings())
    proofs = verified(archive, underlying, day.date() if day else None)
    _print(f"Archive {archive.files.url}")
    _show_proofs(proofs)


@app.command(name="list")
def show(underlying: UnderlyingOption = None) -> None:
    """List the archived days with their latest version."""
    from options_agent.lake.archive import archived, open_archive
    from options_agent.settings import load_settings

    archive = open_archive(load_settings())
    table = _table(f"Archive {archive.files.url}", "underlying", "day", "version", "objects", "rows", "bytes")
    for name, day, manifest in archived(archive, underlying):
        rows, size = sum(line.rows for line in manifest.lines), sum(line.bytes for line in manifest.lines)
        table.add_row(name, day.isoformat(), str(manifest.version), str(len(manifest.lines)), f"{rows:,}", f"{size:,}")
    _print(table)


def _show_proofs(proofs: Sequence[Proof]) -> None:
    """Each file with both hashes in full, one under the other; exit code 1 where a pair differs."""
    for proof in proofs:
        verdict = "[green]same[/]" if proof.holds else "[bold red]DIFFERENT[/]"
        _print(f"[bold]{proof.lake_path}[/]  {proof.rows:,} rows  {proof.bytes:,} bytes  {verdict}")
        _print(f"  sha256 expected  {proof.expected}\n  sha256 found     {proof.found or 'missing'}")
    wrong = sum(not proof.holds for proof in proofs)
    _print(f"{len(proofs) - wrong} of {len(proofs)} files are byte for byte what was archived.")
    if wrong:
        raise typer.Exit(1)


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(
            column, justify="right" if column in {"days", "objects", "rows", "bytes", "bytes per row"} else "left", overflow="fold"
        )
    return table


def _print(what: Table | str) -> None:
    from rich.console import Console

    Console(highlight=False, soft_wrap=isinstance(what, str)).print(what)
