"""`python -m options_agent.llm.server.training_job FOLDER JOB`: one fine-tuning job, in a process that can be ended at any time."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from options_agent.durable import write_json
from options_agent.errors import DataError
from options_agent.llm.server.models import trained_folder
from options_agent.llm.server.store import Store
from options_agent.llm.server.student import read_examples, save, train
from options_agent.llm.server.wire import new_id, now

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_ROUNDS = 120


def main(folder: str, key: str) -> int:
    """Train, write the model, then say in the job that it is there: a model is listed only once it is whole."""
    os.nice(10)
    store = Store(Path(folder))
    job = store.get("jobs", key)

    def progress(done: int, metrics: Mapping[str, float]) -> None:
        told = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        add_event(store, key, f"Step {done}/{rounds}: {told}", {"step": done, **metrics}, kind="metrics")
        names = {
            "train_loss": "train_loss",
            "train_accuracy": "train_mean_token_accuracy",
            "valid_loss": "valid_loss",
            "valid_accuracy": "valid_mean_token_accuracy",
        }
        about = {
            "id": f"ftckpt-{key[6:]}{done:05d}",
            "object": "fine_tuning.job.checkpoint",
            "created_at": now(),
            "fine_tuning_job_id": key,
        }
        measured = {"step": float(done)} | {names[k]: v for k, v in metrics.items()}
        store.put(
            "checkpoints", about | {"fine_tuned_model_checkpoint": f"{model}:ckpt-step-{done}", "step_number": done, "metrics": measured}
        )

    supervised = job["method"]["supervised"]["hyperparameters"]
    epochs = supervised.get("n_epochs", "auto")
    rounds = DEFAULT_ROUNDS if epochs == "auto" else 40 * int(epochs)
    model = f"ft:desk-rules:desk:{job['user_provided_suffix'] or ''}:{key[6:14]}"
    try:
        examples = read_examples(store.data(job["training_file"]))
        held_out = read_examples(store.data(job["validation_file"])) if job["validation_file"] else []
        student = train(examples, held_out, rounds=rounds, seed=job["seed"], progress=progress)
    except DataError as error:
        finish(store, key, "failed", error={"code": "invalid_training_file", "message": str(error), "param": "training_file"})
        return 1
    digest = save(student, trained_folder(store.folder, model))
    write_json(trained_folder(store.folder, model) / "model.json", {"id": model, "created": now(), "job": key, "sha256": digest})
    words = sum(len(json.dumps(list(e.situation.numbers.items()))) for e in examples)
    finish(store, key, "succeeded", fine_tuned_model=model, trained_tokens=words // 4)
    return 0


def add_event(
    store: Store, key: str, message: str, data: Mapping[str, Any] | None = None, *, level: str = "info", kind: str = "message"
) -> None:
    """Write an event of a job; `order` keeps those of one second apart."""
    order = sum(1 for _ in (store.folder / "events" / key).glob("*.json"))
    about = {"id": new_id("ftevent"), "object": "fine_tuning.job.event", "created_at": now(), "level": level, "message": message}
    write_json(store.folder / "events" / key / f"{order:06d}.json", about | {"data": dict(data or {}), "type": kind, "order": order})


def finish(store: Store, key: str, status: str, **changes: Any) -> None:
    """End a job, if nobody ended it before."""
    job = store.get("jobs", key)
    if job["status"] in {"succeeded", "failed", "cancelled"}:
        return
    error = changes.get("error")
    store.put("jobs", job | {"status": status, "finished_at": now(), "estimated_finish": None} | changes)
    add_event(store, key, f"The job has {status}" + (f": {error['message']}" if error else ""), level="error" if error else "info")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
