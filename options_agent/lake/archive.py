"""The archive: judged days, and the raw ones compacted, shipped elsewhere, provably whole, never silently overwritten.

An object's name holds the SHA-256 of its bytes and it is put if absent: a killed run starts again and completes,
without duplicates. The manifest that names it comes after it. What a version is, is in `manifest`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import DataError, StorageError
from options_agent.lake import encoding, layout
from options_agent.lake.files import FileRecord, Files, LocalFiles, open_files, sha256_of
from options_agent.lake.manifest import Manifest, ManifestLine, append_manifest, archived_days, read_manifest
from options_agent.lake.receipts import Receipt, fingerprint, read_receipt, unchanged, write_receipt
from options_agent.lake.retained import retained_day

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from pathlib import Path

    from options_agent.lake.layout import Layer
    from options_agent.lake.root import Lake
    from options_agent.settings import Settings

STAGE: Final = "archive"
STAGE_VERSION: Final = 1
_LAYERS: Final[tuple[Layer, ...]] = ("raw", "clean", "quarantine")
#: Names an object is tried under: the next one where something else lies under the former.
_NAMES: Final = 9


@dataclass(frozen=True)
class Archive:
    """An archive of one network. Make one with `open_archive`."""

    root: str
    network: str
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    storage_class: str | None = None
    files: Files = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", open_files(f"{self.root.rstrip('/')}/{self.network}", self.storage_options))


@dataclass(frozen=True, slots=True)
class Proof:
    """What the manifest says of an object, and what was found: SHA-256 in hex, or None where it is missing."""

    underlying: str
    day: dt.date
    path: str
    lake_path: str
    rows: int
    bytes: int
    expected: str
    found: str | None

    @property
    def holds(self) -> bool:
        """Whether the object is there, byte for byte."""
        return self.expected == self.found


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """A restored day: the version taken, where its files lie now, and a proof per file, read back from there."""

    underlying: str
    day: dt.date
    version: int
    destination: Path
    proofs: tuple[Proof, ...]


def open_archive(settings: Settings) -> Archive:
    """The archive the settings name; it is not reached before the first read or write."""
    url = settings.archive_url
    return Archive(url, settings.network, settings.options_for(url), settings.archive_storage_class)


def archive_day(lake: Lake, archive: Archive, underlying: str, day: dt.date, *, distrust: bool = False) -> Receipt:
    """Ship the clean and the quarantined file of a day, and its compacted raw file where there is one.

    Idempotent: where the same bytes are already the latest version there, nothing is put. A day that changed
    since becomes a new version beside the old one. What retention has deleted here since it was archived stays part
    of the day: the new version names the objects that are there.

    Nothing is ever overwritten: where other bytes lie under an object's name (rot, another program), the object goes under
    another one, which a new version names.

    Args:
        lake, archive: of the same network.
        underlying, day: which.
        distrust: read back what is there already, rather than look at its size.

    Returns:
        The receipt of stage `archive`, also written to the lake. Counts: `files`, `bytes`, `rows` (clean and
        quarantined), `quotes` (clean), `raw_rows`, `uploaded` (objects put by the run that wrote the receipt). `files` are the
        lake's; `details` name the archive, the manifest with its version, and the objects.

    Raises:
        DataError: the day is in neither layer, or one of its files is damaged (a torn day is not shipped).
        StorageError: the archive refused or is unreachable. The lake is as it was; the next run completes the work.
    """
    days = _day_files(lake, underlying, day)
    kept = _kept_lines(lake, archive, underlying, day)
    if not days and not kept:
        place = lake.files.place(layout.day_path("clean", underlying, day))
        raise DataError(f"{underlying} {day} is not in the lake", place=place, remedy="harvest and judge the day first")
    local = tuple(_line(lake, path, data) for path, data in days.items())
    lines = tuple(sorted((*kept, *local), key=lambda line: _LAYERS.index(line.lake_path.split("/", 1)[0])))
    print_of_day = fingerprint(STAGE, STAGE_VERSION, archive.files.url, [(line.lake_path, line.sha256) for line in lines])
    former = read_receipt(lake, STAGE, underlying, day.isoformat())
    if former is not None and not distrust and unchanged(lake, former, print_of_day) and _is_latest(archive, underlying, day, lines):
        return former
    placed = {line.lake_path: _put(archive, line, data) for line, data in zip(local, days.values(), strict=True)}
    lines = tuple(replace(line, path=placed[line.lake_path][0]) if line.lake_path in placed else line for line in lines)
    uploaded = sum(put for _, put in placed.values())
    manifest = append_manifest(archive.files, underlying, day, lines)
    receipt = Receipt(
        stage=STAGE,
        underlying=underlying,
        partition=day.isoformat(),
        fingerprint=print_of_day,
        counts={
            "files": len(lines),
            "bytes": sum(line.bytes for line in lines),
            "rows": sum(line.rows for line in lines if not line.lake_path.startswith("raw/")),
            "raw_rows": sum(line.rows for line in lines if line.lake_path.startswith("raw/")),
            "quotes": sum(line.rows for line in lines if line.lake_path.startswith("clean/")),
            "uploaded": uploaded,
        },
        files=tuple(FileRecord(line.lake_path, line.rows, line.bytes, line.sha256) for line in local),
        details={
            "archive": archive.files.url,
            "manifest": manifest.path,
            "version": manifest.version,
            "objects": [line.path for line in lines],
        },
    )
    write_receipt(lake, receipt)
    return receipt


def restore_day(archive: Archive, underlying: str, day: dt.date, destination: Path, *, version: int | None = None) -> RestoreReport:
    """Write an archived day below `destination` as the lake has it, byte for byte.

    Every object is checked against its SHA-256 before anything is written, and every file once more as read back.
    To restore into a lake, `destination` is its `{root}/{network}`.

    Raises:
        DataError: the day, or that version of it, was never archived.
        StorageError: an object is missing or its bytes are not the archived ones, or a file cannot be written.
    """
    manifest = _existing(archive, underlying, day, version)
    contents = {}
    for line in manifest.lines:
        data = archive.files.read(line.path)
        if (found := sha256_of(data)) != line.sha256:
            raise StorageError(
                f"the archived object is not what was archived: SHA-256 {found}, expected {line.sha256}; nothing was restored",
                place=archive.files.place(line.path),
                remedy="archive the day again where the lake still has it (archive verify --repair), or restore an earlier version",
            )
        contents[line.lake_path] = data
    target = LocalFiles(destination.absolute())
    for lake_path, data in contents.items():
        target.write(lake_path, data)
    proofs = tuple(_proof(target, underlying, day, line, line.lake_path) for line in manifest.lines)
    return RestoreReport(underlying, day, manifest.version, destination, proofs)


def verify(
    archive: Archive, underlying: str | None = None, day: dt.date | None = None, told: Callable[[int, int, Proof], None] | None = None
) -> list[Proof]:
    """Read every object that the latest manifests name, all days by default, and compute its SHA-256 anew.

    `told` is called after each day's last object with the days done, the days there are, and that proof.

    Raises:
        DataError: a manifest is damaged.
        StorageError: the archive cannot be reached. A missing or altered object is no error but a proof that fails.
    """
    wanted = [(u, d) for u, d in archived_days(archive.files, underlying) if day in {None, d}]
    proofs: list[Proof] = []
    for done, (name, at) in enumerate(wanted, 1):
        proofs += [_proof(archive.files, name, at, line, line.path) for line in _existing(archive, name, at, None).lines]
        if told is not None:
            told(done, len(wanted), proofs[-1])
    return proofs


def archived(archive: Archive, underlying: str | None = None) -> list[tuple[str, dt.date, Manifest]]:
    """Every archived day with its latest manifest, by underlying and day.

    Raises:
        DataError: a manifest is damaged.
        StorageError: the archive cannot be reached.
    """
    return [(name, day, _existing(archive, name, day, None)) for name, day in archived_days(archive.files, underlying)]


def _day_files(lake: Lake, underlying: str, day: dt.date) -> dict[str, bytes]:
    paths = [layout.day_path(layer, underlying, day) for layer in _LAYERS]
    return {path: data for path in paths if (data := lake.files.read_or_none(path)) is not None}


def _kept_lines(lake: Lake, archive: Archive, underlying: str, day: dt.date) -> tuple[ManifestLine, ...]:
    """Lines of the latest manifest whose files retention has deleted here."""
    if (retained := retained_day(lake, underlying, day)) is None:
        return ()
    paths = {layout.day_path(layer, underlying, day) for layer in retained.layers}
    return tuple(line for line in _existing(archive, underlying, day, None).lines if line.lake_path in paths)


def _line(lake: Lake, path: str, data: bytes) -> ManifestLine:
    summary = encoding.summary_of(data, place=lake.files.place(path))
    digest = sha256_of(data)
    folder, name = path.rsplit("/", 1)
    return ManifestLine(
        path=f"{folder}/{name.removesuffix('.parquet')}-{digest}.parquet",
        lake_path=path,
        rows=summary.rows,
        bytes=len(data),
        sha256=digest,
        schema=summary.schema,
        schema_version=summary.schema_version,
    )


def _put(archive: Archive, line: ManifestLine, data: bytes) -> tuple[str, int]:
    """The name the object lies under, and 1 where it was put there, 0 where it already was."""
    files, stem = archive.files, line.path.removesuffix(".parquet")
    for number in range(1, _NAMES + 1):
        path = line.path if number == 1 else f"{stem}-{number}.parquet"
        if files.create(path, data, storage_class=archive.storage_class):
            return path, 1
        if files.size(path) == line.bytes and any(sha256_of(files.read(path)) == line.sha256 for _ in range(2)):
            return path, 0  # read twice before it is not believed: the way here may have been at fault
    raise StorageError(
        f"other bytes lie under {_NAMES} names of one object",
        place=files.place(line.path),
        remedy="another program writes into the archive: stop it, then run again",
    )


def _is_latest(archive: Archive, underlying: str, day: dt.date, lines: tuple[ManifestLine, ...]) -> bool:
    """Whether the archive itself still says so: a receipt alone would not notice that somebody emptied it."""
    try:
        manifest = read_manifest(archive.files, underlying, day)
    except DataError:
        return False
    if manifest is None or [(line.lake_path, line.sha256) for line in manifest.lines] != [(line.lake_path, line.sha256) for line in lines]:
        return False
    return all(archive.files.size(line.path) == line.bytes for line in manifest.lines)


def _existing(archive: Archive, underlying: str, day: dt.date, version: int | None) -> Manifest:
    if (manifest := read_manifest(archive.files, underlying, day, version)) is None:
        raise DataError(
            f"{underlying} {day} is not in the archive", place=archive.files.url, remedy="`options-agent archive list` shows what is"
        )
    return manifest


def _proof(files: Files, underlying: str, day: dt.date, line: ManifestLine, path: str) -> Proof:
    data = files.read_or_none(path)
    found = None if data is None else sha256_of(data)
    return Proof(underlying, day, path, line.lake_path, line.rows, line.bytes, line.sha256, found)
