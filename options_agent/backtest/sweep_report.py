"""What a sweep is worth: its best configurations with what luck explains of them, written beside the table of all."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from options_agent.backtest.bootstrap import SEED, Days, block_length, interval, resample
from options_agent.backtest.metrics.grid import YEAR_DAYS
from options_agent.backtest.overfitting import backtest_overfitting, deflated_sharpe
from options_agent.backtest.provenance import code_sha256
from options_agent.backtest.uncertainty import CONFIDENCE, HEADLINES
from options_agent.durable import plain_json, write_bytes, write_json
from options_agent.errors import DataError
from options_agent.lake.receipts import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from options_agent.backtest.history import History
    from options_agent.backtest.sweep import Swept
    from options_agent.settings import BacktestSettings
    from options_agent.strategies.rules import Strategy

SWEEP_VERSION: Final = 1
#: Rows shown to a person, and runs sent to tracking.
BEST: Final = 10


@dataclass(frozen=True, slots=True)
class SweepPaths:
    """Where a sweep was written."""

    report: Path
    table: Path


def sweep_content(
    swept: Swept, history: History, strategy: Strategy, grid: Mapping[str, Sequence[Any]], settings: BacktestSettings
) -> dict[str, Any]:
    """A sweep's report as plain data: how many were looked at, the best by Sharpe ratio in coin, and the odds that they are luck.

    `deflated_sharpe` is the probability that a configuration's true Sharpe ratio is above what luck gives the best of all looks;
    `overfitting` the share of ways to halve the time in which the best of one half is below the median in the other.
    """
    table = swept.table
    looks = table.num_rows
    rows = table.filter(pc.equal(table["status"], "ok"))
    sharpes = _daily(table["sharpe_coin"].to_pylist(), table["days"].to_pylist())
    variance = float(np.var(sharpes, ddof=1)) if len(sharpes) > 1 else 0.0
    order = sorted(range(table.num_rows), key=lambda n: (table["status"][n].as_py() != "ok", -(table["sharpe_coin"][n].as_py() or -1e9), n))
    best = [_row(swept, n, looks, variance) for n in order[:BEST]]
    status = table["status"].to_pylist()
    content = {
        "schema_version": SWEEP_VERSION,
        "sweep": fingerprint(
            SWEEP_VERSION, code_sha256(), history.fingerprint, strategy.as_dict(), settings, {k: list(v) for k, v in grid.items()}
        )[:12],
        "strategy": strategy.as_dict(),
        "underlying": history.underlying,
        "range": {"start": history.start.isoformat(), "end": history.end.isoformat(), "snapshots": history.snapshots},
        "grid": {name: list(values) for name, values in grid.items()},
        "looks": looks,
        "unsound": len(swept.points.unsound),
        "status": {name: status.count(name) for name in ("ok", "inconclusive", "rejected")},
        "positive": {
            currency: sum(v is not None and v > 0 for v in rows[f"return_{currency}"].to_pylist()) for currency in ("coin", "usd")
        },
        "median": {name: _median(rows[name].to_numpy()) for name in ("return_coin", "return_usd", "sharpe_coin", "max_drawdown_coin")},
        "overfitting": overfitting(swept),
        "best": best,
        "data_fingerprint": history.fingerprint,
        "code_sha256": code_sha256(),
    }
    plain: dict[str, Any] = plain_json(content)
    return plain


def overfitting(swept: Swept) -> float | None:
    """Probability of backtest overfitting over configurations that have daily returns; None where time or they are too few."""
    known = np.isfinite(swept.returns_coin).all(axis=0) if swept.returns_coin.size else np.zeros(0, np.bool_)
    blocks = 16 if swept.days.size >= 64 else 8
    try:
        return backtest_overfitting(np.ascontiguousarray(swept.returns_coin[:, known]), swept.days, blocks).probability
    except DataError:
        return None


def write_sweep(swept: Swept, content: Mapping[str, Any], folder: Path) -> SweepPaths:
    """Write the table of all configurations and the report; the same sweep gives the same bytes.

    Raises:
        StorageError: they cannot be written; the JSON goes last, so that a report that is there is whole.
    """
    start, end = (content["range"][edge][:10] for edge in ("start", "end"))
    name = f"{content['strategy']['name']}-{content['underlying']}-{start}-{end}-{content['sweep']}"
    paths = SweepPaths(folder / "sweeps" / f"{name}.json", folder / "sweeps" / f"{name}.parquet")
    stream = io.BytesIO()
    pq.write_table(swept.table, stream, compression="zstd")
    write_bytes(paths.table, stream.getvalue())
    write_json(paths.report, content)
    return paths


def _row(swept: Swept, n: int, looks: int, variance: float) -> dict[str, Any]:
    """A configuration: its values and numbers, intervals of its headlines (drawdowns of midnights), and the odds that it is above luck."""
    row = swept.table.slice(n, 1).to_pylist()[0]
    sharpe, days = row["sharpe_coin"], row["days"]
    odds = None
    if sharpe is not None and days and days > 1:
        daily = sharpe / math.sqrt(YEAR_DAYS) * math.sqrt(days / (days - 1))
        found = deflated_sharpe(daily, days, row["skew_coin"], row["kurtosis_coin"], looks, variance)
        odds = found if math.isfinite(found) else None
    found_row: dict[str, Any] = row | {"deflated_sharpe_coin": odds}
    for currency, returns in (("coin", swept.returns_coin), ("usd", swept.returns_usd)):
        found_row |= _intervals(returns[:, n] if returns.size else np.empty(0), currency, row[f"return_{currency}"])
    return found_row


def _intervals(returns: NDArray[np.float64], currency: str, whole: float | None) -> dict[str, list[float] | None]:
    """`return_coin_interval` and its like for every headline; None where there are no daily returns."""
    names = [f"{name}_{currency}_interval" for name in HEADLINES]
    if not returns.size or whole is None or not np.isfinite(returns).all():
        return dict.fromkeys(names)
    growth = 1 + returns
    days = Days(growth, np.maximum(growth, 1.0), np.minimum(growth, 1.0), np.maximum(1 - growth, 0.0))
    drawn = resample(days, block_length(returns), SEED)
    edges = (1 + whole) / float(np.prod(growth))  # the broken days at both ends are kept as they were
    found = (interval(numbers, CONFIDENCE) for numbers in (drawn.growth * edges - 1, drawn.sharpe, drawn.drawdown))
    return {name: list(one) if one else None for name, one in zip(names, found, strict=True)}


def _daily(sharpes: list[float | None], days: list[float | None]) -> list[float]:
    """Sharpe ratios a day, with the population's deviation, of those that have one."""
    return [s / math.sqrt(YEAR_DAYS) * math.sqrt(d / (d - 1)) for s, d in zip(sharpes, days, strict=True) if s is not None and d and d > 1]


def _median(values: NDArray[np.float64]) -> float | None:
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else None
