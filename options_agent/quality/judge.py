"""Judging: every row is clean or quarantined with its rules and a reason; nothing vanishes.

`judge` is pure; `judge_day` reads a raw day of the lake, writes its clean and quarantined days and leaves a receipt.
"""

from __future__ import annotations

import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from options_agent.errors import DataError
from options_agent.lake import layout
from options_agent.lake.encoding import from_bytes
from options_agent.lake.receipts import Receipt, fingerprint, read_receipt, unchanged, write_receipt
from options_agent.lake.retained import is_retained, retained_snapshots
from options_agent.lake.shape import as_stored
from options_agent.lake.store import raw_fingerprint, read_raw_day, set_aside, snapshot_files, write_day
from options_agent.quality.chain import MICROSECONDS, Bools, Chain, chain_of
from options_agent.quality.rules import NAMES, RULES_VERSION, Rule, active
from options_agent.quality.schema import check_quotes
from options_agent.quality.thresholds import Learnt, ensure_learnt, learnt_before
from options_agent.quality.verdicts import Verdicts
from options_agent.quotes import QUOTE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from options_agent.lake.store import Lake, SnapshotFile
    from options_agent.settings import QualitySettings, Settings

STAGE: Final = "quality"
_AT_ONCE: Final = 2


def judge(
    table: pa.Table,
    settings: QualitySettings,
    previous: pa.Table | None = None,
    *,
    network: str | None = None,
    learnt: Mapping[str, Learnt] | None = None,
) -> Verdicts:
    """Ask every rule of every row. Pure: nothing is read or written; row order only decides between equally good duplicates.

    Rules are asked in the order of `rules.RULES`; those that compare rows see only rows that nothing condemned before.

    Args:
        table: `QUOTE_SCHEMA`, any number of snapshots, sources and underlyings.
        settings: thresholds, and rules not to ask.
        previous: rows known before (the last snapshot of the day before), against which time must move on.
        network: the network all rows should be of; None = do not ask.
        learnt: thresholds by underlying, in place of the fixed ones.

    Raises:
        DataError: the table does not have the quote schema.
        SettingsError: a disabled rule does not exist.
    """
    _require_quotes(table)
    context = 0
    everything = table
    if previous is not None and len(previous):
        _require_quotes(previous)
        everything, context = pa.concat_tables([previous.select(QUOTE_SCHEMA.names), table]), len(previous)
    asked = Asked(chain_of(everything.combine_chunks(), network, learnt), settings, active(settings))
    ask(asked)
    return asked.verdicts(context)


@dataclass
class Asked:
    """A chain and what has been asked of it so far; `broken`, `believed` (rows,) and `measures` as in `Verdicts`."""

    chain: Chain
    settings: QualitySettings
    rules: tuple[Rule, ...]
    done: int = 0
    broken: NDArray[np.uint32] = field(init=False)
    believed: Bools = field(init=False)
    measures: dict[str, dict[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.broken, self.believed = np.zeros(len(self.chain), np.uint32), np.ones(len(self.chain), bool)

    def verdicts(self, context: int = 0) -> Verdicts:
        """What came out, of all rows but the first `context`."""
        measures = {name: {row - context: value for row, value in told.items() if row >= context} for name, told in self.measures.items()}
        return Verdicts(self.chain.table.slice(context), self.settings, self.rules, self.broken[context:], measures, self.chain.learnt)


def ask(asked: Asked, *, until: str | None = None, through: str | None = None) -> None:
    """Ask the rules not asked yet, all of them or those before `until`, or up to and with `through`; a rule not in force is passed by."""
    chain, settings, stop = asked.chain, asked.settings, until or through
    last = NAMES.index(stop) + (through is not None) if stop else len(NAMES)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        while asked.done < len(asked.rules) and NAMES.index(asked.rules[asked.done].name) < last:
            rule, bit = asked.rules[asked.done], np.uint32(1 << asked.done)
            asked.done += 1
            finding = rule.check(chain, settings, asked.believed)
            if not finding.rows.any():
                continue
            asked.broken[finding.rows] |= bit
            if finding.measure is not None:
                at = np.flatnonzero(finding.rows)
                asked.measures[rule.name] = dict(zip(at.tolist(), finding.measure(at).tolist(), strict=True))
            if rule.severity == "error":
                asked.believed = asked.believed & ~finding.rows


def judge_fingerprint(lake: Lake, underlying: str, day: dt.date, *, settings: Settings) -> str:
    """What a day's verdict depends on: its raw snapshots, the last ones before it, the settings, the rules, what was learnt."""
    before = _last_snapshots(lake, underlying, day)
    learnt = learnt_before(lake, underlying, day, settings=settings)
    parts = (STAGE, RULES_VERSION, settings.quality, lake.network, _inputs(lake, underlying, day), _keys(before))
    return fingerprint(*parts) if learnt is None else fingerprint(*parts, learnt)


def judge_day(lake: Lake, underlying: str, day: dt.date, *, settings: Settings) -> Receipt:
    """Judge one raw day of the lake: write its clean and its quarantined rows and, last, the receipt.

    A raw file that cannot be read is set aside under `quarantine/files` and named in the receipt
    (`counts["files_set_aside"]`, `details["set_aside"]`); the rest of the day is judged. Same raw snapshots, settings
    and rules: nothing is done and the former receipt is returned; so it is where retention has deleted the raw day
    (restore it to have it judged by other rules).

    Raises:
        DataError: a written row would not fit the clean schema (a disabled rule let it through).
        StorageError: the lake cannot be read or written.
    """
    receipt = read_receipt(lake, STAGE, underlying, day.isoformat())
    if receipt is not None and is_retained(lake, "raw", underlying, day):
        return receipt  # its raw rows lie in the archive only: judged they were, and nothing is left here to judge
    learnt = ensure_learnt(lake, underlying, day, settings=settings)
    answered = judge_fingerprint(lake, underlying, day, settings=settings)
    if receipt is not None and unchanged(lake, receipt, answered):
        return receipt
    table, moved = _read_what_can_be_read(lake, underlying, day)
    if moved:
        answered = judge_fingerprint(lake, underlying, day, settings=settings)
    previous = _rows_of(lake, _last_snapshots(lake, underlying, day))
    verdicts = judge(table, settings.quality, previous, network=lake.network, learnt={underlying: learnt} if learnt else None)
    clean, quarantined = verdicts.clean(), verdicts.quarantined()
    if len(clean) + len(quarantined) != len(table):
        raise DataError(
            f"{len(table)} rows in, {len(clean)} clean and {len(quarantined)} quarantined",
            place=f"{underlying} {day}",
            remedy="report this",
        )
    check_quotes(clean, place=f"clean {underlying} {day}", clean=True)
    files = (write_day(lake, "clean", underlying, day, clean), write_day(lake, "quarantine", underlying, day, quarantined))
    aside = _set_aside_before(lake, underlying, day)
    counts = {**verdicts.counts(), **_completed(clean), "snapshots": _distinct(table, "snapshot"), "files_set_aside": len(aside)}
    receipt = Receipt(
        stage=STAGE,
        underlying=underlying,
        partition=day.isoformat(),
        fingerprint=answered,
        counts=counts,
        files=files,
        details={
            "set_aside": aside,
            "broken": {rule.name: int(verdicts.rows_breaking(rule.name).sum()) for rule in verdicts.rules},
            "learnt": learnt and learnt.document(),
        },
    )
    write_receipt(lake, receipt)
    return receipt


def judge_days(
    lake: Lake, underlying: str, wanted: Sequence[dt.date], *, settings: Settings, told: Callable[[int, Receipt], None] | None = None
) -> list[Receipt]:
    """`judge_day` for many days, two at a time: most of a day is reading and writing Parquet, outside the interpreter lock.

    Args:
        lake, underlying, settings: as for `judge_day`.
        wanted: days, each judged by itself.
        told: called after each day, in the order of `wanted`, with how many are done and the receipt.

    Raises:
        DataError, StorageError: as `judge_day`; days finished before keep their receipts.
    """
    receipts: list[Receipt] = []
    for receipt in judge_each(lake, [(underlying, day) for day in wanted], settings=settings):
        receipts.append(receipt)
        if told is not None:
            told(len(receipts), receipt)
    return receipts


def judge_each(lake: Lake, wanted: Sequence[tuple[str, dt.date]], *, settings: Settings) -> Iterator[Receipt]:
    """`judge_day` of days of any underlyings, two at a time; the receipts come in the order asked for, each when it is there.

    Raises:
        DataError, StorageError: as `judge_day`, in place of the receipt of the day that failed; later days are not begun.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(lambda one: judge_day(lake, *one, settings=settings), wanted)


def _require_quotes(table: pa.Table) -> None:
    if not table.schema.equals(QUOTE_SCHEMA):
        missing = [name for name in QUOTE_SCHEMA.names if name not in table.column_names]
        raise DataError(
            f"not a quote table: columns missing {missing}, found {table.column_names}",
            remedy="build it with options_agent.quotes.quote_table, or cast it to QUOTE_SCHEMA",
        )


def _inputs(lake: Lake, underlying: str, day: dt.date) -> str:
    """What a day's raw rows are known by: their bytes, which compaction does not change."""
    try:
        return raw_fingerprint(lake, underlying, day)
    except DataError:
        return "damaged"


def _keys(found: Sequence[SnapshotFile]) -> list[tuple[str, str, str]]:
    return [(file.snapshot.isoformat(), file.source, file.region) for file in found]


def _last_snapshots(lake: Lake, underlying: str, day: dt.date) -> list[SnapshotFile]:
    """The last snapshot of every harvester on the day before; none where that day has none, or cannot be read."""
    try:
        before = day - dt.timedelta(days=1)
        found = snapshot_files(lake, underlying, before) or retained_snapshots(lake, underlying, before)
    except DataError:
        return []
    last = {(file.source, file.region): file for file in found}
    return [last[key] for key in sorted(last)]


def _rows_of(lake: Lake, found: Sequence[SnapshotFile]) -> pa.Table:
    """Rows of some raw snapshots of one day; a file that cannot be read is left for its own day to set aside."""
    tables = [QUOTE_SCHEMA.empty_table()]
    for path in {file.path: None for file in found if file.path}:  # of a day in the archive only, the names are left
        try:
            tables.append(as_stored(from_bytes(lake.files.read(path), place=lake.files.place(path)), QUOTE_SCHEMA, path))
        except DataError:
            continue
    table = pa.concat_tables(tables)
    at = np.array([int(file.snapshot.timestamp()) * MICROSECONDS for file in found], dtype=np.int64)  # whole seconds, as all snapshots
    return table.filter(pa.array(np.isin(table.column("snapshot").cast(pa.int64()).to_numpy(), at)))


def _read_what_can_be_read(lake: Lake, underlying: str, day: dt.date) -> tuple[pa.Table, int]:
    """The raw day, and how many files were set aside, one by one, because they are damaged or of another schema."""
    moved = 0
    while True:
        try:
            return read_raw_day(lake, underlying, day), moved
        except DataError as error:
            path = (error.place or "").removeprefix(lake.files.url).lstrip("/")
            if lake.files.size(path) is None:
                raise
            set_aside(lake, path, error.message)
            moved += 1


def _set_aside_before(lake: Lake, underlying: str, day: dt.date) -> list[dict[str, str]]:
    """Every raw file of the day that was ever set aside: where it lay, where it lies now, why."""
    notes = []
    for path in lake.files.find(f"quarantine/files/{layout.day_folder('raw', underlying, day)}"):
        if path.endswith(".note.json"):
            note = json.loads(lake.files.read(path))
            notes.append({"path": note["path"], "kept_at": path.removesuffix(".note.json"), "reason": note["reason"]})
    return notes


def _completed(clean: pa.Table) -> dict[str, int]:
    return {name: int(np.count_nonzero(clean.column(name).to_numpy())) for name in ("iv_computed", "greeks_computed")}


def _distinct(table: pa.Table, name: str) -> int:
    return len(table.column(name).unique())
