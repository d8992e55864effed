"""Text as tokens: a number is one token that carries its value, a word one piece, anything else its characters.

A number of the prompt that an answer names is not spelt: the answer points at it, so that what it repeats it repeats rightly.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: What is no text. NUMBER and SPACED carry a value; after ACT comes the action, after WHY the reason, until END.
BEGIN, ACT, WHY, END, NUMBER, SPACED, UNKNOWN = range(7)
SPECIAL: Final = 7
#: Words kept, the commonest first, and how often a word has to be seen to be one.
MOST_WORDS, LEAST_SEEN = 2000, 2
#: A longer prompt loses its beginning, a longer reason its end.
MOST_PROMPT, MOST_REASON = 400, 96
NOTHING: Final = -1

_PIECE: Final = re.compile(
    r"(?P<space> ?)(?P<number>(?<![\w.])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w]))| ?[A-Za-z_]+| ?[^\sA-Za-z_\d]|.", re.DOTALL
)
_CHARACTERS: Final = tuple(c for c in string.printable if c.isprintable() or c == "\n")

Ids = NDArray[np.int64]
Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Line:
    """Tokens in order: `ids` (n,), `values` (n,), 0 where a token is no number."""

    ids: Ids
    values: Values

    def __add__(self, other: Line) -> Line:
        return Line(np.concatenate([self.ids, other.ids]), np.concatenate([self.values, other.values]))

    @property
    def numbers(self) -> Ids:
        """Where its numbers stand."""
        return np.flatnonzero((self.ids == NUMBER) | (self.ids == SPACED))


def as_line(ids: Iterable[int], values: Iterable[float] | None = None) -> Line:
    """Tokens without values, or with them."""
    found = np.array(list(ids), dtype=np.int64)
    return Line(found, np.zeros(len(found), dtype=np.float32) if values is None else np.array(list(values), dtype=np.float32))


@dataclass(frozen=True)
class Vocabulary:
    """The pieces that have a token; token SPECIAL + n is piece n."""

    pieces: tuple[str, ...]

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Token by piece."""
        return {piece: SPECIAL + n for n, piece in enumerate(self.pieces)}

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return SPECIAL + len(self.pieces)

    def spell(self, text: str) -> list[int]:
        """Tokens of a text that carry no value: words where known, else characters."""
        found: list[int] = []
        for match in _PIECE.finditer(text):
            token = None if match["number"] else self.tokens.get(match[0])
            found += [token] if token is not None else [self.tokens.get(c, UNKNOWN) for c in match[0]]
        return found

    def prompt(self, text: str) -> Line:
        """A prompt, from BEGIN; its end where it is too long."""
        ids, values = [], []
        for match in _PIECE.finditer(text):
            mine = [SPACED if match["space"] else NUMBER] if match["number"] else self.spell(match[0])
            ids += mine
            values += [_number(match["number"])] if match["number"] else [0.0] * len(mine)
        return as_line([BEGIN, *ids[-MOST_PROMPT:]], [0.0, *values[-MOST_PROMPT:]])

    def reason(self, text: str, prompt: Line) -> tuple[Line, Ids]:
        """A reason as it is learnt, and for each token the place in `prompt` it points at, NOTHING where it is spelt."""
        ids, values, points = [], [], []
        for match in _PIECE.finditer(text):
            place = _place(match["number"], prompt) if match["number"] else NOTHING
            mine = self.spell(match["space"] if place != NOTHING else match[0])
            ids += mine
            values += [0.0] * len(mine)
            points += [NOTHING] * len(mine)
            if place != NOTHING:
                ids.append(NUMBER)
                values.append(float(prompt.values[place]))
                points.append(place)
        return as_line(ids[:MOST_REASON], values[:MOST_REASON]), np.array(points[:MOST_REASON], dtype=np.int64)

    def text(self, token: int, value: float = 0.0) -> str:
        """What a written token says; a number with four significant digits."""
        if token in {NUMBER, SPACED}:
            return f"{value:.4g}"
        return self.pieces[token - SPECIAL] if token >= SPECIAL else ""


def vocabulary_of(texts: Sequence[str]) -> Vocabulary:
    """Every printable ASCII character, and the words of the texts."""
    seen = Counter(match[0] for text in texts for match in _PIECE.finditer(text) if not match["number"] and len(match[0]) > 1)
    order = sorted((piece for piece, count in seen.items() if count >= LEAST_SEEN), key=lambda piece: (-seen[piece], piece))
    return Vocabulary((*_CHARACTERS, *order[:MOST_WORDS]))


def _number(text: str) -> float:
    found = float(text)
    return found if abs(found) < 1e30 else np.copysign(1e30, found)


def _place(text: str, prompt: Line) -> int:
    """The last number of the prompt that is `text` at the digits `text` has."""
    digits = max(len(re.sub(r"[eE].*|[-+.]", "", text).lstrip("0")), 1)
    told = _number(text)
    for place in prompt.numbers[::-1].tolist():
        shown = float(prompt.values[place])
        if abs(shown - told) <= 1e-6 * abs(told) or float(f"{shown:.{digits}g}") == told:
            return int(place)
    return NOTHING
