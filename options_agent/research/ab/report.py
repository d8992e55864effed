"""A comparison as words, Markdown and a picture that a person understands."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from options_agent.durable import write_bytes, write_json, write_text
from options_agent.research.ab.declaration import folder_of
from options_agent.research.ab.judging import BETTER, FUTILE, OPEN, WORSE, as_dict, look

if TYPE_CHECKING:
    from pathlib import Path

    from options_agent.research.ab.declaration import Comparison
    from options_agent.research.ab.judging import Standing
    from options_agent.settings import Settings

_YEAR = 365


def words(one: Standing, comparison: Comparison) -> str:
    """What may be concluded of an arm, and what may not."""
    confidence = f"{1 - comparison.alpha_each:.1%}"
    gap = f"{10_000 * one.mean:+.1f} basis points a day (between {10_000 * one.low:+.1f} and {10_000 * one.high:+.1f} at {confidence})"
    if one.days == 0:
        return f"{one.arm} and {one.control}: the test begins on {comparison.start}; {one.shadow_days} days of shadow are measured."
    if one.verdict == BETTER:
        said = f"{one.arm} is better than {one.control}: {gap}. The test may stop: its error stays at {comparison.alpha_each:.1%}."
    elif one.verdict == WORSE:
        said = f"{one.arm} is worse than {one.control}: {gap}. Stop it."
    elif one.verdict == FUTILE:
        said = f"After {one.days} days no difference was seen: {gap}. There may be a smaller one than that interval."
    else:
        wait = f", and none is given before {comparison.least_days} days" if one.days < comparison.least_days else ""
        said = f"No verdict after {one.days} of at most {comparison.most_days} days{wait}: {gap}. Go on; looking costs nothing."
    return (
        f"{said} By day {comparison.most_days} a difference of {10_000 * one.visible:.1f} basis points a day ({one.visible * _YEAR:.0%} "
        "a year) or more would be seen four times of five."
    )


def write_report(comparison: Comparison, settings: Settings) -> tuple[list[Standing], Path]:
    """Look, and write `report.json`, `report.md` and `report.png` beside the declaration; returns the Markdown's path.

    Raises:
        DataError: as `judging.look`. StorageError: it cannot be written.
    """
    found, folder = look(comparison, settings), folder_of(comparison.name, settings)
    write_json(folder / "report.json", {"name": comparison.name, "sha256": comparison.sha256, "standings": [as_dict(s) for s in found]})
    write_bytes(folder / "report.png", picture(found))
    lines = [f"# {comparison.name}", "", f"Daily returns of {comparison.metric}, paired by day, since {comparison.start}.", ""]
    lines += ["| arm | control | days | missing | mean a day | low | high | p | verdict |", "|---|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {s.arm} | {s.control} | {s.days} | {s.missing} | {s.mean:+.6f} | {s.low:+.6f} | {s.high:+.6f} | {s.p:.3f} | {s.verdict} |"
        for s in found
    ]
    lines += ["", *(words(s, comparison) + "\n" for s in found), "![intervals](report.png)", ""]
    write_text(folder / "report.md", "\n".join(lines))
    return found, folder / "report.md"


def picture(found: list[Standing]) -> bytes:
    """PNG: the interval after each day, an arm a panel; where it leaves zero there is a verdict."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(found), 1, figsize=(8, 2.6 * len(found)), squeeze=False, layout="constrained")
    for axis, one in zip(axes[:, 0], found, strict=True):
        days = range(1, len(one.path) + 1)
        lows, highs = ([10_000 * end[n] for end in one.path] for n in (0, 1))
        axis.fill_between(days, lows, highs, color="#90caf9", alpha=0.6, linewidth=0)
        axis.axhline(0.0, color="#b23b3b", linewidth=1.0)
        if one.days:
            axis.axhline(10_000 * one.mean, color="#283593", linewidth=1.0, linestyle="--")
        scale = 10_000 * 6 * one.visible
        axis.set(ylim=(-scale, scale), xlabel="days", ylabel="bp a day", title=f"{one.arm} less {one.control}: {one.verdict}")
    stream = io.BytesIO()
    figure.savefig(stream, dpi=110, format="png", metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()


__all__ = ["BETTER", "FUTILE", "OPEN", "WORSE", "picture", "words", "write_report"]
