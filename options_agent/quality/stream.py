"""Files of quotes judged a row group at a time, by two threads, in memory that does not grow with the files.

The verdicts are those `judge` gives on all rows at once. Where rows lie in order of snapshot, as recorders write them, what
compares rows looks within one snapshot, but for time, and there one number an instrument says what came before. Where they do
not, the whole table is read, and judged in that order.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from options_agent.errors import DataError
from options_agent.quality.chain import NO_TIME, TEXTS, Chain, Ints, chain_of
from options_agent.quality.judge import Asked, ask
from options_agent.quality.rules import active
from options_agent.quality.verdicts import Verdicts
from options_agent.quotes import CLEAN_SCHEMA, QUARANTINE_SCHEMA, QUOTE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from options_agent.quality.rules import Rule
    from options_agent.settings import QualitySettings

_THREADS: Final = 2
_AHEAD: Final = 1
_ROWS_AT_ONCE: Final = 1 << 17
#: The one rule that needs to know what came before.
_IN_TURN: Final = "time_backwards"
#: Where a row group lies: file, its footer, the group's number in it, and the number of its first row through all files.
_Group = tuple["Path", pq.FileMetaData, int, int]


@dataclass(frozen=True, slots=True)
class Judged:
    """Verdicts of a run of rows; `first` is the number of its first row, counted through all files."""

    first: int
    verdicts: Verdicts


def judge_files(paths: Sequence[Path], settings: QualitySettings, *, network: str | None = None) -> Iterator[Judged]:
    """Judge Parquet files of quotes, in order of rows; memory is that of three row groups, or of all where rows lie in disorder.

    Args:
        paths: files of `QUOTE_SCHEMA`, best one after the other in order of `snapshot`; texts may be dictionaries.
        settings, network: as for `judge`.

    Raises:
        DataError: a file is damaged or has another schema, or a snapshot is null.
        SettingsError: a disabled rule does not exist.
    """
    rules = active(settings)
    groups: list[_Group] = []
    first = 0
    for path in paths:
        with _opened(path) as file:
            for number in range(file.num_row_groups):
                groups.append((path, file.metadata, number, first))
                first += file.metadata.row_group(number).num_rows
    memory = _Memory(settings, rules, network)
    if not _lie_in_order(groups):
        yield _judge_disordered(groups, memory)
        return
    waiting: deque[Future[list[Judged]]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for turn, group in enumerate(groups):
                waiting.append(pool.submit(_judge_group, memory, turn, *group))
                if len(waiting) > _THREADS + _AHEAD - 1:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            memory.give_up()
    yield from memory.close(memory.open_rows)


def write_judged(
    paths: Sequence[Path], clean: Path, quarantine: Path, settings: QualitySettings, *, network: str | None = None
) -> dict[str, int]:
    """Judge files and write two: clean rows (`CLEAN_SCHEMA`) and quarantined ones (`QUARANTINE_SCHEMA`), both whole or not at all.

    Returns:
        The counts of `Verdicts.counts`, over all rows.

    Raises:
        DataError, SettingsError: as `judge_files`; nothing is written then.
    """
    counts: dict[str, int] = {}
    parts = {place: place.with_name(f".{place.name}.part") for place in (clean, quarantine)}
    try:
        with (
            pq.ParquetWriter(parts[clean], CLEAN_SCHEMA, compression="zstd") as good,
            pq.ParquetWriter(parts[quarantine], QUARANTINE_SCHEMA, compression="zstd") as bad,
        ):
            for judged in judge_files(paths, settings, network=network):
                good.write_table(judged.verdicts.clean())
                bad.write_table(judged.verdicts.quarantined())
                for name, count in judged.verdicts.counts().items():
                    counts[name] = counts.get(name, 0) + count
        for place, part in parts.items():
            part.replace(place)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return counts


@dataclass
class _Memory:
    """What row groups tell each other, each in its turn: the newest time of every series, and rows of a snapshot not yet whole."""

    settings: QualitySettings
    rules: tuple[Rule, ...]
    network: str | None
    codes: dict[tuple[str | None, str | None], dict[str | None, int]] = field(default_factory=dict)
    count: int = 0
    newest: Ints = field(default_factory=lambda: np.full(1 << 12, NO_TIME))
    open_rows: tuple[int, list[pa.Table]] | None = None
    open_snapshot: int = NO_TIME
    turn: int = 0
    given_up: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def in_turn(self, turn: int) -> Iterator[None]:
        """Wait until all groups before are done with the memory; the next one may when this block is left."""
        with self.changed:
            self.changed.wait_for(lambda: self.turn == turn or self.given_up)
        if self.turn != turn:
            raise DataError("an earlier part of the files could not be judged")
        try:
            yield
        except BaseException:
            self.give_up()
            raise
        with self.changed:
            self.turn += 1
            self.changed.notify_all()

    def give_up(self) -> None:
        """Let nobody wait any more."""
        with self.changed:
            self.given_up = True
            self.changed.notify_all()

    def start(self, table: pa.Table) -> Asked:
        """Ask what needs no memory."""
        asked = Asked(chain_of(table, self.network), self.settings, self.rules)
        ask(asked, until=_IN_TURN)
        return asked

    def ask_time(self, asked: Asked) -> None:
        """Ask whether time went back since all rows before, and remember these."""
        chain = asked.chain
        codes = self._codes(chain)
        newest = chain.kept["newest"] = self.newest[codes]
        ask(asked, through=_IN_TURN)
        self.newest[codes] = newest

    def whole(self, first: int, tables: list[pa.Table]) -> Judged:
        """Judge a snapshot that is whole now."""
        asked = self.start(
            pa.concat_tables([table.cast(QUOTE_SCHEMA) for table in tables]).combine_chunks()
        )  # few of its group's names are left
        self.ask_time(asked)
        ask(asked)
        return Judged(first, asked.verdicts())

    def close(self, rows: tuple[int, list[pa.Table]] | None) -> list[Judged]:
        """Judge the open snapshot, if there is one."""
        return [] if rows is None else [self.whole(*rows)]

    def _codes(self, chain: Chain) -> Ints:
        """Code in `newest` of every series of the chain."""
        codes: list[int | None] = []
        for harvester in chain.harvesters:
            known = self.codes.setdefault(harvester, {})
            found = list(map(known.get, chain.instruments))
            for at in [at for at, code in enumerate(found) if code is None]:
                found[at] = known[chain.instruments[at]] = self.count
                self.count += 1
            codes += found
        while self.count > len(self.newest):
            self.newest = np.concatenate([self.newest, np.full(len(self.newest), NO_TIME)])
        return np.fromiter(codes, np.int64, len(codes))


def _judge_group(memory: _Memory, turn: int, path: Path, footer: pq.FileMetaData, number: int, first: int) -> list[Judged]:
    """Judge one row group, but for its last snapshot, which may go on in the next; and the one before it left open."""
    try:
        table = _read(path, footer, number)
        snapshot = table.column("snapshot").cast(pa.int64()).to_numpy()
        head = int(np.searchsorted(snapshot, snapshot[0], "right")) if len(table) else 0
        tail = int(np.searchsorted(snapshot, snapshot[-1], "left")) if len(table) else 0
        middle = memory.start(table.slice(head, tail - head)) if tail > head else None
    except BaseException:
        memory.give_up()
        raise
    with memory.in_turn(turn):
        done = _hand_over(memory, table, snapshot, first, head, tail)
        if middle is not None:
            memory.ask_time(middle)
    if middle is not None:
        ask(middle)
        done.append(Judged(first + head, middle.verdicts()))
    return done


def _hand_over(memory: _Memory, table: pa.Table, snapshot: Ints, first: int, head: int, tail: int) -> list[Judged]:
    """Judge what was left open together with the head of this group, and leave its tail open."""
    if not len(table):
        return []
    done: list[Judged] = []
    opened = memory.open_rows
    if opened is not None and snapshot[0] != memory.open_snapshot:
        done, opened = memory.close(opened), None
    begins, tables = opened if opened is not None else (first, [])
    tables = [*tables, table.slice(0, head)]
    if tail == 0:  # one snapshot only, and it may go on
        memory.open_rows = (begins, tables)
    else:
        done.append(memory.whole(begins, tables))
        memory.open_rows = (first + tail, [table.slice(tail)])
    memory.open_snapshot = int(snapshot[-1])
    return done


@contextmanager
def _opened(path: Path, footer: pq.FileMetaData | None = None) -> Iterator[pq.ParquetFile]:
    """A file, told by its footer where that was read before: texts are then read as dictionaries."""
    try:
        with pq.ParquetFile(path, metadata=footer, read_dictionary=list(TEXTS) if footer else None) as file:
            if sorted(file.schema_arrow.names) != sorted(QUOTE_SCHEMA.names):
                raise DataError(
                    f"not a file of quotes: it has {file.schema_arrow.names}",
                    place=str(path),
                    remedy="map its columns to options_agent.quotes.FIELDS (docs/data-dictionary.md)",
                )
            yield file
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a whole Parquet file: {error}", place=str(path), remedy="write it again") from error


def _read(path: Path, footer: pq.FileMetaData, number: int) -> pa.Table:
    with _opened(path, footer) as file:
        told = file.metadata.row_group(number)
        chunks = {chunk.path_in_schema: chunk.statistics for chunk in map(told.column, range(told.num_columns))}
        empty = {name for name, known in chunks.items() if known is not None and known.has_null_count and known.null_count == told.num_rows}
        read = file.read_row_group(number, columns=[name for name in QUOTE_SCHEMA.names if name not in empty], use_threads=False)
    coded = pa.dictionary(pa.int32(), pa.string())
    fields = [pa.field(f.name, coded if f.name in TEXTS else f.type, f.nullable) for f in QUOTE_SCHEMA]
    columns = []
    for f in fields:
        column = pa.chunked_array([pa.nulls(told.num_rows, f.type)]) if f.name in empty else read.column(f.name)
        columns.append(column if column.type.equals(f.type) else column.cast(f.type))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _lie_in_order(groups: Sequence[_Group]) -> bool:
    """Whether all rows ascend by snapshot: one column is read ahead, a fiftieth of the work.

    Raises:
        DataError: a snapshot is null.
    """
    from options_agent.quality.row_kernels import ascends

    newest, ordered = NO_TIME, True
    for path, footer, number, _ in groups:
        with _opened(path, footer) as file:
            column = file.read_row_group(number, columns=["snapshot"], use_threads=False).column(0)
        if column.null_count:
            raise DataError("a row answers for no snapshot", place=str(path), remedy="take such rows out first (quotes.split_incomplete)")
        snapshot = column.cast(pa.int64()).to_numpy()
        if len(snapshot):
            ordered = ordered and snapshot[0] >= newest and ascends(snapshot)
            newest = snapshot[-1]
    return ordered


def _judge_disordered(groups: Sequence[_Group], memory: _Memory) -> Judged:
    """Judge rows in any order: some snapshots after the other, in memory of the table and little more."""
    table = pa.concat_tables([_read(path, footer, number) for path, footer, number, _ in groups]).unify_dictionaries()
    snapshot = table.column("snapshot").cast(pa.int64()).to_numpy()
    order = np.argsort(snapshot, kind="stable")
    begins = np.flatnonzero(np.diff(snapshot[order], prepend=NO_TIME))
    cuts = np.unique(begins[np.minimum(np.searchsorted(begins, np.arange(0, len(order), _ROWS_AT_ONCE)), len(begins) - 1)])
    broken, measures = np.zeros(len(order), np.uint32), dict[str, dict[int, float]]()
    for rows in np.split(order, cuts[cuts > 0]):
        told = memory.whole(0, [table.take(pa.array(rows))]).verdicts
        broken[rows] = told.broken
        for name, measured in told.measures.items():
            measures.setdefault(name, {}).update({int(rows[at]): value for at, value in measured.items()})
    return Judged(0, Verdicts(table, memory.settings, memory.rules, broken, measures))
