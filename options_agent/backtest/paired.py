"""Two runs day by day: how far apart their equities went, how alike their days were, and whether the difference is more than luck."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from options_agent.backtest.aligned import iso, plain
from options_agent.backtest.bootstrap import RESAMPLES, SEED, block_length, days_of, interval, resample
from options_agent.backtest.metrics import daily_returns, sharpe
from options_agent.backtest.metrics.evidence import CURRENCIES, Currency, since_paid_in
from options_agent.backtest.metrics.grid import midnights
from options_agent.backtest.uncertainty import CONFIDENCE

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def paired(base: pa.Table, other: pa.Table, seed: int = SEED) -> dict[str, Any]:
    """Differences of two equities cut to the same range, other less base.

    The same days are drawn for both runs in each resample (a paired stationary bootstrap, Politis and Romano 1994), in blocks as long as
    the more persistent of the two and of their difference asks for: what the two have in common cancels. Under ten days, or after
    ruin, there is no ratio and no interval.

    Args:
        base, other: equity tables that `cut_equity` made for one range.
        seed: of the resampling.

    Returns:
        For `coin` and `usd`: `days`, `correlation` of daily returns, `tracking_error` (deviation of their difference, a year),
        `equity_difference` (growth of other less growth of base: at the end, at its largest, at its smallest, with dates), and
        `return_difference`, `sharpe_difference` as {value, low, high, odds}: odds is the share of resamples in which other is ahead.
        None where one is not defined.
    """
    return {currency: _in(currency, base, other, seed) for currency in CURRENCIES}


def growth_on_days(equity: pa.Table, currency: Currency) -> tuple[NDArray[np.int64], Floats]:
    """Equity over what it began with, at the start (1), at each UTC midnight and at the end of a cut."""
    ts, values = since_paid_in(equity, currency)
    at = np.unique(np.concatenate((ts[:1], midnights(ts), ts[-1:])))
    known = values[np.searchsorted(ts, at, side="right") - 1]
    known[:1] = values[:1]  # before the decisions of the first snapshot
    with np.errstate(divide="ignore", invalid="ignore"):
        return at, known / values[0]


def _in(currency: Currency, base: pa.Table, other: pa.Table, seed: int) -> dict[str, Any]:
    ts, values = (list(column) for column in zip(*(since_paid_in(table, currency) for table in (base, other)), strict=True))
    returns = [daily_returns(t, v) for t, v in zip(ts, values, strict=True)]
    both = all(r.size for r in returns)
    growth = [v[-1] / v[0] if v[0] > 0 else math.nan for v in values]
    drawn = _resampled(ts, values, seed) if both else None
    found = {
        "days": int(returns[0].size) if both else 0,
        "block_days": drawn[2] if drawn else None,
        "correlation": correlation(*returns) if both else math.nan,
        "tracking_error": float(np.std(returns[1] - returns[0], ddof=1)) * math.sqrt(365) if both else math.nan,
        "equity_difference": _equity_difference(base, other, currency),
        "return_difference": _with_interval(growth[1] - growth[0], drawn[0] if drawn else None),
        "sharpe_difference": _with_interval(
            sharpe(ts[1], values[1]) - sharpe(ts[0], values[0]) if both else math.nan, drawn[1] if drawn else None
        ),
    }
    plain_found: dict[str, Any] = plain(found)
    return plain_found


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's of two series of daily returns; NaN where one does not vary."""
    if a.size != b.size or a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))


def _resampled(ts: list[NDArray[np.int64]], values: list[Floats], seed: int) -> tuple[Floats, Floats, float] | None:
    """Differences of growth and of Sharpe ratio in each resample, and the block: the same seed draws the same days for both."""
    days = [days_of(t, v) for t, v in zip(ts, values, strict=True)]
    if days[0] is None or days[1] is None:
        return None
    first, second = days[0], days[1]
    block = max(block_length(x) for x in (first.growth - 1, second.growth - 1, second.growth - first.growth))
    drawn = [resample(of_run, block, seed) for of_run in (first, second)]
    # the broken days at both ends are kept as they were
    edges = [v[-1] / v[0] / float(np.prod(d.growth)) for v, d in zip(values, (first, second), strict=True)]
    return drawn[1].growth * edges[1] - drawn[0].growth * edges[0], drawn[1].sharpe - drawn[0].sharpe, block


def _with_interval(value: float, drawn: Floats | None) -> dict[str, float | None]:
    within = None if drawn is None or not math.isfinite(value) else interval(drawn, CONFIDENCE)
    if drawn is None or within is None:
        return {"value": value, "low": None, "high": None, "odds": None}
    known = drawn[np.isfinite(drawn)]
    # an exact tie speaks for neither
    odds = float((known > 0).mean() + (known == 0).mean() / 2)
    return {"value": value, "low": within[0], "high": within[1], "odds": odds}


def _equity_difference(base: pa.Table, other: pa.Table, currency: Currency) -> dict[str, Any]:
    at, mine = growth_on_days(base, currency)
    _, theirs = growth_on_days(other, currency)
    apart = theirs - mine
    most, least = int(np.argmax(apart)), int(np.argmin(apart))
    return {
        "end": float(apart[-1]),
        "most": float(apart[most]),
        "most_at": iso(int(at[most])),
        "least": float(apart[least]),
        "least_at": iso(int(at[least])),
    }


def method() -> dict[str, Any]:
    """What the intervals are, for the document."""
    return {"confidence": CONFIDENCE, "resamples": RESAMPLES, "bootstrap": "paired stationary, whole UTC days"}
