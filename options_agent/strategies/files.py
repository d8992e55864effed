"""A strategy in a file of one's own: TOML, read strictly, and written from any strategy."""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args, get_type_hints

from options_agent.errors import OptionsAgentError, SettingsError
from options_agent.strategies.catalogue import CATALOGUE
from options_agent.strategies.rules import Strategy

if TYPE_CHECKING:
    from options_agent.settings import Settings

SUFFIX: Final = ".toml"
#: Names of reports are made of it, so it may not lead out of their folder.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


def find_strategy(name: str, settings: Settings) -> Strategy:
    """A strategy by its name in the catalogue or among one's own, or by the path of its file.

    Raises:
        SettingsError: there is none, or the file is not sound.
    """
    if name.endswith(SUFFIX):
        return strategy_from_file(Path(name))
    if name in CATALOGUE:
        return CATALOGUE[name]
    own, broken = own_strategies(settings)
    if name in own:
        return own[name]
    for path, error in broken.items():
        if path.stem == name:
            raise error
    known = [*CATALOGUE, *own]
    near = difflib.get_close_matches(name, known, 3)
    raise SettingsError(
        f"no strategy named {name!r}",
        remedy=f"{' or '.join(near) if near else 'one of ' + ', '.join(known)}; or the path of a file, *.toml",
    )


def all_strategies(settings: Settings) -> dict[str, Strategy]:
    """The catalogue and one's own sound files, by name; a file that is not sound is left out (`doctor` names it)."""
    return CATALOGUE | own_strategies(settings)[0]


def played_strategies(settings: Settings) -> dict[str, Strategy]:
    """What the orchestrator plays: those of `settings.strategies`, or all there are.

    Raises:
        SettingsError: one of those named is not there, or not sound.
    """
    return {name: find_strategy(name, settings) for name in settings.strategies} or all_strategies(settings)


def own_strategies(settings: Settings) -> tuple[dict[str, Strategy], dict[Path, SettingsError]]:
    """Strategies of `settings.own_strategies_dir` by name, and what is wrong with the other files there."""
    found: dict[str, Strategy] = {}
    broken: dict[Path, SettingsError] = {}
    folder = settings.own_strategies_dir
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
        try:
            own = strategy_from_file(path)
            if own.name in found:
                raise SettingsError(f"two files are named {own.name!r}", place=str(path), remedy="give one of them another name")
            found[own.name] = own
        except SettingsError as error:
            broken[path] = error
    return found, broken


def strategy_from_file(path: Path) -> Strategy:
    """The strategy of a TOML file; what is not in it has the rules' defaults.

    Raises:
        SettingsError: it cannot be read, lacks a field, has one that does not exist or is of another kind, takes a catalogue's name, or is
            not sound; with the file, the field and a remedy.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"the strategy cannot be read: {error.strerror or error}", place=str(path), remedy="check the path") from error
    except (ValueError, RecursionError) as error:  # TOML's own and Unicode's, too many digits, too deep
        raise SettingsError(f"not TOML: {error}", place=str(path), remedy="docs/strategies.md has a whole example") from error
    content.setdefault("family", content.get("name", ""))
    try:
        made: Strategy = _made(Strategy, content, "")
    except OptionsAgentError as error:
        raise SettingsError(error.message, place=f"{path}{': ' + error.place if error.place else ''}", remedy=error.remedy) from None
    if not _NAME.fullmatch(made.name):
        remedy = "letters, digits, _ and -, at most 80, the first a letter or digit"
        raise SettingsError(f"{made.name!r} cannot be a name", place=f"{path}: name", remedy=remedy)
    if made.name in CATALOGUE:
        raise SettingsError(f"the catalogue has a strategy {made.name!r}", place=f"{path}: name", remedy="give it a name of its own")
    return made


def strategy_to_toml(strategy: Strategy) -> str:
    """A file that reads back as the same strategy; fields at their defaults are left out."""
    lines: list[str] = []
    _write(strategy, [], lines)
    return "\n".join(lines).strip() + "\n"


def _made(kind: Any, content: Any, place: str) -> Any:
    """A dataclass of plain data, every field checked."""
    if not isinstance(content, dict):
        raise SettingsError(f"{place} is {content!r}, not a table", place=place, remedy=f"write it as [{place}]")
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    for name in content:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            remedy = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
            raise SettingsError(f"there is no field {name!r}", place=place or "the file", remedy=remedy)
    missing = [n for n, f in known.items() if n not in content and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise SettingsError(f"{', '.join(missing)} is missing", place=place or "the file", remedy="docs/strategies.md says what each means")
    return kind(**{name: _value(hints[name], value, f"{place}.{name}".lstrip(".")) for name, value in content.items()})


def _value(hint: Any, value: Any, place: str) -> Any:
    """A field's value as its annotation asks; optional fields have it in a union with None."""
    options = [option for option in get_args(hint) if option is not type(None)] if type(None) in get_args(hint) else [hint]
    (wanted,) = options
    if is_dataclass(wanted):
        return _made(wanted, value, place)
    arguments = get_args(wanted)
    if getattr(wanted, "__origin__", None) is tuple:
        if not isinstance(value, list):
            raise SettingsError(f"{value!r} is no list", place=place, remedy="put it into brackets")
        inner = arguments[0] if arguments[-1] is Ellipsis else None
        if inner is None and len(value) != len(arguments):
            raise SettingsError(f"{value!r} has {len(value)} parts, not {len(arguments)}", place=place, remedy="[level, factor]")
        return tuple(_value(inner or arguments[n], one, f"{place}[{n + 1}]") for n, one in enumerate(value))
    if arguments:  # a choice of words
        if value not in arguments:
            raise SettingsError(f"{value!r} is not known", place=place, remedy=f"one of {', '.join(map(str, arguments))}")
        return value
    if wanted is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    if isinstance(value, int) and abs(value) >= 2**53:
        raise SettingsError("the number is too large", place=place, remedy="a smaller one")
    if isinstance(value, float) and math.isnan(value):
        raise SettingsError("nan is no number", place=place, remedy="leave the field out for its default")
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise SettingsError(f"{value!r} is no {wanted.__name__}", place=place, remedy=f"a value of that kind: {wanted.__name__}")
    return value


def _write(item: Any, path: list[str], lines: list[str]) -> None:
    """A table's plain fields, then its tables, then its lists of tables, as TOML has them."""
    tables: list[tuple[str, Any]] = []
    for field in fields(item):
        value = getattr(item, field.name)
        default = field.default if field.default is not MISSING else field.default_factory() if callable(field.default_factory) else MISSING
        if value is None or value == default:
            continue
        if is_dataclass(value) or (isinstance(value, tuple) and value and is_dataclass(value[0])):
            tables.append((field.name, value))
        else:
            lines.append(f"{field.name} = {_literal(value)}")
    for name, value in tables:
        for one in value if isinstance(value, tuple) else (value,):
            bracket = "[[{}]]" if isinstance(value, tuple) else "[{}]"
            lines += ["", bracket.format(".".join([*path, name]))]
            _write(one, [*path, name], lines)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # the one character JSON has bare and TOML has not
    if isinstance(value, tuple):
        return f"[{', '.join(_literal(one) for one in value)}]"
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return repr(value)
