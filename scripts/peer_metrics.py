"""What quantstats, empyrical, scipy, arch and purgedcv make of a few return series, written as JSON for the tests to hold ours to.

They cap libraries that the project needs newer, so they live in an environment of their own:

    uv venv peers && uv pip install -p peers quantstats empyrical-reloaded arch purgedcv
    peers/bin/python scripts/peer_metrics.py > tests/data/peer_metrics.json
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import warnings

import arch.bootstrap
import empyrical
import numpy as np
import pandas as pd
import purgedcv
import quantstats.stats as qs
import scipy.stats

YEAR = 365


def series() -> dict[str, np.ndarray]:
    """Returns of several kinds, rounded so that the file holds them exactly."""
    random = np.random.default_rng(20260105)
    noise = random.normal(0, 0.02, 260)
    persistent = np.empty(260)
    persistent[0] = noise[0]
    for t in range(1, 260):
        persistent[t] = 0.001 + 0.35 * persistent[t - 1] + noise[t]
    short_option = np.where(random.random(180) < 0.06, -0.04 * random.standard_exponential(180), 0.0025 + 0.001 * random.normal(size=180))
    seldom = np.where(random.random(120) < 0.7, 0.0, random.standard_t(3, 120) * 0.01)
    return {
        "persistent": persistent.round(6),
        "short_option": short_option.round(6),
        "seldom": seldom.round(6),
        "brief": random.normal(0.001, 0.03, 12).round(6),
        "losing": (random.normal(-0.004, 0.01, 90)).round(6),
    }


def metrics(r: np.ndarray) -> dict[str, float]:
    """Each peer's number under `library.function`."""
    dated = pd.Series(r, index=pd.date_range("2026-01-01", periods=len(r)))
    return {
        "quantstats.cagr": qs.cagr(dated, periods=YEAR),
        "quantstats.volatility": qs.volatility(dated, periods=YEAR),
        "quantstats.sharpe": qs.sharpe(dated, periods=YEAR),
        "quantstats.sortino": qs.sortino(dated, periods=YEAR),
        "quantstats.calmar": qs.calmar(dated, periods=YEAR),
        "quantstats.omega": qs.omega(dated, periods=YEAR),
        "quantstats.best": qs.best(dated),
        "quantstats.worst": qs.worst(dated),
        "quantstats.win_rate": qs.win_rate(dated),
        "quantstats.max_drawdown": -qs.max_drawdown(dated),
        "quantstats.ulcer_index": qs.ulcer_index(dated),
        "empyrical.annual_return": empyrical.annual_return(r, annualization=YEAR),
        "empyrical.annual_volatility": empyrical.annual_volatility(r, annualization=YEAR),
        "empyrical.sharpe_ratio": empyrical.sharpe_ratio(r, annualization=YEAR),
        "empyrical.sortino_ratio": empyrical.sortino_ratio(r, annualization=YEAR),
        "empyrical.calmar_ratio": empyrical.calmar_ratio(dated, annualization=YEAR),
        "empyrical.omega_ratio": empyrical.omega_ratio(r),
        "empyrical.tail_ratio": empyrical.tail_ratio(r),
        "empyrical.value_at_risk": empyrical.value_at_risk(r),
        "empyrical.conditional_value_at_risk": empyrical.conditional_value_at_risk(r),
        "empyrical.max_drawdown": -empyrical.max_drawdown(r),
        "scipy.skew": scipy.stats.skew(r),
        "scipy.kurtosis": scipy.stats.kurtosis(r),
    }


def drawdown_details(r: np.ndarray) -> dict[str, object] | None:
    """quantstats' deepest fall: first and last day under water, and the valley; None where it finds none (under water from the start)."""
    dated = pd.Series(r, index=pd.date_range("2026-01-01", periods=len(r)))
    details = qs.drawdown_details(qs.to_drawdown_series(dated))
    if details.empty:
        return None
    return {k: str(v) for k, v in details.sort_values("max drawdown").iloc[0][["start", "valley", "end"]].items()}


def uncertainty(r: np.ndarray) -> dict[str, object]:
    """Block lengths, probabilities of the Sharpe ratio and bootstrap quantiles."""
    block = float(arch.bootstrap.optimal_block_length(r)["stationary"].iloc[0])
    resampled = arch.bootstrap.StationaryBootstrap(max(block, 1.0), r, seed=7)
    sharpes = resampled.apply(lambda x: x.mean() / x.std(ddof=1) * np.sqrt(YEAR), 20_000)[:, 0]
    return {
        "arch.optimal_block_length": block,
        "arch.optimal_block_length of squares": float(arch.bootstrap.optimal_block_length(r**2)["stationary"].iloc[0]),
        "arch.StationaryBootstrap sharpe quantiles": {q: float(np.quantile(sharpes, float(q))) for q in ("0.05", "0.5", "0.95")},
        "purgedcv.probabilistic_sharpe_ratio": purgedcv.probabilistic_sharpe_ratio(r, 0.0),
        "purgedcv.probabilistic_sharpe_ratio over 0.05": purgedcv.probabilistic_sharpe_ratio(r, 0.05),
        "purgedcv.deflated_sharpe_ratio": {
            str(n): purgedcv.deflated_sharpe_ratio(r, n_trials=n, var_sharpe=0.004) for n in (1, 2, 20, 1_000)
        },
    }


def overfitting() -> list[dict[str, object]]:
    """purgedcv's CSCV of small matrices, stored (observations, configurations): it wants them the other way round."""
    random = np.random.default_rng(11)
    studies = []
    for observations, configurations, blocks, edge in ((96, 8, 8, 0.0), (101, 5, 6, 0.0008), (60, 3, 10, 0.0)):
        matrix = random.normal(0, 0.01, (observations, configurations))
        matrix[:, 0] += edge
        if configurations == 5:
            matrix[:60, 1] = 0.0  # did not trade for a while
            matrix[:, 4] = matrix[:, 3]  # the same twice: ranks tie
        matrix = matrix.round(6)
        found = purgedcv.probability_of_backtest_overfitting(matrix.T, n_splits=blocks)
        studies.append(
            {
                "returns": matrix.tolist(),
                "blocks": blocks,
                "pbo": found.pbo,
                "slope": found.slope,
                "combinations": found.n_combos,
                "logits": found.logits.tolist(),
            }
        )
    return studies


def main() -> None:
    """Print the file."""
    warnings.simplefilter("ignore")
    names = ("quantstats", "empyrical-reloaded", "scipy", "arch", "purgedcv", "numpy", "pandas")
    content = {
        "versions": {name: importlib.metadata.version(name) for name in names},
        "series": {
            name: {
                "returns": r.tolist(),
                "metrics": {k: float(v) for k, v in metrics(r).items()},
                "drawdown": drawdown_details(r),
                "uncertainty": uncertainty(r),
            }
            for name, r in series().items()
        },
        "overfitting": overfitting(),
    }
    json.dump(content, sys.stdout, indent=None, separators=(",", ":"))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
