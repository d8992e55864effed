"""What differs between runs besides their results, in words: a number that two runs do not share the terms of is not compared by it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.aligned import drawdowns_on_shared, holes, inside, iso, lacking, spacing, tolerance
from options_agent.contracts import coin_of, settlement_of
from options_agent.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from options_agent.backtest.aligned import Cut, Range
    from options_agent.backtest.saved_runs import SavedRun

#: A range is short where it has fewer whole days than ratios and intervals need.
SHORT_DAYS: Final = 11
#: So many holes are named; the rest are counted.
_NAMED: Final = 3
_ABSENT: Final = "-"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Attributes:
        what: its kind; `docs/compare.md` lists them.
        matters: whether figures are read otherwise because of it; the rest is for the record.
        runs: labels of the runs it is of.
        says: the sentence.
    """

    what: str
    matters: bool
    runs: tuple[str, ...]
    says: str

    def as_dict(self) -> dict[str, Any]:
        """For the document."""
        return {**asdict(self), "runs": list(self.runs)}


def differences(runs: Sequence[SavedRun], common: Range | None, cuts: Mapping[str, Cut | None]) -> list[Difference]:
    """Everything that differs, what matters first.

    Args:
        runs: two or more; the base first.
        common: the time they share, None where there is none.
        cuts: each run within it, by label.
    """
    found = [
        *_problems(runs),
        *_statuses(runs),
        *_provisos(runs),
        *_same_hash(runs),
        *_ranges(runs, common),
        *_underlyings(runs),
        *_capital(runs),
        *_rules(runs),
        *_settings(runs),
        *_data(runs, common),
        *_code(runs),
        *(_snapshots(runs, common) if common else []),
        *_edges(cuts),
    ]
    return sorted(found, key=lambda d: not d.matters)


def _problems(runs: Sequence[SavedRun]) -> list[Difference]:
    found = []
    for run in runs:
        for problem in run.problems:
            kind = "schema" if "schema version" in problem else "tables"
            found.append(Difference(kind, True, (run.label,), f"{run.label}: {problem}."))
        if run.equity is None:
            says = f"{run.label} has no equity to align: only the whole-range figures of its report stand here."
            found.append(Difference("tables", True, (run.label,), says))
        elif run.ts.size == 0:
            found.append(Difference("empty", True, (run.label,), f"{run.label} is empty: it has no snapshot."))
        elif run.trades is not None and run.trades.num_rows == 0:
            found.append(Difference("empty", True, (run.label,), f"{run.label} never traded: its equity is what it started with."))
    return found


def _statuses(runs: Sequence[SavedRun]) -> list[Difference]:
    return [
        Difference(
            "status", True, (r.label,), f"{r.label} is INCONCLUSIVE: {'; '.join(r.report.get('status_reasons') or ['no reason given'])}."
        )
        for r in runs
        if r.report["status"] != "ok"
    ]


def _provisos(runs: Sequence[SavedRun]) -> list[Difference]:
    return [Difference("proviso", True, (r.label,), f"{r.label}: {said}.") for r in runs for said in r.report.get("provisos") or []]


def _same_hash(runs: Sequence[SavedRun]) -> list[Difference]:
    found = []
    for run_hash, labels in _groups({r.label: r.run for r in runs}).items():
        if len(labels) > 1:
            says = f"{_and(labels)} are one run ({run_hash}) in several files: any difference of their results is damage, not a finding."
            found.append(Difference("same_run", True, tuple(labels), says))
    return found


def _ranges(runs: Sequence[SavedRun], common: Range | None) -> list[Difference]:
    spans = {r.label: (str(r.report["range"]["start"])[:16], str(r.report["range"]["end"])[:16]) for r in runs}
    labels = tuple(spans)
    if common is None:
        if sum(r.ts.size > 0 for r in runs) < 2:
            return []
        words = _grouped({label: _span(*span) for label, span in spans.items()})
        says = f"There is no time that all of them cover ({words}): nothing is measured anew, and whole-range figures are of other markets."
        return [Difference("no_overlap", True, labels, says)]
    found = []
    if len(set(spans.values())) > 1:
        words = _grouped({label: _span(*span) for label, span in spans.items()})
        shared = f"Figures are measured anew on the time they share, {_of_range(common)}; the whole range stands beside."
        says = f"Different ranges ({words}). {shared}"
        found.append(Difference("range", True, labels, says))
    if common.days < SHORT_DAYS:
        says = f"They share {common.days:.1f} days: too few for ratios, correlations and intervals."
        found.append(Difference("short", True, labels, says))
    return found


def _underlyings(runs: Sequence[SavedRun]) -> list[Difference]:
    of = {r.label: r.underlying for r in runs}
    if len(set(of.values())) == 1:
        return []
    how = "No trade is matched between them."
    if len({coin_of(name) for name in of.values()}) > 1:
        how = (
            "Returns in coin are each of its own coin. Compare in USD, and in share of the capital; amounts in coin do not compare, "
            "and no trade is matched between them."
        )
    says = f"Different underlyings ({_grouped(of)}). {how}"
    found = [Difference("underlying", True, tuple(of), says)]
    settles = {label: settles_in(name) for label, name in of.items()}
    if len(set(settles.values())) > 1:
        found.append(Difference("currency", True, tuple(of), f"Settled in different currencies: {_grouped(settles)}."))
    return found


def settles_in(underlying: str) -> str:
    """The currency profits are booked in: BTC, ETH, USDC."""
    try:
        return underlying if settlement_of(underlying) == "coin" else underlying.partition("_")[2]
    except DataError:
        return underlying.partition("_")[2]


def _capital(runs: Sequence[SavedRun]) -> list[Difference]:
    started = {r.label: _capital_words(r) for r in runs}
    if len(set(started.values())) == 1:
        return []
    says = f"Different capital at the start ({_grouped(started)}): read returns and shares; amounts in coin and USD do not compare."
    return [Difference("capital", True, tuple(started), says)]


def _capital_words(run: SavedRun) -> str:
    capital = run.report.get("capital") or {}
    coin, usd = capital.get("coin") or 0.0, capital.get("usd") or 0.0
    parts = ([f"{coin:g} {coin_of(run.underlying)}"] if coin else []) + ([f"{usd:,.0f} USD"] if usd else [])
    return " and ".join(parts) or "unknown"


def _rules(runs: Sequence[SavedRun]) -> list[Difference]:
    """One entry for other strategies, one for each rule in which runs of one strategy differ."""
    names = {r.label: r.strategy for r in runs}
    if len(set(names.values())) > 1:
        words = {r.label: f"{r.strategy}: {str(r.report['strategy'].get('in_words') or 'rules unknown').rstrip('.')}" for r in runs}
        return [Difference("strategy", True, tuple(names), f"Different strategies. {_grouped(words, '. ')}.")]
    skip = ("in_words", "description")
    rules = {r.label: {k: v for k, v in flat(r.report["strategy"]).items() if k.partition(".")[0] not in skip} for r in runs}
    return [Difference("strategy", True, tuple(names), f"Rule {name}: {words}.") for name, words in _unequal(rules)]


def _settings(runs: Sequence[SavedRun]) -> list[Difference]:
    found = []
    silent = tuple(r.label for r in runs if not r.report["provenance"].get("settings"))
    if silent:
        says = f"What {_and(silent)} was played with is not known: its report has no settings."
        found.append(Difference("settings", True, silent, says))
    settings = {r.label: flat(r.report["provenance"]["settings"]) for r in runs if r.label not in silent}
    for name, words in _unequal(settings):
        if name == "capital_coin":
            continue  # said as what the account started with
        if any(name not in of_run for of_run in settings.values()):
            says = f"Setting {name} is not in every report, so it came with another version: {words}."
            found.append(Difference("settings", False, tuple(settings), says))
        elif "fee" in name:
            found.append(Difference("fees", True, tuple(settings), f"Different fees, {name}: {words}."))
        else:
            found.append(Difference("settings", True, tuple(settings), f"Setting {name}: {words}."))
    return found


def _data(runs: Sequence[SavedRun], common: Range | None) -> list[Difference]:
    prints = {r.label: _short(r.report["provenance"].get("data_fingerprint")) for r in runs}
    if len(set(prints.values())) == 1:
        return []
    if len({r.underlying for r in runs}) > 1:
        return [Difference("data", False, tuple(prints), "Each underlying has data of its own; versions are not compared across them.")]
    by_day = {r.label: {str(d.get("day")): d.get("sha256") for d in r.report["provenance"].get("data") or []} for r in runs}
    days = sorted(set().union(*by_day.values()))
    if common is not None:
        first, last = str(iso(common.start))[:10], str(iso(common.end))[:10]
        days = [d for d in days if not d[:4].isdigit() or first <= d <= last]
    changed = [d for d in days if len({h[d] for h in by_day.values() if d in h}) > 1]
    found = []
    if changed:
        where = f"{_of(len(changed), 'day')} of the time they share ({_some(changed)})"
        says = f"The data differ on {where}: quotes were corrected or harvested anew."
        found.append(Difference("data", True, tuple(prints), says))
    for label, hashes in by_day.items():
        without = [d for d in days if d not in hashes]
        if without and hashes:
            says = f"{label} has no data on {_of(len(without), 'day')} that another run has ({_some(without)})."
            found.append(Difference("data", True, (label,), says))
    if not found:
        where = "outside the time they share" if common else "somewhere"
        says = f"Data fingerprints differ ({_grouped(prints)}), by days {where} or by prices, which are not hashed by day."
        found.append(Difference("data", not any(by_day.values()), tuple(prints), says))
    return found


def _code(runs: Sequence[SavedRun]) -> list[Difference]:
    provenance = {r.label: r.report["provenance"] for r in runs}
    sources = {label: _short(p.get("code_sha256")) for label, p in provenance.items()}
    if len(set(sources.values())) == 1:
        return []
    versions = {
        label: f"version {p.get('code_version') or 'unknown'}, commit {p.get('code_commit') or 'unknown'}, sources {sources[label]}"
        for label, p in provenance.items()
    }
    says = f"Different code ({_grouped(versions)}): to be sure that it changes nothing, run both again with one version."
    return [Difference("code", True, tuple(sources), says)]


def _snapshots(runs: Sequence[SavedRun], common: Range) -> list[Difference]:
    near = tolerance(runs)
    known = [r for r in runs if r.ts.size]
    lacks, gapped = {}, {}
    for run in known:
        everyone = np.unique(np.concatenate([inside(other.ts, common) for other in known if other is not run]))
        absent = everyone[lacking(everyone, run.ts, near)]
        if absent.size:
            # the others' clocks are some seconds apart, too: one moment is counted once
            moments = 1 + int((np.diff(absent) > near).sum())
            lacks[run.label] = f"{_of(moments, 'snapshot')} that another run has, the first {_at(absent[0])}"
        gaps = holes(run.ts, common)
        if gaps:
            named = "; ".join(f"{_at(a)} to {_at(b)}" for a, b in gaps[:_NAMED]) + (" and more" if len(gaps) > _NAMED else "")
            gapped[run.label] = f"{_of(len(gaps), 'hole')} ({named}); the longest is {max(b - a for a, b in gaps) / 3.6e9:.0f} h"
    then = "there equity stands at the last value known, and nothing could be decided"
    found = [Difference("snapshots", True, tuple(of), f"{_lacks(of)} {words}: {then}.") for words, of in _groups(lacks).items()]
    found += [Difference("holes", True, tuple(of), f"{_has(of)} {words}.") for words, of in _groups(gapped).items()]
    if any(d.what == "snapshots" for d in found):
        found += _spacing(known, common)
        if shared := drawdowns_on_shared(known, common):
            words = ", ".join(f"{label} {100 * v['coin']:.2f} % in coin and {100 * v['usd']:.2f} % in USD" for label, v in shared.items())
            says = f"Largest drawdown as seen at the snapshots all of them have: {words}. Fewer looks see shallower falls."
            found.append(Difference("snapshots", True, tuple(shared), says))
    return found


def _spacing(runs: Sequence[SavedRun], common: Range) -> list[Difference]:
    steps = {r.label: f"{spacing(inside(r.ts, common)) / 3.6e9:.3g} h" for r in runs}
    if len(set(steps.values())) == 1:
        return []
    return [Difference("snapshots", True, tuple(steps), f"Usual time between snapshots: {_grouped(steps)}.")]


def _edges(cuts: Mapping[str, Cut | None]) -> list[Difference]:
    found = []
    for label, part in cuts.items():
        if part is not None and part.before:
            says = (
                f"{label} enters the common range with {_of(part.before, 'trade')} open: in its equity and fees, "
                "not in the figures of trades, which are of those opened within."
            )
            found.append(Difference("edges", False, (label,), says))
    return found


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested settings as one level: {`exit.take_profit`: 0.5, `legs.0.target`: 0.25}; an empty list or group is itself."""
    if isinstance(value, dict) and value:
        items: Any = value.items()
    elif isinstance(value, (list, tuple)) and any(isinstance(v, (dict, list)) for v in value):
        items = enumerate(value)
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for key, inner in items:
        found |= flat(inner, f"{name}.{key}" if name else str(key))
    return found


def _unequal(of: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Names whose values are not the same in all, with the values by run in words."""
    names = list(dict.fromkeys(name for values in of.values() for name in values))
    found = []
    for name in names:
        values = {label: _value(values.get(name, _ABSENT)) for label, values in of.items()}
        if len(set(values.values())) > 1:
            found.append((name, _grouped(values)))
    return found


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "unknown"


def _groups(values: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for label, value in values.items():
        found.setdefault(value, []).append(label)
    return found


def _grouped(values: Mapping[str, str], between: str = "; ") -> str:
    """`A and C 0.5; B none`."""
    return between.join(f"{_and(labels)} {value}" for value, labels in _groups(values).items())


def _and(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def _lacks(labels: Sequence[str]) -> str:
    return f"{_and(labels)} {'lacks' if len(labels) == 1 else 'lack'}"


def _has(labels: Sequence[str]) -> str:
    return f"{_and(labels)} {'has' if len(labels) == 1 else 'have'}"


def _some(days: Sequence[str]) -> str:
    return ", ".join(days[:_NAMED]) + (f" and {len(days) - _NAMED} more" if len(days) > _NAMED else "")


def _of(n: int, what: str) -> str:
    return f"{n:,} {what if n == 1 else what + 's'}"


def _at(us: int) -> str:
    return str(iso(int(us)))[:16].replace("T", " ")


def _span(start: str, end: str) -> str:
    return f"{start[:10]} to {end[:10]}" if (start[:10], end[:10]) != (start, end) and start[:10] != end[:10] else f"{start} to {end}"


def _of_range(common: Range) -> str:
    return f"{_at(common.start)} to {_at(common.end)} ({common.days:.1f} days)"
