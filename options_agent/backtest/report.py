"""The written report of a run: JSON with provenance, a picture, and its tables beside them, named by their content."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent import __version__
from options_agent.backtest.by_regime import compact, regime_metrics, regime_performance, save_regimes
from options_agent.backtest.metrics import drawdown_dates
from options_agent.backtest.picture import plot_run
from options_agent.backtest.provenance import code_commit, code_sha256
from options_agent.backtest.result import save_tables
from options_agent.backtest.uncertainty import uncertainty
from options_agent.durable import plain_json, write_bytes, write_json

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from options_agent.backtest.metrics.drawdown import Drawdown
    from options_agent.backtest.result import BacktestResult

REPORT_VERSION: Final = 1

#: JSON schema of a report of this version.
REPORT_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": [
        "schema_version",
        "run",
        "strategy",
        "underlying",
        "range",
        "status",
        "status_reasons",
        "capital",
        "metrics",
        "regimes",
        "settlement",
        "decisions",
        "provenance",
    ],
    "properties": {
        "schema_version": {"const": REPORT_VERSION},
        "run": {"type": "string", "pattern": "^[0-9a-f]{12}$"},
        "underlying": {"type": "string"},
        "status": {"enum": ["ok", "inconclusive"]},
        "status_reasons": {"type": "array", "items": {"type": "string"}},
        "provisos": {"type": "array", "items": {"type": "string"}},
        "strategy": {"type": "object", "required": ["name", "legs", "entry", "exit"]},
        "range": {"type": "object", "required": ["start", "end", "snapshots"]},
        "capital": {"type": "object", "required": ["coin", "usd"]},
        "metrics": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
        "drawdowns": {
            "type": "object",
            "additionalProperties": {"type": ["object", "null"], "required": ["depth", "peak_at", "trough_at", "recovered_at", "days"]},
        },
        "uncertainty": {
            "type": "object",
            "required": ["confidence", "resamples", "seed", "block_days", "intervals", "probabilistic_sharpe"],
            "properties": {
                "intervals": {
                    "type": "object",
                    "additionalProperties": {"type": ["array", "null"], "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
                },
            },
        },
        "regimes": {"type": "array", "items": {"type": "object", "required": ["regime", "trades", "return_coin", "return_usd"]}},
        "regime_metrics": {"type": "object", "required": ["regimes", "trades", "days", "small", "metrics", "intervals"]},
        "settlement": {"type": "object"},
        "decisions": {"type": "object"},
        "provenance": {"type": "object", "required": ["data", "data_fingerprint", "settings", "code_version", "code_sha256", "seed"]},
    },
}


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where a run was written."""

    report: Path
    plot: Path
    tables: dict[str, Path]


def write_report(result: BacktestResult, labels: pa.Table, folder: Path, *, draw: bool = True) -> ReportPaths:
    """Write JSON, PNG and tables. The same result gives the same names; another result never overwrites it.

    Args:
        result: the run.
        labels: regimes (`ts`, `regime`, `trend`); an empty table where there are none.
        folder: usually `settings.reports_dir`.
        draw: whether the picture is drawn now; `picture.drawn` draws it later, from what is written.

    Raises:
        StorageError: they cannot be written; the JSON goes last, so that a report that is there is whole.
    """
    tables = save_tables(result, folder)
    by_regime = regime_metrics(result, labels)
    tables["regimes"] = save_regimes(by_regime, folder / result.name)
    content = report_content(result, labels, by_regime)
    plot, report = (folder / f"{result.name}.{ending}" for ending in ("png", "json"))
    if draw:
        write_bytes(plot, plot_run(content, result.equity, result.trades, labels))
    write_json(report, content)
    return ReportPaths(report, plot, tables)


def report_content(result: BacktestResult, labels: pa.Table, by_regime: pa.Table | None = None) -> dict[str, Any]:
    """The report as plain data by `REPORT_SCHEMA`; NaN becomes null. `by_regime` spares computing `regime_metrics` again."""
    by_regime = regime_metrics(result, labels) if by_regime is None else by_regime
    decisions = result.decisions.group_by(["action", "reason"]).aggregate([([], "count_all")]).to_pylist()
    settled = [t for t in result.trades.to_pylist() if t["exit"] == "settled"]
    methods = {m: [t["settlement_minutes"] for t in settled if t["settlement"] == m] for m in sorted({t["settlement"] for t in settled})}
    content: dict[str, Any] = plain_json(
        {
            "schema_version": REPORT_VERSION,
            "run": result.run,
            "strategy": result.strategy.as_dict() | {"in_words": result.strategy.in_words()},
            "underlying": result.underlying,
            "range": {"start": result.start.isoformat(), "end": result.end.isoformat(), "snapshots": result.equity.num_rows},
            "status": result.status,
            "status_reasons": list(result.status_reasons),
            "provisos": provisos(result),
            "capital": {"coin": result.capital_coin, "usd": result.capital_usd},
            "metrics": result.metrics,
            "drawdowns": {currency: _dated(fall) for currency, fall in drawdown_dates(result.equity).items()},
            "uncertainty": uncertainty(result.equity, result.metrics),
            "regimes": regime_performance(result, labels).to_pylist(),
            "regime_metrics": compact(by_regime),
            "settlement": {m: {"trades": len(d), "furthest_minutes": max(d)} for m, d in methods.items()},
            "decisions": {
                f"{d['action']}:{d['reason']}": d["count_all"] for d in sorted(decisions, key=lambda d: (d["action"], d["reason"]))
            },
            "provenance": {
                "data": [{"day": day, "sha256": digest} for day, digest in result.data],
                "data_fingerprint": result.data_fingerprint,
                "settings": result.settings.model_dump(mode="json"),
                "code_version": __version__,
                "code_commit": code_commit(),
                "code_sha256": code_sha256(),
                "seed": None,
            },
        }
    )
    return content


def provisos(result: BacktestResult) -> list[str]:
    """What was assumed where data lacked, in words: fills by the model, hours of a hedge without a funding rate."""
    said = []
    modelled = result.fills["source"].to_pylist().count("model")
    if modelled:
        said.append(f"{modelled:,} of {result.fills.num_rows:,} fills are by the fill model, where a side was not quoted")
    if result.unfunded_hours > 0:
        hours = (result.end - result.start).total_seconds() / 3_600
        said.append(f"no funding rate is known for {result.unfunded_hours:,.0f} of {hours:,.0f} hours: the hedge paid and earned none then")
    return said


def _dated(fall: Drawdown | None) -> dict[str, Any] | None:
    """A fall for the report, its times in words; None where equity never fell."""
    if fall is None:
        return None
    times = {name: getattr(fall, name) for name in ("peak_at", "trough_at", "recovered_at")}
    words = {name: None if at is None else dt.datetime.fromtimestamp(at / 1e6, tz=dt.UTC).isoformat() for name, at in times.items()}
    return {"depth": fall.depth, **words, "days": fall.days}
