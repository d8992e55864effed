"""The rules as data: name, severity, reason, thresholds and check, in the order they are asked.

To add a rule write a check in `row_checks` or `cross_checks` and a line here; docs, receipts and tests follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from options_agent.errors import SettingsError
from options_agent.quality import cross_checks, row_checks
from options_agent.quality.chain import Bools, Chain
from options_agent.quality.row_checks import Finding

if TYPE_CHECKING:
    from options_agent.settings import QualitySettings

#: Raise when a rule's meaning changes: every day is then judged again.
RULES_VERSION: Final = 4

Severity = Literal["error", "warn"]
Check = Callable[[Chain, "QualitySettings", Bools], Finding]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `error` sends a row to quarantine, `warn` only counts it.

    `detail` is a format string over the row's columns, `measure` and the settings named in `thresholds`.
    """

    name: str
    severity: Severity
    reason: str
    detail: str
    check: Check
    thresholds: tuple[str, ...] = ()


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "missing_field",
        "error",
        "without identity, any value, or any underlying price the row cannot be used",
        "mark {mark}, mark IV {mark_iv}, bid {bid}, ask {ask}, forward {forward}, index {index}",
        row_checks.missing_field,
    ),
    Rule(
        "not_finite",
        "error",
        "NaN or infinity stands where a number, or null for none, should",
        "bid {bid}, ask {ask}, mark {mark}, mark IV {mark_iv}, forward {forward}",
        row_checks.not_finite,
    ),
    Rule(
        "not_positive",
        "error",
        "a price of zero or less, a negative size or volatility, or a delta beyond one or of the other right's sign",
        "bid {bid}, ask {ask}, mark {mark}, mark IV {mark_iv}, delta {delta}",
        row_checks.not_positive,
    ),
    Rule(
        "unknown_instrument",
        "error",
        "the name is no option's, or contradicts the row's own contract",
        "{instrument}: {underlying} {expiry} {strike} {right} {settlement}",
        row_checks.unknown_instrument,
    ),
    Rule("foreign_network", "error", "the row is of another network than its lake", "network {network}", row_checks.foreign_network),
    Rule("expired", "error", "the row was known at or after its own expiry", "known {ts}, expired {expiry}", row_checks.expired),
    Rule(
        "stale",
        "error",
        "the row is much older than the snapshot it answers for",
        "{measure:.0f} s old",
        row_checks.stale,
        ("stale_seconds",),
    ),
    Rule(
        "late",
        "error",
        "the row became known long after the snapshot it answers for",
        "{measure:.0f} s late",
        row_checks.late,
        ("late_seconds",),
    ),
    Rule("crossed", "error", "the bid is above the ask", "bid {bid}, ask {ask}", row_checks.crossed),
    Rule("locked", "warn", "the bid equals the ask", "bid {bid}, ask {ask}", row_checks.locked),
    Rule(
        "off_tick",
        "error",
        "a bid or ask lies between two prices of the family's tick grid",
        "bid {bid}, ask {ask}",
        row_checks.off_tick,
        ("tick_tolerance",),
    ),
    Rule(
        "absurd_iv",
        "error",
        "no market has such an implied volatility",
        "mark IV {mark_iv}",
        row_checks.absurd_iv,
        ("iv_min", "iv_max"),
    ),
    Rule(
        "mark_band",
        "error",
        "the mark lies far outside the two-sided quote",
        "mark {mark} is {measure:.1f} ticks beyond {bid} to {ask}",
        row_checks.mark_band,
        ("mark_band_ticks", "mark_band_share"),
    ),
    Rule(
        "mark_model",
        "error",
        "the mark is not what Black-76 gives at the row's own forward and IV",
        "mark {mark} at IV {mark_iv} and forward {forward} is {measure:.4f} coin off",
        row_checks.mark_model,
        ("mark_model_coin", "mark_model_forward"),
    ),
    Rule(
        "duplicate",
        "error",
        "a better row has the same snapshot, instrument and harvester",
        "{instrument} at {snapshot} from {source}/{region}",
        cross_checks.duplicate,
    ),
    Rule(
        "time_backwards",
        "error",
        "the row was known no later than one of an earlier snapshot",
        "known {ts}, {measure:.0f} s before the last",
        cross_checks.time_backwards,
    ),
    Rule(
        "smile_outlier",
        "error",
        "the implied volatility is far from the smile of its expiry",
        "mark IV {mark_iv} is {measure:.3f} from the fitted smile",
        cross_checks.smile_outlier,
        ("smile_z", "smile_points"),
    ),
    Rule(
        "static_arbitrage",
        "error",
        "executable quotes of the chain give a riskless profit and this row is farthest from fair",
        "bid {bid}, ask {ask}: {measure:.4f} coin for nothing",
        cross_checks.static_arbitrage,
        ("arbitrage_coin", "parity_coin"),
    ),
)

NAMES: Final = tuple(rule.name for rule in RULES)


def active(settings: QualitySettings) -> tuple[Rule, ...]:
    """The rules in force, in order.

    Raises:
        SettingsError: `disabled` names a rule that does not exist.
    """
    if unknown := sorted(set(settings.disabled) - set(NAMES)):
        raise SettingsError(f"no quality rule is called {unknown}", place="quality.disabled", remedy=f"the rules are {', '.join(NAMES)}")
    return tuple(rule for rule in RULES if rule.name not in settings.disabled)
