"""The lines of a comparison as people read them, for the terminal and the page alike: a name, and for each run three texts."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.backtest.by_regime import SMALL_SAMPLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: What stands for a number that is not defined.
NONE: Final = "-"
#: Headlines: (metric, words, kind of number).
HEADLINES: Final = (
    ("return_coin", "return, {coin}", "signed"),
    ("return_usd", "return, USD", "signed"),
    ("hold_return_usd", "the coin held, USD", "signed"),
    ("max_drawdown_coin", "max drawdown, {coin}", "share"),
    ("max_drawdown_usd", "max drawdown, USD", "share"),
    ("sharpe_coin", "Sharpe, {coin}", "ratio"),
    ("probabilistic_coin", "  probabilistic, {coin}", "odds"),
    ("deflated_coin", "  deflated, {coin}", "odds"),
    ("sharpe_usd", "Sharpe, USD", "ratio"),
    ("probabilistic_usd", "  probabilistic, USD", "odds"),
    ("deflated_usd", "  deflated, USD", "odds"),
    ("profit_usd", "profit, USD", "money"),
    ("closed_trades", "closed trades", "count"),
    ("win_rate", "win rate", "share"),
    ("profit_factor", "profit factor", "ratio"),
    ("average_days_held", "days held, mean", "ratio"),
    ("assignment_rate", "assigned", "share"),
    ("fees_share", "fees, of capital", "share"),
    ("slippage_share", "slippage, of capital", "share"),
    ("hedge_costs_share", "hedging, of capital", "share"),
    ("exposure", "time in the market", "share"),
)
#: Of those and of all metrics, what rests on closed trades.
OF_TRADES: Final = frozenset(
    {"win_rate", "profit_factor", "payoff_ratio", "expectancy", "average_days_held", "assignment_rate", "premium_captured"}
    | {f"average_{what}_{currency}" for what in ("trade", "win", "loss") for currency in ("coin", "usd")}
)
#: What brackets say.
FEW: Final = f"In brackets: over fewer than {SMALL_SAMPLE} closed trades."
#: Kinds of trades of a pair in words; {base} and {other} are labels.
KIND_WORDS: Final = {
    "same": "the same",
    "other_terms": "both, on other terms",
    "other_contracts": "same time, other contracts",
    "only_base": "only {base}",
    "only_other": "only {other}",
}
EFFECT_WORDS: Final = {
    "size": "size",
    "premium": "premium at opening",
    "closing": "cost of closing",
    "payoff": "settlement",
    "fees": "fees",
    "rest": "anything else",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A metric of one run: on the common range, its interval there (of the whole range where there is none), and on the whole range."""

    common: str
    interval: str
    whole: str


@dataclass(frozen=True, slots=True)
class Line:
    """A metric and its cells, one for each run."""

    name: str
    words: str
    cells: tuple[Cell, ...]


def headlines(document: Mapping[str, Any]) -> list[Line]:
    """The first table: headline numbers of each run, with intervals."""
    coins = {run["coin"] for run in document["runs"]}
    coin = next(iter(coins)) if len(coins) == 1 else "own coin"
    return [Line(name, words.format(coin=coin), _cells(document["runs"], name, kind)) for name, words, kind in HEADLINES]


def kinds_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Which texts of a cell say something here: the whole range only where it is not the shared one."""
    common = document["common_range"]
    if not common:
        return ("whole", "interval")
    if any(run["range"][edge] != common[edge] for run in document["runs"] for edge in ("start", "end")):
        return ("common", "interval", "whole")
    return ("common", "interval")


def every_metric(document: Mapping[str, Any]) -> list[Line]:
    """Every metric of any of the runs, as plain numbers."""
    names = dict.fromkeys(name for run in document["runs"] for part in ("common", "whole") for name in (run[part] or {}).get("metrics", {}))
    return [Line(name, name, _cells(document["runs"], name, "plain")) for name in names]


def _cells(runs: Sequence[Mapping[str, Any]], name: str, kind: str) -> tuple[Cell, ...]:
    return tuple(
        Cell(_number(run["common"], name, kind), _within(run["common"] or run["whole"], name, kind), _number(run["whole"], name, kind))
        for run in runs
    )


def _number(figures: Mapping[str, Any] | None, name: str, kind: str) -> str:
    """In brackets where it is a mean over fewer trades than say something."""
    text = number(_of(figures, name), kind)
    closed = figures["metrics"].get("closed_trades") if figures else None
    return f"({text})" if name in OF_TRADES and text != NONE and closed is not None and closed < SMALL_SAMPLE else text


def _of(figures: Mapping[str, Any] | None, name: str) -> float | None:
    if figures is None:
        return None
    kind, _, currency = name.partition("_")
    odds = {"deflated": figures["deflated_sharpe"], "probabilistic": (figures["uncertainty"] or {}).get("probabilistic_sharpe", {})}
    found = odds[kind].get(currency) if kind in odds else figures["metrics"].get(name)
    return None if found is None else float(found)


def _within(figures: Mapping[str, Any] | None, name: str, kind: str) -> str:
    found = ((figures or {}).get("uncertainty") or {}).get("intervals", {}).get(name)
    return interval_words(found[0], found[1], kind) if found else ""


def interval_words(low: float | None, high: float | None, kind: str = "signed") -> str:
    """`-3.7..+22.0`; empty where there is none."""
    if low is None or high is None:
        return ""
    if kind == "signed":
        return f"{100 * low:+.1f}..{100 * high:+.1f}"
    if kind == "share":
        return f"{100 * low:.1f}..{100 * high:.1f}"
    return f"{low:.2f}..{high:.2f}"


def number(value: float | None, kind: str = "plain") -> str:
    """A number as its kind is read: shares in percent, `-` where it is not defined."""
    if value is None:
        return NONE
    if kind == "signed":
        return f"{100 * value:+.2f} %"
    if kind == "share":
        return f"{100 * value:.2f} %" if abs(value) < 0.1 else f"{100 * value:.1f} %"
    if kind == "count":
        return f"{value:,.0f}"
    if kind == "money":
        return f"{value:+,.0f}"
    if kind == "plain":
        return f"{value:.6g}"
    words = f"{value:.2f}"
    return words if float(words) else "0.00"


def coin_amount(value: float | None) -> str:
    """A signed amount of coin; `0` where it is nothing but rounding."""
    if value is None:
        return NONE
    return "0" if abs(value) < 5e-9 else f"{value:+.5f}"


def moment(at: str | None) -> str:
    """`2026-01-05 12:00`."""
    return NONE if at is None else f"{dt.datetime.fromisoformat(at):%Y-%m-%d %H:%M}"


def day(at: str | None) -> str:
    """`2026-01-05`."""
    return NONE if at is None else str(at)[:10]


def daily_lines(pair: Mapping[str, Any], currencies: Sequence[str]) -> list[tuple[str, list[str]]]:
    """A pair's daily figures, a line each: (words, a text for each currency)."""
    of = [pair["daily"][c] for c in currencies]
    apart = [d["equity_difference"] for d in of]
    return [
        ("difference of return, points", [_gap(d["return_difference"], 100) for d in of]),
        ("difference of Sharpe", [_gap(d["sharpe_difference"], 1) for d in of]),
        ("resamples with {other} ahead", [number(d["return_difference"]["odds"], "share") for d in of]),
        ("correlation of daily returns", [number(d["correlation"], "ratio") for d in of]),
        ("deviation of the difference, a year", [number(d["tracking_error"], "share") for d in of]),
        ("furthest ahead, points", [_on(a, "most") for a in apart]),
        (
            "furthest behind, points",
            [_on(a, "least") for a in apart],
        ),
        ("whole days", [str(d["days"]) for d in of]),
        ("mean block, days", [number(d["block_days"], "ratio") for d in of]),
    ]


def _on(apart: Mapping[str, Any], which: str) -> str:
    value = apart[which]
    return NONE if value is None else f"{_points(100 * value)} on {day(apart[f'{which}_at'])}"


def _points(value: float) -> str:
    """With its sign; what rounds to zero has none."""
    words = f"{value:+.2f}"
    return words if float(words) else "0.00"


def _gap(gap: Mapping[str, float | None], scale: float) -> str:
    if gap["value"] is None:
        return NONE
    within = "" if gap["low"] is None or gap["high"] is None else f" ({_points(scale * gap['low'])}..{_points(scale * gap['high'])})"
    return f"{_points(scale * gap['value'])}{within}"


def comparable(document: Mapping[str, Any], pair: Mapping[str, Any]) -> tuple[str, ...]:
    """Currencies in which a pair can be held against each other: USD only where the coins differ."""
    of = {run["label"]: run["coin"] for run in document["runs"]}
    return ("coin", "usd") if of[pair["base"]] == of[pair["other"]] else ("usd",)


def currency_names(document: Mapping[str, Any], pair: Mapping[str, Any]) -> list[str]:
    """`comparable` in words: the coin by its name."""
    coin = next(run["coin"] for run in document["runs"] if run["label"] == pair["base"])
    return ["USD" if c == "usd" else coin for c in comparable(document, pair)]


def effects_words(pair: Mapping[str, Any]) -> str:
    """`size +0.00087, fees +0.00607`: what made the difference in the trades both made; empty where nothing did."""
    effects = pair["trades"]["effects_coin"] or {}
    parts = {EFFECT_WORDS[name]: coin_amount(value) for name, value in effects.items()}
    return ", ".join(f"{name} {amount}" for name, amount in parts.items() if amount != "0")


def contracts_words(entry: Mapping[str, Any]) -> str:
    """Instruments of an entry of the trade diff: the base's, else the other's."""
    return ", ".join((entry["base"] or entry["other"])["instruments"])
