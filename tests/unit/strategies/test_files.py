"""Strategies of one's own are read strictly, written back alike, and played."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from options_agent.errors import SettingsError
from options_agent.settings import Settings
from options_agent.strategies.catalogue import CATALOGUE
from options_agent.strategies.files import all_strategies, find_strategy, own_strategies, strategy_from_file, strategy_to_toml
from options_agent.strategies.page import catalogue_table, risk
from options_agent.strategies.rules import Collateral, Dial, Entry, Exit, Filters, Hedge, Leg, Roll, Signal, Sizing, Strategy
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
    path.write_bytes(text.encode())  # as it is: no newline changed
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
        (("target = 0.3", "target = nan"), "nan is no number"),
        (("dte_max = 14", "dte_max = 1" + "0" * 400), "too large"),
        (("dte_max = 14", "dte_max = 1" + "0" * 5000), "not TOML"),
        (("[[legs]]", "deep = " + "[" * 3000 + "]" * 3000 + "\n[[legs]]"), "not TOML"),
        (('"mine"', '["mine"]'), "no str"),
        (('"mine"', '"../../mine"'), "cannot be a name"),
        (('"mine"', '""'), "cannot be a name"),
    ],
    ids=[
        "key",
        "word",
        "bool",
        "unsound",
        "missing",
        "choice",
        "list",
        "table",
        "toml",
        "legs",
        "nan",
        "huge",
        "digits",
        "deep",
        "name-list",
        "name-path",
        "name-empty",
    ],
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
    table = PAGE.read_text().split("<!-- catalogue -->\n")[1].split("<!-- end -->")[0]
    assert table == catalogue_table(), "run: python -m options_agent.strategies.page"


@pytest.mark.parametrize("kind", [Strategy, Leg, Entry, Signal, Exit, Roll, Filters, Sizing, Dial, Hedge], ids=lambda kind: kind.__name__)
def test_every_field_is_in_the_docs(kind: type) -> None:
    section = PAGE.read_text().split("## Fields")[1].split("## Sweeps")[0]
    assert [f.name for f in fields(kind) if not re.search(rf"\b{f.name}\b", section)] == []


@pytest.mark.parametrize(
    ("legs", "collateral", "says"),
    [
        ((Leg("sell", "C", 0.2),), "coin", "a rise: given up above the strike; a fall: the coin's own"),
        ((Leg("sell", "C", 0.2),), "margin", "a rise: no limit"),
        ((Leg("sell", "P", 0.3), Leg("buy", "P", 0.2)), "margin", "a fall: ends at the leg bought"),
        ((Leg("buy", "P", 0.3), Leg("sell", "P", 0.2, 2.0)), "margin", "a fall: down to zero"),
        ((Leg("buy", "C", 0.3),), "margin", "what was paid"),
        ((Leg("buy", "P", 0.3),), "coin", "a fall: the coin's, down to the put bought"),
    ],
    ids=["covered", "naked", "spread", "ratio", "long", "protective"],
)
def test_the_risk_is_that_of_the_legs(legs: tuple[Leg, ...], collateral: Collateral, says: str) -> None:
    assert risk(Strategy("s", "s", "s", legs, Entry(1, 2, 3), collateral=collateral)) == says


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_description_reads_back(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    said = replace(strategy_from_file(written(tmp_path_factory.mktemp("a"), SMALL)), description=text)
    assert strategy_from_file(written(tmp_path_factory.mktemp("b"), strategy_to_toml(said))) == said
