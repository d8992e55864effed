"""Fee tables as TOML: the versions shipped with the package and a user's own, read and checked alike.

What the figures mean is documented at `FeeVersion` and in docs/costs.md. Arrays for the engine are made in `costs`.
"""

from __future__ import annotations

import datetime as dt
import math
import tomllib
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from options_agent.errors import SettingsError

#: Shipped tables, one file a schedule: its name is the schedule's.
FOLDER: Final = Path(__file__).resolve().parent / "fees"
SETTING: Final = "OPTIONS_AGENT_BACKTEST__FEE_SCHEDULE"
#: No exchange charges more than this share of a coin: a larger figure is a percentage written where a decimal belongs.
HIGHEST_RATE: Final = 0.05


@dataclass(frozen=True, slots=True)
class FeeVersion:
    """Fees in force from 00:00 UTC of a day on. All figures are decimals (0.0003 is 0.03 %).

    Attributes:
        effective_from: the first day.
        option_taker, option_maker: inverse options, coin per contract of one coin; at most `option_cap` of the option's price.
        linear_taker, linear_maker: USDC options, share of the index per coin of contract; at most `linear_cap` of the price.
        combo_discount: whether of a structure's buys and sells the side with the smaller fees is free.
        delivery: inverse options in the money at expiry, coin per contract; at most `delivery_cap` of the payoff. Dailies free.
        linear_delivery: USDC options, share of the delivery price per coin; at most `linear_delivery_cap` of the payoff. Dailies free.
        perpetual_taker, perpetual_maker, future_taker, future_maker: share of the coins traded; a negative maker fee is a rebate.
        option_liquidation, future_liquidation: share of the coins a liquidation closes, as the exchange states it.
        source: where the figures are from.
        unsettled: names of figures above that lack a source of their own, or whose sources contradict each other.
    """

    effective_from: dt.date
    option_taker: float
    option_maker: float
    option_cap: float
    linear_taker: float
    linear_maker: float
    linear_cap: float
    combo_discount: bool
    delivery: float
    delivery_cap: float
    linear_delivery: float
    linear_delivery_cap: float
    perpetual_taker: float
    perpetual_maker: float
    future_taker: float
    future_maker: float
    option_liquidation: float
    future_liquidation: float
    source: str
    unsettled: tuple[str, ...] = ()


_NAMES: Final = tuple(field.name for field in fields(FeeVersion))
_REBATES: Final = {"perpetual_maker": "perpetual_taker", "future_maker": "future_taker"}
#: The figures: every field but the day, the switch and the words.
FIGURES: Final = tuple(name for name in _NAMES if name not in {"effective_from", "combo_discount", "source", "unsettled"})


def shipped() -> tuple[str, ...]:
    """Names of the schedules that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def table_path(name: str) -> Path:
    """The file a schedule's name or path means: a path where it ends in `.toml` or holds a separator.

    Raises:
        SettingsError: no shipped schedule has the name.
    """
    if name.endswith(".toml") or "/" in name or "\\" in name:
        return Path(name).expanduser()
    if name not in shipped():
        raise SettingsError(
            f"no fee schedule named {name!r}", place=SETTING, remedy=f"one of {', '.join(shipped())}, or the path of a .toml file"
        )
    return FOLDER / f"{name}.toml"


def read_schedule(name: str) -> tuple[FeeVersion, ...]:
    """The versions of a shipped schedule or of a user's file, by day ascending.

    Raises:
        SettingsError: unknown name; a file that cannot be read or is no TOML; a version with a missing, unknown, mistyped,
            negative or too large figure; days that repeat or are out of order. Says the file and the version.
    """
    path = table_path(name)
    return _shipped_versions(path) if path.parent == FOLDER else read_table(path)


def read_table(path: Path) -> tuple[FeeVersion, ...]:
    """The versions of one file; see `read_schedule`."""
    remedy = f"mend the file that {SETTING} names; `options-agent fees deribit --toml` prints a whole one"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"the fee table cannot be read: {reason}", place=str(path), remedy=f"check the path in {SETTING}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the fee table is not TOML: {error}", place=str(path), remedy=remedy) from error
    rows = table.get("version")
    unknown = sorted(set(table) - {"version"})
    if unknown or not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        wrong = f"unknown key {unknown[0]!r}" if unknown else "no [[version]]"
        raise SettingsError(f"the fee table has {wrong}", place=str(path), remedy=remedy)
    versions: list[FeeVersion] = []
    for number, row in enumerate(rows, start=1):
        defect = _defect(row) or (_disorder(versions[-1], row["effective_from"]) if versions else None)
        if defect:
            raise SettingsError(defect, place=f"{path}, version {number}", remedy=remedy)
        versions.append(FeeVersion(**{name: _typed(name, value) for name, value in row.items()}))
    return tuple(versions)


@lru_cache(maxsize=16)
def _shipped_versions(path: Path) -> tuple[FeeVersion, ...]:
    return read_table(path)


def _defect(row: dict[str, Any]) -> str | None:
    """What is wrong with one version, or None."""
    missing = [name for name in _NAMES if name not in row and name != "unsettled"]
    if missing:
        return f"{', '.join(missing)} missing"
    unknown = sorted(set(row) - set(_NAMES))
    if unknown:
        return f"unknown key {unknown[0]!r}"
    if type(row["effective_from"]) is not dt.date:
        return f"effective_from = {row['effective_from']!r} is no date such as 2026-08-01, without quotes"
    if type(row["combo_discount"]) is not bool:
        return f"combo_discount = {row['combo_discount']!r} is neither true nor false"
    if not isinstance(row["source"], str) or not row["source"].strip():
        return "source is empty: say where the figures are from"
    unsettled = row.get("unsettled", [])
    if not isinstance(unsettled, list) or not all(name in (*FIGURES, "effective_from", "combo_discount") for name in unsettled):
        return f"unsettled = {unsettled!r} is no list of this table's figures"
    return next((defect for name in FIGURES if (defect := _figure_defect(name, row[name], row))), None)


def _figure_defect(name: str, value: Any, row: dict[str, Any]) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return f"{name} = {value!r} is no number"
    taker = _REBATES.get(name)
    if value < 0 and taker is None:
        return f"{name} = {value} is negative: only perpetual_maker and future_maker may be, a rebate"
    if taker is not None and isinstance(row[taker], int | float) and value < -row[taker]:
        return f"{name} = {value} pays more than {taker} = {row[taker]} takes in"
    if name.endswith("cap"):
        return f"{name} = {value} is above 1: a cap is a share of the price, 0.125 for 12.5 %" if value > 1 else None
    return f"{name} = {value} is above {HIGHEST_RATE}: figures are decimals, 0.0003 for 0.03 %" if value > HIGHEST_RATE else None


def _disorder(before: FeeVersion, day: dt.date) -> str | None:
    if day == before.effective_from:
        return f"effective_from = {day} is that of the version before as well"
    return f"effective_from = {day} is before that of the version before, {before.effective_from}" if day < before.effective_from else None


def _typed(name: str, value: Any) -> Any:
    if name == "unsettled":
        return tuple(value)
    return float(value) if name in FIGURES else value
