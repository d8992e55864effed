"""Fine-tuning jobs: one trains at a time, each in a process of its own; what was interrupted by the server's end starts again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from options_agent.llm.server.models import BUILT_IN, models_in
from options_agent.llm.server.training_job import add_event, finish
from options_agent.llm.server.wire import WireError, new_id, now

if TYPE_CHECKING:
    from options_agent.llm.server.store import Store

OVER: Final = ("succeeded", "failed", "cancelled")
_UNTRAINED: Final = {"error": None, "fine_tuned_model": None, "finished_at": None, "estimated_finish": None, "trained_tokens": None}


class Jobs:
    """The queue of one server."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.wake = asyncio.Event()
        self.process: asyncio.subprocess.Process | None = None
        self.training = ""

    def create(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Take a job.

        Raises:
            WireError: the model cannot be tuned, or a file is missing or of another purpose.
        """
        model = asked.get("model")
        if model not in {m["id"] for m in models_in(self.store.folder)}:
            raise WireError(404, f"The model {model!r} does not exist", param="model", code="model_not_found")
        if model in BUILT_IN and model != "desk-rules":
            raise WireError(400, f"Model {model} is not available for fine-tuning", param="model", code="model_not_available")
        for name in ("training_file", "validation_file"):
            if asked.get(name) and self.store.get("files", asked[name])["purpose"] != "fine-tune":
                raise WireError(400, f"File {asked[name]} is not of purpose fine-tune", param=name)
        if not asked.get("training_file"):
            raise WireError(400, "training_file is missing", param="training_file")
        method = asked.get("method") or {"type": "supervised", "supervised": {"hyperparameters": asked.get("hyperparameters") or {}}}
        if method.get("type") != "supervised":
            raise WireError(400, f"Method {method.get('type')!r} is not available", param="method")
        supervised = {
            "hyperparameters": {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
            | (method.get("supervised") or {}).get("hyperparameters", {})
        }
        job = {
            "id": new_id("ftjob"),
            "object": "fine_tuning.job",
            "created_at": now(),
            "model": model,
            "training_file": asked["training_file"],
            "validation_file": asked.get("validation_file"),
            "user_provided_suffix": asked.get("suffix"),
            "seed": int(asked.get("seed") or 0),
            "metadata": asked.get("metadata"),
            "method": {"type": "supervised", "supervised": supervised},
            "hyperparameters": supervised["hyperparameters"],
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
        """Cancel, pause or resume.

        Raises:
            WireError: there is no such job, or it is over.
        """
        job = self.store.get("jobs", key)
        if job["status"] in OVER:
            raise WireError(400, f"Job {key} has already {job['status']}", code="invalid_job_state")
        if what == "cancel":
            finish(self.store, key, "cancelled")
        elif what == "pause":
            self.store.put("jobs", job | {"status": "paused"})
            add_event(self.store, key, "The job is paused; it starts anew when resumed")
        elif job["status"] == "paused":
            self.store.put("jobs", job | {"status": "queued"})
            add_event(self.store, key, "The job is resumed")
        if what != "resume" and self.training == key and self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        self.wake.set()
        return self.store.get("jobs", key)

    def events(self, key: str) -> list[dict[str, Any]]:
        """Events of a job."""
        self.store.get("jobs", key)
        return [json.loads(p.read_text(encoding="utf-8")) for p in sorted((self.store.folder / "events" / key).glob("*.json"))]

    def checkpoints(self, key: str) -> list[dict[str, Any]]:
        """Checkpoints of a job."""
        return [c | {"order": c["step_number"]} for c in self.store.all("checkpoints") if c["fine_tuning_job_id"] == key]

    async def run(self) -> None:
        """Train what is queued, for ever. A job that ran when the server died is queued again: the same seed gives the same model."""
        for job in self.store.all("jobs"):
            if job["status"] == "running":
                self.store.put("jobs", job | {"status": "queued"})
                add_event(self.store, job["id"], "The server was started anew; so is the job")
        while True:
            self.wake.clear()
            queued = sorted((j for j in self.store.all("jobs") if j["status"] == "queued"), key=lambda j: (j["created_at"], j["id"]))
            if not queued:
                await self.wake.wait()
                continue
            await self._train(queued[0])

    async def _train(self, job: dict[str, Any]) -> None:
        key = job["id"]
        self.store.put("jobs", job | {"status": "running"})
        add_event(self.store, key, "The job has started")
        command = (sys.executable, "-m", "options_agent.llm.server.training_job", str(self.store.folder), key)
        self.process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
        self.training = key
        try:
            _, said = await self.process.communicate()
        finally:
            if self.process.returncode is None:
                self.process.kill()
        self.training = ""
        if self.store.get("jobs", key)["status"] == "running":
            last = said.decode(errors="replace").strip().splitlines()[-1:] or [f"its process ended with code {self.process.returncode}"]
            finish(self.store, key, "failed", error={"code": "server_error", "message": last[0], "param": None})
