"""The desk's servers on loopback: MLflow, the embedded model server, Dagster's web server and daemon; started together, ended together.

One desk per home and network: a lock that the kernel drops when its holder dies says whether one is running.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from options_agent.durable import write_json, write_text
from options_agent.errors import ServiceError, SettingsError
from options_agent.local.environment import environment_of
from options_agent.local.guard import MARK_VARIABLE, end_family, marked
from options_agent.local.ports import LOOPBACK, choose_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from options_agent.settings import Settings

START_SECONDS: Final = 180.0
STOP_SECONDS: Final = 8.0
DAGSTER_PORT: Final = 3000
MLFLOW_PORT: Final = 5000
MODEL_PORT: Final = 4100
REPOSITORY: Final = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Service:
    """A child under guard."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    health: str | None = None


@dataclass(slots=True)
class Desk:
    """Running servers. Use as a context: everything started inside is ended on the way out, whatever the way."""

    settings: Settings
    said: Callable[[str], None]
    services: list[Service] = field(default_factory=list)
    _mark: str = field(default_factory=lambda: secrets.token_hex(8))
    _stack: ExitStack = field(default_factory=ExitStack)
    _model_port: int | None = None

    def __enter__(self) -> Self:
        self._stack.enter_context(_lock(self.settings))
        _end_leftovers(self.settings)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.stop()
        finally:
            self._stack.close()

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps this network's runs."""
        return self.settings.home / "dagster" / self.settings.network

    def prepare(self) -> None:
        """Choose ports, start the database of profile `postgres`, and write Dagster's configuration.

        Raises:
            ServiceError: the database cannot be had.
        """
        mlflow = choose_port(MLFLOW_PORT)
        dagster = choose_port(DAGSTER_PORT, frozenset({mlflow}))
        model = choose_port(MODEL_PORT, frozenset({mlflow, dagster}))
        named = (("MLflow", mlflow, MLFLOW_PORT), ("Dagster", dagster, DAGSTER_PORT), ("the model server", model, MODEL_PORT))
        for name, port, preferred in named:
            if port != preferred:
                self.said(f"port {preferred} is taken: {name} listens on {port} instead")
        changes: dict[str, Any] = {
            "mlflow_tracking_uri": self.settings.mlflow_tracking_uri or f"http://{LOOPBACK}:{mlflow}",
            "dagster_url": f"http://{LOOPBACK}:{dagster}",
        }
        if self.settings.language_model.base_url is None:
            self._model_port = model
            changes["language_model"] = self.settings.language_model.model_copy(update={"base_url": f"http://{LOOPBACK}:{model}/v1"})
        if self.settings.profile == "postgres" and self.settings.postgres_url is None:
            from pydantic import SecretStr

            from options_agent.local.postgres import running_postgres

            changes["postgres_url"] = SecretStr(self._stack.enter_context(running_postgres(self.settings.home / "postgres")))
        self.settings = self.settings.model_copy(update=changes)
        self.dagster_home.mkdir(parents=True, exist_ok=True)
        profile = (REPOSITORY / "deploy" / self.settings.profile / "dagster.yaml").read_text(encoding="utf-8")
        write_text(self.dagster_home / "dagster.yaml", profile)
        write_json(
            _state_file(self.settings),
            {"pid": os.getpid(), "mark": self._mark, "dagster": changes["dagster_url"], "mlflow": changes["mlflow_tracking_uri"]},
        )

    def environment(self) -> dict[str, str]:
        """Environment of every process of the desk."""
        variables = {k: v for k, v in os.environ.items() if not k.startswith("OPTIONS_AGENT_")}
        variables |= environment_of(self.settings)
        variables |= {
            "DAGSTER_HOME": str(self.dagster_home),
            MARK_VARIABLE: self._mark,
            "PYTHONWARNINGS": "ignore",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_MODEL_CATALOG_URI": "",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        if self.settings.postgres_url is not None:
            variables["OPTIONS_AGENT_DAGSTER_POSTGRES_URL"] = database_url(self.settings, "dagster")
        return variables

    def start_servers(self) -> None:
        """Start MLflow, models, Dagster's web server and daemon; waits for the orchestrator's storage to be made, for nothing else."""
        if self.settings.mlflow_tracking_uri and self.settings.mlflow_tracking_uri.startswith(f"http://{LOOPBACK}:"):
            self._start("mlflow", self._mlflow_command(), health=f"{self.settings.mlflow_tracking_uri}/health")
        if self._model_port is not None:
            model = [sys.executable, "-m", "options_agent.llm.server", str(self.settings.models_dir), str(self._model_port)]
            self._start("models", model, health=f"{self.settings.language_model.base_url}/models")
        self._make_storage()
        port = str(self.settings.dagster_url).rsplit(":", 1)[1]
        location = ["-m", "dagster_project.definitions", "-d", str(REPOSITORY)]
        web = [sys.executable, "-m", "dagster_webserver", "-h", LOOPBACK, "-p", port, *location]
        self._start("dagster-webserver", web, health=f"{self.settings.dagster_url}/server_info")
        self._start("dagster-daemon", [sys.executable, "-m", "dagster._daemon", "run", *location])

    def start_pipeline(self, start: str, end: str, progress: Path) -> Service:
        """Start the pipeline over a range of days, reporting to `progress`."""
        command = [sys.executable, "-m", "dagster_project.pipeline", "--start", start, "--end", end]
        command += ["--wait-for-tracking", str(START_SECONDS)]
        return self._start("pipeline", command, extra={"OPTIONS_AGENT_PROGRESS": str(progress)})

    def wait_healthy(self) -> None:
        """Wait until every server with a health page answers.

        Raises:
            ServiceError: one ended or did not answer in time; the message has the tail of its log.
        """
        deadline = time.monotonic() + START_SECONDS
        for service in self.services:
            while service.health and not answers(service.health):
                if service.process.poll() is not None or time.monotonic() > deadline:
                    raise ServiceError(
                        f"{service.name} did not start:\n{tail(service.log)}",
                        place=str(service.log),
                        remedy="see the log; `options-agent doctor`",
                    )
                time.sleep(0.25)

    def ended(self) -> list[Service]:
        """Servers that are no longer running."""
        return [s for s in self.services if s.process.poll() is not None and s.name != "pipeline"]

    def stop(self) -> None:
        """End everything that was started, within `STOP_SECONDS`; what does not end is killed."""
        for service in self.services:
            if service.process.stdin is not None:
                service.process.stdin.close()  # the guard sees the end of its pipe
        deadline = time.monotonic() + STOP_SECONDS
        for service in self.services:
            try:
                service.process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                end_family(service.process.pid, self._mark)
                service.process.wait()
        for process in marked(self._mark):
            if process.pid != os.getpid():
                process.kill()
        self.services.clear()
        _state_file(self.settings).unlink(missing_ok=True)

    def _make_storage(self) -> None:
        """Create Dagster's tables in one process: several that start together on an empty storage would each stamp them.

        Raises:
            ServiceError: the storage cannot be made.
        """
        made = self.dagster_home / ".storage-made"
        if made.exists():
            return
        script = "import dagster as dg; dg.DagsterInstance.get().get_runs(limit=1)"
        done = subprocess.run(
            [sys.executable, "-c", script], env=self.environment(), cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word why"])[-1]
            raise ServiceError(
                f"Dagster's storage cannot be made: {last}", place=str(self.dagster_home), remedy="see `options-agent doctor`"
            )
        made.touch()

    def _mlflow_command(self) -> list[str]:
        folder = self.settings.home / "mlflow" / self.settings.network
        folder.mkdir(parents=True, exist_ok=True)
        store = f"sqlite:///{folder}/mlflow.db" if self.settings.postgres_url is None else database_url(self.settings, "mlflow")
        port = str(self.settings.mlflow_tracking_uri).rsplit(":", 1)[1]
        command = [sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", port, "--workers", "1"]
        return [*command, "--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts")]

    def _start(self, name: str, command: list[str], *, health: str | None = None, extra: dict[str, str] | None = None) -> Service:
        log = self.settings.home / "logs" / f"{self.settings.network}-{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        guarded = [sys.executable, "-m", "options_agent.local.guard", f"{self._mark}.{name}", *command]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                guarded,
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=self.environment() | (extra or {}),
                cwd=REPOSITORY,
                start_new_session=True,
            )
        service = Service(name, process, log, health)
        self.services.append(service)
        return service


def answers(url: str, timeout: float = 2.0) -> bool:
    """Whether a page of loopback answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as reply:  # noqa: S310 our own servers
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def running_desk(settings: Settings) -> dict[str, Any] | None:
    """What the running desk of this home and network wrote of itself, None where none runs."""
    path = settings.state_dir / "desk.lock"
    if not path.exists():
        return None
    with path.open("r+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            state = _state_file(settings)
            return dict(json.loads(state.read_text(encoding="utf-8"))) if state.exists() else {}
    return None


def database_url(settings: Settings, database: str) -> str:
    """URL of one of the desk's databases on its Postgres, with the driver named.

    Raises:
        SettingsError: no Postgres is configured.
    """
    if settings.postgres_url is None:
        raise SettingsError("no Postgres is configured", place="OPTIONS_AGENT_POSTGRES_URL", remedy="set it, or use profile local")
    base = settings.postgres_url.get_secret_value().rstrip("/")
    scheme, _, rest = base.partition("://")
    server = rest.split("/", 1)[0]
    return f"{scheme.split('+')[0]}+psycopg2://{server}/{database}"


class _lock:  # noqa: N801 used as a function
    """The lock of a home and network, held for life."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> None:
        self._settings.state_dir.mkdir(parents=True, exist_ok=True)
        self._stream = (self._settings.state_dir / "desk.lock").open("w")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = running_desk(self._settings) or {}
            raise ServiceError(
                f"a desk of this home and network is already running (process {other.get('pid', '?')}): "
                f"{other.get('dagster', '')} {other.get('mlflow', '')}",
                place=str(self._settings.home),
                remedy="use it, stop it with Ctrl-C, or set another OPTIONS_AGENT_HOME",
            ) from None

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def _end_leftovers(settings: Settings) -> None:
    """End what a desk that was killed may have left: its guards do so themselves within a second or two."""
    state = _state_file(settings)
    if state.exists():
        mark = json.loads(state.read_text(encoding="utf-8")).get("mark", "")
        for process in marked(mark) if mark else []:
            end_family(process.pid, mark)
        state.unlink(missing_ok=True)


def _state_file(settings: Settings) -> Path:
    return settings.state_dir / "desk.json"
