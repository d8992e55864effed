"""A decoder's answer: the allowed action it thinks likeliest, then its reason token by token; and the decoder on disk."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.durable import write_bytes, write_json
from options_agent.errors import DataError
from options_agent.llm.server.decoder.network import Shape, start_reading
from options_agent.llm.server.decoder.tokens import (
    ACT,
    END,
    MOST_REASON,
    NUMBER,
    SPECIAL,
    WHY,
    Vocabulary,
    as_line,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from threadpoolctl import ThreadpoolController

    from options_agent.llm.server.decoder.network import Floats, Reader
    from options_agent.llm.server.examples import Example

MEANING, ARRAYS = "decoder.json", "weights.npy"
_NEVER: Final = -np.inf


@dataclass(frozen=True, slots=True)
class Decoder:
    """A trained model: its arrays by name, its tokens, the actions it was taught, and what the odds of each lack (`learning.leanings`)."""

    shape: Shape
    arrays: Mapping[str, Floats]
    vocabulary: Vocabulary
    actions: tuple[str, ...]
    leaning: Mapping[str, float]

    def decide(self, prompt: str, actions: Sequence[str] = ()) -> tuple[str, str]:
        """One of the actions (those it was taught, where none is named) and the reason; the same each time."""
        with _one_thread():
            reader = start_reading(self.shape, self.arrays, self.vocabulary.prompt(prompt))
            odds = self._odds(reader, actions)
            action = max(odds, key=lambda a: odds[a])
            reader.read(as_line([ACT, *self.vocabulary.spell(action), WHY]))
            return action, self._reason(reader)

    def odds(self, prompt: str, actions: Sequence[str] = ()) -> dict[str, float]:
        """Probability of each allowed action, among those."""
        with _one_thread():
            return self._odds(start_reading(self.shape, self.arrays, self.vocabulary.prompt(prompt)), actions)

    def _odds(self, reader: Reader, actions: Sequence[str]) -> dict[str, float]:
        asked = reader.fork()
        asked.read(as_line([ACT]))
        logs = np.array([self._log_odds_of(asked.fork(), action) + self.leaning.get(action, 0.0) for action in actions or self.actions])
        shares = np.exp(logs - logs.max())
        return dict(zip(actions or self.actions, (shares / shares.sum()).tolist(), strict=True))

    def _log_odds_of(self, reader: Reader, action: str) -> float:
        total = 0.0
        for token in [*self.vocabulary.spell(action), WHY]:
            total += float(reader.log_odds()[token])
            reader.read(as_line([token]))
        return total

    def _reason(self, reader: Reader) -> str:
        text = ""
        for _ in range(MOST_REASON):
            odds = reader.log_odds()
            odds[:SPECIAL] = np.where(np.arange(SPECIAL) == END, odds[:SPECIAL], _NEVER)
            token, value = int(np.argmax(odds)), 0.0
            if token == END:
                break
            if token >= self.shape.tokens:
                place = reader.prompt.numbers[token - self.shape.tokens]
                token, value = NUMBER, float(reader.prompt.values[place])
            text += self.vocabulary.text(token, value)
            reader.read(as_line([token], [value]))
        return text.strip()


@lru_cache
def _libraries() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _one_thread() -> AbstractContextManager[object]:
    """On matrices this small the threads of a linear algebra library wait for each other: 100 ms of CPU for an answer instead of 14."""
    return _libraries().limit(limits=1, user_api="blas")  # type: ignore[no-any-return]


def measures(decoder: Decoder, examples: Sequence[Example], name: str) -> dict[str, float]:
    """Log loss and accuracy among the allowed actions, each example by its weight."""
    odds = [decoder.odds(e.prompt, e.situation.actions) for e in examples]
    weights = np.array([e.weight for e in examples])
    weights = weights if weights.sum() > 0 else np.ones_like(weights)
    right = [max(o, key=lambda a: o[a]) == e.action for o, e in zip(odds, examples, strict=True)]
    loss = [-np.log(max(o.get(e.action, 0.0), 1e-12)) for o, e in zip(odds, examples, strict=True)]
    return {f"{name}_loss": float(np.average(loss, weights=weights)), f"{name}_accuracy": float(np.average(right, weights=weights))}


def save(decoder: Decoder, folder: Path) -> str:
    """Write a model and what its file's hash is; returns the hash."""
    stream = io.BytesIO()
    np.save(stream, np.concatenate([decoder.arrays[name].ravel() for name in decoder.shape.arrays()]), allow_pickle=False)
    digest = hashlib.sha256(stream.getvalue()).hexdigest()
    write_bytes(folder / ARRAYS, stream.getvalue())
    meaning = {
        "shape": asdict(decoder.shape),
        "pieces": decoder.vocabulary.pieces,
        "actions": decoder.actions,
        "leaning": dict(decoder.leaning),
        "sha256": digest,
    }
    write_json(folder / MEANING, meaning)
    return digest


def load(folder: Path) -> Decoder:
    """Read a model that `save` wrote.

    Raises:
        DataError: it is missing, or its file is not the one that was written.
    """
    try:
        meaning = json.loads((folder / MEANING).read_text(encoding="utf-8"))
        data = (folder / ARRAYS).read_bytes()
        if hashlib.sha256(data).hexdigest() != meaning["sha256"]:
            raise ValueError("its file is not the one that training wrote")
        shape = Shape(**meaning["shape"])
        flat = np.load(io.BytesIO(data), allow_pickle=False)
        leaning = {str(action): float(value) for action, value in meaning["leaning"].items()}
        if flat.shape != (shape.parameters,) or flat.dtype != np.float32 or shape.tokens != SPECIAL + len(meaning["pieces"]):
            raise ValueError("its arrays have another shape than it says")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"the model cannot be read: {error}", place=str(folder), remedy="train it again") from None
    return Decoder(shape, arrays_of(flat, shape), Vocabulary(tuple(meaning["pieces"])), tuple(meaning["actions"]), leaning)


def arrays_of(flat: Floats, shape: Shape) -> dict[str, Floats]:
    """The arrays by name that lie one after the other in `flat`."""
    found, start = {}, 0
    for name, size in shape.arrays().items():
        end = start + int(np.prod(size))
        found[name] = flat[start:end].reshape(size)
        start = end
    return found
