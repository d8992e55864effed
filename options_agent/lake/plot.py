"""A small picture of what a stage did to each day of an underlying, drawn from its receipts."""

from __future__ import annotations

import datetime as dt
import io
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from options_agent.lake.receipts import Receipt

_COLOURS: Final = ("#5c6bc0", "#ef6c00", "#8d6e63")


def plot_by_day(found: Sequence[Receipt], names: Sequence[str], title: str) -> bytes:
    """PNG: one count of the receipts above another, a panel each with its own scale, over days.

    Args:
        found: receipts of one stage and underlying whose partitions are days; others' days are left white.
        names: counts to draw, for instance `("clean", "quarantined")`.
        title: one line.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    days: Any = [dt.date.fromisoformat(receipt.partition) for receipt in found]
    figure, panels = plt.subplots(len(names), 1, figsize=(7, 1.2 + 1.1 * len(names)), sharex=True, layout="constrained", squeeze=False)
    for panel, name, colour in zip(panels[:, 0], names, _COLOURS, strict=False):
        panel.bar(days, [receipt.counts.get(name, 0) for receipt in found], width=1.0, color=colour)
        panel.set_ylabel(name.replace("_", " "), fontsize=8)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_title(title, fontsize=9, loc="left")
    figure.autofmt_xdate(rotation=0, ha="center")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=90)
    plt.close(figure)
    return stream.getvalue()
