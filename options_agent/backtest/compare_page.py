"""A comparison as one self-contained page: nothing is fetched by it, and it prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from options_agent.backtest import compare_rows as rows
from options_agent.backtest.compare_drawings import chart, colour_of, difference_curves, drawdown_curves, equity_curves
from options_agent.backtest.trade_reasons import TERMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

_TEMPLATE: Final = Path(__file__).parent / "templates" / "compare.html.j2"
#: Trades of a pair on the page, those that matter most; the JSON has all.
MOST_TRADES: Final = 100
#: Of these, shown without unfolding.
_AT_ONCE: Final = 20


def page_of(document: Mapping[str, Any], equities: Mapping[str, pa.Table]) -> str:
    """The whole page.

    Args:
        document: as `compare_runs` makes it.
        equities: as `diff.curves` makes them.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"moment": rows.moment, "day": rows.day, "number": rows.number, "amount": rows.coin_amount}
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    labels = [run["label"] for run in document["runs"]]
    return template.render(
        d=document,
        title=" / ".join(f"{run['strategy']} {run['underlying']}" for run in document["runs"][:3]) + (" ..." if len(labels) > 3 else ""),
        colours={label: colour_of(n) for n, label in enumerate(labels)},
        kinds_shown=rows.kinds_of(document),
        headlines=rows.headlines(document),
        metrics=rows.every_metric(document),
        charts=charts(document, equities, labels),
        pairs=[_pair(document, pair) for pair in document["pairs"]],
        correlations=_correlations(document),
        kinds=rows.KIND_WORDS,
        few=rows.FEW,
        terms=TERMS,
        most=MOST_TRADES,
        at_once=_AT_ONCE,
    )


def charts(document: Mapping[str, Any], equities: Mapping[str, pa.Table], labels: list[str]) -> list[tuple[str, str, str]]:
    """(title, what to know, SVG) of each picture that has something to show."""
    coins = {run["coin"] for run in document["runs"]}
    coin = next(iter(coins)) if len(coins) == 1 else "coin"
    own = "" if len(coins) == 1 else "each in its own coin: shares of capital, not amounts"
    usd_note = "dashed: the coin held"
    whole = "" if document["common_range"] else "each over its whole range, from its own start"
    found = [
        (
            f"Equity in {coin}",
            "; ".join(filter(None, (own, whole))),
            chart(equity_curves(equities, labels, "coin"), label="equity in coin"),
        ),
        (
            "Equity in USD",
            "; ".join(filter(None, (usd_note, whole))),
            chart(equity_curves(equities, labels, "usd"), label="equity in USD"),
        ),
        (f"Drawdown in {coin}", own, chart(drawdown_curves(equities, labels, "coin"), label="drawdown in coin", high=150)),
        ("Drawdown in USD", "", chart(drawdown_curves(equities, labels, "usd"), label="drawdown in USD", high=150)),
    ]
    if document["series"]:
        for currency, name in (("coin", coin), ("usd", "USD")):
            if currency == "coin" and len(coins) > 1:
                continue  # one coin less another is no amount
            curves = difference_curves(document["series"]["runs"], document["series"]["at"], currency)
            found.append(
                (
                    f"Ahead of {document['base']} in {name}",
                    "growth less the base's, points, day by day",
                    chart(curves, label=f"equity difference in {name}", unit="pts", high=150),
                )
            )
    return [(title, note, drawn) for title, note, drawn in found if drawn]


def _pair(document: Mapping[str, Any], pair: Mapping[str, Any]) -> dict[str, Any]:
    """A pair with the lines of its table."""
    currencies = rows.comparable(document, pair)
    lines = rows.daily_lines(pair, currencies) if pair["daily"] else []
    return {
        **pair,
        "currencies": rows.currency_names(document, pair),
        "effects": rows.effects_words(pair),
        "lines": [(words.format(other=pair["other"]), cells) for words, cells in lines],
    }


def _correlations(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The matrix, where it says more than the pairs do."""
    found: Mapping[str, Any] | None = document["correlation"]
    return found if found and len(found["labels"]) > 2 else None
