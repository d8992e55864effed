"""Every metric of current runs by regime as Markdown, for a page that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from options_agent.backtest.by_regime import SMALL_DAYS, SMALL_SAMPLE, heat
from options_agent.backtest.result import load_table
from options_agent.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def heat_page(reports: Iterable[Mapping[str, Any]], metrics: Iterable[str] = ()) -> str:
    """A table of metric x regime for each run: the number, its sample, and brackets around what rests on few.

    Args:
        reports: with their `path`.
        metrics: names or families; all by default.
    """
    wanted = list(metrics)
    lines = [f"Value [90 % interval] / sample (trades `t` or days `d`); in brackets: under {SMALL_SAMPLE} trades or {SMALL_DAYS} days."]
    for report in reports:
        lines += ["", f"**{report['strategy']['name']} {report['underlying']}**", ""]
        try:
            regimes, rows = heat(load_table(Path(report["path"]), "regimes"), wanted)
        except DataError:
            lines.append("Written before metrics were broken down by regime: run the backtest again.")
            continue
        lines += ["| metric | " + " | ".join(regimes) + " |", "|---" * (len(regimes) + 1) + "|"]
        lines += ["| " + " | ".join([name, *(_cell(cell) for cell in cells)]) + " |" for name, _, cells in rows]
    return "\n".join(lines) + "\n"


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None or cell["value"] is None:
        return "-"
    within = "" if cell["low"] is None else f" [{cell['low']:.3g} to {cell['high']:.3g}]"
    text = f"{cell['value']:.4g}{within} / {cell['sample']:.0f} {cell['unit'][0]}"
    return f"({text})" if cell["small_sample"] else text
