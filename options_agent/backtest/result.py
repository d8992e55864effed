"""What a run leaves: fills, trades, ledger, equity and decisions as tables, and how they are kept on disk."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from options_agent.backtest.codes import ACTIONS, FILL_KINDS, FILL_SETTLE, HOLD, REASONS
from options_agent.backtest.settlement import METHODS
from options_agent.durable import write_bytes
from options_agent.errors import DataError
from options_agent.quotes import UTC_US

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from numpy.typing import NDArray

    from options_agent.backtest.history import History
    from options_agent.backtest.settlement import Settlement
    from options_agent.settings import BacktestSettings
    from options_agent.strategies.rules import Strategy

TABLES: Final = ("fills", "trades", "ledger", "equity", "decisions")


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """One strategy on one history.

    `run` is a hash of everything the result depends on. Amounts are in coin unless a name says USD; `capital_coin` and `capital_usd` are
    what the account started with. Every fill names the snapshot, the row of the history and the instrument it was filled on.
    """

    run: str
    strategy: Strategy
    underlying: str
    start: dt.datetime
    end: dt.datetime
    status: Literal["ok", "inconclusive"]
    status_reasons: tuple[str, ...]
    capital_coin: float
    capital_usd: float
    fills: pa.Table
    trades: pa.Table
    ledger: pa.Table
    equity: pa.Table
    decisions: pa.Table
    metrics: dict[str, float]
    settings: BacktestSettings
    data: tuple[tuple[str, str], ...]
    data_fingerprint: str

    @property
    def name(self) -> str:
        """`covered_call-BTC-2026-01-01-2026-03-31-1a2b3c4d5e6f`: stem of every file of the run."""
        return f"{self.strategy.name}-{self.underlying}-{self.start:%Y-%m-%d}-{self.end:%Y-%m-%d}-{self.run}"


def fills_table(fills: NDArray[np.float64], history: History, settlement: Settlement) -> pa.Table:
    """Fills: trade, leg, kind, ts (microseconds), snapshot, row (-1: settled), instrument, contracts (sold < 0), price, fee, index, mid.

    The index is the snapshot's, and the delivery price where a contract settled. The mid is of the row's quotes, null where either side
    is missing or the contract settled: what crossing the spread cost is price less mid.
    """
    snapshot, row, contract = (fills[:, n].astype(np.int64) for n in (3, 4, 5))
    bid, ask = (np.asarray(quotes)[np.maximum(row, 0)].astype(np.float64) for quotes in (history.bid, history.ask))
    quoted = (row >= 0) & (bid > 0) & (ask > 0)
    index = np.where(fills[:, 2] == FILL_SETTLE, settlement.price[contract], np.asarray(history.index)[snapshot])
    return pa.table(
        {
            "trade": pa.array(fills[:, 0].astype(np.int64)),
            "leg": pa.array(fills[:, 1].astype(np.int64)),
            "kind": _names(FILL_KINDS, fills[:, 2]),
            "ts": _stamps(fills[:, 9].astype(np.int64)),
            "snapshot": _stamps(np.asarray(history.snapshot)[snapshot]),
            "row": pa.array(row),
            "instrument": pa.array([history.instruments[c] for c in contract], pa.string()),
            "contracts": pa.array(fills[:, 6]),
            "price": pa.array(fills[:, 7]),
            "fee": pa.array(fills[:, 8]),
            "index": pa.array(index),
            "mid": pa.array((bid + ask) / 2, mask=~quoted),
            "contract": pa.array(contract),
        }
    )


def trades_of(fills: pa.Table, history: History, settlement: Settlement, strategy: Strategy) -> pa.Table:
    """One row a structure: when and why it was opened and closed, and its profit in coin after every fee.

    `profit_usd` values each cash flow at the index of its own time.
    """
    rows: dict[int, dict[str, Any]] = {}
    for f in fills.to_pylist():
        trade = rows.setdefault(
            f["trade"],
            {
                "trade": f["trade"],
                "strategy": strategy.name,
                "opened_at": f["ts"],
                "closed_at": None,
                "exit": None,
                "instruments": [],
                "contracts": abs(f["contracts"]) / strategy.legs[f["leg"]].ratio,
                "premium_coin": 0.0,
                "closing_coin": 0.0,
                "payoff_coin": 0.0,
                "fees_coin": 0.0,
                "profit_coin": 0.0,
                "profit_usd": 0.0,
                "index_open": f["index"],
                "index_close": None,
                "settlement": None,
                "settlement_price": None,
                "settlement_minutes": None,
            },
        )
        flow = -f["contracts"] * f["price"]
        trade["fees_coin"] += f["fee"]
        trade["profit_coin"] += flow - f["fee"]
        trade["profit_usd"] += (flow - f["fee"]) * f["index"]
        if f["kind"] == "open":
            trade["premium_coin"] += flow
            trade["instruments"].append(f["instrument"])
            continue
        trade |= {"closed_at": f["ts"], "index_close": f["index"], "exit": "closed" if f["kind"] == "close" else "settled"}
        if f["kind"] == "close":
            trade["closing_coin"] -= flow
        else:
            trade["payoff_coin"] -= flow
            c = f["contract"]
            trade |= {
                "settlement": METHODS[int(settlement.method[c])],
                "settlement_price": float(settlement.price[c]),
                "settlement_minutes": float(settlement.distance[c]),
            }
        rows[f["trade"]] = trade
    return pa.Table.from_pylist(list(rows.values()), schema=TRADE_SCHEMA)


TRADE_SCHEMA: Final = pa.schema(
    [
        ("trade", pa.int64()),
        ("strategy", pa.string()),
        ("opened_at", UTC_US),
        ("closed_at", UTC_US),
        ("exit", pa.string()),
        ("instruments", pa.list_(pa.string())),
        ("contracts", pa.float64()),
        ("premium_coin", pa.float64()),
        ("closing_coin", pa.float64()),
        ("payoff_coin", pa.float64()),
        ("fees_coin", pa.float64()),
        ("profit_coin", pa.float64()),
        ("profit_usd", pa.float64()),
        ("index_open", pa.float64()),
        ("index_close", pa.float64()),
        ("settlement", pa.string()),
        ("settlement_price", pa.float64()),
        ("settlement_minutes", pa.float64()),
    ]
)


def ledger_of(fills: pa.Table, history: History, capital_coin: float, capital_usd: float) -> pa.Table:
    """Every movement of cash: deposits, premium (in or out), payoff, fees; sums to the account's cash exactly."""
    start = history.start
    rows = [
        {"ts": start, "kind": "deposit", "currency": "coin", "amount": capital_coin, "trade": None, "instrument": None},
        {"ts": start, "kind": "deposit", "currency": "usd", "amount": capital_usd, "trade": None, "instrument": None},
    ]
    for f in fills.to_pylist():
        common = {"ts": f["ts"], "currency": "coin", "trade": f["trade"], "instrument": f["instrument"]}
        settled = f["kind"] == "settle"
        rows.append(common | {"kind": "payoff" if settled else "premium", "amount": -f["contracts"] * f["price"]})
        rows.append(common | {"kind": "delivery_fee" if settled else "fee", "amount": -f["fee"]})
    schema = pa.schema(
        [
            ("ts", UTC_US),
            ("kind", pa.string()),
            ("currency", pa.string()),
            ("amount", pa.float64()),
            ("trade", pa.int64()),
            ("instrument", pa.string()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def equity_table(equity: NDArray[np.float64], history: History) -> pa.Table:
    """Equity at each snapshot, struck at marks: coin cash + USD cash / index + value of options; USD at the index."""
    index = np.asarray(history.index)
    return pa.table(
        {
            "ts": _stamps(np.asarray(history.known_at)),
            "index": pa.array(index),
            "coin_cash": pa.array(equity[:, 0]),
            "usd_cash": pa.array(equity[:, 1]),
            "options_coin": pa.array(equity[:, 2]),
            "equity_coin": pa.array(equity[:, 3]),
            "equity_usd": pa.array(equity[:, 3] * index),
            "open_positions": pa.array(equity[:, 4].astype(np.int64)),
            "stale_marks": pa.array(equity[:, 5].astype(np.int64)),
        }
    )


def decisions_table(decisions: NDArray[np.float64], history: History) -> pa.Table:
    """Every decision with the state it saw: quotes of the first leg's row, NaN where it had none."""
    snapshot, row, contract = (decisions[:, n].astype(np.int64) for n in (0, 4, 5))
    trade = decisions[:, 1].astype(np.int64)

    def seen(name: str) -> pa.Array:
        values = np.asarray(getattr(history, name))
        return pa.array(np.where(row >= 0, values[np.maximum(row, 0)], np.nan), from_pandas=True)

    premium, cost = decisions[:, 8], decisions[:, 7]
    with np.errstate(divide="ignore", invalid="ignore"):
        unrealised = np.where((decisions[:, 2] >= HOLD) & (premium > 0), (premium - cost) / premium, np.nan)
    return pa.table(
        {
            "ts": _stamps(decisions[:, 11].astype(np.int64)),
            "snapshot": _stamps(np.asarray(history.snapshot)[snapshot]),
            "trade": pa.array(trade, mask=trade < 0),
            "action": _names(ACTIONS, decisions[:, 2]),
            "reason": _names(REASONS, decisions[:, 3]),
            "instrument": pa.array([history.instruments[c] if c >= 0 else None for c in contract], pa.string()),
            "row": pa.array(row),
            "index": pa.array(np.asarray(history.index)[snapshot]),
            "dte": pa.array(decisions[:, 6]),
            "bid": seen("bid"),
            "ask": seen("ask"),
            "mark": seen("mark"),
            "mark_iv": seen("mark_iv"),
            "delta": seen("delta"),
            "unrealised": pa.array(unrealised, from_pandas=True),
            "open_positions": pa.array(decisions[:, 9].astype(np.int64)),
            "contracts": pa.array(decisions[:, 10]),
        }
    )


def save_tables(result: BacktestResult, folder: Path) -> dict[str, Path]:
    """Write the tables of a run as one Parquet file each below `{folder}/{name}/`; the same result is the same bytes.

    Raises:
        StorageError: they cannot be written.
    """
    paths = {}
    for name in TABLES:
        stream = io.BytesIO()
        pq.write_table(getattr(result, name), stream, compression="zstd")
        paths[name] = folder / result.name / f"{name}.parquet"
        write_bytes(paths[name], stream.getvalue())
    return paths


def load_table(report: Path, name: str) -> pa.Table:
    """A table of a saved run, beside its report.

    Raises:
        DataError: it is missing or cannot be read.
    """
    path = report.with_suffix("") / f"{name}.parquet"
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"the run's {name} cannot be read: {error}", place=str(path), remedy="run the backtest again") from error


def load_report(path: Path) -> dict[str, Any]:
    """A report's JSON.

    Raises:
        DataError: it is missing or not a report.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not {"schema_version", "run"} <= content.keys():
            raise ValueError("no schema version and run in it")
    except (OSError, ValueError) as error:
        raise DataError(f"not a backtest report: {error}", place=str(path), remedy="run the backtest again") from error
    return content


def _names(names: tuple[str, ...], codes: NDArray[np.float64]) -> pa.Array:
    return pa.array([names[int(c)] for c in codes], pa.string())


def _stamps(values: NDArray[np.int64]) -> pa.Array:
    return pa.array(values, pa.int64()).cast(pa.timestamp("us")).cast(UTC_US)
