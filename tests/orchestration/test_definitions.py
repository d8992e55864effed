"""The code location: complete, cheap to load, and wiring only."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import dagster as dg
import pytest

from dagster_project.definitions import defs
from dagster_project.partitions import market_days, strategies, weeks
from tests.conftest import REPOSITORY

WIRING = ("dagster_project", "assets", "jobs", "sensors", "resources")
#: Half a second and more each; pyarrow and numpy, too, are loaded by the first step that needs them.
HEAVY = ("numba", "pandas", "polars", "pandera", "mlflow", "sklearn", "scipy", "matplotlib", "s3fs", "apprise", "pyarrow", "numpy")
ASSETS = {
    "option_quotes": "harvest",
    "harvest_gaps": "harvest",
    "clean_quotes": "quality",
    "quarantined_quotes": "quality",
    "quality_report": "quality",
    "archived_quotes": "archive",
    "market_regimes": "regimes",
    "backtest_results": "backtests",
    "parameter_sweeps": "backtests",
    "regime_performance": "backtests",
    "joint_book": "backtests",
    "strategy_comparison": "backtests",
    "pnl_attribution": "research",
    "study_trials": "research",
    "ab_tests": "research",
    "model_evaluation": "training",
    "language_model_spend": "training",
    "training_examples": "training",
    "prompt_versions": "training",
    "fine_tuned_model": "training",
}
MOST_LINES = 30

SPECS = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
GRAPH = defs.resolve_asset_graph()


def test_every_definition_resolves() -> None:
    dg.Definitions.validate_loadable(defs)


def test_assets_have_the_names_and_groups_of_the_design() -> None:
    assert {name: spec.group_name for name, spec in SPECS.items()} == ASSETS


@pytest.mark.parametrize("name", ASSETS)
def test_an_asset_says_what_it_is_who_owns_it_and_where_its_code_is(name: str) -> None:
    spec = SPECS[name]
    assert spec.description
    assert len(spec.description) > 60
    assert spec.owners
    assert spec.kinds
    (reference,) = spec.metadata["dagster/code_references"].code_references
    assert reference.file_path.startswith(str(REPOSITORY / "assets"))


@pytest.mark.parametrize(
    "name", ["option_quotes", "clean_quotes", "quarantined_quotes", "archived_quotes", "market_regimes", "backtest_results"]
)
def test_an_asset_on_disk_says_where_it_lies(name: str) -> None:
    assert "`lake/" in SPECS[name].description or "`reports/" in SPECS[name].description or "local folder" in SPECS[name].description


@pytest.mark.parametrize(
    "name", ["option_quotes", "clean_quotes", "archived_quotes", "market_regimes", "backtest_results", "training_examples"]
)
def test_a_range_of_partitions_is_one_run(name: str) -> None:
    assert GRAPH.get(dg.AssetKey(name)).backfill_policy == dg.BackfillPolicy.single_run()


def test_the_exchange_is_entered_through_its_pool() -> None:
    assert GRAPH.get(dg.AssetKey("option_quotes")).pools == {"exchange"}


@pytest.mark.parametrize("name", ["option_quotes", "clean_quotes", "archived_quotes"])
def test_market_data_of_a_live_source_has_a_freshness_policy(name: str) -> None:
    assert isinstance(SPECS[name].freshness_policy, dg.FreshnessPolicy)


@pytest.mark.parametrize("op", ["option_quotes", "judge_quotes", "archived_quotes"])
def test_stages_that_meet_disks_and_networks_are_tried_again_with_backoff_and_jitter(op: str) -> None:
    policy = _op(op).retry_policy
    assert policy is not None
    assert (policy.backoff, policy.jitter) == (dg.Backoff.EXPONENTIAL, dg.Jitter.PLUS_MINUS)


def _op(name: str) -> dg.OpDefinition:
    return next(node for node in defs.resolve_job_def("market_data").all_node_defs if node.name == name)


def test_what_would_poison_later_stages_blocks_and_the_rest_warns() -> None:
    specs = {key.name: GRAPH.get_check_spec(key) for key in GRAPH.asset_check_keys}
    assert {name for name, spec in specs.items() if spec.blocking} == {"rows_in_equal_clean_plus_quarantined", "quarantine_rate"}
    assert specs.keys() >= {"every_raw_file_readable", "newest_day_fits_schema", "archive_reads_back", "nothing_missing", "conclusive"}
    assert all(spec.description for spec in specs.values())


def test_partitions_stay_under_ten_thousand_keys() -> None:
    for partitions in (market_days, strategies, weeks):
        assert 0 < partitions.get_num_partitions() < 10_000


def test_a_backtest_depends_on_the_days_of_its_own_underlying() -> None:
    mapping = GRAPH.get_partition_mapping(dg.AssetKey("backtest_results"), dg.AssetKey("clean_quotes"))
    upstream = mapping.get_upstream_mapped_partitions_result_for_partitions(
        strategies.subset_with_partition_keys(["covered_call|ETH"]), strategies, market_days
    )
    keys = upstream.partitions_subset.get_partition_keys()
    assert {key.split("|")[1] for key in keys} == {"ETH"}
    assert len(list(keys)) == market_days.get_num_partitions() / 2


def test_every_job_schedule_and_sensor_says_what_it_is_for_and_is_on() -> None:
    repository = defs.get_repository_def()
    for schedule in repository.schedule_defs:
        assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
        assert schedule.execution_timezone == "UTC"
        assert schedule.description
    for sensor in repository.sensor_defs:
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
        assert "Raises alert `" in (sensor.description or "")


def test_every_job_says_what_it_does() -> None:
    assert not [job.name for job in defs.get_repository_def().get_all_jobs() if not job.name.startswith("__") and not job.description]


def test_jobs_end_when_stuck_and_come_back_when_killed_but_not_when_a_step_failed() -> None:
    for job in defs.get_repository_def().get_all_jobs():
        if not job.name.startswith("__"):
            assert int(job.tags["dagster/max_runtime"]) > 0
            assert int(job.tags["dagster/max_retries"]) > 0
            assert job.tags["dagster/retry_on_asset_or_op_failure"] == "false"
            assert job.executor_def.name == "in_process"


def _functions(folder: str) -> list[tuple[str, ast.FunctionDef]]:
    return [
        (f"{path.name}:{node.name}", node)
        for path in sorted((REPOSITORY / folder).glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]


@pytest.mark.parametrize("folder", ["assets", "jobs", "sensors", "resources"])
def test_functions_of_the_orchestration_are_wiring(folder: str) -> None:
    long = {name: n for name, node in _functions(folder) if (n := _body_lines(node)) > MOST_LINES}
    assert not long


def _body_lines(node: ast.FunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_definitions_only_collect() -> None:
    tree = ast.parse((REPOSITORY / "dagster_project" / "definitions.py").read_text(encoding="utf-8"))
    kinds = {type(node) for node in tree.body}
    assert kinds == {ast.Expr, ast.ImportFrom, ast.Import, ast.Assign}


def test_loading_the_location_costs_little_and_loads_nothing_heavy() -> None:
    program = """
import json, sys, time
import dagster
from dagster._core.definitions.definitions_class import Definitions
began, before = time.process_time(), set(sys.modules)
from dagster_project.definitions import defs
defs.get_repository_def()
print(json.dumps({"seconds": time.process_time() - began, "modules": sorted(set(sys.modules) - before)}))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert not {name.partition(".")[0] for name in found["modules"]} & set(HEAVY)
    assert found["seconds"] < 3


@pytest.mark.slow
def test_the_checker_of_the_command_line_passes() -> None:
    command = [f"{sys.prefix}/bin/dg", "check", "defs"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
