"""From when on rows count for a snapshot."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from options_agent.market.clock import clock_at
from options_agent.market.deribit.chain import LiveChain
from options_agent.market.deribit.http import Caller
from options_agent.market.deribit.link import Link
from options_agent.market.deribit.sweep import Sweeper
from options_agent.settings import load_settings

GRID = dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)


def microseconds(at: dt.datetime) -> int:
    return round(at.timestamp() * 1e6)


@pytest.mark.parametrize(
    ("lost", "counts"),
    [
        (None, GRID - 55 * SECOND),
        (GRID - 300 * SECOND, GRID - 55 * SECOND),  # long ago: freshness is the stricter of the two
        (GRID - 20 * SECOND, GRID - 20 * SECOND),  # what was heard before the loss may have changed unheard by the grid time
        (GRID + 2 * SECOND, GRID - 55 * SECOND),  # lost after the grid time: what was heard stood at it
    ],
)
def test_rows_from_before_a_lost_connection_do_not_count_for_a_grid_time_after_it(
    tmp_path: Path, lost: dt.datetime | None, counts: dt.datetime
) -> None:
    settings = load_settings(home=tmp_path, network="synthetic", deribit={"fresh_seconds": 60.0}, _env_file=None)
    clock = clock_at(GRID + 5 * SECOND, 1e-9)
    caller = Caller(settings, clock)
    nothing: Any = None
    link = Link(settings, clock, caller.pacer, nothing, nothing, nothing, lost_at=microseconds(lost) if lost else None)
    sweeper = Sweeper(settings, clock, LiveChain(("BTC",)), caller, link, nothing)
    assert sweeper.counts_from(GRID) == pytest.approx(microseconds(counts), abs=10)
