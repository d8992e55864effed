"""What can be made to go wrong, by flag at the start or at run time: one flat record, read at every message.

Probabilities are per message. Everything random is drawn from one seeded generator, so that a run can be repeated.
"""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass, field
from typing import Any, Final

from options_agent.errors import SettingsError

#: Switches that are no share of something: the least and the most each can be.
_RANGES: Final[dict[str, tuple[float, float]]] = {
    "latency_seconds": (0.0, 3_600.0),
    "clock_skew_seconds": (-31_536_000.0, 31_536_000.0),
    "seed": (0, 2**63),
}


@dataclass(slots=True)
class Faults:
    """The switches. Zero, empty and false are off."""

    latency_seconds: float = 0.0
    """wall seconds before an answer"""
    drop: float = 0.0
    """share of notifications that are never sent"""
    duplicate: float = 0.0
    """share of notifications that are sent twice"""
    late: float = 0.0
    """share of notifications that are held back until the next ones"""
    reorder: float = 0.0
    """share of batches whose messages are shuffled"""
    book_gap: float = 0.0
    """share of book changes that are lost although the change ids go on"""
    half_frame: float = 0.0
    """share of batches that are cut in the middle of a frame, and the socket with them"""
    bad_gateway: float = 0.0
    """share of HTTP requests answered 502 with a page"""
    too_many: float = 0.0
    """share of requests answered 10028, the session closed after it"""
    maintenance: bool = False
    """every call is answered 11051 and sockets are closed"""
    down: bool = False
    """no connection is taken, open ones are cut: the exchange is gone"""
    stalled: bool = False
    """sockets stay open and nothing is sent, heartbeats included"""
    clock_skew_seconds: float = 0.0
    """how far the exchange's stamps and `get_time` are ahead of market time"""
    vanished: tuple[str, ...] = ()
    """instruments that are listed but of which nothing is told any more"""
    expired: tuple[str, ...] = ()
    """instruments that are taken off the board before their time, in the middle of whatever goes on"""
    seed: int = 0
    """of the draws"""

    def changed(self, changes: dict[str, Any]) -> Faults:
        """A copy with some switches set.

        Raises:
            SettingsError: there is no such switch, or the value does not fit it: a share lies between 0 and 1.
        """
        if not isinstance(changes, dict):
            raise SettingsError(f"faults cannot be {changes!r}", remedy='give an object of switches, for instance {"drop": 0.01}')
        known = {f.name: f for f in dataclasses.fields(self)}
        values: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in known:
                raise SettingsError(f"no fault is called {name!r}", remedy=f"the switches are {', '.join(known)}")
            values[name] = _fitting(name, getattr(self, name), value)
        return dataclasses.replace(self, **values)

    def shown(self) -> dict[str, Any]:
        """All switches, as JSON."""
        return dataclasses.asdict(self)


@dataclass(slots=True)
class Dice:
    """Draws for the switches."""

    seed: int = 0
    source: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.source = random.Random(self.seed)  # noqa: S311 - faults are to be repeated, not to be secret

    def hit(self, share: float) -> bool:
        """Whether a fault of this share strikes now."""
        return share > 0.0 and self.source.random() < share


_KINDS: Final = {bool: "on or off", tuple: "a list of names, with commas between", float: "a number", int: "a whole number"}


def _fitting(name: str, present: object, value: object) -> object:
    try:
        if isinstance(present, bool):
            if isinstance(value, bool):
                return value
            return {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}[str(value).lower()]
        if isinstance(present, tuple):
            names = value.split(",") if isinstance(value, str) else list(value)  # type: ignore[call-overload]
            return tuple(str(n) for n in names if n)
        number = float(value) if isinstance(present, float) else int(value)  # type: ignore[call-overload, arg-type]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise SettingsError(f"fault {name} cannot be {value!r}", remedy=f"it is {_KINDS[type(present)]}") from None
    least, most = _RANGES.get(name, (0.0, 1.0))
    if isinstance(value, bool) or not math.isfinite(number) or not least <= number <= most:
        raise SettingsError(f"fault {name} cannot be {value!r}", remedy=f"it lies between {least:g} and {most:g}")
    return number
