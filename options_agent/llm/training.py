"""Training examples: a week of decisions as chat JSONL, with what came of them kept apart.

An example holds what the desk knew at the decision and a choice: the rules' own (`expert`) or, in files of their own, the best by value
over the horizon (`hindsight`) and what a model chose in a live book (`live`). Values and outcomes, known only later, stand in other files
and never in a message. Fine-tuning is not here.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import DataError
from options_agent.lake.files import FileRecord, sha256_of
from options_agent.lake.receipts import Receipt, fingerprint, read_receipt, unchanged, write_receipt
from options_agent.llm.datasheet import MOST_A_REGIME, MOST_AT_ONCE, VALIDATION_SHARE, datasheet_of, leakage_checks
from options_agent.llm.drift import MUCH, SOME, drift
from options_agent.llm.prompts import DECISION, Prompt, load_prompt, render
from options_agent.llm.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from options_agent.lake.store import Lake

TRAINING_VERSION: Final = 3
STAGE: Final = "training"
EVERYTHING: Final = "all"
MOST_BYTES: Final = 512 * 1024 * 1024  # of one file, hosted fine-tuning
#: What an example answers with, by policy; never mixed in one file.
LABELS: Final = ("expert", "hindsight", "live")
_PREFIX: Final = {"expert": "", "hindsight": "hindsight_", "live": "live_"}
_HOUR: Final = dt.timedelta(hours=1)

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
        label: whose choice it was, of `LABELS`: `expert` the strategy's own rules, `live` a model's.
        state: features by the names in `SHOWN`; absent or None where the policy had none.
        outcome_coin: profit of the trade it concerned, coin, known at `outcome_at` only; None where none is attached.
        values: coin by allowed action over the horizon, known at `known_at` only (`llm.values`); None where they are not known.
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
    values: Mapping[str, float] | None = None
    known_at: dt.datetime | None = None
    label: str = "expert"


@dataclass(frozen=True, slots=True)
class Examples:
    """A week's examples, split by time; `outcomes` and `values` are keyed by the same ids and never shown to a model.

    `hindsight_*` hold the messages of `train` and `validation` with the best action by value; of train only what was known before
    validation began. `capped`: left out for `MOST_A_REGIME`; `redacted`: secrets taken out.
    """

    train: tuple[dict[str, Any], ...]
    validation: tuple[dict[str, Any], ...]
    outcomes: tuple[dict[str, Any], ...]
    duplicates: int
    values: tuple[dict[str, Any], ...] = ()
    hindsight_train: tuple[dict[str, Any], ...] = ()
    hindsight_validation: tuple[dict[str, Any], ...] = ()
    live_train: tuple[dict[str, Any], ...] = ()
    live_validation: tuple[dict[str, Any], ...] = ()
    capped: int = 0
    redacted: int = 0
    purged: int = 0


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


def build_examples(decisions: Iterable[Decision], week: str, prompt: Prompt, known: Sequence[str] = ()) -> Examples:
    """Render, deduplicate, cap and split a week's decisions.

    The last fifth of the week's time is validation; of near-duplicates only the earliest stays, wherever it fell, also where it fell in an
    earlier week, so that none stands on both sides. `known`: secrets of this desk, taken out whatever they look like.
    """
    start, end = week_bounds(week)
    boundary = start + (end - start) * (1 - VALIDATION_SHARE)
    some = sorted((d for d in decisions if d.at < end), key=_order)
    kept, duplicates, capped = _chosen(some, start)
    files: dict[str, list[dict[str, Any]]] = {f"{p}{split}": [] for p in _PREFIX.values() for split in ("train", "validation")}
    outcomes: list[dict[str, Any]] = []
    values: list[dict[str, Any]] = []
    redacted = purged = 0
    for decision in kept:
        key = near_key(decision)
        split = "train" if decision.at < boundary else "validation"
        question, answer, taken_out = chat_messages(decision, prompt, known)
        redacted += taken_out
        own = files[f"{_PREFIX[decision.label]}{split}"]
        own.append({"messages": [*question, answer]})
        about = {
            "id": hashlib.sha256(f"{key} {decision.at.isoformat()}".encode()).hexdigest()[:24],
            "split": split,
            "label": decision.label,
            "line": len(own) - 1,
            "decided_at": decision.at.isoformat(),
            "strategy": decision.strategy,
            "underlying": decision.underlying,
            "regime": decision.regime,
            "action": decision.action,
        }
        came = {"outcome_coin": decision.outcome_coin, "outcome_at": decision.outcome_at.isoformat() if decision.outcome_at else None}
        outcomes.append(about | came)
        hindsight_line = None
        if decision.values is not None and decision.known_at is not None:
            if split == "train" and decision.known_at > boundary:
                purged += 1  # its label would tell of the time that validates it
            else:
                later = files[f"hindsight_{split}"]
                later.append({"messages": [*question, _answer(best_action(decision), _hindsight(decision))]})
                hindsight_line = len(later) - 1
        values.append(
            about
            | {
                "near_key": key,
                "actions": list(decision.actions),
                "values": dict(decision.values) if decision.values is not None else None,
                "known_at": decision.known_at.isoformat() if decision.known_at else None,
                "hindsight_line": hindsight_line,
            }
        )
    return Examples(
        outcomes=tuple(outcomes),
        values=tuple(values),
        duplicates=duplicates,
        capped=capped,
        redacted=redacted,
        purged=purged,
        **{name: tuple(lines) for name, lines in files.items()},
    )


def _chosen(some: Sequence[Decision], start: dt.datetime) -> tuple[list[Decision], int, int]:
    """The decisions from `start` on that stay, how many were near-duplicates, and how many over the cap of their regime.

    The cap grows with the week, so that no part of the week is left out and nothing that comes later decides what stays; of those of
    an hour chance decides, by their keys.
    """
    seen = {near_key(d) for d in some if d.at < start}
    kept: list[Decision] = []
    given: Counter[str] = Counter()
    duplicates = capped = 0
    for hour, group in groupby((d for d in some if d.at >= start), key=lambda d: (d.at - start) // _HOUR):
        most = MOST_AT_ONCE + (MOST_A_REGIME - MOST_AT_ONCE) * (hour + 1) // (7 * 24)
        fresh: dict[str, Decision] = {}
        for decision in group:
            key = near_key(decision)
            if key in seen:
                duplicates += 1
                continue
            seen.add(key)
            fresh[key] = decision
        for key in sorted(fresh):
            given[fresh[key].regime] += 1
            if given[fresh[key].regime] > most:
                given[fresh[key].regime] -= 1
                capped += 1
                fresh.pop(key)
        kept += fresh.values()
    return kept, duplicates, capped


def best_action(decision: Decision) -> str:
    """The allowed action worth most over the horizon; of equals the one that trades nothing, then the first.

    Raises:
        DataError: its values are not known.
    """
    values = decision.values
    if values is None:
        raise DataError("the best action of a decision without values is not known", place=decision.at.isoformat())
    return max(decision.actions, key=lambda a: (values[a], a in {"hold", "skip"}))


def check_examples(examples: Examples, actions: Sequence[str]) -> None:
    """Refuse a file no provider would take or that leaks.

    Raises:
        DataError: a line breaks the chat schema, answers with an action that was not allowed or not by the answer's
            schema, or stands in both splits.
    """
    from jsonschema import Draft202012Validator

    line_schema = Draft202012Validator(EXAMPLE_SCHEMA)
    answer_schema = Draft202012Validator(load_prompt(DECISION).response_schema)
    for name, lines in _chat(examples):
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
        if (size := sum(len(_line(e).encode()) + 1 for e in lines)) > MOST_BYTES:
            raise DataError(f"{name} has {size} bytes, providers take {MOST_BYTES}")
    failed = [leak for leak, result in leakage_checks(examples).items() if result != "passed"]
    if failed:
        raise DataError(f"examples leak: {'; '.join(failed)}", remedy="deduplicate and split by time")


def write_week(lake: Lake, decisions: Sequence[Decision], week: str, *, inputs: Sequence[str], known: Sequence[str] = ()) -> Receipt:
    """Write a week's files under `training/week=.../` and the receipt, or return the receipt where nothing changed.

    Args:
        lake: where; paths are relative to the network.
        decisions: of any time; those outside the week are ignored.
        week: ISO week, `2026-W05`.
        inputs: what the decisions came from (run hashes), part of the fingerprint.
        known: secrets of this desk, taken out whatever they look like.

    Raises:
        DataError: the examples are not fit to be written (see `check_examples`).
        StorageError: they cannot be written.
    """
    prompt = load_prompt(DECISION)
    mark = fingerprint(TRAINING_VERSION, week, prompt.sha256, sorted(inputs))
    former = read_receipt(lake, STAGE, EVERYTHING, week)
    if former is not None and unchanged(lake, former, mark):
        return former
    examples = build_examples(decisions, week, prompt, known)
    check_examples(examples, sorted({a for d in decisions for a in d.actions}))
    folder = f"training/week={week}"
    contents = {f"{name}.jsonl": "".join(_line(e) + "\n" for e in lines) for name, lines in _files(examples)}
    digest = hashlib.sha256("".join(contents[n] for n in sorted(contents)).encode()).hexdigest()
    datasheet = datasheet_of(examples, week, prompt, digest, inputs)
    datasheet["drift"] = _drift(decisions, week)
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
        "hindsight": len(examples.hindsight_train) + len(examples.hindsight_validation),
        "live": len(examples.live_train) + len(examples.live_validation),
    }
    receipt = Receipt(STAGE, EVERYTHING, week, mark, counts, tuple(records), datasheet)
    write_receipt(lake, receipt)
    return receipt


def _files(examples: Examples) -> tuple[tuple[str, Sequence[dict[str, Any]]], ...]:
    return (*_chat(examples), ("outcomes", examples.outcomes), ("values", examples.values))


def _chat(examples: Examples) -> tuple[tuple[str, Sequence[dict[str, Any]]], ...]:
    return (
        ("train", examples.train),
        ("validation", examples.validation),
        ("hindsight_train", examples.hindsight_train),
        ("hindsight_validation", examples.hindsight_validation),
        ("live_train", examples.live_train),
        ("live_validation", examples.live_validation),
    )


def _drift(decisions: Sequence[Decision], week: str) -> dict[str, Any]:
    start, end = week_bounds(week)
    now, before = ([d for d in decisions if low <= d.at < high] for low, high in ((start, end), (start - (end - start), start)))
    columns = [
        {name: [d.state.get(name) for d in some] for name, _, _ in SHOWN} | {"action": [d.action for d in some]} for some in (now, before)
    ]
    found = drift(columns[0], columns[1])
    return {"against": f"{start - (end - start):%G-W%V}", "thresholds": {"some": SOME, "much": MUCH}, "by_feature": found}


def chat_messages(decision: Decision, prompt: Prompt, known: Sequence[str] = ()) -> tuple[list[dict[str, str]], dict[str, str], int]:
    """The question, the rules' answer, and how many secrets were taken out of both."""
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
    redacted = 0
    for name, text in variables.items():
        variables[name], count = redact(text, known)
        redacted += count
    rationale, count = redact(decision.rationale, known)
    return render(prompt, variables), _answer(decision.action, rationale), redacted + count


def _answer(action: str, rationale: str) -> dict[str, str]:
    return {"role": "assistant", "content": json.dumps({"action": action, "rationale": rationale})}


def _hindsight(decision: Decision) -> str:
    """Words of a hindsight label: nothing but the state, for the reason lies in what came later."""
    shown = [f"{label.split(',')[0]} {value:.4g}" for name, label, _ in SHOWN if (value := decision.state.get(name)) is not None]
    return f"By {', '.join(shown[:4])}." if shown else "By the regime alone."


def near_key(decision: Decision) -> str:
    """What near-duplicates share, and an example's id."""
    state = [None if (v := decision.state.get(name)) is None else round(v, digits) for name, _, digits in SHOWN]
    text = json.dumps([decision.strategy, decision.underlying, decision.regime, decision.action, decision.actions, state])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _order(decision: Decision) -> tuple[object, ...]:
    return decision.at, decision.underlying, decision.strategy, decision.action, decision.label


def _line(example: object) -> str:
    return json.dumps(example, ensure_ascii=False, sort_keys=True)
