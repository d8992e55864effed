"""Names read in bytes say what `contracts.parse_option` says of them, and are left to it where they are out of the ordinary."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.contracts import parse_option
from options_agent.errors import DataError
from options_agent.quality.name_kernel import UNREAD, read_names

FAMILIES = ("BTC", "ETH", "BTC_USDC", "XRP_USDC", "A_B_C", "btc", "_X", "X_", "", "BTC_US1", "9")
DATES = (
    "8DEC25",
    "08DEC25",
    "31DEC25",
    "29FEB24",
    "29FEB25",
    "30FEB24",
    "0JAN26",
    "32JAN26",
    "1JAN00",
    "1MAR00",
    "31DEC99",
    "8DEX25",
    "DEC25",
)
STRIKES = ("90000", "0", "00", "0625", "0d625", "0D625", "1.5", "", "123456789012345", "1234567890123456", "-5", "٣")
RIGHTS = ("C", "P", "c", "X", "", "CC", "C ", "-C")


def both(names: list[str], families: list[str]) -> tuple[list[object], list[object]]:
    """What the kernel says of names it reads, and what the parser says of the same ones."""

    def packed(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        raw = [text.encode() for text in texts]
        return np.frombuffer(b"".join(raw) or b"\0", np.uint8), np.cumsum([0, *map(len, raw)]).astype(np.int32)

    count = len(names)
    expiry, strike = np.zeros(count, np.int64), np.zeros(count)
    right, family = np.zeros(count, np.int8), np.zeros(count, np.int32)
    read_names(*packed(names), *packed(families), expiry, strike, right, family)
    ours: list[object] = []
    theirs: list[object] = []
    for n, name in enumerate(names):
        if right[n] == UNREAD:
            continue
        ours.append((name, int(expiry[n]), float(strike[n]), "CP"[right[n]], int(family[n])))
        try:
            option = parse_option(name)
        except DataError as error:
            theirs.append((name, str(error)))
            continue
        of = families.index(option.underlying) if option.underlying in families else -2
        theirs.append((name, int(option.expiry.timestamp()) * 1_000_000, float(option.strike), option.right, of))
    return ours, theirs


@hypothesis_settings(max_examples=300)
@given(
    st.lists(st.tuples(*map(st.sampled_from, (FAMILIES, DATES, STRIKES, RIGHTS))), max_size=8),
    st.lists(st.sampled_from(FAMILIES), unique=True),
)
def test_what_is_read_is_what_the_parser_says(parts: list[tuple[str, ...]], families: list[str]) -> None:
    ours, theirs = both(["-".join(part) for part in parts], families)
    assert ours == theirs


@hypothesis_settings(max_examples=200)
@given(st.lists(st.text(max_size=24)))
def test_any_text_is_read_like_the_parser_or_not_at_all(names: list[str]) -> None:
    ours, theirs = both(names, ["BTC"])
    assert ours == theirs


def test_plain_names_of_every_day_are_read() -> None:
    names = [
        f"{family}-{day}{month}{year:02}-{strike}-{right}"
        for family in ("BTC", "BTC_USDC")
        for day in (1, 15, 28)
        for month in ("JAN", "FEB", "MAR", "DEC")
        for year in (0, 19, 24, 25, 99)
        for strike in (1, 90_000)
        for right in "CP"
    ]
    ours, theirs = both(names, ["BTC", "BTC_USDC"])
    assert len(ours) == len(names)
    assert ours == theirs
