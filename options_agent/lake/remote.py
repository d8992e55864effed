"""Bytes at paths of an object store, through fsspec: single puts, no cached listings, errors a person can act on.

The local counterpart and the interface are in `files`. Secrets never reach an error's text.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import StorageError
from options_agent.lake import stores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SECRETS: Final = ("key", "secret", "token", "password", "sas_token", "account_key", "connection_string")
_USERINFO: Final = re.compile(r"(?<=://)[^/\s@]+@")
_CONFLICTS: Final = 5
_AT_ONCE: Final = 8


class RemoteFiles:
    """A prefix of an object store. See `files.Files` for what each method promises."""

    def __init__(self, url: str, storage_options: dict[str, Any]) -> None:
        """`url` is an fsspec URL with its bucket and prefix, `storage_options` go to fsspec."""
        self._url = url.rstrip("/")
        self._options = storage_options
        self._kind = stores.kind_of(self._url)

    def __repr__(self) -> str:
        return f"RemoteFiles({self.url!r})"

    @property
    def url(self) -> str:
        """The URL without any user information in it."""
        return _USERINFO.sub("", self._url)

    def place(self, path: str) -> str:
        """The full URL of a path."""
        return f"{self.url}/{path}"

    @cached_property
    def _filesystem(self) -> Any:
        try:
            return stores.filesystem(self._url, dict(self._options))
        except Exception as error:  # noqa: BLE001 - every backend has errors of its own
            raise self._failure("open", "", error) from None

    @cached_property
    def _root(self) -> str:
        return str(self._filesystem._strip_protocol(self._url)).rstrip("/")

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _relative(self, full: str) -> str:
        return full.removeprefix("/").removeprefix(self._root.removeprefix("/")).removeprefix("/")

    def read(self, path: str) -> bytes:
        """See `Files.read`."""
        if (data := self.read_or_none(path)) is None:
            raise StorageError(
                "object is missing", place=self.place(path), remedy="run the stage that writes it again, or restore it from the archive"
            )
        return data

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        """See `Files.read_many`; requests run at once."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self.read, paths))

    def read_or_none(self, path: str) -> bytes | None:
        """See `Files.read_or_none`."""
        try:
            return stores.get(self._filesystem, self._kind, self._full(path))
        except FileNotFoundError:
            self._require_bucket()
            return None
        except Exception as error:  # noqa: BLE001
            raise self._failure("read", path, error) from None

    def write(self, path: str, data: bytes) -> None:
        """See `Files.write`: one put, which the store makes visible whole or not at all."""
        self._put(path, data, if_absent=False, storage_class=None)

    def create(self, path: str, data: bytes, *, storage_class: str | None = None) -> bool:
        """See `Files.create`: a put with `If-None-Match: *` on S3, with `ifGenerationMatch=0` on GCS."""
        return self._put(path, data, if_absent=True, storage_class=storage_class)

    def size(self, path: str) -> int | None:
        """See `Files.size`."""
        try:
            info = self._filesystem.info(self._full(path))
        except FileNotFoundError:
            self._require_bucket()
            return None
        except Exception as error:  # noqa: BLE001
            raise self._failure("look at", path, error) from None
        return int(info["size"]) if info["type"] == "file" else None

    def find(self, folder: str) -> dict[str, int]:
        """See `Files.find`."""
        try:
            found = self._filesystem.find(self._full(folder), detail=True)
        except FileNotFoundError:
            found = {}
        except Exception as error:  # noqa: BLE001
            raise self._failure("list", folder, error) from None
        if not found:
            self._require_bucket()
        sizes = {self._relative(full): int(info["size"]) for full, info in found.items() if info["type"] == "file"}
        return dict(sorted((path, size) for path, size in sizes.items() if not path.rsplit("/", 1)[-1].startswith(".")))

    def folders(self, folder: str) -> list[str]:
        """See `Files.folders`."""
        try:
            listed: Iterable[dict[str, Any]] = self._filesystem.ls(self._full(folder), detail=True)
        except FileNotFoundError:
            self._require_bucket()
            return []
        except Exception as error:  # noqa: BLE001
            raise self._failure("list", folder, error) from None
        return sorted(str(entry["name"]).rstrip("/").rsplit("/", 1)[-1] for entry in listed if entry["type"] == "directory")

    def delete(self, path: str) -> None:
        """See `Files.delete`."""
        try:
            self._filesystem.rm_file(self._full(path))
        except FileNotFoundError:
            return
        except Exception as error:  # noqa: BLE001
            raise self._failure("delete", path, error) from None

    def move(self, path: str, target: str) -> None:
        """See `Files.move`: a copy, then a delete, so that the bytes are never nowhere."""
        self.write(target, self.read(path))
        self.delete(path)

    def settle(self, path: str) -> None:
        """See `Files.settle`: a put that was answered is settled."""

    def _put(self, path: str, data: bytes, *, if_absent: bool, storage_class: str | None) -> bool:
        """Whether the bytes were put; False where they were to be absent and are not."""
        for attempt in range(_CONFLICTS):
            try:
                return stores.put(self._filesystem, self._kind, self._full(path), data, if_absent=if_absent, storage_class=storage_class)
            except Exception as error:  # noqa: BLE001
                if stores.status_of(error) != 409 or attempt == _CONFLICTS - 1:  # 409: another put of this name was under way; ask again
                    raise self._failure("write", path, error) from None
        raise AssertionError("unreachable")

    def _require_bucket(self) -> None:
        """A missing bucket must not look like an empty one."""
        if self._kind == "other":
            return
        bucket = self._root.split("/", 1)[0]
        try:
            self._filesystem.info(bucket)
        except Exception as error:  # noqa: BLE001
            raise self._failure("find the bucket of", "", error) from None

    def _failure(self, verb: str, path: str, error: Exception) -> StorageError:
        message = f"could not {verb} the object: {self._without_secrets(error)}"
        return StorageError(message, place=self.place(path), remedy=stores.remedy_of(error, self._kind))

    def _without_secrets(self, error: Exception) -> str:
        text = f"{type(error).__name__}: {error}".strip().replace("\n", " ")
        for name in _SECRETS:
            value = self._options.get(name)
            if isinstance(value, str) and value:
                text = text.replace(value, "***")
        return _USERINFO.sub("***@", text)
