"""The comparison of runs as one document: aligned figures, differences in words, and each run against the base, trade by trade."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.aligned import common_range, cut, cut_equity, iso, measured, of_capital, plain
from options_agent.backtest.differences import Difference, differences, settles_in
from options_agent.backtest.metrics import daily_returns
from options_agent.backtest.paired import correlation, growth_on_days, method, paired
from options_agent.backtest.saved_runs import times
from options_agent.backtest.trade_diff import KINDS, none, trade_diff
from options_agent.backtest.uncertainty import CONFIDENCE, deflated, odds_above, spread
from options_agent.contracts import coin_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from options_agent.backtest.aligned import Cut, Range
    from options_agent.backtest.saved_runs import SavedRun

DIFF_VERSION: Final = 1
CURRENCIES: Final = ("coin", "usd")
#: Fewer mean blocks than this in the days of a pair, and its intervals are a hint only.
FEW_BLOCKS: Final = 5

_NUMBER: Final = {"type": ["number", "null"]}
_TEXT: Final = {"type": "string"}
_BOTH: Final = {"type": "object", "required": ["coin", "usd"]}
_RANGE: Final = {"type": ["object", "null"], "required": ["start", "end", "days"]}
_WITH_INTERVAL: Final = {"type": "object", "required": ["value", "low", "high", "odds"], "additionalProperties": _NUMBER}
_FIGURES: Final[dict[str, Any]] = {
    "type": ["object", "null"],
    "required": ["metrics", "uncertainty", "deflated_sharpe"],
    "properties": {
        "metrics": {"type": "object", "additionalProperties": _NUMBER},
        "uncertainty": {"type": ["object", "null"], "required": ["intervals"]},
        "deflated_sharpe": {**_BOTH, "additionalProperties": _NUMBER},
    },
}
#: JSON schema of the document of this version; `docs/compare.md` says what is in it.
DIFF_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["schema_version", "looks", "base", "common_range", "method", "runs", "differences", "pairs", "correlation", "series"],
    "additionalProperties": False,
    "properties": {
        "schema_version": {"const": DIFF_VERSION},
        "looks": {"type": "integer", "minimum": 2},
        "base": _TEXT,
        "common_range": _RANGE,
        "method": {"type": "object", "required": ["confidence", "resamples", "bootstrap"]},
        "runs": {
            "type": "array",
            "minItems": 2,
            "items": {
                "type": "object",
                "required": ["label", "run", "name", "strategy", "underlying", "coin", "currency", "status", "range", "whole", "common"],
                "properties": {
                    "run": {"type": "string", "pattern": "^[0-9a-f]{12}$"},
                    "status": {"enum": ["ok", "inconclusive"]},
                    "whole": _FIGURES,
                    "common": _FIGURES,
                },
            },
        },
        "differences": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["what", "matters", "runs", "says"],
                "properties": {"what": _TEXT, "matters": {"type": "boolean"}, "runs": {"type": "array", "items": _TEXT}, "says": _TEXT},
            },
        },
        "pairs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["base", "other", "range", "daily", "trades", "says"],
                "properties": {
                    "range": _RANGE,
                    "daily": {
                        "type": ["object", "null"],
                        "required": ["coin", "usd"],
                        "additionalProperties": {
                            "type": "object",
                            "required": ["days", "correlation", "equity_difference", "return_difference", "sharpe_difference"],
                            "properties": {
                                "correlation": _NUMBER,
                                "return_difference": _WITH_INTERVAL,
                                "sharpe_difference": _WITH_INTERVAL,
                            },
                        },
                    },
                    "trades": {
                        "type": "object",
                        "required": ["compared", "why", "counts", "difference_coin", "effects_coin", "terms", "outside", "exits", "trades"],
                        "properties": {
                            "trades": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["kind", "opened_at", "base", "other", "difference_coin", "effects_coin", "terms", "why"],
                                    "properties": {"kind": {"enum": list(KINDS)}, "why": {"type": "array", "items": _TEXT}},
                                },
                            },
                        },
                    },
                },
            },
        },
        "correlation": {"type": ["object", "null"], "required": ["labels", "coin", "usd"]},
        "series": {"type": ["object", "null"], "required": ["at", "runs"]},
    },
}


def compare_runs(runs: Sequence[SavedRun], *, among: Sequence[Mapping[str, Any]] = (), said: Sequence[str] = ()) -> dict[str, Any]:
    """Compare two runs or more.

    Figures of `common` are measured anew on the time that all runs cover, from their saved tables; those of `whole` are the reports'.
    A pair is compared on the time that the two cover, which may be longer.

    Args:
        runs: the base first, as `find_runs` gives them.
        among: every report that was looked at, these or others; the deflated Sharpe ratio counts them all.
        said: sentences about the request itself, that go first among the differences.

    Returns:
        Plain data by `DIFF_SCHEMA`; what is not defined is None.
    """
    reports = {r["run"]: r for r in [*among, *(run.report for run in runs)]}
    common = common_range(runs)
    cuts: dict[str, Cut | None] = {run.label: cut(run, common) if common else None for run in runs}
    asked = [Difference("request", False, (), sentence).as_dict() for sentence in said]
    pairs = [pair(runs[0], other) for other in runs[1:]]
    document: dict[str, Any] = plain(
        {
            "schema_version": DIFF_VERSION,
            "looks": len(reports) if len(reports) > 1 else len(runs),
            "base": runs[0].label,
            "common_range": common.as_dict() if common else None,
            "method": method(),
            "runs": _figures(runs, cuts, list(reports.values())),
            "differences": asked + [d.as_dict() for d in differences(runs, common, cuts)],
            "pairs": pairs,
            "correlation": _correlations(cuts) if common else None,
            "series": _series(cuts) if common else None,
        }
    )
    return document


def pair(base: SavedRun, other: SavedRun) -> dict[str, Any]:
    """One run against the base, on the time that these two cover."""
    within = common_range((base, other))
    found: dict[str, Any] = {"base": base.label, "other": other.label, "range": within.as_dict() if within else None, "daily": None}
    if within is None:
        why = f"{base.label} and {other.label} share no time"
        if not (base.ts.size and other.ts.size):
            why = f"{base.label if not base.ts.size else other.label} has no equity"
        return found | {"trades": none(why), "says": [f"{why}: the two are not compared."]}
    mine, theirs = cut(base, within), cut(other, within)
    if mine is not None and theirs is not None:
        found["daily"] = paired(mine.equity, theirs.equity)
    found["trades"] = trade_diff(base, other, within)
    return found | {"says": verdict(base, other, within, found)}


def verdict(base: SavedRun, other: SavedRun, within: Range, found: Mapping[str, Any]) -> list[str]:
    """What to take away of a pair, each a sentence."""
    days = f"over {within.days:.0f} days"
    said = []
    # coins of two kinds do not subtract: only USD is one measure for both
    for currency in CURRENCIES if coin_of(base.underlying) == coin_of(other.underlying) else ("usd",):
        gap = found["daily"][currency]["return_difference"]
        name = "USD" if currency == "usd" else coin_of(base.underlying)
        if gap["value"] is None or not np.isfinite(gap["value"]):
            said.append(f"In {name} no difference of return is defined.")
            continue
        if gap["value"] == 0:
            said.append(f"In {name} {other.label} returned exactly what {base.label} did {days}.")
            continue
        more = "more" if gap["value"] > 0 else "less"
        words = f"In {name} {other.label} returned {abs(100 * gap['value']):.2f} points {more} than {base.label} {days}"
        within_words = (
            "" if gap["low"] is None else f"the {100 * CONFIDENCE:.0f} % interval, {100 * gap['low']:+.2f} to {100 * gap['high']:+.2f}"
        )
        if gap["low"] is None:
            said.append(f"{words}; too few days, or none that vary, for an interval: this proves nothing.")
        elif gap["low"] <= 0 <= gap["high"]:
            said.append(f"{words}; {within_words}, holds 0: the days do not tell them apart.")
        else:
            said.append(f"{words}; {within_words}, leaves 0 out.")
    said += _few_blocks(found["daily"])
    trades = found["trades"]
    if not trades["compared"]:
        return [*said, f"Trades are not matched: {trades['why']}."]
    n = trades["counts"]
    counted = (
        f"Trades: {n['same']} the same, {n['other_terms']} on other terms, {n['other_contracts']} at the same time in other contracts, "
        f"{n['only_base']} only in {base.label}, {n['only_other']} only in {other.label}."
    )
    return [*said, counted]


def _few_blocks(daily: Mapping[str, Any]) -> list[str]:
    """A warning where the days depend on each other so long that there are hardly any independent stretches of them."""
    blocks = {c: d["days"] / d["block_days"] for c, d in daily.items() if d["block_days"]}
    few = {("USD" if c == "usd" else c): n for c, n in blocks.items() if n < FEW_BLOCKS}
    if not few:
        return []
    words = " and ".join(f"in {c} on some {max(n, 1):.0f}" for c, n in few.items())
    return [f"The days depend on each other: the intervals rest {words} independent stretches of them. Read them as a hint."]


def curves(runs: Sequence[SavedRun]) -> dict[str, pa.Table]:
    """Equity tables to draw, by label: cut to the time that all share, or each whole where they share none."""
    common = common_range(runs)
    return {run.label: cut_equity(run.equity, common) if common else run.equity for run in runs if run.equity is not None and run.ts.size}


def _figures(runs: Sequence[SavedRun], cuts: Mapping[str, Cut | None], among: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    whole = {c: deflated(among, c) for c in CURRENCIES}
    parts = {label: None if part is None else measured(run, part) for run in runs for label, part in cuts.items() if run.label == label}
    found = []
    for run in runs:
        part = parts[run.label]
        if part is not None:
            looks, days = [r["metrics"] for r in among], part["metrics"]["days"]
            part["deflated_sharpe"] = {c: odds_above(part["metrics"], c, len(among), spread(looks, c, days)) for c in CURRENCIES}
        found.append(
            {
                "label": run.label,
                "run": run.run,
                "name": run.path.stem,
                "strategy": run.strategy,
                "in_words": run.report["strategy"].get("in_words"),
                "underlying": run.underlying,
                "coin": coin_of(run.underlying),
                "currency": settles_in(run.underlying),
                "status": run.report["status"],
                "status_reasons": list(run.report.get("status_reasons") or []),
                "range": {name: run.report["range"].get(name) for name in ("start", "end", "snapshots")},
                "problems": list(run.problems),
                "code": {name: run.report["provenance"].get(name) for name in ("code_version", "code_commit", "code_sha256")},
                "data_fingerprint": run.report["provenance"].get("data_fingerprint"),
                "whole": {
                    "metrics": run.report["metrics"]
                    | (of_capital(run.report["metrics"], run.equity) if run.equity is not None and run.ts.size else {}),
                    "uncertainty": run.report.get("uncertainty"),
                    "deflated_sharpe": {c: whole[c].get(run.run) for c in CURRENCIES},
                },
                "common": part,
            }
        )
    return found


def _correlations(cuts: Mapping[str, Cut | None]) -> dict[str, Any]:
    """Of daily returns on the common range, run by run; the diagonal is 1."""
    parts = {label: part for label, part in cuts.items() if part is not None}
    labels = list(parts)
    found: dict[str, Any] = {"labels": labels}
    for currency in CURRENCIES:
        returns = {
            label: daily_returns(times(part.equity, "ts"), part.equity[f"equity_{currency}"].to_numpy()) for label, part in parts.items()
        }
        matrix: list[list[float]] = [[1.0] * len(labels) for _ in labels]
        for (i, a), (j, b) in combinations(enumerate(labels), 2):
            matrix[i][j] = matrix[j][i] = correlation(returns[a], returns[b])
        found[currency] = matrix
    return found


def _series(cuts: Mapping[str, Cut | None]) -> dict[str, Any]:
    """Equity over its value at the start of the common range, day by day, and its difference from the base's."""
    parts = {label: part for label, part in cuts.items() if part is not None}
    at: list[str | None] = []
    found: dict[str, Any] = {}
    for label, part in parts.items():
        grids = {c: growth_on_days(part.equity, c) for c in CURRENCIES}
        at = [iso(int(t)) for t in grids["coin"][0]]
        found[label] = {c: grids[c][1].tolist() for c in CURRENCIES}
    first = next(iter(found.values()))
    for values in found.values():
        for c in CURRENCIES:
            values[f"less_base_{c}"] = [v - b for v, b in zip(values[c], first[c], strict=True)]
    return {"at": at, "runs": found}
