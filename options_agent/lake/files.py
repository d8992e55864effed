"""Bytes at paths, whole or not at all: one small interface over a local folder and any fsspec URL.

Knows nothing of quotes. A local write goes to a dot-named temporary file beside its target, is flushed to the
disk and then renamed; an object store gets a single put. Readers never see dot-named files.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from options_agent.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TEMPORARY: Final = ".tmp-"
_ABANDONED_SECONDS: Final = 3_600.0
_HOST: Final = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_COUNTER: Final = itertools.count()
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A written file: path relative to `{root}/{network}`, rows, bytes and the SHA-256 of its bytes in hex."""

    path: str
    rows: int
    bytes: int
    sha256: str


def sha256_of(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


class Files(Protocol):
    """What a store of bytes can do. Paths are relative and use `/`; every failure is a StorageError."""

    @property
    def url(self) -> str:
        """Where the root lies, fit to be shown."""

    def place(self, path: str) -> str:
        """Full place of a path, for messages."""

    def read(self, path: str) -> bytes:
        """All bytes of a file. Raises StorageError where it is missing or unreadable."""

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        """The bytes of several files, in the order asked."""

    def read_or_none(self, path: str) -> bytes | None:
        """All bytes, or None where there is no such file."""

    def write(self, path: str, data: bytes) -> None:
        """Put a file there whole, replacing what was there."""

    def create(self, path: str, data: bytes, *, storage_class: str | None = None) -> bool:
        """Put a file there whole only if none is there; False where one is. A store that has storage classes takes the one named."""

    def size(self, path: str) -> int | None:
        """Bytes of a file, or None where there is none."""

    def find(self, folder: str) -> dict[str, int]:
        """Every file below a folder with its size, in path order; empty where there is no such folder."""

    def folders(self, folder: str) -> list[str]:
        """Names of the folders directly below a folder, sorted."""

    def delete(self, path: str) -> None:
        """Remove a file; nothing happens where there is none."""

    def move(self, path: str, target: str) -> None:
        """Give a file another place."""

    def settle(self, path: str) -> None:
        """Return when a file just written outlives a power cut: to be called before what it stands for is deleted."""


def open_files(url: str, storage_options: Mapping[str, Any] | None = None) -> Files:
    """The store behind a local path, a `file://` URL, or any other fsspec URL."""
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme in {"", "file", "local"}:
        return LocalFiles(Path(url.split("://", 1)[1] if scheme else url).expanduser().absolute())
    from options_agent.lake.remote import RemoteFiles

    return RemoteFiles(url, dict(storage_options or {}))


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """A folder of this machine."""

    root: Path

    @property
    def url(self) -> str:
        """The folder."""
        return str(self.root)

    def place(self, path: str) -> str:
        """The full path."""
        return str(self.root / path)

    def read(self, path: str) -> bytes:
        """See `Files.read`."""
        if (data := self.read_or_none(path)) is None:
            raise StorageError(
                "file is missing", place=self.place(path), remedy="run the stage that writes it again, or restore it from the archive"
            )
        return data

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        """See `Files.read_many`."""
        return [self.read(path) for path in paths]

    def read_or_none(self, path: str) -> bytes | None:
        """See `Files.read_or_none`."""
        try:
            return (self.root / path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failure("read", path, error) from error

    def write(self, path: str, data: bytes) -> None:
        """See `Files.write`. What a killed writer left beside the target is swept first."""
        target = self.root / path
        try:
            temporary = self._written_beside(target, data)
            temporary.replace(target)
        except OSError as error:
            raise self._failure("write", path, error) from error

    def create(self, path: str, data: bytes, *, storage_class: str | None = None) -> bool:
        """See `Files.create`. A hard link is the precondition: it fails where the target exists."""
        target = self.root / path
        if target.exists():
            return False
        try:
            temporary = self._written_beside(target, data)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                temporary.replace(target)  # no hard links on this filesystem: as near as it gets
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise self._failure("write", path, error) from error
        self.settle(path)
        return True

    def size(self, path: str) -> int | None:
        """See `Files.size`."""
        try:
            return (self.root / path).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failure("look at", path, error) from error

    def find(self, folder: str) -> dict[str, int]:
        """See `Files.find`."""
        found: dict[str, int] = {}
        pending = [folder]
        try:
            while pending:
                current = pending.pop()
                for entry in _entries(self.root / current):
                    path = f"{current}/{entry.name}" if current else entry.name
                    if entry.is_dir():
                        pending.append(path)
                    else:
                        found[path] = entry.stat().st_size
        except OSError as error:
            raise self._failure("list", folder, error) from error
        return dict(sorted(found.items()))

    def folders(self, folder: str) -> list[str]:
        """See `Files.folders`."""
        try:
            return sorted(entry.name for entry in _entries(self.root / folder) if entry.is_dir())
        except OSError as error:
            raise self._failure("list", folder, error) from error

    def delete(self, path: str) -> None:
        """See `Files.delete`."""
        try:
            (self.root / path).unlink(missing_ok=True)
        except OSError as error:
            raise self._failure("delete", path, error) from error

    def move(self, path: str, target: str) -> None:
        """See `Files.move`."""
        try:
            (self.root / target).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).replace(self.root / target)
        except OSError as error:
            raise self._failure("move", path, error) from error

    def settle(self, path: str) -> None:
        """See `Files.settle`: the folder's entry of the file, and the entries of folders that may be new, go to the disk."""
        folder = (self.root / path).parent
        try:
            while folder.is_relative_to(self.root.parent):
                descriptor = os.open(folder, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                folder = folder.parent
        except OSError as error:
            if error.errno not in _NO_LINKS and error.errno != errno.EINVAL:  # a filesystem that cannot do it to folders
                raise self._failure("settle", path, error) from error

    def _written_beside(self, target: Path, data: bytes) -> Path:
        """A flushed temporary file in the target's folder; nothing stays behind where writing it fails.

        Only the file is flushed, not its folder: after a power cut a rename may be lost, and then the stage
        that wrote it finds no output and writes it again; a torn file can never appear. Who deletes something because
        this file is there calls `settle` first.
        """
        folder = target.parent
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        temporary = folder / f".{target.name}{_TEMPORARY}{_HOST}-{os.getpid()}-{next(_COUNTER)}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _failure(self, verb: str, path: str, error: OSError) -> StorageError:
        if error.errno in _FULL:
            return StorageError(
                "the disk is full; nothing was half-written",
                place=self.place(path),
                remedy="free space, or point OPTIONS_AGENT_HOME at a larger disk; then run again: finished work is kept",
            )
        remedy = (
            "check that the folder exists and that this user may write there" if verb != "read" else "check the disk and the permissions"
        )
        return StorageError(f"could not {verb} the file: {error.strerror or error}", place=self.place(path), remedy=remedy)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Visible entries of a folder; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return []


def _sweep(folder: Path) -> None:
    """Remove temporary files whose writer is gone: of a dead process here, or untouched for an hour."""
    with os.scandir(folder) as entries:
        leftovers = [entry for entry in entries if entry.name.startswith(".") and _TEMPORARY in entry.name]
    for entry in leftovers:
        host, process, _ = entry.name.rsplit(_TEMPORARY, 1)[1].split("-")
        try:
            abandoned = time.time() - entry.stat().st_mtime > _ABANDONED_SECONDS
        except FileNotFoundError:
            continue
        if abandoned or (host == _HOST and not _alive(int(process))):
            Path(entry.path).unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
