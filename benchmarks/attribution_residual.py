"""How much of P&L attribution leaves unexplained: sum of absolute residuals over sum of absolute P&L between quotes, by strategy.

`python benchmarks/attribution_residual.py [BTC|ETH ...]` on the clean history of the desk that the settings name; with `--synthetic HOURS`
on ninety days of the synthetic market, a chain every so many hours. Beside it the share of what was settled: the step from the last mark to
the delivery price, which has no greeks of its own and is a component, not a residual.
"""

from __future__ import annotations

import argparse
import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from options_agent.backtest.engine import run_backtest
from options_agent.backtest.history import build_history, history_from_table
from options_agent.backtest.runner import clean_range, known_features
from options_agent.lake.store import open_lake
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.research.attribution.book import attribute
from options_agent.settings import SyntheticSettings, load_settings
from options_agent.strategies.catalogue import CATALOGUE

if TYPE_CHECKING:
    from options_agent.backtest.history import History

SYNTHETIC_DAYS = 90


def synthetic(underlying: str, hours: int, seed: int) -> History:
    """Ninety days of the synthetic market without defects or outages, in memory."""
    source = SyntheticSource(SyntheticSettings(seed=seed, defect_rate=0.0, outage_rate=0.0), interval=dt.timedelta(hours=hours))
    first, day = dt.datetime(2020, 3, 1, tzinfo=dt.UTC), dt.timedelta(days=1)
    end = first + SYNTHETIC_DAYS * day
    quotes = pa.concat_tables(source.snapshots(underlying, first, end))
    return history_from_table(quotes, source.prices(underlying, first - day, end + day), underlying=underlying, mark=f"{seed} {hours}")


def main() -> None:
    """Print a row a strategy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("underlyings", nargs="*", default=["BTC", "ETH"])
    parser.add_argument("--synthetic", type=int, default=0, metavar="HOURS")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings = load_settings()
    lake = open_lake(settings)
    for underlying in arguments.underlyings:
        if arguments.synthetic:
            history, features = synthetic(underlying, arguments.synthetic, arguments.seed), {}
        else:
            history = build_history(lake, underlying, *clean_range(lake, underlying), settings)
            features = known_features(lake, history)
        residual = moved = settled = 0.0
        for strategy in CATALOGUE.values():
            if strategy.features and not features:
                continue  # it asks for regimes, which this market has not been judged for
            found = attribute(run_backtest(history, strategy, settings.backtest, features), history)
            own = np.abs(found.steps["residual"].to_numpy()).sum() if found.steps.num_rows else 0.0
            residual += own
            moved += own / found.residual_share if found.residual_share else 0.0
            ended = np.abs(found.steps["settlement"].to_numpy()).sum() if found.steps.num_rows else 0.0
            settled += ended
            apart = abs(sum(found.total.values()) - found.change)
            print(
                f"{underlying} {strategy.name:24} {found.steps.num_rows:7,} steps, residual {found.residual_share:.2%} of absolute P&L, "
                f"settled {ended / max(own / found.residual_share, 1e-300) if own else 0.0:.1%}, sums to the equity within {apart:.0e}"
            )
        print(f"{underlying} all: {residual / moved:.2%}, settled {settled / moved:.1%}")


if __name__ == "__main__":
    main()
