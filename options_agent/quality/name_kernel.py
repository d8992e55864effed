"""Reads plain option names in Arrow's own bytes: a dictionary of a chunk has thousands, and most say the same simple thing.

Only names of the plain form are read, `BTC-8DEC25-90000-C`; every other is left to `contracts.parse_option`, whose answer counts.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Kinds = NDArray[np.int8]
Bytes = NDArray[np.uint8]

#: What `right` says of a name that was not read.
UNREAD: Final = -3
_MONTHS: Final = np.frombuffer(b"JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC", np.uint8).copy()
_LENGTHS: Final = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_BEFORE: Final = np.concatenate([np.zeros(1, np.int64), np.cumsum(_LENGTHS)])
_DAYS_TO_2000: Final = 10_957
_DAY: Final = 86_400_000_000
_EIGHT: Final = 28_800_000_000
_LONGEST: Final = 15  # digits a double holds exactly


def _read(dtype: types.Type) -> types.Array:
    return types.Array(dtype, 1, "C", readonly=True)


_U, _C = _read(types.uint8), _read(types.int32)
_INTS, _FLOATS = types.Array(types.int64, 1, "C"), types.Array(types.float64, 1, "C")
_KINDS, _CODES = types.Array(types.int8, 1, "C"), types.Array(types.int32, 1, "C")


@njit(types.void(_U, _C, _U, _C, _INTS, _FLOATS, _KINDS, _CODES), cache=True, nogil=True)
def read_names(
    text: Bytes, ends: Codes, families: Bytes, family_ends: Codes, expiry: Ints, strike: Floats, right: Kinds, family: Codes
) -> None:
    """Expiry (microseconds), strike, right (0 C, 1 P) and family code of each plain name; `right` is `UNREAD` for the others.

    Args:
        text, ends: bytes of all names, and the offsets (names + 1,) that bound them; `families`, `family_ends` likewise.
        expiry, strike, right, family: (names,), filled in; a family that is none of `families` gets -2.
    """
    for n in range(right.size):
        right[n] = UNREAD
        first, last = ends[n], ends[n + 1]
        at = first
        plain, part, begun = True, 0, 0
        while at < last and text[at] != 45:  # the family, up to the dash
            c = text[at]
            if c == 95:  # a quote currency follows, letters only
                plain &= part == 0 and at > first
                part, begun = 1, at
            plain &= c == 95 or 65 <= c <= 90 or (48 <= c <= 57 and part == 0)
            at += 1
        plain &= part == 0 or at > begun + 1
        dash = at
        at += 1
        day, digits = 0, 0
        while at < last and digits < 2 and 48 <= text[at] <= 57:
            day, digits, at = day * 10 + (text[at] - 48), digits + 1, at + 1
        if not plain or dash == first or digits == 0 or at + 8 > last:
            continue
        month = -1
        for m in range(12):
            if text[at] == _MONTHS[3 * m] and text[at + 1] == _MONTHS[3 * m + 1] and text[at + 2] == _MONTHS[3 * m + 2]:
                month = m
        y1, y2 = text[at + 3] - 48, text[at + 4] - 48
        if month < 0 or not (0 <= y1 <= 9 and 0 <= y2 <= 9) or text[at + 5] != 45:
            continue
        year = 10 * y1 + y2
        leap = year % 4 == 0
        if day < 1 or day > _LENGTHS[month] + (1 if leap and month == 1 else 0):
            continue
        at += 6
        value, digits = 0, 0
        while at < last and 48 <= text[at] <= 57:
            value, digits, at = value * 10 + (text[at] - 48), digits + 1, at + 1
        if digits == 0 or digits > _LONGEST or value == 0 or at + 2 != last or text[at] != 45:
            continue
        if text[at + 1] != 67 and text[at + 1] != 80:
            continue
        days = _DAYS_TO_2000 + 365 * year + (year + 3) // 4 + _BEFORE[month] + (1 if leap and month > 1 else 0) + day - 1
        expiry[n], strike[n], right[n], family[n] = days * _DAY + _EIGHT, float(value), 0 if text[at + 1] == 67 else 1, -2
        for f in range(family_ends.size - 1):
            if family_ends[f + 1] - family_ends[f] == dash - first:
                same = True
                for j in range(dash - first):
                    same &= families[family_ends[f] + j] == text[first + j]
                if same:
                    family[n] = f
