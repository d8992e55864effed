"""The table of every metric of a run: name, unit, definition, where the formula is from, and the function that computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from options_agent.backtest.metrics import drawdown, exposure, returns, trades
from options_agent.backtest.metrics.evidence import CURRENCIES, Currency, Evidence, since_paid_in

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: key in reports.
        family: metrics that differ by their currency only share it.
        unit: of the number.
        definition: in words.
        source: where the formula is from.
        peer: what it agrees with to 1e-9, `library.function`; empty where nobody shares the definition.
        function: NaN where it is not defined.
    """

    name: str
    family: str
    unit: str
    definition: str
    source: str
    peer: str
    function: Callable[[Evidence], float]


def _one(name: str, unit: str, definition: str, function: Callable[[Evidence], float], source: str = "", peer: str = "") -> list[Metric]:
    return [Metric(name, name, unit, definition, source, peer, function)]


def _both(
    family: str, unit: str, definition: str, function: Callable[[Evidence, Currency], float], source: str = "", peer: str = ""
) -> list[Metric]:
    def of(currency: Currency) -> Callable[[Evidence], float]:
        return lambda run: function(run, currency)

    return [
        Metric(f"{family}_{c}", family, ("USD" if c == "usd" else c) if unit == "money" else unit, definition, source, peer, of(c))
        for c in CURRENCIES
    ]


def _daily(
    family: str, unit: str, definition: str, function: Callable[[NDArray[np.float64]], float], source: str = "", peer: str = ""
) -> list[Metric]:
    return _both(family, unit, definition, lambda run, c: function(run.returns(c)), source, peer)


def _timed(
    family: str,
    unit: str,
    definition: str,
    function: Callable[[NDArray[np.int64], NDArray[np.float64]], float],
    source: str = "",
    peer: str = "",
) -> list[Metric]:
    return _both(family, unit, definition, lambda run, c: function(*run.path(c)), source, peer)


#: The equity's columns that an average is given of, with unit and words; null while a run does not have them.
GREEKS: Final = {
    "delta": ("coin", "coins the account is long beside its equity"),
    "gamma": ("coin per USD", "change of delta for a dollar of the index"),
    "vega": ("coin per vol point", "change of value for a point of volatility"),
    "theta": ("coin a day", "change of value for a day"),
}


def _greek(name: str) -> list[Metric]:
    unit, words = GREEKS[name]
    return _one(
        f"{name}_average", unit, f"mean over time of the account's {name}: {words}", lambda r: exposure.over_time(r.ts, r.column(name))
    )


METRICS: Final[tuple[Metric, ...]] = (
    # of returns
    *_both("return", "share", "equity at the end over what was paid in at the start, less 1", lambda r, c: returns.growth(r.path(c)[1])),
    *_daily(
        "annual_return",
        "share a year",
        "growth over the daily grid to the power 365 / days, less 1",
        returns.annual_return,
        "compounding",
        "quantstats.cagr",
    ),
    *_one(
        "hold_return_usd",
        "share",
        "of the coin itself: index at the end over index at the start, less 1",
        lambda r: returns.growth(r.equity_rows["index"].to_numpy()),
    ),
    *_one(
        "days",
        "count",
        "daily returns that ratios rest on; under ten of them, or after ruin, ratios are null",
        lambda r: float(r.returns("coin").size),
    ),
    *_daily(
        "volatility",
        "share a year",
        "sample deviation of daily returns, times sqrt(365)",
        returns.volatility,
        "square root of time",
        "quantstats.volatility",
    ),
    *_daily(
        "sharpe",
        "ratio a year",
        "mean over sample deviation of daily returns, times sqrt(365)",
        returns.sharpe_of,
        "Sharpe 1994",
        "quantstats.sharpe",
    ),
    *_daily(
        "sortino",
        "ratio a year",
        "mean over root mean square of the losing days (over all days), times sqrt(365)",
        returns.sortino,
        "Sortino and Price 1994, target 0",
        "quantstats.sortino",
    ),
    *_daily(
        "calmar",
        "ratio",
        "annual return over the largest drawdown of the daily equity",
        returns.calmar,
        "Young 1991, over the whole range",
        "quantstats.calmar",
    ),
    *_daily(
        "omega",
        "ratio",
        "sum of daily gains over sum of daily losses",
        returns.omega,
        "Keating and Shadwick 2002, threshold 0",
        "quantstats.omega",
    ),
    *_daily(
        "tail_ratio",
        "ratio",
        "95 % quantile of daily returns over the size of the 5 % quantile",
        returns.tail_ratio,
        "empirical quantiles",
        "empyrical.tail_ratio",
    ),
    *_daily("skew", "number", "third standardised moment of daily returns", returns.skew, "population moments", "scipy.skew"),
    *_daily(
        "kurtosis",
        "number",
        "fourth standardised moment of daily returns, less 3",
        returns.kurtosis,
        "population moments",
        "scipy.kurtosis",
    ),
    *_daily(
        "value_at_risk",
        "share a day",
        "5 % quantile of daily returns; a loss is below 0",
        returns.value_at_risk,
        "historical simulation",
        "empyrical.value_at_risk",
    ),
    *_daily(
        "expected_shortfall",
        "share a day",
        "mean of the worst 5 % of daily returns; a loss is below 0",
        returns.expected_shortfall,
        "Acerbi and Tasche 2002, historical",
        "empyrical.conditional_value_at_risk",
    ),
    *_daily("best_day", "share", "largest daily return", returns.best_day, "", "quantstats.best"),
    *_daily("worst_day", "share", "smallest daily return", returns.worst_day, "", "quantstats.worst"),
    *_daily("up_days", "share", "days of gain among days that moved", returns.up_days, "", "quantstats.win_rate"),
    # of drawdown
    *_both(
        "max_drawdown",
        "share",
        "largest fall from a running peak over what was paid in and every snapshot, as a share of that peak",
        lambda r, c: drawdown.max_drawdown(r.path(c)[1]),
        "running maximum",
        "quantstats.max_drawdown",
    ),
    *_timed(
        "max_drawdown_days",
        "days",
        "of that fall: from leaving the peak to reaching it again, or to the end of the run",
        drawdown.max_drawdown_days,
    ),
    *_timed("time_under_water", "share of time", "time spent below a former peak", drawdown.time_under_water),
    *_timed(
        "longest_under_water",
        "days",
        "longest time between leaving a peak and reaching it again, or the end of the run",
        drawdown.longest_under_water,
    ),
    *_daily(
        "ulcer_index",
        "share",
        "root of the sum of squared drawdowns of the daily equity over (days - 1)",
        returns.ulcer_index,
        "Martin and McCann 1989",
        "quantstats.ulcer_index",
    ),
    # of trades
    *_one("trades", "count", "structures opened", lambda r: float(r.trade_rows.num_rows)),
    *_one("closed_trades", "count", "of those, closed or settled", lambda r: float(r.closed.profit_coin.size)),
    *_one(
        "win_rate", "share", "closed trades with a profit above zero, in coin, after fees", lambda r: trades.mean(r.closed.profit_coin > 0)
    ),
    *_one("profit_factor", "ratio", "coin won over coin lost in closed trades", lambda r: trades.profit_factor(r.closed.profit_coin)),
    *_one(
        "payoff_ratio", "ratio", "average win over the size of the average loss, coin", lambda r: trades.payoff_ratio(r.closed.profit_coin)
    ),
    *_one(
        "expectancy",
        "ratio",
        "average trade over the size of the average loss, coin: won per coin a loss costs",
        lambda r: trades.expectancy(r.closed.profit_coin),
        "Tharp 1998, R-multiples",
    ),
    *_both("average_trade", "money", "mean profit of closed trades after fees", lambda r, c: trades.mean(r.profits(c))),
    *_both("average_win", "money", "mean profit of those above zero", lambda r, c: trades.mean(r.profits(c)[r.profits(c) > 0])),
    *_both(
        "average_loss",
        "money",
        "mean profit of those below zero (a number below zero)",
        lambda r, c: trades.mean(r.profits(c)[r.profits(c) < 0]),
    ),
    *_both("best_trade", "money", "largest profit of a closed trade", lambda r, c: exposure.peak(r.profits(c))),
    *_both("worst_trade", "money", "smallest profit of a closed trade", lambda r, c: -exposure.peak(-r.profits(c))),
    *_one(
        "losing_streak",
        "count",
        "most losing trades in a row, in the order they were opened",
        lambda r: trades.losing_streak(r.closed.profit_coin),
    ),
    *_one("average_days_held", "days", "mean over closed trades", lambda r: trades.mean(r.closed.days)),
    *_one("assignment_rate", "share", "closed trades that settled in the money", lambda r: trades.mean(r.closed.assigned)),
    # costs and premium
    *_both(
        "fees",
        "money",
        "fees of options paid, of trading and of delivery; USD at the index of each fill",
        lambda r, c: trades.fees(r.fills, usd=c == "usd"),
    ),
    *_both(
        "slippage",
        "money",
        "paid for crossing from the mid, over fills with both sides quoted; USD at the index of each fill",
        lambda r, c: trades.slippage(r.fills, usd=c == "usd"),
    ),
    *_both(
        "hedge_costs",
        "money",
        "fees of the perpetual that hedges, and half its spread; 0 without a hedge; USD at the index of each snapshot",
        lambda r, c: 0.0 - r.flow("hedge_fee", c),
    ),
    *_both(
        "hedge_profit",
        "money",
        "profit of the perpetual that hedges, before its costs and funding; in equity, not in trades",
        lambda r, c: r.flow("perpetual_pnl", c),
    ),
    *_both("funding", "money", "funding of the hedge received less paid; below 0 it was paid", lambda r, c: r.flow("funding", c)),
    *_one("premium_coin", "coin", "premium taken in less premium paid", lambda r: trades.premium(r.fills)),
    *_one("premium_sold_coin", "coin", "premium of the options sold to open", lambda r: trades.premium_sold(r.fills)),
    *_one(
        "premium_captured",
        "share",
        "of the premium that closed trades took in, what was left after closing costs and payoffs, before fees",
        lambda r: trades.premium_captured(r.closed),
    ),
    *_one(
        "turnover",
        "times a year",
        "contracts traded (one is an option on one coin; settlements not counted) a year over mean equity in coin",
        lambda r: exposure.turnover(r.ts, r.equity("coin"), r.fills.contracts[r.fills.traded]),
    ),
    # of exposure
    *_one(
        "exposure",
        "share of time",
        "time with an open position",
        lambda r: exposure.over_time(r.ts, r.equity_rows["open_positions"].to_numpy() > 0),
    ),
    *_one(
        "average_positions",
        "count",
        "mean over time of open positions",
        lambda r: exposure.over_time(r.ts, r.equity_rows["open_positions"].to_numpy()),
    ),
    *_one("most_positions", "count", "most open positions at once", lambda r: exposure.peak(r.equity_rows["open_positions"].to_numpy())),
    *_one(
        "stale_share",
        "share",
        "snapshots where a held leg had no fresh mark",
        lambda r: trades.mean(r.equity_rows["stale_marks"].to_numpy() > 0),
    ),
    *_one("margin_average", "share", "mean over time of initial margin over equity", lambda r: exposure.over_time(r.ts, r.margin_share())),
    *_one("margin_peak", "share", "largest initial margin over equity", lambda r: exposure.peak(r.margin_share())),
    *_both(
        "return_on_margin",
        "share",
        "return over the mean share of the equity that initial margin took while any was asked",
        lambda r, c: exposure.on_margin(r.ts, returns.growth(r.path(c)[1]), r.margin_share()),
    ),
    *_greek("delta"),
    *_greek("gamma"),
    *_greek("vega"),
    *_greek("theta"),
)


def measure(trade_rows: pa.Table, equity_rows: pa.Table, fill_rows: pa.Table) -> dict[str, float]:
    """Every metric of the table; NaN where one is not defined, or where the run has no such data."""
    run = Evidence(trade_rows, equity_rows, fill_rows)
    return {m.name: m.function(run) for m in METRICS}


def drawdown_dates(equity_rows: pa.Table) -> dict[Currency, drawdown.Drawdown | None]:
    """The deepest fall in each currency with its dates; None where equity never fell."""
    return {c: drawdown.deepest(*since_paid_in(equity_rows, c)) for c in CURRENCIES}
