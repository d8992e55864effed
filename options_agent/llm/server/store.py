"""What the server keeps on disk: uploaded files, jobs, events. Each is a file that appears whole or not at all.

Several servers may stand over one folder, one a process of the desk: what is read, changed and written is under a lock of the kernel's.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from options_agent.durable import write_bytes, write_json
from options_agent.llm.server.wire import WireError, new_id, now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Store:
    """Objects of a kind (`files`, `jobs`, `batches`) by id below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        """Write an object; returns it."""
        write_json(self.folder / kind / f"{content['id']}.json", content)
        return content

    def get(self, kind: str, key: str) -> dict[str, Any]:
        """Read one.

        Raises:
            WireError: there is none.
        """
        path = self.folder / kind / f"{key}.json"
        if not key.replace("-", "").isalnum() or not path.is_file():
            raise WireError(404, f"No such {kind.removesuffix('s')} object: {key}", param="id")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def change(self, kind: str, key: str, by: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """Read one, change it and write it, while nobody else does; returns it as it is then.

        Raises:
            WireError: there is none, or `by` refuses.
        """
        with self.locked(kind):
            former = self.get(kind, key)
            changed = by(former)
            return changed if changed == former else self.put(kind, changed)

    @contextmanager
    def locked(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Hold a lock; it ends with the process, however that ends.

        Raises:
            BlockingIOError: another holds it and `wait` is false.
        """
        (self.folder / "locks").mkdir(parents=True, exist_ok=True)
        with (self.folder / "locks" / name).open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Every object of a kind."""
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((self.folder / kind).glob("*.json"))]

    def delete(self, kind: str, key: str) -> None:
        """Forget one.

        Raises:
            WireError: there is none.
        """
        self.get(kind, key)
        (self.folder / kind / f"{key}.json").unlink(missing_ok=True)
        (self.folder / kind / f"{key}.data").unlink(missing_ok=True)

    def add_file(self, name: str, purpose: str, data: bytes) -> dict[str, Any]:
        """Keep an uploaded file."""
        key = new_id("file")
        write_bytes(self.folder / "files" / f"{key}.data", data)
        about = {"id": key, "object": "file", "bytes": len(data), "created_at": now(), "filename": name, "purpose": purpose}
        return self.put("files", about | {"status": "processed"})

    def data(self, key: str) -> bytes:
        """Content of a file.

        Raises:
            WireError: there is none.
        """
        self.get("files", key)
        return (self.folder / "files" / f"{key}.data").read_bytes()
