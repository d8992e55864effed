"""Bytes at paths of an object store, through fsspec: single puts, no cached listings, errors a person can act on.

The local counterpart and the interface are in `files`. Secrets never reach an error's text.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SECRETS: Final = ("key", "secret", "token", "password", "sas_token", "account_key", "connection_string")
_USERINFO: Final = re.compile(r"(?<=://)[^/\s@]+@")
#: One put of this many bytes at most; days are a thousandth of it.
_SINGLE_PUT: Final = 2 * 2**30
_CONFLICTS: Final = 5


class RemoteFiles:
    """A prefix of an object store. See `files.Files` for what each method promises."""

    def __init__(self, url: str, storage_options: dict[str, Any]) -> None:
        """`url` is an fsspec URL with its bucket and prefix, `storage_options` go to fsspec."""
        self._url = url.rstrip("/")
        self._options = storage_options
        self._is_s3 = self._url.split("://", 1)[0] in {"s3", "s3a"}

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
        import fsspec

        options = dict(self._options)
        if self._is_s3:
            # a cached listing would hide what another process has just put; the rest bounds how long a dead server is waited for
            options.setdefault("use_listings_cache", False)
            options.setdefault("config_kwargs", {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 2}})
        try:
            return fsspec.core.url_to_fs(self._url, **options)[0]
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
        if not paths:
            return []
        try:
            found = self._filesystem.cat([self._full(path) for path in paths])
        except Exception as error:  # noqa: BLE001
            raise self._failure("read", paths[0], error) from None
        by_path = {self._relative(full): data for full, data in found.items()}
        return [by_path[path] for path in paths]

    def read_or_none(self, path: str) -> bytes | None:
        """See `Files.read_or_none`."""
        try:
            return bytes(self._filesystem.cat_file(self._full(path)))
        except FileNotFoundError:
            self._require_bucket()
            return None
        except Exception as error:  # noqa: BLE001
            raise self._failure("read", path, error) from None

    def write(self, path: str, data: bytes) -> None:
        """See `Files.write`: one put, which the store makes visible whole or not at all."""
        self._put(path, data, "overwrite")

    def create(self, path: str, data: bytes) -> bool:
        """See `Files.create`: a put with `If-None-Match: *`."""
        return self._put(path, data, "create")

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

    def _put(self, path: str, data: bytes, mode: str) -> bool:
        """Whether the bytes were put; False where `mode` is create and an object is there."""
        extra: dict[str, Any] = {}
        if self._is_s3:
            # the server refuses the put where the bytes that arrived are not the bytes that left
            extra = {"chunksize": _SINGLE_PUT, "ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode()}
        for attempt in range(_CONFLICTS):
            try:
                self._filesystem.pipe_file(self._full(path), data, mode=mode, **extra)
            except FileExistsError:
                return False
            except Exception as error:  # noqa: BLE001
                status = _http_status(error)
                if status == 412:
                    return False
                if status != 409 or attempt == _CONFLICTS - 1:  # 409: another put of this name was under way; ask again
                    raise self._failure("write", path, error) from None
            else:
                break
        return True

    def _require_bucket(self) -> None:
        """A missing bucket must not look like an empty one."""
        if not self._is_s3:
            return
        bucket = self._root.split("/", 1)[0]
        try:
            self._filesystem.info(bucket)
        except Exception as error:  # noqa: BLE001
            raise self._failure("find the bucket of", "", error) from None

    def _failure(self, verb: str, path: str, error: Exception) -> StorageError:
        message = f"could not {verb} the object: {self._without_secrets(error)}"
        return StorageError(message, place=self.place(path), remedy=_remedy(error, self._is_s3))

    def _without_secrets(self, error: Exception) -> str:
        text = f"{type(error).__name__}: {error}".strip().replace("\n", " ")
        for name in _SECRETS:
            value = self._options.get(name)
            if isinstance(value, str) and value:
                text = text.replace(value, "***")
        return _USERINFO.sub("***@", text)


def _http_status(error: Exception) -> int | None:
    """The status an S3 server answered with, which s3fs keeps in the cause; None for other errors."""
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None


def _remedy(error: Exception, is_s3: bool) -> str:
    """What to do about a backend's error, by its kind."""
    text = f"{type(error).__name__} {error}"
    if isinstance(error, PermissionError) or "Credential" in text or "Signature" in text or "InvalidAccessKeyId" in text:
        names = "OPTIONS_AGENT_S3_ACCESS_KEY_ID and OPTIONS_AGENT_S3_SECRET_ACCESS_KEY" if is_s3 else "the store's credentials"
        return f"check {names}, and that the key may read and write this bucket; then run again"
    if isinstance(error, FileNotFoundError) or "NoSuchBucket" in text:
        return "create the bucket, or correct the bucket in OPTIONS_AGENT_ARCHIVE_ROOT or OPTIONS_AGENT_LAKE_ROOT; then run again"
    if isinstance(error, (ConnectionError, TimeoutError, asyncio.TimeoutError)) or any(
        word in text for word in ("Connect", "Timeout", "Endpoint", "Server", "Closed", "reset", "unavailable")
    ):
        return "check that the object store runs and OPTIONS_AGENT_S3_ENDPOINT_URL points at it; then run again: finished work is kept"
    return "see the message of the object store; then run again: finished work is kept"
