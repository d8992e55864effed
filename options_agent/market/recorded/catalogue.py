"""What recorded files hold: per file a report, per family and snapshot the files that have it.

Built once: every name and every time of every file, and every value of the CSV files, has been checked before the
first quote is served.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

import polars as pl

from options_agent.market.recorded import files
from options_agent.market.recorded.columns import Columns
from options_agent.market.recorded.formats import Skipped, detect
from options_agent.market.recorded.instruments import resolve
from options_agent.market.recorded.series import SeriesFormat

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from options_agent.market.recorded.family import ChainFormat

#: Files that hold a snapshot another file has too are named; their rows count as left out under this reason.
ALSO_ELSEWHERE: Final = "also in another file"
STRAY: Final = "stray rows of the next month"


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was made of one file. `rows` = `kept` + the sum of `left_out`, always (series: rows without a value are left out)."""

    path: Path
    name: str
    format: str
    kind: Literal["chain", "series", "skipped"]
    bytes: int
    rows: int = 0
    kept: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    underlyings: tuple[str, ...] = ()
    snapshots: int = 0
    start: dt.datetime | None = None
    end: dt.datetime | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of a family: its rows over all files, when its last row was known, the median index (USD) or None."""

    at: dt.datetime
    rows: int
    known: dt.datetime
    index: float | None
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Reports of all files, snapshots by family (ascending), and the series files with their formats."""

    reports: tuple[FileReport, ...]
    snapshots: dict[str, tuple[Snapshot, ...]]
    formats: dict[Path, ChainFormat]
    series: tuple[tuple[Path, SeriesFormat], ...]


@dataclass(frozen=True, slots=True)
class _Contents:
    """One chain file: rows, rows left out, and its snapshots (underlying, snapshot, rows, known, index)."""

    rows: int
    left_out: Counter[str]
    snapshots: pl.DataFrame


def build_catalogue(root: Path, paths: Sequence[Path], told: Callable[[Path, int, int], None] | None = None) -> Catalogue:
    """Look into every file.

    Args:
        root: names in the reports are relative to it.
        paths: the files.
        told: called with a file, how many are done and how many there are, before each.

    Raises:
        DataError: a file is damaged, of unknown format, or holds an unknown name, a naive or a missing time.
    """
    reports: list[FileReport] = []
    chains: dict[Path, ChainFormat] = {}
    contents: dict[Path, _Contents] = {}
    series: list[tuple[Path, SeriesFormat]] = []
    for done, path in enumerate(paths):
        if told:
            told(path, done, len(paths))
        form = detect(path)
        blank = FileReport(path, _relative(path, root), form.name, "skipped", path.stat().st_size)
        if isinstance(form, Skipped):
            reports.append(replace(blank, note=form.reason))
        elif isinstance(form, SeriesFormat):
            series.append((path, form))
            reports.append(_series_report(blank, form))
        else:
            chains[path], contents[path] = form, contents_of(path, form)
            reports.append(replace(blank, kind="chain"))
    shared, snapshots = _merge(contents, chains)
    finished = [
        _chain_report(report, contents[report.path], shared.get(report.path, {})) if report.kind == "chain" else report
        for report in reports
    ]
    return Catalogue(tuple(finished), snapshots, chains, tuple(series))


def contents_of(path: Path, form: ChainFormat) -> _Contents:
    """Snapshots of a chain file, from its key columns; looked at once per version of the file."""
    stat = path.stat()
    return _contents_of(path, form, stat.st_size, stat.st_mtime_ns)


def read_keys(path: Path, form: ChainFormat) -> pl.DataFrame:
    """`underlying`, `snapshot`, `instrument`, `ts` and `index` of a chain file's options."""
    loaded = form.load(path, form.keys)
    return resolve(_with_missing(form, loaded.table, str(path)), str(path))[0]


@lru_cache(maxsize=65_536)
def _contents_of(path: Path, form: ChainFormat, size: int, modified: int) -> _Contents:
    # a CSV is parsed as a whole in any case, so all its values are checked now; Parquet's are typed
    loaded = form.load(path, form.keys if files.is_parquet(path) else form.columns)
    options, left_out = resolve(_with_missing(form, loaded.table, str(path)), str(path))
    left_out.update(loaded.left_out)
    index = pl.col("index").median() if "index" in options.columns else pl.lit(None, pl.Float64).first()
    snapshots = (
        options.group_by("underlying", "snapshot").agg(rows=pl.len(), known=pl.col("ts").max(), index=index).sort("underlying", "snapshot")
    )
    if form.strays is not None:
        stray = form.strays(snapshots)
        if stray.any():
            left_out[STRAY] += int(snapshots.filter(stray)["rows"].sum())
            snapshots = snapshots.filter(~stray)
    return _Contents(loaded.rows, left_out, snapshots)


def _with_missing(form: ChainFormat, table: pl.DataFrame, place: str) -> pl.DataFrame:
    """Decode a table that may hold the key columns only; of the measures, the index stays."""
    absent = [name for name in form.required if name not in table.columns]
    padded = table.with_columns(*(pl.lit(None).alias(name) for name in absent))
    decoded = form.decode(Columns(padded, place))
    return decoded.select([name for name in ("ts", "snapshot", "name", "index") if name in decoded.columns])


def _merge(
    contents: dict[Path, _Contents], chains: dict[Path, ChainFormat]
) -> tuple[dict[Path, dict[Path, int]], dict[str, tuple[Snapshot, ...]]]:
    """Snapshots over all files, and per file how many of its rows an earlier file has already (Parquet before CSV)."""
    order = sorted(contents, key=lambda path: (not files.is_parquet(path), str(path)))
    holders: dict[tuple[str, dt.datetime], list[tuple[Path, int, dt.datetime, float | None]]] = {}
    for path in order:
        for underlying, at, rows, known, index in contents[path].snapshots.iter_rows():
            holders.setdefault((underlying, at), []).append((path, rows, known, index))
    shared: dict[Path, dict[Path, int]] = {}
    keys: dict[Path, pl.DataFrame] = {}
    snapshots: dict[str, list[Snapshot]] = {}
    for (underlying, at), held in sorted(holders.items()):
        repeated = _repeated(underlying, at, [path for path, *_ in held], chains, keys) if len(held) > 1 else {}
        for path, (first, count) in repeated.items():
            of_file = shared.setdefault(path, {})
            of_file[first] = of_file.get(first, 0) + count
        total = sum(rows for _, rows, *_ in held) - sum(count for _, count in repeated.values())
        index = next((index for *_, index in held if index is not None), None)
        known = max(known for *_, known, _ in held)
        snapshots.setdefault(underlying, []).append(Snapshot(at, total, known, index, tuple(path for path, *_ in held)))
    return shared, {underlying: tuple(found) for underlying, found in snapshots.items()}


def _repeated(
    underlying: str, at: dt.datetime, paths: list[Path], chains: dict[Path, ChainFormat], keys: dict[Path, pl.DataFrame]
) -> dict[Path, tuple[Path, int]]:
    """Of a snapshot in several files: per later file, the first one and how many instruments came before."""
    counts: dict[Path, tuple[Path, int]] = {}
    seen: pl.Series | None = None
    for path in paths:
        if path not in keys:
            keys[path] = read_keys(path, chains[path]).select("underlying", "snapshot", "instrument")
        own = keys[path].filter((pl.col("underlying") == underlying) & (pl.col("snapshot") == at))["instrument"]
        if seen is None:
            seen = own
        else:
            counts[path] = (paths[0], int(own.is_in(seen.implode()).sum()))
            seen = pl.concat([seen, own])
    return counts


def _chain_report(report: FileReport, contents: _Contents, shared: dict[Path, int]) -> FileReport:
    left_out = Counter(contents.left_out)
    if again := sum(shared.values()):
        left_out[ALSO_ELSEWHERE] = again
    found = contents.snapshots
    return replace(
        report,
        rows=contents.rows,
        kept=contents.rows - left_out.total(),
        left_out=dict(left_out),
        underlyings=tuple(found["underlying"].unique().sort().to_list()),
        snapshots=found.height,
        start=found["snapshot"].min() if found.height else None,  # type: ignore[arg-type]
        end=found["snapshot"].max() if found.height else None,  # type: ignore[arg-type]
        note=f"read from {', '.join(path.name for path, count in shared.items() if count)}" if again else "",
    )


def _series_report(report: FileReport, form: SeriesFormat) -> FileReport:
    rows = form.read(report.path)
    return replace(
        report,
        kind="series",
        rows=rows.height,
        kept=rows.height,
        underlyings=tuple(rows["underlying"].unique().sort().to_list()),
        start=rows["ts"].min() if rows.height else None,  # type: ignore[arg-type]
        end=rows["ts"].max() if rows.height else None,  # type: ignore[arg-type]
    )


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if root.is_dir() and path.is_relative_to(root) else path.name
