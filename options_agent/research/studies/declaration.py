"""What a study declares before its first trial: space, time, objectives, proposers, budgets; written once and known by its hash."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.durable import plain_json, write_text
from options_agent.errors import SettingsError
from options_agent.research.studies.space import Parameter, SearchSpace
from options_agent.research.studies.splits import Splits, longest_life_days, split

if TYPE_CHECKING:
    from pathlib import Path

    from options_agent.settings import Settings
    from options_agent.strategies.rules import Strategy

PROPOSERS: Final = ("random", "tpe", "model", "placebo", "best_fixed")
_NAMED: Final = "abcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclass(frozen=True, slots=True)
class Study:
    """A declaration.

    Attributes:
        strategy: of the catalogue or a file; `rules_sha256` is of its rules and `costs_sha256` of capital and costs, when declared.
        objectives: numbers of a sweep's summary with `max` or `min`; the first is what the holdout is asked about.
        start, end: days, both inclusive; cut by `train_share`, `validation_share` and the embargo.
        proposers: who proposes, each with as many trials.
        trials: of each proposer. batch: proposals asked for at once.
        seconds, usd: budgets of all of a run; None: none.
        pass_odds: odds that the true Sharpe ratio on the holdout is above 0 which `open-holdout` asks for.
    """

    name: str
    strategy: str
    rules_sha256: str
    costs_sha256: str
    underlying: str
    space: SearchSpace
    start: dt.date
    end: dt.date
    embargo_days: int
    train_share: float = 0.5
    validation_share: float = 0.25
    objectives: tuple[tuple[str, str], ...] = (("sharpe_coin", "max"),)
    proposers: tuple[str, ...] = ("random", "tpe", "model")
    trials: int = 100
    batch: int = 10
    seconds: float | None = None
    usd: float | None = 1.0
    seed: int = 0
    pass_odds: float = 0.9

    def __post_init__(self) -> None:
        from options_agent.backtest.sweep_summary import SUMMARY

        problems = []
        if not self.name or set(self.name) - set(_NAMED):
            problems.append("a name is of lower-case letters, digits, - and _")
        if unknown := [n for n, way in self.objectives if n not in SUMMARY or way not in {"max", "min"}]:
            problems.append(f"no objective {', '.join(unknown)}; there are {', '.join(SUMMARY)}, with max or min")
        if not self.objectives or not self.proposers or len(set(self.proposers)) != len(self.proposers):
            problems.append("one objective and one proposer at least, each once")
        if strange := [p for p in self.proposers if p not in PROPOSERS]:
            problems.append(f"no proposer {', '.join(strange)}; there are {', '.join(PROPOSERS)}")
        if self.trials < 1 or self.batch < 1 or not 0.5 < self.pass_odds < 1:
            problems.append("trials and batch are at least 1, pass_odds between 0.5 and 1")
        if problems:
            raise SettingsError(f"study {self.name!r} cannot be declared: {'; '.join(problems)}", remedy="correct the declaration")

    @property
    def sha256(self) -> str:
        """Identity of everything declared."""
        return hashlib.sha256(json.dumps(_plain(self), sort_keys=True).encode()).hexdigest()

    @property
    def splits(self) -> Splits:
        """The parts of its time."""
        return split(self.start, self.end, self.embargo_days, train_share=self.train_share, validation_share=self.validation_share)


def declare(study: Study, strategy: Strategy, settings: Settings) -> Path:
    """Write a declaration, once.

    Raises:
        SettingsError: the embargo is shorter than a trade can live, a parameter changes no field, or the name is taken.
    """
    from options_agent.backtest.grid import configurations

    life = longest_life_days(strategy, study.space)
    if study.embargo_days < life:
        raise SettingsError(
            f"an embargo of {study.embargo_days} days is shorter than the {life} a trade of this space can live", remedy="a longer embargo"
        )
    first = {p.name: [p.values[0] if p.kind == "choice" else p.low] for p in study.space.parameters}
    for name, values in first.items():  # a field that is not there says so now
        configurations(strategy, settings.backtest, {name: values})
    _ = study.splits
    path = folder_of(study.name, settings) / "declaration.toml"
    if path.exists():
        if load(study.name, settings) != study:
            raise SettingsError(
                f"study {study.name!r} is declared otherwise", place=str(path), remedy="a declaration stands: take another name"
            )
        return path
    import tomlkit

    write_text(path, tomlkit.dumps(_without_none(_plain(study))))
    return path


def load(name: str, settings: Settings) -> Study:
    """Read a declaration.

    Raises:
        SettingsError: there is none, or it cannot be read.
    """
    path = folder_of(name, settings) / "declaration.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        rows = content.pop("space")["parameters"]
        space = SearchSpace(tuple(Parameter(**_parameter(row)) for row in rows))
        content |= {n: dt.date.fromisoformat(str(content[n])) for n in ("start", "end")}
        content["objectives"] = tuple((n, w) for n, w in content["objectives"])
        content["proposers"] = tuple(content["proposers"])
        absent: dict[str, Any] = {"seconds": None, "usd": None}
        return Study(space=space, **(absent | content))
    except FileNotFoundError:
        there = ", ".join(studies(settings)) or "none yet"
        raise SettingsError(
            f"no study is called {name!r}", place=str(path), remedy=f"`options-agent study new`; there are: {there}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"the declaration cannot be read: {error}", place=str(path), remedy="restore it") from None


def studies(settings: Settings) -> list[str]:
    """Names of the declared studies of this network."""
    return sorted(path.parent.name for path in (settings.home / "studies" / settings.network).glob("*/declaration.toml"))


def folder_of(name: str, settings: Settings) -> Path:
    """Where a study's files lie."""
    return settings.home / "studies" / settings.network / name


def rules_sha256(strategy: Strategy) -> str:
    """Identity of a strategy's rules."""
    return hashlib.sha256(json.dumps(strategy.as_dict(), sort_keys=True).encode()).hexdigest()


def costs_sha256(settings: Settings) -> str:
    """Identity of capital and costs."""
    return hashlib.sha256(settings.backtest.model_dump_json().encode()).hexdigest()


def space_about(strategy: Strategy) -> SearchSpace:
    """The space between the ends of the default grid: how far out, how long, when to take profit and when to stop."""
    from options_agent.backtest.grid import default_grid

    found = []
    for name, values in default_grid(strategy).items():
        if len(values) < 2:
            continue
        numbers = [float(v) for v in values if v is not None]
        if None in values:
            found.append(Parameter(name, "choice", values=tuple(values)))
        else:
            found.append(Parameter(name, "float", min(numbers), max(numbers), round((max(numbers) - min(numbers)) / 20, 6)))
    return SearchSpace(tuple(found))


#: TOML has no null: a choice that is off.
_OFF: Final = "off"


def _plain(study: Study) -> dict[str, Any]:
    content: dict[str, Any] = plain_json(asdict(study) | {"start": study.start.isoformat(), "end": study.end.isoformat()})
    return content


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_OFF if v is None else _without_none(v) for v in value]
    return value


def _parameter(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"values": tuple(None if v == _OFF else v for v in row.get("values", ()))}
