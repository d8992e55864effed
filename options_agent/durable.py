"""Small local files that appear whole or not at all: state, receipts of services, reports."""

from __future__ import annotations

import errno
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from options_agent.errors import StorageError


def write_bytes(path: Path, content: bytes) -> None:
    """Write through a temporary file beside `path`, flushed to disk, then renamed over it.

    Raises:
        StorageError: the disk is full or the folder cannot be written; `path` is as it was before.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        remedy = "free disk space, then run again" if error.errno == errno.ENOSPC else "check the folder's permissions"
        raise StorageError(f"cannot write: {error.strerror or error}", place=str(path), remedy=remedy) from error


def write_text(path: Path, content: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: object) -> None:
    """`write_bytes` of JSON with sorted keys: the same content is the same file."""
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def plain_json(value: Any) -> Any:
    """A copy that JSON can hold, which has no NaN and no infinity: what is not a number is null; tuples are lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: plain_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(v) for v in value]
    return value
