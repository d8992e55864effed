"""`options-agent backfill`: days of a vendor's history into the lake; `options-agent agreement`: do two sources agree on a day."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - typer reads the annotations
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, Group

    from options_agent.lake.receipts import Receipt
    from options_agent.market.tardis.backfill import Progress
    from options_agent.market.tardis.days import DayReport

_DAY = ["%Y-%m-%d"]
_MEGABYTE = 1e6


def backfill_command(
    first: Annotated[dt.datetime, typer.Option("--from", formats=_DAY, help="first day, UTC")],
    last: Annotated[dt.datetime, typer.Option("--to", formats=_DAY, help="last day, inclusive")],
    underlying: Annotated[list[str] | None, typer.Option(help="a family, repeatable; default: the settings'")] = None,
    again: Annotated[bool, typer.Option("--again", help="fetch and write days anew that are done")] = False,
) -> None:
    """Bring past days of option chains, prices, funding and trades into the lake of mainnet, from the vendor Tardis.

    Days that are done cost nothing; a run that was ended anywhere goes on where it was. Without a key
    (OPTIONS_AGENT_TARDIS__API_KEY) the vendor gives the first day of each month; the others are skipped, and said.
    """
    from rich.live import Live

    from options_agent.cli.terminal import console_of
    from options_agent.lake.store import open_lake
    from options_agent.market.tardis.days import UNDONE, backfill_days, days_between
    from options_agent.settings import load_settings

    settings = load_settings(network="mainnet", source="tardis")
    days = days_between(first.date(), last.date())
    console, pace = console_of(), Pace(len(days))
    families = tuple(dict.fromkeys(underlying)) if underlying else settings.underlyings
    console.print(f"{len(days)} days of {', '.join(families)} from {settings.tardis.endpoint} to {settings.lake_url} (mainnet)")
    with Live(get_renderable=pace.shown, console=console, transient=True, refresh_per_second=4):
        reports = backfill_days(settings, open_lake(settings), days, families, again=again, told=pace.hear)
    show_reports(console, reports, pace.seconds)
    raise typer.Exit(1 if any(report.state in UNDONE for report in reports) else 0)


@dataclass(slots=True)
class Pace:
    """What is being done, how fast, and how long it may still take."""

    days: int
    at_work: dict[dt.date, Progress] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def hear(self, progress: Progress) -> None:
        """Take in what a day tells."""
        self.at_work[progress.day] = progress

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started

    @property
    def share(self) -> float:
        """Of the whole work, done."""
        return min(1.0, sum(progress.share for progress in list(self.at_work.values())) / max(self.days, 1))

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before there is one."""
        return self.seconds * (1 - self.share) / self.share if self.share > 0 else None

    def shown(self) -> Group:
        """For the terminal, while it lasts."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        at_work = [progress for progress in list(self.at_work.values()) if progress.doing != "done"]
        done = len(self.at_work) - len(at_work)
        heard = list(self.at_work.values())
        rates = (sum(p.rows for p in heard) / max(self.seconds, 1e-9), sum(p.fetched for p in heard) / _MEGABYTE / max(self.seconds, 1e-9))
        head = f"{done} of {self.days} days, {rates[0]:,.0f} ticks/s, {rates[1]:,.1f} MB/s, {duration(self.seconds_left)} left"
        lines = [f"  {p.day}  {p.doing}: {p.fetched / _MEGABYTE:,.1f} MB, {p.rows:,} ticks" for p in at_work]
        return Group(Text(head), ProgressBar(total=1.0, completed=self.share, width=60), *(Text(line) for line in lines))


def duration(seconds: float | None) -> str:
    """`1 h 05 min`, `3 min 10 s`, `12 s`; a question mark where it is not known."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole >= 3_600:
        return f"{whole // 3_600} h {whole % 3_600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def show_reports(console: Console, reports: Sequence[DayReport], seconds: float) -> None:
    """What became of each day, the totals, and what to do about the rest."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Backfill", title_justify="left")
    for name in ("day", "state", "MB", "ticks", "snapshots", "rows", "seconds", "note"):
        table.add_column(name, justify="left" if name in {"day", "state", "note"} else "right", overflow="fold")
    for report in reports:
        snapshots = sum(receipt.counts["snapshots"] for receipt in report.receipts.values())
        fetched = (f"{report.bytes / _MEGABYTE:,.1f}", f"{report.ticks:,}") if report.bytes else ("", "")
        kept = (f"{snapshots:,}", f"{report.rows:,}") if report.receipts else ("", "")
        table.add_row(str(report.day), report.state, *fetched, *kept, f"{report.seconds:.1f}", escape(report.why))
    console.print(table)
    states = Counter(report.state for report in reports)
    size, ticks = sum(report.bytes for report in reports), sum(report.ticks for report in reports)
    console.print(f"{', '.join(f'{count} {state}' for state, count in states.items())}; {duration(seconds)}", soft_wrap=True)
    if ticks and seconds:
        pace = f"{ticks / seconds:,.0f} ticks/s, {size / _MEGABYTE / seconds:,.1f} MB/s"
        console.print(f"{ticks:,} ticks, {size / _MEGABYTE:,.1f} MB, {sum(r.rows for r in reports):,} rows in the lake: {pace}")
    for remedy, count in Counter(report.remedy for report in reports if report.remedy).items():
        console.print(f"[green]remedy[/] ({count} days): {escape(remedy)}", soft_wrap=True)


def agreement_command(
    day: Annotated[dt.datetime, typer.Argument(formats=_DAY, help="UTC")],
    underlying: Annotated[str, typer.Option(help="family")] = "BTC",
    left: Annotated[str, typer.Option(help="a source, or source/region")] = "tardis",
    right: Annotated[str, typer.Option(help="the other; differences are right minus left")] = "deribit",
    ticks: Annotated[float, typer.Option(min=0, help="price difference, in ticks, that is none")] = 1.0,
    volatility: Annotated[float, typer.Option(min=0, help="volatility difference, decimal, that is none")] = 0.005,
    network: Annotated[str, typer.Option(help="whose lake")] = "mainnet",
) -> None:
    """Say whether two sources (or regions) have the same quotes of a day, and if not, where and by how much.

    The outcome is kept as JSON in the lake's receipts, stage `agreement`. Exit code 1: some rows disagree or are alone.
    """
    from options_agent.cli.terminal import console_of
    from options_agent.lake.store import open_lake
    from options_agent.quality.agreement import Tolerance, compare, parse_side
    from options_agent.settings import load_settings

    settings = load_settings(network=network, source="lake")
    sides = parse_side(left), parse_side(right)
    receipt = compare(open_lake(settings), underlying, day.date(), *sides, Tolerance(ticks, volatility))
    show_agreement(console_of(), receipt)
    counts = receipt.counts
    agreed = counts["matched"] and not counts["disagreeing"] and not counts["only_left"] and not counts["only_right"]
    raise typer.Exit(0 if agreed else 1)


def show_agreement(console: Console, receipt: Receipt) -> None:
    """The outcome as tables: columns, worst rows, and where."""
    from rich.table import Table

    counts, details = receipt.counts, receipt.details
    left, right = details["left"], details["right"]
    console.print(
        f"{receipt.underlying} {receipt.partition.split('@')[0]}, {left} against {right}: {counts['snapshots']} common snapshots "
        f"({details['snapshots_only_left']} only {left}, {details['snapshots_only_right']} only {right}); "
        f"{counts['matched']:,} rows matched ({details['share_matched']:.2%}), {counts['only_left']:,} only {left}, "
        f"{counts['only_right']:,} only {right}; {counts['disagreeing']:,} matched rows disagree",
        soft_wrap=True,
    )
    table = Table(title="Differences (absolute; prices in coin or USDC, volatilities decimal)", title_justify="left")
    for name in ("column", "both", f"only {left}", f"only {right}", "equal", "beyond", "median", "p99", "max", "bias", "worst row"):
        table.add_column(name, justify="left" if name in {"column", "worst row"} else "right", overflow="fold")
    for name, column in details["columns"].items():
        spread, worst = column["difference"], column["worst"][:1]
        numbers = [_number(spread[key]) for key in ("median", "p99", "max", "mean")]
        shown = "".join(f"{w['instrument']} {w['snapshot'][11:16]}: {_number(w['left'])} / {_number(w['right'])}" for w in worst)
        table.add_row(name, *(f"{column[key]:,}" for key in ("both", "only_left", "only_right", "equal", "beyond")), *numbers, shown)
    console.print(table)
    for key in ("snapshots", "expiries"):
        found: list[dict[str, Any]] = details[key]
        worst_of = sorted(found, key=lambda row: -(row["disagreeing"] + row["only_left"] + row["only_right"]))[:5]
        for row in worst_of:
            label = row[key.removesuffix("s") if key == "snapshots" else "expiry"]
            console.print(
                f"  {key}: {label}: {row['disagreeing']} disagree, {row['only_left']} only {left}, {row['only_right']} only {right}"
            )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
