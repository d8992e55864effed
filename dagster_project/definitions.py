"""Everything the orchestrator loads; collected here, defined elsewhere."""

from __future__ import annotations

import dagster as dg

from assets import archive, backtests, harvest, quality, regimes, training
from jobs.desk_jobs import JOBS, SCHEDULES
from resources.desk import Desk
from sensors.alarms import SENSORS

defs = dg.Definitions(
    assets=dg.with_source_code_references(dg.load_assets_from_modules([harvest, quality, archive, regimes, backtests, training])),
    asset_checks=dg.load_asset_checks_from_modules([harvest, quality, archive, backtests]),
    jobs=JOBS,
    schedules=SCHEDULES,
    sensors=SENSORS,
    resources={"desk": Desk()},
    executor=dg.in_process_executor,  # a step costs 0.1 s in the run's process and five CPU-seconds in one of its own
)
