"""Fine-tuning over the official wire protocol: files up, a job submitted once, followed to its end, found again after a crash.

The server is whatever `llm.client` speaks to: the embedded one, which trains on this machine, or any that speaks the protocol. Which
weeks a model learns from is in `training_sets`; when hosted offers end is in `shutdowns`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from options_agent.durable import write_json
from options_agent.errors import DataError, ServiceError, SettingsError
from options_agent.llm.client import openai_client
from options_agent.llm.training_sets import training_set

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from options_agent.llm.training_sets import TrainingSet
    from options_agent.settings import Settings

BASE: Final = "desk-rules"
#: Metadata of a job by which it is found on the server when its id was not kept.
KEY: Final = "options_agent_key"
OVER: Final = ("succeeded", "failed", "cancelled")
#: What a server says no with; others (busy, gone, broken) may be another answer the next time.
REFUSED: Final = (400, 401, 403, 404, 413, 422)
_POLL_SECONDS: Final = (0.2, 5.0)

Status = Literal["submitting", "queued", "running", "succeeded", "failed", "cancelled"]


class RefusedError(ServiceError):
    """The server understood and said no: the model cannot be tuned, the key is wrong, a file is not taken."""


@dataclass(frozen=True, slots=True)
class Tune:
    """A fine-tuning job as the desk knows it, and what came of it; one JSON file each.

    Attributes:
        key: hash of data, base, hyperparameters and server: the same key is the same job, submitted once.
        status: where it stands; `reason` says why where it failed or was cancelled.
        data_sha256: of the training file and, after it, the held-out one.
        weeks, held_out: ISO weeks learnt from, and the strictly later ones kept back ("" where a week was split).
        metrics: of the last checkpoint.
        datasheet: where the data is described, relative to the lake.
    """

    key: str
    status: Status
    base: str
    label: str
    data_sha256: str
    weeks: tuple[str, ...]
    held_out: tuple[str, ...]
    examples: int
    hyperparameters: Mapping[str, Any]
    datasheet: str
    server: str
    job: str = ""
    model: str = ""
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    checkpoints: tuple[str, ...] = ()
    trained_tokens: int = 0
    events_seen: int = 0


def fine_tune(
    settings: Settings,
    weeks: Sequence[str] | None = None,
    *,
    label: str = "expert",
    base: str = BASE,
    hyperparameters: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Tune:
    """Train a model on weeks of examples, or follow the job that already does; returns how it ended, without raising for failure.

    Args:
        weeks: ISO weeks to learn and hold out from; all that are written by default. The latest are held out.
        label: `expert` (what the rules did), `hindsight` (the best by value over the horizon) or `live` (what models did).
        base: the model to start from; the embedded server tunes `desk-rules` (trees) and `desk-decoder` (a small transformer, needs torch).
        hyperparameters: `n_epochs`, `batch_size`, `learning_rate_multiplier`; the server's choice where absent.
        progress: called with each event's message, once.

    Raises:
        DataError: there is too little to learn from.
        ServiceError: the server does not answer; a later call goes on where this one stopped. A job it refuses is a failed one.
        StorageError: the state cannot be kept.
    """
    data = training_set(settings, weeks, label)
    asked = dict(hyperparameters or {})
    server = settings.language_model.base_url or "embedded"
    text = json.dumps([data.sha256, base, sorted(asked.items()), server])
    key = hashlib.sha256(text.encode()).hexdigest()[:24]
    tune = _read(settings, key) or Tune(
        key, "submitting", base, label, data.sha256, data.weeks, data.held_out, data.examples, asked, data.datasheet, server
    )
    if tune.status == "succeeded":
        return tune
    if tune.status in OVER:  # asked for again by hand: a new job, under the same name
        tune = replace(tune, status="submitting", job="", reason="", metrics={}, checkpoints=(), events_seen=0)
    try:
        submitted = _submit(settings, tune, data)
    except RefusedError as error:  # asking again would change nothing
        return _write(settings, replace(tune, status="failed", reason=error.message))
    return _follow(settings, submitted, progress)


def tunes(settings: Settings) -> list[Tune]:
    """Every job the desk submitted, by key."""
    return [_tune(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(_folder(settings).glob("*.json"))]


def cancel(settings: Settings, job: str, reason: str = "cancelled on the terminal") -> Tune:
    """Cancel a job by its id or key; the state says so, with the reason. One that is over stays as it is.

    Raises:
        SettingsError: the desk knows no such job.
        ServiceError: the server does not answer.
    """
    tune = next((t for t in tunes(settings) if job in {t.job, t.key}), None)
    if tune is None:
        raise SettingsError(f"no fine-tuning job {job!r}", remedy="`options-agent train --list` shows them")
    if tune.status in OVER:
        return tune
    if tune.job:
        write_json(_why_cancelled(settings, tune.job), reason)  # in a file of its own: whoever follows the job writes its state
        with told("cancel the job"):
            client = openai_client(settings)
            if client.fine_tuning.jobs.retrieve(tune.job).status not in OVER:
                client.fine_tuning.jobs.cancel(tune.job)
            ended = client.fine_tuning.jobs.retrieve(tune.job)
        return _write(settings, _as_on_server(settings, tune, ended))
    return _write(settings, replace(tune, status="cancelled", reason=reason))


def _submit(settings: Settings, tune: Tune, data: TrainingSet) -> Tune:
    """The job on the server: the one known, the one found by its key, or a new one; its id is kept before anything waits for it."""
    with _alone(settings, tune.key):
        tune = tune if tune.job else _submitted_meanwhile(settings, tune)
        return tune if tune.job else _submit_alone(settings, tune, data)


def _submitted_meanwhile(settings: Settings, tune: Tune) -> Tune:
    there = _read(settings, tune.key)
    return there if there is not None and there.job and there.status not in OVER else tune


def _submit_alone(settings: Settings, tune: Tune, data: TrainingSet) -> Tune:
    _write(settings, tune)  # killed from here on, the next call looks on the server first
    with told("submit the job"):
        client = openai_client(settings)
        former = {t.job for t in tunes(settings) if t.job} | _ended(settings, tune.key)
        found = next(
            (j for j in client.fine_tuning.jobs.list(limit=100) if (j.metadata or {}).get(KEY) == tune.key and j.id not in former), None
        )
        if found is None:
            asked: dict[str, Any] = {
                name: client.files.create(file=(f"{tune.key}-{name}.jsonl", content), purpose="fine-tune").id
                for name, content in (("training_file", data.train), ("validation_file", data.validation))
                if content
            }
            asked["method"] = {"type": "supervised", "supervised": {"hyperparameters": dict(tune.hyperparameters)}}
            found = client.fine_tuning.jobs.create(
                model=tune.base, suffix=f"{tune.label}-{tune.key[:8]}", metadata={KEY: tune.key}, seed=0, **asked
            )
    return _write(settings, replace(tune, job=found.id, status="queued"))


def _follow(settings: Settings, tune: Tune, progress: Callable[[str], None] | None) -> Tune:
    """Wait for the end, telling each event once, also across processes."""
    client, pause = openai_client(settings), _POLL_SECONDS[0]
    while True:
        with told("follow the job"):
            job = client.fine_tuning.jobs.retrieve(tune.job)
            events = list(client.fine_tuning.jobs.list_events(tune.job, limit=100))
        for event in events[::-1][tune.events_seen :]:  # the protocol lists the newest first
            if progress is not None:
                progress(event.message)
        tune = _as_on_server(settings, replace(tune, events_seen=max(tune.events_seen, len(events))), job)
        if tune.status in OVER:
            break
        _write(settings, tune)
        time.sleep(pause)
        pause = min(pause * 1.5, _POLL_SECONDS[1])
    with told("read the checkpoints"):
        checkpoints = sorted(client.fine_tuning.jobs.checkpoints.list(tune.job), key=lambda c: c.step_number)
    if checkpoints:
        metrics = {name: float(v) for name, v in checkpoints[-1].metrics.to_dict().items() if isinstance(v, (int, float))}
        tune = replace(tune, metrics=metrics, checkpoints=tuple(c.fine_tuned_model_checkpoint for c in checkpoints))
    if tune.status != "succeeded":
        _remember_ended(settings, tune)
    return _write(settings, tune)


def _as_on_server(settings: Settings, tune: Tune, job: Any) -> Tune:
    status: Status = job.status if job.status in OVER else "running" if job.status == "running" else "queued"
    reason, told_why = "", _why_cancelled(settings, tune.job)
    if status == "failed":
        reason = (job.error.message if job.error else "") or "the server gives no reason"
    elif status == "cancelled":
        reason = json.loads(told_why.read_text(encoding="utf-8")) if told_why.is_file() else "cancelled on the server"
    return replace(tune, status=status, reason=reason, model=job.fine_tuned_model or "", trained_tokens=job.trained_tokens or 0)


def _folder(settings: Settings) -> Path:
    # not `jobs`: there the embedded server keeps its own
    return settings.home / "models" / settings.network / "tunes"


def _why_cancelled(settings: Settings, job: str) -> Path:
    return _folder(settings) / "cancelled" / f"{job}.json"


def _read(settings: Settings, key: str) -> Tune | None:
    path = _folder(settings) / f"{key}.json"
    return _tune(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _tune(content: dict[str, Any]) -> Tune:
    try:
        lists = {name: tuple(content[name]) for name in ("weeks", "held_out", "checkpoints")}
        return Tune(**content | lists)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"the state of a fine-tuning job cannot be read: {error}", remedy="delete it; the server still knows the job"
        ) from None


def _write(settings: Settings, tune: Tune) -> Tune:
    write_json(_folder(settings) / f"{tune.key}.json", asdict(tune))
    return tune


def _ended(settings: Settings, key: str) -> set[str]:
    """Jobs of this key that failed or were cancelled before: a new try is a new job."""
    path = _folder(settings) / "ended" / f"{key}.json"
    return set(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else set()


def _remember_ended(settings: Settings, tune: Tune) -> None:
    write_json(_folder(settings) / "ended" / f"{tune.key}.json", sorted(_ended(settings, tune.key) | {tune.job}))


@contextlib.contextmanager
def _alone(settings: Settings, key: str) -> Iterator[None]:
    """Two commands at once submit one job; the kernel's lock ends with its process."""
    folder = _folder(settings) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / key).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Errors of the official client in the desk's words; only `llm.client` may import them."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("openai"):
            raise
        status = getattr(error, "status_code", None)
        said = f"HTTP {status}: {str(getattr(error, 'message', error))[:300]}" if status else type(error).__name__
        kind = RefusedError if status in REFUSED else ServiceError
        raise kind(
            f"the server would not {what}: {said}", remedy="run it again: it goes on where it stopped, or look at LANGUAGE_MODEL__BASE_URL"
        ) from None
