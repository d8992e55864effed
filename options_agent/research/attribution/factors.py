"""Which market moves a book's days go with: a regression on factors with Newey-West errors. Association, not cause."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.metrics import daily_returns
from options_agent.backtest.metrics.grid import midnights

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

    from options_agent.backtest.history import History

    Floats = NDArray[np.float64]

DAY_US: Final = 86_400_000_000
#: Observations asked for by each factor and the constant; with fewer there is no regression.
DAYS_A_FACTOR: Final = 8
#: What a factor is, per day: return of the index (decimal); realised less implied variance (the day's squared moves less the square
#: of the implied volatility known before it over 365); change of DVOL, or of the regimes' implied volatility where there is none (decimal);
#: change of the 25-delta skew; mean funding rate of eight hours.
FACTORS: Final = ("index_return", "realised_less_implied", "implied_change", "skew_change", "funding")


@dataclass(frozen=True, slots=True)
class Regression:
    """Daily returns in coin on factors.

    Attributes:
        days, r_squared, lags: observations, share explained, lags of the errors.
        rows: by factor, and `constant`: coefficient, standard error, t, p.
        left_out: factors without data or without variation, and why; all of them where there are too few days.
    """

    days: int
    r_squared: float | None
    lags: int
    rows: Mapping[str, Mapping[str, float]]
    left_out: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        rows = {name: dict(row) for name, row in self.rows.items()}
        return {"days": self.days, "r_squared": self.r_squared, "lags": self.lags, "rows": rows, "left_out": dict(self.left_out)}


def daily_factors(
    history: History, features: pa.Table, dvol: tuple[NDArray[np.int64], Floats] | None = None
) -> tuple[NDArray[np.int64], dict[str, Floats]]:
    """(days,) ends of days, microseconds, and each factor over them; NaN where it is not known.

    Args:
        history: what was played.
        features: the regimes' table (`ts`, `implied_vol`, `skew`); may be empty.
        dvol: times and levels (decimal) of the exchange's index, where it is kept.
    """
    at, index = np.ascontiguousarray(history.known_at), np.ascontiguousarray(history.index)
    edges = midnights(at)
    closes = np.searchsorted(at, edges, side="right") - 1
    level = np.log(index[closes])
    moves, square = np.diff(np.log(index)), np.zeros(max(edges.size - 1, 0))
    day = np.searchsorted(edges, at[1:], side="left") - 1
    inside = (day >= 0) & (day < square.size)
    np.add.at(square, day[inside], moves[inside] ** 2)
    ts = np.asarray(features["ts"].combine_chunks().cast("int64")) if features.num_rows else np.empty(0, np.int64)
    implied = _as_of(edges, *dvol) if dvol is not None and dvol[0].size else _as_of(edges, ts, _column(features, "implied_vol"))
    skew = _as_of(edges, ts, _column(features, "skew"))
    funding = np.full(square.size, np.nan)
    known = np.searchsorted(edges, history.funding["ts"], side="left") - 1
    for n in range(square.size):
        rates = history.funding["rate_8h"][known == n]
        funding[n] = float(np.mean(rates)) if rates.size else np.nan
    return edges[1:], {
        "index_return": np.expm1(np.diff(level)),
        "realised_less_implied": square - implied[:-1] ** 2 / 365,
        "implied_change": np.diff(implied),
        "skew_change": np.diff(skew),
        "funding": funding,
    }


def regress(returns: Floats, factors: Mapping[str, Floats]) -> Regression:
    """Ordinary least squares with Newey-West (1987) errors, lags of 4 (n / 100)^(2/9); factors are in units of their own deviation.

    Args:
        returns: (days,) in coin, decimal. factors: (days,) each. Days on which any kept factor is unknown are left out.
    """
    left_out: dict[str, str] = {}
    kept: dict[str, Floats] = {}
    for name, values in factors.items():
        finite = np.isfinite(values)
        if finite.sum() < 0.8 * returns.size:
            left_out[name] = f"known on {int(finite.sum())} of {returns.size} days"
        elif np.ptp(values[finite]) <= 1e-12 * np.abs(values[finite]).max(initial=1e-300):
            left_out[name] = "it does not move"
        else:
            kept[name] = values
    usable = np.isfinite(returns) & np.all([np.isfinite(v) for v in kept.values()] or [np.isfinite(returns)], axis=0)
    days = int(usable.sum())
    if days < DAYS_A_FACTOR * (len(kept) + 1) or not kept:
        why = f"{days} days are too few for {len(kept)} factors; {DAYS_A_FACTOR * (len(kept) + 1)} are asked for"
        return Regression(days, None, 0, {}, left_out | dict.fromkeys(kept, why))
    import statsmodels.api as sm

    scaled = np.column_stack([(v[usable] - v[usable].mean()) / v[usable].std() for v in kept.values()])
    lags = math.floor(4 * (days / 100) ** (2 / 9))
    fitted = sm.OLS(returns[usable], sm.add_constant(scaled)).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True})
    rows = {
        name: {
            "coefficient": float(fitted.params[n]),
            "error": float(fitted.bse[n]),
            "t": float(fitted.tvalues[n]),
            "p": float(fitted.pvalues[n]),
        }
        for n, name in enumerate(("constant", *kept))
    }
    return Regression(days, float(fitted.rsquared), lags, rows, left_out)


def book_returns(equity: pa.Table) -> Floats:
    """(days,) daily returns in coin of an equity table."""
    ts = np.asarray(equity["ts"].combine_chunks().cast("int64"))
    found: Floats = daily_returns(ts, equity["equity_coin"].to_numpy())
    return found


def _column(table: pa.Table, name: str) -> Floats:
    return table[name].to_numpy().astype(np.float64) if name in table.column_names else np.full(table.num_rows, np.nan)


def _as_of(now: NDArray[np.int64], ts: NDArray[np.int64], values: Floats) -> Floats:
    if ts.size == 0:
        return np.full(now.size, np.nan)
    at = np.searchsorted(ts, now, side="right") - 1
    fresh = (at >= 0) & (now - ts[np.maximum(at, 0)] <= 2 * DAY_US)
    return np.where(fresh, values[np.maximum(at, 0)], np.nan)
