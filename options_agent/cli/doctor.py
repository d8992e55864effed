"""`options-agent doctor`: what is installed, running, reachable and stale; each problem with how to mend it."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import shutil
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, Literal

from rich.markup import escape
from rich.table import Table

from options_agent.cli.terminal import console_of
from options_agent.errors import OptionsAgentError
from options_agent.lake.files import open_files
from options_agent.lake.store import open_lake
from options_agent.local.services import REPOSITORY, answers, running_desk
from options_agent.quality.freshness import describe, freshness
from options_agent.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

State = Literal["ok", "note", "broken"]
_COLOURS: Final = {"ok": "green", "note": "yellow", "broken": "red"}
_KEY_PACKAGES: Final = ("dagster", "dagster-webserver", "mlflow", "numba", "numpy", "polars", "pyarrow", "pandera", "s3fs")
_LEAST_FREE_BYTES: Final = 2 * 1024**3
_HEARTBEATS: Final = "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } } }"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: how it stands, and what mends it."""

    area: str
    what: str
    state: State
    says: str
    remedy: str = ""


def examine() -> int:
    """Look at everything and print it; 1 where something is broken."""
    settings, console = load_settings(), console_of()
    findings = [finding for look in LOOKS for finding in look(settings)]
    table = Table(title="options-agent doctor", title_justify="left")
    for name in ("area", "what", "state", "says", "remedy"):
        table.add_column(name, overflow="fold")
    for f in findings:
        table.add_row(f.area, f.what, f"[{_COLOURS[f.state]}]{f.state}[/]", f.says, f.remedy)
    console.print(table)
    shown = Table(title="Settings in force (secrets masked)", title_justify="left", show_header=False)
    for name, value in settings.model_dump(mode="json").items():
        shown.add_row(name, json.dumps(value) if isinstance(value, (dict, list)) else str(value))
    console.print(shown)
    return int(any(f.state == "broken" for f in findings))


def installed(settings: Settings) -> list[Finding]:
    """Python, key packages against the lock, disk."""
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    found = [Finding("installed", "python", "ok" if fits else "broken", version, "" if fits else "use Python 3.11 to 3.13")]
    locked = _locked()
    for name in _KEY_PACKAGES:
        try:
            here = metadata.version(name)
        except metadata.PackageNotFoundError:
            found.append(Finding("installed", name, "broken", "missing", "make install"))
            continue
        want = locked.get(name, here)
        found.append(
            Finding("installed", name, "ok" if here == want else "note", here, "" if here == want else f"the lock has {want}: make install")
        )
    home = next(p for p in (settings.home, *settings.home.parents) if p.exists())
    free = shutil.disk_usage(home).free
    enough = free >= _LEAST_FREE_BYTES
    found.append(
        Finding(
            "installed",
            "disk",
            "ok" if enough else "broken",
            f"{free / 1024**3:.1f} GiB free at {home}",
            "" if enough else "free space, or move OPTIONS_AGENT_HOME",
        )
    )
    return found


def own_strategies(settings: Settings) -> list[Finding]:
    """Strategies of one's own that are not sound."""
    from options_agent.strategies import files

    found, broken = files.own_strategies(settings)
    if not found and not broken:
        return []
    fine = Finding("strategies", "own", "ok", f"{len(found)} sound in {settings.own_strategies_dir}")
    # a field's place has brackets ("legs[1]"): said as it is, not read as a style
    says = {path: escape(f"{error.message} (at {error.place or path})") for path, error in broken.items()}
    return [fine, *(Finding("strategies", path.name, "broken", says[path], escape(error.remedy or "")) for path, error in broken.items())]


def running(settings: Settings) -> list[Finding]:
    """The desk of this home and network, its pages and the orchestrator's daemons."""
    desk = running_desk(settings)
    if desk is None:
        return [Finding("running", "desk", "note", f"not running on network {settings.network}", "options-agent run")]
    found = [Finding("running", "desk", "ok", f"process {desk.get('pid', '?')}")]
    for name, url, page in (("Dagster", desk.get("dagster"), "/server_info"), ("MLflow", desk.get("mlflow"), "/health")):
        up = bool(url) and answers(f"{url}{page}")
        found.append(Finding("running", name, "ok" if up else "broken", str(url), "" if up else f"see {settings.home}/logs; start again"))
    if desk.get("dagster") and found[1].state == "ok":
        for daemon in _daemons(str(desk["dagster"])):
            well = bool(daemon["healthy"]) or not daemon["required"]
            found.append(
                Finding(
                    "running",
                    f"daemon {daemon['daemonType'].lower()}",
                    "ok" if well else "broken",
                    "healthy" if daemon["healthy"] else "no heartbeat",
                    "" if well else "start again: options-agent run",
                )
            )
    return found


def reachable(settings: Settings) -> list[Finding]:
    """Lake and archive by writing and reading a byte, the database by asking it."""
    found = []
    for name, url in (("lake", settings.lake_url), ("archive", settings.archive_url)):
        path = f"{settings.network}/.doctor-{secrets.token_hex(4)}"
        try:
            files = open_files(url, settings.options_for(url))
            files.write(path, b"1")
            files.delete(path)
            found.append(Finding("reachable", name, "ok", f"{url} takes writes"))
        except OptionsAgentError as error:
            found.append(Finding("reachable", name, "broken", error.message, error.remedy or ""))
    if settings.postgres_url is not None:
        found.append(_postgres(settings))
    waiting = len(list((settings.state_dir / "tracking" / "pending").glob("*.json")))
    if waiting:
        found.append(Finding("reachable", "MLflow outbox", "note", f"{waiting} runs wait to be sent", "options-agent run sends them"))
    return found


def stale(settings: Settings) -> list[Finding]:
    """The last good snapshot of each underlying, source and region; what is late where the source is live."""
    found = []
    for one in freshness(open_lake(settings), settings, dt.datetime.now(dt.UTC)):
        late = one.state != "fresh"
        if one.state == "never":
            remedy = "options-agent run"
        else:
            remedy = "the harvester is not running, or cannot reach its source: options-agent run, or options-agent harvest" if late else ""
        says = f"{one.source}/{one.region}: {describe(one)}"
        found.append(Finding("stale", one.underlying, "note" if late else "ok", says if not late else f"{says}: {one.state}", remedy))
    return found


LOOKS: Final[tuple[Callable[[Settings], list[Finding]], ...]] = (installed, own_strategies, running, reachable, stale)


def _locked() -> dict[str, str]:
    lock = REPOSITORY / "requirements.lock"
    if not lock.exists():
        return {}
    pins = (
        line.split(" ")[0].split("==")
        for line in lock.read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith(" ")
    )
    return dict(pins)


def _daemons(url: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(f"{url}/graphql", json.dumps({"query": _HEARTBEATS}).encode(), {"Content-Type": "application/json"})  # noqa: S310 our own server
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            return list(json.load(reply)["data"]["instance"]["daemonHealth"]["allDaemonStatuses"])
    except (urllib.error.URLError, OSError, KeyError, TypeError, ValueError):
        return []


def _postgres(settings: Settings) -> Finding:
    import psycopg2

    from options_agent.local.services import database_url

    url = database_url(settings, "postgres").replace("+psycopg2", "")
    try:
        psycopg2.connect(url, connect_timeout=5).close()
    except psycopg2.Error as error:
        return Finding(
            "reachable", "Postgres", "broken", str(error).strip().splitlines()[0], "check OPTIONS_AGENT_POSTGRES_URL and the server"
        )
    return Finding("reachable", "Postgres", "ok", "answers")
