"""Proposers compared at equal budget, over several seeds: what the point each would have chosen on training was worth on validation.

These races are looks too: they are counted in what is written. They touch neither the study's ledger nor its holdout.
"""

from __future__ import annotations

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
RESAMPLES: Final = 4_000
#: Rounds without a new trial after which a racer stands still.
BARREN: Final = 3


@dataclass(frozen=True, slots=True)
class Race:
    """Comparison of proposers.

    Attributes:
        objective, trials, seeds: what was compared, of how many trials each, how often.
        curves: by proposer (trials,) mean over seeds of the validation objective of the trial best on training so far.
        final: by proposer (seeds,) that value at the end.
        differences: by `a less b`: mean, low, high over seeds (bootstrap).
        looks: trials played in all.
        words: whether the model beats TPE, random and its placebo.
    """

    objective: str
    trials: int
    seeds: int
    curves: dict[str, list[float]]
    final: dict[str, list[float]]
    differences: dict[str, tuple[float, float, float]]
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
    sign, looks = 1.0 if way == "max" else -1.0, 0
    finals: dict[str, list[float]] = {}
    paths: dict[str, list[Floats]] = {}
    for who in study.proposers:
        for seed in range(seeds):
            curve, played = _race(replace(ground, study=replace(study, seed=10_000 + seed, trials=trials)), who, settings, objective, sign)
            looks += played
            paths.setdefault(who, []).append(curve)
            finals.setdefault(who, []).append(float(curve[-1]))
            if progress is not None:
                progress(who, seed + 1)
    pairs = [(a, b) for a in study.proposers for b in ("random", "tpe", "placebo", "best_fixed") if a != b and b in finals]
    apart = {f"{a} less {b}": difference(np.array(finals[a]) - np.array(finals[b])) for a, b in pairs}
    race = Race(
        objective,
        trials,
        seeds,
        {who: np.nanmean(rows, axis=0).tolist() for who, rows in paths.items()},
        finals,
        apart,
        looks,
        words(apart),
    )
    content: dict[str, Any] = {slot: getattr(race, slot) for slot in Race.__dataclass_fields__}
    write_json(folder_of(name, settings) / "comparison.json", plain_json(content))
    return race


def _race(ground: Ground, who: str, settings: Settings, objective: str, sign: float) -> tuple[Floats, int]:
    """(trials,) the validation objective of the trial best on training so far, times its sign; and trials played."""
    study, racer, state, barren = ground.study, proposer(who, ground.strategy, settings), State({who: []}, {who: []}, {who: 0}), 0
    taken: set[str] = set()
    while len(state.trials[who]) < study.trials and barren < BARREN:
        view = view_of(ground, state, who)
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


def difference(apart: Floats, seed: int = 0) -> tuple[float, float, float]:
    """Mean over seeds and its bootstrap interval; NaN where a racer had no conclusive trial."""
    known = apart[np.isfinite(apart)]
    if known.size < 3:
        return float("nan"), float("nan"), float("nan")
    drawn = known[np.random.default_rng(seed).integers(0, known.size, (RESAMPLES, known.size))].mean(axis=1)
    low, high = np.quantile(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(known.mean()), float(low), float(high)


def words(apart: dict[str, tuple[float, float, float]]) -> str:
    """Whether the model beats the others, said plainly."""
    told = []
    for other in ("tpe", "random", "placebo"):
        found = apart.get(f"model less {other}")
        if found is None or not np.isfinite(found[0]):
            continue
        verdict = "beats" if found[1] > 0 else "is beaten by" if found[2] < 0 else "is not told apart from"
        told.append(f"the model {verdict} {other} ({found[0]:+.2f}, {found[1]:+.2f} to {found[2]:+.2f})")
    return "; ".join(told)[:1].upper() + "; ".join(told)[1:] + "." if told else "No model was among the proposers."
