"""Desks with weeks of clean quotes and prices: enough to backtest, search and learn on."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from options_agent.lake.store import open_lake, write_day, write_series
from options_agent.market.sources import day_range, open_source
from options_agent.series import PRICE_SCHEMA
from options_agent.settings import load_settings
from tests.chains import as_clean, chain_day

if TYPE_CHECKING:
    from pathlib import Path

FIRST: Final = dt.date(2026, 1, 1)
DAYS: Final = 70


def fill(home: Path, *, shift_after: dt.date | None = None) -> None:
    """Clean days with a quiet chain, prices beside; from `shift_after` on everything is another market."""
    settings = load_settings(home=home, _env_file=None)
    lake = open_lake(settings)
    for n in range(DAYS):
        day = FIRST + dt.timedelta(days=n)
        chain = as_clean(pa.concat_tables(chain_day(day, hours=24)[::6]))
        level = 85_000.0 + 400 * np.sin(n / 2)
        if shift_after is not None and day >= shift_after:
            for name in ("bid", "ask", "mark"):
                chain = chain.set_column(chain.column_names.index(name), name, pa.compute.multiply(chain[name], 1.5))
            level *= 1.3
        write_day(lake, "clean", "BTC", day, chain)
        noon = dt.datetime.combine(day, dt.time(8), dt.UTC)
        rows = [{"ts": noon, "underlying": "BTC", "price": level, "kind": "index", "source": "test"}]
        write_series(lake, "prices", "BTC", day, pa.Table.from_pylist(rows, schema=PRICE_SCHEMA))


def fill_synthetic(home: Path, days: int) -> None:
    """Clean days of the synthetic market, six-hourly: contracts live from listing to settlement."""
    settings = load_settings(home=home, _env_file=None)
    lake, source = open_lake(settings), open_source(settings)
    for n in range(days):
        day = FIRST + dt.timedelta(days=n)
        start, end = day_range(day)
        write_day(lake, "clean", "BTC", day, as_clean(pa.concat_tables(list(source.snapshots("BTC", start, end))[::6])))
        write_series(lake, "prices", "BTC", day, source.prices("BTC", start, end))
