"""Partitions: underlying x day for market data, strategy x underlying for backtests, ISO week for training."""

from __future__ import annotations

import datetime as dt

import dagster as dg

from options_agent.settings import load_settings
from options_agent.strategies.files import played_strategies

_settings = load_settings()

DAY = "day"
UNDERLYING = "underlying"
STRATEGY = "strategy"

#: Keys are `2026-01-31|BTC`; today is a partition, for the live harvest.
days = dg.DailyPartitionsDefinition(start_date=_settings.history_start.isoformat(), end_offset=1)
underlyings = dg.StaticPartitionsDefinition(list(_settings.underlyings))
market_days = dg.MultiPartitionsDefinition({DAY: days, UNDERLYING: underlyings})
#: Keys are `covered_call|BTC`. Files of one's own that are not sound are left out: `options-agent doctor` names them.
strategies = dg.MultiPartitionsDefinition(
    {STRATEGY: dg.StaticPartitionsDefinition(list(played_strategies(_settings))), UNDERLYING: underlyings}
)


def _monday(day: dt.date) -> dt.date:
    return day - dt.timedelta(days=day.weekday())


#: Keys are `2026-W05-1`, the Monday of the ISO week.
weeks = dg.TimeWindowPartitionsDefinition(
    cron_schedule="0 0 * * 1", start=f"{_monday(_settings.history_start):%G-W%V-%u}", fmt="%G-W%V-%u", end_offset=1
)


def underlying_and_day(key: str) -> tuple[str, dt.date]:
    """`2026-01-31|BTC` in parts."""
    day, underlying = key.split("|")
    return underlying, dt.date.fromisoformat(day)


def strategy_and_underlying(key: str) -> tuple[str, str]:
    """`covered_call|BTC` in parts."""
    strategy, underlying = key.split("|")
    return strategy, underlying


def week_of(key: str) -> str:
    """`2026-W05` of `2026-W05-1`."""
    return key[:8]
