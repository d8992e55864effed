"""Saved runs for tests of comparing: written once by the engine, then copied and changed on disk as a test needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from options_agent.backtest.report import write_report
from options_agent.backtest.result import BacktestResult
from options_agent.quotes import UTC_US

NO_LABELS = pa.schema([("ts", UTC_US), ("regime", pa.string()), ("trend", pa.string())]).empty_table()


def saved(result: BacktestResult, folder: Path) -> Path:
    """Write a run; its report."""
    return write_report(result, NO_LABELS, folder).report


def copied(report: Path, folder: Path, run: str | None = None) -> Path:
    """The same run again in another folder, under another hash where one is given; its report."""
    stem = report.stem if run is None else f"{report.stem.rsplit('-', 1)[0]}-{run}"
    copy = folder / f"{stem}.json"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(report, copy)
    shutil.copytree(report.with_suffix(""), copy.with_suffix(""))
    if run is not None:
        retell(copy, lambda content: content.update(run=run))
    return copy


def retell(report: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change a report's JSON in place."""
    content = json.loads(report.read_text())
    change(content)
    report.write_text(json.dumps(content))
    return report


def table_of(report: Path, name: str) -> pa.Table:
    """A table of a saved run."""
    return pq.read_table(report.with_suffix("") / f"{name}.parquet")


def put(report: Path, name: str, table: pa.Table) -> Path:
    """Replace a table of a saved run; the report's count of snapshots follows its equity."""
    pq.write_table(table, report.with_suffix("") / f"{name}.parquet")
    if name == "equity":
        retell(report, lambda content: content["range"].update(snapshots=table.num_rows))
    return report


def rewrite(report: Path, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change each row of a table in place."""
    table = table_of(report, name)
    rows = table.to_pylist()
    for row in rows:
        change(row)
    return put(report, name, pa.Table.from_pylist(rows, schema=table.schema))
