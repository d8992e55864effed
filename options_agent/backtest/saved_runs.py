"""Runs as they lie on disk, for comparing: found by hash or path, with what could not be read of them said instead of raised."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.backtest.compare import list_reports
from options_agent.backtest.report import REPORT_VERSION
from options_agent.backtest.result import load_report, load_table
from options_agent.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Columns without which a table says nothing to a comparison.
NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "equity": ("ts", "index", "equity_coin", "equity_usd", "open_positions", "stale_marks"),
    "trades": (
        "trade",
        "opened_at",
        "closed_at",
        "exit",
        "instruments",
        "contracts",
        "premium_coin",
        "closing_coin",
        "payoff_coin",
        "fees_coin",
        "profit_coin",
        "profit_usd",
    ),
    "fills": ("trade", "kind", "ts", "instrument", "contracts", "price", "fee", "index"),
    "decisions": ("ts", "trade", "action", "reason"),
}
_HASH: Final = re.compile("[0-9a-f]{1,12}")
#: Of a report, whatever its version.
_ESSENTIAL: Final = ("strategy", "underlying", "range", "status", "metrics", "provenance")


@dataclass(frozen=True)
class SavedRun:
    """One written run.

    Attributes:
        label: A, B, C: what it is called in this comparison.
        path: its report.
        report: the JSON.
        equity, trades, fills, decisions: its tables; None where one cannot be read, and `problems` says why.
        problems: what is wrong with it, each a sentence without its subject.
    """

    label: str
    path: Path
    report: dict[str, Any]
    equity: pa.Table | None
    trades: pa.Table | None
    fills: pa.Table | None
    decisions: pa.Table | None
    problems: tuple[str, ...] = ()

    @property
    def run(self) -> str:
        """The run's hash."""
        return str(self.report["run"])

    @property
    def underlying(self) -> str:
        """BTC, ETH."""
        return str(self.report["underlying"])

    @property
    def strategy(self) -> str:
        """Its name."""
        return str(self.report["strategy"]["name"])

    @property
    def who(self) -> str:
        """`covered_call BTC`."""
        return f"{self.strategy} {self.underlying}"

    @property
    def ts(self) -> NDArray[np.int64]:
        """Times of the equity, microseconds UTC, ascending; empty where it cannot be read."""
        return np.empty(0, np.int64) if self.equity is None else times(self.equity, "ts")


def times(table: pa.Table, name: str) -> NDArray[np.int64]:
    """A column of times as microseconds UTC; the least integer where there is none."""
    filled = pc.fill_null(table[name].combine_chunks().cast(pa.int64()), np.iinfo(np.int64).min)
    return np.asarray(filled)


def find_report(wanted: str, folder: Path) -> Path:
    """The report meant by a path (of the JSON, or of the folder of its tables) or by the start of a run's hash.

    Raises:
        DataError: no such report, or several.
    """
    path = Path(wanted)
    if "/" in wanted or path.suffix in (".json", ".png") or (not _HASH.fullmatch(wanted) and wanted.strip(".") and path.exists()):
        report = path.resolve().with_name(f"{path.resolve().name}.json") if path.is_dir() else path.with_suffix(".json")
        if not report.is_file():
            raise DataError(f"no report at {wanted!r}", place=str(report), remedy="`options-agent report` lists the reports there are")
        return report
    found = [path for path in list_reports(folder) if path.stem.rsplit("-", 1)[-1].startswith(wanted)] if wanted else []
    if len(found) != 1:
        which = f": {', '.join(path.stem for path in found[:4])}" if found else ""
        raise DataError(
            f"{len(found)} reports have a run that starts with {wanted!r}{which}",
            place=str(folder),
            remedy="give more of its hash, or the path of its report" if found else "`options-agent report` lists them",
        )
    return found[0]


def find_runs(wanted: Sequence[str], folder: Path, base: str | None = None) -> tuple[list[SavedRun], list[str]]:
    """The runs to compare, the base first, and what there is to say of those given more than once.

    Args:
        wanted: hashes or paths.
        folder: where hashes are looked up, usually `settings.reports_dir`.
        base: which of them the others are held against; it need not be among `wanted`. The first by default.

    Raises:
        DataError: a run is not found or no report, or fewer than two are left once doubles are taken away.
    """
    paths = [find_report(one, folder) for one in wanted]
    given = [path.resolve() for path in paths]
    twice = {path: None for path in given if given.count(path) > 1}
    said = [f"{path.stem} was given more than once and stands here once." for path in twice]
    if base is not None:
        paths.insert(0, find_report(base, folder))
    kept = {path.resolve(): path for path in paths}  # a dict keeps the place of the first
    if len(kept) < 2:
        raise DataError(
            "there is one run only to compare: it was given twice, or alone" if kept else "no run was given",
            place=str(paths[0]) if paths else None,
            remedy="give two runs that differ; `options-agent report` lists them",
        )
    return [load_run(path, label_of(n)) for n, path in enumerate(kept.values())], said


def label_of(n: int) -> str:
    """A, B ... Z, AA, AB ..."""
    return (label_of(n // 26 - 1) if n >= 26 else "") + chr(ord("A") + n % 26)


def load_run(path: Path, label: str) -> SavedRun:
    """A run with its tables; one that cannot be read is None, with a sentence in `problems`.

    Raises:
        DataError: the report cannot be read, lacks what a comparison rests on, or is of a later version.
    """
    report = load_report(path)
    _judge(report, path)
    problems = []
    version = report["schema_version"]
    if version != REPORT_VERSION:
        problems.append(f"its report is of schema version {version}, this program writes {REPORT_VERSION}: what it lacks is left blank")
    tables: dict[str, pa.Table | None] = {}
    for name, columns in NEEDED.items():
        tables[name], problem = _table(path, name, columns)
        if problem:
            problems.append(problem)
    equity = tables["equity"]
    if equity is not None:
        equity, found = _sound(equity, report)
        problems += found
    return SavedRun(label, path, report, equity, tables["trades"], tables["fills"], tables["decisions"], tuple(problems))


def _judge(report: dict[str, Any], path: Path) -> None:
    version = report["schema_version"]
    if isinstance(version, int) and version > REPORT_VERSION:
        raise DataError(
            f"the report is of schema version {version}; this program knows up to {REPORT_VERSION}",
            place=str(path),
            remedy="compare with the version of options-agent that wrote it, or run the backtest again",
        )
    missing = [name for name in _ESSENTIAL if name not in report]
    missing += [
        f"{group}.{name}" for group, name in (("strategy", "name"), ("range", "start"), ("range", "end")) if _lacks(report, group, name)
    ]
    if missing:
        raise DataError(
            f"the report (schema version {version}) does not say {', '.join(missing)}",
            place=str(path),
            remedy="run the backtest again: its format is too old to compare",
        )


def _lacks(report: dict[str, Any], group: str, name: str) -> bool:
    return group in report and name not in report[group]


def _table(path: Path, name: str, columns: tuple[str, ...]) -> tuple[pa.Table | None, str | None]:
    try:
        table = load_table(path, name)
    except DataError as error:
        missing = not (path.with_suffix("") / f"{name}.parquet").is_file()
        return None, f"its table of {name} {'is missing' if missing else 'is torn'} ({error.place})"
    absent = [column for column in columns if column not in table.column_names]
    if absent:
        return None, f"its table of {name} has no column {', '.join(absent)}: another version wrote it"
    return table, None


def _sound(equity: pa.Table, report: dict[str, Any]) -> tuple[pa.Table | None, list[str]]:
    """The rows of an equity that can be used, and what is wrong with the others."""
    said = []
    expected = report["range"].get("snapshots")
    if expected is not None and expected != equity.num_rows:
        said.append(f"its table of equity has {equity.num_rows} rows where its report counts {expected} snapshots: they are not one run's")
    known = pc.and_(pc.is_finite(equity["equity_coin"]), pc.is_finite(equity["equity_usd"]))
    known = pc.fill_null(known, False)
    lost = equity.num_rows - int(pc.sum(known).as_py() or 0)
    if lost:
        said.append(f"{lost} of its snapshots have no equity and are left out")
        equity = equity.filter(known)
    if equity.num_rows > 1 and (np.diff(times(equity, "ts")) <= 0).any():
        return None, [*said, "its table of equity is not in the order of time"]
    return equity, said
