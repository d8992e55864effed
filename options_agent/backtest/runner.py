"""A backtest from the lake to its written report, once: with a receipt, so that what has not changed is not run again."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from options_agent.backtest.result import load_report
from options_agent.errors import DataError
from options_agent.lake.receipts import Receipt, fingerprint, read_receipt, write_receipt
from options_agent.lake.store import days, open_lake

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from options_agent.backtest.history import History
    from options_agent.backtest.result import BacktestResult
    from options_agent.lake.store import Lake
    from options_agent.settings import Settings
    from options_agent.strategies.rules import Strategy

STAGE: Final = "backtest"
#: How far back prices are read for the correlation of BTC and ETH.
CORRELATION_REACH: Final = dt.timedelta(days=32)


def backtest_fingerprint(lake: Lake, settings: Settings, strategy: Strategy, underlying: str, start: dt.date, end: dt.date) -> str:
    """What a report depends on: the clean days and series of the range, the regimes, the rules, the settings and the code."""
    from options_agent.backtest.provenance import code_sha256
    from options_agent.backtest.report import REPORT_VERSION

    clean = [
        (d, r.fingerprint)
        for d in (day.isoformat() for day in days(lake, "clean", underlying) if start <= day <= end)
        for stage in ("quality", "harvest")
        if (r := read_receipt(lake, stage, underlying, d))
    ]
    regimes = read_receipt(lake, "regimes", underlying, "all")
    return fingerprint(
        REPORT_VERSION,
        code_sha256(),
        clean,
        regimes.fingerprint if regimes else None,
        strategy.as_dict(),
        settings.backtest,
        underlying,
        start,
        end,
    )


def backtest(
    settings: Settings, strategy: Strategy, underlying: str, start: dt.date, end: dt.date, *, draw: bool = True
) -> tuple[Receipt, BacktestResult | None]:
    """Play, write the report, and leave a receipt; the former receipt and None where nothing changed.

    Args:
        settings: home of the lake and the reports, costs, capital.
        strategy, underlying: what is played.
        start, end: days, both inclusive.
        draw: whether the picture is drawn; where it was not before, too.

    Raises:
        DataError: there are no clean quotes in the range.
        StorageError: the report cannot be written.
    """
    from options_agent.backtest.engine import run_backtest
    from options_agent.backtest.history import build_history
    from options_agent.backtest.picture import drawn
    from options_agent.backtest.report import write_report

    lake = open_lake(settings)
    mark = backtest_fingerprint(lake, settings, strategy, underlying, start, end)
    former = read_receipt(lake, STAGE, underlying, strategy.name)
    if former is not None and former.fingerprint == mark and Path(former.details["report"]).is_file():
        if draw:
            drawn(Path(former.details["report"]), regime_labels(lake, underlying))
        return former, None
    history = build_history(lake, underlying, start, end, settings)
    features = known_features(lake, history) if strategy.features else None
    result = run_backtest(history, strategy, settings.backtest, features)
    paths = write_report(result, regime_labels(lake, underlying), settings.reports_dir, draw=draw)
    counts = {
        "quotes": history.rows,
        "snapshots": history.snapshots,
        "trades": result.trades.num_rows,
        "decisions": result.decisions.num_rows,
    }
    details = {
        "run": result.run,
        "name": result.name,
        "status": result.status,
        "status_reasons": list(result.status_reasons),
        "report": str(paths.report),
        "plot": str(paths.plot),
    }
    receipt = Receipt(STAGE, underlying, strategy.name, mark, counts, (), details)
    write_receipt(lake, receipt)
    return receipt, result


def known_features(lake: Lake, history: History) -> dict[str, NDArray[np.float64]]:
    """Every feature a strategy may ask for, as known at each snapshot: from the labelled regimes and from both coins' prices."""
    from options_agent.backtest.weather import features_at
    from options_agent.contracts import coin_of
    from options_agent.lake.store import read_series
    from options_agent.strategies.correlation import causal_correlation

    coin = coin_of(history.underlying)
    span = (history.start - CORRELATION_REACH, history.end + dt.timedelta(microseconds=1))
    pair = []
    for name in (coin, "ETH" if coin == "BTC" else "BTC"):
        prices = read_series(lake, "prices", name, *span)
        pair += [np.asarray(prices["ts"].combine_chunks().cast("int64"), np.int64), prices["price"].to_numpy()]
    return features_at(history, regime_labels(lake, history.underlying), causal_correlation(np.ascontiguousarray(history.known_at), *pair))


def current_reports(settings: Settings) -> list[dict[str, Any]]:
    """The report that each strategy's and underlying's receipt points at, with its `path`."""
    from options_agent.lake.receipts import receipts

    found = []
    for receipt in receipts(open_lake(settings), STAGE):
        path = Path(receipt.details["report"])
        if path.is_file():
            found.append(load_report(path) | {"path": str(path), "plot": receipt.details["plot"]})
    return found


def regime_labels(lake: Lake, underlying: str) -> pa.Table:
    """The regimes table of an underlying from the lake; an empty one where it was never labelled."""
    import io

    import pyarrow.parquet as pq

    data = lake.files.read_or_none(f"regimes/underlying={underlying}/regimes.parquet")
    if data is None:
        return pa.table(
            {"ts": pa.array([], pa.timestamp("us", tz="UTC")), "regime": pa.array([], pa.string()), "trend": pa.array([], pa.string())}
        )
    return pq.read_table(io.BytesIO(data))


def clean_range(lake: Lake, underlying: str) -> tuple[dt.date, dt.date]:
    """First and last clean day.

    Raises:
        DataError: there is none.
    """
    found = days(lake, "clean", underlying)
    if not found:
        raise DataError(
            f"the lake has no clean quotes of {underlying}",
            place=lake.root,
            remedy="`options-agent run` (with --data PATH: of your own files) brings quotes in and judges them",
        )
    return found[0], found[-1]
