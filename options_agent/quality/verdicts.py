"""What the rules said of a table, and the two tables it splits into."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from options_agent.contracts import years_to_expiry
from options_agent.quality.completion import complete
from options_agent.quotes import QUARANTINE_SCHEMA, QUOTE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from options_agent.quality.chain import Bools
    from options_agent.quality.rules import Rule
    from options_agent.quality.thresholds import Learnt
    from options_agent.settings import QualitySettings


@dataclass(frozen=True)
class Verdicts:
    """What the rules said of a table.

    `broken` (rows,) has bit i set where the row broke `rules[i]`; `measures` (by rule name, then row)
    are how far a row is off.
    """

    table: pa.Table
    settings: QualitySettings
    rules: tuple[Rule, ...]
    broken: NDArray[np.uint32]
    measures: dict[str, dict[int, float]] = field(default_factory=dict)
    learnt: Mapping[str, Learnt] = field(default_factory=dict)

    @property
    def condemned(self) -> Bools:
        """Rows that broke a rule of severity `error`."""
        errors = sum(1 << i for i, rule in enumerate(self.rules) if rule.severity == "error")
        return self._any_of(errors)

    def rows_breaking(self, name: str) -> Bools:
        """Rows that broke the rule of this name; none where it is disabled."""
        for i, rule in enumerate(self.rules):
            if rule.name == name:
                return self._any_of(1 << i)
        return np.zeros(len(self.table), bool)

    def clean(self) -> pa.Table:
        """Rows that stay, with missing IV and greeks computed and flagged (`CLEAN_SCHEMA`)."""
        return complete(_plain(self.table.filter(pa.array(~self.condemned))), self.settings)

    def quarantined(self) -> pa.Table:
        """Rows that go, untouched, each with its first rule, all its rules and the reason (`QUARANTINE_SCHEMA`)."""
        indices = np.flatnonzero(self.condemned)
        rows = _plain(self.table.take(pa.array(indices)))
        first, names, reasons = [], [], []
        for at, row in zip(indices, rows.to_pylist(), strict=True):
            broken = [rule for i, rule in enumerate(self.rules) if int(self.broken[at]) >> i & 1]
            rule = next(rule for rule in broken if rule.severity == "error")
            measure = self.measures.get(rule.name, {}).get(int(at), math.nan)
            first.append(rule.name)
            names.append(",".join([rule.name, *(other.name for other in broken if other is not rule)]))
            reasons.append(f"{rule.reason}: {rule.detail.format(**_shown(row), measure=measure)}{self._limits(rule, row)}")
        verdicts = [pa.array(values, pa.string()) for values in (first, names, reasons)]
        return pa.Table.from_arrays([*rows.select(QUOTE_SCHEMA.names).columns, *verdicts], schema=QUARANTINE_SCHEMA)

    def counts(self) -> dict[str, int]:
        """`rows_in` = `clean` + `quarantined`; `rule:x`: rows in quarantine because of x first (they sum to it); `warn:x`: flagged."""
        condemned = self.condemned
        counts = {"rows_in": len(self.table), "clean": int((~condemned).sum()), "quarantined": int(condemned.sum())}
        unclaimed = condemned.copy()
        for i, rule in enumerate(self.rules):
            rows = self._any_of(1 << i)
            if rule.severity == "warn":
                counts[f"warn:{rule.name}"] = int(rows.sum())
            else:
                counts[f"rule:{rule.name}"] = int((rows & unclaimed).sum())
                unclaimed &= ~rows
        return counts

    def _any_of(self, bits: int) -> Bools:
        rows: Bools = (self.broken & np.uint32(bits)) != 0
        return rows

    def _limits(self, rule: Rule, row: dict[str, Any]) -> str:
        fixed = {name: f"{name} {getattr(self.settings, name):g}" for name in rule.thresholds}
        learnt = self.learnt.get(row["underlying"])
        if learnt is not None and "smile_points" in fixed:
            years = years_to_expiry(row["expiry"], row["ts"])
            if told := learnt.told(years):
                points = float(learnt.at(np.array([years]), self.settings.smile_points)[0])
                fixed["smile_points"] = f"smile_points {points:g} {told}"
        return f" ({', '.join(fixed.values())})" if fixed else ""


def _plain(rows: pa.Table) -> pa.Table:
    """Rows with texts as texts, where they came as dictionaries."""
    return rows if rows.schema.equals(QUOTE_SCHEMA) else rows.cast(QUOTE_SCHEMA)


def _shown(row: dict[str, Any]) -> dict[str, object]:
    """A row's values as a reason prints them."""
    return {name: _text(value) for name, value in row.items()}


def _text(value: object) -> object:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.10g}"
    return value.isoformat() if isinstance(value, dt.datetime) else value
