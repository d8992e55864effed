"""What differs between object stores: opening one, the precondition and the checks of a put, what its errors mean.

S3 and Google Cloud Storage are known by their URLs; any other fsspec store gets plain puts. `remote` builds on this.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
from typing import Any, Final, Literal
from urllib.parse import quote

Kind = Literal["s3", "gs", "other"]

#: One put of this many bytes at most; days are a thousandth of it.
_SINGLE_PUT: Final = 2 * 2**30
_KINDS: Final[dict[str, Kind]] = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}


def kind_of(url: str) -> Kind:
    """Which store a URL names."""
    return _KINDS.get(url.split("://", 1)[0], "other")


def filesystem(url: str, options: dict[str, Any]) -> Any:
    """The fsspec filesystem of a URL: no cached listings, which would hide what another process has just put."""
    import fsspec

    kind = kind_of(url)
    if kind == "s3":
        # the rest bounds how long a dead server is waited for
        limits = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 2}}
        options = {"use_listings_cache": False, "config_kwargs": limits} | options
    if kind == "gs":
        # the plain client: the package's default one asks another service, over gRPC, what kind of bucket this is
        from gcsfs.core import GCSFileSystem  # type: ignore[import-untyped]

        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints a traceback of every error it also raises
        return GCSFileSystem(**({"use_listings_cache": False, "requests_timeout": 60} | options))
    return fsspec.core.url_to_fs(url, **options)[0]


def get(files: Any, kind: Kind, full: str) -> bytes:
    """All bytes of an object, held against the checksum that the store sends with them (S3's client does that by itself).

    Raises:
        Exception: whatever the backend raises, FileNotFoundError where there is no such object.
    """
    if kind != "gs":
        return bytes(files.cat_file(full))
    headers, data = files.call("GET", files.url(full))
    sent = [part.strip() for value in headers.getall("X-Goog-Hash", []) for part in value.split(",")]
    if any(part.startswith("md5=") and part.removeprefix("md5=") != _md5(data) for part in sent):
        raise ConnectionError("the bytes that arrived are not those the store sent (its MD5 differs)")
    return bytes(data)


def put(files: Any, kind: Kind, full: str, data: bytes, *, if_absent: bool, storage_class: str | None) -> bool:
    """One put, visible whole or not at all; False where it was to be absent and is not.

    The store refuses the put where the bytes that arrived are not the bytes that left (SHA-256 on S3, MD5 on GCS).
    A put whose answer was lost and that is sent again finds itself: it gives False, and the object is there.

    Raises:
        Exception: whatever the backend raises; `status_of` and `remedy_of` read it.
    """
    mode = "create" if if_absent else "overwrite"
    if kind == "gs":
        return _put_gcs(files, full, data, if_absent=if_absent, storage_class=storage_class)
    extra: dict[str, Any] = {}
    if kind == "s3":
        extra = {"chunksize": _SINGLE_PUT, "ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode()}
        if storage_class is not None:
            extra["StorageClass"] = storage_class
    try:
        files.pipe_file(full, data, mode=mode, **extra)  # on S3, mode create is `If-None-Match: *`
    except FileExistsError:
        return False
    except Exception as error:
        if status_of(error) == 412:
            return False
        raise
    return True


def _put_gcs(files: Any, full: str, data: bytes, *, if_absent: bool, storage_class: str | None) -> bool:
    """A multipart upload of our own making: gcsfs' has no place for the storage class and for the checksum."""
    bucket, name, _ = files.split_path(full)
    resource = {"name": name, "md5Hash": _md5(data)}
    if storage_class is not None:
        resource["storageClass"] = storage_class
    boundary = hashlib.sha256(data).hexdigest()
    head = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(resource)}\r\n"
    body = f"{head}--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n".encode() + data + f"\r\n--{boundary}--".encode()
    condition = {"ifGenerationMatch": "0"} if if_absent else {}
    try:
        files.call(
            "POST",
            f"{files._location}/upload/storage/v1/b/{quote(bucket)}/o",
            uploadType="multipart",
            headers={"Content-Type": f'multipart/related; boundary="{boundary}"'},
            data=body,
            json_out=True,
            **condition,
        )
    except FileExistsError:  # 412
        return False
    return True


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def status_of(error: Exception) -> int | None:
    """The HTTP status a store answered with: s3fs keeps it in the cause, gcsfs in the error; None for other errors."""
    if isinstance(code := getattr(error, "code", None), int):
        return code
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None


def remedy_of(error: Exception, kind: Kind) -> str:
    """What to do about a backend's error, by its kind."""
    text = f"{type(error).__name__} {error}"
    denied = isinstance(error, PermissionError) or status_of(error) in {401, 403}
    if denied or any(word in text for word in ("Credential", "Signature", "InvalidAccessKeyId", "Forbidden", "DefaultCredentialsError")):
        names = {"s3": "OPTIONS_AGENT_S3_ACCESS_KEY_ID and OPTIONS_AGENT_S3_SECRET_ACCESS_KEY", "gs": "OPTIONS_AGENT_GCS_TOKEN"}
        named = names.get(kind, "the store's credentials")
        return f"check {named}, and that they may read and write this bucket; then run again"
    if isinstance(error, FileNotFoundError) or "NoSuchBucket" in text:
        return "create the bucket, or correct the bucket in OPTIONS_AGENT_ARCHIVE_ROOT or OPTIONS_AGENT_LAKE_ROOT; then run again"
    if status_of(error) == 507 or "Insufficient" in text:
        return "the store is full: free space there, then run again: finished work is kept"
    if isinstance(error, (ConnectionError, TimeoutError, asyncio.TimeoutError)) or any(
        word in text for word in ("Connect", "Timeout", "Endpoint", "Server", "Closed", "Payload", "reset", "unavailable")
    ):
        name = "OPTIONS_AGENT_GCS_ENDPOINT_URL" if kind == "gs" else "OPTIONS_AGENT_S3_ENDPOINT_URL"
        return f"check that the object store runs and {name} points at it; then run again: finished work is kept"
    return "see the message of the object store; then run again: finished work is kept"
