"""What the rules catch of known defects, and what they take from good rows: writes the tables of docs/quality.md.

Run: python benchmarks/quality_defects.py [--check]. Defects of every kind (`options_agent.quality.injection`) are put into recorded chains
(OPTIONS_AGENT_TEST_DATA, or the folder beside the repository) and into the synthetic market, one kind at a time, at 0.1 % and
1 % of rows; then judged by all rules. The second table sets thresholds learnt from the weeks before each month against the
fixed one. With --check nothing is written, and what falls short ends the run with 1.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.market.recorded.source import RecordedSource
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.quality.chain import chain_of
from options_agent.quality.injection import KINDS, inject
from options_agent.quality.judge import judge
from options_agent.quality.thresholds import TENORS, Learnt, learn, tenor_of
from options_agent.quotes import QUOTE_SCHEMA
from options_agent.settings import QualitySettings, RecordedSettings, SyntheticSettings

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENT = REPOSITORY / "docs" / "quality.md"
RATES = (0.001, 0.01)
SHIFTS = (0.05, 0.10, 0.15, 0.20, 0.30)
BEGIN, END = "<!-- written by benchmarks/quality_defects.py -->\n", "<!-- end -->\n"
SETTINGS = QualitySettings()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts of one kind at one rate: rows spoilt, caught at all, caught by their own rule, good rows, good rows condemned."""

    market: str
    rule: str
    rate: float
    injected: int
    caught: int
    by_own: int
    good: int
    false: int

    @property
    def recall(self) -> float:
        return self.caught / self.injected

    @property
    def false_rate(self) -> float:
        return self.false / self.good


def recorded(underlying: str) -> pa.Table | None:
    """Five months of a recorded chain, or None where the recording is absent."""
    path = Path(os.environ.get("OPTIONS_AGENT_TEST_DATA", REPOSITORY.parent / "shared" / "data")) / "deribit_6h_2026"
    if not path.is_dir():
        return None
    source = RecordedSource(RecordedSettings(path=path), network="mainnet", region="local")
    span = source.span(underlying)
    assert span is not None
    return pa.concat_tables(list(source.snapshots(underlying, span[0], span[1] + dt.timedelta(seconds=1)))).combine_chunks()


def synthetic(underlying: str, days: int = 4) -> pa.Table:
    """Some days of the synthetic market, hourly, nothing spoilt."""
    source, start = SyntheticSource(SyntheticSettings(defect_rate=0.0, outage_rate=0.0)), dt.datetime(2026, 1, 20, tzinfo=dt.UTC)
    return pa.concat_tables(list(source.snapshots(underlying, start, start + dt.timedelta(days=days)))).combine_chunks()


def outcome(market: str, good: pa.Table, rule: str, rate: float, network: str, seed: int = 1) -> Outcome:
    """Inject one kind and judge; `locked` is caught where it warned. A duplicate is caught where one of the two rows goes."""
    injected = inject(good, rule, rate, seed=seed, settings=SETTINGS)
    verdicts = judge(injected.quotes, SETTINGS, network=network)
    condemned, own = verdicts.condemned, verdicts.rows_breaking(rule)
    caught = own if rule == "locked" else condemned
    at, kin = injected.rows, injected.kin
    if rule == "duplicate":
        hit, mine = caught[at] | caught[kin], own[at] | own[kin]
    else:
        hit, mine = caught[at], own[at]
    rest = np.ones(len(injected.quotes), bool)
    rest[at] = False
    rest[kin] = False
    return Outcome(market, rule, rate, len(at), int(hit.sum()), int(mine.sum()), int(rest.sum()), int((condemned & rest).sum()))


def outcomes() -> list[Outcome]:
    """Every kind at every rate in every market there is."""
    markets = {"synthetic BTC": (synthetic("BTC"), "synthetic")}
    for underlying in ("BTC", "ETH"):
        if (table := recorded(underlying)) is not None:
            markets[f"recorded {underlying}"] = (table, "mainnet")
    return [outcome(name, table, rule, rate, network) for name, (table, network) in markets.items() for rule in KINDS for rate in RATES]


def defect_table(found: list[Outcome]) -> list[str]:
    """Markdown: recorded markets together, the synthetic one beside."""
    lines = [
        "| rule | defect put in | rate | market | injected | caught | recall | by its own rule | false alarms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for rule, kind in KINDS.items():
        for rate in RATES:
            for market in ("recorded", "synthetic"):
                some = [one for one in found if one.rule == rule and one.rate == rate and one.market.startswith(market)]
                if not some:
                    continue
                injected, caught, own = (sum(getattr(one, name) for one in some) for name in ("injected", "caught", "by_own"))
                false, good = sum(one.false for one in some), sum(one.good for one in some)
                lines.append(
                    f"| `{rule}` | {kind.what} | {rate:.1%} | {market} | {injected:,} | {caught:,} | {caught / injected:.2%} "
                    f"| {own / injected:.1%} | {false:,} ({false / good:.4%}) |"
                )
    return lines


@dataclass(frozen=True, slots=True)
class Month:
    """A month to be judged, what the weeks before it taught, and its rows."""

    underlying: str
    learnt: Learnt
    rows: pa.Table


def months(underlying: str) -> list[Month]:
    """February to April of the recording, each with what the 56 days before it teach."""
    table = recorded(underlying)
    if table is None:
        return []
    found = []
    for month in (2, 3, 4):
        start = dt.datetime(2026, month, 1, tzinfo=dt.UTC)
        at = table.column("snapshot")
        past = table.filter(pc.and_(pc.less(at, start), pc.greater_equal(at, start - dt.timedelta(days=56))))
        days = pc.unique(pc.floor_temporal(past.column("snapshot"), unit="day")).to_pylist()
        some = [days[round(n * (len(days) - 1) / 13)] for n in range(14)]
        wanted = pa.array(some, past.schema.field("snapshot").type)
        history = past.filter(pc.is_in(pc.floor_temporal(past.column("snapshot"), unit="day"), wanted))
        end = start.replace(month=month + 1)
        rows = table.filter(pc.and_(pc.greater_equal(at, start), pc.less(at, end))).combine_chunks()
        found.append(Month(underlying, learn(history, SETTINGS, until=days[-1].date()), rows))
    return found


def shifted(rows: pa.Table, shift: float, seed: int = 3) -> tuple[pa.Table, np.ndarray]:
    """1 row in 1,000 of those inside a smile has its IV moved up or down by `shift`, no mark to tell."""
    at = inject(rows, "smile_outlier", 0.001, seed=seed, settings=SETTINGS).rows
    iv, mark = rows.column("mark_iv").to_numpy().copy(), rows.column("mark").to_numpy().copy()
    sign = np.where(np.random.default_rng(seed).random(len(at)) < 0.5, -1.0, 1.0)
    iv[at] = np.where(iv[at] + sign * shift > 0.05, iv[at] + sign * shift, iv[at] + shift)
    mark[at] = np.nan
    for name, values in (("mark_iv", iv), ("mark", mark)):
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), pa.array(values, mask=np.isnan(values)))
    return rows.cast(QUOTE_SCHEMA), at


def learnt_tables() -> tuple[list[str], list[str]]:
    """Markdown: thresholds by tenor; recall and false alarms, learnt against fixed."""
    every = [month for underlying in ("BTC", "ETH") for month in months(underlying)]
    if not every:
        return [], []
    names = ["under 6 h", "to 1 d", "to 3 d", "to 10 d", "to 35 d", "to 100 d", "longer"]
    first = [f"| for | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for month in every:
        label = f"{month.underlying} {month.rows.column('snapshot')[0].as_py():%Y-%m}"
        values = ["fixed" if p is None or p >= SETTINGS.smile_points else f"{p:.3f}" for p in month.learnt.points]
        first.append(f"| {label}, learnt up to {month.learnt.until} | {' | '.join(values)} |")
    second = [
        "| IV moved by | tenor | rows moved | caught, fixed | caught, learnt |",
        "|---|---|---|---|---|",
    ]
    alarms = {"fixed": 0, "learnt": 0}
    for month in every:
        for name, learnt in (("fixed", None), ("learnt", {month.underlying: month.learnt})):
            alarms[name] += int(judge(month.rows, SETTINGS, network="mainnet", learnt=learnt).rows_breaking("smile_outlier").sum())
    for shift in SHIFTS:
        caught = np.zeros((3, len(TENORS) + 1), np.int64)
        for month in every:
            rows, at = shifted(month.rows, shift)
            tenor = tenor_of(chain_of(rows).years[at])
            for n, learnt in enumerate((None, {month.underlying: month.learnt})):
                hit = judge(rows, SETTINGS, network="mainnet", learnt=learnt).rows_breaking("smile_outlier")[at]
                caught[n + 1] += np.bincount(tenor[hit], minlength=len(TENORS) + 1)
            caught[0] += np.bincount(tenor, minlength=len(TENORS) + 1)
        for label, part in (("to 3 d", slice(0, 3)), ("3 to 35 d", slice(3, 5)), ("over 35 d", slice(5, 7))):
            moved, fixed, learnt_hits = caught[:, part].sum(axis=1)
            second.append(f"| {shift:.2f} | {label} | {moved:,} | {fixed / moved:.1%} | {learnt_hits / moved:.1%} |")
    total = sum(len(month.rows) for month in every)
    calls = f"the fixed threshold calls {alarms['fixed']} outliers, the learnt ones {alarms['learnt']} ({alarms['learnt'] / total:.4%})"
    second += ["", f"On the {total:,} untouched rows of those months {calls}."]
    return first, second


def main() -> int:
    """Inject, judge, print, and write the document or check the promises."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--check", action="store_true")
    asked = arguments.parse_args()
    found = outcomes()
    short = [one for one in found if one.recall <= 0.99 or one.false_rate >= 0.001]
    first, second = learnt_tables()
    text = "\n".join([*defect_table(found), "", "### Learnt thresholds\n", *first, "", *second, ""])
    print(text)
    for one in short:
        print(f"short: {one}", file=sys.stderr)
    if not asked.check:
        document = DOCUMENT.read_text(encoding="utf-8")
        head, _, rest = document.partition(BEGIN)
        _, _, tail = rest.partition(END)
        DOCUMENT.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
