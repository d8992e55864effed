"""Training examples: a week of backtest decisions as chat JSONL, with what came of them kept apart.

An example holds what the desk knew at the decision and the choice of the rule-based policy; the outcome, known only
later, stands in a file of its own and never in a message. Fine-tuning itself is not here.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import DataError
from options_agent.lake.files import FileRecord, sha256_of
from options_agent.lake.receipts import Receipt, fingerprint, read_receipt, unchanged, write_receipt
from options_agent.llm.prompts import DECISION, Prompt, load_prompt, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from options_agent.lake.store import Lake

TRAINING_VERSION: Final = 1
STAGE: Final = "training"
EVERYTHING: Final = "all"
LEAST_EXAMPLES: Final = 10  # what hosted fine-tuning accepts at least
VALIDATION_SHARE: Final = 0.2

#: Features a message may show, in the order shown, each with the digits that count as a difference. Two decisions whose
#: shown state is the same to these digits are near-duplicates. Nothing known only later is in this list.
SHOWN: Final[tuple[tuple[str, str, int], ...]] = (
    ("index", "index, USD", -2),
    ("dte", "days to expiry", 1),
    ("delta", "delta", 2),
    ("bid", "bid, coin", 4),
    ("ask", "ask, coin", 4),
    ("mark_iv", "mark IV, decimal", 2),
    ("unrealised", "unrealised profit, share of premium", 1),
    ("open_positions", "open positions", 0),
)

#: Chat-format line: what a provider's fine-tuning endpoint takes, and what ours demands besides.
EXAMPLE_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "messages": {
            "type": "array",
            "minItems": 3,
            "maxItems": 3,
            "prefixItems": [
                {
                    "type": "object",
                    "properties": {"role": {"const": role}, "content": {"type": "string", "minLength": 1}},
                    "required": ["role", "content"],
                    "additionalProperties": False,
                }
                for role in ("system", "user", "assistant")
            ],
        }
    },
    "required": ["messages"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision of a policy, and what became of it.

    Attributes:
        at: when it was made; everything in `state` was known then.
        actions: what was allowed.
        action: what the policy chose; `rationale` in words.
        state: features by the names in `SHOWN`; absent or None where the policy had none.
        outcome_coin: profit of the trade it concerned, coin, known at `outcome_at` only; None where none is attached.
    """

    at: dt.datetime
    underlying: str
    strategy: str
    rules: str
    regime: str
    actions: tuple[str, ...]
    action: str
    rationale: str
    state: Mapping[str, float | None]
    outcome_coin: float | None = None
    outcome_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Examples:
    """A week's examples, split by time; `outcomes` is keyed by the same ids and never shown to a model."""

    train: tuple[dict[str, Any], ...]
    validation: tuple[dict[str, Any], ...]
    outcomes: tuple[dict[str, Any], ...]
    duplicates: int


def week_bounds(week: str) -> tuple[dt.datetime, dt.datetime]:
    """Monday 00:00 UTC of an ISO week (`2026-W05`) and of the next.

    Raises:
        DataError: not an ISO week.
    """
    try:
        monday = dt.datetime.strptime(f"{week}-1", "%G-W%V-%u").replace(tzinfo=dt.UTC)
    except ValueError:
        raise DataError(f"{week!r} is not an ISO week", remedy="write it as 2026-W05") from None
    return monday, monday + dt.timedelta(days=7)


def weeks_between(start: dt.date, end: dt.date) -> list[str]:
    """ISO weeks that hold any day of [start, end]."""
    days = (start + dt.timedelta(days=n) for n in range((end - start).days + 1))
    return list(dict.fromkeys(f"{d.isocalendar().year}-W{d.isocalendar().week:02d}" for d in days))


def build_examples(decisions: Iterable[Decision], week: str, prompt: Prompt) -> Examples:
    """Render, deduplicate and split a week's decisions.

    The last fifth of the week's time is validation; of near-duplicates only the earliest stays, wherever it fell, so
    that none stands on both sides.
    """
    start, end = week_bounds(week)
    boundary = start + (end - start) * (1 - VALIDATION_SHARE)
    train: list[dict[str, Any]] = []
    validation: list[dict[str, Any]] = []
    outcomes: list[dict[str, Any]] = []
    seen: set[str] = set()
    duplicates = 0
    for decision in sorted((d for d in decisions if start <= d.at < end), key=_order):
        key = _near_key(decision)
        if key in seen:
            duplicates += 1
            continue
        seen.add(key)
        (train if decision.at < boundary else validation).append({"messages": _messages(decision, prompt)})
        outcomes.append(
            {
                "id": key,
                "split": "train" if decision.at < boundary else "validation",
                "line": (len(train) if decision.at < boundary else len(validation)) - 1,
                "decided_at": decision.at.isoformat(),
                "strategy": decision.strategy,
                "underlying": decision.underlying,
                "regime": decision.regime,
                "action": decision.action,
                "outcome_coin": decision.outcome_coin,
                "outcome_at": decision.outcome_at.isoformat() if decision.outcome_at else None,
            }
        )
    return Examples(tuple(train), tuple(validation), tuple(outcomes), duplicates)


def check_examples(examples: Examples, actions: Sequence[str]) -> None:
    """Refuse a file no provider would take or that leaks.

    Raises:
        DataError: a line breaks the chat schema, answers with an action that was not allowed or not by the answer's
            schema, or stands in both splits.
    """
    from jsonschema import Draft202012Validator

    line_schema = Draft202012Validator(EXAMPLE_SCHEMA)
    answer_schema = Draft202012Validator(load_prompt(DECISION).response_schema)
    for name, lines in (("train", examples.train), ("validation", examples.validation)):
        for number, line in enumerate(lines):
            problem = next(line_schema.iter_errors(line), None)
            if problem is None:
                answer = json.loads(line["messages"][-1]["content"])
                problem = next(answer_schema.iter_errors(answer), None)
                if problem is None and answer["action"] not in actions:
                    raise DataError(
                        f"action {answer['action']!r} is not allowed", place=f"{name} line {number}", remedy=f"one of {list(actions)}"
                    )
            if problem is not None:
                raise DataError(f"example breaks the chat schema: {problem.message}", place=f"{name} line {number}")
    both = {_line(e) for e in examples.train} & {_line(e) for e in examples.validation}
    if both:
        raise DataError(f"{len(both)} examples stand in train and validation", remedy="deduplicate before the split")


def write_week(lake: Lake, decisions: Sequence[Decision], week: str, *, inputs: Sequence[str]) -> Receipt:
    """Write a week's files under `training/week=.../` and the receipt, or return the receipt where nothing changed.

    Args:
        lake: where; paths are relative to the network.
        decisions: of any time; those outside the week are ignored.
        week: ISO week, `2026-W05`.
        inputs: what the decisions came from (run hashes), part of the fingerprint.

    Raises:
        DataError: the examples are not fit to be written (see `check_examples`).
        StorageError: they cannot be written.
    """
    prompt = load_prompt(DECISION)
    mark = fingerprint(TRAINING_VERSION, week, prompt.sha256, sorted(inputs))
    former = read_receipt(lake, STAGE, EVERYTHING, week)
    if former is not None and unchanged(lake, former, mark):
        return former
    examples = build_examples(decisions, week, prompt)
    check_examples(examples, sorted({a for d in decisions for a in d.actions}))
    folder = f"training/week={week}"
    contents = {f"{name}.jsonl": "".join(_line(e) + "\n" for e in lines) for name, lines in _files(examples)}
    digest = hashlib.sha256("".join(contents[n] for n in sorted(contents)).encode()).hexdigest()
    datasheet = _datasheet(examples, week, prompt, digest, inputs)
    contents["datasheet.json"] = json.dumps(datasheet, indent=1, sort_keys=True) + "\n"
    records = []
    for name, text in contents.items():
        data = text.encode()
        lake.files.write(f"{folder}/{name}", data)
        rows = text.count("\n") if name.endswith(".jsonl") else 0
        records.append(FileRecord(f"{folder}/{name}", rows, len(data), sha256_of(data)))
    counts = {
        "train": len(examples.train),
        "validation": len(examples.validation),
        "outcomes": sum(o["outcome_coin"] is not None for o in examples.outcomes),
        "duplicates": examples.duplicates,
    }
    receipt = Receipt(STAGE, EVERYTHING, week, mark, counts, tuple(records), datasheet)
    write_receipt(lake, receipt)
    return receipt


def _files(examples: Examples) -> tuple[tuple[str, Sequence[dict[str, Any]]], ...]:
    return ("train", examples.train), ("validation", examples.validation), ("outcomes", examples.outcomes)


def _datasheet(examples: Examples, week: str, prompt: Prompt, digest: str, inputs: Sequence[str]) -> dict[str, Any]:
    count = {
        name: dict(sorted(Counter(str(o[name]) for o in examples.outcomes).items()))
        for name in ("action", "regime", "strategy", "underlying")
    }
    enough = len(examples.train) >= LEAST_EXAMPLES
    return {
        "week": week,
        "sha256": digest,
        "prompt": {"name": prompt.name, "sha256": prompt.sha256},
        "label": "rule-based policy: the action the strategy's own rules took",
        "split": f"by time: the last {VALIDATION_SHARE:.0%} of the week is validation",
        "examples": {"train": len(examples.train), "validation": len(examples.validation), "near_duplicates_dropped": examples.duplicates},
        "by": count,
        "inputs": sorted(inputs),
        "usable": enough,
        "why_not": "" if enough else f"{len(examples.train)} training examples; fine-tuning takes at least {LEAST_EXAMPLES}",
    }


def _messages(decision: Decision, prompt: Prompt) -> list[dict[str, str]]:
    variables = {
        "exchange": "Deribit",
        "currency": "USDC" if "_USDC" in decision.underlying else decision.underlying,
        "strategy": decision.strategy,
        "rules": decision.rules,
        "time": f"{decision.at:%Y-%m-%d %H:%M}",
        "underlying": decision.underlying,
        "regime": decision.regime,
        "state": "\n".join(f"- {label}: {value:g}" for name, label, _ in SHOWN if (value := decision.state.get(name)) is not None)
        or "- none",
        "actions": ", ".join(decision.actions),
    }
    answer = json.dumps({"action": decision.action, "rationale": decision.rationale})
    return [*render(prompt, variables), {"role": "assistant", "content": answer}]


def _near_key(decision: Decision) -> str:
    state = [None if (v := decision.state.get(name)) is None else round(v, digits) for name, _, digits in SHOWN]
    text = json.dumps([decision.strategy, decision.underlying, decision.regime, decision.action, decision.actions, state])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _order(decision: Decision) -> tuple[object, ...]:
    return decision.at, decision.underlying, decision.strategy, decision.action


def _line(example: Mapping[str, Any]) -> str:
    return json.dumps(example, ensure_ascii=False, sort_keys=True)
