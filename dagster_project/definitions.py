"""Everything the orchestrator loads; collected here, defined elsewhere."""

from __future__ import annotations

import dagster as dg

from assets import archive, backtests, harvest, quality, regimes, research, training
from dagster_project.executors import executor_of
from jobs.desk_jobs import JOBS, SCHEDULES
from options_agent.settings import load_settings
from resources.desk import Desk
from sensors.alarms import SENSORS

defs = dg.Definitions(
    assets=dg.with_source_code_references(dg.load_assets_from_modules([harvest, quality, archive, regimes, backtests, research, training])),
    asset_checks=dg.load_asset_checks_from_modules([harvest, quality, archive, backtests]),
    jobs=JOBS,
    schedules=SCHEDULES,
    sensors=SENSORS,
    resources={"desk": Desk()},
    executor=executor_of(load_settings()),
)
