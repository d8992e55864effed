"""Boosted trees as plain arrays: read off scikit-learn after training, saved without pickle, and played by NumPy alone.

Nothing of a model's file is ever executed, and a server that answers needs no scikit-learn in memory.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

#: Layers of `Forest.nodes`.
FEATURE, THRESHOLD, MISSING_LEFT, LEFT, RIGHT, VALUE = range(6)
_LAYERS: Final = 6
_ROWS: Final = 2048


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees of a gradient boosting classifier.

    Attributes:
        nodes: (6, trees, nodes): feature, threshold (left where at most), whether missing goes left, places of the
            children (a leaf's are its own), value. Tree n adds to output n % outputs.
        baseline: (outputs,), one for two classes, else one a class; log odds.
    """

    nodes: Numbers
    baseline: Numbers

    def odds(self, table: Numbers) -> Numbers:
        """Probabilities (rows, classes) of a table (rows, features), NaN where a number is missing."""
        raw = np.concatenate([self._raw(table[n : n + _ROWS]) for n in range(0, len(table), _ROWS)])
        if raw.shape[1] == 1:
            raw = np.hstack([np.zeros_like(raw), raw])
        raw = np.exp(raw - raw.max(axis=1, keepdims=True))
        return np.asarray(raw / raw.sum(axis=1, keepdims=True))

    def _raw(self, table: Numbers) -> Numbers:
        trees = np.arange(self.nodes.shape[1])
        feature, left, right = (self.nodes[layer].astype(np.int64) for layer in (FEATURE, LEFT, RIGHT))
        threshold, missing, value = self.nodes[THRESHOLD], self.nodes[MISSING_LEFT] > 0, self.nodes[VALUE]
        place = np.zeros((len(table), len(trees)), dtype=np.int64)
        rows = np.arange(len(table))[:, None]
        while True:
            seen = table[rows, feature[trees, place]]
            goes_left = np.where(np.isnan(seen), missing[trees, place], seen <= threshold[trees, place])
            following = np.where(goes_left, left[trees, place], right[trees, place])
            if np.array_equal(following, place):
                break
            place = following
        values = value[trees, place].reshape(len(table), -1, len(self.baseline))
        return np.asarray(values.sum(axis=1) + self.baseline)


def forest_of(classifier: Any) -> Forest:
    """The trees of a fitted `HistGradientBoostingClassifier` without categorical features."""
    trees = [tree.nodes for stage in classifier._predictors for tree in stage]
    nodes = np.zeros((_LAYERS, len(trees), max(map(len, trees))))
    for n, tree in enumerate(trees):
        leaf, own = tree["is_leaf"] > 0, np.arange(len(tree))
        layers = (
            np.where(leaf, 0, tree["feature_idx"]),
            np.where(leaf, 0.0, tree["num_threshold"]),
            tree["missing_go_to_left"],
            np.where(leaf, own, tree["left"]),
            np.where(leaf, own, tree["right"]),
            tree["value"],
        )
        nodes[:, n, : len(tree)] = np.array(layers, dtype=np.float64)
    return Forest(nodes, np.asarray(classifier._baseline_prediction, dtype=np.float64).reshape(-1))


def gains_of(classifier: Any, features: int) -> Numbers:
    """(features,) how much each feature's splits gained in training, in all."""
    total = np.zeros(features)
    for stage in classifier._predictors:
        for tree in stage:
            inner = tree.nodes[tree.nodes["is_leaf"] == 0]
            np.add.at(total, inner["feature_idx"], inner["gain"])
    return total


def to_bytes(forest: Forest) -> bytes:
    """As one NumPy array file: the same forest is the same bytes."""
    stream = io.BytesIO()
    np.save(stream, forest.nodes, allow_pickle=False)
    return stream.getvalue()


def from_bytes(data: bytes, baseline: list[float]) -> Forest:
    """What `to_bytes` wrote.

    Raises:
        ValueError: it is no such array.
    """
    nodes = np.load(io.BytesIO(data), allow_pickle=False)
    if nodes.ndim != 3 or nodes.shape[0] != _LAYERS or nodes.dtype != np.float64:
        raise ValueError("it holds no trees")
    return Forest(nodes, np.array(baseline, dtype=np.float64))
