"""The door to MLflow: the only module that imports it. Others ask `mlflow_of` for the library."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from options_agent.errors import SettingsError

if TYPE_CHECKING:
    from options_agent.settings import Settings


def mlflow_of(settings: Settings) -> Any:
    """The library, pointed at the desk's server.

    Raises:
        SettingsError: no server is configured.
    """
    if not settings.mlflow_tracking_uri:
        raise SettingsError(
            "no tracking server is configured",
            place="OPTIONS_AGENT_MLFLOW_TRACKING_URI",
            remedy="set it, or start the desk with `options-agent run`",
        )
    # The catalogue and telemetry would be fetched from outside; a dead server must fail in seconds, not minutes.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_MODEL_CATALOG_URI", "")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")  # what was sent must be there when it is marked as sent
    import mlflow
    import mlflow.entities
    import mlflow.exceptions
    import mlflow.genai

    mlflow.set_tracking_uri(settings.mlflow_tracking_uri)
    return mlflow


def server_reachable(settings: Settings, *, timeout: float = 3.0) -> bool:
    """Whether the tracking server answers its health page; `timeout` in seconds."""
    uri = settings.mlflow_tracking_uri
    if not uri:
        return False
    if not uri.startswith(("http://", "https://")):
        return True  # a database URI is opened by the client itself
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=timeout) as answer:  # noqa: S310 the scheme is checked above
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def experiment_id(mlflow: Any, name: str) -> str:
    """Id of the experiment of that name, made where there is none."""
    client = mlflow.MlflowClient(mlflow.get_tracking_uri())
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except mlflow.exceptions.MlflowException:  # another process of the desk was first
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)
