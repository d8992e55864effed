"""`python -m options_agent.llm.server.training_job FOLDER JOB`: one fine-tuning job, in a process that can be ended at any time.

It writes events, checkpoints, the model's arrays and last its outcome; the job itself is the server's to write.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from options_agent.durable import write_json
from options_agent.errors import DataError
from options_agent.llm.server.decoder import learning as decoder
from options_agent.llm.server.decoder import writing
from options_agent.llm.server.examples import read_examples
from options_agent.llm.server.models import trained_folder
from options_agent.llm.server.policies import DECODER, RULES
from options_agent.llm.server.store import Store
from options_agent.llm.server.student import save, train
from options_agent.llm.server.wire import WireError, new_id, now, tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Trainer:
    """How a base model is trained.

    Attributes:
        rounds_an_epoch: what the training counts in, for each epoch asked for.
        epochs: of `auto`, for so many examples; rate: of a multiplier of one.
        train, save: the training itself, and what writes its model and returns the hash.
    """

    rounds_an_epoch: int
    epochs: Callable[[int], int]
    rate: float
    train: Callable[..., Any]
    save: Callable[[Any, Path], str]


TRAINERS: Final = {
    RULES: Trainer(40, lambda _: 3, 0.08, train, save),
    DECODER: Trainer(1, decoder.epochs_of, 3e-3, decoder.train, writing.save),
}
_METRICS: Final = {
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_accuracy": "valid_mean_token_accuracy",
}


def main(folder: str, key: str) -> int:
    """Train, write the model, then the outcome; ends at once when standard input closes, for then the server is gone."""
    os.nice(10)
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    store = Store(Path(folder))
    try:
        outcome = _work(store, store.get("jobs", key))
    except (DataError, WireError) as error:
        outcome = {"status": "failed", "error": {"code": "invalid_training_file", "message": str(error), "param": "training_file"}}
    write_json(outcome_path(store, key), outcome)
    return 0


def _work(store: Store, job: dict[str, Any]) -> dict[str, Any]:
    key, model, trainer = job["id"], f"ft:{job['model']}:desk:{job['user_provided_suffix'] or ''}:{job['id'][6:14]}", TRAINERS[job["model"]]
    asked = job["method"]["supervised"]["hyperparameters"]
    rate = trainer.rate * (1.0 if asked["learning_rate_multiplier"] == "auto" else float(asked["learning_rate_multiplier"]))
    more = {} if job["model"] == RULES or asked["batch_size"] == "auto" else {"batch": int(asked["batch_size"])}
    data = store.data(job["training_file"])
    examples = read_examples(data)
    epochs = trainer.epochs(len(examples)) if asked["n_epochs"] == "auto" else int(asked["n_epochs"])
    rounds = trainer.rounds_an_epoch * epochs
    held_out = []
    if job["validation_file"]:
        other = store.data(job["validation_file"])
        held_out = read_examples(other, "validation file")
        if both := {*data.splitlines()} & {*other.splitlines()} - {b""}:
            raise DataError(f"{len(both)} examples stand in both files", place="validation file", remedy="deduplicate before the split")
    results = ["step," + ",".join(_METRICS.values())]

    def progress(done: int, metrics: Mapping[str, float], so_far: Any) -> None:
        told = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        results.append(f"{done}," + ",".join(f"{metrics[n]:.6f}" if n in metrics else "" for n in _METRICS))
        name = f"{model}:ckpt-step-{done}"
        digest = trainer.save(so_far, trained_folder(store.folder, name))
        announce(store, name, key, digest)
        checkpoint = {"id": f"ftckpt-{key[6:]}{done:05d}", "object": "fine_tuning.job.checkpoint", "created_at": now()}
        measured = {"step": float(done)} | {_METRICS[n]: v for n, v in metrics.items()}
        about = {"fine_tuning_job_id": key, "fine_tuned_model_checkpoint": name, "step_number": done, "metrics": measured}
        store.put("checkpoints", checkpoint | about)
        add_event(store, key, f"Step {done}/{rounds}: {told}", {"step": done, "total_steps": rounds, **metrics}, kind="metrics")

    trained = trainer.train(examples, held_out, rounds=rounds, seed=job["seed"], rate=rate, progress=progress, **more)
    digest = trainer.save(trained, trained_folder(store.folder, model))
    return {
        "status": "succeeded",
        "fine_tuned_model": model,
        "sha256": digest,
        "trained_tokens": tokens(data.decode("utf-8", errors="replace")) * epochs,
        "results": "\n".join(results) + "\n",
    }


def outcome_path(store: Store, key: str) -> Path:
    """Where a job's process says how it ended."""
    return store.folder / "outcomes" / f"{key}.json"


def announce(store: Store, model: str, key: str, digest: str) -> None:
    """Let a trained model be listed, which it is only once it is whole."""
    write_json(trained_folder(store.folder, model) / "model.json", {"id": model, "created": now(), "job": key, "sha256": digest})


def add_event(
    store: Store, key: str, message: str, data: Mapping[str, Any] | None = None, *, level: str = "info", kind: str = "message"
) -> None:
    """Write an event of a job; `order` keeps those of one second apart."""
    about = {"id": new_id("ftevent"), "object": "fine_tuning.job.event", "created_at": now(), "level": level, "message": message}
    with store.locked("events"):
        order = sum(1 for _ in (store.folder / "events" / key).glob("*.json"))
        write_json(store.folder / "events" / key / f"{order:06d}.json", about | {"data": dict(data or {}), "type": kind, "order": order})


def _end_with_the_server() -> None:
    sys.stdin.buffer.read()
    os._exit(3)


def read_outcome(store: Store, key: str) -> dict[str, Any] | None:
    """How a job's process ended, None where it did not say."""
    path = outcome_path(store, key)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
