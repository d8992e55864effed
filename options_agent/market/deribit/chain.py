"""The live chain: the newest known values of every listed option, from tickers and summaries, and the table of a snapshot.

Each value carries when it was heard (`ts`): a row of a snapshot says when it was known, not when it was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from options_agent.contracts import coin_of, settlement_of
from options_agent.market.deribit.replies import VALUES, Contract, Values, contracts_of, summary_values, ticker_values
from options_agent.quotes import UTC_US, quote_table

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

#: How much older than the newest a ticker can be and still be one that came late.
_MOST_LATE_MS: Final = 120_000
#: Positions of what a book summary also tells: it confirms or contradicts a ticker's row by these.
_SHARED: Final = tuple(VALUES.index(name) for name in ("bid", "ask", "mark"))


def index_of(underlying: str) -> str:
    """`btc_usd` of BTC, `btc_usdc` of BTC_USDC."""
    return f"{coin_of(underlying).lower()}_{'usdc' if settlement_of(underlying) == 'usdc' else 'usd'}"


def currency_of(underlying: str) -> str:
    """The currency the exchange lists a family under: USDC for all linear ones."""
    return "USDC" if settlement_of(underlying) == "usdc" else underlying


@dataclass(slots=True)
class LiveChain:
    """Everything known of the chains of some families. `ts` is microseconds since 1970 by the market's clock.

    `learnt`: contracts that a summary told of before the listing did; whoever subscribes takes them out.
    """

    underlyings: tuple[str, ...]
    contracts: dict[str, Contract] = field(default_factory=dict)
    index: dict[str, tuple[float, int]] = field(default_factory=dict)
    learnt: list[str] = field(default_factory=list)
    _rows: dict[str, tuple[int, Values]] = field(default_factory=dict)

    def list_contracts(self, currency: str, contracts: dict[str, Contract]) -> tuple[list[str], list[str]]:
        """Take over a currency's listing; returns what is new and what is gone."""
        ours = {name: each for name, each in contracts.items() if each.option.underlying in self.underlyings}
        before = {name for name, each in self.contracts.items() if currency_of(each.option.underlying) == currency}
        gone = [name for name in before if name not in ours]
        for name in gone:
            self.delist(name)
        self.contracts.update(ours)
        return [name for name in ours if name not in before], gone

    def delist(self, name: str) -> None:
        """A contract is no longer traded."""
        self.contracts.pop(name, None)
        self._rows.pop(name, None)

    def hear_ticker(self, data: dict[str, Any], ts: int) -> None:
        """A ticker came in at `ts`. Of a contract that is not listed it is dropped; so is one older than what is known.

        The exchange's own stamp orders tickers of a contract: a late one does not put the clock back. One that is minutes older is
        not late: the exchange has put its clock back, and is believed.
        """
        name = data["instrument_name"]
        if name in self.contracts:
            known = self._rows.get(name)
            if known is not None and known[1][-1] is not None and 0 < known[1][-1] - data["timestamp"] < _MOST_LATE_MS:
                return
            self._rows[name] = (ts, (*ticker_values(data), float(data["timestamp"])))

    def hear_summary(self, summaries: Iterable[dict[str, Any]], ts: int, stale_before: int) -> int:
        """A book summary of a whole currency came in at `ts`; returns how many rows it renewed.

        A row heard before `stale_before` is confirmed (same bid, ask and mark: it still stands, greeks and sizes included) or
        replaced by what the summary tells. A contract it tells of that the listing did not have yet is listed by its name: what
        the exchange trades is what a snapshot has to hold.
        """
        renewed = 0
        for data in summaries:
            name = str(data.get("instrument_name", ""))
            contract = self.contracts.get(name) or self._learn(name)
            if contract is None:
                continue
            known = self._rows.get(name)
            if known is not None and known[0] >= stale_before:
                continue
            index = self.index.get(contract.option.underlying)
            values = summary_values(data, index[0] if index else None)
            if known is not None and all(known[1][at] == values[at] for at in _SHARED):
                self._rows[name] = (ts, known[1])
            else:
                self._rows[name] = (ts, (*values, None))
            renewed += 1
        return renewed

    def _learn(self, name: str) -> Contract | None:
        found = contracts_of([{"kind": "option", "instrument_name": name}], place="summary").get(name)
        if found is None or found.option.underlying not in self.underlyings:
            return None
        self.contracts[name] = found
        self.learnt.append(name)
        return found

    def expected(self, underlying: str, at: dt.datetime) -> list[str]:
        """Contracts of a family that are listed and expire after a grid time."""
        return [name for name, each in self.contracts.items() if each.option.underlying == underlying and each.expiry > at]

    def stale(self, underlying: str, at: dt.datetime, before: int) -> int:
        """How many expected contracts have no row heard since `before`."""
        return sum(1 for name in self.expected(underlying, at) if name not in self._rows or self._rows[name][0] < before)

    def table(self, underlying: str, snapshot: dt.datetime, *, heard_since: int, network: str, region: str) -> pa.Table | None:
        """The rows of a snapshot: what was heard since `heard_since` of contracts that expire after the grid time; None without any."""
        names = [
            name for name in self.expected(underlying, snapshot) if (row := self._rows.get(name)) is not None and row[0] >= heard_since
        ]
        if not names:
            return None
        rows = [self._rows[name] for name in names]
        contracts = [self.contracts[name] for name in names]
        known = self.index.get(underlying)
        columns: dict[str, object] = {
            name: pa.array([values[at] for _, values in rows], pa.float64()) for at, name in enumerate(VALUES) if name != "index"
        }
        at = VALUES.index("index")
        columns |= {
            "index": pa.array(
                [values[at] if values[at] is not None else (known[0] if known else None) for _, values in rows], pa.float64()
            ),
            "ts": pa.array([ts for ts, _ in rows], pa.int64()).cast(UTC_US),
            "snapshot": pa.repeat(pa.scalar(snapshot, UTC_US), len(rows)),
            "underlying": pa.repeat(underlying, len(rows)),
            "instrument": pa.array(names),
            "expiry": pa.array([each.expiry for each in contracts], UTC_US),
            "strike": pa.array([float(each.option.strike) for each in contracts], pa.float64()),
            "right": pa.array([each.option.right for each in contracts]),
            "settlement": pa.repeat(settlement_of(underlying), len(rows)),
            "source": pa.repeat("deribit", len(rows)),
            "network": pa.repeat(network, len(rows)),
            "region": pa.repeat(region, len(rows)),
        }
        return quote_table(columns, place=f"deribit {underlying} {snapshot.isoformat()}")
