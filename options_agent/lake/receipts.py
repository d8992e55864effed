"""Receipts: what a stage did to a partition, written last, so that a stage can be killed, rerun and asked.

A receipt carries the fingerprint of everything its result depends on. Same fingerprint and outputs still there
means there is nothing to do. See docs/adr/0002-receipts.md.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import DataError
from options_agent.lake.files import FileRecord
from options_agent.lake.layout import day_of, is_snapshot, receipt_folder, receipt_path

if TYPE_CHECKING:
    from options_agent.lake.root import Lake

RECEIPT_VERSION: Final = 1


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a stage did to one partition of one underlying.

    `counts` are numbers a person adds up over partitions (rows, bytes, snapshots); `details` is any JSON.
    `files` are the outputs, relative to `{root}/{network}` of the lake. `written_at` is not part of the fingerprint.
    """

    stage: str
    underlying: str
    partition: str
    fingerprint: str
    counts: dict[str, int] = field(default_factory=dict)
    files: tuple[FileRecord, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    written_at: dt.datetime = field(default_factory=_now)


def fingerprint(*parts: object) -> str:
    """SHA-256 (hex) of the canonical JSON of `parts`: sorted keys, no spaces.

    Dates, paths, sets, pydantic models and dataclasses are taken by their plain values. Secrets do not enter:
    a pydantic secret prints as asterisks.

    Raises:
        TypeError: a part has no JSON form.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=_plain, allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_receipt(lake: Lake, stage: str, underlying: str, partition: str) -> Receipt | None:
    """The receipt of a partition, or None where the stage never finished it.

    Raises:
        DataError: the file is not a receipt.
        StorageError: it cannot be read.
    """
    path = receipt_path(stage, underlying, partition)
    data = lake.files.read_or_none(path)
    return None if data is None else _parse(data, lake.files.place(path))


def write_receipt(lake: Lake, receipt: Receipt) -> None:
    """Write a receipt whole or not at all, replacing the partition's former one. Write the outputs first.

    Raises:
        StorageError: it cannot be written.
    """
    document = {"receipt_version": RECEIPT_VERSION, **dataclasses.asdict(receipt), "written_at": receipt.written_at.isoformat()}
    data = json.dumps(document, sort_keys=True, indent=1, default=_plain).encode() + b"\n"
    lake.files.write(receipt_path(receipt.stage, receipt.underlying, receipt.partition), data)


def receipts(lake: Lake, stage: str, underlying: str | None = None) -> list[Receipt]:
    """Every receipt of a stage, by underlying and partition.

    Raises:
        DataError: a file there is not a receipt.
        StorageError: the folder cannot be read.
    """
    paths = [path for path in lake.files.find(receipt_folder(stage, underlying)) if path.endswith(".json")]
    return [_parse(data, lake.files.place(path)) for path, data in zip(paths, lake.files.read_many(paths), strict=True)]


def unchanged(lake: Lake, receipt: Receipt | None, fingerprint: str) -> bool:
    """Whether `receipt` answers `fingerprint` and every output still lies there with its size.

    A raw snapshot that was compacted since counts as there, where its day's file holds it with the same bytes.
    """
    if receipt is None or receipt.fingerprint != fingerprint:
        return False
    sizes: dict[str, int] = {}
    for folder in {record.path.rpartition("/")[0] for record in receipt.files}:
        sizes |= lake.files.find(folder)
    missing = [record for record in receipt.files if record.path not in sizes]
    if any(sizes[record.path] != record.bytes for record in receipt.files if record.path in sizes):
        return False
    return not missing or _compacted(lake, missing)


def _compacted(lake: Lake, records: list[FileRecord]) -> bool:
    """Whether all of these were raw snapshots and lie in their days' files, byte for byte."""
    from options_agent.lake.raw import compacted_hashes

    days = {(record.path.split("/")[2].removeprefix("underlying="), day_of(record.path)) for record in records if is_snapshot(record.path)}
    hashes = {path: sha for underlying, day in days if day for path, sha in compacted_hashes(lake, underlying, day).items()}
    return all(hashes.get(record.path) == record.sha256 for record in records)


def _parse(data: bytes, place: str) -> Receipt:
    try:
        document = json.loads(data)
        if document.pop("receipt_version") != RECEIPT_VERSION:
            raise ValueError("unknown receipt version")
        document["files"] = tuple(FileRecord(**record) for record in document["files"])
        document["written_at"] = dt.datetime.fromisoformat(document["written_at"])
        return Receipt(**document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"not a receipt: {error}", place=place, remedy="delete the file; the stage then does the partition again and writes a new one"
        ) from error


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, (dt.date, dt.datetime)):
        return value.isoformat()
    if hasattr(value, "__fspath__"):
        return str(value)
    if hasattr(value, "item"):  # a NumPy scalar
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")
