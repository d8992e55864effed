"""Instruments of the exchange: names, specifications, tick sizes and the expiry calendar.

Parsing and printing are exact inverses: `format_name(parse_name(x)) == x` for every canonical name. Prices,
sizes and fees of an account are not here (see `backtest.costs`).
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal

from options_agent.errors import DataError

Right = Literal["C", "P"]
Settlement = Literal["coin", "usdc"]

EXPIRY_TIME: Final = dt.time(8, 0, tzinfo=dt.UTC)
SECONDS_PER_YEAR: Final = 365.0 * 86_400.0
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DATE: Final = r"(?P<day>[0-9]{1,2})(?P<month>[A-Z]{3})(?P<year>[0-9]{2})"
_FAMILY: Final = r"(?P<family>[A-Z0-9]+(?:_[A-Z]+)?)"
_STRIKE: Final = r"[0-9]+(?:[dD][0-9]+)?"
_END: Final = r"[0-9]{1,2}[A-Z]{3}[0-9]{2}|PERP"
_OPTION: Final = re.compile(rf"{_FAMILY}-{_DATE}-(?P<strike>{_STRIKE})-(?P<right>[CP])")
_FUTURE: Final = re.compile(rf"(?P<synthetic>SYN\.)?{_FAMILY}-{_DATE}")
_PERPETUAL: Final = re.compile(rf"{_FAMILY}-PERPETUAL")
_COMBO: Final = re.compile(rf"{_FAMILY}-(?P<combo>[A-Z]+)-{_DATE}-(?P<strikes>{_STRIKE}(?:_{_STRIKE})*)")
_FUTURE_COMBO: Final = re.compile(rf"{_FAMILY}-FS-(?P<near>{_END})_(?P<far>{_END})")


@dataclass(frozen=True, slots=True)
class Option:
    """A listed option. `underlying` is the family in its name: BTC, ETH, BTC_USDC, XRP_USDC."""

    underlying: str
    expiry: dt.datetime
    strike: Decimal
    right: Right

    @property
    def settlement(self) -> Settlement:
        """`coin` for inverse families, `usdc` for linear ones."""
        return settlement_of(self.underlying)


@dataclass(frozen=True, slots=True)
class Future:
    """A dated future, or the exchange's synthetic forward of an expiry (`SYN.` names)."""

    underlying: str
    expiry: dt.datetime
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class Perpetual:
    """A perpetual future."""

    underlying: str


@dataclass(frozen=True, slots=True)
class Combo:
    """An option combo: its structure code (CS, PS, STRD, STRG, RR, ...), expiry and strikes."""

    underlying: str
    structure: str
    expiry: dt.datetime
    strikes: tuple[Decimal, ...]


@dataclass(frozen=True, slots=True)
class FutureSpread:
    """A future spread combo; an end is an expiry or None for the perpetual."""

    underlying: str
    near: dt.datetime | None
    far: dt.datetime | None


Instrument = Option | Future | Perpetual | Combo | FutureSpread


@lru_cache(maxsize=65_536)
def parse_name(name: str) -> Instrument:
    """Parse an exchange name. Upper-case decimal strikes (`0D625`) of some vendors are accepted.

    Raises:
        DataError: the name is none of the exchange's forms, its date does not exist, or its strike is nothing.
    """
    if m := _OPTION.fullmatch(name):
        return Option(
            m["family"], _expiry(m["day"], m["month"], m["year"], name), _strike(m["strike"], name), "C" if m["right"] == "C" else "P"
        )
    if m := _PERPETUAL.fullmatch(name):
        return Perpetual(m["family"])
    if m := _FUTURE.fullmatch(name):
        return Future(m["family"], _expiry(m["day"], m["month"], m["year"], name), m["synthetic"] is not None)
    if m := _FUTURE_COMBO.fullmatch(name):
        return FutureSpread(m["family"], _end(m["near"], name), _end(m["far"], name))
    if m := _COMBO.fullmatch(name):
        strikes = tuple(_strike(s, name) for s in m["strikes"].split("_"))
        return Combo(m["family"], m["combo"], _expiry(m["day"], m["month"], m["year"], name), strikes)
    raise DataError(
        f"{name!r} is not an instrument name of the exchange",
        remedy="expected forms: BTC-8DEC25-90000-C, XRP_USDC-30JUN23-0d625-C, BTC-26JUN26, SYN.BTC-7FEB25, BTC-PERPETUAL, "
        "BTC-CS-31MAR23-100000_200000",
    )


def parse_option(name: str) -> Option:
    """Parse a name that must be an option's.

    Raises:
        DataError: the name is malformed, or is that of another kind of instrument.
    """
    instrument = parse_name(name)
    if not isinstance(instrument, Option):
        raise DataError(f"{name!r} is a {type(instrument).__name__.lower()}, not an option", remedy="feed option names only")
    return instrument


def format_name(instrument: Instrument) -> str:
    """Print the canonical name: day not padded, decimal strikes with a lower-case `d`."""
    match instrument:
        case Option(underlying, expiry, strike, right):
            return f"{underlying}-{format_date(expiry)}-{format_strike(strike)}-{right}"
        case Future(underlying, expiry, synthetic):
            return f"{'SYN.' if synthetic else ''}{underlying}-{format_date(expiry)}"
        case Perpetual(underlying):
            return f"{underlying}-PERPETUAL"
        case Combo(underlying, structure, expiry, strikes):
            return f"{underlying}-{structure}-{format_date(expiry)}-{'_'.join(format_strike(s) for s in strikes)}"
        case FutureSpread(underlying, near, far):
            return f"{underlying}-FS-{format_date(near) if near else 'PERP'}_{format_date(far) if far else 'PERP'}"


def option_name(underlying: str, expiry: dt.datetime, strike: float | Decimal, right: Right) -> str:
    """Name of an option from its parts; `strike` in USD, a NumPy number as well.

    Raises:
        DataError: no option has such a strike (zero, negative, not finite).
    """
    exact = strike if isinstance(strike, Decimal) else Decimal(repr(float(strike)))
    if not (exact.is_finite() and exact > 0):
        raise DataError(f"no option of {underlying} has the strike {strike}", remedy="a strike is a finite USD price above zero")
    return format_name(Option(underlying, expiry, exact, right))


def format_date(expiry: dt.datetime) -> str:
    """`8DEC25`: the exchange's date, day not padded."""
    return f"{expiry.day}{_MONTHS[expiry.month - 1]}{expiry.year % 100:02d}"


def format_strike(strike: Decimal) -> str:
    """`90000`, `0d625`: no trailing zeros, `d` for the decimal point."""
    text = format(strike.normalize(), "f")
    return text.replace(".", "d")


def settlement_of(underlying: str) -> Settlement:
    """`usdc` for linear families (`XRP_USDC`), `coin` for inverse ones (`BTC`).

    Raises:
        DataError: the family settles in a currency this desk does not know.
    """
    _, _, quote = underlying.partition("_")
    if quote in ("USDC", "USDT"):
        return "usdc"
    if quote:
        raise DataError(f"family {underlying!r} settles in {quote}, which is not known here", remedy="use an inverse or a USDC family")
    return "coin"


def coin_of(underlying: str) -> str:
    """The coin of a family: BTC for BTC and BTC_USDC."""
    return underlying.partition("_")[0]


@dataclass(frozen=True, slots=True)
class Specification:
    """What one contract is. Sizes in coins; `tick_steps` are (price above which, tick) beside the base tick."""

    contract_size: float
    min_trade_amount: float
    tick: float
    tick_steps: tuple[tuple[float, float], ...] = ()


#: Inverse: from the exchange's instruments, tick 0.0001 up to 0.005 and 0.0005 above. Linear sizes are read from the API where it is.
_SPECIFICATIONS: Final[dict[str, Specification]] = {
    "BTC": Specification(1.0, 0.1, 0.0001, ((0.005, 0.0005),)),
    "ETH": Specification(1.0, 1.0, 0.0001, ((0.005, 0.0005),)),
    "BTC_USDC": Specification(0.01, 0.01, 5.0),
    "ETH_USDC": Specification(0.1, 0.1, 0.2),
    "SOL_USDC": Specification(10.0, 10.0, 0.05),
    "XRP_USDC": Specification(1_000.0, 1_000.0, 0.0005),  # all 2,062 quotes of two recorded days lie on it
}
COMBO_TICK: Final = 0.0001


def specification(underlying: str) -> Specification | None:
    """Contract specification of a family, or None where it is known to the exchange only."""
    return _SPECIFICATIONS.get(underlying)


def tick_at(underlying: str, price: float) -> float | None:
    """Tick size that applies at `price` (coin or USDC per contract), or None for families without a known one."""
    spec = specification(underlying)
    if spec is None:
        return None
    tick = spec.tick
    for above, step in spec.tick_steps:
        if price > above:
            tick = step
    return tick


def years_to_expiry(expiry: dt.datetime, at: dt.datetime) -> float:
    """Time to expiry in years of 365 x 86,400 seconds, the exchange's convention; 0 when past."""
    return max((expiry - at).total_seconds(), 0.0) / SECONDS_PER_YEAR


@dataclass(frozen=True, slots=True)
class ListingRule:
    """How many expiries of each kind are open at once (counted on real chains of 2026)."""

    dailies: int = 4
    weeklies: int = 3
    monthlies: int = 3
    quarterlies: int = 4


def listed_expiries(at: dt.datetime, rule: ListingRule | None = None) -> tuple[dt.datetime, ...]:
    """Expiries open for trading at `at`, ascending: next days, Fridays, last Fridays of months and quarters.

    An expiry at 08:00 is listed until that instant.
    """
    rule = rule or ListingRule()
    if at.tzinfo is None:
        raise DataError("listing calendar asked with a naive time", remedy="pass a UTC-aware datetime")
    first = at.astimezone(dt.UTC).date()
    if at >= dt.datetime.combine(first, EXPIRY_TIME):
        first += dt.timedelta(days=1)
    dates = {first + dt.timedelta(days=n) for n in range(rule.dailies)}
    friday = first + dt.timedelta(days=(4 - first.weekday()) % 7)
    if friday == first:  # a Friday within a day is counted among the dailies
        friday += dt.timedelta(days=7)
    dates.update(friday + dt.timedelta(days=7 * n) for n in range(rule.weeklies))
    # a month's end within a day is counted among the dailies: the exchange has opened the following one by then
    months = [d for n in range(3 * rule.quarterlies + 4) if (d := _last_friday(first.year, first.month + n)) > first]
    dates.update(months[: rule.monthlies])
    dates.update([d for d in months if d.month % 3 == 0][: rule.quarterlies])
    return tuple(dt.datetime.combine(d, EXPIRY_TIME) for d in sorted(dates))


#: What real chains kept to, from when on, and nothing is known of earlier: three dailies on 13 days by the hour from 2024-05-01 to
#: 2025-06-02, four at 481 times from 2025-12-30 and on 2025-12-11; no other difference, in either direction. In between, the fewer.
LISTING_RULES: Final = ((dt.date(2024, 5, 1), ListingRule(dailies=3)), (dt.date(2025, 12, 11), ListingRule()))
_LISTED_LIKE_THAT: Final = ("BTC", "ETH")
_LISTING_TAKES: Final = dt.timedelta(hours=1)


def expected_expiries(underlying: str, at: dt.datetime) -> tuple[dt.datetime, ...]:
    """Expiries that must have been open at `at` and an hour before (a new one takes minutes to appear), ascending.

    Empty for families and times whose listing rule is not known.
    """
    rules = [rule for begins, rule in LISTING_RULES if begins <= at.astimezone(dt.UTC).date()]
    if underlying not in _LISTED_LIKE_THAT or not rules:
        return ()
    before = set(listed_expiries(at - _LISTING_TAKES, rules[-1]))
    return tuple(expiry for expiry in listed_expiries(at, rules[-1]) if expiry in before)


def expiry_kind(expiry: dt.datetime) -> Literal["daily", "weekly", "monthly", "quarterly"]:
    """Which listing an expiry belongs to; decides delivery fees (dailies deliver free)."""
    date = expiry.date()
    if date.weekday() != 4:
        return "daily"
    if date != _last_friday(date.year, date.month):
        return "weekly"
    return "quarterly" if date.month % 3 == 0 else "monthly"


def _last_friday(year: int, month: int) -> dt.date:
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    following = dt.date(year + month // 12, month % 12 + 1, 1)
    last = following - dt.timedelta(days=1)
    return last - dt.timedelta(days=(last.weekday() - 4) % 7)


def _expiry(day: str, month: str, year: str, name: str) -> dt.datetime:
    try:
        return dt.datetime.combine(dt.date(2000 + int(year), _MONTHS.index(month) + 1, int(day)), EXPIRY_TIME)
    except ValueError:
        raise DataError(f"{name!r} names a date that does not exist", remedy="expected DMMMYY, for instance 8DEC25") from None


def _strike(text: str, name: str) -> Decimal:
    strike = Decimal(text.replace("d", ".").replace("D", "."))
    if not strike:
        raise DataError(f"{name!r} has a strike of zero", remedy="a strike is a USD price above zero")
    return strike


def _end(text: str, name: str) -> dt.datetime | None:
    if text == "PERP":
        return None
    return _expiry(text[:-5], text[-5:-2], text[-2:], name)
