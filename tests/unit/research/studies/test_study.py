"""A study from declaration to holdout: what it sees, what it refuses, what a kill costs, and what its ledger lets nobody change."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from options_agent.backtest.sweep import play_points
from options_agent.errors import DataError, SettingsError
from options_agent.lake.store import open_lake
from options_agent.llm.client import complete
from options_agent.regimes.label import label_regimes
from options_agent.research.studies import comparison, ledger, runner
from options_agent.research.studies import trials as trials_module
from options_agent.research.studies.comparison import compare_proposers
from options_agent.research.studies.declaration import Study, costs_sha256, declare, folder_of, load, rules_sha256
from options_agent.research.studies.holdout import open_holdout, openings_path
from options_agent.research.studies.proposals import Proposal, View
from options_agent.research.studies.proposers import model
from options_agent.research.studies.proposers.model import dealt_anew
from options_agent.research.studies.report import run_each, unfinished
from options_agent.research.studies.runner import Ended, returns_of, run_study, state_of
from options_agent.research.studies.space import Parameter, SearchSpace
from options_agent.research.studies.splits import folds, longest_life_days, split
from options_agent.research.studies.trials import ground_of
from options_agent.settings import Settings, load_settings
from options_agent.strategies.catalogue import strategy
from tests.conftest import REPOSITORY
from tests.filled_desks import DAYS, FIRST, fill

SPACE = SearchSpace(
    (
        Parameter("legs.sold.target", "float", 0.1, 0.4, 0.05),
        Parameter("entry.days", "float", 5.0, 9.0, 1.0),
        Parameter("exit.take_profit", "choice", values=(0.5, None)),
    )
)
CALL = strategy("covered_call")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("desk")
    fill(home)
    return home


def settings_of(home: Path) -> Settings:
    return load_settings(home=home, backtest={"min_trades": 1}, _env_file=None)


def study(name: str = "s", **changes: Any) -> Study:
    basis = Study(
        name=name,
        strategy="covered_call",
        rules_sha256=rules_sha256(CALL),
        costs_sha256=costs_sha256(load_settings(backtest={"min_trades": 1}, _env_file=None)),
        underlying="BTC",
        space=SPACE,
        start=FIRST,
        end=FIRST + dt.timedelta(days=DAYS - 1),
        embargo_days=4,
        train_share=0.4,
        validation_share=0.3,
        proposers=("random", "tpe"),
        trials=8,
        batch=3,
    )
    return replace(basis, **changes)


@pytest.fixture(autouse=True)
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue's call may live two weeks; these studies search trades of four days."""
    from options_agent.research.studies import declaration

    monkeypatch.setattr(declaration, "longest_life_days", lambda *_: 4)


def declared(home: Path, one: Study) -> Settings:
    settings = settings_of(home)
    declare(one, CALL, settings)
    return settings


def story(name: str, settings: Settings) -> list[dict[str, Any]]:
    """The ledger without its times."""
    events = ledger.read(folder_of(name, settings) / "ledger.jsonl")
    return [{k: v for k, v in e.items() if k not in {"at", "hash", "before"}} for e in events]


def test_a_study_runs_to_its_end_and_again_does_nothing(filled: Path) -> None:
    settings = declared(filled, study("whole"))
    ended = run_study("whole", settings)
    assert ended.why == "finished"
    assert {p: len(t) for p, t in ended.state.trials.items()} == {"random": 8, "tpe": 8}
    assert ended.verdict is not None
    assert ended.verdict.looks == 16
    numbers = [t["number"] for trials in ended.state.trials.values() for t in trials]
    assert sorted(numbers) == list(range(16))
    before = story("whole", settings)
    assert run_study("whole", settings).verdict == ended.verdict
    assert story("whole", settings) == before


def test_the_end_is_the_same_wherever_it_was_killed(filled: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from options_agent.research.studies import ledger, runner, declaration
from tests.unit.research.studies.test_study import declared, settings_of, study
declaration.longest_life_days = lambda *_: 4
left = int(sys.argv[2])
real = ledger.append
def append(*a, **k):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
    return real(*a, **k)
ledger.append = append
runner.run_study(sys.argv[3], settings_of(Path(sys.argv[1])))
"""
    settings = declared(filled, study("calm", proposers=("random",), trials=6))
    run_study("calm", settings)
    whole = story("calm", settings)
    # the name is part of a study's identity and so of its draws: the same study, begun anew
    path = folder_of("calm", settings)
    (path / "ledger.jsonl").rename(path / "ledger.whole")
    for events in (1, 2, 1):  # each start gets a little further
        command = [sys.executable, "-c", program, str(filled), str(events), "calm"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == -9, done.stderr[-1500:]
    run_study("calm", settings)
    assert story("calm", settings) == whole


def test_a_budget_of_time_stops_cleanly_and_the_next_run_goes_on(filled: Path) -> None:
    settings = declared(filled, study("short"))
    assert run_study("short", settings, seconds=0.0).why == "time"
    with pytest.raises(SettingsError, match="not finished"):
        open_holdout("short", settings)
    assert run_study("short", settings).why == "finished"


class Stubborn:
    """Proposes what it should not."""

    name = "random"

    def propose(self, view: View, count: int) -> Sequence[Proposal]:
        good = {"legs.sold.target": 0.2, "entry.days": 6.0, "exit.take_profit": 0.5}
        nonsense = Proposal({}, "unusable answer: it is no JSON")
        return [Proposal(good), Proposal(good), Proposal(good | {"legs.sold.target": 9.0}), Proposal("buy low"), nonsense]


def test_bad_and_repeated_proposals_are_refused_told_and_counted(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "proposer", lambda *_: Stubborn())
    settings = declared(filled, study("bad", proposers=("random",)))
    ended = run_study("bad", settings)
    assert ended.why == "finished"  # out of ideas after three barren rounds
    assert len(ended.state.trials["random"]) == 1
    reasons = [r.reason for r in ended.state.refusals["random"]][:4]
    assert reasons[0] == "tried already"
    assert "outside 0.1 to 0.4" in reasons[1]
    assert "not str" in reasons[2]
    assert "no JSON" in reasons[3]


def test_what_is_seen_holds_nothing_of_the_holdout(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everyone = study("blind", proposers=("random", "tpe", "model", "placebo"), batch=4)
    other = tmp_path / "other"
    fill(other, shift_after=everyone.splits.holdout[0])
    for home in (filled, other):
        label_regimes(open_lake(settings_of(home)), "BTC", everyone.start, everyone.end)
    seen: dict[str, list[str]] = {}
    real_view, real_complete = runner.view_of, complete

    def watched(ground: Any, state: Any, name: str) -> View:
        view = real_view(ground, state, name)
        seen.setdefault(str(ground.settings.home), []).append(repr(view))
        return view

    def asked(settings: Settings, feature: str, messages: Any, **options: Any) -> Any:
        seen.setdefault(str(settings.home), []).append(json.dumps([feature, messages, options["schema"], options["seed"]]))
        return real_complete(settings, feature, messages, **options)

    monkeypatch.setattr(runner, "view_of", watched)
    monkeypatch.setattr(model, "complete", asked)
    ends = [run_study("blind", declared(home, everyone)) for home in (filled, other)]
    mine, its = (seen[str(home.resolve())] for home in (filled, other))
    prompts = [text for text in mine if text.startswith('["study"')]
    assert len(prompts) >= 4  # of the model and of its placebo, each in two rounds
    assert any("mean_daily_return" in text for text in prompts)  # with regimes in them
    assert mine == its
    assert story("blind", settings_of(filled)) == story("blind", settings_of(other))
    assert ends[0].verdict == ends[1].verdict
    # nor would it have gone the same with other days than the holdout's exchanged: the test can tell
    third = tmp_path / "third"
    fill(third, shift_after=everyone.splits.validation[0])
    seen.clear()
    run_study("blind", declared(third, everyone))
    assert seen[str(third.resolve())] != mine


def test_racers_see_nothing_of_the_validation_they_are_scored_on(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views: list[View] = []
    real = runner.view_of

    def watched(*seen: Any, **options: Any) -> View:
        views.append(real(*seen, **options))
        return views[-1]

    monkeypatch.setattr(comparison, "view_of", watched)
    settings = declared(filled, study("race", proposers=("tpe", "model", "best_fixed"), batch=4))
    label_regimes(open_lake(settings), "BTC", FIRST, FIRST + dt.timedelta(days=DAYS - 1))
    race = compare_proposers("race", settings, trials=8, seeds=3)
    trials = [trial for view in views for trial in view.trials]
    assert trials
    assert not any(trial.validation for trial in trials)
    assert all(trial.train for trial in trials)
    days = ground_of(load("race", settings), settings).train.days.size
    regimes = [view.regimes for view in views if view.regimes]
    assert regimes
    assert all(sum(numbers["days"] for numbers in told.values()) == days for told in regimes)
    assert race.played == {"tpe": [8, 8, 8], "model": [8, 8, 8], "best_fixed": [1, 1, 1]}
    assert race.looks == 51
    assert race.final["nothing"] == [0.0, 0.0, 0.0]
    assert {"model less tpe", "model less best_fixed", "model less nothing", "tpe less nothing"} <= race.differences.keys()


def test_a_trial_that_cannot_be_played_fails_alone_and_counts(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = play_points

    def brittle(history: Any, points: Any, features: Any) -> Any:
        if any(point.settings.crossing > 0.9 for point in points):
            raise ZeroDivisionError("no such market")
        return real(history, points, features)

    monkeypatch.setattr(trials_module, "play_points", brittle)
    space = SearchSpace((Parameter("legs.sold.target", "float", 0.1, 0.4, 0.05), Parameter("costs.crossing", "choice", values=(0.5, 1.0))))
    settings = declared(filled, study("brittle", proposers=("random",), space=space))
    ended = run_study("brittle", settings)
    trials = ended.state.trials["random"]
    failed = [t for t in trials if t["status"] == "failed"]
    assert ended.why == "finished"
    assert len(trials) == 8
    assert {t["values"]["costs.crossing"] for t in failed} == {1.0}
    assert all("no such market" in t["reason"] for t in failed)
    assert ended.verdict is not None
    assert (ended.verdict.looks, ended.verdict.measured) == (8, 8 - len(failed))


def test_an_answer_that_was_written_and_never_heard_is_told(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openings_path(settings_of(filled)).unlink(missing_ok=True)
    settings = declared(filled, study("unheard", proposers=("random",), trials=4))
    run_study("unheard", settings)
    real = ledger.append

    def killed(path: Path, kind: str, **content: Any) -> Any:
        if kind == "holdout_answered" and path.parent.name == "unheard":
            raise KeyboardInterrupt
        return real(path, kind, **content)

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            open_holdout("unheard", settings)
    answer = ledger.read(openings_path(settings))[-1]["answer"]
    assert open_holdout("unheard", settings) == answer
    assert len(ledger.read(openings_path(settings))) == 1
    with pytest.raises(SettingsError, match="once is all"):
        open_holdout("unheard", settings)


def test_the_holdout_answers_once_and_every_asking_is_written(filled: Path) -> None:
    openings_path(settings_of(filled)).unlink(missing_ok=True)  # other tests asked about the same days
    settings = declared(filled, study("once", trials=4))
    run_study("once", settings)
    assert open_holdout("once", settings) in {"pass", "fail"}
    with pytest.raises(SettingsError, match="once is all"):
        open_holdout("once", settings)
    kinds = [e["kind"] for e in story("once", settings)]
    assert kinds[-3:] == ["holdout_opened", "holdout_answered", "holdout_refused"]
    opened = story("once", settings)[-3]
    assert "return" not in json.dumps(opened)  # nothing of how it went
    path = folder_of("once", settings) / "ledger.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-3]))  # the chain cannot see its own end missing; the desk's does
    with pytest.raises(SettingsError, match="once is all"):
        open_holdout("once", settings)
    path.write_bytes(whole)
    declare(study("again", trials=4), CALL, settings)
    run_study("again", settings)
    with pytest.raises(SettingsError, match="as 'once'"):
        open_holdout("again", settings)
    with pytest.raises(SettingsError, match="it is over"):
        run_study("once", settings)


def test_a_ledger_that_was_touched_is_refused_by_line(filled: Path) -> None:
    settings = declared(filled, study("touched", proposers=("random",), trials=4))
    run_study("touched", settings)
    path = folder_of("touched", settings) / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    flattered = lines[2].replace(b'"closed_trades"', b'"closed_tradez"', 1)
    assert flattered != lines[2]
    for changed, line in (
        ([*lines[:2], flattered, *lines[3:]], 3),
        (lines[:1] + lines[2:], 2),
        ([lines[0], lines[2], lines[1], *lines[3:]], 2),
    ):
        path.write_bytes(b"".join(changed))
        with pytest.raises(DataError, match=f"line {line} is not"):
            run_study("touched", settings)
    path.write_bytes(b"".join(lines) + b'{"n": 9, "kind"')  # a torn last line never happened
    assert len(ledger.read(path)) == len(lines)
    run_study("touched", settings)
    returns = next((path.parent / "returns").iterdir())
    returns.write_bytes(returns.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match="not those that were played"):
        returns_of(load("touched", settings), settings)


def test_a_declaration_stands(filled: Path) -> None:
    settings = declared(filled, study("stands", proposers=("random",), trials=3))
    declare(study("stands", proposers=("random",), trials=3), CALL, settings)
    with pytest.raises(SettingsError, match="declared otherwise"):
        declare(study("stands", proposers=("random",), trials=4), CALL, settings)
    run_study("stands", settings)
    path = folder_of("stands", settings) / "declaration.toml"
    path.write_text(path.read_text().replace("trials = 3", "trials = 300"))
    with pytest.raises(DataError, match="another declaration"):
        run_study("stands", settings)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"embargo_days": 3}, "shorter than the 4 a trade"),
        ({"objectives": (("luck", "max"),)}, "no objective luck"),
        ({"proposers": ("oracle",)}, "no proposer oracle"),
        ({"name": "../up"}, "a name is of"),
        ({"space": SearchSpace((Parameter("legs.9.target", "float", 0.1, 0.2),))}, "no field 9"),
        ({"train_share": 0.9}, "room for a holdout"),
    ],
)
def test_what_cannot_be_declared_is_said(filled: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        declare(study("wrong", **changes) if "name" not in changes else study(**changes), CALL, settings_of(filled))


def test_a_declaration_reads_back_as_it_was_written(filled: Path) -> None:
    one = study("back", objectives=(("sharpe_coin", "max"), ("max_drawdown_coin", "min")), usd=None, seconds=5.0)
    settings = declared(filled, one)
    assert load("back", settings) == one
    assert load("back", settings).sha256 == one.sha256


def test_parts_lie_apart_and_folds_look_back_only() -> None:
    parts = split(FIRST, FIRST + dt.timedelta(days=121), 12)
    assert (parts.validation[0] - parts.train[1]).days == (parts.holdout[0] - parts.validation[1]).days == 13
    assert (parts.train[0], parts.holdout[1]) == (FIRST, FIRST + dt.timedelta(days=121))
    with pytest.raises(SettingsError, match="leave a part under"):
        split(FIRST, FIRST + dt.timedelta(days=40), 12)
    at = np.arange(60, dtype=np.int64) * 86_400_000_000
    for past, test in folds(at, 5):
        assert past.max() < test.min() - 5
    assert np.concatenate([test for _, test in folds(at, 5)]).tolist() == list(range(12, 60))


def test_the_embargo_is_as_long_as_any_trade_of_the_space() -> None:
    assert longest_life_days(CALL, SearchSpace((Parameter("entry.days", "float", 2, 7),))) == max(CALL.entry.dte_max, 12)
    assert longest_life_days(CALL, SearchSpace((Parameter("entry.dte_max", "int", 2, 90),))) == 90


def test_a_placebo_is_shown_the_same_numbers_at_other_points() -> None:
    from options_agent.research.studies.proposals import SeenTrial

    trials = tuple(SeenTrial(n, {"x": n}, "", "ok", {"sharpe_coin": float(n)}, {"sharpe_coin": float(n)}) for n in range(30))
    view = View(SPACE, (("sharpe_coin", "max"),), "a call", trials, seed=3)
    dealt = dealt_anew(view)
    assert [t.values for t in dealt.trials] == [t.values for t in trials]
    results = [t.train["sharpe_coin"] for t in dealt.trials]
    assert sorted(results) == [float(n) for n in range(30)]
    assert abs(np.corrcoef(results, range(30))[0, 1]) < 0.5
    assert dealt_anew(view) == dealt


def test_costs_and_quotes_stand_too(filled: Path, tmp_path: Path) -> None:
    settings = declared(filled, study("costs", proposers=("random",), trials=3))
    with pytest.raises(SettingsError, match="capital or costs"):
        run_study("costs", load_settings(home=filled, backtest={"min_trades": 1, "crossing": 0.0}, _env_file=None))
    run_study("costs", settings)
    other = tmp_path / "moved"
    fill(other, shift_after=FIRST + dt.timedelta(days=3))
    shutil.copytree(folder_of("costs", settings), folder_of("costs", settings_of(other)))
    with pytest.raises(DataError, match="not those it began with"):
        run_study("costs", settings_of(other))


def test_state_refuses_the_ledger_of_another_study(filled: Path) -> None:
    settings = declared(filled, study("mine", proposers=("random",), trials=3))
    run_study("mine", settings)
    events = ledger.read(folder_of("mine", settings) / "ledger.jsonl")
    with pytest.raises(DataError, match="another declaration"):
        state_of(study("yours"), events)


def test_a_study_that_cannot_go_on_keeps_no_other_from_running(filled: Path) -> None:
    settings = declared(filled, study("a-broken", proposers=("random",), trials=3))
    run_study("a-broken", settings, seconds=0.0)
    path = folder_of("a-broken", settings) / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"space_sha256", b"spice_sha256"))
    declared(filled, study("b-sound", proposers=("random",), trials=3))
    assert {"a-broken", "b-sound"} <= set(unfinished(settings))
    found = dict(run_each(["a-broken", "b-sound"], settings))
    assert isinstance(found["a-broken"], DataError)
    assert isinstance(found["b-sound"], Ended)
    assert found["b-sound"].why == "finished"
    assert "b-sound" not in unfinished(settings)
    shutil.rmtree(path.parent)
