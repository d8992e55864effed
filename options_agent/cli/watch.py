"""The pipeline's progress on the terminal: a line per stage with rows and time left; plain lines where it is piped."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.progress import TaskID

STAGES: Final = ("harvest", "quality", "archive", "gaps", "regimes", "backtests", "training")


@dataclass(slots=True)
class _Stage:
    """Reports of one stage, by part (underlying)."""

    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    first_at: float | None = None
    first_done: int = 0

    def take(self, report: dict[str, Any]) -> None:
        self.parts[report["part"]] = report
        if self.first_at is None:
            self.first_at, self.first_done = report["at"], self.done

    @property
    def done(self) -> int:
        return sum(r["done"] for r in self.parts.values())

    @property
    def total(self) -> int:
        return sum(r["total"] for r in self.parts.values())

    @property
    def rows(self) -> int:
        return sum(r["rows"] for r in self.parts.values())

    @property
    def note(self) -> str:
        return next((r["note"] for r in self.parts.values() if r["note"]), "")

    def left(self, now: float) -> float | None:
        """Seconds to go at the pace so far."""
        moved = self.done - self.first_done
        if self.first_at is None or moved <= 0 or self.done >= self.total:
            return None
        return (now - self.first_at) / moved * (self.total - self.done)


class Watch:
    """Follows a progress file; use as a context."""

    def __init__(self, path: Path, console: Console) -> None:
        self._path, self._console = path, console
        self._read = 0
        self._stages: dict[str, _Stage] = {}
        self._tasks: dict[str, TaskID] = {}
        self._said: set[str] = set()
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:>5.0f}/{task.total:<5.0f}"),
            TextColumn("{task.fields[rows]:>22}"),
            TextColumn("{task.fields[left]:>12}"),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self) -> None:
        """Take in what was reported since the last call."""
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8") as stream:
            stream.seek(self._read)
            text = stream.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole.encode())
        for line in whole.splitlines():
            report = json.loads(line)
            self._stages.setdefault(report["stage"], _Stage()).take(report)
        for name, stage in self._stages.items():
            self._show(name, stage)

    def _show(self, name: str, stage: _Stage) -> None:
        finished = stage.done >= stage.total
        rows = stage.note or (f"{stage.rows:,} rows" if stage.rows else "")
        left = stage.left(time.time())
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=stage.total, rows="", left="")
        text = "" if left is None else f"{left:.0f} s left"
        self._progress.update(self._tasks[name], completed=stage.done, total=stage.total, rows=rows, left=text)
        if finished:
            self._progress.stop_task(self._tasks[name])
            if not self._console.is_terminal and name not in self._said:
                self._said.add(name)
                self._console.print(f"{name:<10} {stage.done}/{stage.total}  {rows}")
