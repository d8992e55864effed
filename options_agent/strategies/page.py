"""What secures a strategy and what it risks, in words; and the catalogue as the table of docs/strategies.md.

`python -m options_agent.strategies.page` prints that table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from options_agent.strategies.catalogue import CATALOGUE

if TYPE_CHECKING:
    from options_agent.strategies.rules import Strategy

_SECURED: Final = {
    "coin": "the coin, a short call each",
    "cash": "USD, the strike of each short put",
    "margin": "a coin of equity a unit",
    "standard": "the exchange's initial margin",
}


def secured_by(strategy: Strategy) -> str:
    """What stands behind the legs sold."""
    hedged = ", hedged by the perpetual" if strategy.hedge else ""
    wheel = ", then the coin" if strategy.assigned_legs else ""
    return _SECURED[strategy.collateral] + wheel + hedged


def risk(strategy: Strategy) -> str:
    """What a far rise and a far fall of the index can cost, from the legs alone: in USD, before exits and hedge."""
    sold = {leg.right for leg in strategy.legs if leg.side == "sell"}
    net = {right: sum(leg.ratio * (1 if leg.side == "buy" else -1) for leg in strategy.legs if leg.right == right) for right in ("C", "P")}
    held = 1.0 if strategy.collateral == "coin" else 0.0
    words = []
    if net["C"] + held < 0:
        words.append("a rise: no limit")
    elif net["C"] < 0:
        words.append("a rise: given up above the strike")
    elif "C" in sold:
        words.append("a rise: ends at the leg bought")
    if net["P"] < 0:
        words.append("a fall: down to zero")
    elif "P" in sold:
        words.append("a fall: ends at the leg bought")
    elif held:
        words.append("a fall: the coin's, down to the put bought" if net["P"] >= held else "a fall: the coin's own")
    return "; ".join(words) or "what was paid"


def catalogue_table() -> str:
    """Every strategy of the catalogue as a row of Markdown."""
    lines = ["| name | what it does | in words | secured by | risk |", "|---|---|---|---|---|"]
    lines += [f"| `{s.name}` | {s.description} | {s.in_words()} | {secured_by(s)} | {risk(s)} |" for s in CATALOGUE.values()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(catalogue_table(), end="")  # noqa: T201 the module's one job on the terminal
