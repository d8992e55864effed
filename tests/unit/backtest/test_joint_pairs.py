"""The joint book of each strategy: written for pairs, and said where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from options_agent.backtest.joint_pairs import write_joint_books
from options_agent.backtest.runner import STAGE
from options_agent.lake.receipts import Receipt, write_receipt
from options_agent.lake.store import open_lake
from options_agent.settings import Settings, load_settings
from options_agent.strategies.catalogue import CATALOGUE
from tests.unit.backtest.saved import saved
from tests.unit.backtest.worlds import random_world


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("OPTIONS_AGENT_HOME", str(tmp_path))
    return load_settings()


def play(settings: Settings, strategy: str, underlying: str, snapshots: int = 80) -> None:
    """Write a run with the receipt that makes it current."""
    seed = 7 if underlying == "BTC" else 8
    report = saved(random_world(seed, snapshots=snapshots, underlying=underlying).play(CATALOGUE[strategy]), settings.reports_dir)
    details = {"report": str(report), "plot": str(report.with_suffix(".png"))}
    write_receipt(open_lake(settings), Receipt(STAGE, underlying, strategy, "mark", {}, (), details))


def test_a_book_is_written_for_every_pair_and_the_rest_is_said(settings: Settings) -> None:
    assert write_joint_books(settings) == ([], [])
    play(settings, "covered_call", "BTC")
    play(settings, "covered_call", "ETH")
    play(settings, "cash_secured_put", "BTC")
    rows, said = write_joint_books(settings)
    assert said == ["cash_secured_put: a run on ETH is missing"]
    (row,) = rows
    assert row["strategy"] == "covered_call"
    path = settings.reports_dir / "joint" / "covered_call.json"
    book = json.loads(path.read_text())
    assert row["return_usd"] == book["metrics"]["return_usd"]
    assert [run["underlying"] for run in book["runs"]] == ["BTC", "ETH"]
    before = path.read_bytes()
    assert write_joint_books(settings) == (rows, said)
    assert path.read_bytes() == before


def test_a_pair_whose_table_is_gone_is_said_and_the_others_stand(settings: Settings) -> None:
    for strategy in ("covered_call", "short_strangle"):
        for underlying in ("BTC", "ETH"):
            play(settings, strategy, underlying)
    gone = next((settings.reports_dir).glob("short_strangle-ETH-*/equity.parquet"))
    gone.unlink()
    rows, said = write_joint_books(settings)
    assert [row["strategy"] for row in rows] == ["covered_call"]
    assert len(said) == 1
    assert said[0].startswith("short_strangle: B (short_strangle ETH) has no equity: its table of equity is missing")


def test_a_short_pair_has_a_row_without_ratios(settings: Settings) -> None:
    play(settings, "covered_call", "BTC", 12)
    play(settings, "covered_call", "ETH", 12)
    ((row,), said) = write_joint_books(settings)
    assert said == []
    assert row["sharpe_usd"] is row["correlation"] is row["sharpe_usd_low"] is None
