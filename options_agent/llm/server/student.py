"""The model that is trained: gradient-boosted trees on what a decision prompt says, answering with one of the actions it allows.

Training reads chat JSONL as every provider takes it; nothing but the messages is known to it.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.durable import write_bytes, write_json
from options_agent.errors import DataError
from options_agent.llm.server.reading import Situation, read_situation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LEAST_EXAMPLES: Final = 10
_UNKNOWN: Final = -1.0


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt as read, the action of the assistant's last message, and its weight."""

    situation: Situation
    action: str
    weight: float


@dataclass(frozen=True, slots=True)
class Student:
    """A trained model: the trees, and what its columns mean."""

    trees: Any
    labels: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...]

    def decide(self, situation: Situation) -> tuple[str, str]:
        """The allowed action the trees think most of, and the odds with the numbers that stand in the prompt."""
        odds = self.trees.predict_proba(_table([situation], self.labels, self.words))[0]
        by_action = dict(zip(self.classes, odds, strict=True))
        action = max(situation.actions or self.classes, key=lambda a: by_action.get(a, 0.0))
        shown = ", ".join(f"{label.split(',')[0]} {value:g}" for label, value in list(situation.numbers.items())[:4])
        return action, f"Odds {by_action.get(action, 0.0):.2f} from training on {shown or 'no numbers'}."


def read_examples(data: bytes) -> list[Example]:
    """Read chat JSONL.

    Raises:
        DataError: under ten lines, a line that is not chat JSON, or whose last message is not the assistant's JSON with an action.
    """
    lines = [line for line in data.decode("utf-8", errors="replace").splitlines() if line.strip()]
    if len(lines) < LEAST_EXAMPLES:
        raise DataError(f"{len(lines)} examples, at least {LEAST_EXAMPLES} are needed", place="training file")
    found = []
    for number, line in enumerate(lines, 1):
        try:
            messages = json.loads(line)["messages"]
            last = messages[-1]
            if last["role"] != "assistant":
                raise ValueError("the last message is not the assistant's")
            action = json.loads(last["content"])["action"]
            found.append(Example(read_situation(messages[:-1]), str(action), float(last.get("weight", 1.0))))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(
                f"line {number} is no example: {error}", place="training file", remedy="messages that end with JSON that has an action"
            ) from None
    return found


def train(
    examples: Sequence[Example],
    held_out: Sequence[Example],
    *,
    rounds: int,
    seed: int,
    progress: Callable[[int, Mapping[str, float]], None],
) -> Student:
    """Grow trees, a quarter of the rounds at a time, telling loss and accuracy after each; the same seed gives the same trees.

    Args:
        held_out: told about only; may be empty.
        rounds: boosting rounds.
        progress: called with rounds done and metrics.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    labels = tuple(sorted({label for e in examples for label in e.situation.numbers}))
    names = sorted({name for e in examples for name in e.situation.words})
    words = {name: tuple(sorted({e.situation.words[name] for e in examples if name in e.situation.words}))[:250] for name in names}
    table = _table([e.situation for e in examples], labels, words)
    target, weights = [e.action for e in examples], np.array([e.weight for e in examples])
    if len(set(target)) < 2:
        raise DataError(f"every example answers {target[0]!r}: there is nothing to learn", place="training file")
    categorical = [False] * len(labels) + [True] * (len(words) + 1)
    trees = HistGradientBoostingClassifier(
        max_iter=rounds,
        warm_start=True,
        random_state=seed,
        early_stopping=False,
        learning_rate=0.08,
        min_samples_leaf=max(2, min(20, len(examples) // 40)),
        categorical_features=categorical,
    )
    student = None
    for done in sorted({max(1, rounds * part // 4) for part in (1, 2, 3, 4)}):
        trees.set_params(max_iter=done)
        trees.fit(table, target, sample_weight=weights)
        student = Student(trees, labels, words, tuple(str(c) for c in trees.classes_))
        progress(done, measures(student, examples, "train") | (measures(student, held_out, "valid") if held_out else {}))
    assert student is not None  # noqa: S101 there is one round at least
    return student


def measures(student: Student, examples: Sequence[Example], name: str) -> dict[str, float]:
    """Log loss and accuracy among the allowed actions."""
    odds = student.trees.predict_proba(_table([e.situation for e in examples], student.labels, student.words))
    place = {c: n for n, c in enumerate(student.classes)}
    right, loss = [], []
    for example, row in zip(examples, odds, strict=True):
        allowed = [a for a in (example.situation.actions or student.classes) if a in place]
        total = sum(row[place[a]] for a in allowed) or 1.0
        mine = row[place[example.action]] / total if example.action in place else 0.0
        right.append(max(allowed, key=lambda a: row[place[a]], default="") == example.action)
        loss.append(-np.log(max(mine, 1e-12)))
    return {f"{name}_loss": float(np.mean(loss)), f"{name}_accuracy": float(np.mean(right))}


def save(student: Student, folder: Path) -> str:
    """Write a model and what its file's hash is; returns the hash."""
    import joblib

    stream = io.BytesIO()
    joblib.dump(student.trees, stream)
    digest = hashlib.sha256(stream.getvalue()).hexdigest()
    write_bytes(folder / "trees.joblib", stream.getvalue())
    meaning = {
        "labels": student.labels,
        "words": {k: list(v) for k, v in student.words.items()},
        "classes": student.classes,
        "sha256": digest,
    }
    write_json(folder / "student.json", meaning)
    return digest


def load(folder: Path) -> Student:
    """Read a model that this server wrote.

    Raises:
        DataError: it is missing, or its file is not the one that was written: such a file could run any code.
    """
    import joblib

    try:
        meaning = json.loads((folder / "student.json").read_text(encoding="utf-8"))
        data = (folder / "trees.joblib").read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"the model cannot be read: {error}", place=str(folder), remedy="train it again") from None
    if hashlib.sha256(data).hexdigest() != meaning["sha256"]:
        raise DataError("the model's file is not the one that training wrote", place=str(folder), remedy="train it again")
    words = {name: tuple(values) for name, values in meaning["words"].items()}
    return Student(joblib.load(io.BytesIO(data)), tuple(meaning["labels"]), words, tuple(meaning["classes"]))


def _table(situations: Sequence[Situation], labels: Sequence[str], words: Mapping[str, tuple[str, ...]]) -> NDArray[np.float64]:
    """(situations, numbers, then words as codes, then whether an entry is asked): what the trees see; absent numbers are NaN."""
    codes = {name: {word: float(n) for n, word in enumerate(known)} for name, known in words.items()}
    return np.array(
        [
            [
                *(s.numbers.get(label, np.nan) for label in labels),
                *(codes[name].get(s.words.get(name, ""), _UNKNOWN) for name in words),
                float("open" in s.actions),
            ]
            for s in situations
        ]
    )
