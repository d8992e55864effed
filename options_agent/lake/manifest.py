"""The archive's manifest: per underlying and day, an append-only row of versions, each a few JSON lines.

A version is one object, put if absent after every object it names, so a version that can be read is whole. The
latest version is what the day is; earlier ones stay readable. Object bytes are handled in `archive`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from options_agent.errors import DataError, StorageError

if TYPE_CHECKING:
    from options_agent.lake.files import Files

_VERSION: Final = re.compile(r"^v(\d{6})\.jsonl$")
_ATTEMPTS: Final = 20


@dataclass(frozen=True, slots=True)
class ManifestLine:
    """One archived object.

    `path` is the object, relative to the archive's `{root}/{network}`; `lake_path` is the file it restores to,
    relative to the lake's.
    """

    path: str
    lake_path: str
    rows: int
    bytes: int
    sha256: str
    schema: str
    schema_version: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """One version of a day: its number, counted from 1, and a line per object."""

    version: int
    path: str
    lines: tuple[ManifestLine, ...]


def manifest_folder(underlying: str | None = None, day: dt.date | None = None) -> str:
    """`manifests/underlying=BTC/day=2026-01-31`, or a folder above it."""
    folder = "manifests"
    if underlying is not None:
        folder += f"/underlying={underlying}"
    return folder if day is None else f"{folder}/day={day:%Y-%m-%d}"


def versions(files: Files, underlying: str, day: dt.date) -> list[int]:
    """Numbers of the versions of a day, ascending.

    Raises:
        StorageError: the archive cannot be listed.
    """
    found = files.find(manifest_folder(underlying, day))
    return sorted(int(m[1]) for path in found if (m := _VERSION.match(path.rsplit("/", 1)[-1])))


def read_manifest(files: Files, underlying: str, day: dt.date, version: int | None = None) -> Manifest | None:
    """A version of a day, the latest by default; None where the day was never archived.

    Raises:
        DataError: the version is not a manifest, or there is no such version of an archived day.
        StorageError: the archive cannot be read.
    """
    numbers = versions(files, underlying, day)
    if not numbers:
        return None
    number = numbers[-1] if version is None else version
    path = _path(underlying, day, number)
    if number not in numbers:
        raise DataError(f"{underlying} {day} has no version {number} in the archive", place=files.place(path), remedy=f"it has {numbers}")
    return Manifest(number, path, _parse(files.read(path), files.place(path)))


def append_manifest(files: Files, underlying: str, day: dt.date, lines: tuple[ManifestLine, ...]) -> Manifest:
    """Make `lines` the latest version of a day; where they already are, nothing is put. A damaged latest version is superseded.

    Two archivers at once are safe: a number is taken by whoever puts it first, the other looks again.

    Raises:
        StorageError: the archive cannot be written.
    """
    data = b"".join(json.dumps(dataclasses.asdict(line), sort_keys=True).encode() + b"\n" for line in lines)
    for _ in range(_ATTEMPTS):
        number = max(versions(files, underlying, day), default=0)
        if number and files.read(_path(underlying, day, number)) == data:
            return Manifest(number, _path(underlying, day, number), lines)
        path = _path(underlying, day, number + 1)
        if files.create(path, data):
            return Manifest(number + 1, path, lines)
    raise StorageError(
        f"{_ATTEMPTS} other archivers were faster",
        place=files.place(manifest_folder(underlying, day)),
        remedy="stop the others, then run again",
    )


def archived_days(files: Files, underlying: str | None = None) -> list[tuple[str, dt.date]]:
    """Every (underlying, day) with at least one version.

    Raises:
        StorageError: the archive cannot be listed.
    """
    days = set()
    for path in files.find(manifest_folder(underlying)):
        parts = path.split("/")
        if len(parts) == 4 and _VERSION.match(parts[3]):
            days.add((parts[1].removeprefix("underlying="), dt.date.fromisoformat(parts[2].removeprefix("day="))))
    return sorted(days)


def _path(underlying: str, day: dt.date, version: int) -> str:
    return f"{manifest_folder(underlying, day)}/v{version:06d}.jsonl"


def _parse(data: bytes, place: str) -> tuple[ManifestLine, ...]:
    try:
        return tuple(ManifestLine(**json.loads(line)) for line in data.splitlines())
    except (ValueError, TypeError) as error:
        raise DataError(f"not a manifest: {error}", place=place, remedy="archive the day again: a new version takes its place") from error
