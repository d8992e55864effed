"""Many days of the vendor's history, a few at once, and what became of each."""

from __future__ import annotations

import datetime as dt
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from options_agent.errors import DataError, OptionsAgentError
from options_agent.market.tardis.backfill import Progress, backfill_day, is_done
from options_agent.market.tardis.fetch import KEY_VARIABLE, KeyNeededError, NoDataError, is_free
from options_agent.market.tardis.header import ChangedHeaderError, DamagedFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from options_agent.lake.receipts import Receipt
    from options_agent.lake.store import Lake
    from options_agent.settings import Settings

State = Literal["done", "unchanged", "no data", "no key", "not published", "damaged", "changed header", "failed", "not tried"]

#: States that leave a day undone though it was asked for and could have been done.
UNDONE: Final[frozenset[State]] = frozenset({"not published", "damaged", "changed header", "failed", "not tried"})

_LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class DayReport:
    """What became of a day: its state, why, and its receipts by family where done, else the error; bytes and ticks are the vendor's."""

    day: dt.date
    state: State
    why: str = ""
    remedy: str = ""
    receipts: dict[str, Receipt] = field(default_factory=dict)
    bytes: int = 0
    ticks: int = 0
    seconds: float = 0.0
    error: OptionsAgentError | None = None

    @property
    def rows(self) -> int:
        """Rows in the lake, of all families."""
        return sum(receipt.counts["rows"] for receipt in self.receipts.values())


class StoppedError(Exception):
    """Somebody asked the work to stop; what was done stays done."""


def days_between(first: dt.date, last: dt.date) -> list[dt.date]:
    """Days from `first` to `last`, both inclusive.

    Raises:
        DataError: the range is backwards.
    """
    if last < first:
        raise DataError(f"the range {first} to {last} is backwards", remedy="give the earlier day as --from")
    return [first + dt.timedelta(days=number) for number in range((last - first).days + 1)]


def backfill_days(
    settings: Settings,
    lake: Lake,
    days: Sequence[dt.date],
    underlyings: Sequence[str] | None = None,
    *,
    again: bool = False,
    told: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    now: dt.datetime | None = None,
) -> list[DayReport]:
    """Backfill days, `settings.tardis.parallel_days` at once, each alone: one that fails leaves the others be.

    What would spoil every further day (the key refused, the vendor's quota used up or the vendor out of reach, the disk
    full) ends the work: the days left are `not tried`. Without a key only days that are free or done are tried.

    Returns:
        A report for each day, in the order of `days`.
    """
    wanted = tuple(underlyings or settings.underlyings)
    ended, stop = threading.Event(), stop or threading.Event()

    def tell(progress: Progress) -> None:
        if stop.is_set():
            raise StoppedError
        if told is not None:
            told(progress)

    def work(day: dt.date) -> DayReport:
        if stop.is_set() or ended.is_set():
            return _undone(day, "not tried", DataError("the work ended before it", place=str(day), remedy="run the same backfill again"))
        if settings.tardis.api_key is None and not is_free(day) and not all(is_done(settings, lake, name, day) for name in wanted):
            return _undone(
                day,
                "no key",
                KeyNeededError("without a key the first day of each month only", place=str(day), remedy=f"set {KEY_VARIABLE}"),
            )
        started = time.monotonic()
        try:
            before = {} if again else {name: receipt for name in wanted if (receipt := is_done(settings, lake, name, day))}
            receipts = backfill_day(settings, lake, day, wanted, again=again, told=tell, now=now)
        except StoppedError:
            return DayReport(day, "not tried", "stopped")
        except OptionsAgentError as error:
            if not isinstance(error, DataError):
                ended.set()
            return _undone(day, _state_of(error), error, seconds=time.monotonic() - started)
        return _report(day, receipts, len(before) == len(wanted), time.monotonic() - started)

    with ThreadPoolExecutor(max_workers=settings.tardis.parallel_days, thread_name_prefix="day") as pool:
        futures = [pool.submit(work, day) for day in days]
        try:
            while wait(futures, timeout=_LOOK_SECONDS).not_done:
                pass  # a wait without end may not hear Ctrl-C: the signal can go to another thread
            return [future.result() for future in futures]
        except BaseException:
            stop.set()  # of Ctrl-C: the days at work end at their next report of progress
            raise


def _undone(day: dt.date, state: State, error: OptionsAgentError, seconds: float = 0.0) -> DayReport:
    return DayReport(day, state, error.message, error.remedy or "", seconds=seconds, error=error)


def _report(day: dt.date, receipts: dict[str, Receipt], unchanged: bool, seconds: float) -> DayReport:
    details = next(iter(receipts.values())).details
    states = {receipt.details["state"] for receipt in receipts.values()}
    notes = [*(f"no {name}" for name in details["missing"]), *sorted(states - {"done", "no data"})]
    notes += [f"{count:,} left out: {reason}" for reason, count in details.get("left_out", {}).items()]
    notes += [f"unknown columns {names} of {name}" for name, names in details["unknown_columns"].items()]
    state: State = "unchanged" if unchanged else "no data" if states == {"no data"} else "done"
    if unchanged:
        return DayReport(day, state, "; ".join(notes), receipts=receipts, seconds=seconds)
    return DayReport(day, state, "; ".join(notes), "", receipts, sum(details["files"].values()), sum(details["ticks"].values()), seconds)


def _state_of(error: OptionsAgentError) -> State:
    match error:
        case NoDataError():
            return "not published"
        case DamagedFileError():
            return "damaged"
        case ChangedHeaderError():
            return "changed header"
        case KeyNeededError():
            return "failed"
        case _:
            return "failed"
