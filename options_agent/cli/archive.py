"""`options-agent archive`: ship judged days, bring them back, prove what lies there, and free the lake of what is proven."""

from __future__ import annotations

import datetime as dt
import sys
from contextlib import contextmanager
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.table import Table

    from options_agent.lake.archive import Archive, Proof
    from options_agent.settings import RetentionSettings, Settings

app = typer.Typer(no_args_is_help=True, help="Ship judged days to the archive, list, verify and restore them.")

_DAY = ["%Y-%m-%d"]
UnderlyingOption = Annotated[str | None, typer.Option("--underlying", "-u", help="instrument family, for instance BTC; all by default")]
StartOption = Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="first day")]
EndOption = Annotated[dt.datetime | None, typer.Option(formats=_DAY, help="last day, inclusive")]
UnderlyingArgument = Annotated[str, typer.Argument(help="instrument family, for instance BTC")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON only")]
DayArgument = Annotated[dt.datetime, typer.Argument(formats=_DAY, help="the day")]


@app.command()
def run(underlying: UnderlyingOption = None, start: StartOption = None, end: EndOption = None) -> None:
    """Ship every judged day that the archive does not have as it is now. Safe to stop and to repeat."""
    from rich.progress import track

    from options_agent.errors import DataError
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
    receipts, torn = [], []
    for name, day in track(wanted, "archiving", transient=True):
        try:
            receipts.append(archive_day(lake, archive, name, day))
        except DataError as error:  # of this day only; a store that fails, fails for all
            torn.append(error)
    table = _table(f"Archive {archive.files.url}", "underlying", "days", "objects", "rows", "bytes", "bytes per row")
    for name in sorted({receipt.underlying for receipt in receipts}):
        own = [receipt.counts for receipt in receipts if receipt.underlying == name]
        files, rows, raw, size = (sum(counts[key] for counts in own) for key in ("files", "rows", "raw_rows", "bytes"))
        table.add_row(name, f"{len(own):,}", f"{files:,}", f"{rows:,}", f"{size:,}", f"{size / (rows + raw):.1f}" if rows else "-")
    _print(table if receipts or torn else f"Nothing to archive: {lake.files.url} holds no judged day in that range.")
    if torn:
        _print(f"{len(torn)} days were not archived; the first:")
        raise torn[0]


@app.command()
def restore(
    underlying: UnderlyingArgument,
    day: DayArgument,
    to: Annotated[Path | None, typer.Option(help="folder to restore into; the lake itself by default")] = None,
    version: Annotated[int | None, typer.Option(help="a version of the day; the latest by default")] = None,
) -> None:
    """Restore a day and prove it: the SHA-256 expected and found of every file, as read back from where it now lies."""
    from options_agent.lake.archive import open_archive, restore_day
    from options_agent.lake.retention import restore_to_lake
    from options_agent.lake.store import open_lake
    from options_agent.settings import load_settings

    settings = load_settings()
    lake, archive = open_lake(settings), open_archive(settings)
    if to is None:
        report = restore_to_lake(lake, archive, underlying, day.date(), version=version)
    else:
        report = restore_day(archive, underlying, day.date(), to, version=version)
    _print(f"{underlying} {day:%Y-%m-%d}, version {report.version}, restored to {report.destination}")
    _show_proofs(report.proofs)


@app.command()
def verify(
    underlying: UnderlyingOption = None,
    day: Annotated[dt.datetime | None, typer.Option(formats=_DAY)] = None,
    repair: Annotated[bool, typer.Option("--repair", help="put anew what differs, where the lake still has the day")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read every archived object again and compare its SHA-256 with the manifest's. Exit code 1 where one differs.

    With --repair a day with a missing or altered object is archived again from the lake, as a new version; nothing is overwritten.
    """
    from options_agent.lake.archive import Proof, open_archive
    from options_agent.lake.archive import verify as verified
    from options_agent.settings import load_settings

    settings = load_settings()
    archive = open_archive(settings)
    with _progress("reading the archive") as told:
        proofs = verified(archive, underlying, day.date() if day else None, lambda done, total, _: told(done, total))
    wrong = [proof for proof in proofs if not proof.holds]
    if repair and wrong:
        proofs = _repaired(settings, archive, proofs)
        wrong = [proof for proof in proofs if not proof.holds]
    if as_json:
        fields = [name for name in Proof.__slots__ if name not in {"rows", "bytes"}]
        _print_json(
            {
                "archive": archive.files.url,
                "days": len({(proof.underlying, proof.day) for proof in proofs}),
                "objects": len(proofs),
                "rows": sum(proof.rows for proof in proofs),
                "bytes": sum(proof.bytes for proof in proofs),
                "different": [{name: getattr(proof, name) for name in fields} for proof in wrong],
            }
        )
        raise typer.Exit(1 if wrong else 0)
    _print(f"Archive {archive.files.url}")
    _show_proofs(proofs)


@app.command()
def retain(
    apply: Annotated[bool, typer.Option("--apply", help="delete what is proven; without it nothing changes")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete local days older than OPTIONS_AGENT_RETENTION__..._DAYS that the archive proves to hold. Exit code 1 where one is refused."""
    from options_agent.lake.archive import open_archive
    from options_agent.lake.retention import retain as retained
    from options_agent.lake.store import open_lake
    from options_agent.settings import load_settings

    settings = load_settings()
    lake, archive = open_lake(settings), open_archive(settings)
    with _progress("proving") as told:
        outcomes = retained(
            lake, archive, settings.retention, dt.datetime.now(dt.UTC).date(), apply=apply, told=lambda done, total, _: told(done, total)
        )
    refused = [outcome for outcome in outcomes if outcome.verdict == "refused"]
    if as_json:
        days = [
            {
                "underlying": one.due.underlying,
                "day": one.due.day,
                "layers": one.due.layers,
                "bytes": one.due.bytes,
                "verdict": one.verdict,
                "why": one.why,
            }
            for one in outcomes
        ]
        _print_json({"archive": archive.files.url, "applied": apply, "days": days})
        raise typer.Exit(1 if refused else 0)
    if not outcomes:
        _print("Nothing is due: " + (_kept(settings.retention) or "no layer has a limit (OPTIONS_AGENT_RETENTION__RAW_DAYS and so on)."))
        return
    table = _table(
        f"Retention of {lake.files.url}, proven by {archive.files.url}", "underlying", "day", "layers", "bytes", "verdict", "why"
    )
    for one in outcomes:
        colour = "red" if one.verdict == "refused" else "green"
        due = one.due
        table.add_row(due.underlying, due.day.isoformat(), ", ".join(due.layers), f"{due.bytes:,}", f"[{colour}]{one.verdict}[/]", one.why)
    _print(table)
    freed = sum(one.due.bytes for one in outcomes if one.verdict != "refused")
    done = "deleted" if apply else "proven; --apply deletes them"
    _print(f"{len(outcomes) - len(refused)} days, {freed:,} bytes {done}; {len(refused)} refused.")
    raise typer.Exit(1 if refused else 0)


@app.command()
def drill(
    days: Annotated[int | None, typer.Option(min=1, help="archived days of each underlying; by default as the settings say")] = None,
    month: Annotated[dt.datetime | None, typer.Option(formats=["%Y-%m"], help="whose draw of days; this month by default")] = None,
    as_json: JsonOption = False,
) -> None:
    """Restore some archived days to a scratch folder and check every hash and row, as the monthly job does. Exit code 1 at a problem."""
    from dataclasses import asdict

    from options_agent.lake.archive import open_archive
    from options_agent.lake.drill import drill as drilled
    from options_agent.lake.store import open_lake
    from options_agent.settings import load_settings

    settings = load_settings()
    lake, archive = open_lake(settings), open_archive(settings)
    at = (month or dt.datetime.now(dt.UTC)).date()
    with _progress("restoring") as told:
        found = drilled(lake, archive, at, days or settings.retention.drill_days, lambda done, total, _: told(done, total))
    broken = [one for one in found if one.problems]
    if as_json:
        _print_json({"archive": archive.files.url, "month": f"{at:%Y-%m}", "days": [asdict(one) for one in found]})
        raise typer.Exit(1 if broken else 0)
    table = _table(
        f"Restore drill {at:%Y-%m} of {archive.files.url}", "underlying", "day", "version", "objects", "rows", "bytes", "lake", "verdict"
    )
    for one in found:
        verdict = "[bold red]" + "; ".join(one.problems) + "[/]" if one.problems else "[green]restored whole[/]"
        numbers = (str(one.files), f"{one.rows:,}", f"{one.bytes:,}")
        table.add_row(one.underlying, one.day.isoformat(), str(one.version), *numbers, one.local, verdict)
    _print(table if found else f"Nothing to restore: {archive.files.url} is empty.")
    raise typer.Exit(1 if broken else 0)


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


def _repaired(settings: Settings, archive: Archive, proofs: list[Proof]) -> list[Proof]:
    """The proofs once every day with a wrong one has been archived again, where the lake has it."""
    from rich.console import Console

    from options_agent.errors import OptionsAgentError
    from options_agent.lake.archive import archive_day, verify
    from options_agent.lake.store import open_lake

    lake, told = open_lake(settings), Console(stderr=True, highlight=False, soft_wrap=True)
    broken = dict.fromkeys((proof.underlying, proof.day) for proof in proofs if not proof.holds)
    sound = [proof for proof in proofs if (proof.underlying, proof.day) not in broken]
    again: list[Proof] = []
    for name, day in broken:
        try:
            version = archive_day(lake, archive, name, day, distrust=True).details["version"]
        except OptionsAgentError as error:
            told.print(f"{name} {day} cannot be repaired: {error}")
        else:
            told.print(f"{name} {day} was archived again, version {version}")
        again += verify(archive, name, day)
    return sorted([*sound, *again], key=lambda proof: (proof.underlying, proof.day))


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


def _kept(settings: RetentionSettings) -> str:
    """How long each limited layer stays."""
    limits = {"raw": settings.raw_days, "clean": settings.clean_days, "quarantine": settings.quarantine_days}
    return ", ".join(f"{layer} stays {days} days" for layer, days in limits.items() if days is not None)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal's error stream, gone at the end; nothing where nobody watches."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _print_json(document: dict[str, object]) -> None:
    import json

    typer.echo(json.dumps(document, indent=1, default=str))


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
