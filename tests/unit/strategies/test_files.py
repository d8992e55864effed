"""Strategies of one's own are read strictly, written back alike, and played."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as budget

from options_agent.errors import SettingsError
from options_agent.settings import Settings
from options_agent.strategies.catalogue import CATALOGUE
from options_agent.strategies.files import all_strategies, find_strategy, own_strategies, strategy_from_file, strategy_to_toml
from options_agent.strategies.rules import Strategy
from tests.conftest import REPOSITORY
from tests.unit.backtest.reference_agreement import features_of
from tests.unit.backtest.reference_strategies import strategies
from tests.unit.backtest.worlds import random_world

PAGE = REPOSITORY / "docs" / "strategies.md"
SMALL = """
name = "mine"
description = "a call"
[[legs]]
side = "sell"
right = "C"
target = 0.3
[entry]
dte_min = 1
dte_target = 7
dte_max = 14
"""


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


@given(strategy=strategies())
@budget(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_strategy_reads_back_as_it_was_written(strategy: Strategy, tmp_path: Path) -> None:
    assert strategy_from_file(written(tmp_path, strategy_to_toml(strategy))) == strategy


@pytest.mark.parametrize("strategy", CATALOGUE.values(), ids=list(CATALOGUE))
def test_the_catalogue_can_be_written_and_started_from(strategy: Strategy, tmp_path: Path) -> None:
    text = strategy_to_toml(strategy)
    with pytest.raises(SettingsError, match="catalogue has"):
        strategy_from_file(written(tmp_path, text))
    own = strategy_from_file(written(tmp_path, text.replace(f'name = "{strategy.name}"', 'name = "mine"', 1)))
    assert (own.legs, own.entry, own.exit, own.sizing) == (strategy.legs, strategy.entry, strategy.exit, strategy.sizing)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("target = 0.3", "targt = 0.3"), "did you mean target"),
        (("target = 0.3", 'target = "far"'), "no float"),
        (("target = 0.3", "target = true"), "no float"),
        (("target = 0.3", "target = 3.0"), "between 0 and 1"),
        (("dte_min = 1", ""), "dte_min is missing"),
        (('side = "sell"', 'side = "short"'), "one of sell, buy"),
        (("dte_min = 1", "dte_min = 1\nweekdays = 3"), "no list"),
        (("[entry]", "[exits]\ntake_profit = 1.0\n[entry]"), "did you mean exit"),
        (("[[legs]]", "[[legs"), "not TOML"),
        (("[[legs]]", "[legs]"), "no list"),
    ],
    ids=["key", "word", "bool", "unsound", "missing", "choice", "list", "table", "toml", "legs"],
)
def test_what_is_wrong_is_named_with_file_field_and_remedy(change: tuple[str, str], says: str, tmp_path: Path) -> None:
    path = written(tmp_path, SMALL.replace(*change, 1))
    with pytest.raises(SettingsError) as refused:
        strategy_from_file(path)
    assert says in str(refused.value)
    assert str(path) in str(refused.value.place)
    assert refused.value.remedy


def test_ones_own_are_known_by_name_and_broken_ones_left_out_but_told(settings: Settings) -> None:
    folder = settings.own_strategies_dir
    folder.mkdir(parents=True)
    written(folder, SMALL)
    broken = written(folder, SMALL.replace("0.3", "3.0"), "broken.toml")
    assert find_strategy("mine", settings) == find_strategy(str(folder / "mine.toml"), settings)
    assert set(all_strategies(settings)) == {*CATALOGUE, "mine"}
    assert list(own_strategies(settings)[1]) == [broken]
    with pytest.raises(SettingsError, match="between 0 and 1"):
        find_strategy("broken", settings)
    with pytest.raises(SettingsError, match="no strategy named") as refused:
        find_strategy("covered_cal", settings)
    assert "covered_call" in str(refused.value.remedy)


def test_two_files_of_one_name_are_told(settings: Settings) -> None:
    folder = settings.own_strategies_dir
    folder.mkdir(parents=True)
    written(folder, SMALL)
    again = written(folder, SMALL, "zweite.toml")
    assert "two files" in str(own_strategies(settings)[1][again])


def test_the_example_of_the_docs_is_sound_and_plays(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    strategy = strategy_from_file(written(tmp_path, text))
    world = random_world(7, snapshots=100, listed=True, violence=0.02)
    result = world.play(strategy, features=features_of(world, 1), capital_coin=5)
    assert result.trades.num_rows > 0
    assert set(strategy.features) == {"implied_less_realised", "correlation"}


def test_the_table_of_the_docs_is_the_catalogue() -> None:
    rows = [f"| `{s.name}` | {s.description} | {s.in_words()} |" for s in CATALOGUE.values()]
    table = PAGE.read_text().split("<!-- catalogue -->")[1].split("<!-- end -->")[0].strip().splitlines()
    assert table[2:] == rows, "\n".join(rows)
