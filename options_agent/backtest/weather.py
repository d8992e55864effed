"""Features of the market at each snapshot, and what a strategy's signals and dials make of them. Causal: as of the snapshot's own time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.tape import BY_RULES, WEATHER
from options_agent.errors import DataError
from options_agent.strategies.correlation import size_factor
from options_agent.strategies.ranking import trailing_rank

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

    from options_agent.backtest.history import History
    from options_agent.strategies.rules import Dial, Strategy

DAY_US: Final = 86_400_000_000
#: A feature older than this is unknown.
STALE_US: Final = 2 * DAY_US
#: The rank of implied volatility looks back this far, and is unknown with less than a tenth of it.
RANK_DAYS: Final = 365
LEAST_RANK_DAYS: Final = 36
_FROM_TABLE: Final = ("trend_return", "trend_score", "realised_vol", "implied_vol", "skew", "term_slope")


def features_at(history: History, table: pa.Table, correlation: NDArray[np.float64] | None = None) -> dict[str, NDArray[np.float64]]:
    """Every feature of `strategies.rules.SIGNALS` as known at each snapshot, NaN where it is unknown.

    Args:
        history: whose snapshots are asked for.
        table: `ts` and features, as `regimes.label` writes them; may be empty.
        correlation: (snapshots,) of BTC and ETH, where it was measured.
    """
    now = np.asarray(history.known_at)
    ts = np.asarray(table["ts"].combine_chunks().cast("int64"), np.int64) if table.num_rows else np.empty(0, np.int64)
    found = {}
    for name in _FROM_TABLE:
        values = table[name].to_numpy().astype(np.float64) if name in table.column_names else np.full(ts.size, np.nan)
        found[name] = _as_of(now, ts, values)
    found["implied_less_realised"] = found["implied_vol"] - found["realised_vol"]
    found["implied_vol_rank"] = trailing_rank(now, found["implied_vol"], float(RANK_DAYS * DAY_US), float(LEAST_RANK_DAYS * DAY_US))
    found["funding_8h"] = _as_of(now, history.funding["ts"], history.funding["rate_8h"])
    found["correlation"] = np.full(now.size, np.nan) if correlation is None else correlation
    return found


def weather_of(history: History, strategy: Strategy, features: Mapping[str, NDArray[np.float64]]) -> NDArray[Any]:
    """(snapshots,) of `tape.WEATHER`: what the strategy's signals and dials say.

    Raises:
        DataError: the strategy asks for a feature that was not given.
    """
    missing = [name for name in strategy.features if name not in features and name != "correlation"]
    if missing:
        raise DataError(
            f"strategy {strategy.name} asks for {', '.join(missing)}, which the run was not given",
            remedy="label the regimes first: `options-agent run`, or the asset market_regimes",
        )
    n = history.snapshots
    allowed = np.ones(n, np.bool_)
    for signal in strategy.entry.signals:
        values = features.get(signal.feature, np.full(n, np.nan))
        allowed &= np.isfinite(values)
        if signal.above is not None:
            allowed &= values >= signal.above
        if signal.below is not None:
            allowed &= values <= signal.below
    size = _dialled(strategy.sizing.dial, features, n)
    if strategy.sizing.correlation_aware:
        size = size * size_factor(features.get("correlation", np.full(n, np.nan)))
    out = np.empty(n, WEATHER)
    out["allowed"], out["delta_factor"], out["size_factor"] = allowed, _dialled(strategy.delta_dial, features, n), size
    out["exits"] = BY_RULES
    return out


def _dialled(dial: Dial | None, features: Mapping[str, NDArray[np.float64]], n: int) -> NDArray[np.float64]:
    if dial is None:
        return np.ones(n)
    levels, factors = np.array([level for level, _ in dial.steps]), np.array([1.0, *(factor for _, factor in dial.steps)])
    values = features.get(dial.feature, np.full(n, np.nan))
    return np.where(np.isfinite(values), factors[np.searchsorted(levels, values, side="right")], 1.0)


def _as_of(now: NDArray[np.int64], ts: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.float64]:
    """The value last known at each time; NaN where there was none in the last two days."""
    if ts.size == 0:
        return np.full(now.size, np.nan)
    at = np.searchsorted(ts, now, side="right") - 1
    fresh = (at >= 0) & (now - ts[np.maximum(at, 0)] <= STALE_US)
    return np.where(fresh, values[np.maximum(at, 0)], np.nan)
