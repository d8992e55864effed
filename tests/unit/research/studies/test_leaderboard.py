"""The leaderboard: looks first, raw beside corrected, honest words, and what a model wrote stays text."""

from __future__ import annotations

import numpy as np

from options_agent.research.studies.leaderboard import COLUMNS, leaderboard, markdown, page
from options_agent.research.studies.verdict import verdict

DAY_US = 86_400_000_000
EVIL = '<script>alert("x")</script> | [a](b)\n# more'


def board_of(edge: float, most: int = 5):  # type: ignore[no-untyped-def]
    returns = np.random.default_rng(4).normal(0, 0.01, (120, 30))
    returns[:, 7] += edge
    returns[:, 8] = 0.0
    found = verdict(returns, np.arange(120) * DAY_US, looks=44)
    described = {7: {"proposer": "random", "values": {"legs.sold.target": 0.25, "exit.take_profit": None}, "hypothesis": EVIL}}
    return leaderboard(found, title="a <b>study</b>", described=described, most=most), found


def test_looks_stand_before_any_number_and_raw_beside_corrected() -> None:
    board, found = board_of(0.006)
    text = markdown(board, found.rule)
    assert text.splitlines()[2].startswith("**44 looks, 29 with returns that bear a number, on 120 days.** Something was found.")
    first = dict(zip(COLUMNS, board.rows[0], strict=True))
    assert first["trial"] == "7 (chosen)"
    assert float(first["Sharpe, raw"]) > 5
    assert first["values"] == "legs.sold.target=0.25, exit.take_profit=off"
    assert board.left_out == 25
    assert "they count all the same" in text


def test_without_evidence_it_says_that_nothing_may_be_claimed() -> None:
    board, found = board_of(0.0)
    for text in (markdown(board, found.rule), page(board, found.rule)):
        assert "Nothing was found." in text
        assert "nothing here may be called better than doing nothing" in text


def test_the_chosen_trial_is_shown_wherever_it_stands_and_a_constant_one_has_no_number() -> None:
    board, _ = board_of(0.0, most=0)
    assert len(board.rows) == 1
    assert "(chosen)" in board.rows[0][0]
    everything, _ = board_of(0.0, most=30)
    assert [row[2:6] for row in everything.rows if row[-1] == "constant"] == [("-", "-", "-", "-")]


def test_what_a_model_wrote_is_never_markup() -> None:
    board, found = board_of(0.006)
    html, text = page(board, found.rule), markdown(board, found.rule)
    assert "<script" not in html
    assert "<b>study" not in html
    assert "&lt;script&gt;" in html
    row = next(line for line in text.splitlines() if line.startswith("| 7 (chosen)"))
    assert row.replace("\\|", "").count("|") == len(COLUMNS) + 1
    assert "\\<script" in row
    assert "http" not in html
