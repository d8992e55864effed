"""What a comparison declares before it begins: arms, metric, effect, errors, time; written once and known by its hash."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.durable import write_text
from options_agent.errors import SettingsError
from options_agent.journal.entries import journal_path

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from options_agent.settings import Settings

METRICS: Final = ("equity_coin", "equity_usd")


@dataclass(frozen=True, slots=True)
class Arm:
    """One book. `book` names its journal; `what` says what is different about it (a strategy, a prompt version)."""

    name: str
    book: str
    what: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A declared test; the first arm is the control that each other one is compared with, day by day.

    Attributes:
        metric: whose daily returns are compared.
        shadow_start, start: the variance is measured in [shadow_start, start), the test begins at `start`, UTC midnight.
        effect: difference of the daily mean that one hopes to see, decimal; decides how the test spends its patience.
        alpha: of all comparisons together; several arms share it (Bonferroni).
        least_days, most_days: no verdict before, and none but futility at the end.
    """

    name: str
    arms: tuple[Arm, ...]
    shadow_start: dt.date
    start: dt.date
    metric: str = "equity_coin"
    effect: float = 0.001
    alpha: float = 0.05
    least_days: int = 14
    most_days: int = 180

    def __post_init__(self) -> None:
        problems = []
        if len(self.arms) < 2 or len({a.name for a in self.arms}) < len(self.arms) or len({a.book for a in self.arms}) < len(self.arms):
            problems.append("two arms at least, each with a name and a book of its own")
        if self.metric not in METRICS:
            problems.append(f"metric is one of {', '.join(METRICS)}")
        if not self.shadow_start < self.start:
            problems.append("the shadow period lies before the start")
        if not (0 < self.alpha < 0.5 and self.effect > 0 and 1 <= self.least_days <= self.most_days):
            problems.append("alpha between 0 and 0.5, effect above 0, least_days at most most_days")
        if problems:
            raise SettingsError(f"comparison {self.name!r} cannot be declared: {'; '.join(problems)}", remedy="correct the declaration")

    @property
    def sha256(self) -> str:
        """Identity of everything declared."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, default=str).encode()).hexdigest()

    @property
    def alpha_each(self) -> float:
        """Share of alpha of one arm's comparison with the control."""
        return self.alpha / (len(self.arms) - 1)


def declare(comparison: Comparison, settings: Settings) -> Path:
    """Write a declaration, once.

    Raises:
        SettingsError: the name is taken by another declaration.
        DataError: a book's name cannot be a file's.
    """
    import tomlkit

    for arm in comparison.arms:
        journal_path(settings, arm.book)
    path = folder_of(comparison.name, settings) / "declaration.toml"
    if path.exists():
        if load(comparison.name, settings) != comparison:
            raise SettingsError(
                f"comparison {comparison.name!r} is declared otherwise", place=str(path), remedy="it stands: take another name"
            )
        return path
    write_text(path, tomlkit.dumps(asdict(comparison) | {"arms": [asdict(a) for a in comparison.arms]}))
    return path


def load(name: str, settings: Settings) -> Comparison:
    """Read a declaration.

    Raises:
        SettingsError: there is none, or it cannot be read.
    """
    path = folder_of(name, settings) / "declaration.toml"
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        arms = tuple(Arm(**arm) for arm in content.pop("arms"))
        return Comparison(arms=arms, **content)
    except FileNotFoundError:
        there = ", ".join(comparisons(settings)) or "none yet"
        raise SettingsError(
            f"no comparison is called {name!r}", place=str(path), remedy=f"`options-agent ab new`; there are: {there}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"the declaration cannot be read: {error}", place=str(path), remedy="restore it") from None


def comparisons(settings: Settings) -> list[str]:
    """Names of the declared comparisons of this network."""
    return sorted(path.parent.name for path in (settings.home / "ab" / settings.network).glob("*/declaration.toml"))


def folder_of(name: str, settings: Settings) -> Path:
    """Where a comparison's files lie.

    Raises:
        SettingsError: the name cannot be a folder's.
    """
    if not name or not all(c.isalnum() or c in "-_" for c in name):
        raise SettingsError(f"{name!r} cannot be a name", remedy="letters, digits, - and _")
    return settings.home / "ab" / settings.network / name
