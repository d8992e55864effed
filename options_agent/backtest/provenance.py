"""Which code a result came out of: the hash of its sources, and the commit of the checkout."""

from __future__ import annotations

import hashlib
import subprocess
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def code_sha256() -> str:
    """Hash of the sources a result depends on: this package's and those of strategies and pricing."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for folder in ("backtest", "strategies", "pricing"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def code_commit() -> str | None:
    """The commit of the checkout this runs from, with `+changes` where files differ; None outside one."""
    root = Path(__file__).resolve().parents[2]
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty=+changes"], cwd=root, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
