"""What the engine can do and why, as names and as the numbers the compiled loop writes for them.

The numbers are floats: the loop writes float arrays, and an integer constant would have every function compiled anew for it.
"""

from __future__ import annotations

from typing import Final

ACTIONS: Final = ("open", "skip", "hold", "close", "expire", "cancel")
OPEN, SKIP, HOLD, CLOSE, EXPIRE, CANCEL = map(float, range(len(ACTIONS)))

FILL_KINDS: Final = ("open", "close", "settle")
FILL_OPEN, FILL_CLOSE, FILL_SETTLE = map(float, range(len(FILL_KINDS)))

#: Name of a reason and what it says to a person; the number is the place in this order.
REASONS_IN_WORDS: Final[dict[str, str]] = {
    "entered": "entered",
    "no_expiry": "no expiry in the range of days",
    "no_delta": "no strike near the target delta, or no deltas at all",
    "no_quote": "the side to trade against is not quoted",
    "premium": "premium too small",
    "spread": "spread too wide",
    "open_interest": "open interest too small",
    "capital": "capital does not secure a lot more",
    "max_open": "the most positions are open",
    "rules_hold": "no exit rule met",
    "take_profit": "take-profit met",
    "stop": "stop met",
    "days_left": "days left met",
    "not_quoted": "not quoted in this snapshot",
    "settled": "expired and settled",
}
REASONS: Final = tuple(REASONS_IN_WORDS)
(
    ENTERED,
    NO_EXPIRY,
    NO_DELTA,
    NO_QUOTE,
    PREMIUM,
    SPREAD,
    OPEN_INTEREST,
    CAPITAL,
    MAX_OPEN,
    RULES_HOLD,
    TAKE_PROFIT,
    STOP,
    DAYS_LEFT,
    NOT_QUOTED,
    SETTLED,
) = map(float, range(len(REASONS)))
