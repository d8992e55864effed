"""The trained model: its arrays say what scikit-learn says, the same seed gives the same file, and a strange file is refused."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from options_agent.errors import DataError
from options_agent.llm.server.examples import Example, read_examples
from options_agent.llm.server.forest import forest_of
from options_agent.llm.server.reading import Situation, read_situation
from options_agent.llm.server.student import Student, load, measures, save, train

ACTIONS = ("hold", "close", "roll")


def teacher(unrealised: float, dte: float, regime: str) -> str:
    if unrealised > 0.5 or (regime == "bear" and unrealised < -0.5):
        return "close"
    return "roll" if dte < 1 else "hold"


def examples(count: int, seed: int) -> list[Example]:
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        unrealised, dte, regime = random.uniform(-1, 1), random.uniform(0, 7), str(random.choice(["bull", "bear"]))
        numbers = {"unrealised profit, share of premium": unrealised, "days to expiry": dte}
        if random.random() < 0.1:
            numbers.pop("days to expiry")
            dte = 9.0
        found.append(Example(Situation(numbers, {"Regime": regime}, ACTIONS), teacher(unrealised, dte, regime), 1.0))
    return found


@lru_cache
def taught(rounds: int = 8) -> Student:
    return train(examples(300, 1), [], rounds=rounds, seed=0, progress=lambda *_: None)


def test_it_does_as_it_was_taught_on_what_it_never_saw() -> None:
    assert measures(taught(rounds=120), examples(500, 2), "valid")["valid_accuracy"] > 0.95


@pytest.mark.parametrize("classes", [2, 3])
def test_the_arrays_say_what_scikit_learn_says(classes: int) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    random = np.random.default_rng(classes)
    table = random.normal(size=(300, 4))
    table[random.random(table.shape) < 0.15] = np.nan
    target = np.digitize(np.nan_to_num(table[:, 0] + table[:, 1]), [0.0, 0.8][: classes - 1])
    other = random.normal(size=(50, 4))
    other[::7, 2] = np.nan
    with threadpool_limits(1):
        trees = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(table, target)
        reference = trees.predict_proba(other)
    assert forest_of(trees).odds(other) == pytest.approx(reference, abs=1e-12)


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    again = train(examples(300, 1), [], rounds=8, seed=0, progress=lambda *_: None)
    assert save(taught(), tmp_path / "a") == save(again, tmp_path / "b")
    assert (tmp_path / "a/student.json").read_bytes() == (tmp_path / "b/student.json").read_bytes()


def test_a_model_comes_back_as_it_was_and_a_changed_file_does_not(tmp_path: Path) -> None:
    student, situation = taught(), examples(1, 3)[0].situation
    save(student, tmp_path)
    assert load(tmp_path).decide(situation) == student.decide(situation)
    data = bytearray((tmp_path / "trees.npy").read_bytes())
    data[-1] ^= 1
    (tmp_path / "trees.npy").write_bytes(data)
    with pytest.raises(DataError, match="not the one that training wrote"):
        load(tmp_path)


def test_it_answers_with_an_allowed_action_only_and_names_numbers() -> None:
    student = taught()
    situation = Situation({"unrealised profit, share of premium": 0.9}, {"Regime": "bull"}, ("hold", "roll"))
    action, why = student.decide(situation)
    assert action in {"hold", "roll"}
    assert "unrealised profit 0.9" in why
    assert student.decide(Situation({}, {}, ("never seen",)))[0] == "never seen"


def test_weights_decide_between_examples_that_contradict_each_other() -> None:
    situation = Situation({"delta": 0.1}, {}, ACTIONS)
    both = [Example(situation, "hold", 1.0), Example(situation, "close", 3.0)] * 30
    assert train(both, [], rounds=8, seed=0, progress=lambda *_: None).decide(situation)[0] == "close"


def test_examples_are_read_from_chats_and_bad_lines_are_named() -> None:
    user = {"role": "user", "content": "Regime: bull-calm.\n\nState:\n- delta: -0.25\n- bid, coin: 1e-3\n\nAllowed actions: hold, close."}
    answer = {"action": "hold", "rationale": "So it is."}
    good = {"messages": [user, {"role": "assistant", "content": json.dumps(answer), "weight": 0.5}]}
    found = read_examples("\n".join([json.dumps(good)] * 10).encode())
    situation = Situation({"delta": -0.25, "bid, coin": 1e-3}, {"Regime": "bull-calm"}, ("hold", "close"))
    assert found[0] == Example(situation, "hold", 0.5, user["content"], "So it is.")
    assert read_situation([user]) == found[0].situation
    for bad in ({"messages": [user]}, {"messages": []}, [], {"messages": [user, {"role": "assistant", "content": "hold"}]}):
        with pytest.raises(DataError, match="line 11"):
            read_examples("\n".join([*[json.dumps(good)] * 10, json.dumps(bad)]).encode())
