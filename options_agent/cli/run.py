"""`options-agent run`: settings for the range, the servers, the pipeline with its progress, the final table, and staying up."""

from __future__ import annotations

import datetime as dt
import signal
import time
from typing import TYPE_CHECKING, Any, Final

from options_agent.cli.summary import print_summary
from options_agent.cli.terminal import console_of
from options_agent.cli.watch import Watch
from options_agent.errors import OptionsAgentError, ServiceError, SettingsError
from options_agent.local.services import Desk, tail
from options_agent.settings import Settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from rich.console import Console

_POLL_SECONDS: Final = 0.2


class _Interrupted(Exception):  # noqa: N818 not an error: the user asked
    """Ctrl-C or SIGTERM."""


def run_desk(data: Path | None, prices: Path | None, days: int, start: dt.date | None, end: dt.date | None, *, stay: bool) -> int:
    """Do everything `options-agent run` does; returns the exit code.

    Raises:
        SettingsError: the range or the data do not fit.
        DataError: the recorded data cannot be read.
        ServiceError: a server did not start, or the pipeline failed.
    """
    console = console_of()
    began = time.monotonic()
    _catch_signals()
    try:
        settings, first, last = plan(data, prices, days, start, end, console)
        console.print(
            f"[bold]{settings.network}[/] network, source {settings.source}, {', '.join(settings.underlyings)}, {first} to {last}"
        )
        with Desk(settings, lambda text: console.print(f"[yellow]{text}[/]")) as desk:
            _work(desk, first, last, console)
            print_summary(desk.settings, first, last, console)
            console.print(_links(desk.settings, time.monotonic() - began))
            if stay:
                console.print("[bold]Schedules and sensors are on. Ctrl-C ends everything.[/]")
                _stay(desk)
    except _Interrupted:
        console.print("Ended.")
        return 130
    return 0


def plan(
    data: Path | None, prices: Path | None, days: int, start: dt.date | None, end: dt.date | None, console: Console
) -> tuple[Settings, dt.date, dt.date]:
    """Settings and range of the run: the synthetic market up to yesterday, or all that was recorded."""
    if data is None:
        settings = load_settings()
        if settings.source == "recorded":
            return plan(settings.recorded.path, settings.recorded.prices, days, start, end, console)
        last = end or dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
        first = start or last - dt.timedelta(days=days - 1)
        changes: dict[str, Any] = {"history_start": min(first, settings.history_start)}
    else:
        if not data.exists():
            raise SettingsError("there is no such file or folder", place=str(data), remedy="name recorded chains with --data")
        first, last, changes = _recorded(data, prices, console)
        first, last = start or first, end or last
        settings = load_settings(**changes)
    if first > last:
        raise SettingsError(f"the range is empty: {first} to {last}", remedy="give --start before --end")
    return settings.model_copy(update=changes if data is None else {}), first, last


def _recorded(data: Path, prices: Path | None, console: Console) -> tuple[dt.date, dt.date, dict[str, Any]]:
    """Range and settings from what the files hold."""
    from options_agent.market.recorded.source import RecordedSource
    from options_agent.settings import RecordedSettings

    recorded = RecordedSettings(path=data.resolve(), prices=prices.resolve() if prices else None)
    network = load_settings(source="recorded", network="mainnet").network
    with console.status("looking into the files"):
        source = RecordedSource(recorded, network=network, region="local")
    spans = {u: source.span(u) for u in source.underlyings()}
    first, last = min(s[0] for s in spans.values()).date(), max(s[1] for s in spans.values()).date()
    interval = min(source.interval(u) for u in spans)
    changes: dict[str, Any] = {
        "source": "recorded",
        "network": network,
        "recorded": recorded,
        "underlyings": tuple(spans),
        "interval_minutes": max(int(interval.total_seconds() // 60), 1),
        "history_start": first,
    }
    return first, last, changes


def _work(desk: Desk, first: dt.date, last: dt.date, console: Console) -> None:
    """Servers and pipeline side by side; returns when the pipeline is done and every page answers."""
    desk.prepare()
    progress = desk.settings.state_dir / "progress.jsonl"
    progress.unlink(missing_ok=True)
    desk.start_servers()
    pipeline = desk.start_pipeline(first.isoformat(), last.isoformat(), progress)
    with Watch(progress, console) as watch:
        while pipeline.process.poll() is None:
            watch.update()
            time.sleep(_POLL_SECONDS)
        watch.update()
    if pipeline.process.returncode:
        raise ServiceError(
            f"the pipeline failed: {_last_line(pipeline.log)}",
            place=str(pipeline.log),
            remedy="see the log and the run in Dagster; finished work is kept, run again",
        )
    with console.status("waiting for Dagster and MLflow to answer"):
        desk.wait_healthy()
    _send_late(desk.settings)


def _send_late(settings: Settings) -> None:
    """Records that waited while the tracking server was starting go now; what cannot go stays in the outbox."""
    from options_agent.tracking.runs import pending, sync_pending

    if any(True for _ in pending(settings)):
        try:
            sync_pending(settings)
        except OptionsAgentError as error:
            console_of(stderr=True).print(f"[yellow]MLflow: {error}[/]")


def _stay(desk: Desk) -> None:
    while True:
        time.sleep(1.0)
        for service in desk.ended():
            raise ServiceError(
                f"{service.name} ended:\n{tail(service.log)}", place=str(service.log), remedy="start again: `options-agent run`"
            )


def _links(settings: Settings, seconds: float) -> str:
    lines = [
        f"\nDone in {seconds:.0f} s.",
        f"  Dagster   {settings.dagster_url}   (lineage: {settings.dagster_url}/asset-groups)",
        f"  MLflow    {settings.mlflow_tracking_uri}",
        f"  Models    {settings.language_model.base_url}",
        f"  Reports   {settings.reports_dir}",
        f"  Lake      {settings.lake_url}/{settings.network}",
        f"  Archive   {settings.archive_url}/{settings.network}",
    ]
    plain = load_settings()
    if (settings.network, settings.source) != (plain.network, plain.source):
        lines.append(
            f"Other commands see this with OPTIONS_AGENT_NETWORK={settings.network} OPTIONS_AGENT_SOURCE={settings.source}, set or in .env"
        )
    return "\n".join(lines)


def _last_line(log: Path) -> str:
    lines = [line for line in tail(log, 400).splitlines() if line.startswith("pipeline:")]
    return lines[-1].removeprefix("pipeline: ") if lines else tail(log, 3)


def _catch_signals() -> None:
    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cut the ending short
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Interrupted

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
