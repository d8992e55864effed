"""The model that is trained: gradient-boosted trees on what a decision prompt says, answering with one of the actions it allows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.durable import write_bytes, write_json
from options_agent.errors import DataError
from options_agent.llm.server.examples import something_to_learn
from options_agent.llm.server.forest import Forest, Numbers, forest_of, from_bytes, gains_of, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from options_agent.llm.server.examples import Example
    from options_agent.llm.server.reading import Situation

PARTS: Final = 4
#: A word seen in training is a column; the commonest of each name are kept.
MOST_WORDS: Final = 40
_SHOWN: Final = 4


@dataclass(frozen=True, slots=True)
class Columns:
    """What the trees see: numbers by label (NaN where absent), then 0 or 1 for each word, then for each action that may be answered."""

    labels: tuple[str, ...]
    words: tuple[tuple[str, str], ...]
    actions: tuple[str, ...]

    def table(self, situations: Sequence[Situation]) -> Numbers:
        """(situations, columns)."""
        return np.array(
            [
                [
                    *(s.numbers.get(label, np.nan) for label in self.labels),
                    *(float(s.words.get(name) == word) for name, word in self.words),
                    *(float(action in s.actions) for action in self.actions),
                ]
                for s in situations
            ],
            dtype=np.float64,
        )


@dataclass(frozen=True, slots=True)
class Student:
    """A trained model. `gains`: of each label, how much its splits gained in training."""

    forest: Forest
    columns: Columns
    classes: tuple[str, ...]
    gains: tuple[float, ...]

    def decide(self, situation: Situation) -> tuple[str, str]:
        """The allowed action the trees think most of; its odds among those, and the numbers that mattered most in training."""
        odds = dict(zip(self.classes, self.forest.odds(self.columns.table([situation]))[0], strict=True))
        allowed = situation.actions or self.classes
        action = max(allowed, key=lambda a: odds.get(a, 0.0))
        share = odds.get(action, 0.0) / (sum(odds.get(a, 0.0) for a in allowed) or 1.0)
        order = sorted(zip(self.gains, self.columns.labels, strict=True), key=lambda pair: -pair[0])
        told = [f"{label.split(',')[0]} {situation.numbers[label]:g}" for _, label in order if label in situation.numbers][:_SHOWN]
        return action, f"Odds of {share:.2f} by {', '.join(told) or 'the words, for there is no number'}."


def train(
    examples: Sequence[Example],
    held_out: Sequence[Example],
    *,
    rounds: int,
    seed: int,
    rate: float = 0.08,
    progress: Callable[[int, Mapping[str, float], Student], None],
) -> Student:
    """Grow trees, a quarter of the rounds at a time, telling loss and accuracy after each; the same seed gives the same trees.

    Args:
        held_out: told about only; may be empty.
        rounds: boosting rounds.
        rate: learning rate.
        progress: called with rounds done, metrics, and the model so far.

    Raises:
        DataError: every example that counts has the same action.
    """
    something_to_learn(list(examples))
    target, weights = [e.action for e in examples], np.array([e.weight for e in examples])
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    columns = _columns(examples)
    table = columns.table([e.situation for e in examples])
    trees = HistGradientBoostingClassifier(
        warm_start=True,
        random_state=seed,
        early_stopping=False,
        learning_rate=rate,
        categorical_features=None,
        min_samples_leaf=max(2, min(20, len(examples) // 40)),
    )
    student = None
    for done in sorted({max(1, rounds * part // PARTS) for part in range(1, PARTS + 1)}):
        trees.set_params(max_iter=done)
        with threadpool_limits(1, user_api="openmp"):  # on tables this small threads wait for each other most of the time
            trees.fit(table, target, sample_weight=weights)
        gains = tuple(float(g) for g in gains_of(trees, table.shape[1])[: len(columns.labels)])
        student = Student(forest_of(trees), columns, tuple(str(c) for c in trees.classes_), gains)
        progress(done, measures(student, examples, "train") | (measures(student, held_out, "valid") if held_out else {}), student)
    assert student is not None  # noqa: S101 there is one round at least
    return student


def _columns(examples: Sequence[Example]) -> Columns:
    labels = tuple(sorted({label for e in examples for label in e.situation.numbers}))
    words: list[tuple[str, str]] = []
    for name in sorted({name for e in examples for name in e.situation.words}):
        seen = [e.situation.words[name] for e in examples if name in e.situation.words]
        words += [(name, word) for word in sorted(set(seen), key=lambda w: (-seen.count(w), w))[:MOST_WORDS]]
    return Columns(labels, tuple(words), tuple(sorted({a for e in examples for a in e.situation.actions})))


def measures(student: Student, examples: Sequence[Example], name: str) -> dict[str, float]:
    """Log loss and accuracy among the allowed actions, each example by its weight."""
    odds = student.forest.odds(student.columns.table([e.situation for e in examples]))
    place = {c: n for n, c in enumerate(student.classes)}
    right, loss = [], []
    for example, row in zip(examples, odds, strict=True):
        allowed = [a for a in (example.situation.actions or student.classes) if a in place]
        total = sum(row[place[a]] for a in allowed) or 1.0
        mine = row[place[example.action]] / total if example.action in allowed else 0.0
        right.append(max(allowed, key=lambda a: row[place[a]], default="") == example.action)
        loss.append(-np.log(max(mine, 1e-12)))
    weights = np.array([e.weight for e in examples])
    weights = weights if weights.sum() > 0 else np.ones_like(weights)
    return {f"{name}_loss": float(np.average(loss, weights=weights)), f"{name}_accuracy": float(np.average(right, weights=weights))}


def save(student: Student, folder: Path) -> str:
    """Write a model and what its file's hash is; returns the hash."""
    data = to_bytes(student.forest)
    digest = hashlib.sha256(data).hexdigest()
    write_bytes(folder / "trees.npy", data)
    meaning = {
        "labels": student.columns.labels,
        "words": student.columns.words,
        "actions": student.columns.actions,
        "classes": student.classes,
        "gains": student.gains,
        "baseline": [float(b) for b in student.forest.baseline],
        "sha256": digest,
    }
    write_json(folder / "student.json", meaning)
    return digest


def load(folder: Path) -> Student:
    """Read a model that `save` wrote.

    Raises:
        DataError: it is missing, or its file is not the one that was written.
    """
    try:
        meaning = json.loads((folder / "student.json").read_text(encoding="utf-8"))
        data = (folder / "trees.npy").read_bytes()
        if hashlib.sha256(data).hexdigest() != meaning["sha256"]:
            raise ValueError("its file is not the one that training wrote")
        forest = from_bytes(data, meaning["baseline"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"the model cannot be read: {error}", place=str(folder), remedy="train it again") from None
    columns = Columns(tuple(meaning["labels"]), tuple((n, w) for n, w in meaning["words"]), tuple(meaning["actions"]))
    return Student(forest, columns, tuple(meaning["classes"]), tuple(meaning["gains"]))
