"""`options-agent judge FILES`: the rules of quality over Parquet files of quotes, without a lake."""

from __future__ import annotations

import json
import time
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from options_agent.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from options_agent.settings import QualitySettings


def judge_command(
    paths: Annotated[list[Path], typer.Argument(help="Parquet files of quotes, or folders of them (docs/data-dictionary.md)")],
    to: Annotated[Path | None, typer.Option(help="write clean.parquet and quarantine.parquet into this folder")] = None,
    network: Annotated[str | None, typer.Option(help="the network all rows should be of; not asked by default")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the counts as JSON only")] = False,
) -> None:
    """Judge Parquet files of quotes by the rules in force: how many rows each rule catches; with `--to`, the clean and the bad ones."""
    from options_agent.settings import load_settings

    files = _files(paths)
    settings = load_settings().quality
    began = time.perf_counter()
    counts = _written(files, to, settings, network) if to else _counted(files, settings, network)
    seconds = time.perf_counter() - began
    if as_json:
        typer.echo(json.dumps({"files": len(files), "seconds": round(seconds, 3), **counts}, indent=1, sort_keys=True))
    else:
        _print(counts, len(files), seconds, to)


def _files(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, and those of folders by path.

    Raises:
        DataError: a path does not exist, or there is no Parquet file.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError("no such file or folder", place=str(path), remedy="name Parquet files of quotes, or a folder of them")
        files += sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise DataError("no Parquet file there", place=", ".join(map(str, paths)), remedy="`options-agent import` reads other formats")
    return files


def _written(files: list[Path], to: Path, settings: QualitySettings, network: str | None) -> dict[str, int]:
    from options_agent.quality.stream import write_judged

    to.mkdir(parents=True, exist_ok=True)
    return write_judged(files, to / "clean.parquet", to / "quarantine.parquet", settings, network=network)


def _counted(files: list[Path], settings: QualitySettings, network: str | None) -> dict[str, int]:
    from options_agent.quality.stream import judge_files

    counts = {"rows_in": 0, "clean": 0, "quarantined": 0}
    for judged in judge_files(files, settings, network=network):
        for name, count in judged.verdicts.counts().items():
            counts[name] = counts.get(name, 0) + count
    return counts


def _print(counts: dict[str, int], files: int, seconds: float, to: Path | None) -> None:
    from rich.table import Table

    from options_agent.cli.terminal import console_of
    from options_agent.quality.rules import RULES

    console = console_of()
    share = counts["quarantined"] / max(counts["rows_in"], 1)
    console.print(
        f"{counts['rows_in']:,} rows of {files} {'file' if files == 1 else 'files'} judged in {seconds:.1f} s: "
        f"{counts['clean']:,} clean, {counts['quarantined']:,} for quarantine ({share:.3%})"
    )
    table = Table(title="rows by rule", title_justify="left")
    for column in ("rule", "severity", "rows", "why"):
        table.add_column(column, justify="right" if column == "rows" else "left", overflow="fold")
    for rule in RULES:
        if rows := counts.get(f"{'warn' if rule.severity == 'warn' else 'rule'}:{rule.name}", 0):
            table.add_row(rule.name, rule.severity, f"{rows:,}", rule.reason)
    if table.row_count:
        console.print(table)
    if to:
        console.print(f"written: {to / 'clean.parquet'}, {to / 'quarantine.parquet'}", soft_wrap=True)
