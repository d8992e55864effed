"""Do the regions of a source tell the same? Snapshots one of them lacks, snapshots one knows late, marks that differ.

Which row of several is read is another matter: see `lake.merging`. Rows of two regions are never duplicates of each other.
"""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.lake.encoding import from_bytes
from options_agent.lake.layout import is_snapshot
from options_agent.lake.store import read_day, snapshot_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from options_agent.lake.store import Lake, SnapshotFile
    from options_agent.settings import RegionSettings

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

_COLUMNS: Final = ("ts", "snapshot", "instrument", "settlement", "mark", "index", "source", "region")
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One way in which a region differs: `missing` snapshots that `other` regions have, `lag` behind the first, `marks` unlike `other`'s.

    `count` of `compared` snapshots (marks: rows) differ; `worst` is the largest lag in seconds, or the largest difference of marks in
    coin; `at` and `instrument` say where.
    """

    underlying: str
    source: str
    kind: Literal["missing", "lag", "marks"]
    region: str
    other: str
    count: int
    compared: int
    worst: float
    at: dt.datetime
    instrument: str | None = None

    def __str__(self) -> str:
        if self.kind == "missing":
            of = f"{self.count} of {self.compared} snapshots that {self.other} has"
            return f"{self.region} lacks {of}, the last {self.at:%Y-%m-%d %H:%M} UTC"
        if self.kind == "lag":
            return f"{self.region} is late in {self.count} of {self.compared} snapshots, by up to {self.worst:.0f} s ({self.at:%H:%M} UTC)"
        return (
            f"marks of {self.region} and {self.other} differ in {self.count:,} of {self.compared:,} rows, "
            f"by up to {self.worst:.6f} coin ({self.instrument} at {self.at:%H:%M} UTC)"
        )


def compare_regions(
    lake: Lake,
    underlying: str,
    day: dt.date,
    settings: RegionSettings,
    *,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
) -> list[Disagreement]:
    """How the regions that harvest the same source differ on a day; empty where they agree or there is one only.

    A region is expected to have a snapshot that another has from its own first one of the day on, or all day if it wrote the
    day before.

    Args:
        lake: raw snapshots.
        underlying: family.
        day: by grid time.
        settings: thresholds.
        since, until: look at these grid times only, both inclusive.

    Raises:
        DataError: a file is damaged.
        StorageError: a file cannot be read.
    """
    yesterday = {(file.source, file.region) for file in snapshot_files(lake, underlying, day - dt.timedelta(days=1))}
    today = snapshot_files(lake, underlying, day)
    by_source: dict[str, set[str]] = {}
    for source, region in yesterday | {(file.source, file.region) for file in today}:
        by_source.setdefault(source, set()).add(region)
    several = sorted(source for source, regions in by_source.items() if len(regions) > 1)
    inside = [file for file in today if (since is None or file.snapshot >= since) and (until is None or file.snapshot <= until)]
    if not several or not inside:
        return []
    table = _rows(lake, underlying, day, inside)
    found: list[Disagreement] = []
    for source in several:
        first = {
            region: min((f.snapshot for f in today if (f.source, f.region) == (source, region)), default=None)
            for region in by_source[source]
        }
        expected_from = {region: None if (source, region) in yesterday else at for region, at in first.items()}
        found += _of_source(underlying, source, table.filter(pc.equal(table["source"], source)), expected_from, settings)
    return found


def _rows(lake: Lake, underlying: str, day: dt.date, inside: list[SnapshotFile]) -> pa.Table:
    """Rows of some snapshots of a day, of its whole file where it is compacted: only what is asked for is read while it is not."""
    if all(is_snapshot(file.path) for file in inside):
        paths = [file.path for file in inside]
        read = zip(paths, lake.files.read_many(paths), strict=True)
        return pa.concat_tables(
            from_bytes(data, place=lake.files.place(path), columns=_COLUMNS).replace_schema_metadata(None) for path, data in read
        )
    table = read_day(lake, "raw", underlying, day, _COLUMNS)
    wanted = pa.array(sorted({file.snapshot for file in inside}), table["snapshot"].type)
    return table.filter(pc.is_in(table["snapshot"], value_set=wanted))


def _of_source(
    underlying: str, source: str, rows: pa.Table, expected_from: dict[str, dt.datetime | None], settings: RegionSettings
) -> list[Disagreement]:
    """`expected_from`: the grid time from which on a region should have what others have; None = all of them."""
    regions = sorted(expected_from)
    inside = np.unique(rows["snapshot"].cast("int64").to_numpy())
    views = {region: _view(rows, region) for region in regions}
    found: list[Disagreement] = []
    medians = {region: _median_known(view) for region, view in views.items()}
    for region in regions:
        begun = expected_from[region]
        expected = inside if begun is None else inside[inside >= round(begun.timestamp()) * _MICROSECONDS]
        absent = np.setdiff1d(expected, views[region].at)
        if len(absent):
            others = [other for other in regions if other != region and np.isin(absent, views[other].at).any()]
            name = ", ".join(others)
            found.append(Disagreement(underlying, source, "missing", region, name, len(absent), len(expected), 0.0, _utc(absent[-1])))
        shared = [at for at in medians[region] if sum(at in known for known in medians.values()) > 1]
        lags = {at: (medians[region][at] - min(known[at] for known in medians.values() if at in known)) / _MICROSECONDS for at in shared}
        late = {at: lag for at, lag in lags.items() if lag > settings.lag_seconds}
        if late:
            worst = max(late, key=lambda at: late[at])
            found.append(Disagreement(underlying, source, "lag", region, "", len(late), len(lags), late[worst], _utc(worst)))
    for one, other in itertools.combinations(regions, 2):
        found += _marks(underlying, source, (one, views[one]), (other, views[other]), settings)
    return found


@dataclass(frozen=True, slots=True)
class _View:
    """One region's rows as arrays, one a contract and snapshot, in the order of `key`; marks in coin, NaN for none."""

    at: Ints
    known: Ints
    key: NDArray[np.object_]
    mark: Floats
    instruments: NDArray[np.object_]


def _view(rows: pa.Table, region: str) -> _View:
    mine = rows.filter(pc.equal(rows["region"], region)).combine_chunks()
    at, known = (mine[name].cast("int64").to_numpy() for name in ("snapshot", "ts"))
    mark, index = (pc.fill_null(mine[name], float("nan")).to_numpy() for name in ("mark", "index"))
    linear = pc.equal(mine["settlement"], "usdc").to_numpy()
    names = mine["instrument"].to_numpy()
    key = np.array([f"{instant} {name}" for instant, name in zip(at.tolist(), names.tolist(), strict=True)], object)
    return _View(at, known, key, np.where(linear, mark / index, mark), names)


def _median_known(view: _View) -> dict[int, float]:
    """When the rows of each snapshot were known, their median, microseconds."""
    if not len(view.at):
        return {}
    order = np.argsort(view.at, kind="stable")
    at, known = view.at[order], view.known[order]
    edges = np.flatnonzero(np.concatenate([[True], at[1:] != at[:-1]]))
    return {int(at[a]): float(np.median(known[a:b])) for a, b in zip(edges, [*edges[1:], len(at)], strict=True)}


def _marks(underlying: str, source: str, one: tuple[str, _View], other: tuple[str, _View], settings: RegionSettings) -> list[Disagreement]:
    left, right = one[1], other[1]
    place = {key: i for i, key in enumerate(right.key.tolist())}
    pairs = [(i, j) for i, key in enumerate(left.key.tolist()) if (j := place.get(key)) is not None]
    if not pairs:
        return []
    a, b = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    wanted = ~np.isnan(left.mark[a]) & ~np.isnan(right.mark[b])
    a, b = a[wanted], b[wanted]
    apart = np.abs(left.mark[a] - right.mark[b])
    unlike = (apart > settings.mark_coin) & (apart > settings.mark_share * np.maximum(left.mark[a], right.mark[b]))
    if not unlike.any():
        return []
    worst = int(np.argmax(np.where(unlike, apart, -1.0)))
    where = a[worst]
    count = int(unlike.sum())
    return [
        Disagreement(
            underlying,
            source,
            "marks",
            one[0],
            other[0],
            count,
            len(a),
            float(apart[worst]),
            _utc(left.at[where]),
            str(left.instruments[where]),
        )
    ]


def _utc(microseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(microseconds) // _MICROSECONDS, dt.UTC)
