"""`options-agent quality DAY`: what is to be believed of a day, on the terminal and as a page."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from options_agent.quality.day_report import Document

_CAUSES_SHOWN = 12


def quality_command(
    day: Annotated[dt.datetime, typer.Argument(formats=["%Y-%m-%d"], help="the day, UTC")],
    underlying: Annotated[
        str | None, typer.Option("--underlying", "-u", help="instrument family, for instance BTC; all by default")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the report's JSON only")] = False,
) -> None:
    """Say what is to be believed of a day: rows judged, gaps and their causes, regions, sweeps; write the report's page."""
    from options_agent.cli.terminal import console_of
    from options_agent.lake.store import open_lake
    from options_agent.quality.day_page import write_day_report
    from options_agent.settings import load_settings

    settings, console = load_settings(), console_of()
    lake, now = open_lake(settings), dt.datetime.now(dt.UTC)
    documents = []
    for family in (underlying,) if underlying else settings.underlyings:
        receipt = write_day_report(lake, family, day.date(), settings=settings, now=now)
        documents.append(json.loads(Path(receipt.details["json"]).read_text(encoding="utf-8")))
        if not as_json:
            _print(console, documents[-1], receipt.details["html"])
    if as_json:
        typer.echo(json.dumps(documents, indent=1, sort_keys=True))


def _print(console: Console, document: Document, page: str) -> None:
    from rich.markup import escape

    from options_agent.quality.day_page import told_gaps, verdict_of

    console.print(f"[bold]{document['underlying']}, {document['day']}[/] on {document['network']}")
    for state, sentence in verdict_of(document):
        console.print(f"  [{'green' if state == 'good' else 'red'}]{'ok' if state == 'good' else '! '}[/] {escape(sentence)}")
    if document["rows"] and document["rows"]["by_rule"]:
        table = _table("rows by rule", "rule", "severity", "rows", "why")
        for row in document["rows"]["by_rule"]:
            table.add_row(row["rule"], row["severity"], f"{row['rows']:,}", escape(row["reason"]))
        console.print(table)
    gaps = told_gaps(document)
    if gaps:
        table = _table("gaps", "what", "region", "expiry or contract", "last good before", "next good after", "lack it", "cause")
        for gap in gaps[:_CAUSES_SHOWN]:
            what = f"{gap['series']}{gap['contracts'][0]}" if gap["contracts"] else (gap["expiry"] or "")[:10]
            more = f" and {len(gap['contracts']) - 1} more" if len(gap["contracts"]) > 1 else ""
            times = [(gap[name] or "-")[:16].replace("T", " ") for name in ("opened_at", "closed_at")]
            table.add_row(gap["kind"], f"{gap['source']}/{gap['where']}", f"{what}{more}", *times, str(gap["missing"]), gap["cause"])
        console.print(table)
        if len(gaps) > _CAUSES_SHOWN:
            console.print(f"  and {len(gaps) - _CAUSES_SHOWN} more in the page")
    for one in document["regions"]:
        console.print(f"  [red]! [/] {escape(one['says'])}")
    console.print(f"  page: {page}", soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column in {"rows", "lack it"} else "left", overflow="fold")
    return table
