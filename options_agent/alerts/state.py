"""The durable memory of alerts: which are open, and which notices some channel still has to get.

One SQLite file per network under `settings.state_dir`. Opening an alert and queueing its notices is one transaction, so
a kill at any instant leaves either nothing or both. URLs are not stored: a channel is known by a hash of its URL.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from options_agent.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Severity = Literal["info", "warning", "failure"]
Event = Literal["opened", "closed", "event"]

#: Closed alerts, and notices no channel took, are forgotten after this long.
MEMORY: Final = dt.timedelta(days=30)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS alert (
    key TEXT PRIMARY KEY, severity TEXT NOT NULL, opened_at TEXT NOT NULL, closed_at TEXT, details TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, event TEXT NOT NULL, channel TEXT NOT NULL, severity TEXT NOT NULL,
    title TEXT NOT NULL, body TEXT NOT NULL, at TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, error TEXT
);
CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, at TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message on its way to one channel. `id` never repeats: a receiver may drop what it has seen."""

    id: int
    key: str
    event: Event
    channel: str
    severity: Severity
    title: str
    body: str
    at: dt.datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that is open now."""

    key: str
    severity: Severity
    opened_at: dt.datetime
    details: dict[str, Any]


class AlertState:
    """Open alerts and the outbox of one network. Safe for several processes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "alerts.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failure(error) from error

    def open(
        self, key: str, severity: Severity, title: str, body: str, channels: Sequence[str], now: dt.datetime, details: dict[str, Any]
    ) -> bool:
        """Open an alert and queue its notice for every channel; False, and nothing, where it is open already."""
        with self._transaction() as db:
            row = db.execute("SELECT closed_at FROM alert WHERE key = ?", (key,)).fetchone()
            if row is not None and row[0] is None:
                return False
            db.execute("INSERT OR REPLACE INTO alert VALUES (?, ?, ?, NULL, ?)", (key, severity, now.isoformat(), json.dumps(details)))
            _queue(db, key, "opened", severity, title, body, channels, now)
            return True

    def close(self, key: str, title: str, body: str, channels: Sequence[str], now: dt.datetime) -> bool:
        """Close an alert and queue its recovery notice; False, and nothing, where it is not open."""
        with self._transaction() as db:
            closed = db.execute("UPDATE alert SET closed_at = ? WHERE key = ? AND closed_at IS NULL", (now.isoformat(), key)).rowcount
            if closed:
                _queue(db, key, "closed", "info", title, body, channels, now)
            return bool(closed)

    def record(self, key: str, severity: Severity, title: str, body: str, channels: Sequence[str], now: dt.datetime) -> bool:
        """Queue a notice of something that happened and does not last; False, and nothing, where its key was said before."""
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM alert WHERE key = ?", (key,)).fetchone():
                return False
            db.execute("INSERT INTO alert VALUES (?, ?, ?, ?, '{}')", (key, severity, now.isoformat(), now.isoformat()))
            _queue(db, key, "event", severity, title, body, channels, now)
            return True

    def open_alerts(self) -> list[OpenAlert]:
        """What is open, oldest first."""
        with self._transaction() as db:
            rows = db.execute("SELECT key, severity, opened_at, details FROM alert WHERE closed_at IS NULL ORDER BY opened_at").fetchall()
        return [OpenAlert(key, severity, dt.datetime.fromisoformat(at), json.loads(details)) for key, severity, at, details in rows]

    def pending(self) -> list[Notice]:
        """Notices some channel has not taken, in the order they were queued."""
        with self._transaction() as db:
            rows = db.execute("SELECT id, key, event, channel, severity, title, body, at, attempts FROM outbox ORDER BY id").fetchall()
        return [
            Notice(number, key, event, channel, severity, title, body, dt.datetime.fromisoformat(at), attempts)
            for number, key, event, channel, severity, title, body, at, attempts in rows
        ]

    def done(self, notice: Notice) -> None:
        """The channel has it."""
        with self._transaction() as db:
            db.execute("DELETE FROM outbox WHERE id = ?", (notice.id,))

    def failed(self, notice: Notice, error: str) -> None:
        """The channel did not take it; it stays."""
        with self._transaction() as db:
            db.execute("UPDATE outbox SET attempts = attempts + 1, error = ? WHERE id = ?", (error, notice.id))

    def forget(self, now: dt.datetime) -> int:
        """Drop what is older than `MEMORY`; returns how many notices were dropped unsent."""
        before = (now - MEMORY).isoformat()
        with self._transaction() as db:
            db.execute("DELETE FROM alert WHERE closed_at < ?", (before,))
            return db.execute("DELETE FROM outbox WHERE at < ?", (before,)).rowcount

    def first_time(self, name: str, now: dt.datetime) -> dt.datetime:
        """When this was first asked for `name`; now, the first time."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO mark VALUES (?, ?)", (name, now.isoformat()))
            return dt.datetime.fromisoformat(db.execute("SELECT at FROM mark WHERE name = ?", (name,)).fetchone()[0])

    @contextlib.contextmanager
    def delivering(self) -> Iterator[None]:
        """One process delivers at a time; the lock goes with the process, however it ends."""
        try:
            with self._path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise self._failure(error) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=30.0, isolation_level=None)) as db:
                db.execute("PRAGMA synchronous = FULL")
                db.execute("BEGIN IMMEDIATE")
                try:
                    for statement in _SCHEMA.split(";"):
                        db.execute(statement)
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    db.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> StorageError:
        return StorageError(
            f"the state of alerts cannot be kept: {error}",
            place=str(self._path),
            remedy="check disk space and permissions of the state folder",
        )


def _queue(
    db: sqlite3.Connection, key: str, event: Event, severity: Severity, title: str, body: str, channels: Sequence[str], now: dt.datetime
) -> None:
    db.executemany(
        "INSERT INTO outbox (key, event, channel, severity, title, body, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(key, event, channel, severity, title, body, now.isoformat()) for channel in channels],
    )
