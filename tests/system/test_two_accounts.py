"""One market heard twice: harvested live from the exchange in a box, and backfilled from the vendor's files of the same hours."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from options_agent.lake.raw import read_raw_day, write_snapshot
from options_agent.lake.store import Lake, open_lake
from options_agent.market.deribit.harvester import harvest
from options_agent.market.deribit.market_time import clock_of, in_market_time
from options_agent.market.tardis.backfill import backfill_day
from options_agent.quality.agreement import Side, compare
from options_agent.settings import load_settings
from tests.servers.exchange import running_box
from tests.servers.tardis import vendor
from tests.unit.market.tardis.worlds import FREE, desk, midnight, publish

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

PRICED = ("bid", "ask", "mark", "mark_iv")
HOURS = [midnight(FREE) + dt.timedelta(hours=7)]


def heard_live(folder: Path) -> pa.Table:
    """The hours' chains as a harvester takes them a minute after the hour; the box is fed by the market the vendor recorded."""
    market = {"EXCHANGE__EVERY_SECONDS": "3600", "SYNTHETIC__DEFECT_RATE": "0", "SYNTHETIC__OUTAGE_RATE": "0"}
    with running_box(folder, speed=30, start=HOURS[0] + dt.timedelta(minutes=1), limits=50, underlyings=("BTC",), settings=market) as box:
        settings = load_settings(
            home=folder / "home",
            source="deribit",
            network="synthetic",
            region="eu",
            underlyings=("BTC",),
            live_interval_minutes=60,
            exchange={"port": box.port},
            deribit={"settle_seconds": 60.0, "fresh_seconds": 600.0, "sweep_seconds": 3_000.0},
            _env_file=None,
        )
        clock = asyncio.run(clock_of(settings))
        done = asyncio.run(harvest(in_market_time(settings, clock), open_lake(settings), clock=clock, snapshots=len(HOURS)))
        assert (done.partial, done.missed) == (0, 0)
    return read_raw_day(open_lake(settings), "BTC", FREE)


def put_beside(lake: Lake, rows: pa.Table, shift: float = 0.0) -> None:
    """The live rows into the lake of the backfill, as if the box were mainnet; `shift` is added to the marks of one expiry."""
    expiry = pc.max(rows["expiry"])
    mark = pc.if_else(pc.equal(rows["expiry"], expiry), pc.add(rows["mark"], shift), rows["mark"])
    rows = rows.set_column(rows.schema.get_field_index("mark"), rows.schema.field("mark"), mark)
    rows = rows.set_column(rows.schema.get_field_index("network"), rows.schema.field("network"), pa.array(["mainnet"] * len(rows)))
    for hour in HOURS:
        write_snapshot(lake, rows.filter(pc.equal(rows["snapshot"], pa.scalar(hour, rows.schema.field("snapshot").type))), replace=True)


def test_backfilled_and_harvested_rows_of_the_same_hours_agree_and_where_they_do_not_the_report_says_by_how_much(tmp_path: Path) -> None:
    live = heard_live(tmp_path)
    with vendor() as tardis:
        publish(tardis, FREE, ("BTC",), hours=9)
        settings = desk(tmp_path / "desk", tardis, underlyings=("BTC",))
        lake = open_lake(settings)
        backfill_day(settings, lake, FREE)
    put_beside(lake, live)
    report = compare(lake, "BTC", FREE, Side("tardis"), Side("deribit"))
    assert report.counts["snapshots"] == len(HOURS)
    assert report.counts["matched"] == len(live)
    assert (report.counts["only_left"], report.counts["only_right"]) == (0, 0)
    assert {name: report.counts[f"beyond:{name}"] for name in PRICED} == dict.fromkeys(PRICED, 0)
    for name in ("bid_iv", "ask_iv"):  # the exchange tells a volatility of far quotes that the market's own table lacks
        told = report.details["columns"][name]
        assert (told["only_left"], told["equal"], told["beyond"]) == (0, told["both"], told["only_right"])
    assert report.counts["disagreeing"] < 0.1 * len(live)
    assert report.details["seconds_apart"]["median"] > 40, "the vendor's last row came before the hour, the live one after"

    put_beside(lake, live, shift=0.01)
    report = compare(lake, "BTC", FREE, Side("tardis"), Side("deribit"))
    moved = pc.and_(pc.equal(live["expiry"], pc.max(live["expiry"])), pc.is_valid(live["mark"]))
    assert report.counts["beyond:mark"] == pc.sum(moved).as_py() > 0
    assert pc.max(live["expiry"]).as_py().isoformat() in [where["expiry"] for where in report.details["expiries"]]
    assert report.details["columns"]["mark"]["difference"]["max"] == pytest.approx(0.01, abs=1e-4)
