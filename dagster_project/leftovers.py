"""Runs whose process was killed: closed as canceled, and what they held is given back, so that the next start is not blocked."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

import dagster as dg

if TYPE_CHECKING:
    from options_agent.settings import Settings

#: Host, process and its start: of whom a run of the pipeline is. The prefix hides it in the pages.
OWNER_TAG: Final = ".dagster/options_agent_process"
_UNFINISHED: Final = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING]


def owner() -> str:
    """This process, as `OWNER_TAG` names it."""
    import psutil

    return f"{socket.gethostname()}/{os.getpid()}/{psutil.Process().create_time():.0f}"


def close_leftovers(instance: dg.DagsterInstance, settings: Settings) -> list[str]:
    """Cancel unfinished runs that nobody works on any more and free their pool slots; returns their ids.

    A run of the pipeline is left over when its process is gone. With the local profile, whose storage belongs to one desk at
    a time, so is every run that is older than the desk this process was started by.
    """
    records = instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED))
    desk_began = _desk_began() if settings.profile == "local" else None
    closed = []
    for record in records:
        run = record.dagster_run
        named = run.tags.get(OWNER_TAG)
        older = desk_began is not None and record.create_timestamp.timestamp() < desk_began
        if _gone(named) if named else older:
            instance.report_run_canceled(run, "The process of this run was ended from outside; what it finished is kept.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            closed.append(run.run_id)
    return closed


def _gone(named: str) -> bool:
    import psutil

    host, process, began = named.rsplit("/", 2)
    if host != socket.gethostname():
        return False
    try:
        found = psutil.Process(int(process))
        # dead, and not reaped yet: in a container whose first process reaps none it stays so
        return f"{found.create_time():.0f}" != began or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _desk_began() -> float | None:
    """When the guard that started this process began; None where no desk did."""
    import psutil

    from options_agent.local.guard import MARK_VARIABLE

    return psutil.Process(os.getppid()).create_time() if MARK_VARIABLE in os.environ else None
