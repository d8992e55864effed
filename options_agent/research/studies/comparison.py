"""Proposers compared at equal budget, over several seeds: what the point each would have chosen on training was worth on validation.

Validation is kept back from every racer, unlike in a study: who searches on what he is scored by wins by looking, not by choosing well.
These races are looks too: they are counted in what is written. They touch neither the study's ledger nor its holdout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.durable import plain_json, write_json
from options_agent.research.studies.declaration import folder_of, load
from options_agent.research.studies.proposals import Refusal
from options_agent.research.studies.proposers import proposer
from options_agent.research.studies.runner import State, sound_values, view_of
from options_agent.research.studies.trials import Ground, ground_of, play_trials

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from options_agent.settings import Settings

    Floats = NDArray[np.float64]

CONFIDENCE: Final = 0.95
#: Rounds without a new trial after which a racer stands still.
BARREN: Final = 3
#: Objectives that are 0 for who does nothing, exactly.
STILL: Final = ("return_coin", "sharpe_coin", "sortino_coin", "max_drawdown_coin")
NOTHING: Final = "nothing"
#: Whom a proposer is measured against.
OTHERS: Final = ("tpe", "random", "placebo", "best_fixed", NOTHING)
_NAMES: Final = {"best_fixed": "the catalogue's own point", NOTHING: "doing nothing"}
#: What the intervals are about.
OF_SEEDS: Final = (
    "Intervals are over the search's seeds on these days, all of a proposer at once; what other days would say is not in them."
)


@dataclass(frozen=True, slots=True)
class Race:
    """Comparison of proposers.

    Attributes:
        objective, trials, seeds: what was compared, of how many trials each, how often.
        curves: by proposer (trials,) mean over seeds of the validation objective of the trial best on training so far.
        final: by proposer (seeds,) that value at the end; `nothing` is doing nothing, where the objective knows it.
        differences: by `a less b`: mean, low, high over seeds; the intervals of one `a` hold at once.
        played: by proposer (seeds,) trials it made of its budget; fewer where it ran out of ideas.
        looks: trials played in all.
        words: whether the model beats TPE, random, its placebo, the catalogue's own point and doing nothing.
    """

    objective: str
    trials: int
    seeds: int
    curves: dict[str, list[float]]
    final: dict[str, list[float]]
    differences: dict[str, tuple[float, float, float]]
    played: dict[str, list[int]]
    looks: int
    words: str


def compare_proposers(
    name: str, settings: Settings, *, trials: int = 50, seeds: int = 10, progress: Callable[[str, int], None] | None = None
) -> Race:
    """Race a study's proposers and write `comparison.json` beside its ledger.

    Raises:
        SettingsError, DataError, ServiceError: as `run_study`.
    """
    study = load(name, settings)
    ground = ground_of(study, settings)
    objective, way = study.objectives[0]
    sign = 1.0 if way == "max" else -1.0
    finals: dict[str, list[float]] = {}
    played: dict[str, list[int]] = {}
    paths: dict[str, list[Floats]] = {}
    for who in study.proposers:
        for seed in range(seeds):
            curve, made = _race(replace(ground, study=replace(study, seed=10_000 + seed, trials=trials)), who, settings, objective, sign)
            played.setdefault(who, []).append(made)
            paths.setdefault(who, []).append(curve)
            finals.setdefault(who, []).append(float(curve[-1]))
            if progress is not None:
                progress(who, seed + 1)
    if objective in STILL:
        finals[NOTHING] = [0.0] * seeds
    pairs = [(a, b) for a in study.proposers for b in OTHERS if a != b and b in finals]
    together = {a: sum(one == a for one, _ in pairs) for a, _ in pairs}
    apart = {f"{a} less {b}": difference(np.array(finals[a]) - np.array(finals[b]), together[a]) for a, b in pairs}
    race = Race(
        objective,
        trials,
        seeds,
        {who: _mean(np.array(rows)) for who, rows in paths.items()},
        finals,
        apart,
        played,
        sum(map(sum, played.values())),
        words(apart),
    )
    content: dict[str, Any] = {slot: getattr(race, slot) for slot in Race.__dataclass_fields__}
    write_json(folder_of(name, settings) / "comparison.json", plain_json(content))
    return race


def _race(ground: Ground, who: str, settings: Settings, objective: str, sign: float) -> tuple[Floats, int]:
    """(trials,) the validation objective of the trial best on training so far, times its sign; and trials played.

    The racer sees training only; a trial that cannot be judged on either part is made of the budget all the same.
    """
    study, racer, state, barren = ground.study, proposer(who, ground.strategy, settings), State({who: []}, {who: []}, {who: 0}), 0
    taken: set[str] = set()
    while len(state.trials[who]) < study.trials and barren < BARREN:
        view = view_of(ground, state, who, blind=True)
        accepted: list[dict[str, Any]] = []
        for proposal in racer.propose(view, min(study.batch, view.remaining)):
            values, reason = sound_values(ground, proposal, taken)
            if values is None:
                state.refusals[who].append(Refusal(who, proposal.values, reason))
                continue
            taken.add(study.space.key(values))
            accepted.append({"number": state.count + len(accepted), "values": values, "hypothesis": proposal.hypothesis})
        state.rounds[who] += 1
        barren = 0 if accepted else barren + 1
        state.count += len(accepted)
        outcomes = play_trials(ground, [t["values"] for t in accepted]) if accepted else []
        state.trials[who] += [
            t | {"status": o.status, "train": o.train, "validation": o.validation} for t, o in zip(accepted, outcomes, strict=True)
        ]
    curve, best, value = np.full(study.trials, np.nan), -np.inf, np.nan
    for n in range(study.trials):
        if n < len(state.trials[who]):
            trial = state.trials[who][n]
            if trial["status"] == "ok" and sign * trial["train"][objective] > best:
                best, value = sign * trial["train"][objective], sign * trial["validation"][objective]
        curve[n] = value
    return curve, state.count


def _mean(rows: Floats) -> list[float]:
    """(trials,) mean over the seeds that had a conclusive trial by then; NaN where none had."""
    known = np.isfinite(rows)
    found: list[float] = np.where(
        known.any(axis=0), np.where(known, rows, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.nan
    ).tolist()
    return found


def difference(apart: Floats, together: int = 1) -> tuple[float, float, float]:
    """Mean over seeds and its interval by Student's t, so wide that `together` of them hold at once (Bonferroni).

    NaN where under three seeds had a conclusive trial of both. A bootstrap of a dozen seeds would be too narrow.
    """
    from scipy.stats import t

    known = apart[np.isfinite(apart)]
    if known.size < 3:
        return float("nan"), float("nan"), float("nan")
    mean, error = float(known.mean()), float(known.std(ddof=1)) / math.sqrt(known.size)
    half = float(t.ppf(1 - (1 - CONFIDENCE) / (2 * together), known.size - 1)) * error
    return mean, mean - half, mean + half


def words(apart: dict[str, tuple[float, float, float]]) -> str:
    """Whether the model beats the others, said plainly."""
    told = []
    for other in OTHERS:
        found = apart.get(f"model less {other}")
        if found is None or not np.isfinite(found[0]):
            continue
        verdict = "beats" if found[1] > 0 else "is beaten by" if found[2] < 0 else "is not told apart from"
        told.append(f"the model {verdict} {_NAMES.get(other, other)} ({found[0]:+.2f}, {found[1]:+.2f} to {found[2]:+.2f})")
    return "; ".join(told)[:1].upper() + "; ".join(told)[1:] + "." if told else "No model was among the proposers."
