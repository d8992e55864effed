"""Training sets: weeks of examples put one after the other, deduplicated, the latest held out, balanced by regime."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import DataError, SettingsError
from options_agent.lake.receipts import receipts
from options_agent.lake.store import open_lake
from options_agent.llm.datasheet import LEAST_EXAMPLES
from options_agent.llm.training import LABELS, MOST_BYTES, STAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from options_agent.settings import Settings

HELD_OUT_SHARE: Final = 0.2
#: A regime keeps at most this many times the median regime's examples, and never fewer than `LEAST_A_REGIME`.
MOST_OF_MEDIAN: Final = 2.0
LEAST_A_REGIME: Final = 50


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Bytes as they are uploaded. `sha256` is of both; `dropped` counts by rule: duplicate, purged, balance."""

    train: bytes
    validation: bytes
    sha256: str
    weeks: tuple[str, ...]
    held_out: tuple[str, ...]
    examples: int
    dropped: dict[str, int]
    datasheet: str


def training_set(settings: Settings, weeks: Sequence[str] | None, label: str) -> TrainingSet:
    """Concatenate weeks by time: the last fifth of them (at least one) is held out; a single week keeps its own split.

    A line that stood in an earlier one is dropped. Of hindsight labels, those known only after the held-out time began are dropped too.

    Raises:
        SettingsError: unknown label.
        DataError: a week is not written, or too little is left to learn from.
    """
    if label not in LABELS:
        raise SettingsError(f"no label policy {label!r}", remedy=f"one of {', '.join(LABELS)}")
    lake = open_lake(settings)
    written = sorted(r.partition for r in receipts(lake, STAGE) if "labels" in r.details)  # not of a version without values
    chosen = sorted(set(weeks)) if weeks else written
    if missing := [w for w in chosen if w not in written]:
        raise DataError(f"no training examples of {', '.join(missing)}", remedy="materialise them: `options-agent run`")
    if not chosen:
        raise DataError("no training examples are written", remedy="materialise `training_examples`: `options-agent run`")
    late = max(1, round(HELD_OUT_SHARE * len(chosen))) if len(chosen) > 1 else 0
    rows = [row for week in chosen for row in _rows(lake, week, label)]
    early_weeks, late_weeks = chosen[: len(chosen) - late], chosen[len(chosen) - late :] if late else []
    train = [r for r in rows if (r["week"] in early_weeks if late else r["split"] == "train")]
    held = [r for r in rows if (r["week"] in late_weeks if late else r["split"] == "validation")]
    dropped: Counter[str] = Counter()
    began = min((r["at"] for r in held), default=None)
    if label == "hindsight" and began is not None:
        kept = [r for r in train if r["known_at"] <= began]
        dropped["purged"] = len(train) - len(kept)
        train = kept
    seen: set[str] = set()
    train, held = _unseen(train, seen, dropped), _unseen(held, seen, dropped)
    balanced = _balanced(train)
    dropped["balance"] = len(train) - len(balanced)
    if len(balanced) < LEAST_EXAMPLES:
        raise DataError(
            f"{len(balanced)} training examples labelled {label} in {len(early_weeks)} weeks, at least {LEAST_EXAMPLES} are needed",
            remedy="take more weeks, or run more backtests",
        )
    contents = [_bytes(balanced), _bytes(held) if len(held) >= LEAST_EXAMPLES else b""]
    if too_long := [len(c) for c in contents if len(c) > MOST_BYTES]:
        raise DataError(f"a file of {too_long[0]} bytes, providers take {MOST_BYTES}", remedy="take fewer weeks")
    digest = hashlib.sha256(b"\0".join(contents)).hexdigest()
    sheet = f"training/week={chosen[-1]}/datasheet.json"
    return TrainingSet(contents[0], contents[1], digest, tuple(early_weeks), tuple(late_weeks), len(balanced), dict(dropped), sheet)


def _rows(lake: Any, week: str, label: str) -> list[dict[str, Any]]:
    folder = f"training/week={week}"
    prefix = "" if label == "expert" else f"{label}_"
    about = [json.loads(line) for line in lake.files.read(f"{folder}/values.jsonl").decode().splitlines()]
    place = "hindsight_line" if label == "hindsight" else "line"
    about = [row for row in about if row[place] is not None and (label == "hindsight" or row.get("label", "expert") == label)]
    names = {row["split"] for row in about}
    lines = {split: lake.files.read(f"{folder}/{prefix}{split}.jsonl").decode().splitlines() for split in names}
    return [
        {
            "week": week,
            "split": row["split"],
            "at": row["decided_at"],
            "known_at": row["known_at"],
            "regime": row["regime"],
            "id": row["id"],
            "key": row["near_key"],
            "line": lines[row["split"]][row[place]],
        }
        for row in about
    ]


def _unseen(rows: list[dict[str, Any]], seen: set[str], dropped: Counter[str]) -> list[dict[str, Any]]:
    kept = []
    for row in rows:
        if row["key"] in seen:
            dropped["duplicate"] += 1
            continue
        seen.add(row["key"])
        kept.append(row)
    return kept


def _balanced(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cap each regime; which of its examples stay is decided by their ids, so that it does not depend on time."""
    counts = Counter(r["regime"] for r in rows)
    most = max(LEAST_A_REGIME, int(MOST_OF_MEDIAN * median(counts.values()))) if counts else 0
    staying: set[str] = set()
    for regime in counts:
        staying |= set(sorted(r["id"] for r in rows if r["regime"] == regime)[:most])
    return [r for r in rows if r["id"] in staying]


def _bytes(rows: list[dict[str, Any]]) -> bytes:
    return "".join(r["line"] + "\n" for r in rows).encode()
