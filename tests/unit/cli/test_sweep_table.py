"""The table a sweep ends with: whole on the narrowest terminal."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from options_agent.cli.sweep import show_sweep


def test_four_fields_and_six_numbers_fit_eighty_columns_without_cutting_any() -> None:
    row: dict[str, Any] = {"legs.sold.target": 0.16, "entry.days": 10.5, "exit.take_profit": None, "exit.stop_loss": 2.0}
    row |= {"closed_trades": 1_126.0, "deflated_sharpe_coin": 0.33, "sharpe_coin": -1.36, "sharpe_coin_interval": [-11.9, 15.34]}
    row |= {"return_coin": 0.2501, "return_coin_interval": [-0.0603, 0.1744]}
    row |= {"return_usd": -0.1382, "return_usd_interval": [-0.6512, 1.6813]}
    row |= {"max_drawdown_coin": 0.1412, "max_drawdown_coin_interval": [0.0934, 0.2562]}
    content = {
        "strategy": {"name": "covered_call"},
        "underlying": "BTC",
        "range": {"start": "2025-01-01T00", "end": "2025-12-31T23"},
        "looks": 1_000,
        "grid": ["legs.sold.target", "entry.days", "exit.take_profit", "exit.stop_loss"],
        "best": [row],
        "status": {"ok": 1, "inconclusive": 0, "rejected": 0},
        "unsound": 0,
        "positive": {"coin": 1, "usd": 0},
        "median": {"return_coin": 0.1, "return_usd": -0.1},
        "overfitting": 0.06,
    }
    out = io.StringIO()
    show_sweep(content, Console(file=out, width=80, highlight=False))
    said = out.getvalue()
    assert max(len(line) for line in said.splitlines()) <= 80
    assert "…" not in said
    numbers = "0.16 10.5 off 1126 +25.0 -6..17 -13.8 -65..168 14.1 9.3..25.6 -1.36 -11.9..15.3 33%"
    for number in numbers.split():
        assert number in said
