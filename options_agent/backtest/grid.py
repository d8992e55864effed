"""A grid of configurations: fields of a strategy and of the costs, each with the values to try."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from options_agent.settings import BacktestSettings
    from options_agent.strategies.rules import Strategy

COSTS: Final = "costs."
#: Days to expiry: the target, and a range about it.
DAYS: Final = "entry.days"
DAYS_AROUND: Final = {"min": 0.6, "target": 1.0, "max": 1.6}
#: `legs.sold.target`: of every sold leg that is chosen by delta.
SOLD: Final = "sold"
_OFF: Final = ("none", "off", "null")


class UnknownFieldError(SettingsError):
    """A grid names a field that a strategy or the settings do not have."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One point of a grid: what was set, and the strategy and settings that makes."""

    values: tuple[Any, ...]
    strategy: Strategy
    settings: BacktestSettings


@dataclass(frozen=True, slots=True)
class Configurations:
    """The points of a grid that are sound, in the order of the product (the last field turns fastest).

    Attributes:
        names: fields, as the grid named them.
        points: sound ones.
        unsound: values of points that a strategy refuses (a minimum above its maximum), and why.
    """

    names: tuple[str, ...]
    points: tuple[Configuration, ...]
    unsound: tuple[tuple[tuple[Any, ...], str], ...]


def configurations(strategy: Strategy, settings: BacktestSettings, grid: Mapping[str, Sequence[Any]]) -> Configurations:
    """Every combination of the grid's values.

    Args:
        strategy, settings: what is not in the grid.
        grid: by field: `legs.0.target`, `legs.sold.target`, `entry.days`, `exit.take_profit`, `filters.min_premium`, `share`, ...;
            or `costs.crossing` and other fields of the backtest settings.

    Raises:
        SettingsError: an unknown field, a field without values, or no sound point at all.
    """
    names = tuple(grid)
    for name, values in grid.items():
        if not list(values):
            raise SettingsError(f"the grid has no value for {name}", remedy="give one at least")
    points, unsound = [], []
    for values in itertools.product(*grid.values()):
        changed, costs = strategy, {}
        try:
            for name, value in zip(names, values, strict=True):
                if name.startswith(COSTS):
                    costs[name.removeprefix(COSTS)] = value
            # all at once: two fields may only be sound together
            rules = [rule for n, v in zip(names, values, strict=True) if not n.startswith(COSTS) for rule in _rules(n, v)]
            changed = _replaced(strategy, rules)
        except SettingsError as error:
            if isinstance(error, UnknownFieldError):
                raise
            unsound.append((values, error.message))
            continue
        points.append(Configuration(values, changed, _with_costs(settings, costs)))
    if not points:
        raise SettingsError(
            f"none of the {len(unsound)} points of the grid is a sound strategy: {unsound[0][1]}", remedy="change the grid's ranges"
        )
    return Configurations(names, tuple(points), tuple(unsound))


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """A grid from words: `exit.take_profit=0.25,0.5,off` or `legs.0.target=0.1:0.4:0.05` (from, to inclusive, step).

    Raises:
        SettingsError: a word that is neither, or a field given twice.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name or not values:
            raise SettingsError(f"{text!r} is no part of a grid", remedy="field=value,value or field=from:to:step")
        if name in grid:
            raise SettingsError(f"{name} stands twice in the grid", remedy="put its values into one")
        grid[name] = [value for part in values.split(",") for value in _values(part, text)]
    return grid


def _values(part: str, text: str) -> list[Any]:
    ends = part.split(":")
    try:
        if len(ends) == 1:
            return [None] if part.lower() in _OFF else [_number(part)]
        first, last, step = (float(end) for end in ends)
        if step <= 0 or last < first:
            raise ValueError("the step is positive and the end not before the start")
        found = [round(first + n * step, 12) for n in range(int((last - first) / step + 1e-9) + 1)]
    except ValueError as error:
        raise SettingsError(f"{part!r} is no value of a grid: {error}", place=text, remedy="a number, `off`, or from:to:step") from None
    return [int(v) if v == int(v) and all("." not in end for end in ends) else v for v in found]


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text  # a word: `coin`, `maker`


def _rules(name: str, value: Any) -> list[tuple[list[str], Any]]:
    """Paths and values that a field of the grid sets."""
    if name == DAYS and isinstance(value, (int, float)):
        return [(["entry", f"dte_{which}"], round(value * share, 4)) for which, share in DAYS_AROUND.items()]
    return [(name.split("."), value)]


def _replaced(target: Any, rules: list[tuple[list[str], Any]]) -> Any:
    """A dataclass or tuple with the fields at these paths set, all at once."""
    if isinstance(target, tuple):
        out = list(target)
        rules = [(path, value) for path, value in rules if path[0] != SOLD] + [
            ([str(n), *path[1:]], value)
            for path, value in rules
            if path[0] == SOLD
            for n, leg in enumerate(target)
            if getattr(leg, "side", "") == "sell" and leg.by == "delta"
        ]
        for place in dict.fromkeys(path[0] for path, _ in rules):
            if not place.isdigit() or int(place) >= len(out):
                raise UnknownFieldError(f"there is no field {place} among {len(out)} parts", remedy=f"0 to {len(out) - 1}")
            own = [(path[1:], value) for path, value in rules if path[0] == place]
            out[int(place)] = own[-1][1] if not own[-1][0] else _replaced(out[int(place)], own)
        return tuple(out)
    if not dataclasses.is_dataclass(target) or isinstance(target, type):
        raise UnknownFieldError(
            f"there is no field {'.'.join(rules[0][0])} in {target!r}", remedy="set the whole of it in the strategy first (a roll, a hedge)"
        )
    known = {f.name for f in dataclasses.fields(target)}
    changes: dict[str, Any] = {}
    for name in dict.fromkeys(path[0] for path, _ in rules):
        if name not in known:
            raise UnknownFieldError(f"there is no field {name!r} in {type(target).__name__}", remedy=f"one of {', '.join(sorted(known))}")
        own = [(path[1:], value) for path, value in rules if path[0] == name]
        changes[name] = own[-1][1] if not own[-1][0] else _replaced(getattr(target, name), own)
    return dataclasses.replace(target, **changes)


def _with_costs(settings: BacktestSettings, costs: dict[str, Any]) -> BacktestSettings:
    if not costs:
        return settings
    unknown = costs.keys() - type(settings).model_fields.keys()
    if unknown:
        raise UnknownFieldError(f"there is no field {', '.join(sorted(unknown))} in the backtest settings", remedy="see docs/backtest.md")
    from pydantic import ValidationError

    try:
        return type(settings).model_validate(settings.model_dump() | costs)
    except ValidationError as error:
        raise SettingsError(f"costs of the grid are not usable: {error}", remedy="correct the values") from None


def default_grid(strategy: Strategy) -> dict[str, list[Any]]:
    """Up to a thousand configurations about a strategy's own: how far out, how long, when to take profit and when to stop."""
    entry, exits = strategy.entry, strategy.exit
    days = [round(entry.dte_target * share, 2) for share in (0.5, 0.75, 1.0, 1.5, 2.5)]
    sold = [leg.target for leg in strategy.legs if leg.side == "sell" and leg.by == "delta"]
    grid: dict[str, list[Any]] = {}
    if sold:
        grid["legs.sold.target"] = [round(sold[0] * (0.4 + 0.12 * n), 4) for n in range(10)]
    grid[DAYS] = list(days)
    grid["exit.take_profit"] = [0.25, 0.4, 0.5, 0.75, None]
    grid["exit.stop_loss"] = [1.0, 2.0, 3.0, None] if exits.roll is None else [exits.stop_loss]
    return grid
