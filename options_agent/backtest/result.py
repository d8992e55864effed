"""What a run leaves: fills, trades, ledger, equity and decisions as tables, and how they are kept on disk."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from options_agent.backtest.codes import ACTIONS, FILL_KINDS, FILL_SETTLE, FILL_SOURCES, HOLD, REASONS
from options_agent.backtest.settlement import METHODS
from options_agent.backtest.tape import EQUITY
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
    unfunded_hours: float = 0.0

    @property
    def name(self) -> str:
        """`covered_call-BTC-2026-01-01-2026-03-31-1a2b3c4d5e6f`: stem of every file of the run."""
        return f"{self.strategy.name}-{self.underlying}-{self.start:%Y-%m-%d}-{self.end:%Y-%m-%d}-{self.run}"


def fills_table(fills: NDArray[np.float64], history: History, settlement: Settlement, *, linear: bool = False) -> pa.Table:
    """Fills: trade, leg, kind, ts (microseconds), snapshot, row (-1: settled), instrument, contracts (sold < 0), price, fee, index, mid.

    The index is the snapshot's, and the delivery price where a contract settled. The mid is of the row's quotes, null where either side
    is missing or the contract settled: what crossing the spread cost is price less mid.
    """
    snapshot, row, contract = (fills[:, n].astype(np.int64) for n in (3, 4, 5))
    bid, ask = (quotes[np.maximum(row, 0)] for quotes in (history.quotes["bid"], history.quotes["ask"]))
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
            "source": _names(FILL_SOURCES, fills[:, 10]),
            "phase": pa.array(fills[:, 11].astype(np.int64)),
            "currency": pa.array(["usd" if linear else "coin"] * len(fills), pa.string()),
        }
    )


def trades_of(fills: pa.Table, history: History, settlement: Settlement, strategy: Strategy, *, linear: bool = False) -> pa.Table:
    """One row a structure: when and why it was opened and closed, and its profit after every fee of its options, in coin and USD.

    Each cash flow is valued at the index of its own time: a linear one in coin, an inverse one in USD.
    """
    rows: dict[int, dict[str, Any]] = {}
    phases = (strategy.legs, strategy.assigned_legs)
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
                "contracts": abs(f["contracts"]) / phases[f["phase"]][f["leg"]].ratio,
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
                "model_fills": 0,
                "live": 0,
            },
        )
        coin, usd = (1 / f["index"], 1.0) if linear else (1.0, f["index"])
        flow = -f["contracts"] * f["price"]
        trade["fees_coin"] += f["fee"] * coin
        trade["profit_coin"] += (flow - f["fee"]) * coin
        trade["profit_usd"] += (flow - f["fee"]) * usd
        trade["model_fills"] += f["source"] == "model"
        if f["kind"] == "open":
            trade["premium_coin"] += flow * coin
            trade["instruments"].append(f["instrument"])
            trade["live"] += 1
            continue
        trade["live"] -= 1
        trade |= {"closed_at": f["ts"], "index_close": f["index"], "exit": "closed" if f["kind"] == "close" else "settled"}
        if f["kind"] == "close":
            trade["closing_coin"] -= flow * coin
        else:
            trade["payoff_coin"] -= flow * coin
            c = f["contract"]
            trade |= {
                "settlement": METHODS[int(settlement.method[c])],
                "settlement_price": float(settlement.price[c]),
                "settlement_minutes": float(settlement.distance[c]),
            }
    for trade in rows.values():
        if trade.pop("live"):  # a calendar whose near leg settled is still open
            trade |= {"closed_at": None, "exit": None, "index_close": None}
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
        ("model_fills", pa.int64()),
    ]
)


def ledger_of(
    fills: pa.Table, equity: pa.Table, history: History, capital_coin: float, capital_usd: float, *, linear: bool = False
) -> pa.Table:
    """Every movement of cash: deposits, premium (in or out), payoff, fees, the perpetual's P&L, funding and fees, a wheel's conversions.

    Sums to the account's cash of each currency exactly.
    """
    start, currency = history.start, "usd" if linear else "coin"
    rows = [
        {"ts": start, "kind": "deposit", "currency": "coin", "amount": capital_coin, "trade": None, "instrument": None},
        {"ts": start, "kind": "deposit", "currency": "usd", "amount": capital_usd, "trade": None, "instrument": None},
    ]
    for f in fills.to_pylist():
        common = {"ts": f["ts"], "currency": currency, "trade": f["trade"], "instrument": f["instrument"]}
        settled = f["kind"] == "settle"
        rows.append(common | {"kind": "payoff" if settled else "premium", "amount": -f["contracts"] * f["price"]})
        rows.append(common | {"kind": "delivery_fee" if settled else "fee", "amount": -f["fee"]})
    for column, kind, of in (
        ("perpetual_pnl", "perpetual", currency),
        ("funding", "funding", currency),
        ("hedge_fee", "hedge_fee", currency),
        ("swapped_coin", "conversion", "coin"),
        ("swapped_usd", "conversion", "usd"),
    ):
        moved = equity.filter(pc.not_equal(equity[column], 0.0)).select(["ts", column]).to_pylist()
        rows += [{"ts": m["ts"], "kind": kind, "currency": of, "amount": m[column], "trade": None, "instrument": None} for m in moved]
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


def equity_table(equity: NDArray[np.float64], history: History, capital_coin: float, capital_usd: float) -> pa.Table:
    """Equity at each snapshot, struck at marks: coin cash + USD cash / index + value of options; USD at the index.

    Beside it margin (coin), delta (coins the account is long beside its equity), and what the perpetual moved: `perpetual_pnl`, `funding`
    and `hedge_fee` in the settlement currency, `swapped_*` a wheel's conversions; `deposited_*` what was paid in at the first snapshot
    before its decisions.
    """
    index = np.asarray(history.index)
    columns = {"ts": _stamps(np.asarray(history.known_at)), "index": pa.array(index)}
    for place, name in enumerate(EQUITY):
        values = equity[place]
        columns[name] = pa.array(values.astype(np.int64) if name in {"open_positions", "stale_marks"} else values.copy())
        if name == "equity_coin":
            columns["equity_usd"] = pa.array(values * index)
    for name, capital in (("deposited_coin", capital_coin), ("deposited_usd", capital_usd)):
        columns[name] = pa.array(np.where(np.arange(len(index)) == 0, capital, 0.0))
    return pa.table(columns)


def decisions_table(decisions: NDArray[np.float64], history: History) -> pa.Table:
    """Every decision with the state it saw: quotes of the first leg's row, NaN where it had none."""
    snapshot, row, contract = (decisions[:, n].astype(np.int64) for n in (0, 4, 5))
    trade = decisions[:, 1].astype(np.int64)

    def seen(name: str) -> pa.Array:
        values = history.quotes[name]
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
