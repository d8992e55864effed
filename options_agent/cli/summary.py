"""The final table: what was harvested, kept, caught, archived and missed, and what each strategy made of it by regime."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from options_agent.backtest.by_regime import SMALL_DAYS, SMALL_SAMPLE
from options_agent.backtest.compare import interval_of
from options_agent.backtest.metrics import METRICS
from options_agent.backtest.runner import current_reports
from options_agent.backtest.uncertainty import CONFIDENCE, deflated
from options_agent.lake.receipts import receipts
from options_agent.lake.store import open_lake

if TYPE_CHECKING:
    import datetime as dt

    from rich.console import Console

    from options_agent.lake.store import Lake
    from options_agent.settings import Settings


HOW_TO_READ: Final = (
    "Intervals: the same days in another order (stationary bootstrap); they know no loss that did not come yet. Deflated: the odds that "
    "the true Sharpe ratio is above what luck gives the best of as many runs; under 0.95 it proves nothing."
)

#: What dim numbers are.
FEW: Final = f"dim and in brackets: on under {SMALL_SAMPLE} trades, or under {SMALL_DAYS} days"


def print_summary(settings: Settings, start: dt.date, end: dt.date, console: Console) -> None:
    """Print the tables, the shortest last: it is what stands above the prompt."""
    lake = open_lake(settings)
    console.print(data_table(lake, settings, start, end))
    reports = current_reports(settings)
    console.print(strategy_table(reports))
    console.print(f"[dim]Trades belong to the regime known at their entry, returns to the regime of each step; {FEW}.[/]")
    for report in reports:
        for reason in report["status_reasons"]:
            console.print(f"[yellow]{report['strategy']['name']} {report['underlying']} is INCONCLUSIVE[/]: {reason}")
    console.print(overview_table(reports))
    console.print(f"[dim]{HOW_TO_READ}[/]")


def data_table(lake: Lake, settings: Settings, start: dt.date, end: dt.date) -> Table:
    """Rows harvested, kept, quarantined by rule, archived; gaps; a column per underlying, from the receipts of the range."""
    table = Table(title=f"Quotes, {start} to {end}", title_justify="left")
    table.add_column("")
    columns = []
    for underlying in settings.underlyings:
        table.add_column(underlying, justify="right")
        columns.append(_numbers(lake, underlying, start, end))
    rules = sorted({name for column in columns for name, n in column.items() if name.startswith("  ") and n != "0"})
    for name in (
        "days",
        "snapshots",
        "rows harvested",
        "rows kept",
        "rows quarantined",
        *rules,
        "IV computed here",
        "greeks computed here",
    ):
        table.add_row(name, *(column.get(name, "0") for column in columns))
    table.add_section()
    for name in ("bytes raw", "bytes archived", "bytes per quote archived", "gaps found", "snapshots missing"):
        table.add_row(name, *(column.get(name, "-") for column in columns))
    return table


def _numbers(lake: Lake, underlying: str, start: dt.date, end: dt.date) -> dict[str, str]:
    totals = {}
    for stage in ("harvest", "quality", "archive"):
        inside = [r for r in receipts(lake, stage, underlying) if start.isoformat() <= r.partition <= end.isoformat()]
        totals[stage] = Counter({"days": len(inside)})
        for receipt in inside:
            totals[stage].update(receipt.counts)
    harvest, quality, archive = totals["harvest"], totals["quality"], totals["archive"]
    gaps = next(iter(receipts(lake, "gaps", underlying)), None)
    numbers = {
        "days": harvest["days"],
        "snapshots": harvest["snapshots"],
        "rows harvested": harvest["rows"],
        "rows kept": quality["clean"],
        "rows quarantined": quality["quarantined"],
        **{f"  by {k.removeprefix('rule:')}": v for k, v in quality.items() if k.startswith("rule:")},
        **{f"  kept, warned: {k.removeprefix('warn:')}": v for k, v in quality.items() if k.startswith("warn:")},
        "IV computed here": quality["iv_computed"],
        "greeks computed here": quality["greeks_computed"],
        "bytes raw": harvest["bytes"],
        "bytes archived": archive["bytes"],
    }
    shown = {name: f"{n:,}" for name, n in numbers.items()}
    shown["bytes per quote archived"] = f"{archive['bytes'] / archive['rows']:.1f}" if archive["rows"] else "-"
    if gaps is not None:
        shown |= {"gaps found": f"{gaps.counts['gaps']:,}", "snapshots missing": f"{gaps.counts['missing']:,}"}
    return shown


def strategy_table(reports: list[dict[str, Any]], among: list[dict[str, Any]] | None = None) -> Table:
    """Each strategy in all, with the intervals of its headlines, and by regime; what rests on little is dim and in brackets.

    Args:
        reports: what is shown.
        among: every report that was looked at, these included; the deflated Sharpe ratio counts them. Those shown unless given.
    """
    looked_at = reports if among is None else among
    odds = deflated(looked_at)
    table = Table(title=f"Strategies by regime ({len(looked_at)} runs looked at)", title_justify="left")
    table.add_column("strategy\nregime", no_wrap=True)
    for name in ("trades", "days", "return\ncoin", "return\nUSD", "max DD\ncoin", "max DD\nUSD", "Sharpe\ncoin", "deflated", "win\nrate"):
        table.add_column(name, justify="right", no_wrap=True)
    for report in sorted(reports, key=_by_name):
        m = report["metrics"]
        who = f"{report['strategy']['name']} {report['underlying']}"
        if report["status"] != "ok":
            table.add_row(who, _count(m["closed_trades"]), "", "[yellow]INCONCLUSIVE[/]")
        else:
            trades, *numbers = _cells({**m, "trades": m["closed_trades"]}, odds.get(report["run"]))
            table.add_row(who, trades, _count(m.get("days")), *numbers, style="bold")
            table.add_row(*_intervals(report))
            for regime in report["regimes"]:
                table.add_row(f"  {regime['regime']}", *_of_regime(regime))
        table.add_section()
    return table


def overview_table(reports: list[dict[str, Any]]) -> Table:
    """A line a strategy and underlying: the headlines with their intervals, and what is left of the Sharpe ratio after as many looks."""
    odds = deflated(reports)
    within = f"{100 * _confidence(reports[0]):.0f} %\nwithin" if reports else ""
    table = Table(title=f"Strategies, in all ({len(reports)} runs looked at)", title_justify="left")
    table.add_column("strategy", no_wrap=True)
    for name in ("trades", "return\ncoin", within, "return\nUSD", "max DD\ncoin", "Sharpe\ncoin", within, "deflated", "win\nrate"):
        table.add_column(name, justify="right", no_wrap=True)
    for report in sorted(reports, key=_by_name):
        m, who = report["metrics"], f"{report['strategy']['name']} {report['underlying']}"
        if report["status"] != "ok":
            table.add_row(who, _count(m["closed_trades"]), "", "[yellow]INCONCLUSIVE[/]")
            continue
        trades, coin, usd, drawdown, _, sharpe, beyond_luck, wins = _cells({**m, "trades": m["closed_trades"]}, odds.get(report["run"]))
        luck = _interval(report, "return_coin"), _interval(report, "sharpe_coin", 1.0, 1)
        table.add_row(who, trades, coin, luck[0], usd, drawdown, sharpe, luck[1], beyond_luck, wins)
    return table


def metrics_table(report: dict[str, Any]) -> Table:
    """Every metric of a run with its unit, coin beside USD; headlines with their interval."""
    table = Table(title=f"All metrics, headlines with their {100 * _confidence(report):.0f} % interval", title_justify="left")
    table.add_column("metric", no_wrap=True)
    for name in ("in coin, or in all", "in USD"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    known = {m.name: m for m in METRICS}
    values: dict[str, float | None] = report["metrics"]
    rows: dict[str, dict[str, str]] = {}
    # a report of another version may lack metrics, and name some that this one has not
    for name in [*(n for n in known if n in values), *(n for n in values if n not in known)]:
        metric, value = known.get(name), values[name]
        unit = metric.unit if metric else ""
        row = rows.setdefault(metric.family if metric else name, {"unit": "coin, USD" if unit in {"coin", "USD"} else unit})
        row["usd" if name.endswith("_usd") else "coin"] = _measured(report, name, value, unit)
    for name, row in rows.items():
        unit = row["unit"] if "usd" in row or row["unit"] != "coin, USD" else "coin"
        table.add_row(name, row.get("coin", ""), row.get("usd", ""), unit.replace("share", "%"))
    return table


def _measured(report: dict[str, Any], name: str, value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    scale, form = (100.0, "z,.2f") if unit.startswith("share") else (1.0, "z,.2f" if unit == "USD" else ".4g")
    found = interval_of(report, name)
    within = "" if found is None else f"  ({scale * found[0]:{form}} to {scale * found[1]:{form}})"
    return f"{scale * value:{form}}{within}"


def _by_name(report: dict[str, Any]) -> tuple[str, str]:
    return report["strategy"]["name"], report["underlying"]


def _confidence(report: dict[str, Any]) -> float:
    return float(report.get("uncertainty", {}).get("confidence", CONFIDENCE))


def _intervals(report: dict[str, Any]) -> list[str]:
    """The row of intervals below a run's numbers."""
    columns = [_interval(report, name) for name in ("return_coin", "return_usd", "max_drawdown_coin", "max_drawdown_usd")]
    return [f"  {100 * _confidence(report):.0f} % within", "", "", *columns, _interval(report, "sharpe_coin", 1.0, 1), "", ""]


def _of_regime(regime: dict[str, Any]) -> list[str]:
    """A regime's numbers; those on few trades, or of few days of it, are marked so that a pipe without colours shows it, too."""
    days = regime["hours"] / 24
    few = {True: regime["trades"] < SMALL_SAMPLE, False: days < SMALL_DAYS}
    trades, *path, _, wins = _cells(regime)
    cells = [(trades, True), (_count(days), False), *((cell, False) for cell in path), ("", False), (wins, True)]
    return [f"[dim]({cell})[/]" if cell not in ("", "-") and few[of_trades] else cell for cell, of_trades in cells]


def _interval(report: dict[str, Any], name: str, scale: float = 100.0, digits: int = 0) -> str:
    found = interval_of(report, name)
    return "-" if found is None else f"{scale * found[0]:.{digits}f}..{scale * found[1]:.{digits}f}"


def _cells(numbers: dict[str, Any], odds: float | None = None) -> list[str]:
    return [
        _count(numbers["trades"]),
        _percent(numbers["return_coin"], signed=True),
        _percent(numbers["return_usd"], signed=True),
        _percent(numbers["max_drawdown_coin"]),
        _percent(numbers["max_drawdown_usd"]),
        "-" if numbers["sharpe_coin"] is None else f"{numbers['sharpe_coin']:.2f}",
        "" if odds is None else f"{odds:.2f}",
        _percent(numbers["win_rate"]),
    ]


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _percent(value: float | None, *, signed: bool = False) -> str:
    return "-" if value is None else f"{100 * value:+z.2f} %" if signed else f"{100 * value:z.1f} %"
