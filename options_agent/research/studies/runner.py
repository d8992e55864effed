"""Running a study: rounds of asking, refusing and playing, each in the ledger, until every proposer had its trials or a budget ends.

A round is decided by the study's hash, the proposer and what the ledger holds, so that a run killed anywhere goes on to the same end.
"""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.engine import run_backtest
from options_agent.durable import write_bytes, write_json
from options_agent.errors import BudgetError, DataError, SettingsError
from options_agent.llm.spend import TOTAL, spent
from options_agent.research.attribution.book import attribute, shares
from options_agent.research.studies import ledger
from options_agent.research.studies.declaration import folder_of, load
from options_agent.research.studies.proposals import Refusal, SeenTrial, View
from options_agent.research.studies.proposers import proposer
from options_agent.research.studies.space import ProposalError
from options_agent.research.studies.splits import as_dict
from options_agent.research.studies.trials import Ground, by_regime, configuration, ground_of, play_trials
from options_agent.research.studies.verdict import Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from options_agent.research.studies.declaration import Study
    from options_agent.research.studies.proposals import Proposal, Proposer
    from options_agent.settings import Settings

#: Rounds without a single new trial after which a proposer is out of ideas.
BARREN: Final = 3


@dataclass(slots=True)
class State:
    """What a ledger says: trials and refusals by proposer, rounds asked, and the rounds proposed but not played."""

    trials: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    refusals: dict[str, list[Refusal]] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)
    barren: dict[str, int] = field(default_factory=dict)
    unplayed: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0
    usd: float = 0.0
    finished: bool = False
    opened: bool = False

    @property
    def looks(self) -> int:
        """Trials of all proposers, whatever became of them."""
        return sum(len(t) for t in self.trials.values())


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: `why` is `finished`, or the budget that stopped it."""

    state: State
    why: str
    verdict: Verdict | None


def state_of(study: Study, events: list[dict[str, Any]]) -> State:
    """Read a ledger.

    Raises:
        DataError: it is of another declaration.
    """
    state = State({p: [] for p in study.proposers}, {p: [] for p in study.proposers}, dict.fromkeys(study.proposers, 0))
    state.barren = dict.fromkeys(study.proposers, 0)
    for event in events:
        if event["kind"] == "declared" and event["study_sha256"] != study.sha256:
            raise DataError(
                f"study {study.name!r} was begun with another declaration ({event['study_sha256'][:12]})",
                remedy="restore declaration.toml: once there are trials it stands; or declare a new study",
            )
        if event["kind"] == "proposed":
            name = event["proposer"]
            state.rounds[name] += 1
            state.barren[name] = 0 if event["accepted"] else state.barren[name] + 1
            state.trials[name] += [a | {"status": "unplayed", "train": {}, "validation": {}} for a in event["accepted"]]
            state.refusals[name] += [Refusal(name, r["values"], r["reason"]) for r in event["refused"]]
            state.count += len(event["accepted"])
            state.usd += event["usd"]
            if event["accepted"]:
                state.unplayed.append(event)
        elif event["kind"] == "played":
            by_number = {t["number"]: t for t in event["trials"]}
            for trial in state.trials[event["proposer"]]:
                if trial["number"] in by_number:
                    trial |= by_number[trial["number"]]
            state.unplayed = [e for e in state.unplayed if (e["proposer"], e["round"]) != (event["proposer"], event["round"])]
        elif event["kind"] == "finished":
            state.finished = True
        elif event["kind"] == "holdout_opened":
            state.opened = True
    return state


def run_study(
    name: str, settings: Settings, *, seconds: float | None = None, progress: Callable[[str, int, int], None] | None = None
) -> Ended:
    """Run a declared study, or go on with it.

    Args:
        seconds: budget of this run; by default the declaration's.
        progress: called with a proposer, its trials, and how many it has in all.

    Raises:
        SettingsError: no such study, or the strategy is not what it was.
        DataError: its ledger is broken or of another declaration, or there are no clean quotes.
        ServiceError: whoever proposes does not answer; run it again later.
    """
    study = load(name, settings)
    path = folder_of(name, settings) / "ledger.jsonl"
    with ledger.writing(path):
        events = ledger.read(path)
        ground = ground_of(study, settings)
        data = {name: getattr(ground, name).history.fingerprint for name in ("train", "validation")}
        begun = next((e for e in events if e["kind"] == "declared"), None)  # a holdout asked too early was written before it
        if begun is None:
            content = {"study_sha256": study.sha256, "space_sha256": study.space.sha256, "splits": as_dict(study.splits), "data": data}
            begun = ledger.append(path, "declared", **content)
            events.append(begun)
        state = state_of(study, events)
        if state.opened:
            raise SettingsError(f"the holdout of study {name!r} was opened: it is over", remedy="declare a new study, on days not seen yet")
        if begun["data"] != data:
            raise DataError(
                f"the quotes of study {name!r} are not those it began with", remedy="restore the clean days, or declare a new study"
            )
        for event in list(state.unplayed):
            _play(path, ground, event)
        state = state_of(study, ledger.read(path))
        why = _search(path, ground, settings, state, seconds if seconds is not None else study.seconds, progress)
        state = state_of(study, ledger.read(path))
        if why == "finished" and not state.finished:
            ledger.append(path, "finished", trials={p: len(t) for p, t in state.trials.items()}, looks=state.looks)
        elif why != "finished":
            ledger.append(path, "stopped", why=why, looks=state.looks)
        return Ended(state_of(study, ledger.read(path)), why, judge(study, settings, state, ground))


def _search(
    path: Path, ground: Ground, settings: Settings, state: State, seconds: float | None, progress: Callable[[str, int, int], None] | None
) -> str:
    """Rounds in turn, one of each proposer, so that a budget that ends leaves all with about as many trials."""
    study, began = ground.study, time.monotonic()
    proposers = {p: proposer(p, ground.strategy, settings) for p in study.proposers}
    while True:
        wanting = [p for p in study.proposers if len(state.trials[p]) < study.trials and state.barren[p] < BARREN]
        if not wanting:
            return "finished"
        for name in wanting:
            if seconds is not None and time.monotonic() - began >= seconds:
                return "time"
            if study.usd is not None and state.usd > study.usd:
                return "money"
            before = _spent(settings)
            view = view_of(ground, state, name)
            try:
                proposals = proposers[name].propose(view, min(study.batch, view.remaining))
            except BudgetError:
                return "money"
            event = _propose(path, ground, state, proposers[name], proposals, max(_spent(settings) - before, 0.0))
            if event["accepted"]:
                _play(path, ground, event)
            state = state_of(study, ledger.read(path))
            if progress is not None:
                progress(name, len(state.trials[name]), study.trials)


def view_of(ground: Ground, state: State, name: str, *, blind: bool = False) -> View:
    """What a proposer may know: its own trials, and of the best of them the regimes. `blind`: nothing of validation either."""
    study = ground.study
    trials = [t | ({"validation": {}} if blind else {}) for t in state.trials[name] if t["status"] != "unplayed"]
    seen = tuple(SeenTrial(t["number"], t["values"], t["hypothesis"], t["status"], t["train"], t["validation"]) for t in trials)
    best = _best(study, trials)
    regimes, attributions = ({}, {}) if best is None or name not in {"model", "placebo"} else _insight(ground, best, blind=blind)
    seed = int(hashlib.sha256(f"{study.sha256}|{study.seed}|{name}|{state.rounds[name]}".encode()).hexdigest()[:15], 16)
    return View(
        study.space,
        study.objectives,
        ground.strategy.in_words(),
        seen,
        tuple(state.refusals[name]),
        regimes,
        attributions,
        remaining=study.trials - len(state.trials[name]),
        seed=seed,
    )


def _best(study: Study, trials: list[dict[str, Any]]) -> dict[str, Any] | None:
    name, way = study.objectives[0]
    able = [t for t in trials if t["status"] == "ok"]
    return max(able, key=lambda t: (t["train"][name] + t["validation"].get(name, 0.0)) * (1 if way == "max" else -1), default=None)


def _insight(ground: Ground, trial: dict[str, Any], *, blind: bool) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """A trial's days by regime, and where its P&L of training came from, as shares. `blind`: the days of training only."""
    (outcome,) = play_trials(ground, [trial["values"]])
    days = ground.train.days if blind else np.concatenate((ground.train.days, ground.validation.days))
    point = configuration(ground, trial["values"])
    part = ground.train
    return by_regime(ground, outcome.returns[: days.size], days), shares(
        attribute(run_backtest(part.history, point.strategy, point.settings, part.features), part.history)
    )


def _propose(path: Path, ground: Ground, state: State, who: Proposer, proposals: Any, usd: float) -> dict[str, Any]:
    """Sort proposals into trials and refusals, and write both as one event."""
    space, name = ground.study.space, who.name
    taken = {space.key(t["values"]) for t in state.trials[name]}
    accepted: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for proposal in proposals:
        values, reason = sound_values(ground, proposal, taken)
        if values is None:
            refused.append({"values": proposal.values, "reason": reason, "hypothesis": proposal.hypothesis})
            continue
        taken.add(space.key(values))
        accepted.append({"number": state.count + len(accepted), "values": values, "hypothesis": proposal.hypothesis[:600]})
    return ledger.append(path, "proposed", proposer=name, round=state.rounds[name], accepted=accepted, refused=refused, usd=round(usd, 9))


def sound_values(ground: Ground, proposal: Proposal, taken: set[str]) -> tuple[dict[str, Any] | None, str]:
    """A proposal's canonical values, or None and why it is refused."""
    if not proposal.values and proposal.hypothesis.startswith("unusable"):
        return None, proposal.hypothesis
    try:
        values = ground.study.space.check(proposal.values)
        if ground.study.space.key(values) in taken:
            return None, "tried already"
        configuration(ground, values)
    except (ProposalError, SettingsError) as error:
        return None, error.message
    return values, ""


def _play(path: Path, ground: Ground, event: dict[str, Any]) -> None:
    """Play a round's trials: their daily returns beside the ledger first, then the event that names them."""
    outcomes = play_trials(ground, [t["values"] for t in event["accepted"]])
    stream = io.BytesIO()
    np.save(stream, np.array([o.returns for o in outcomes]))
    name = f"{event['proposer']}-{event['round']:05d}.npy"
    write_bytes(path.parent / "returns" / name, stream.getvalue())
    trials = [
        {"number": t["number"], "status": o.status, "train": o.train, "validation": o.validation}
        | ({"reason": o.reason} if o.reason else {})
        for t, o in zip(event["accepted"], outcomes, strict=True)
    ]
    digest = hashlib.sha256(stream.getvalue()).hexdigest()
    ledger.append(path, "played", proposer=event["proposer"], round=event["round"], trials=trials, returns=name, sha256=digest)


def returns_of(study: Study, settings: Settings) -> tuple[list[dict[str, Any]], NDArray[np.float64]]:
    """Played trials of all proposers, and their daily returns in coin (days of training and validation, trials).

    Raises:
        DataError: returns are missing or not those that the ledger names.
    """
    folder = folder_of(study.name, settings)
    events = ledger.read(folder / "ledger.jsonl")
    proposed = {t["number"]: t | {"proposer": e["proposer"]} for e in events if e["kind"] == "proposed" for t in e["accepted"]}
    trials, columns = [], []
    for event in events:
        if event["kind"] != "played":
            continue
        path = folder / "returns" / event["returns"]
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != event["sha256"]:
            raise DataError("a round's returns are not those that were played", place=str(path), remedy="restore the file from a backup")
        columns.append(np.load(io.BytesIO(data)))
        trials += [proposed[t["number"]] | t for t in event["trials"]]
    return trials, np.concatenate(columns).T if columns else np.empty((0, 0))


def judge(study: Study, settings: Settings, state: State, ground: Ground) -> Verdict | None:
    """The verdict over every look, written beside the ledger; None without a trial."""
    trials, returns = returns_of(study, settings)
    if not trials:
        return None
    at = np.concatenate((ground.train.days, ground.validation.days))
    order = np.argsort([t["number"] for t in trials])
    found = verdict(
        returns[:, order],
        at,
        looks=state.looks,
        numbers=[trials[n]["number"] for n in order],
        statuses=[trials[n]["status"] for n in order],
        mean_life_days=ground.strategy.entry.dte_target,
        embargo_days=study.embargo_days,
        seed=study.seed,
    )
    write_json(folder_of(study.name, settings) / "verdict.json", found.as_dict())
    return found


def _spent(settings: Settings) -> float:
    return sum(float(row["cost_usd"] + row["reserved_usd"]) for row in spent(settings) if row["feature"] in {"study", TOTAL})
