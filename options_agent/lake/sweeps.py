"""What a harvester says of a sweep of the chain: how many contracts were listed, which it lacks, how long it took, and why.

The note travels in the schema metadata of the snapshot's table and lies in the footer of its file: rows and what is known of
them are written together or not at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from options_agent.errors import DataError

if TYPE_CHECKING:
    import datetime as dt

_KEY: Final = b"sweep"


@dataclass(frozen=True, slots=True)
class SweepNote:
    """The sweep behind one raw snapshot.

    `note`: `expected` contracts listed, `received` rows, `missing` names, `complete`, `skew_seconds` between the first and the
    last row's `ts`, `transport` (websocket or http), `started` and `ended` (ISO), `cause` of what is missing or null.
    """

    snapshot: dt.datetime
    source: str
    region: str
    note: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether every listed contract has a row."""
        return bool(self.note["complete"])

    @property
    def share(self) -> float:
        """Rows over listed contracts, 1 where nothing was listed."""
        return self.note["received"] / self.note["expected"] if self.note["expected"] else 1.0


def with_sweep(
    table: pa.Table,
    *,
    expected: list[str],
    transport: str,
    started: dt.datetime,
    ended: dt.datetime,
    cause: str | None = None,
) -> pa.Table:
    """The table of a snapshot with what its sweep was like.

    Args:
        table: quote rows of one snapshot.
        expected: contracts that were listed at its grid time.
        transport: websocket or http.
        started, ended: of the sweep, UTC.
        cause: why some are missing, where known.
    """
    received = set(table["instrument"].to_pylist())
    missing = sorted(set(expected) - received)
    stamps = table["ts"].cast(pa.int64()).to_numpy()
    return noted(
        table,
        {
            "expected": len(set(expected)),
            "received": len(received),
            "missing": missing,
            "complete": not missing,
            "skew_seconds": round(float(stamps.max() - stamps.min()) / 1e6, 6) if len(stamps) else 0.0,
            "transport": transport,
            "started": started.isoformat(),
            "ended": ended.isoformat(),
            "cause": cause if missing else None,
        },
    )


def noted(table: pa.Table, note: dict[str, Any] | None) -> pa.Table:
    """The table with this note, or without any."""
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != _KEY}
    if note is not None:
        metadata[_KEY] = json.dumps(note, sort_keys=True).encode()
    return table.replace_schema_metadata(metadata)


def note_of(table: pa.Table) -> dict[str, Any] | None:
    """The note a table carries."""
    raw = (table.schema.metadata or {}).get(_KEY)
    return dict(json.loads(raw)) if raw else None


def note_bytes(table: pa.Table) -> dict[bytes, bytes]:
    """The note as schema metadata; empty where there is none."""
    raw = (table.schema.metadata or {}).get(_KEY)
    return {_KEY: raw} if raw else {}


def note_in(data: bytes, *, place: str) -> dict[str, Any] | None:
    """The note in the bytes of a snapshot's file. Raises DataError where they are no Parquet file."""
    try:
        raw = (pq.read_metadata(pa.BufferReader(data)).metadata or {}).get(_KEY)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a whole Parquet file: {error}", place=place, remedy="set it aside and harvest the day again") from error
    return dict(json.loads(raw)) if raw else None
