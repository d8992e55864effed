"""Regimes of an underlying over a range: features, both labellings, the table in the lake, and its picture."""

from __future__ import annotations

import datetime as dt
import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from options_agent.lake.files import FileRecord, sha256_of
from options_agent.lake.receipts import Receipt, fingerprint, read_receipt, unchanged, write_receipt
from options_agent.lake.store import days, read_range, read_series
from options_agent.regimes.features import CHAIN_COLUMNS, FEATURES, Windows, features
from options_agent.regimes.learned import WalkForward, walk_forward_states
from options_agent.regimes.rules import UNKNOWN, Thresholds, regime_labels, trend_labels, weather_labels

if TYPE_CHECKING:
    from options_agent.lake.store import Lake

REGIMES_VERSION: Final = 1
STAGE: Final = "regimes"
PARTITION: Final = "all"
_LEARNED_FROM: Final = ("trend_score", "realised_vol", "implied_vol", "skew", "term_slope")


def label_chain(chain: pa.Table, prices: pa.Table, underlying: str) -> pa.Table:
    """Features and labels at each snapshot of a chain; the label at t depends on data known at t only.

    Returns:
        `ts`, `underlying`, the features of `FEATURES`, `trend` (bull, bear, sideways), `weather` (calm, stormy), `regime`
        (`bull-calm`, ...; `unknown` until the windows are filled) and `learned` (state by rising volatility, or null).
    """
    table = features(chain, prices, Windows())
    ts = np.asarray(table["ts"].combine_chunks().cast(pa.int64()), dtype=np.int64)
    values = {name: table[name].to_numpy() for name in FEATURES}
    thresholds = Thresholds()
    trend = trend_labels(values["trend_score"], thresholds)
    weather = weather_labels(ts, values["realised_vol"], values["implied_vol"], thresholds)
    matrix = np.column_stack([values[name] for name in _LEARNED_FROM]) if ts.size else np.empty((0, len(_LEARNED_FROM)))
    states = walk_forward_states(ts, matrix, values["realised_vol"], WalkForward())
    columns = {
        "trend": pa.array(trend.tolist(), pa.string()),
        "weather": pa.array(weather.tolist(), pa.string()),
        "regime": pa.array(regime_labels(trend, weather).tolist() if ts.size else [], pa.string()),
        "learned": pa.array(states, pa.int64(), mask=states < 0),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table.add_column(1, "underlying", pa.array([underlying] * ts.size, pa.string()))


def regimes_fingerprint(lake: Lake, underlying: str, start: dt.date, end: dt.date) -> str:
    """What the labels of a range depend on: the verdicts and the harvests of its days, the rules and their versions."""
    wanted = [d.isoformat() for d in days(lake, "clean", underlying) if start <= d <= end]
    inputs = [
        (d, stage, r.fingerprint) for d in wanted for stage in ("quality", "harvest") if (r := read_receipt(lake, stage, underlying, d))
    ]
    return fingerprint(REGIMES_VERSION, Windows(), Thresholds(), WalkForward(), start, end, inputs)


def label_regimes(lake: Lake, underlying: str, start: dt.date, end: dt.date) -> Receipt:
    """Label every clean snapshot of [start, end] and keep the table in the lake; nothing is done where nothing changed.

    Raises:
        DataError: a clean day cannot be read.
        StorageError: the lake cannot be written.
    """
    mark = regimes_fingerprint(lake, underlying, start, end)
    former = read_receipt(lake, STAGE, underlying, PARTITION)
    if former is not None and unchanged(lake, former, mark):
        return former
    chain = read_range(lake, "clean", underlying, start, end, columns=list(CHAIN_COLUMNS))
    reach = dt.timedelta(days=Windows().trend_days + 2)
    prices = read_series(lake, "prices", underlying, _midnight(start) - reach, _midnight(end) + dt.timedelta(days=1))
    table = label_chain(chain, prices, underlying)
    record = _write(lake, underlying, table)
    counts = {"rows": table.num_rows, "labelled": sum(r != UNKNOWN for r in table["regime"].to_pylist())}
    shares = {
        name: int(n) for name, n in zip(*np.unique(np.asarray(table["regime"].to_pylist(), dtype=str), return_counts=True), strict=True)
    }
    receipt = Receipt(STAGE, underlying, PARTITION, mark, counts | {f"regime:{k}": v for k, v in shares.items()}, (record,))
    write_receipt(lake, receipt)
    return receipt


def read_regimes(lake: Lake, underlying: str) -> pa.Table | None:
    """The regimes table of an underlying, or None where it was never labelled."""
    import pyarrow.parquet as pq

    data = lake.files.read_or_none(_path(underlying))
    return None if data is None else pq.read_table(io.BytesIO(data))


def latest_regime(lake: Lake, underlying: str) -> dict[str, Any] | None:
    """The newest row of the regimes table as a plain mapping, or None."""
    table = read_regimes(lake, underlying)
    return table.slice(table.num_rows - 1).to_pylist()[0] if table is not None and table.num_rows else None


def plot_regimes(table: pa.Table, title: str) -> bytes:
    """PNG: price shaded by trend above, realised and implied volatility shaded by weather below."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    ts = table["ts"].to_numpy(zero_copy_only=False)
    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 4.6), sharex=True, height_ratios=(3, 2), layout="constrained")
    above.plot(ts, table["price"].to_numpy(), color="#20303c", linewidth=1)
    _shade(above, ts, table["trend"].to_pylist(), {"bull": "#c8e6c9", "bear": "#ffcdd2"})
    above.set(title=title, ylabel="price, USD")
    below.plot(ts, 100 * table["realised_vol"].to_numpy(), color="#5c6bc0", linewidth=1, label="realised")
    below.plot(ts, 100 * table["implied_vol"].to_numpy(), color="#ef6c00", linewidth=1, label="implied, 30 d")
    _shade(below, ts, table["weather"].to_pylist(), {"stormy": "#e0e0e0"})
    below.set(ylabel="volatility, % a year")
    below.legend(loc="upper left", frameon=False, ncols=2)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    plt.close(figure)
    return stream.getvalue()


def _shade(axes: Any, ts: Any, labels: list[str], colours: dict[str, str]) -> None:
    start = 0
    for i in range(1, len(labels) + 1):
        if i == len(labels) or labels[i] != labels[start]:
            if (colour := colours.get(labels[start])) and len(ts):
                axes.axvspan(ts[start], ts[min(i, len(ts) - 1)], color=colour, alpha=0.6, linewidth=0)
            start = i


def _write(lake: Lake, underlying: str, table: pa.Table) -> FileRecord:
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    data = stream.getvalue()
    lake.files.write(_path(underlying), data)
    return FileRecord(_path(underlying), table.num_rows, len(data), sha256_of(data))


def _path(underlying: str) -> str:
    return f"regimes/underlying={underlying}/regimes.parquet"


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
