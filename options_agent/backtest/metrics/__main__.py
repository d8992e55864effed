"""`python -m options_agent.backtest.metrics`: prints `docs/metrics.md`."""

from __future__ import annotations

from options_agent.backtest.metrics.page import metrics_page

if __name__ == "__main__":
    print(metrics_page(), end="")  # noqa: T201 the module's one job on the terminal
