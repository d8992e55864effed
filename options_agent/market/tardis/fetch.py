"""One file of the vendor, fetched through its own client into the cache: whole or not at all.

The client writes to a temporary name and renames; retries what passes (429 after Retry-After, 5xx, a lost connection);
and goes on retrying for long. What it cannot mend (disk full) or cannot see (nothing moves any more) is ended here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import time
import urllib.error
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from options_agent.errors import DataError, ExchangeError, SettingsError, StorageError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from options_agent.settings import TardisSettings

EXCHANGE: Final = "deribit"
#: The vendor's symbol for all options of the exchange in one file.
ALL_OPTIONS: Final = "OPTIONS"
KEY_VARIABLE: Final = "OPTIONS_AGENT_TARDIS__API_KEY"
_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EPERM)
_LOOK_SECONDS: Final = 0.25
_CLIENT_LOG: Final = "tardis_dev._http"
_UNFINISHED: Final = ".unconfirmed"


class NoDataError(DataError):
    """The vendor has no such file: the day is not ready yet, before its recordings began, or was not recorded."""


class KeyNeededError(SettingsError):
    """The vendor gives this day to holders of a key only, or refused the key."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file of the vendor and where it goes."""

    kind: str
    symbol: str
    day: dt.date
    path: Path


@dataclass(slots=True)
class _Trouble:
    """The client's latest failed attempt."""

    error: Exception | None = None
    wait: float = 0.0
    attempts: int = 0
    fatal: bool = False


#: Of the files being fetched now, one to a thread.
_TROUBLES: Final[dict[str, _Trouble]] = {}


def is_free(day: dt.date) -> bool:
    """Whether the vendor gives a day without a key: the first of each month."""
    return day.day == 1


def fetch(wanted: Wanted, settings: TardisSettings, told: Callable[[int, str], None] | None = None) -> Path:
    """Fetch a file, unless it lies in the cache already. One process at a time may fetch a file.

    Args:
        wanted: what, and where to.
        settings: endpoint, key and patience.
        told: now and then, the bytes that have come and what is waited for ("" = nothing); what it raises ends the fetch.

    Raises:
        KeyNeededError: there is no key and the day is not free, or the vendor refused the key.
        NoDataError: the vendor has no such file.
        ExchangeError: it refused, or nothing moved for `patience_seconds`.
        StorageError: the cache cannot be written (disk full, denied).
    """
    if wanted.path.exists():
        return wanted.path
    if settings.api_key is None and not is_free(wanted.day):
        raise KeyNeededError(
            f"{wanted.day} is not free: without a key the vendor gives the first day of each month only",
            place=settings.endpoint,
            remedy=f"set {KEY_VARIABLE}, or ask for the first days of months",
        )
    try:
        wanted.path.parent.mkdir(parents=True, exist_ok=True)
        for torn in wanted.path.parent.glob(f"{wanted.path.name}*{_UNFINISHED}"):
            torn.unlink(missing_ok=True)  # of a process that was killed
        asyncio.run(_fetch(wanted, settings, told))
    except urllib.error.HTTPError as error:
        raise _refusal(error, wanted, settings) from None
    except OSError as error:
        raise _disk_error(error, wanted) from error
    if not wanted.path.exists():
        raise ExchangeError(f"the vendor's client left no file of {wanted.day}", place=str(wanted.path), remedy="run the backfill again")
    return wanted.path


async def _fetch(wanted: Wanted, settings: TardisSettings, told: Callable[[int, str], None] | None) -> None:
    from tardis_dev import download_datasets_async  # type: ignore[import-untyped]

    from options_agent.market.sources import day_range

    start, end = day_range(wanted.day)
    with _trouble_of(wanted.path) as trouble:
        download = asyncio.create_task(
            download_datasets_async(
                exchange=EXCHANGE,
                data_types=[wanted.kind],
                symbols=[wanted.symbol],
                from_date=f"{start:%Y-%m-%d}",
                to_date=f"{end:%Y-%m-%d}",
                api_key=settings.api_key.get_secret_value() if settings.api_key else "",
                download_dir=str(wanted.path.parent),
                endpoint=settings.endpoint.rstrip("/"),
                timeout=max(1, int(settings.patience_seconds)),
                get_filename=lambda *_: wanted.path.name,
                concurrency=1,
            )
        )
        try:
            await _watch(download, wanted, settings, trouble, told)
        finally:
            download.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await download  # the client removes its temporary file


async def _watch(
    download: asyncio.Task[None], wanted: Wanted, settings: TardisSettings, trouble: _Trouble, told: Callable[[int, str], None] | None
) -> None:
    """Wait for the download as long as it moves.

    Raises:
        ExchangeError: it stands still for longer than the patience.
        OSError: the disk.
    """
    size, moved = 0, time.monotonic()
    while not download.done():
        await asyncio.wait({download}, timeout=_LOOK_SECONDS)
        if trouble.fatal and trouble.error is not None:
            raise trouble.error
        now_size = sum(path.stat().st_size for path in wanted.path.parent.glob(f"{wanted.path.name}*{_UNFINISHED}") if path.exists())
        if now_size > size:
            moved, trouble.error = time.monotonic(), None
        size = now_size
        waiting = (
            "" if trouble.error is None else f"attempt {trouble.attempts} failed ({_short(trouble.error)}), next in {trouble.wait:.0f} s"
        )
        if told is not None:
            told(size, waiting)
        if time.monotonic() - moved > settings.patience_seconds and not download.done():
            cause = f"; the last attempt: {_short(trouble.error)}" if trouble.error else ""
            raise ExchangeError(
                f"nothing came of {wanted.kind} of {wanted.day} for {settings.patience_seconds:.0f} s{cause}",
                place=settings.endpoint,
                remedy="check the endpoint and the network; the same backfill goes on where this one ended",
            )
    download.result()


@contextlib.contextmanager
def _trouble_of(path: Path) -> Iterator[_Trouble]:
    """What the client says about failed attempts at a file: it tells its log only."""
    trouble, log = _Trouble(), logging.getLogger(_CLIENT_LOG)
    _TROUBLES[str(path)] = trouble
    log.addFilter(_hear)
    log.setLevel(logging.DEBUG)
    try:
        yield trouble
    finally:
        del _TROUBLES[str(path)]


def _hear(record: logging.LogRecord) -> bool:
    """A filter of the client's log: notes failed attempts at the files that are being fetched, and lets no detail through."""
    args = record.args if isinstance(record.args, tuple) else ()
    if len(args) == 3 and isinstance(args[2], Exception) and (trouble := _TROUBLES.get(str(args[0]))) is not None:
        trouble.attempts += 1
        trouble.error, trouble.wait = args[2], float(str(args[1]))
        refused = isinstance(args[2], urllib.error.HTTPError)
        trouble.fatal = isinstance(args[2], OSError) and args[2].errno in _DISK and not refused
    return record.levelno > logging.DEBUG


def _refusal(error: urllib.error.HTTPError, wanted: Wanted, settings: TardisSettings) -> Exception:
    """The vendor's answer as an error of ours."""
    said = _short(error)
    if error.code in (401, 403):
        state = "refused the key" if settings.api_key else "asks for a key"
        return KeyNeededError(
            f"the vendor {state} for {wanted.kind} of {wanted.day}: {said}",
            place=settings.endpoint,
            remedy=f"set {KEY_VARIABLE} to a key whose plan covers {EXCHANGE} and this day",
        )
    if error.code == 404:
        return NoDataError(
            f"the vendor has no {wanted.kind} of {wanted.day} for {wanted.symbol}: {said}",
            place=settings.endpoint,
            remedy="a day is ready about 06:00 UTC of the next; older ones may not have been recorded",
        )
    if error.code == 429:
        after = error.headers.get("Retry-After") if error.headers else None
        return ExchangeError(
            f"the vendor's quota is used up{f' for {after} s' if after else ''}: {said}",
            place=settings.endpoint,
            remedy="run the same backfill later; it goes on where this one ended",
        )
    return ExchangeError(f"the vendor answered {error.code} for {wanted.kind} of {wanted.day}: {said}", place=settings.endpoint)


def _disk_error(error: OSError, wanted: Wanted) -> StorageError | ExchangeError:
    if error.errno in _DISK:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return StorageError(
            f"the download of {wanted.day} cannot be written: {error.strerror}",
            place=str(wanted.path.parent),
            remedy="free disk space (a day has several GB), or set OPTIONS_AGENT_HOME to a larger disk"
            if full
            else "check the permissions",
        )
    return ExchangeError(f"the download of {wanted.day} failed: {error}", place=str(wanted.path), remedy="run the backfill again")


def _short(error: Exception | None) -> str:
    """What went wrong in a few words, without the vendor's JSON around it."""
    if isinstance(error, urllib.error.HTTPError):
        text = str(error.msg)
        with contextlib.suppress(ValueError, AttributeError, TypeError):
            text = str(json.loads(text)["message"])
        return f"HTTP {error.code} {text[:120]}"
    return str(error)[:160] or type(error).__name__
