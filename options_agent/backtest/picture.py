"""The picture of a run: equity against holding, over the drawdown. Drawn when it is asked for, which takes longer than the run."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from options_agent.backtest.metrics.evidence import paid_in
from options_agent.backtest.result import load_report, load_table
from options_agent.durable import write_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa


def drawn(report: Path, labels: pa.Table) -> Path:
    """The PNG beside a written report, drawn from its tables where it is not there yet.

    Args:
        report: the JSON.
        labels: regimes (`ts`, `regime`, `trend`); an empty table where there are none.

    Raises:
        DataError: the report or a table of it is missing or damaged.
        StorageError: it cannot be written.
    """
    path = report.with_suffix(".png")
    if not path.is_file():
        write_bytes(path, plot_run(load_report(report), load_table(report, "equity"), load_table(report, "trades"), labels))
    return path


def plot_run(report: Mapping[str, Any], equity: pa.Table, trades: pa.Table, labels: pa.Table) -> bytes:
    """PNG of a run by its report and tables: equity against holding in coin and in USD, over the drawdown, shaded by trend."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    ts = equity["ts"].to_numpy(zero_copy_only=False)
    coin, usd, index = (equity[n].to_numpy() for n in ("equity_coin", "equity_usd", "index"))
    figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(9, 6.6), sharex=True, height_ratios=(3, 3, 2), layout="constrained")
    paid = paid_in(equity) or {"coin": coin[0], "usd": usd[0]}
    top.plot(ts, coin / paid["coin"], color="#00695c", linewidth=1.2)
    top.axhline(1.0, color="#9e9e9e", linewidth=0.8)
    top.set(ylabel="equity, coin\n(start = 1)", title=_title(report))
    middle.plot(ts, usd / paid["usd"], color="#283593", linewidth=1.2, label="equity in USD")
    middle.plot(ts, index / index[0], color="#9e9e9e", linewidth=1.0, label="the coin held")
    middle.set(ylabel="USD\n(start = 1)")
    middle.legend(loc="upper left", frameon=False, ncols=2)
    for values, before, colour, name in ((coin, paid["coin"], "#00695c", "coin"), (usd, paid["usd"], "#283593", "USD")):
        peak = np.maximum(np.maximum.accumulate(values), before)
        bottom.plot(ts, 100 * (values / peak - 1), color=colour, linewidth=1.0, label=name)
    bottom.set(ylabel="drawdown, %")
    bottom.legend(loc="lower left", frameon=False, ncols=2)
    _shade((top, middle), labels)
    for trade in trades.to_pylist():
        if trade["closed_at"] is not None:
            top.axvline(trade["closed_at"], color="#2e7d32" if trade["profit_coin"] > 0 else "#c62828", linewidth=0.6, alpha=0.35)
    for axes in (top, middle, bottom):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(ts[0], ts[-1])
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()


def _title(report: Mapping[str, Any]) -> str:
    m, span, intervals = report["metrics"], report["range"], report["uncertainty"]["intervals"]

    def made(currency: str) -> str:
        within = intervals.get(f"return_{currency}")
        spread = f" ({100 * within[0]:+.0f} to {100 * within[1]:+.0f})" if within else ""
        value = m[f"return_{currency}"]
        return f"{np.nan if value is None else value:+.1%}{spread} in {currency.replace('usd', 'USD')}"

    line = f"{report['strategy']['name']} {report['underlying']}, {span['start'][:10]} to {span['end'][:10]}"
    line += f", {int(m['closed_trades'])} trades"
    line += "" if report["status"] == "ok" else "  [INCONCLUSIVE]"
    return f"{line}\n{made('coin')}, {made('usd')}; in brackets 90 % intervals"


def _shade(axes: tuple[Any, ...], labels: pa.Table) -> None:
    if labels.num_rows == 0:
        return
    ts, trend = labels["ts"].to_numpy(zero_copy_only=False), labels["trend"].to_pylist()
    colours = {"bull": "#c8e6c9", "bear": "#ffcdd2"}
    start = 0
    for i in range(1, len(trend) + 1):
        if i == len(trend) or trend[i] != trend[start]:
            if colour := colours.get(trend[start]):
                for one in axes:
                    one.axvspan(ts[start], ts[min(i, len(ts) - 1)], color=colour, alpha=0.35, linewidth=0)
            start = i
