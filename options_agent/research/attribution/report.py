"""A run's attribution from the lake to its written pages: JSON, steps as Parquet, and one HTML page."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from options_agent.durable import plain_json, write_bytes, write_json, write_text
from options_agent.research.attribution.book import Attribution, attribute, grouped, shares
from options_agent.research.attribution.factors import book_returns, daily_factors, regress
from options_agent.research.attribution.trades import BOOK, COMPONENTS

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from options_agent.backtest.result import BacktestResult
    from options_agent.settings import Settings
    from options_agent.strategies.rules import Strategy

#: Components in a reader's words.
WORDS = {
    "delta": "delta: the forward's move",
    "gamma": "gamma: its square",
    "vega": "vega: implied volatility",
    "theta": "theta: time",
    "higher_order": "higher order: cross terms and the third",
    "residual": "residual: unexplained",
    "slippage": "slippage: fills beside the mark",
    "fees": "fees",
    "settlement": "settlement: delivery beside the last mark",
    "hedge": "hedge: the perpetual",
    "funding": "funding",
    "hedge_fees": "hedge's fees and spread",
    "translation": "cash of the other currency, at the new index",
    "conversion": "conversions of the wheel",
}


@dataclass(frozen=True, slots=True)
class AttributionPaths:
    """Where an attribution was written."""

    report: Path
    steps: Path
    page: Path


def attribute_strategy(
    settings: Settings, strategy: Strategy, underlying: str, start: dt.date | None = None, end: dt.date | None = None
) -> tuple[dict[str, Any], AttributionPaths]:
    """Play a strategy over the clean days, split its P&L, and write that beside its report (`reports/{network}/{run}/attribution.*`).

    Raises:
        DataError: there are no clean quotes in the range.
        StorageError: it cannot be written.
    """
    from options_agent.backtest.engine import run_backtest
    from options_agent.backtest.history import build_history
    from options_agent.backtest.runner import clean_range, known_features, regime_labels
    from options_agent.contracts import coin_of
    from options_agent.lake.store import open_lake, read_series

    lake = open_lake(settings)
    first, last = clean_range(lake, underlying)
    history = build_history(lake, underlying, start or first, end or last, settings)
    result = run_backtest(history, strategy, settings.backtest, known_features(lake, history) if strategy.features else None)
    labels, found = regime_labels(lake, underlying), attribute(result, history)
    table = read_series(lake, "dvol", coin_of(underlying), history.start, history.end)
    dvol = (np.asarray(table["ts"].combine_chunks().cast("int64")), table["close"].to_numpy()) if table.num_rows else None
    days, factors = daily_factors(history, labels, dvol)
    returns = book_returns(result.equity)
    fitted = regress(returns, factors) if returns.size == days.size else regress(np.full(days.size, np.nan), factors)
    content = attribution_content(result, found) | {
        "by": {by: grouped(found, by, labels) for by in ("right", "tenor", "regime")},
        "factors": fitted.as_dict(),
    }
    return content, _write(content, found, settings.reports_dir / result.name)


def attribution_content(result: BacktestResult, found: Attribution) -> dict[str, Any]:
    """Totals as plain data."""
    return {
        "run": result.run,
        "strategy": result.strategy.name,
        "underlying": result.underlying,
        "range": {"start": result.start.isoformat(), "end": result.end.isoformat()},
        "currency": found.currency,
        "change": found.change,
        "total": dict(found.total),
        "shares": shares(found),
        "usd": {"change": found.change_usd, "fx": found.fx, "components": dict(found.components_usd)},
        "residual_share": found.residual_share,
        "unaccounted": found.change - sum(found.total.values()),
        "trades": found.trades.num_rows,
    }


def _write(content: dict[str, Any], found: Attribution, folder: Path) -> AttributionPaths:
    import pyarrow.parquet as pq
    from jinja2 import Environment, StrictUndefined

    stream = io.BytesIO()
    pq.write_table(found.steps, stream, compression="zstd")
    paths = AttributionPaths(folder / "attribution.json", folder / "attribution.parquet", folder / "attribution.html")
    write_bytes(paths.steps, stream.getvalue())
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = (resources.files("options_agent.research.attribution") / "templates" / "attribution.html.j2").read_text(encoding="utf-8")
    plain = plain_json(content)
    write_text(
        paths.page, environment.from_string(source).render(content=plain, bars=waterfall(content), components=COMPONENTS, words=WORDS)
    )
    write_json(paths.report, plain)
    return paths


def waterfall(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Bars from nothing to the change of equity: name, value, and left edge and width in percent of the widest extent."""
    total, level, bars = content["total"], 0.0, []
    spans = []
    for name in BOOK:
        if total[name]:
            spans.append((name, level, level + total[name]))
            level += total[name]
    spans.append(("change", 0.0, content["change"]))
    low, high = min(min(a, b) for _, a, b in spans), max(max(a, b) for _, a, b in spans)
    width = (high - low) or 1.0
    for name, a, b in spans:
        edge, size = 100 * (min(a, b) - low) / width, max(100 * abs(b - a) / width, 0.3)
        bars.append({"name": WORDS.get(name, "change of equity"), "value": b - a, "left": edge, "width": size, "kind": name})
    return bars
