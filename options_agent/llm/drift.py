"""How far a week's features and actions moved from the week before: the population stability index."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The usual reading of the index: under `SOME` stable, from `MUCH` on another population.
SOME: Final = 0.1
MUCH: Final = 0.25
BINS: Final = 10
LEAST_VALUES: Final = 30
_FLOOR: Final = 0.5  # half a value in an empty bin


def drift(now: Mapping[str, Sequence[Any]], before: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """By feature: the index and what it means. Numbers are binned by deciles of the week before, words by themselves.

    sum over bins of (p - q) ln(p / q), p now and q before, empty bins counted as half a value.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, values in now.items():
        new, old = [v for v in values if v is not None], [v for v in before.get(name, ()) if v is not None]
        if min(len(new), len(old)) < LEAST_VALUES:
            found[name] = {"psi": None, "says": f"too few values: {len(new)} now, {len(old)} before"}
            continue
        index = _index(new, old)
        found[name] = {"psi": round(index, 4), "says": "stable" if index < SOME else "some" if index < MUCH else "much"}
    return found


def _index(new: Sequence[Any], old: Sequence[Any]) -> float:
    if isinstance(old[0], str):
        counts = [Counter(new), Counter(old)]
        names = sorted(counts[0].keys() | counts[1].keys())
        p, q = ([max(float(c[n]), _FLOOR) for n in names] for c in counts)
    else:
        edges = np.unique(np.quantile(np.asarray(old, dtype=np.float64), np.linspace(0, 1, BINS + 1)[1:-1]))
        p, q = (
            np.maximum(np.bincount(np.searchsorted(edges, np.asarray(v, dtype=np.float64)), minlength=edges.size + 1), _FLOOR).tolist()
            for v in (new, old)
        )
    total_p, total_q = sum(p), sum(q)
    return math.fsum((a / total_p - b / total_q) * math.log((a / total_p) / (b / total_q)) for a, b in zip(p, q, strict=True))
