"""What a harvester says of itself, written as events; kept in memory while the lake cannot be written, and written once it can be."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from options_agent.errors import StorageError
from options_agent.lake.events import Event, record_event

if TYPE_CHECKING:
    import datetime as dt

    from options_agent.lake.store import Lake
    from options_agent.market.clock import Clock

log = logging.getLogger("options_agent.harvest")

_MOST_WAITING: Final = 10_000


@dataclass(slots=True)
class Journal:
    """The events of one harvester. `patient`: it outlasts a lake that cannot be written; otherwise that is an error at once."""

    lake: Lake
    source: str
    region: str
    clock: Clock
    patient: bool = False
    _waiting: deque[Event] = field(default_factory=lambda: deque(maxlen=_MOST_WAITING))

    def record(self, kind: str, underlying: str | None = None, detail: str = "", at: dt.datetime | None = None) -> None:
        """Write an event (now, by default), after those that could not be written before.

        Raises:
            StorageError: it cannot be written, and the journal is not patient.
        """
        self._waiting.append(Event(at or self.clock.now(), kind, underlying, detail))
        try:
            while self._waiting:
                record_event(self.lake, self.source, self.region, self._waiting[0])
                self._waiting.popleft()
        except StorageError as error:
            self.bear(error)

    def bear(self, error: StorageError) -> None:
        """Go on without the lake: it may be full, or away, for a while only.

        Raises:
            StorageError: the journal is not patient.
        """
        if not self.patient:
            raise error
        log.error("the lake cannot be written: %s", error)
