"""The model behind studies on this machine: it reads past trials in the prompt, fits trees to them, and proposes where they expect most.

Not a language model, and it does not pretend to be one: its hypotheses are sentences about what the trees found.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BLOCK: Final = re.compile(r"```json\s*(?P<json>.*?)```", re.DOTALL)
#: Trials before the trees are asked, candidates they judge, and the share that is drawn at random all the same.
LEAST_TRIALS, CANDIDATES, RANDOM_SHARE = 8, 400, 0.2
LONGEST: Final = 600


def propose(messages: Sequence[Mapping[str, Any]], seed: int | None) -> str:
    """The answer to a study's prompt: JSON with `proposals`; none where the prompt holds no study."""
    text = next((str(m["content"]) for m in reversed(messages) if m["role"] == "user"), "")
    found = _BLOCK.search(text)
    try:
        study = json.loads(found["json"]) if found else {}
        properties = study["space"]["properties"]
    except (ValueError, KeyError, TypeError):
        return json.dumps({"proposals": []})
    random = np.random.default_rng(int(hashlib.sha256(f"{seed}{text}".encode()).hexdigest()[:12], 16))
    goal = _goal(study.get("objectives"))
    trials = [t | {"worth": worth} for t in study.get("trials", []) if (worth := _worth(t, goal)) is not None]
    taken = {_key(t["values"]) for t in study.get("trials", [])} | {_key(r["values"]) for r in study.get("refused", [])}
    trees, why = _fit(properties, trials, goal)
    proposals = []
    for _ in range(int(study.get("ask", 1))):
        drawn = [_draw(properties, random) for _ in range(CANDIDATES if trees is not None else 20)]
        fresh = [values for values in drawn if _key(values) not in taken]
        if not fresh:
            break  # a small space, tried through: fewer proposals, never a repeated one
        if trees is None or random.random() < RANDOM_SHARE:
            values, hypothesis = (
                fresh[0],
                "Too little is known yet: a point drawn at random." if trees is None else "A point at random, lest a corner stay unseen.",
            )
        else:
            values = fresh[int(np.argmax(_expected_improvement(trees, properties, fresh, trials)))]
            hypothesis = f"{why} This point is expected to do best of {len(fresh)} drawn."
        taken.add(_key(values))
        proposals.append({"hypothesis": hypothesis[:LONGEST], "values": values})
    return json.dumps({"proposals": proposals})


def _goal(objectives: Any) -> tuple[str, float]:
    """Name of the first objective, and 1 where more of it is better, -1 where less is."""
    first = objectives[0] if isinstance(objectives, list) and objectives else None
    if isinstance(first, dict):
        first = [first.get("name"), first.get("direction")]
    name, direction = first if isinstance(first, list) and len(first) == 2 else (first, "max")
    return str(name), -1.0 if direction in {"min", "minimize"} else 1.0


def _worth(trial: Mapping[str, Any], goal: tuple[str, float]) -> float | None:
    """What a trial came to, more is better: the mean of the objective in training and validation."""
    name, sign = goal
    parts = [trial.get(part) or {} for part in ("train", "validation")]
    known = [float(p[name]) for p in parts if isinstance(p.get(name), (int, float)) and np.isfinite(p[name])]
    return sign * float(np.mean(known)) if known else None


def _fit(properties: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], goal: tuple[str, float]) -> tuple[Any, str]:
    if len(trials) < LEAST_TRIALS:
        return None, ""
    from sklearn.ensemble import ExtraTreesRegressor

    trees = ExtraTreesRegressor(n_estimators=60, min_samples_leaf=2, random_state=0)
    trees.fit(_rows(properties, [t["values"] for t in trials]), [t["worth"] for t in trials])
    order = np.argsort(-trees.feature_importances_, kind="stable")
    best = max(trials, key=lambda t: float(t["worth"]))
    names = list(properties)
    told = ", ".join(f"{names[n]} ({trees.feature_importances_[n]:.0%})" for n in order[:2])
    at = ", ".join(f"{names[n]} = {best['values'].get(names[n])}" for n in order[:2])
    return trees, f"What mattered in {len(trials)} trials: {told}; {goal[0]} was best, {goal[1] * best['worth']:.3g}, at {at}."


def _expected_improvement(trees: Any, properties: Mapping[str, Any], points: Sequence[Mapping[str, Any]], trials: Sequence[Any]) -> Any:
    """Mean excess of the single trees over the best trial."""
    rows = _rows(properties, points)
    each = np.array([tree.predict(rows) for tree in trees.estimators_])
    best = max(float(t["worth"]) for t in trials)
    return np.maximum(each - best, 0.0).mean(axis=0) + 1e-3 * each.mean(axis=0)


def _rows(properties: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> Any:
    """Points as numbers: a choice is its place in the list."""
    return np.array([[_as_number(rule, point.get(name)) for name, rule in properties.items()] for point in points])


def _as_number(rule: Mapping[str, Any], value: Any) -> float:
    if "enum" in rule:
        return float(rule["enum"].index(value)) if value in rule["enum"] else -1.0
    return float(value) if isinstance(value, (int, float)) else -1.0


def _draw(properties: Mapping[str, Any], random: np.random.Generator) -> dict[str, Any]:
    return {name: _draw_one(rule, random) for name, rule in properties.items()}


def _draw_one(rule: Mapping[str, Any], random: np.random.Generator) -> Any:
    if "enum" in rule:
        return rule["enum"][int(random.integers(len(rule["enum"])))]
    low, high = float(rule["minimum"]), float(rule["maximum"])
    step = rule.get("multipleOf")
    if rule.get("type") == "integer":
        return int(random.integers(int(low), int(high) + 1))
    value = float(np.exp(random.uniform(np.log(low), np.log(high)))) if rule.get("log") and low > 0 else float(random.uniform(low, high))
    if step:
        value = low + round((value - low) / step) * step
    return round(min(max(value, low), high), 10)


def _key(values: Any) -> str:
    return json.dumps(values, sort_keys=True)
