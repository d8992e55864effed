"""Decisions of live books become examples beside those of backtests."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from options_agent.journal.entries import journal_path, write_entry
from options_agent.lake.store import open_lake
from options_agent.llm.decisions import build_week, journal_decisions
from options_agent.llm.training_sets import training_set
from options_agent.settings import load_settings


def test_a_journals_decisions_are_examples_of_their_week(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, _env_file=None)
    path, start = journal_path(settings, "calls-BTC"), dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
    for n in range(16):
        write_entry(
            path,
            "decision",
            start + dt.timedelta(hours=12 * n),
            strategy="covered_call",
            underlying="BTC",
            regime="bull-calm",
            rules="Sell a call.",
            actions=["hold", "close"],
            action="hold" if n % 3 else "close",
            rationale="So it is.",
            state={"dte": 5.0, "unrealised": n / 10, "bid": 0.004},
            model="rule-based",
            prompt="",
        )
    write_entry(path, "note", start, text="nothing to learn from")
    assert len(journal_decisions(settings)["calls-BTC"]) == 16
    receipt = build_week(settings, "2026-W10")
    assert receipt.counts["train"] + receipt.counts["validation"] == 14
    line = json.loads(open_lake(settings).files.read("training/week=2026-W10/train.jsonl").decode().splitlines()[0])
    assert "Allowed actions: hold, close" in line["messages"][1]["content"]
    assert json.loads(line["messages"][2]["content"])["action"] == "close"
    assert any("journal calls-BTC: 14 decisions" in i for i in receipt.details["inputs"])


def test_a_key_of_this_desk_that_slipped_into_a_reason_is_taken_out(tmp_path: Path) -> None:
    model = {"api_key": "plainwords", "base_url": "http://127.0.0.1:1/v1"}
    mail = {"kind": "email", "host": "h", "sender": "a@b", "to": ["c@d"], "password": "correct horse"}
    settings = load_settings(home=tmp_path, language_model=model, alerts={"routes": {"mail": mail}}, _env_file=None)
    about = {"strategy": "covered_call", "underlying": "BTC", "regime": "bull-calm", "rules": "Sell a call.", "model": "", "prompt": ""}
    choice = {"actions": ["hold", "close"], "action": "hold", "rationale": "Says plainwords and correct horse.", "state": {"dte": 5.0}}
    for n in range(3):
        about["strategy"] = f"covered_call {n}"
        write_entry(journal_path(settings, "calls-BTC"), "decision", dt.datetime(2026, 3, 2, n, tzinfo=dt.UTC), **about, **choice)
    receipt = build_week(settings, "2026-W10")
    text = open_lake(settings).files.read("training/week=2026-W10/train.jsonl").decode()
    assert text.count("Says [redacted] and [redacted].") == 3
    assert receipt.details["examples"]["secrets_redacted"] == 6


def test_what_a_model_chose_is_no_experts_label(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, _env_file=None)
    start = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
    for book, model in (("rules-BTC", "rule-based"), ("asked-BTC", "ft:desk-rules:desk::abc")):
        for n in range(12):
            state = {"dte": 5.0 + (model == "rule-based"), "unrealised": n / 5}
            about = {"strategy": "covered_call", "underlying": "BTC", "regime": "bull-calm", "rules": "Sell a call.", "rationale": "So."}
            choice = {
                "actions": ["hold", "close"],
                "action": "hold" if n % 3 else "close",
                "state": state,
                "model": model,
                "prompt": "decision@1",
            }
            write_entry(journal_path(settings, book), "decision", start + dt.timedelta(hours=8 * n), **about, **choice)
    receipt = build_week(settings, "2026-W10")
    assert (receipt.counts["train"], receipt.counts["live"]) == (12, 12)
    folder = "training/week=2026-W10"
    files = {name: open_lake(settings).files.read(f"{folder}/{name}.jsonl").decode() for name in ("train", "live_train")}
    assert "days to expiry: 6" in files["train"]
    assert "days to expiry: 5" not in files["train"]
    assert "days to expiry: 6" not in files["live_train"]
    assert {label: training_set(settings, None, label).train.decode() for label in ("expert", "live")} == {
        "expert": files["train"],
        "live": files["live_train"],
    }
