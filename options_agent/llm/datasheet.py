"""Datasheet of a week of training examples, and the checks for leaks it reports."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from options_agent.llm.values import HORIZON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from options_agent.llm.prompts import Prompt
    from options_agent.llm.training import Examples

LEAST_EXAMPLES: Final = 10  # what hosted fine-tuning accepts at least
VALIDATION_SHARE: Final = 0.2
#: A regime gives a week at most so many examples: so many at once, the rest hour by hour. `training_sets` balances over weeks.
MOST_A_REGIME, MOST_AT_ONCE = 400, 100


def leakage_checks(examples: Examples) -> dict[str, str]:
    """Every check for leaks by what it demands, and `passed` or what was found."""
    times = {split: [o["decided_at"] for o in examples.outcomes if o["split"] == split] for split in ("train", "validation")}
    splits = (examples.train + examples.live_train, examples.validation + examples.live_validation)
    asked = [{_text(e["messages"][:-1]) for e in lines} for lines in splits]
    both = [{_text(e) for e in lines} for lines in splits]
    keys = [v["near_key"] for v in examples.values]
    began = min(times["validation"], default=None)
    early = [v for v in examples.values if v["split"] == "train" and v["hindsight_line"] is not None]
    found = {
        "validation is later than train": max(times["train"], default="") < (began or "9"),
        "no line stands in train and validation": not both[0] & both[1],
        "no question stands in train and validation": not asked[0] & asked[1],
        "no near-duplicate is left": len(keys) == len(set(keys)),
        "every value is known after its decision": all(v["known_at"] is None or v["known_at"] > v["decided_at"] for v in examples.values),
        "hindsight labels of train are known before validation began": all(v["known_at"] <= (began or "9") for v in early),
    }
    return {name: "passed" if good else "failed" for name, good in found.items()}


def datasheet_of(examples: Examples, week: str, prompt: Prompt, digest: str, inputs: Sequence[str]) -> dict[str, Any]:
    """A week's data described: labels, split, counts, balance, what was left out and why, and the leakage checks."""
    count = {
        name: dict(sorted(Counter(str(o[name]) for o in examples.outcomes).items()))
        for name in ("action", "regime", "strategy", "underlying")
    }
    enough = len(examples.train) >= LEAST_EXAMPLES
    return {
        "week": week,
        "sha256": digest,
        "prompt": {"name": prompt.name, "sha256": prompt.sha256},
        "labels": {
            "expert": "train.jsonl, validation.jsonl: the action the strategy's own rules took",
            "hindsight": "hindsight_*.jsonl: the action worth most, in coin at executable prices, over "
            f"{HORIZON.days} days or until expiry; known only then, for study and never for a claim of skill",
            "live": "live_*.jsonl: the action a model took in a live (paper) book; what a model said, not what was right",
        },
        "near_duplicates": "same strategy, underlying, regime, action and shown state to a few digits; the earliest stays, over weeks",
        "balance": f"at most {MOST_A_REGIME} examples a regime, {MOST_AT_ONCE} at once and the rest spread over the week; "
        "over weeks see llm/training_sets.py",
        "leakage": leakage_checks(examples),
        "split": f"by time: the last {VALIDATION_SHARE:.0%} of the week is validation",
        "examples": {
            "train": len(examples.train),
            "validation": len(examples.validation),
            "near_duplicates_dropped": examples.duplicates,
            "over_the_cap_dropped": examples.capped,
            "hindsight_train": len(examples.hindsight_train),
            "hindsight_validation": len(examples.hindsight_validation),
            "hindsight_purged": examples.purged,
            "live_train": len(examples.live_train),
            "live_validation": len(examples.live_validation),
            "with_values": sum(v["values"] is not None for v in examples.values),
            "secrets_redacted": examples.redacted,
        },
        "by": count,
        "inputs": sorted(inputs),
        "usable": enough,
        "why_not": "" if enough else f"{len(examples.train)} training examples; fine-tuning takes at least {LEAST_EXAMPLES}",
    }


def _text(example: object) -> str:
    return json.dumps(example, ensure_ascii=False, sort_keys=True)
