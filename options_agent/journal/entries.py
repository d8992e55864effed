"""A book's journal: what it decided and why, what it traded, what it was worth; each entry by when it was known."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final, Literal

from options_agent.errors import DataError
from options_agent.journal.chain import append_line, read_chain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

    from options_agent.settings import Settings

Kind = Literal["decision", "fill", "mark", "note"]
#: What an entry of a kind must have, with the types it may have. Coin and USD as named; `state` are the numbers a model was shown.
FIELDS: Final[dict[str, dict[str, tuple[type, ...]]]] = {
    "decision": {
        "strategy": (str,),
        "underlying": (str,),
        "regime": (str,),
        "rules": (str,),
        "actions": (list, tuple),
        "action": (str,),
        "rationale": (str,),
        "state": (dict,),
        "model": (str,),
        "prompt": (str,),
    },
    "fill": {"instrument": (str,), "contracts": (int, float), "price": (int, float), "fee": (int, float), "currency": (str,)},
    "mark": {"equity_coin": (int, float), "equity_usd": (int, float), "index": (int, float)},
    "note": {"text": (str,)},
}


def journal_path(settings: Settings, book: str) -> Path:
    """Where a book's journal lies.

    Raises:
        DataError: the name cannot be a file's.
    """
    if not book or not all(c.isalnum() or c in "-_." for c in book) or book.startswith("."):
        raise DataError(f"{book!r} cannot be a book's name", remedy="letters, digits, - _ .")
    return settings.home / "journal" / settings.network / f"{book}.jsonl"


def write_entry(path: Path, kind: Kind, ts: dt.datetime, **content: Any) -> dict[str, Any]:
    """Append an entry; `ts` is when it was known.

    Raises:
        DataError: a field is missing, unknown or of another type, or the time has no zone.
        StorageError: it cannot be written.
    """
    fields = FIELDS[kind]
    wrong = [name for name, types in fields.items() if not isinstance(content.get(name), types) or isinstance(content.get(name), bool)]
    if wrong or content.keys() - fields.keys():
        unknown = sorted(content.keys() - fields.keys())
        raise DataError(f"entry {kind} is not whole: missing or of another type {wrong}, unknown {unknown}", place=str(path))
    if ts.tzinfo is None:
        raise DataError(f"entry {kind} has a time without a zone", place=str(path), remedy="UTC")
    return append_line(path, {"kind": kind, "ts": ts.astimezone(dt.UTC).isoformat()} | content)


def read_journal(path: Path, kind: Kind | None = None, *, until: dt.datetime | None = None) -> list[dict[str, Any]]:
    """Entries of a kind (all by default) known at or before `until`, in the order written, `ts` as a time.

    Raises:
        DataError: the journal is broken.
    """
    found = []
    for entry in read_chain(path):
        ts = dt.datetime.fromisoformat(entry["ts"])
        if (kind is None or entry["kind"] == kind) and (until is None or ts <= until):
            found.append(entry | {"ts": ts})
    return found


def marks_table(path: Path, *, until: dt.datetime | None = None) -> pa.Table:
    """(`ts`, `equity_coin`, `equity_usd`, `index`) of a book, ascending.

    Raises:
        DataError: the journal is broken.
    """
    import pyarrow as pa

    rows: Sequence[dict[str, Any]] = sorted(read_journal(path, "mark", until=until), key=lambda e: e["ts"])
    columns: dict[str, Any] = {"ts": pa.array([e["ts"] for e in rows], pa.timestamp("us", "UTC"))}
    return pa.table(columns | {name: pa.array([float(e[name]) for e in rows], pa.float64()) for name in FIELDS["mark"]})
