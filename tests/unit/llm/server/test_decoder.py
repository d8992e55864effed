"""The decoder: what it reads and writes as tokens, its arithmetic against a slow one and against torch, and what it learns."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from options_agent.errors import DataError
from options_agent.llm.server.decoder import learning
from options_agent.llm.server.decoder.learning import first_arrays, lesson_of, train
from options_agent.llm.server.decoder.network import SCALES, Reader, Shape, start_reading
from options_agent.llm.server.decoder.tokens import BEGIN, MOST_PROMPT, NOTHING, NUMBER, SPACED, SPECIAL, Line, as_line, vocabulary_of
from options_agent.llm.server.decoder.writing import ARRAYS, MEANING, Decoder, load, measures, save
from options_agent.llm.server.examples import Example
from options_agent.llm.server.reading import Situation

needs_torch = pytest.mark.skipif(not learning.available(), reason=f"training a decoder needs torch: {learning.NEEDED}")

PROMPT = (
    "Strategy: put. Time: 2026-04-04 15:40 UTC.\n\n- index, USD: 67301.5\n- delta: -0.24884\n- unrealised: {unrealised:.4f}\n\n"
    "Allowed actions: hold, close."
)
TEXTS = [PROMPT.format(unrealised=0.25), "Held by delta -0.2488 and unrealised 0.25.", "hold", "close"] * 2


def untrained(seed: int = 0) -> Decoder:
    vocabulary = vocabulary_of(TEXTS)
    shape = Shape(16, 2, 2, vocabulary.size)
    return Decoder(shape, first_arrays(shape, seed), vocabulary, ("hold", "close"), {"hold": 0.0, "close": -0.5})


def test_numbers_are_values_words_are_pieces_and_the_rest_is_spelt() -> None:
    vocabulary = vocabulary_of(TEXTS)
    line = vocabulary.prompt("- delta: -0.25, index 6.73e+04\nzebra")
    assert line.ids[0] == BEGIN
    assert line.values[line.numbers] == pytest.approx([-0.25, 67300.0])
    assert line.ids[line.numbers].tolist() == [SPACED, SPACED]
    assert vocabulary.tokens[" delta"] in line.ids
    assert "".join(vocabulary.text(t) for t in line.ids[-5:].tolist()) == "zebra"


@given(st.text(max_size=60))
def test_any_text_is_read_and_printable_text_is_spelt_back(text: str) -> None:
    vocabulary = vocabulary_of(TEXTS)
    assert len(vocabulary.prompt(text).ids) >= 1
    plain = "".join(c for c in text if c.isascii() and c.isprintable())
    assert "".join(vocabulary.text(token) for token in vocabulary.spell(plain)) == plain


def test_a_reason_points_at_the_prompts_numbers_and_spells_its_own() -> None:
    vocabulary = vocabulary_of(TEXTS)
    prompt = vocabulary.prompt(PROMPT.format(unrealised=0.25))
    line, points = vocabulary.reason("By index 6.73e+04, delta -0.2488, and 12% of 0.3.", prompt)
    assert [float(prompt.values[p]) for p in points if p != NOTHING] == pytest.approx([67301.5, -0.24884])
    assert (line.ids[points != NOTHING] == NUMBER).all()
    said = "".join(vocabulary.text(t, v) for t, v in zip(line.ids.tolist(), line.values.tolist(), strict=True))
    assert said == "By index 6.73e+04, delta -0.2488, and 12% of 0.3."


def test_a_long_prompt_keeps_its_end() -> None:
    vocabulary = vocabulary_of(TEXTS)
    long = vocabulary.prompt("x" * 2 * MOST_PROMPT + " delta")
    assert len(long.ids) == MOST_PROMPT + 1
    assert long.ids[0] == BEGIN
    assert long.ids[-1] == vocabulary.tokens[" delta"]


def slowly(decoder: Decoder, line: Line, prompt: Line) -> np.ndarray:
    """Log odds of what follows a line, place by place and head by head, in double precision."""
    a = {name: array.astype(np.float64) for name, array in decoder.arrays.items()}
    shape, count = decoder.shape, len(line.ids)
    size = shape.width // shape.heads

    def norm(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
        return x / np.sqrt(np.mean(x**2) + 1e-6) * gain

    x = []
    for token, value in zip(line.ids, line.values, strict=True):
        number = sum(np.tanh(value / s) * row for s, row in zip(SCALES, a["number"], strict=True)) if token in {NUMBER, SPACED} else 0.0
        x.append(a["tokens"][token] + number)
    for n in range(shape.layers):
        parts = [np.split(norm(v, a[f"{n}.before"]) @ a[f"{n}.qkv"], 3) for v in x]
        seen = []
        for i in range(count):
            heads = []
            for h in range(shape.heads):
                cut = slice(h * size, (h + 1) * size)
                slope = 2.0 ** (-8 * (h + 1) / shape.heads)
                raw = [parts[i][0][cut] @ parts[j][1][cut] / np.sqrt(size) - slope * (i - j) for j in range(i + 1)]
                share = np.exp(raw) / np.sum(np.exp(raw))
                heads.append(sum(w * parts[j][2][cut] for j, w in enumerate(share)))
            seen.append(np.concatenate(heads) @ a[f"{n}.out"])
        x = [v + s for v, s in zip(x, seen, strict=True)]
        x = [v + np.maximum(norm(v, a[f"{n}.between"]) @ a[f"{n}.up"], 0) @ a[f"{n}.down"] for v in x]
    x = [norm(v, a["after"]) for v in x]
    aimed = [(x[p] @ a["point_at"]) @ (x[-1] @ a["point_from"]) / np.sqrt(shape.width) for p in prompt.numbers]
    raw = np.concatenate([a["tokens"] @ x[-1], aimed])
    return raw - np.log(np.sum(np.exp(raw)))


@pytest.mark.parametrize("seed", range(3))
def test_the_arithmetic_is_that_of_a_slow_double(seed: int) -> None:
    decoder = untrained(seed)
    prompt = decoder.vocabulary.prompt(PROMPT.format(unrealised=-1.5))
    reader = start_reading(decoder.shape, decoder.arrays, prompt)
    assert reader.log_odds() == pytest.approx(slowly(decoder, prompt, prompt), abs=1e-4)
    more = decoder.vocabulary.reason("Held by delta -0.2488", prompt)[0]
    reader.read(more)
    assert reader.log_odds() == pytest.approx(slowly(decoder, prompt + more, prompt), abs=1e-4)


@given(st.integers(0, 5), st.lists(st.integers(1, 39), max_size=4), st.floats(-1e6, 1e6))
@settings(max_examples=30)
def test_reading_in_parts_is_reading_at_once_and_the_future_changes_no_state(seed: int, cuts: list[int], other: float) -> None:
    decoder, dice = untrained(seed), np.random.default_rng(seed)
    line = as_line(dice.integers(0, decoder.shape.tokens, 40).tolist(), dice.normal(size=40).tolist())
    whole, parts = (Reader(decoder.shape, decoder.arrays, line) for _ in range(2))
    whole.read(line)
    places = sorted({0, *cuts, 40})
    for start, end in pairwise(places):
        parts.fork().read(as_line([NUMBER], [other]))  # another reader goes another way
        parts.read(Line(line.ids[start:end], line.values[start:end]))
    assert whole.states == pytest.approx(parts.states, abs=1e-4)
    changed = Line(line.ids.copy(), line.values.copy())
    changed.ids[20:], changed.values[20:] = NUMBER, other
    future = Reader(decoder.shape, decoder.arrays, line)
    future.read(changed)
    assert whole.states is not None
    assert future.states is not None
    assert future.states[:20] == pytest.approx(whole.states[:20], abs=1e-5)


@given(st.text(max_size=80), st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4, unique=True), st.integers(0, 3))
@settings(max_examples=30)
def test_any_weights_on_any_prompt_answer_an_allowed_action(prompt: str, actions: list[str], seed: int) -> None:
    decoder = untrained(seed)
    action, reason = decoder.decide(prompt, actions)
    assert action in actions
    assert json.loads(json.dumps({"action": action, "rationale": reason}))["rationale"] == reason
    assert sum(decoder.odds(prompt, actions).values()) == pytest.approx(1.0)
    assert decoder.decide(prompt)[0] in decoder.actions


def test_a_decoder_comes_back_as_it_was_and_a_changed_file_does_not(tmp_path: Path) -> None:
    decoder = untrained(1)
    assert save(decoder, tmp_path) == save(decoder, tmp_path / "again")
    prompt = PROMPT.format(unrealised=0.5)
    assert load(tmp_path).decide(prompt, ("hold", "close")) == decoder.decide(prompt, ("hold", "close"))
    meaning = json.loads((tmp_path / MEANING).read_text())
    (tmp_path / MEANING).write_text(json.dumps(meaning | {"shape": meaning["shape"] | {"layers": 3}}))
    with pytest.raises(DataError, match="another shape"):
        load(tmp_path)
    data = bytearray((tmp_path / "again" / ARRAYS).read_bytes())
    data[-1] ^= 1
    (tmp_path / "again" / ARRAYS).write_bytes(data)
    with pytest.raises(DataError, match="not the one that training wrote"):
        load(tmp_path / "again")


def lessons(count: int, seed: int) -> list[Example]:
    """Close at half the premium kept, and say by which number."""
    dice = np.random.default_rng(seed)
    found = []
    for unrealised in dice.uniform(-1, 1, count):
        action = "close" if unrealised > 0.5 else "hold"
        why = f"{'Enough is kept' if action == 'close' else 'Not enough'}: unrealised {unrealised:.4g}."
        found.append(Example(Situation({}, {}, ("hold", "close")), action, 1.0, PROMPT.format(unrealised=unrealised), why))
    return found


def test_a_lesson_is_learnt_in_its_answer_only() -> None:
    (example,) = lessons(1, 3)
    vocabulary = vocabulary_of(TEXTS)
    lesson = lesson_of(example, vocabulary)
    first = len(vocabulary.prompt(example.prompt).ids)
    assert (lesson.targets[:first] == NOTHING).all()
    assert (lesson.targets[first:-1] != NOTHING).all()
    spelt = lesson.targets[first:-1] < vocabulary.size
    assert (lesson.targets[first:-1][spelt] == lesson.line.ids[first + 1 :][spelt]).all()
    (place,) = lesson.targets[first:-1][~spelt] - vocabulary.size
    assert lesson.line.values[place] == pytest.approx(float(f"{lesson.line.values[place]:.4f}"))
    assert lesson.line.ids[first + 1 :][~spelt].tolist() == [NUMBER]


def test_without_torch_training_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "available", lambda: False)
    with pytest.raises(DataError, match="make decoder"):
        train(lessons(20, 0), [], rounds=1, seed=0, rate=0.01, progress=lambda *_: None)


@needs_torch
@pytest.mark.parametrize("seed", range(3))
def test_torch_scores_what_numpy_scores(seed: int) -> None:
    import torch

    decoder = untrained(seed)
    some = [lesson_of(e, decoder.vocabulary) for e in lessons(3, seed)]
    with torch.no_grad():
        raw = learning.scores(learning.as_torch(decoder.arrays), decoder.shape, [lesson.line for lesson in some]).log_softmax(2).numpy()
    for lesson, row in zip(some, raw, strict=True):
        for place in np.flatnonzero(lesson.targets != NOTHING).tolist():
            first = int(np.flatnonzero(lesson.targets != NOTHING)[0])
            prompt = Line(lesson.line.ids[:first], lesson.line.values[:first])
            reader = start_reading(decoder.shape, decoder.arrays, prompt)
            reader.read(Line(lesson.line.ids[first : place + 1], lesson.line.values[first : place + 1]))
            shown = np.concatenate([row[place, : decoder.shape.tokens], row[place, decoder.shape.tokens + prompt.numbers]])
            assert reader.log_odds() == pytest.approx(shown, abs=1e-4)


def test_what_is_drawn_more_often_than_it_occurs_gets_its_odds_back() -> None:
    found = learning.leanings(["hold"] * 90 + ["close"] * 10)
    assert found["hold"] == 0.0
    drawn = {action: count * np.exp(-found[action]) for action, count in (("hold", 90), ("close", 10))}
    assert drawn["close"] / drawn["hold"] == pytest.approx(1 / 3), "by the root of how rare it is"
    plain = replace(untrained(2), leaning={})
    odds, corrected = (d.odds(PROMPT, ("hold", "close")) for d in (plain, replace(plain, leaning=found)))
    assert corrected["close"] / corrected["hold"] == pytest.approx(odds["close"] / odds["hold"] / 3)


@lru_cache
def taught() -> Decoder:
    return train(lessons(160, 1), [], rounds=10, seed=0, rate=5e-3, progress=lambda *_: None)


@needs_torch
def test_it_learns_when_to_close_and_names_the_number_it_was_shown() -> None:
    decoder, unseen = taught(), lessons(100, 2)
    assert measures(decoder, unseen, "valid")["valid_accuracy"] > 0.9
    said = [decoder.decide(e.prompt, e.situation.actions) for e in unseen[:20]]
    assert sum(why == e.rationale for e, (action, why) in zip(unseen, said, strict=False) if action == e.action) >= 15


@needs_torch
def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    some = lessons(40, 1)
    first, again = (train(some, some[:5], rounds=1, seed=7, rate=5e-3, progress=lambda *_: None) for _ in range(2))
    assert save(first, tmp_path / "a") == save(again, tmp_path / "b")
    assert set(first.vocabulary.pieces) >= {" hold", "close"} | {"x"}
    assert first.vocabulary.size == SPECIAL + len(first.vocabulary.pieces)


@needs_torch
def test_a_rate_too_high_is_said_and_no_broken_model_comes_of_it() -> None:
    with pytest.raises(DataError, match="diverged"):
        train(lessons(40, 1), [], rounds=3, seed=0, rate=1e9, progress=lambda *_: None)


@pytest.mark.parametrize(("examples", "epochs"), [(10, 40), (900, 27), (5_600, 4), (100_000, 2)])
def test_epochs_of_auto_come_to_about_as_many_lessons(examples: int, epochs: int) -> None:
    assert learning.epochs_of(examples) == epochs
