"""What went wrong in a run, in the words of whoever noticed: used for alerts and for the pipeline's last line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import dagster as dg


def failed_steps(events: Iterable[dg.DagsterEvent]) -> list[str]:
    """A line per failed step: its name and its cause; a step stopped by a blocking check names the check and its numbers."""
    checks: dict[str, list[str]] = {}
    lines = []
    for event in events:
        if event.event_type_value == "ASSET_CHECK_EVALUATION" and not event.asset_check_evaluation_data.passed:
            checks.setdefault(str(event.step_key), []).append(_check(event))
        elif event.is_step_failure:
            lines.append(f"{event.step_key}: {'; '.join(checks.get(str(event.step_key), [])) or _cause(event)}")
    return lines


def _check(event: dg.DagsterEvent) -> str:
    found = event.asset_check_evaluation_data
    numbers = ", ".join(f"{name} {value.value}" for name, value in found.metadata.items())
    return f"check {found.check_name} failed ({numbers})"


def _cause(event: dg.DagsterEvent) -> str:
    """The asset's own words where it gave up by itself, else the innermost exception."""
    failure = event.step_failure_data
    if failure.user_failure_data is not None and failure.user_failure_data.description:
        return failure.user_failure_data.description
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "failed"
