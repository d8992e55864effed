"""The console every command prints to."""

from __future__ import annotations

import sys

from rich.console import Console

#: Where no terminal says how wide it is (a pipe, a log), tables get this many columns.
WIDE = 132


def console_of(*, stderr: bool = False) -> Console:
    """A console without guessing at highlights; wide where its output is not a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(highlight=False, stderr=stderr, width=None if stream.isatty() else WIDE)
