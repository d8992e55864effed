"""Metrics of a run: each defined once, in `table`; returns are decimals, amounts in coin unless a name says USD."""

from options_agent.backtest.metrics.drawdown import max_drawdown
from options_agent.backtest.metrics.grid import DAY_US, daily, daily_returns
from options_agent.backtest.metrics.returns import sharpe
from options_agent.backtest.metrics.table import METRICS, drawdown_dates, measure

__all__ = ["DAY_US", "METRICS", "daily", "daily_returns", "drawdown_dates", "max_drawdown", "measure", "sharpe"]
