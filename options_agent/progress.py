"""Progress of long work, told to whoever watches: a JSON line per report, nothing where nobody does.

The watcher names a file in `OPTIONS_AGENT_PROGRESS`; every process of the desk that works for it appends there.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Final

PROGRESS_VARIABLE: Final = "OPTIONS_AGENT_PROGRESS"


def report_progress(stage: str, part: str, done: int, total: int, rows: int = 0, note: str = "") -> None:
    """Append one report.

    Args:
        stage: harvest, quality, archive, regimes, backtests, training, ...
        part: what is worked on within the stage, for instance an underlying.
        done: units finished so far (days, strategies), of `total`.
        rows: rows handled so far by this stage and part.
        note: a few words for the person watching.
    """
    path = os.environ.get(PROGRESS_VARIABLE)
    if not path:
        return
    line = json.dumps({"at": time.time(), "stage": stage, "part": part, "done": done, "total": total, "rows": rows, "note": note})
    with Path(path).open("a", encoding="utf-8") as stream:  # one short write of an appended line is whole on POSIX
        stream.write(line + "\n")
