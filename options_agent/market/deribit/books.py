"""Order books kept from a stream of changes: a gap in the change ids is noticed, and healed from a snapshot.

While a book is unsound nothing is read from it; changes that come meanwhile wait and are laid over the snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import ExchangeError
from options_agent.market.deribit.replies import as_documented

if TYPE_CHECKING:
    from options_agent.market.deribit.http import Caller

#: Changes that wait for a snapshot; beyond them the oldest are of no use.
_MOST_WAITING: Final = 10_000


@dataclass(slots=True)
class OrderBook:
    """Price to size of each side, and the id of the last change laid over it. `gaps` and `healed` count what happened to it."""

    instrument: str
    bids: dict[float, float] = field(default_factory=dict)
    asks: dict[float, float] = field(default_factory=dict)
    change_id: int = 0
    sound: bool = False
    gaps: int = 0
    healed: int = 0
    _waiting: list[dict[str, Any]] = field(default_factory=list)

    def hear(self, data: dict[str, Any]) -> bool:
        """Lay a message of the channel `book.*` over the book; False where it is unsound after it and a snapshot is wanted."""
        if data.get("type") == "snapshot":
            self._begin(data["bids"], data["asks"], data["change_id"])
            self._waiting.clear()
            return True
        if self.sound and data["change_id"] <= self.change_id:
            return True  # told twice
        if self.sound and data.get("prev_change_id") == self.change_id:
            self._apply(data)
            return True
        if self.sound:
            self.sound = False
            self.gaps += 1
        self._waiting.append(data)
        del self._waiting[:-_MOST_WAITING]
        return False

    def heal(self, snapshot: dict[str, Any]) -> bool:
        """Begin anew from a reply of `get_order_book` and lay what waited over it; False where there is a gap between the two."""
        waiting, self._waiting = self._waiting, []
        if self.sound and snapshot["change_id"] <= self.change_id:
            return True
        self._begin(snapshot["bids"], snapshot["asks"], snapshot["change_id"])
        for data in sorted(waiting, key=lambda each: each["change_id"]):
            if data["change_id"] <= self.change_id:
                continue
            if data["prev_change_id"] > self.change_id:
                self.sound = False
                self._waiting = waiting
                return False
            self._apply(data)
        self.healed += 1
        return True

    @property
    def best(self) -> tuple[float | None, float | None]:
        """Best bid and ask; neither while the book is unsound."""
        if not self.sound:
            return None, None
        return max(self.bids, default=None), min(self.asks, default=None)

    @property
    def mid(self) -> float | None:
        """The middle of a two-sided sound book."""
        bid, ask = self.best
        return (bid + ask) / 2 if bid is not None and ask is not None else None

    def _begin(self, bids: list[list[Any]], asks: list[list[Any]], change_id: int) -> None:
        self.bids = {level[-2]: level[-1] for level in bids}
        self.asks = {level[-2]: level[-1] for level in asks}
        self.change_id, self.sound = change_id, True

    def _apply(self, data: dict[str, Any]) -> None:
        for side, changes in ((self.bids, data["bids"]), (self.asks, data["asks"])):
            for action, price, size in changes:
                if action == "delete":
                    side.pop(price, None)
                else:
                    side[price] = size
        self.change_id = data["change_id"]


async def heal_book(caller: Caller, book: OrderBook, tries: int = 3) -> bool:
    """Ask for snapshots until one joins the changes that waited; False where none did."""
    for _ in range(tries):
        try:
            snapshot = await caller.call("public/get_order_book", {"instrument_name": book.instrument, "depth": 10_000})
            with as_documented("public/get_order_book", caller.url):
                if book.heal(snapshot):
                    return True
        except ExchangeError:
            return False
    return False
