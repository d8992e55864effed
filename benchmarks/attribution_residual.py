"""How much of P&L attribution leaves unexplained: sum of absolute residuals over sum of absolute P&L between quotes, by strategy.

`python benchmarks/attribution_residual.py [BTC|ETH ...]` on the clean history of the desk that the settings name.
"""

from __future__ import annotations

import argparse

from options_agent.backtest.engine import run_backtest
from options_agent.backtest.history import build_history
from options_agent.backtest.runner import clean_range, known_features
from options_agent.lake.store import open_lake
from options_agent.research.attribution.book import attribute
from options_agent.settings import load_settings
from options_agent.strategies.catalogue import CATALOGUE


def main() -> None:
    """Print a row a strategy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("underlyings", nargs="*", default=["BTC", "ETH"])
    arguments = parser.parse_args()
    settings = load_settings()
    lake = open_lake(settings)
    for underlying in arguments.underlyings:
        history = build_history(lake, underlying, *clean_range(lake, underlying), settings)
        features = known_features(lake, history)
        residual = moved = 0.0
        for strategy in CATALOGUE.values():
            found = attribute(run_backtest(history, strategy, settings.backtest, features), history)
            own = abs(found.steps["residual"].to_numpy()).sum() if found.steps.num_rows else 0.0
            residual += own
            moved += own / found.residual_share if found.residual_share else 0.0
            print(f"{underlying} {strategy.name:24} {found.steps.num_rows:7,} steps, residual {found.residual_share:.2%} of absolute P&L")
        print(f"{underlying} all: {residual / moved:.2%}")


if __name__ == "__main__":
    main()
