"""What a study leaves behind for people: leaderboard pages, and its run in MLflow with the best trials below."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from options_agent.durable import write_text
from options_agent.errors import OptionsAgentError, ServiceError
from options_agent.research.studies import ledger
from options_agent.research.studies.declaration import folder_of, load, studies
from options_agent.research.studies.leaderboard import leaderboard, markdown, page
from options_agent.research.studies.runner import Ended, judge, run_study, state_of
from options_agent.research.studies.trials import ground_of
from options_agent.tracking.runs import TrackedRun, track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from options_agent.research.studies.leaderboard import Leaderboard
    from options_agent.research.studies.verdict import Verdict
    from options_agent.settings import Settings

#: Trials that are runs of their own in MLflow, below the study's.
BEST: Final = 10


def run_and_report(
    name: str, settings: Settings, *, seconds: float | None = None, progress: Callable[[str, int, int], None] | None = None
) -> Ended:
    """`run_study`, then its pages, its run in MLflow, and the traces of what was asked; what a server that is away misses waits."""
    from options_agent.llm.traces import send_traces

    ended = run_study(name, settings, seconds=seconds, progress=progress)
    write_pages(name, settings, ended)
    if settings.mlflow_tracking_uri:
        log_study(name, settings, ended)
        try:
            send_traces(settings)
        except ServiceError:
            return ended  # they go with the next ones
    return ended


def ended_of(name: str, settings: Settings) -> Ended:
    """A study as its ledger has it, judged anew; nothing is run."""
    study = load(name, settings)
    events = ledger.read(folder_of(name, settings) / "ledger.jsonl")
    state = state_of(study, events)
    played = any(e["kind"] == "played" for e in events)
    why = (
        "finished"
        if state.finished
        else next((e["why"] for e in reversed(events) if e["kind"] == "stopped"), "running" if state.looks else "declared")
    )
    return Ended(state, why, judge(study, settings, state, ground_of(study, settings)) if played else None)


def unfinished(settings: Settings) -> list[str]:
    """Names of the studies whose search has trials left, and of those whose ledger or declaration was changed: a run says what is wrong."""

    def done(name: str) -> bool:
        try:
            return state_of(load(name, settings), ledger.read(folder_of(name, settings) / "ledger.jsonl")).finished
        except OptionsAgentError:
            return False

    return [name for name in studies(settings) if not done(name)]


def run_each(names: Iterable[str], settings: Settings, *, seconds: float | None = None) -> Iterator[tuple[str, Ended | OptionsAgentError]]:
    """Run studies one after another, finished ones only told; one that cannot go on yields its error, and the next has its turn."""
    for name in names:
        try:
            ended = ended_of(name, settings)
            yield name, ended if ended.why == "finished" else run_and_report(name, settings, seconds=seconds)
        except OptionsAgentError as error:
            yield name, error


def board_of(name: str, settings: Settings, ended: Ended, most: int = 25) -> tuple[str, Leaderboard | None]:
    """The first objective's name, and the leaderboard where there is a verdict."""
    study = load(name, settings)
    described = {t["number"]: t | {"proposer": who} for who, trials in ended.state.trials.items() for t in trials}
    if ended.verdict is None:
        return study.objectives[0][0], None
    return study.objectives[0][0], leaderboard(
        ended.verdict, title=f"{name}: {study.strategy} on {study.underlying}", described=described, most=most
    )


def holdout_answer(name: str, settings: Settings) -> str | None:
    """What the holdout answered; None while it is locked."""
    events = ledger.read(folder_of(name, settings) / "ledger.jsonl")
    return next((str(e["answer"]) for e in events if e["kind"] == "holdout_answered"), None)


def discovered(name: str, settings: Settings) -> bool:
    """Whether a study's verdict, as its ledger has it, is a discovery."""
    found = ended_of(name, settings).verdict
    return found is not None and found.discovered


def write_pages(name: str, settings: Settings, ended: Ended) -> list[str]:
    """Write `leaderboard.md` and `leaderboard.html` beside the ledger; returns their paths, none without a verdict."""
    _, board = board_of(name, settings, ended)
    if board is None or ended.verdict is None:
        return []
    folder = folder_of(name, settings)
    write_text(folder / "leaderboard.md", markdown(board, ended.verdict.rule))
    write_text(folder / "leaderboard.html", page(board, ended.verdict.rule))
    return [str(folder / f"leaderboard.{kind}") for kind in ("md", "html")]


def log_study(name: str, settings: Settings, ended: Ended) -> str | None:
    """Record a study in MLflow: one run with what was declared and corrected, and its best trials below it. Returns its URL."""
    study, found, now = load(name, settings), ended.verdict, int(time.time() * 1_000)
    if found is None:
        return None
    folder, key = folder_of(name, settings), f"study-{study.sha256[:12]}"
    common = {"strategy": study.strategy, "underlying": study.underlying, "study": name}
    tags = {"network": settings.network, "declaration": study.sha256, "space": study.space.sha256, "search": ended.why}
    numbers = {n: getattr(found, n) for n in ("looks", "overfitting", "reality_check", "spa_consistent")} | {
        "discovered": float(found.discovered)
    }
    params = common | {f"space.{p.name}": str(p.values or (p.low, p.high, p.step)) for p in study.space.parameters}
    params |= {"proposers": ", ".join(study.proposers), "trials_each": str(study.trials)}
    experiment = f"{settings.network}/studies"
    artifacts = [str(folder / n) for n in ("declaration.toml", "ledger.jsonl", "verdict.json", "leaderboard.md", "leaderboard.html")]
    note = f"**{found.words}**\n\nDeclared {study.sha256[:12]}; every trial is in the ledger among the artifacts."
    run = TrackedRun(key, experiment, f"study {name}", params, _finite(numbers), tags, artifacts, note, now, now)
    url = track(run, settings)
    for rank, (who, trial) in enumerate(_best(ended, found), 1):
        metrics = {f"{part}.{k}": v for part in ("train", "validation") for k, v in trial[part].items()}
        corrected = next(t for t in found.trials if t.number == trial["number"])
        metrics |= _finite({n: getattr(corrected, n) for n in ("sharpe", "psr", "deflated", "adjusted_p")})
        told = common | {"proposer": who, "hypothesis": trial["hypothesis"]} | {k: str(v) for k, v in trial["values"].items()}
        child = f"{key}_{rank:02d}"
        track(TrackedRun(child, experiment, f"trial {trial['number']} by {who}", told, metrics, tags, (), "", now, now, key), settings)
    return url


def _best(ended: Ended, found: Verdict) -> list[tuple[str, dict[str, Any]]]:
    sharpe = {t.number: t.sharpe for t in found.trials}
    every = [(who, t) for who, trials in ended.state.trials.items() for t in trials if sharpe.get(t["number"]) is not None]
    return sorted(every, key=lambda pair: -(sharpe[pair[1]["number"]] or 0.0))[:BEST]


def _finite(numbers: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items() if value is not None}
