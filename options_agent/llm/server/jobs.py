"""Fine-tuning jobs: one trains at a time, each in a process of its own; what was interrupted by the server's end starts again.

Of several servers over one folder one trains, the holder of a lock; all take, show and change jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from options_agent.llm.server.decoder.learning import NEEDED, available
from options_agent.llm.server.models import BUILT_IN, models_in
from options_agent.llm.server.policies import DECODER, RULES
from options_agent.llm.server.training_job import add_event, announce, outcome_path, read_outcome
from options_agent.llm.server.wire import WireError, new_id, now

if TYPE_CHECKING:
    from options_agent.llm.server.store import Store

OVER: Final = ("succeeded", "failed", "cancelled")
MOST_EPOCHS: Final = 50
MOST_BATCH: Final = 256
TUNABLE: Final = (RULES, DECODER)
_LOOK_SECONDS, _QUEUE_SECONDS = 0.1, 1.0
_UNTRAINED: Final = {"error": None, "fine_tuned_model": None, "finished_at": None, "estimated_finish": None, "trained_tokens": None}
_PARAMETERS: Final = ("n_epochs", "batch_size", "learning_rate_multiplier")


class Jobs:
    """The queue of one server."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.wake = asyncio.Event()

    def create(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Take a job.

        Raises:
            WireError: the model cannot be tuned, a file is missing or of another purpose, or a parameter is out of bounds.
        """
        model, suffix, seed = asked.get("model"), asked.get("suffix"), asked.get("seed")
        if model not in {m["id"] for m in models_in(self.store.folder)}:
            raise WireError(404, f"The model {model!r} does not exist", param="model", code="model_not_found")
        if model not in TUNABLE:
            why = "" if model in BUILT_IN else f": every model is trained anew, from {' or '.join(TUNABLE)}"
            raise WireError(400, f"Model {model} is not available for fine-tuning{why}", param="model", code="model_not_available")
        if model == DECODER and not available():
            why = f"it is trained by torch, which this server does not have: {NEEDED}"
            raise WireError(400, f"Model {model} is not available for fine-tuning: {why}", param="model", code="model_not_available")
        if not asked.get("training_file"):
            raise WireError(400, "training_file is missing", param="training_file")
        for name in ("training_file", "validation_file"):
            if asked.get(name) and self.store.get("files", str(asked[name]))["purpose"] != "fine-tune":
                raise WireError(400, f"File {asked[name]} is not of purpose fine-tune", param=name)
        if suffix is not None and not (isinstance(suffix, str) and len(suffix) <= 64 and suffix.replace("-", "").isalnum()):
            raise WireError(400, "suffix is up to 64 letters, digits and hyphens", param="suffix")
        if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2**32):
            raise WireError(400, "seed is an integer from 0 to 4294967295", param="seed")
        method = asked.get("method") or {"type": "supervised", "supervised": {"hyperparameters": asked.get("hyperparameters") or {}}}
        if method.get("type") != "supervised":
            raise WireError(400, f"Method {method.get('type')!r} is not available, supervised is", param="method")
        parameters = _parameters((method.get("supervised") or {}).get("hyperparameters") or {})
        job = {
            "id": new_id("ftjob"),
            "object": "fine_tuning.job",
            "created_at": now(),
            "model": model,
            "training_file": asked["training_file"],
            "validation_file": asked.get("validation_file"),
            "user_provided_suffix": suffix,
            "seed": seed or 0,
            "metadata": asked.get("metadata"),
            "method": {"type": "supervised", "supervised": {"hyperparameters": parameters}},
            "hyperparameters": parameters,
            "organization_id": "org-desk",
            "result_files": [],
            "status": "queued",
            **_UNTRAINED,
        }
        self.store.put("jobs", job)
        add_event(self.store, job["id"], "The job is queued")
        self.wake.set()
        return job

    def change(self, key: str, what: str) -> dict[str, Any]:
        """Cancel, pause or resume; who trains sees it and ends the process.

        Raises:
            WireError: there is no such job, or it is over.
        """

        def by(job: dict[str, Any]) -> dict[str, Any]:
            if job["status"] in OVER:
                raise WireError(400, f"Job {key} has already {job['status']}", code="invalid_job_state")
            if what == "cancel":
                return job | {"status": "cancelled", "finished_at": now()}
            if what == "pause":
                return job | {"status": "paused"}
            return job | {"status": "queued"} if job["status"] == "paused" else job

        job = self.store.change("jobs", key, by)
        told = {"cancel": "The job is cancelled", "pause": "The job is paused; it starts anew when resumed", "resume": "The job is resumed"}
        add_event(self.store, key, told[what])
        self.wake.set()
        return job

    def events(self, key: str) -> list[dict[str, Any]]:
        """Events of a job."""
        self.store.get("jobs", key)
        return [json.loads(p.read_text(encoding="utf-8")) for p in sorted((self.store.folder / "events" / key).glob("*.json"))]

    def checkpoints(self, key: str) -> list[dict[str, Any]]:
        """Checkpoints of a job."""
        self.store.get("jobs", key)
        return [c | {"order": c["step_number"]} for c in self.store.all("checkpoints") if c["fine_tuning_job_id"] == key]

    async def run(self) -> None:
        """Train what is queued, for ever. A job that ran when its server died is queued again: the same seed gives the same model."""
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(self.store.locked("trainer", wait=False))
                    break
                except BlockingIOError:
                    await asyncio.sleep(_QUEUE_SECONDS)
            for job in self.store.all("jobs"):
                if job["status"] == "running":
                    self.store.change("jobs", job["id"], lambda j: j | {"status": "queued"} if j["status"] == "running" else j)
                    add_event(self.store, job["id"], "The server was started anew; so is the job")
            while True:
                self.wake.clear()
                queued = sorted((j for j in self.store.all("jobs") if j["status"] == "queued"), key=lambda j: (j["created_at"], j["id"]))
                if queued:
                    await self._train(queued[0]["id"])
                else:
                    await self._wait_for_more()

    async def _wait_for_more(self) -> None:
        """Until a job is created or changed, here or by another server."""
        folder = self.store.folder / "jobs"
        folder.mkdir(parents=True, exist_ok=True)
        seen = folder.stat().st_mtime_ns
        while not self.wake.is_set() and folder.stat().st_mtime_ns == seen:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.wake.wait(), _QUEUE_SECONDS)

    async def _train(self, key: str) -> None:
        if self.store.change("jobs", key, _started)["status"] != "running":
            return
        outcome_path(self.store, key).unlink(missing_ok=True)
        add_event(self.store, key, "The job has started")
        command = (sys.executable, "-m", "options_agent.llm.server.training_job", str(self.store.folder), key)
        pipe = asyncio.subprocess.PIPE  # standard input stays open as long as this server lives; the process ends with it
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stderr=pipe)
        assert process.stderr is not None  # noqa: S101 asked for
        saying = asyncio.ensure_future(process.stderr.read())
        try:
            while not saying.done():
                await asyncio.wait([saying], timeout=_LOOK_SECONDS)
                if self.store.get("jobs", key)["status"] != "running" and process.returncode is None:
                    process.kill()
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
        last = saying.result().decode(errors="replace").strip().splitlines()[-1:] or [f"its process ended with code {process.returncode}"]
        self._finish(key, read_outcome(self.store, key) or {"status": "failed", "error": {"code": "server_error", "message": last[0]}})

    def _finish(self, key: str, outcome: dict[str, Any]) -> None:
        """Write how a job ended, unless it was cancelled or paused meanwhile."""
        if self.store.get("jobs", key)["status"] != "running":
            return
        changes: dict[str, Any] = {"status": outcome["status"], "finished_at": now()}
        if outcome["status"] == "succeeded":
            results = self.store.add_file(f"{key}_metrics.csv", "fine-tune-results", outcome["results"].encode())
            changes |= {"result_files": [results["id"]], "trained_tokens": outcome["trained_tokens"]}
            changes["fine_tuned_model"] = outcome["fine_tuned_model"]
            announce(self.store, outcome["fine_tuned_model"], key, outcome["sha256"])
        else:
            changes["error"] = {"param": None} | outcome["error"]
        done = self.store.change("jobs", key, lambda job: job | changes if job["status"] == "running" else job)
        if done["status"] != outcome["status"]:
            return
        if done["status"] == "succeeded":
            add_event(self.store, key, f"The job has succeeded: {outcome['fine_tuned_model']}")
        else:
            add_event(self.store, key, f"The job has failed: {outcome['error']['message']}", level="error")


def _started(job: dict[str, Any]) -> dict[str, Any]:
    return job | {"status": "running"} if job["status"] == "queued" else job


def _parameters(asked: dict[str, Any]) -> dict[str, Any]:
    """Hyperparameters, `auto` where nothing is asked for.

    Raises:
        WireError: unknown, or out of bounds.
    """
    found: dict[str, Any] = dict.fromkeys(_PARAMETERS, "auto") | asked
    if unknown := sorted(found.keys() - set(_PARAMETERS)):
        raise WireError(400, f"there is no hyperparameter {', '.join(unknown)}", param="hyperparameters")
    epochs, rate, batch = found["n_epochs"], found["learning_rate_multiplier"], found["batch_size"]
    if batch != "auto" and not (isinstance(batch, int) and 1 <= batch <= MOST_BATCH):
        raise WireError(400, f"batch_size is auto or 1 to {MOST_BATCH}", param="batch_size")
    if epochs != "auto" and not (isinstance(epochs, int) and 1 <= epochs <= MOST_EPOCHS):
        raise WireError(400, f"n_epochs is auto or 1 to {MOST_EPOCHS}", param="n_epochs")
    if rate != "auto" and not (isinstance(rate, (int, float)) and 0 < rate <= 10):
        raise WireError(400, "learning_rate_multiplier is auto or above 0, at most 10", param="learning_rate_multiplier")
    return found
