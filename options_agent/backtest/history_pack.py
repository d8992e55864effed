"""Packs quotes into a history's arrays, a block of days at a time, so that a day more costs a day's work.

A block's rows lie by (day, contract, time): a held contract's next rows are its neighbours in memory. Beside them lies the chain: the same
rows by (snapshot, expiry, right, strike), with strike and delta again, for what is scanned when a leg is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.compiled import compiled
from options_agent.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAY_US: Final = 86_400_000_000
MOST_ROWS: Final = 2**31 - 2
COLUMNS: Final = (
    "ts",
    "snapshot",
    "instrument",
    "expiry",
    "strike",
    "right",
    "bid",
    "ask",
    "bid_size",
    "ask_size",
    "mark",
    "mark_iv",
    "delta",
    "forward",
    "index",
    "open_interest",
)
ROW_FLOATS: Final = ("bid", "ask", "bid_size", "ask_size", "mark", "mark_iv", "delta", "forward", "open_interest")
SNAP: Final = np.dtype([("known_at", "<i8"), ("snapshot", "<i8"), ("index", "<f8"), ("group", "<i8")])
GROUP: Final = np.dtype([("expiry", "<i8"), ("first", "<i8"), ("call", "<i8")])
LINK: Final = np.dtype([("strike", "<f8"), ("delta", "<f8"), ("row", "<i8")])
QUOTE: Final = np.dtype([*((name, "<f8") for name in ROW_FLOATS), ("snapshot", "<i4"), ("contract", "<i4"), ("next", "<i8")])
CONTRACT: Final = np.dtype([("expiry", "<i8"), ("strike", "<f8"), ("call", "<i8")])
#: Tables that grow by appending. `groups` ends with a bound more, and so do the snapshots' groups (`group_end`).
GROWING: Final = {"snaps": SNAP, "groups": GROUP, "chain": LINK, "quotes": QUOTE, "contracts": CONTRACT}


class Sink(Protocol):
    """Where packed tables go: a list in memory, a file."""

    def append(self, name: str, values: NDArray[Any], /) -> None:
        """Add to the end of a table of `GROWING`."""


@dataclass(slots=True)
class Packer:
    """What is known of the blocks packed so far."""

    sink: Sink
    rows: int = 0
    snapshots: int = 0
    groups: int = 0
    known_at: int = -(2**62)
    index: float = float("nan")
    last_snapshot: int = -(2**62)
    instruments: dict[str, int] = field(default_factory=dict)

    def add(self, table: pa.Table) -> None:
        """Append the quotes (`COLUMNS`, any order) of whole days, all later than those before.

        Raises:
            DataError: a snapshot is not later than what is packed, or there are too many rows for one history.
        """
        if table.num_rows == 0:
            return
        day = _micros(table, "snapshot") // DAY_US
        if day.min() * DAY_US <= self.last_snapshot:
            raise DataError("days must be packed in order", remedy="pack the whole range at once")
        for each in np.unique(day):
            self._add_day(table.filter(pa.array(day == each)) if day[0] != day[-1] or day.min() != day.max() else table)

    def finish(self) -> None:
        """Write the last bounds: a snapshot and a group after all others, that hold nothing."""
        self.sink.append("snaps", np.array([(self.known_at, self.last_snapshot, self.index, self.groups)], SNAP))
        self.sink.append("groups", np.array([(0, self.rows, 0)], GROUP))

    def _add_day(self, table: pa.Table) -> None:
        if self.rows + table.num_rows > MOST_ROWS:
            raise DataError(f"more than {MOST_ROWS:,} quotes in one history", remedy="backtest a shorter range")
        micros = {name: _micros(table, name) for name in ("ts", "snapshot", "expiry")}
        call = np.asarray(pc.equal(table["right"], "C").combine_chunks(), dtype=np.int8)
        strike = _floats(table, "strike")
        encoded = table["instrument"].combine_chunks().dictionary_encode()
        names, code = encoded.dictionary.to_pylist(), np.asarray(encoded.indices, dtype=np.int64)
        chain = np.lexsort((strike, call, micros["expiry"], micros["snapshot"]))
        contract = self._contracts(names, code[chain], micros["expiry"][chain], strike[chain], call[chain])
        self._chain(table, chain, micros, call, strike, contract)
        self.rows += chain.size
        self.last_snapshot = int(micros["snapshot"].max())

    def _contracts(
        self, names: list[str], code: NDArray[np.int64], expiry: NDArray[np.int64], strike: NDArray[np.float64], call: NDArray[np.int8]
    ) -> NDArray[np.int64]:
        """Number of each row's contract; new ones are numbered in the order of the chain."""
        seen, first = np.unique(code, return_index=True)
        number = np.empty(len(names), np.int64)
        new = []
        for c, at in sorted(zip(seen.tolist(), first.tolist(), strict=True), key=lambda pair: pair[1]):
            known = self.instruments.get(names[c])
            if known is None:
                known = self.instruments[names[c]] = len(self.instruments)
                new.append(at)
            number[c] = known
        table = np.empty(len(new), CONTRACT)
        table["expiry"], table["strike"], table["call"] = expiry[new], strike[new], call[new]
        self.sink.append("contracts", table)
        result: NDArray[np.int64] = number[code]
        return result

    def _chain(
        self,
        table: pa.Table,
        chain: NDArray[np.int64],
        micros: dict[str, NDArray[np.int64]],
        call: NDArray[np.int8],
        strike: NDArray[np.float64],
        contract: NDArray[np.int64],
    ) -> None:
        snapshot, expiry, call, strike = micros["snapshot"][chain], micros["expiry"][chain], call[chain], strike[chain]
        new_snapshot = np.append(True, snapshot[1:] != snapshot[:-1])
        new_group = new_snapshot | np.append(True, (expiry[1:] != expiry[:-1]) | (call[1:] != call[:-1]))
        snapshot_at, group_at = np.flatnonzero(new_snapshot), np.flatnonzero(new_group)
        known = np.maximum.reduceat(micros["ts"][chain], snapshot_at)
        known_at = np.maximum.accumulate(np.maximum(known, self.known_at))
        index = _index(_floats(table, "index")[chain], micros["ts"][chain], snapshot_at, self.index)
        snaps = np.empty(snapshot_at.size, SNAP)
        snaps["known_at"], snaps["snapshot"], snaps["index"] = known_at, snapshot[snapshot_at], index
        snaps["group"] = self.groups + np.searchsorted(group_at, snapshot_at)
        groups = np.empty(group_at.size, GROUP)
        groups["expiry"], groups["first"], groups["call"] = expiry[group_at], self.rows + group_at, call[group_at]
        by_contract = np.argsort(contract, kind="stable")  # the chain is in time order, so a contract's rows are
        links, quotes = np.empty(chain.size, LINK), np.empty(chain.size, QUOTE)
        links["strike"], links["delta"] = strike, _floats(table, "delta")[chain]
        links["row"][by_contract] = self.rows + np.arange(chain.size)
        for name in ROW_FLOATS:
            quotes[name] = _floats(table, name)[chain[by_contract]]
        quotes["snapshot"] = self.snapshots + (np.cumsum(new_snapshot) - 1)[by_contract]
        quotes["contract"], quotes["next"] = contract[by_contract], -1
        for name, packed in (("snaps", snaps), ("groups", groups), ("chain", links), ("quotes", quotes)):
            self.sink.append(name, packed)
        self.snapshots += snapshot_at.size
        self.groups += group_at.size
        self.known_at, self.index = int(known_at[-1]), float(index[-1])


def link_rows(quotes: NDArray[Any], contracts: int) -> None:
    """Set `next` of each quote to the next one of the same contract, -1 at its end; a contract's quotes are in time order."""
    _link(quotes, np.full(contracts, -1, np.int64))


@compiled()
def _link(quotes: NDArray[Any], later: NDArray[np.int64]) -> None:
    for row in range(quotes.size - 1, -1, -1):
        contract = quotes[row].contract
        quotes[row].next = later[contract]
        later[contract] = row


def _index(per_row: NDArray[np.float64], ts: NDArray[np.int64], snapshot_at: NDArray[np.int64], former: float) -> NDArray[np.float64]:
    """The index each snapshot knew last, by its rows' own times; the former one where a snapshot has none."""
    snapshot = np.repeat(np.arange(snapshot_at.size), np.diff(np.append(snapshot_at, ts.size)))
    per_row = per_row[np.lexsort((ts, snapshot))]
    filled = np.where(np.isfinite(per_row), np.arange(per_row.size), -1)
    last = np.maximum.accumulate(filled)[np.append(snapshot_at[1:], per_row.size) - 1]
    return np.where(last >= 0, per_row[np.maximum(last, 0)], former)


def _micros(table: pa.Table, name: str) -> NDArray[np.int64]:
    return np.asarray(table[name].combine_chunks().cast(pa.int64()), dtype=np.int64)


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    return np.asarray(table[name].combine_chunks().to_numpy(zero_copy_only=False), dtype=np.float64)
