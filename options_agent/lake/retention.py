"""Retention: old days leave the lake once the archive has proven, byte by byte, that it holds them.

A layer of a day is deleted only where its archived object, read back now, has the SHA-256 of the local file. Raw goes
only where clean and quarantine account for every row of it. The receipt is written before the first file is deleted:
killed at any point, the day is either here or known to be archived. See docs/adr/0020-retention.md.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

import pyarrow as pa
import pyarrow.compute as pc

from options_agent.errors import DataError, OptionsAgentError, StorageError
from options_agent.lake import encoding, layout
from options_agent.lake.archive import STAGE as ARCHIVING
from options_agent.lake.archive import archive_day, restore_day, verify
from options_agent.lake.compaction import compact_raw_day
from options_agent.lake.files import FileRecord, LocalFiles, sha256_of
from options_agent.lake.layout import Layer
from options_agent.lake.manifest import read_manifest, versions
from options_agent.lake.raw import read_raw_day, snapshot_files, sweeps
from options_agent.lake.receipts import Receipt, fingerprint, read_receipt, write_receipt
from options_agent.lake.retained import STAGE, recorded_layers, retained_day
from options_agent.lake.store import read_day, underlyings

if TYPE_CHECKING:
    from collections.abc import Callable

    from options_agent.lake.archive import Archive, RestoreReport
    from options_agent.lake.manifest import Manifest
    from options_agent.lake.root import Lake
    from options_agent.settings import RetentionSettings

_VERSION: Final = 1
_LAYERS: Final[tuple[Layer, ...]] = get_args(Layer)
#: What a raw row is known by, and the values that quality never changes: equal here, no row was lost.
_ACCOUNTED: Final = ("ts", "snapshot", "instrument", "source", "region", "bid", "ask", "mark", "open_interest")


@dataclass(frozen=True, slots=True)
class Due:
    """Layers of a day that are older than the settings keep them, and their files with bytes."""

    underlying: str
    day: dt.date
    layers: tuple[Layer, ...]
    files: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a due day: `deleted`, or would have been (`proven`), or `refused` with the reason in `why`."""

    due: Due
    verdict: str
    why: str = ""


def compact_days(lake: Lake, underlying: str, before: dt.date, told: Callable[[str, dt.date], None] | None = None) -> list[FileRecord]:
    """Compact every raw day earlier than `before` that still has small files; days that have none cost a look at the listing.

    Raises:
        DataError: a small file is damaged; it is named, and nothing of its day is removed. The other days were compacted before.
        StorageError: the lake cannot be read or written.
    """
    found = lake.files.find(layout.underlying_folder("raw", underlying))
    wanted = sorted({day for path in found if layout.is_snapshot(path) and (day := layout.day_of(path)) and day < before})
    made: list[FileRecord] = []
    damaged: DataError | None = None
    for day in wanted:
        try:
            made.append(compact_raw_day(lake, underlying, day))
        except DataError as error:
            damaged = damaged or error
        if told is not None:
            told(underlying, day)
    if damaged is not None:
        raise damaged
    return made


def archive_compacted(lake: Lake, archive: Archive, underlying: str) -> list[Receipt]:
    """Ship the compacted raw of days that were archived without it. A day that was never archived waits for its judging.

    Raises:
        DataError: a file is damaged.
        StorageError: the archive refused or cannot be reached; the next run completes the work.
    """
    found = lake.files.find(layout.underlying_folder("raw", underlying))
    small = {layout.day_of(path) for path in found if layout.is_snapshot(path)}
    made = []
    for path in found:
        day = layout.day_of(path)
        if day is None or day in small or path != layout.day_path("raw", underlying, day):
            continue
        receipt = read_receipt(lake, ARCHIVING, underlying, day.isoformat())
        if receipt is not None and path not in {file.path for file in receipt.files}:
            made.append(archive_day(lake, archive, underlying, day))
    return made


def due_days(lake: Lake, settings: RetentionSettings, today: dt.date) -> list[Due]:
    """Days with layers older than the settings keep them, by underlying and day. A restored day counts from its restoration.

    Raises:
        StorageError: the lake cannot be listed.
    """
    kept: dict[Layer, int | None] = {"raw": settings.raw_days, "clean": settings.clean_days, "quarantine": settings.quarantine_days}
    found: dict[tuple[str, dt.date], dict[str, int]] = {}
    for layer, days in kept.items():
        for underlying in underlyings(lake, layer) if days is not None else ():
            for path, size in lake.files.find(layout.underlying_folder(layer, underlying)).items():
                day = layout.day_of(path)
                if day is not None and days is not None and (today - day).days > days:
                    found.setdefault((underlying, day), {})[path] = size
    due = []
    for (underlying, day), files in sorted(found.items()):
        since = _restored_on(lake, underlying, day)
        layers = tuple(
            layer
            for layer in _LAYERS
            if any(path.startswith(f"{layer}/") for path in files) and (since is None or (today - since).days > (kept[layer] or 0))
        )
        own = {path: size for path, size in files.items() if path.split("/", 1)[0] in layers}
        if layers:
            due.append(Due(underlying, day, layers, tuple(own), sum(own.values())))
    return due


def retain(
    lake: Lake,
    archive: Archive,
    settings: RetentionSettings,
    today: dt.date,
    *,
    apply: bool,
    told: Callable[[int, int, Outcome], None] | None = None,
) -> list[Outcome]:
    """Delete what is due and proven; a day that is not proven stays and says why, the others go on.

    Args:
        lake, archive: of the same network.
        settings: how long each layer stays.
        today: UTC.
        apply: without it nothing is changed, in the lake or in the archive: the outcomes say what would be.
        told: called after each day with how many are done, how many there are, and the outcome.

    Raises:
        StorageError: the lake cannot be listed.
    """
    due = due_days(lake, settings, today)
    outcomes: list[Outcome] = []
    for one in due:
        try:
            outcome = retain_day(lake, archive, one, apply=apply)
        except OptionsAgentError as error:
            outcome = Outcome(one, "refused", str(error))
        outcomes.append(outcome)
        if told is not None:
            told(len(outcomes), len(due), outcome)
    return outcomes


def retain_day(lake: Lake, archive: Archive, due: Due, *, apply: bool) -> Outcome:
    """Prove one due day and, with `apply`, delete its layers; raw is compacted and archived first where it was not.

    Raises:
        DataError: rows are unaccounted for, or the day was never judged or archived.
        StorageError: an archived object is missing, altered or other than the local file; nothing was deleted.
    """
    if apply and "raw" in due.layers:
        if any(layout.is_snapshot(path) for path in due.files):
            compact_raw_day(lake, due.underlying, due.day)
        archive_day(lake, archive, due.underlying, due.day)
    paths = {layer: layout.day_path(layer, due.underlying, due.day) for layer in due.layers}
    if not apply and "raw" in due.layers and not _ships_raw(archive, due, paths["raw"]):
        _require_accounted(lake, due)
        return Outcome(due, "proven", "raw is not in the archive yet: --apply compacts and archives it first")
    if "raw" in due.layers:
        _require_accounted(lake, due)
    hashes = _proven(lake, archive, due, paths)
    if not apply:
        return Outcome(due, "proven")
    _leave_receipt(lake, archive, due, paths, hashes)
    for layer, path in paths.items():
        data = lake.files.read_or_none(path)
        if data is not None and sha256_of(data) != hashes[layer]:
            raise StorageError("the file changed while it was proven; it was kept", place=lake.files.place(path), remedy="run again")
        lake.files.delete(path)
    return Outcome(due, "deleted")


def restore_to_lake(lake: Lake, archive: Archive, underlying: str, day: dt.date, *, version: int | None = None) -> RestoreReport:
    """Bring an archived day back into the lake it came from; it then stays as long again as the settings keep it.

    Raises:
        DataError: the day, or that version of it, was never archived, or the lake is no local folder.
        StorageError: the lake has a sound file of the day that no version in the archive has and that would be lost, an object is
            missing or altered (nothing is written), or a file cannot be written.
    """
    if not isinstance(lake.files, LocalFiles):
        raise DataError("the lake is not a local folder", place=lake.files.url, remedy="restore to a folder (--to), then copy it there")
    _require_nothing_lost(lake, archive, underlying, day)
    receipt = read_receipt(lake, STAGE, underlying, day.isoformat())
    if receipt is not None:  # first, so that a retention between the two does not undo it
        restored = {**receipt.details, "restored_on": dt.datetime.now(dt.UTC).date().isoformat()}
        write_receipt(lake, Receipt(STAGE, underlying, day.isoformat(), receipt.fingerprint, receipt.counts, receipt.files, restored))
    return restore_day(archive, underlying, day, lake.files.root, version=version)


def _require_nothing_lost(lake: Lake, archive: Archive, underlying: str, day: dt.date) -> None:
    """A sound file that a restore would replace must lie in the archive, in whatever version."""
    kept = {path: data for layer in _LAYERS if (data := lake.files.read_or_none(path := layout.day_path(layer, underlying, day)))}
    manifests = (
        [read_manifest(archive.files, underlying, day, number) for number in versions(archive.files, underlying, day)] if kept else []
    )
    known = {line.sha256 for manifest in manifests if manifest is not None for line in manifest.lines}
    for path, data in kept.items():
        if sha256_of(data) in known:
            continue
        with contextlib.suppress(DataError):  # of a damaged one nothing is lost
            encoding.summary_of(data, place=lake.files.place(path))
            raise StorageError(
                "the lake has this file otherwise than any version in the archive: a restore would lose it; nothing was restored",
                place=lake.files.place(path),
                remedy="options-agent archive run, then restore with --version; or restore to a folder (--to)",
            )


def _ships_raw(archive: Archive, due: Due, path: str) -> bool:
    manifest = read_manifest(archive.files, due.underlying, due.day)
    return manifest is not None and any(line.lake_path == path for line in manifest.lines)


def _require_accounted(lake: Lake, due: Due) -> None:
    """Every raw row lies in clean or in quarantine, and nothing else does: compared row by row on what quality never changes."""
    place = f"{due.underlying} {due.day}"
    if retained := retained_day(lake, due.underlying, due.day):
        raise DataError(
            f"raw lies here while {', '.join(retained.layers)} is in the archive only: its rows cannot be counted",
            place=place,
            remedy=f"options-agent archive restore {due.underlying} {due.day}",
        )
    raw = read_raw_day(lake, due.underlying, due.day).select(_ACCOUNTED)
    judged = [read_day(lake, layer, due.underlying, due.day, _ACCOUNTED) for layer in ("clean", "quarantine")]
    rows = [len(table) for table in judged]
    remedy = "judge the day again (materialize clean_quotes), then run again"
    if len(raw) != sum(rows):
        raise DataError(f"{len(raw):,} raw rows, but {rows[0]:,} clean and {rows[1]:,} quarantined", place=place, remedy=remedy)
    together = pa.concat_tables([table.cast(pa.schema([f.with_nullable(True) for f in table.schema])) for table in (judged[0], judged[1])])
    if not _sorted(together).equals(_sorted(raw.cast(together.schema))):
        raise DataError("clean and quarantined rows are not the raw rows", place=place, remedy=remedy)


def _sorted(table: pa.Table) -> pa.Table:
    """Rows in an order of their own values; NaN as a number no row has, so that equal rows compare equal."""
    plain = table.replace_schema_metadata(None)
    for i, field in enumerate(plain.schema):
        if pa.types.is_floating(field.type):
            column = plain.column(i)
            plain = plain.set_column(i, field, pc.if_else(pc.is_nan(column), pa.scalar(-9e99), column))
    return plain.combine_chunks().take(pc.sort_indices(plain, sort_keys=[(name, "ascending") for name in plain.column_names]))


def _proven(lake: Lake, archive: Archive, due: Due, paths: dict[Layer, str]) -> dict[Layer, str]:
    """SHA-256 of each layer's file, after the archived object was read back and found to have it."""
    archive.files.settle(_existing(archive, due).path)
    proofs = {proof.lake_path: proof for proof in verify(archive, due.underlying, due.day)}
    hashes: dict[Layer, str] = {}
    for layer, path in paths.items():
        strangers = [p for p in lake.files.find(path.rsplit("/", 1)[0]) if p != path]
        if strangers:
            raise DataError(
                "other files lie beside the day's", place=lake.files.place(strangers[0]), remedy="compact the day, then run again"
            )
        proof = proofs.get(path)
        if proof is None:
            raise DataError(
                f"the archive's latest version has no {layer} of the day", place=archive.files.url, remedy="archive the day again"
            )
        if not proof.holds:
            raise StorageError(
                f"the archived {layer} is {'missing' if proof.found is None else 'not what was archived'}: "
                f"SHA-256 {proof.found}, expected {proof.expected}; nothing was deleted",
                place=archive.files.place(proof.path),
                remedy="archive the day again: the lake still has it",
            )
        local = sha256_of(lake.files.read(path))
        if local != proof.expected:
            raise StorageError(
                f"the local {layer} is not what was archived (SHA-256 {local}, archived {proof.expected}); nothing was deleted",
                place=lake.files.place(path),
                remedy="archive the day again",
            )
        archive.files.settle(proof.path)
        hashes[layer] = local
    return hashes


def _existing(archive: Archive, due: Due) -> Manifest:
    if (manifest := read_manifest(archive.files, due.underlying, due.day)) is None:
        raise DataError(
            f"{due.underlying} {due.day} is not in the archive", place=archive.files.url, remedy="archive it: options-agent archive run"
        )
    return manifest


def _leave_receipt(lake: Lake, archive: Archive, due: Due, paths: dict[Layer, str], hashes: dict[Layer, str]) -> None:
    """Say what goes, before it goes. What former runs deleted stays said."""
    manifest = _existing(archive, due)
    former = read_receipt(lake, STAGE, due.underlying, due.day.isoformat())
    rows = {line.lake_path: line.rows for line in manifest.lines}
    records = {file.path: file for file in former.files} if former else {}
    records |= {path: FileRecord(path, rows[path], lake.files.size(path) or 0, hashes[layer]) for layer, path in paths.items()}
    snapshots, notes = (former.details["snapshots"], former.details["sweeps"]) if former else ([], [])
    if "raw" in due.layers:
        snapshots = [[file.snapshot.isoformat(), file.source, file.region] for file in snapshot_files(lake, due.underlying, due.day)]
        notes = [[one.snapshot.isoformat(), one.source, one.region, one.note] for one in sweeps(lake, due.underlying, due.day)]
    layers = sorted({*(recorded_layers(former) if former else ()), *due.layers}, key=_LAYERS.index)
    details = {"layers": layers, "snapshots": snapshots, "sweeps": notes, "archive": archive.files.url, "manifest": manifest.path}
    counts = {"files": len(records), "rows": sum(r.rows for r in records.values()), "bytes": sum(r.bytes for r in records.values())}
    mark = fingerprint(STAGE, _VERSION, archive.files.url, sorted((r.path, r.sha256) for r in records.values()))
    write_receipt(lake, Receipt(STAGE, due.underlying, due.day.isoformat(), mark, counts, tuple(records.values()), details))
    lake.files.settle(layout.receipt_path(STAGE, due.underlying, due.day.isoformat()))


def _restored_on(lake: Lake, underlying: str, day: dt.date) -> dt.date | None:
    receipt = read_receipt(lake, STAGE, underlying, day.isoformat())
    on = receipt.details.get("restored_on") if receipt else None
    return dt.date.fromisoformat(on) if on else None
