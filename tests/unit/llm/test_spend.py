"""The ledger of calls: no budget is passed by any number of callers, nothing is lost by a kill, and unknown prices are refused."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from options_agent.errors import BudgetError, SettingsError
from options_agent.llm.prices import UnknownPriceError, Used, cost_usd, table_date
from options_agent.llm.spend import Settlement, budgets, reserve, settle, spent
from options_agent.settings import Settings, load_settings
from tests.conftest import REPOSITORY

ASKED = [{"role": "user", "content": "?"}]


def desk(tmp_path: Path, **chosen: Any) -> Settings:
    return load_settings(home=tmp_path, language_model=chosen, _env_file=None)


def done(cost: float, status: str = "settled") -> Settlement:
    return Settlement(status, cost, 100, 10, 0.5, "hold")


def test_a_call_is_reserved_settled_and_summed(tmp_path: Path) -> None:
    settings = desk(tmp_path, budget_usd_per_day=1.0, budgets={"study": 0.5})
    one = reserve(settings, "study", "m", "study@1", 0.3, ASKED)
    assert [(b.name, b.used) for b in budgets(settings)] == [("all", 0.3), ("study", 0.3)]
    for _ in range(2):  # a second settlement changes nothing
        settle(settings, one, done(0.1))
    settle(settings, one, done(9.0))
    reserve(settings, "evaluation", "n", "decision@2", 0.2, ASKED)
    assert [(b.name, b.used) for b in budgets(settings)] == [("all", pytest.approx(0.3)), ("study", 0.1)]
    rows = spent(settings, ("feature", "model"))
    assert [(r["feature"], r["model"], r["calls"], r["cost_usd"], r["reserved_usd"]) for r in rows] == [
        ("study", "m", 1, 0.1, 0.0),
        ("evaluation", "n", 1, 0.0, 0.2),
    ]


def test_a_budget_stops_a_call_before_it_is_made_and_the_next_day_is_another(tmp_path: Path) -> None:
    settings = desk(tmp_path, budget_usd_per_day=1.0, budgets={"study": 0.5})
    now = dt.datetime(2026, 3, 1, 23, 59, tzinfo=dt.UTC)
    reserve(settings, "study", "m", "", 0.5, ASKED, now)
    with pytest.raises(BudgetError, match="study may cost"):
        reserve(settings, "study", "m", "", 0.01, ASKED, now)
    reserve(settings, "evaluation", "m", "", 0.5, ASKED, now)
    with pytest.raises(BudgetError) as refused:
        reserve(settings, "evaluation", "m", "", 0.01, ASKED, now)
    assert "budget of all" in str(refused.value.place)
    reserve(settings, "study", "m", "", 0.5, ASKED, now + dt.timedelta(minutes=1))
    assert len(spent(settings, ("day",))) == 2


STORM = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tests.unit.llm.test_spend import ASKED, desk, done
from options_agent.errors import BudgetError
from options_agent.llm.spend import reserve, settle
settings = desk(Path(sys.argv[1]), budget_usd_per_day=1.0)
def call(n):
    try:
        one = reserve(settings, "study", "m", "", 0.05, ASKED)
    except BudgetError:
        return 0
    if n % 3:
        settle(settings, one, done(0.04))
    return 1
with ThreadPoolExecutor(8) as pool:
    print(sum(pool.map(call, range(20))))
"""


def test_two_processes_of_many_threads_never_pass_a_budget_and_lose_no_call(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STORM, str(tmp_path)]
    storms = [subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    made = sum(int(storm.communicate(timeout=120)[0]) for storm in storms)
    settings = desk(tmp_path, budget_usd_per_day=1.0)
    (budget,) = budgets(settings)
    (row,) = spent(settings)
    assert row["calls"] == made
    assert 0.8 < budget.used <= 1.0 + 1e-9
    assert budget.used == pytest.approx(row["cost_usd"] + row["reserved_usd"])


def test_threads_of_one_process_share_a_budget(tmp_path: Path) -> None:
    settings = desk(tmp_path, budget_usd_per_day=1.0)

    def call(_: int) -> bool:
        try:
            reserve(settings, "study", "m", "", 0.1, ASKED)
        except BudgetError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(call, range(30))) == 10


def test_a_caller_killed_between_reserving_and_settling_leaves_the_whole_reservation_counted(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from tests.unit.llm.test_spend import ASKED, desk, reserve;"
        "reserve(desk(Path(sys.argv[1])), 'study', 'm', '', 0.25, ASKED); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY, check=False).returncode == -9
    (row,) = spent(desk(tmp_path))
    assert (row["calls"], row["cost_usd"], row["reserved_usd"]) == (1, 0.0, 0.25)


def test_prices_are_the_kept_tables_ones_own_or_none(tmp_path: Path) -> None:
    settings = desk(tmp_path)
    assert cost_usd("gpt-4.1-mini", Used(1_000_000, 0), settings) == pytest.approx(0.4)
    assert cost_usd("gpt-4.1-mini", Used(1_000_000, 0, cached=500_000), settings) == pytest.approx(0.25)
    assert cost_usd("gpt-4.1-mini", Used(0, 1_000_000, batch=True), settings) == pytest.approx(0.8)
    assert cost_usd("ft:desk-rules:desk::abc", Used(10, 10), settings) == 0
    with pytest.raises(UnknownPriceError, match="nobody knows"):
        cost_usd("gpt-of-dreams", Used(10, 10), settings)
    assert re.fullmatch(r"genai-prices [\d.]+, with changes to 20\d\d-\d\d-\d\d", table_date())
    own = tmp_path / "prices.toml"
    own.write_text('[models."gpt-of-dreams"]\ninput = 2.0\noutput = 8.0\ncached_input = 0.5\n')
    mine = desk(tmp_path, prices_file=own)
    assert cost_usd("gpt-of-dreams", Used(1_000_000, 500_000, cached=1_000_000), mine) == pytest.approx(4.5)
    own2 = tmp_path / "bad.toml"
    own2.write_text('[models."x"]\ninput = -1\noutput = 2\n')
    with pytest.raises(SettingsError, match="'x' is not usable"):
        cost_usd("x", Used(1, 1), desk(tmp_path, prices_file=own2))


def test_four_fifths_of_a_budget_are_told_once_and_the_next_day_closes_it(tmp_path: Path) -> None:
    from options_agent.alerts.state import AlertState
    from options_agent.llm.spend_watch import watch_budgets

    settings = desk(tmp_path, budget_usd_per_day=1.0, budgets={"study": 0.5})
    now = dt.datetime.now(dt.UTC)
    reserve(settings, "study", "m", "", 0.39, ASKED, now)
    assert watch_budgets(settings) == []
    reserve(settings, "study", "m", "", 0.02, ASKED, now)
    assert watch_budgets(settings) == watch_budgets(settings) == ["study"]
    assert [a.key for a in AlertState(settings.state_dir).open_alerts()] == ["spend/study"]
    assert watch_budgets(settings, now.date() + dt.timedelta(days=1)) == []
    assert not AlertState(settings.state_dir).open_alerts()
