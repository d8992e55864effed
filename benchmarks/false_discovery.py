"""How often a study finds what is not there, and how often what is. Run `python benchmarks/false_discovery.py`.

Some fifteen CPU minutes, nearly all of it for making the synthetic markets; their trials are kept in a folder, so that a statistic
that changed is measured again in one.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from options_agent.backtest.bootstrap import indices
from options_agent.durable import write_json
from options_agent.research.studies.null_studies import (
    DAYS,
    FREE,
    SEARCHED,
    TRIALS,
    Played,
    fair_market,
    flipped,
    interval,
    market,
    play,
    redrawn,
    search,
)
from options_agent.research.studies.verdict import ASKED, LEVEL, study_block

if TYPE_CHECKING:
    from collections.abc import Callable

STUDIES, POWER_STUDIES = 200, 25
#: The rule was settled on fair seeds below 200 and searches of strangles from 81,000 on; these it had not seen.
FAIR_FIRST, SEARCH_FIRST, NULL_FIRST, POWER_FIRST = 70_000, 90_000, 71_000, 5_000
PREMIUMS = (0.06, 0.12, 0.25)
#: Who searches, and about which strategy.
SEARCHES = (("random", "short_strangle"), ("tpe", "short_strangle"), ("tpe", "cash_secured_put"))


def trials(folder: Path, kind: str, seed: int, who: str = "", sold: str = "") -> dict[str, Played]:
    """Trials of one study, with costs and without, by name; read from the folder where they are there.

    Args:
        folder: where they are kept.
        kind: `fair`, or the synthetic market's premium as a number.
        seed: of the market and of the proposals.
        who, sold: a proposer and the strategy it searches about; else trials are random ones of several structures.
    """
    path, found = folder / f"{'-'.join(filter(None, (kind, who, sold)))}-{seed}.npz", {}
    if not path.exists():
        history = fair_market(seed) if kind == "fair" else market(seed, float(kind))
        arrays: dict[str, Any] = {}
        for name, costs in (("free", FREE),) if kind == "fair" else (("costs", {}), ("free", FREE)):
            one = search(history, who, sold, seed, **costs) if who else play(history, seed, **costs)
            arrays |= {f"{name}-{field}": np.asarray(getattr(one, field)) for field in ("returns", "at", "statuses", "life")}
        part = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(part, **arrays)
        part.replace(path)
    with np.load(path) as kept:
        for name in {key.partition("-")[0] for key in kept}:
            returns, at, statuses, life = (kept[f"{name}-{field}"] for field in ("returns", "at", "statuses", "life"))
            found[name] = Played(returns, at, tuple(statuses.tolist()), float(life))
    return found


def rate(played: list[Played]) -> dict[str, Any]:
    """Share of studies that discover, with the exact interval, beside what other rules would have called a discovery."""
    verdicts = [one.verdict(seed=n, blocks=2) for n, one in enumerate(played)]
    found, studies = sum(v.discovered for v in verdicts), len(verdicts)
    means = [1e4 * float(one.returns.mean()) for one in played]
    low, high = interval(found, studies)
    chosen = [next(t for t in v.trials if t.number == v.chosen) for v in verdicts if v.chosen is not None]
    return {
        "studies": studies,
        "discovered": found,
        "rate": found / studies,
        "interval": [low, high],
        "at_level": sum(max(_p(v.spa_consistent), _p(v.reality_check)) <= LEVEL for v in verdicts) / studies,
        "best_alone": sum((t.psr or 0) >= 0.95 for t in chosen) / studies,
        "hansen_fixed": float(np.mean([hansen(one, n) <= LEVEL for n, one in enumerate(played)])),
        "spa_alone": sum(_p(v.spa_consistent) <= LEVEL for v in verdicts) / studies,
        "reality_check": sum(_p(v.reality_check) <= LEVEL for v in verdicts) / studies,
        "deflated": sum((t.deflated or 0) >= 0.95 for t in chosen) / studies,
        "mean_bp_a_day": float(np.mean(means)),
        "mean_bp_error": float(np.std(means, ddof=1) / math.sqrt(studies)),
    }


def _p(value: float | None) -> float:
    return 1.0 if value is None else value


def hansen(played: Played, seed: int) -> float:
    """Consistent SPA p as it stands in textbooks: each trial's mean over its own bootstrap deviation, the same in all resamples."""
    returns = played.returns
    order = indices(len(returns), study_block(returns, played.life), 500, np.random.default_rng(seed))
    means = returns[order].mean(axis=1) - returns.mean(axis=0)
    deviation = means.std(axis=0)
    level = returns.mean(axis=0) / deviation
    poor = level < -math.sqrt(2 * math.log(math.log(len(returns))))
    drawn = means / deviation + np.where(poor, level, 0.0)
    return float(np.mean(np.maximum(drawn.max(axis=1), 0) >= max(float(level.max()), 0.0)))


def measure(folder: Path, studies: int, power_studies: int, shift: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """All rates, by the name of what was judged; `shift` moves all seeds."""
    found: dict[str, Any] = {}

    def put(name: str, played: list[Played]) -> None:
        found[name] = rate(played)
        progress(f"{name}: {found[name]['discovered']} of {found[name]['studies']}, {found[name]['interval']}")

    fair = [trials(folder, "fair", seed)["free"] for seed in _seeds(FAIR_FIRST + shift, studies)]
    put("fair market", fair)
    put("sign flipped", [flipped(one, seed) for seed, one in enumerate(fair)])
    put("days redrawn", [redrawn(one, seed) for seed, one in enumerate(fair)])
    for premium, count in ((0.0, studies), *((p, power_studies) for p in PREMIUMS)):
        seeds = _seeds((POWER_FIRST if premium else NULL_FIRST) + shift, count)
        both = [trials(folder, str(premium), seed) for seed in seeds]
        for name, words in (("costs", "costs paid"), ("free", "no costs")):
            put(f"synthetic, premium {premium:g}, {words}", [one[name] for one in both])
    for who, sold in SEARCHES:
        searched = [trials(folder, "fair", seed, who, sold)["free"] for seed in _seeds(SEARCH_FIRST + shift, studies)]
        put(f"fair market, {sold} searched by {who}", searched)
    for premium in PREMIUMS[1:]:
        both = [trials(folder, str(premium), seed, "tpe", "short_strangle") for seed in _seeds(POWER_FIRST + shift, power_studies)]
        put(f"synthetic, premium {premium:g}, costs paid, short_strangle searched by tpe", [one["costs"] for one in both])
    return found


def _seeds(first: int, count: int) -> range:
    return range(first, first + count)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--power-studies", type=int, default=POWER_STUDIES)
    parser.add_argument("--shift", type=int, default=0, help="added to all seeds: the same measured again on other markets, not written")
    parser.add_argument(
        "--trials", type=Path, default=Path(tempfile.gettempdir()) / "options-agent-false-discovery", help="where trials are kept"
    )
    asked = parser.parse_args()
    asked.trials.mkdir(parents=True, exist_ok=True)
    found = measure(asked.trials, asked.studies, asked.power_studies, asked.shift, lambda line: print(line, flush=True))
    if asked.shift:
        return
    settings = {"level": LEVEL, "asked": ASKED, "trials": TRIALS, "searched": SEARCHED, "days": DAYS}
    write_json(Path(__file__).parent / "results" / "false_discovery.json", {**settings, "rates": found})


if __name__ == "__main__":
    main()
