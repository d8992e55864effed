"""Training of a decoder from nothing, in torch: cross entropy on what the assistant wrote, AdamW, one thread.

The same network as `network`, whole lines at a time; what is trained is handed over as NumPy arrays. torch is imported here only.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.errors import DataError
from options_agent.llm.server.decoder.network import EPSILON, Shape, features
from options_agent.llm.server.decoder.tokens import ACT, END, NOTHING, WHY, Ids, Line, Vocabulary, as_line, vocabulary_of
from options_agent.llm.server.decoder.writing import Decoder, measures
from options_agent.llm.server.examples import something_to_learn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from options_agent.llm.server.decoder.network import Floats
    from options_agent.llm.server.examples import Example

WIDTH, LAYERS, HEADS = 64, 3, 4
BATCH: Final = 16
PARTS: Final = 4
#: Lessons after which decisions of this desk's form were learnt, and the fewest and most epochs they are made of.
ENOUGH, FEWEST, MOST = 24_000, 2, 40
#: Share of the steps in which the rate rises, what of it is left at the end, and the pull of weights to nought.
WARM_UP, LEFT, DECAY = 0.05, 0.05, 0.05
#: Examples that are measured at each part, evenly spread.
MEASURED: Final = 200
NEEDED: Final = "`make decoder` installs it; elsewhere any torch from 2.6 on"


@dataclass(frozen=True, slots=True)
class Lesson:
    """An example as tokens.

    Attributes:
        targets: (n,) what follows each token: a token, tokens + place of a number, or NOTHING to be learnt.
        shares: (n,) of the loss: half for the action, half for the reason, which has many more tokens; in all the example's weight.
    """

    line: Line
    targets: Ids
    shares: Floats


def available() -> bool:
    """Whether torch is installed."""
    return find_spec("torch") is not None


def epochs_of(examples: int) -> int:
    """Epochs that come to about `ENOUGH` lessons, some four minutes on one core."""
    return max(FEWEST, min(MOST, round(ENOUGH / examples)))


def lesson_of(example: Example, vocabulary: Vocabulary) -> Lesson:
    """What is read and what is to be written; the prompt is not."""
    prompt = vocabulary.prompt(example.prompt)
    reason, points = vocabulary.reason(example.rationale, prompt)
    action = [ACT, *vocabulary.spell(example.action), WHY]
    line = prompt + as_line(action) + reason + as_line([END])
    targets = np.full(len(line.ids), NOTHING)
    first = len(prompt.ids)
    targets[first:-1] = line.ids[first + 1 :]
    pointed = np.flatnonzero(points != NOTHING)
    targets[first + len(action) - 1 + pointed] = vocabulary.size + points[pointed]
    shares, decided = np.zeros(len(line.ids), dtype=np.float32), first + len(action) - 1
    shares[first:decided] = example.weight / 2 / (decided - first)
    shares[decided:-1] = example.weight / 2 / (len(line.ids) - 1 - decided)
    return Lesson(line, targets, shares)


def train(
    examples: Sequence[Example],
    held_out: Sequence[Example],
    *,
    rounds: int,
    seed: int,
    rate: float,
    progress: Callable[[int, Mapping[str, float], Decoder], None],
    batch: int = BATCH,
) -> Decoder:
    """Learn for so many epochs, telling loss and accuracy after each quarter; the same seed gives the same arrays on the same machine.

    Args:
        held_out: told about only; may be empty.
        rounds: epochs.
        rate: the highest learning rate.
        progress: called with epochs done, metrics, and the model so far.
        batch: examples a step.

    Raises:
        DataError: every example that counts has the same action, training diverged, or torch is not installed.
    """
    something_to_learn(list(examples))
    if not available():
        raise DataError("a decoder is trained by torch, which is not installed", place="desk-decoder", remedy=NEEDED)
    import torch

    torch.set_num_threads(1)
    vocabulary = vocabulary_of([text for e in examples for text in (e.prompt, e.rationale, e.action)])
    shape = Shape(WIDTH, LAYERS, HEADS, vocabulary.size)
    actions = tuple(sorted({e.action for e in examples} | {a for e in examples for a in e.situation.actions}))
    lessons = [lesson_of(e, vocabulary) for e in examples if e.weight > 0]
    leaning = leanings([e.action for e in examples if e.weight > 0])
    chances = np.exp([-leaning[e.action] for e in examples if e.weight > 0])
    chances /= chances.sum()
    network = as_torch(first_arrays(shape, seed))
    optimiser = torch.optim.AdamW(network.values(), lr=rate, betas=(0.9, 0.98), weight_decay=DECAY)
    dice, steps_an_epoch = np.random.default_rng(seed), math.ceil(len(lessons) / batch)
    steps, told = rounds * steps_an_epoch, {max(1, rounds * part // PARTS) for part in range(1, PARTS + 1)}
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _share(step, steps))
    decoder = None
    for done in range(1, rounds + 1):
        drawn = dice.choice(len(lessons), len(lessons), p=chances)
        for chosen in np.array_split(drawn, steps_an_epoch):
            optimiser.zero_grad()
            loss_of(network, shape, [lessons[n] for n in chosen]).backward()
            if not math.isfinite(float(torch.nn.utils.clip_grad_norm_(network.values(), 1.0))):
                raise DataError(f"it diverged in epoch {done}", place="desk-decoder", remedy="a lower learning_rate_multiplier")
            optimiser.step()
            schedule.step()
        if done in told:
            decoder = Decoder(shape, {name: _as_array(tensor) for name, tensor in network.items()}, vocabulary, actions, leaning)
            held = measures(decoder, _spread(held_out), "valid") if held_out else {}
            progress(done, measures(decoder, _spread(examples), "train") | held, decoder)
    assert decoder is not None  # noqa: S101 there is one epoch at least
    return decoder


def leanings(actions: Sequence[str]) -> dict[str, float]:
    """Half the log of each action's share, 0 for the commonest: what odds lose where examples are drawn by one over the root of it.

    A twentieth of the decisions close; drawn as they are, the decoder learns to hold before it learns when not to. An answer gets the odds
    of the examples back (correction of the prior: Elkan, 2001, The foundations of cost-sensitive learning).
    """
    counts = Counter(actions)
    most = max(counts.values())
    return {action: 0.5 * math.log(count / most) for action, count in sorted(counts.items())}


def first_arrays(shape: Shape, seed: int) -> dict[str, Floats]:
    """Arrays to start from: gains of one, small numbers, smaller where a layer adds to the state."""
    dice, found = np.random.default_rng(seed), {}
    for name, size in shape.arrays().items():
        deviation = 0.02 if name in {"tokens", "number"} else 1 / math.sqrt(size[0])
        deviation /= math.sqrt(2 * shape.layers) if name.endswith((".out", ".down")) else 1.0
        found[name] = np.ones(size, np.float32) if len(size) == 1 else dice.normal(0.0, deviation, size).astype(np.float32)
    return found


def as_torch(arrays: Mapping[str, Floats]) -> dict[str, Any]:
    """Tensors that learn."""
    import torch

    return {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}


def loss_of(network: Mapping[str, Any], shape: Shape, lessons: Sequence[Lesson]) -> Any:
    """Mean cross entropy of what is to be written, by the lessons' shares."""
    import torch
    from torch.nn.functional import cross_entropy

    longest = max(len(lesson.line.ids) for lesson in lessons)
    targets, shares = torch.full((len(lessons), longest), NOTHING), torch.zeros((len(lessons), longest))
    for n, lesson in enumerate(lessons):
        targets[n, : len(lesson.targets)] = torch.from_numpy(lesson.targets)
        shares[n, : len(lesson.shares)] = torch.from_numpy(lesson.shares)
    raw = scores(network, shape, [lesson.line for lesson in lessons])
    each = cross_entropy(raw.transpose(1, 2), targets, ignore_index=NOTHING, reduction="none")
    return (each * shares).sum() / shares.sum()


def scores(network: Mapping[str, Any], shape: Shape, lines: Sequence[Line]) -> Any:
    """(lines, longest, tokens + longest): unnormalised log odds of each next token, then of pointing at each place of the line.

    Only numbers may be pointed at, and only those before the answer; what is no such place is out of the question.
    """
    import torch
    from torch.nn.functional import relu, scaled_dot_product_attention

    longest, w = max(len(line.ids) for line in lines), shape.width
    ids = torch.zeros((len(lines), longest), dtype=torch.int64)
    shown = torch.zeros((len(lines), longest, features(lines[0]).shape[1]))
    aims = torch.full((len(lines), 1, longest), -torch.inf)
    for n, line in enumerate(lines):
        ids[n, : len(line.ids)] = torch.from_numpy(line.ids)
        shown[n, : len(line.ids)] = torch.from_numpy(features(line))
        answer = np.flatnonzero(line.ids == ACT)[-1] if ACT in line.ids else len(line.ids)
        aims[n, 0, [place for place in line.numbers.tolist() if place < answer]] = 0.0
    back = torch.arange(longest)[None, :] - torch.arange(longest)[:, None]
    bias = torch.where(back > 0, -torch.inf, torch.from_numpy(shape.slopes)[:, None, None] * back)
    x = network["tokens"][ids] + shown @ network["number"]
    for n in range(shape.layers):
        parts = (_normed(x, network[f"{n}.before"]) @ network[f"{n}.qkv"]).split(w, dim=2)
        q, k, v = (part.view(len(lines), longest, shape.heads, w // shape.heads).transpose(1, 2) for part in parts)
        seen = scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + seen.transpose(1, 2).reshape(len(lines), longest, w) @ network[f"{n}.out"]
        x = x + relu(_normed(x, network[f"{n}.between"]) @ network[f"{n}.up"]) @ network[f"{n}.down"]
    x = _normed(x, network["after"])
    aimed = (x @ network["point_from"]) @ (x @ network["point_at"]).transpose(1, 2) / math.sqrt(w) + aims
    return torch.cat([x @ network["tokens"].T, aimed], dim=2)


def _share(step: int, steps: int) -> float:
    """Of the highest rate: a rise, then half a cosine down."""
    rise = max(1, int(steps * WARM_UP))
    if step < rise:
        return (step + 1) / rise
    return LEFT + (1 - LEFT) * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))) / 2


def _normed(x: Any, gain: Any) -> Any:
    return x * (x.square().mean(-1, keepdim=True) + EPSILON).rsqrt() * gain


def _as_array(tensor: Any) -> Floats:
    return np.array(tensor.detach().numpy(), dtype=np.float32)


def _spread(examples: Sequence[Example]) -> list[Example]:
    places = np.unique(np.linspace(0, len(examples) - 1, min(len(examples), MEASURED)).astype(int))
    return [examples[n] for n in places.tolist()]
