"""The decoder's arithmetic in NumPy: a pre-norm transformer with ALiBi attention, tied output and a pointer at the prompt's numbers.

Attention with linear biases: Press, Smith, Lewis (2022), arXiv 2108.12409; root-mean-square norm: Zhang, Sennrich (2019), arXiv 1910.07467;
pointing beside spelling: See, Liu, Manning (2017), arXiv 1704.04368. `learning` has the same in torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from options_agent.llm.server.decoder.tokens import NUMBER, SPACED, Line

if TYPE_CHECKING:
    from collections.abc import Mapping

Floats = NDArray[np.float32]
#: A number is shown by how far along each of these scales it is: tanh(value / scale).
SCALES: Final = np.logspace(-4, 6, 21).astype(np.float32)
EPSILON: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a network: residual width, layers, heads, tokens."""

    width: int
    layers: int
    heads: int
    tokens: int

    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Shape of every array by name, in the order they are saved."""
        w = self.width
        found: dict[str, tuple[int, ...]] = {"tokens": (self.tokens, w), "number": (len(SCALES), w)}
        for n in range(self.layers):
            found |= {f"{n}.before": (w,), f"{n}.qkv": (w, 3 * w), f"{n}.out": (w, w)}
            found |= {f"{n}.between": (w,), f"{n}.up": (w, 4 * w), f"{n}.down": (4 * w, w)}
        return found | {"after": (w,), "point_from": (w, w), "point_at": (w, w)}

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(int(np.prod(shape)) for shape in self.arrays().values())

    @property
    def slopes(self) -> Floats:
        """(heads,) how fast each head forgets what is far."""
        return np.asarray(2.0 ** -(8.0 * np.arange(1, self.heads + 1) / self.heads), dtype=np.float32)


def features(line: Line) -> Floats:
    """(n, scales): the numbers along the scales, 0 for other tokens."""
    is_number = (line.ids == NUMBER) | (line.ids == SPACED)
    return np.asarray(np.tanh(line.values[:, None] / SCALES) * is_number[:, None], dtype=np.float32)


@dataclass(slots=True)
class Reader:
    """A line being read: what each layer keeps of the tokens so far, and the state at each; `prompt` is what may be pointed at."""

    shape: Shape
    arrays: Mapping[str, Floats]
    prompt: Line
    keys: list[Floats] = field(default_factory=list)
    values: list[Floats] = field(default_factory=list)
    states: Floats | None = None

    def fork(self) -> Reader:
        """The same so far, to be read on in another way."""
        return Reader(self.shape, self.arrays, self.prompt, list(self.keys), list(self.values), self.states)

    def read(self, line: Line) -> Floats:
        """Read on; the state (width,) after the last token."""
        shape, a = self.shape, self.arrays
        start, count = (0 if self.states is None else len(self.states)), len(line.ids)
        x = a["tokens"][line.ids] + features(line) @ a["number"]
        back = np.arange(start + count)[None, :] - np.arange(start, start + count)[:, None]  # 0 is oneself, above 0 is the future
        bias = np.where(back > 0, -np.inf, shape.slopes[:, None, None] * back).astype(np.float32)
        size = shape.width // shape.heads
        for n in range(shape.layers):
            q, k, v = np.split(_normed(x, a[f"{n}.before"]) @ a[f"{n}.qkv"], 3, axis=1)
            q, k, v = (part.reshape(count, shape.heads, size).transpose(1, 0, 2) for part in (q, k, v))
            if start:
                k, v = np.concatenate([self.keys[n], k], axis=1), np.concatenate([self.values[n], v], axis=1)
                self.keys[n], self.values[n] = k, v
            else:
                self.keys.append(k)
                self.values.append(v)
            seen = _softmax(q @ k.transpose(0, 2, 1) / np.float32(np.sqrt(size)) + bias) @ v
            x = x + seen.transpose(1, 0, 2).reshape(count, shape.width) @ a[f"{n}.out"]
            x = x + np.maximum(_normed(x, a[f"{n}.between"]) @ a[f"{n}.up"], 0) @ a[f"{n}.down"]
        x = _normed(x, a["after"])
        self.states = x if self.states is None else np.concatenate([self.states, x])
        return np.asarray(x[-1])

    def log_odds(self) -> Floats:
        """(tokens + numbers,) log probability of each next token, then of pointing at each number of the prompt."""
        assert self.states is not None  # noqa: S101 something was read
        a, last = self.arrays, self.states[-1]
        aimed = (self.states[self.prompt.numbers] @ a["point_at"]) @ (last @ a["point_from"]) / np.float32(np.sqrt(self.shape.width))
        raw = np.concatenate([a["tokens"] @ last, aimed])
        raw = raw - raw.max()
        return np.asarray(raw - np.log(np.exp(raw).sum()))


def start_reading(shape: Shape, arrays: Mapping[str, Floats], prompt: Line) -> Reader:
    """A reader that has read the prompt and may point at its numbers."""
    reader = Reader(shape, arrays, prompt)
    reader.read(prompt)
    return reader


def _normed(x: Floats, gain: Floats) -> Floats:
    return np.asarray(x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(EPSILON)) * gain)


def _softmax(x: Floats) -> Floats:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))
