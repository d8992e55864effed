"""Backtests: history as arrays, the engine, costs, accounting, metrics, reports, comparison."""
