"""A study's leaderboard: raw beside corrected, the number of looks first, and in words what may be said. As rows, Markdown and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from options_agent.research.studies.verdict import TrialVerdict, Verdict

_TEMPLATE: Final = Path(__file__).parent / "templates" / "leaderboard.html.j2"
MOST: Final = 20
COLUMNS: Final = ("trial", "proposer", "Sharpe, raw", "one look", "all looks", "p, all looks", "values", "hypothesis", "status")
#: What the columns of numbers mean, for a reader who sees them for the first time.
MEANINGS: Final = (
    ("Sharpe, raw", "annualised, of daily returns in coin, before any correction"),
    ("one look", "probability that the true Sharpe ratio is above 0, had this been the only trial (probabilistic Sharpe ratio)"),
    ("all looks", "probability that it is above what luck gives the best of all looks (deflated Sharpe ratio); looks count as independent"),
    (
        "p, all looks",
        "how often luck alone would make one of all looks as good (Romano-Wolf); at most the level to be called better than nothing",
    ),
)


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """All texts, ready to be laid out.

    Attributes:
        title: the study.
        looks: how many were tried; it stands before everything else.
        discovered, words: the verdict and what it allows to say.
        study: (what, figure, meaning) of the whole study.
        rows: texts by `COLUMNS`, best raw Sharpe ratio first.
        left_out: trials that are not shown.
    """

    title: str
    looks: str
    discovered: bool
    words: str
    study: tuple[tuple[str, str, str], ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int


def leaderboard(verdict: Verdict, *, title: str, described: Mapping[int, Mapping[str, Any]] | None = None, most: int = MOST) -> Leaderboard:
    """Lay a verdict out.

    Args:
        verdict: of the study.
        title: its name.
        described: by trial number: `proposer`, `values` (a mapping) and `hypothesis`, each where known.
        most: trials shown; the chosen one always is.
    """
    known = described or {}
    ranked = sorted(verdict.trials, key=lambda t: (t.sharpe is None, -(t.sharpe or 0.0), t.number))
    shown = [t for n, t in enumerate(ranked) if n < most or t.number == verdict.chosen]
    looks = f"{verdict.looks:,} looks, {verdict.measured:,} with returns that bear a number, on {verdict.days:,} days"
    figures = (
        ("SPA p, consistent", _share(verdict.spa_consistent), "no trial is better than doing nothing (Hansen), by Sharpe ratio; decides"),
        (
            "SPA p, lower to upper",
            f"{_share(verdict.spa_lower)} to {_share(verdict.spa_upper)}",
            "the same, liberal and strict about poor trials",
        ),
        ("reality check p", _share(verdict.reality_check), "the same by mean return (White); decides too"),
        ("probability of overfitting", _share(verdict.overfitting), "the best of one half of the time is below the median of the other"),
        (
            "walk-forward Sharpe ratio",
            "-" if verdict.walk_forward is None else f"{verdict.walk_forward:.2f}",
            "of choosing by the past and holding the choice over the stretch that follows, the longest trade's life purged between",
        ),
        ("mean block", f"{verdict.block:.1f} days", f"of the stationary bootstrap, {verdict.resamples:,} resamples"),
    )
    rows = tuple(_row(t, known.get(t.number, {}), t.number == verdict.chosen) for t in shown)
    return Leaderboard(title, looks, verdict.discovered, verdict.words, figures, rows, len(ranked) - len(shown))


def markdown(board: Leaderboard, rule: str = "") -> str:
    """The leaderboard as Markdown; ends with a newline."""
    lines = [f"# {_cell(board.title)}", "", f"**{board.looks}.** {_finding(board)}", "", board.words, ""]
    lines += [*_table(("study", "", ""), board.study), "", *_table(COLUMNS, board.rows), ""]
    if board.left_out:
        lines += [f"{board.left_out:,} more trials are not shown; they count all the same.", ""]
    lines += [f"- {name}: {meaning}" for name, meaning in MEANINGS]
    return "\n".join([*lines, *([f"- rule: {rule}"] if rule else [])]) + "\n"


def page(board: Leaderboard, rule: str = "") -> str:
    """The leaderboard as one self-contained HTML page: nothing is fetched by it, and what models wrote is text in it, never markup."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(board=board, columns=COLUMNS, meanings=MEANINGS, finding=_finding(board), rule=rule)


def _finding(board: Leaderboard) -> str:
    return "Something was found." if board.discovered else "Nothing was found."


def _row(trial: TrialVerdict, known: Mapping[str, Any], chosen: bool) -> tuple[str, ...]:
    values = ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={'off' if value is None else value}"
        for name, value in known.get("values", {}).items()
    )
    return (
        f"{trial.number}{' (chosen)' if chosen else ''}",
        str(known.get("proposer", "")),
        "-" if trial.sharpe is None else f"{trial.sharpe:.2f}",
        _share(trial.psr),
        _share(trial.deflated),
        _share(trial.adjusted_p),
        values,
        str(known.get("hypothesis", "")),
        trial.status,
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return lines + ["| " + " | ".join(_cell(text) for text in row) + " |" for row in rows]


def _cell(text: str) -> str:
    """Text that stays in its cell, and stays text."""
    plain = " ".join(text.split())
    for special in "\\|`*_<[":
        plain = plain.replace(special, "\\" + special)
    return plain
