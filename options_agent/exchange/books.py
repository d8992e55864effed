"""Order books of the box: a few levels made from the best quote, kept with change ids as the exchange keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

DEPTH: Final = 5
_IDS_APART: Final = 1

Levels = dict[float, float]


@dataclass(slots=True)
class Book:
    """Levels as last told, price to size, and the id of the last change. `dirty` while the quote has moved on."""

    bids: Levels = field(default_factory=dict)
    asks: Levels = field(default_factory=dict)
    change_id: int = 0
    dirty: bool = True

    def refresh(self, row: dict[str, Any], tick: float, start: int) -> tuple[int, list[list[Any]], list[list[Any]]] | None:
        """Bring the levels up to the quote.

        Args:
            row: with `bid`, `ask`, `bid_size`, `ask_size`.
            tick: of the instrument.
            start: the first change id of a book that has none.

        Returns:
            The former change id, and changes of bids and asks as `[action, price, size]`; None where nothing changed.
        """
        if not self.dirty:
            return None
        self.dirty = False
        bids, asks = ladder(row["bid"], row["bid_size"], -tick), ladder(row["ask"], row["ask_size"], tick)
        if not self.change_id:
            self.bids, self.asks, self.change_id = bids, asks, start
            return None
        bid_changes, ask_changes = changes(self.bids, bids), changes(self.asks, asks)
        if not bid_changes and not ask_changes:
            return None
        former = self.change_id
        self.bids, self.asks, self.change_id = bids, asks, former + _IDS_APART
        return former, bid_changes, ask_changes


def ladder(best: float | None, size: float | None, step: float) -> Levels:
    """Levels away from the best price, each larger than the one before; empty where there is no best."""
    if best is None:
        return {}
    levels: Levels = {}
    amount = size or 1.0
    for n in range(DEPTH):
        price = round(best + n * step, 8)
        if price <= 0:
            break
        levels[price] = round(amount * (1 + 0.5 * n), 4)
    return levels


def changes(before: Levels, after: Levels) -> list[list[Any]]:
    """What turns `before` into `after`, in the exchange's form."""
    told: list[list[Any]] = [["delete", price, 0.0] for price in before if price not in after]
    for price, size in after.items():
        if price not in before:
            told.append(["new", price, size])
        elif before[price] != size:
            told.append(["change", price, size])
    return told
