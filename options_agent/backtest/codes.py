"""What the engine can do and why, as names and as the numbers the compiled loop writes for them.

The numbers are floats: the loop writes float arrays, and an integer constant would have every function compiled anew for it.
"""

from __future__ import annotations

from typing import Final

ACTIONS: Final = ("open", "skip", "hold", "close", "expire", "cancel", "roll", "liquidate")
OPEN, SKIP, HOLD, CLOSE, EXPIRE, CANCEL, ROLL, LIQUIDATE = map(float, range(len(ACTIONS)))

FILL_KINDS: Final = ("open", "close", "settle")
FILL_OPEN, FILL_CLOSE, FILL_SETTLE = map(float, range(len(FILL_KINDS)))

#: What a fill's price is from: the quotes crossed, the fill model for want of a quote, or an order that rested.
FILL_SOURCES: Final = ("quote", "model", "maker")
QUOTE, MODEL, MAKER = map(float, range(len(FILL_SOURCES)))

#: Name of a reason and what it says to a person; the number is the place in this order.
REASONS_IN_WORDS: Final[dict[str, str]] = {
    "entered": "entered",
    "no_expiry": "no expiry in the range of days",
    "no_strike": "no strike near the target, or no deltas at all",
    "same_strike": "two legs would be one contract",
    "no_quote": "the side to trade against is not quoted",
    "premium": "premium too small",
    "spread": "spread too wide",
    "open_interest": "open interest too small",
    "size": "quoted size too small",
    "signal": "a signal does not allow it",
    "capital": "capital does not secure a lot more",
    "max_open": "the most positions are open",
    "rules_hold": "no exit rule met",
    "take_profit": "take-profit met",
    "stop": "stop met",
    "equity_stop": "stop on equity met",
    "delta_breach": "a sold delta reached its limit",
    "days_left": "days left met",
    "not_quoted": "not quoted in this snapshot",
    "settled": "expired and settled",
    "front_expired": "the near leg expired",
    "rolled": "entered anew by a roll",
    "liquidated": "margin breached: liquidated",
    "directed": "as directed from outside the rules",
    "debit": "the roll would cost more than its limit",
}
REASONS: Final = tuple(REASONS_IN_WORDS)
(
    ENTERED,
    NO_EXPIRY,
    NO_STRIKE,
    SAME_STRIKE,
    NO_QUOTE,
    PREMIUM,
    SPREAD,
    OPEN_INTEREST,
    SIZE,
    SIGNAL,
    CAPITAL,
    MAX_OPEN,
    RULES_HOLD,
    TAKE_PROFIT,
    STOP,
    EQUITY_STOP,
    DELTA_BREACH,
    DAYS_LEFT,
    NOT_QUOTED,
    SETTLED,
    FRONT_EXPIRED,
    ROLLED,
    LIQUIDATED,
    DIRECTED,
    DEBIT,
) = map(float, range(len(REASONS)))
