"""The table of metrics as a page of the docs, so that the page cannot drift from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from options_agent.backtest.metrics.table import METRICS

if TYPE_CHECKING:
    from options_agent.backtest.metrics.table import Metric


def metrics_page() -> str:
    """`docs/metrics.md`: the table in Markdown."""
    families: dict[str, list[Metric]] = {}
    for metric in METRICS:
        families.setdefault(metric.family, []).append(metric)
    lines = [
        "# Metrics",
        "",
        (
            f"{len(families)} metrics, {len(METRICS)} numbers: those of equity and of money are given in coin and in USD. Made from "
            "`options_agent.backtest.metrics.table` by `python -m options_agent.backtest.metrics`; a test keeps it true."
        ),
        "",
        (
            "Returns are decimals between the equities last known at UTC midnights (a regular daily grid; the broken days at both ends are "
            "left out), a year has 365 days, the rate of the riskless is 0. Null means not defined, or not known to the run; never 0. "
            '"Agrees with" names the library function that a test holds the number to, within 1e-9, on the same returns.'
        ),
        "",
        "| metric | unit | definition | formula | agrees with |",
        "|---|---|---|---|---|",
    ]
    for members in families.values():
        first = members[0]
        names = ", ".join(f"`{m.name}`" for m in members)
        units = ", ".join(dict.fromkeys(m.unit for m in members))
        lines.append(f"| {names} | {units} | {first.definition} | {first.source} | {f'`{first.peer}`' if first.peer else ''} |")
    return "\n".join(lines) + "\n"
