"""Where the steps of a run are executed: in the run's own process, or on a Dask cluster."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import dagster as dg

from options_agent.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from options_agent.settings import Settings


def executor_of(settings: Settings) -> dg.ExecutorDefinition:
    """In process by default: a step costs 0.1 s there and five CPU-seconds in a process of its own. With `dask_scheduler`: that cluster.

    Raises:
        SettingsError: a scheduler is named and the extra `cluster` is not installed.
    """
    address = settings.dask_scheduler
    if address is None:
        return dg.in_process_executor
    try:
        from dagster_dask.executor import DaskExecutor
    except ImportError:
        raise SettingsError(
            "a Dask scheduler is named, but dagster-dask is not installed",
            place="OPTIONS_AGENT_DASK_SCHEDULER",
            remedy='install the extra: pip install ".[cluster]"',
        ) from None

    class Steps(DaskExecutor):
        """dagster-dask's executor, with what it sends packed: Dask looks into tuples it is given, and Dagster's code pointers forbid it."""

        def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
            from distributed import Client, as_completed

            futures: dict[str, Any] = {}
            sent = (plan_context.reconstructable_job, plan_context.dagster_run, plan_context.run_config)
            reference, known = plan_context.instance.get_ref(), execution_plan.known_state
            with Client(address, set_as_default=False) as client:  # type: ignore[no-untyped-call]
                for level in execution_plan.get_steps_to_execute_by_level():
                    for step in level:
                        before = [futures[key] for given in step.step_inputs for key in given.dependency_keys if key in futures]
                        packed = pickle.dumps((*sent, [step.key], reference, known))
                        name = f"{plan_context.dagster_run.run_id}.{step.key}"
                        futures[step.key] = client.submit(step_on_worker, before, packed, key=name, pure=False)
                for _, packed_events in as_completed(futures.values(), loop=client.loop, with_results=True):  # type: ignore[no-untyped-call]
                    yield from pickle.loads(packed_events)  # noqa: S301 from a worker of one's own, as every result of Dask is

    @dg.executor(name="dask", requirements=dg.multiple_process_executor_requirements())
    def on_dask(_: dg.InitExecutorContext) -> Steps:
        """Steps on the workers of `OPTIONS_AGENT_DASK_SCHEDULER`."""
        return Steps("existing", {"address": address})  # type: ignore[no-untyped-call]

    return on_dask


def step_on_worker(before: Sequence[Any], packed: bytes) -> bytes:
    """Run one step on a worker; returns its events. `before`: what it waits for."""
    from dagster_dask.executor import query_on_dask_worker

    job, run, config, keys, reference, known = pickle.loads(packed)  # noqa: S301 packed by the run's own process
    return pickle.dumps(list(query_on_dask_worker(before, job, run, config, keys, reference, known)))
