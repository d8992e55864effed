"""Calls of language models as traces in MLflow. The ledger is the outbox: nothing is lost while the server is away, nothing sent twice."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import ServiceError
from options_agent.llm.spend import FAILED, SENDING, SENT, mark_traces, untraced
from options_agent.tracking.server import experiment_id, mlflow_of, server_reachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from options_agent.settings import Settings

CALL_TAG: Final = "options_agent.call"
#: `name@3` is a version of the registry; `name@d4e29897` the hash of a file, which no registry knows.
_HASH_DIGITS: Final = 8


def send_traces(settings: Settings) -> int:
    """Send what was not sent; returns how many went, 0 where another sender is at it.

    Raises:
        SettingsError: no tracking server is configured.
        ServiceError: the server is away or refuses; what is left goes with the next call.
    """
    mlflow = mlflow_of(settings)
    if not server_reachable(settings):
        raise ServiceError(
            "traces wait: the tracking server is away", place=settings.mlflow_tracking_uri, remedy="start it, then send again"
        )
    with _alone(settings) as alone:
        return _send_all(mlflow, settings) if alone else 0


@contextmanager
def _alone(settings: Settings) -> Iterator[bool]:
    """Whether this is the only sender of the desk; a second one has nothing to do. The kernel drops the lock with its holder."""
    path = settings.state_dir / "language_model" / "sending.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _send_all(mlflow: Any, settings: Settings) -> int:
    experiment, sent = experiment_id(mlflow, f"{settings.network}/language-model"), 0
    while waiting := untraced(settings):
        doubtful = {row["call"] for row in waiting if row["traced"] == SENDING}
        mark_traces(settings, [row["call"] for row in waiting], SENDING)
        done = []
        try:
            for row in waiting:
                if row["call"] not in doubtful or not _is_there(mlflow, experiment, row["call"]):
                    _send(mlflow, experiment, row)
                    sent += 1
                done.append(row["call"])
        except mlflow.exceptions.MlflowException as error:
            raise ServiceError(f"MLflow did not take a trace: {error}", place=settings.mlflow_tracking_uri) from error
        finally:
            mark_traces(settings, done, SENT)
    return sent


def _is_there(mlflow: Any, experiment: str, call: str) -> bool:
    found = mlflow.search_traces(locations=[experiment], filter_string=f"tags.`{CALL_TAG}` = '{call}'", max_results=1, return_type="list")
    return bool(found)


def _send(mlflow: Any, experiment: str, row: dict[str, Any]) -> None:
    name, _, version = row["prompt"].partition("@")
    registered = version.isdigit() and len(version) < _HASH_DIGITS
    begin = round(dt.datetime.fromisoformat(row["at"]).timestamp() * 1e9)
    span = mlflow.start_span_no_context(
        f"{row['feature']}: {row['model']}",
        span_type="CHAT_MODEL",
        inputs={"messages": json.loads(row["request"]), "model": row["model"]},
        attributes={
            "mlflow.chat.tokenUsage": {
                "input_tokens": row["tokens_in"],
                "output_tokens": row["tokens_out"],
                "total_tokens": row["tokens_in"] + row["tokens_out"],
            },
            # ours, by our own table: the server's would price what it does not know at nothing
            "mlflow.llm.cost": {"input_cost": row["cost_usd"], "output_cost": 0.0, "total_cost": row["cost_usd"]},
            "mlflow.llm.model": row["model"],
            "feature": row["feature"],
            "prompt": row["prompt"],
            "cost_usd": row["cost_usd"],
            "seconds": row["seconds"],
        },
        tags={
            CALL_TAG: row["call"],
            "feature": row["feature"],
            "prompt": row["prompt"],
            "model": row["model"],
            "cost_usd": f"{row['cost_usd']:.9f}",
            **({"mlflow.linkedPrompts": json.dumps([{"name": name, "version": version}])} if registered else {}),
        },
        experiment_id=experiment,
        start_time_ns=begin,
    )
    span.end(outputs=row["answer"], status="ERROR" if row["status"] == FAILED else "OK", end_time_ns=begin + round(row["seconds"] * 1e9))
    if registered:  # the prompt's page lists its traces
        of = mlflow.entities.model_registry.PromptVersion(name=name, version=int(version), template="")
        mlflow.MlflowClient(mlflow.get_tracking_uri()).link_prompt_versions_to_trace(prompt_versions=[of], trace_id=span.trace_id)
