"""The durable memory of alerts: which are open, and which notices some channel still has to get.

One SQLite file per network under `settings.state_dir`. Opening an alert and queueing its notices is one transaction, so
a kill at any instant leaves either nothing or both. URLs are not stored: a channel is known by a hash of its URL.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import sqlite3
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, Literal

from options_agent.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from options_agent.settings import Severity

Event = Literal["opened", "closed", "event"]

VERSION: Final = 2
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
CREATE TABLE IF NOT EXISTS silence (pattern TEXT PRIMARY KEY, until TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trouble (channel TEXT PRIMARY KEY, failures INTEGER NOT NULL, next_at TEXT NOT NULL);
"""
#: How the outbox says that a notice is held for a group only; 1 is any other hold, 0 none.
_EARLY: Final = 2
#: What files of earlier versions lack: table, column, definition. Old notices are due at once and belong to no thread.
_ADDED: Final = (
    ("alert", "title", "TEXT NOT NULL DEFAULT ''"),
    ("alert", "told", "TEXT NOT NULL DEFAULT '[]'"),
    ("alert", "escalated_at", "TEXT"),
    ("outbox", "due", "TEXT NOT NULL DEFAULT ''"),
    ("outbox", "held", "INTEGER NOT NULL DEFAULT 0"),
    ("outbox", "thread", "TEXT NOT NULL DEFAULT ''"),
)


@dataclass(frozen=True, slots=True)
class Notice:
    """One message on its way to one channel. `id` never repeats: a receiver may drop what it has seen.

    Notices of one opening and what follows it share a `thread`. `held` and `early` are as in `When`.
    """

    id: int
    key: str
    event: Event
    channel: str
    severity: Severity
    title: str
    body: str
    at: dt.datetime
    attempts: int
    due: dt.datetime | None = None
    held: bool = False
    thread: str = ""
    early: bool = False


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that is open now. `told` are the channels its opening, or its escalation, was queued for."""

    key: str
    severity: Severity
    opened_at: dt.datetime
    details: dict[str, Any]
    title: str = ""
    told: tuple[str, ...] = ()
    escalated_at: dt.datetime | None = None
    closed_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class When:
    """When a notice may be told, and whether it was held back on purpose (then it may be told together with others).

    `early`: it waits for others only, and is told before its time where a message goes out to its channel anyway.
    """

    due: dt.datetime
    held: bool = False
    early: bool = False


class AlertState:
    """Open alerts and the outbox of one network. Safe for several processes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "alerts.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failure(error) from error

    def open(
        self, key: str, severity: Severity, title: str, body: str, channels: Mapping[str, When], now: dt.datetime, details: dict[str, Any]
    ) -> bool:
        """Open an alert and queue its notice for every channel; False, and nothing, where it is open already."""
        with self._transaction() as db:
            row = db.execute("SELECT closed_at FROM alert WHERE key = ?", (key,)).fetchone()
            if row is not None and row[0] is None:
                return False
            db.execute(
                "INSERT OR REPLACE INTO alert (key, severity, opened_at, closed_at, details, title, told) VALUES (?, ?, ?, NULL, ?, ?, ?)",
                (key, severity, now.isoformat(), json.dumps(details), title, json.dumps(list(channels))),
            )
            _queue(db, key, "opened", severity, title, body, channels, now, _thread(key, now))
            return True

    def close(self, key: str, title: str, body: str, when: When, now: dt.datetime) -> bool:
        """Close an alert and queue its recovery for whoever its opening was queued for; False, and nothing, where it is not open.

        Where the opening is still held back for a channel, the recovery waits with it: they are told as one.
        """
        with self._transaction() as db:
            row = db.execute("SELECT opened_at, told FROM alert WHERE key = ? AND closed_at IS NULL", (key,)).fetchone()
            if row is None:
                return False
            db.execute("UPDATE alert SET closed_at = ? WHERE key = ?", (now.isoformat(), key))
            thread = _thread(key, dt.datetime.fromisoformat(row[0]))
            held = "SELECT channel, MAX(due), MIN(held) FROM outbox WHERE thread = ? AND held > 0 GROUP BY channel"
            waiting = {
                name: When(dt.datetime.fromisoformat(due), held=True, early=least == _EARLY)
                for name, due, least in db.execute(held, (thread,)).fetchall()
            }
            channels = {name: waiting.get(name, when) for name in json.loads(row[1])}
            _queue(db, key, "closed", "info", title, body, channels, now, thread)
            return True

    def record(self, key: str, severity: Severity, title: str, body: str, channels: Mapping[str, When], now: dt.datetime) -> bool:
        """Queue a notice of something that happened and does not last; False, and nothing, where its key was said before."""
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM alert WHERE key = ?", (key,)).fetchone():
                return False
            db.execute(
                "INSERT INTO alert (key, severity, opened_at, closed_at, details, title) VALUES (?, ?, ?, ?, '{}', ?)",
                (key, severity, now.isoformat(), now.isoformat(), title),
            )
            _queue(db, key, "event", severity, title, body, channels, now, _thread(key, now))
            return True

    def escalate(self, alert: OpenAlert, title: str, body: str, channels: Mapping[str, When], now: dt.datetime) -> bool:
        """Queue that an alert is still open; False, and nothing, where it was closed or escalated meanwhile."""
        with self._transaction() as db:
            row = db.execute("SELECT escalated_at, told FROM alert WHERE key = ? AND closed_at IS NULL", (alert.key,)).fetchone()
            if row is None or row[0] != (alert.escalated_at.isoformat() if alert.escalated_at else None):
                return False
            told = list(dict.fromkeys([*json.loads(row[1]), *channels]))
            db.execute("UPDATE alert SET escalated_at = ?, told = ? WHERE key = ?", (now.isoformat(), json.dumps(told), alert.key))
            _queue(db, alert.key, "event", "failure", title, body, channels, now, _thread(alert.key, alert.opened_at))
            return True

    def silence(self, pattern: str, until: dt.datetime) -> None:
        """Hold back what fits a pattern of keys until then; a time that is past lifts it."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO silence VALUES (?, ?)", (pattern, until.isoformat()))

    def silences(self, now: dt.datetime) -> dict[str, dt.datetime]:
        """Patterns that are silenced now, and until when."""
        with self._transaction() as db:
            rows = db.execute("SELECT pattern, until FROM silence").fetchall()
        found = {pattern: dt.datetime.fromisoformat(until) for pattern, until in rows}
        return {pattern: until for pattern, until in found.items() if until > now}

    def silenced_until(self, key: str, now: dt.datetime) -> dt.datetime | None:
        """Until when a key is silenced; None where it is not."""
        return max((until for pattern, until in self.silences(now).items() if fnmatchcase(key, pattern)), default=None)

    def history(self) -> list[OpenAlert]:
        """Every alert remembered, the newest first."""
        return self._alerts("1 ORDER BY opened_at DESC")

    def trouble(self, channel: str, now: dt.datetime, wait: Sequence[dt.timedelta]) -> None:
        """A channel failed once more: leave it alone for the wait of its number of failures in a row."""
        with self._transaction() as db:
            row = db.execute("SELECT failures FROM trouble WHERE channel = ?", (channel,)).fetchone()
            failures = (row[0] if row else 0) + 1
            until = now + wait[min(failures, len(wait)) - 1]
            db.execute("INSERT OR REPLACE INTO trouble VALUES (?, ?, ?)", (channel, failures, until.isoformat()))

    def well(self, channel: str) -> None:
        """A channel took a notice."""
        with self._transaction() as db:
            db.execute("DELETE FROM trouble WHERE channel = ?", (channel,))

    def left_alone(self, now: dt.datetime) -> set[str]:
        """Channels that failed and are not to be tried yet."""
        with self._transaction() as db:
            rows = db.execute("SELECT channel, next_at FROM trouble").fetchall()
        return {channel for channel, at in rows if dt.datetime.fromisoformat(at) > now}

    def open_alerts(self) -> list[OpenAlert]:
        """What is open, oldest first."""
        return self._alerts("closed_at IS NULL ORDER BY opened_at")

    def _alerts(self, which: str) -> list[OpenAlert]:
        columns = "key, severity, opened_at, details, title, told, escalated_at, closed_at"
        with self._transaction() as db:
            rows = db.execute(f"SELECT {columns} FROM alert WHERE {which}").fetchall()  # noqa: S608 - our own words
        return [
            OpenAlert(
                key, severity, dt.datetime.fromisoformat(at), json.loads(details), title, tuple(json.loads(told)), _when(up), _when(end)
            )
            for key, severity, at, details, title, told, up, end in rows
        ]

    def pending(self) -> list[Notice]:
        """Notices some channel has not taken, in the order they were queued."""
        columns = "id, key, event, channel, severity, title, body, at, attempts, due, held, thread"
        with self._transaction() as db:
            rows = db.execute(f"SELECT {columns} FROM outbox ORDER BY id").fetchall()  # noqa: S608 - our own words
        return [
            Notice(
                *(number, key, event, channel, severity, title, body),
                at=dt.datetime.fromisoformat(at),
                attempts=attempts,
                due=_when(due),
                held=bool(held),
                thread=thread,
                early=held == _EARLY,
            )
            for number, key, event, channel, severity, title, body, at, attempts, due, held, thread in rows
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
                    _prepare(db)
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


def _prepare(db: sqlite3.Connection) -> None:
    """Make the tables, and bring those of an earlier version up to this one."""
    if db.execute("PRAGMA user_version").fetchone()[0] == VERSION:
        return
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    for table, column, definition in _ADDED:
        if column not in {row[1] for row in db.execute(f"PRAGMA table_info({table})")}:
            db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {definition}")
    db.execute(f"PRAGMA user_version = {VERSION}")


def _queue(
    db: sqlite3.Connection,
    key: str,
    event: Event,
    severity: Severity,
    title: str,
    body: str,
    channels: Mapping[str, When],
    now: dt.datetime,
    thread: str,
) -> None:
    db.executemany(
        "INSERT INTO outbox (key, event, channel, severity, title, body, at, due, held, thread) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (key, event, name, severity, title, body, now.isoformat(), when.due.isoformat(), _hold(when), thread)
            for name, when in channels.items()
        ],
    )


def _hold(when: When) -> int:
    return 0 if not when.held else _EARLY if when.early else 1


def _thread(key: str, opened_at: dt.datetime) -> str:
    return hashlib.sha256(f"{key}|{opened_at.isoformat()}".encode()).hexdigest()[:24]


def _when(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text) if text else None
