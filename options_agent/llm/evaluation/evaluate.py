"""An evaluation from the reports to its written result: scores, differences, the gate, MLflow's own evaluation, and who is champion."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.durable import plain_json, write_json
from options_agent.errors import DataError, ServiceError, SettingsError
from options_agent.llm.evaluation.asking import HOLD, RULES, ask
from options_agent.llm.evaluation.gate import Gate, Passage, judge
from options_agent.llm.evaluation.held_out import as_held_out, held_out_decisions, sha256_of
from options_agent.llm.evaluation.played import Played, play_model
from options_agent.llm.evaluation.scores import Answered, Difference, HeldOut, Score, as_row, difference, score
from options_agent.llm.fine_tuning import tunes
from options_agent.llm.prompts import DECISION, load_prompt
from options_agent.llm.registry import prompt_in_use, record_result, version_of
from options_agent.llm.training import week_bounds
from options_agent.tracking.server import experiment_id, mlflow_of, server_reachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from options_agent.llm.fine_tuning import Tune
    from options_agent.llm.prompts import Prompt
    from options_agent.settings import Settings

#: Strategies a model's choices are played with: one structure of one leg at a time.
PLAYED: Final = ("covered_call", "cash_secured_put")
BASE: Final = "desk-rules"
#: Decisions of a model that MLflow shows one by one.
LOGGED: Final = 24


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was found.

    Attributes:
        key: of the decisions, the prompt and the models.
        champion, challenger: whom the gate was asked about; no challenger where no trained model is among the models.
        scores: by model, least regret first; differences: each model's regret less the champion's.
        played: by model.
        passage: the gate's answer, None without a challenger.
    """

    key: str
    weeks: tuple[str, ...]
    decisions: int
    prompt: str
    champion: str
    challenger: str | None
    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]
    played: dict[str, tuple[Played, ...]]
    passage: Passage | None
    report: str


def evaluate(
    settings: Settings,
    models: Sequence[str] | None = None,
    weeks: Sequence[str] | None = None,
    *,
    prompt_version: str | None = None,
    gate: Gate | None = None,
    play: bool = True,
    most: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Evaluate models on the same held-out decisions and ask the gate about the newest trained one.

    Args:
        models: names; by default the base model, the champion and the newest trained one. The rules and never trading always are.
        weeks: held out; by default those that the newest trained model did not see.
        prompt_version: of `decision`, a number or alias of the registry, or `file`; by default the one in use.
        gate: what is asked of a challenger.
        play: whether choices are played through the engine, too.
        most: decisions at most, evenly spread; all by default.

    Raises:
        DataError: no held-out decision has values, no week is known, or a model was trained on one of them or a later one.
        SettingsError, ServiceError, BudgetError: as `complete`.
    """
    say = progress or (lambda _: None)
    trained = [t for t in tunes(settings) if t.status == "succeeded" and t.model]
    newest = max(
        trained, key=lambda t: (settings.home / "models" / settings.network / "tunes" / f"{t.key}.json").stat().st_mtime, default=None
    )
    chosen = list(weeks or (newest.held_out if newest else ()))
    champion = champion_model(settings)
    asked = list(dict.fromkeys([RULES, HOLD, *(models or [BASE, champion, *([newest.model] if newest else [])])]))
    if champion not in asked:
        asked.append(champion)
    _refuse_seen(trained, asked, chosen)
    prompt, version = _prompt(prompt_version, settings)
    decisions = held_out_decisions(settings, chosen)
    if most is not None and len(decisions) > most:
        decisions = [decisions[n * len(decisions) // most] for n in range(most)]
    shown = as_held_out(decisions, prompt)
    answers: dict[str, list[Answered]] = {}
    for model in asked:
        say(f"asking {model}: {len(shown)} decisions")
        answers[model] = ask(settings, model, shown, prompt, version)
    played: dict[str, tuple[Played, ...]] = {}
    for model in asked if play else ():
        say(f"playing {model}")
        played[model] = tuple(_play(settings, model, chosen, prompt, version))
    challenger = next((m for m in reversed(asked) if m.startswith("ft:") and m != champion), None)
    scores = sorted((score(m, shown, answers[m]) for m in asked), key=lambda s: s.regret)
    apart = tuple(difference(shown, (m, answers[m]), (champion, answers[champion])) for m in asked if m != champion)
    passage = None
    if challenger is not None:
        own, its = (_mean_return(played.get(m, ())) for m in (challenger, champion))
        both = None if own is None or its is None else (own, its)
        passage = judge(
            gate or Gate(), next(s for s in scores if s.model == challenger), next(d for d in apart if d.model == challenger), both
        )
    digest = hashlib.sha256(json.dumps([sha256_of(decisions), version, asked]).encode()).hexdigest()[:12]
    path = _folder(settings) / f"{digest}.json"
    found = Evaluation(digest, tuple(chosen), len(shown), version, champion, challenger, tuple(scores), apart, played, passage, str(path))
    write_json(path, plain_json(asdict(found) | {"decisions_sha256": sha256_of(decisions), "at": int(time.time())}))
    _log(settings, found, shown, answers)
    if prompt_version is not None:
        _record_prompt(settings, prompt_version, found, shown, answers, gate or Gate())
    return found


def champion_model(settings: Settings) -> str:
    """The model that decides for the desk; the base model until one was promoted."""
    path = _champion_file(settings)
    return str(json.loads(path.read_text(encoding="utf-8"))["model"]) if path.is_file() else BASE


def promote_model(settings: Settings, found: Evaluation, *, force: bool = False) -> str:
    """Make the evaluated challenger champion, where the gate let it pass; the former one stays named.

    Raises:
        SettingsError: there is no challenger, or the gate did not let it pass.
    """
    if found.challenger is None or found.passage is None:
        raise SettingsError("there is no challenger among the models evaluated", remedy="train one: `options-agent train`")
    if not found.passage.passed and not force:
        raise SettingsError(
            f"{found.challenger} does not pass the gate: {'; '.join(found.passage.lacking)}", remedy="train a better one, or --force"
        )
    content = {"model": found.challenger, "former": found.champion, "evaluation": found.key, "forced": not found.passage.passed}
    write_json(_champion_file(settings), content | {"at": int(time.time())})
    return found.challenger


def newest_evaluation(settings: Settings) -> dict[str, Any] | None:
    """The content of the evaluation written last; None where there is none."""
    found = [json.loads(p.read_text(encoding="utf-8")) for p in _folder(settings).glob("*.json")]
    return max(found, key=lambda e: int(e["at"]), default=None)


def _refuse_seen(trained: Sequence[Tune], asked: Sequence[str], weeks: Sequence[str]) -> None:
    """A model is judged on weeks after all it learnt from, whoever named them.

    Raises:
        DataError: one was trained on one of the weeks, or on a later one.
    """
    first = min((week_bounds(week)[0] for week in weeks), default=None)
    for model in asked:
        # a checkpoint's name begins with its model's
        last = next((max(t.weeks) for t in trained if t.weeks and (model == t.model or model.startswith(f"{t.model}:"))), None)
        if first is not None and last is not None and first <= week_bounds(last)[0]:
            raise DataError(
                f"{model} was trained on weeks up to {last}: {', '.join(weeks)} are not held out from it",
                remedy=f"--week later than {last}, or models trained on earlier weeks",
            )


def _prompt(which: str | None, settings: Settings) -> tuple[Prompt, str]:
    if which is None:
        return prompt_in_use(DECISION, settings)
    if which == "file":
        prompt = load_prompt(DECISION)
        return prompt, f"{DECISION}@{prompt.sha256[:8]}"
    version = version_of(DECISION, which, settings)
    return version.prompt, f"{DECISION}@{version.version}"


def _play(settings: Settings, model: str, weeks: Sequence[str], prompt: Prompt, version: str) -> list[Played]:
    found = []
    for underlying in settings.underlyings:
        for strategy in PLAYED:
            try:
                found.append(play_model(settings, model, strategy, underlying, weeks, prompt, version))
            except DataError:
                continue  # no quotes of that underlying in these weeks
    return found


def _mean_return(played: Sequence[Played]) -> float | None:
    return sum(p.return_coin for p in played) / len(played) if played else None


def _folder(settings: Settings) -> Path:
    return settings.home / "models" / settings.network / "evaluations"


def _champion_file(settings: Settings) -> Path:
    return settings.home / "models" / settings.network / "champion.json"


def _record_prompt(
    settings: Settings, which: str, found: Evaluation, shown: Sequence[HeldOut], answers: dict[str, list[Answered]], gate: Gate
) -> None:
    """Write what a version came to beside it in the registry: the champion model's answers with it against those with the one in use."""
    if which == "file":
        return
    version = version_of(DECISION, which, settings)
    model, (current, name) = found.champion, prompt_in_use(DECISION, settings)
    own = score(model, shown, answers[model])
    result = as_row(own) | {"weeks": list(found.weeks)}
    if current.sha256 != version.prompt.sha256:
        decisions = held_out_decisions(settings, found.weeks)
        theirs = ask(settings, model, as_held_out(decisions, current), current, name)
        if len(theirs) == len(shown):
            apart = difference(shown, (f"prompt {version.version}", answers[model]), (name, theirs))
            passage = judge(gate, own, apart)
            result |= {"low": apart.low, "high": apart.high, "against": name, "lacking": list(passage.lacking)}
    record_result(DECISION, version.version, plain_json(result), settings)


def _log(settings: Settings, found: Evaluation, shown: Sequence[HeldOut], answers: dict[str, list[Answered]]) -> None:
    """MLflow's own evaluation, a run a model over the same rows, so that its pages compare them; nothing where the server is away.

    Rows are a sample of `LOGGED`, for the server takes a second for each; the run's own metrics are of all decisions.
    """
    if not settings.mlflow_tracking_uri or not server_reachable(settings):
        return
    import contextlib
    import io
    import logging
    import os

    os.environ.setdefault("TQDM_DISABLE", "1")  # the command shows its own progress
    os.environ.setdefault("MLFLOW_GENAI_EVAL_SKIP_TRACE_VALIDATION", "True")  # it would ask every model once more
    os.environ.setdefault("MLFLOW_GENAI_EVAL_MAX_WORKERS", "2")  # more than its server can take makes it time out
    mlflow = mlflow_of(settings)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    experiment = experiment_id(mlflow, f"{settings.network}/evaluation")
    by_name = {s.model: s for s in found.scores}
    best = [max(d.values, key=lambda a, d=d: d.values[a]) for d in shown]  # type: ignore[misc]
    picked = sorted({n * len(shown) // LOGGED for n in range(LOGGED)})
    try:
        mlflow.set_experiment(experiment_id=experiment)
        for model, given in answers.items():
            rows = [
                {
                    "inputs": {"decision": d.id, "state": d.messages[-1]["content"]},
                    "outputs": a.action or a.problem,
                    "expectations": {"best": b, "rules": d.expert, "values": dict(d.values), "actions": list(d.actions)},
                }
                for d, a, b in ((shown[n], given[n], best[n]) for n in picked)
            ]
            with mlflow.start_run(run_name=f"{model} {found.key}"):
                with contextlib.redirect_stdout(io.StringIO()):  # a banner for each model
                    mlflow.genai.evaluate(data=rows, scorers=_scorers(mlflow))
                row = as_row(by_name[model])
                mlflow.log_metrics({k: float(v) for k, v in row.items() if isinstance(v, (int, float))})
                mlflow.log_params({"model": model, "prompt": found.prompt, "weeks": ", ".join(found.weeks)})
                for p in found.played.get(model, ()):
                    mlflow.log_metric(f"played.{p.strategy}.{p.underlying}.return_coin", p.return_coin)
    except mlflow.exceptions.MlflowException as error:
        raise ServiceError(f"MLflow did not take the evaluation: {error}", place=settings.mlflow_tracking_uri) from error


def _scorers(mlflow: Any) -> list[Any]:
    @mlflow.genai.scorer  # type: ignore[untyped-decorator]
    def usable(outputs: str, expectations: dict[str, Any]) -> bool:
        return outputs in expectations["actions"]

    @mlflow.genai.scorer  # type: ignore[untyped-decorator]
    def regret(outputs: str, expectations: dict[str, Any]) -> float:
        values = expectations["values"]
        idle = next((a for a in expectations["actions"] if a in {"hold", "skip"}), expectations["actions"][0])
        return float(max(values.values()) - values[outputs if outputs in values else idle])

    @mlflow.genai.scorer  # type: ignore[untyped-decorator]
    def agrees_with_rules(outputs: str, expectations: dict[str, Any]) -> bool:
        return bool(outputs == expectations["rules"])

    return [usable, regret, agrees_with_rules]
