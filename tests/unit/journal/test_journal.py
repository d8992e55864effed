"""Journals only grow: nothing is changed unseen, a torn line never happened, and a killed writer's successor goes on."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.errors import DataError, StorageError
from options_agent.journal.chain import append_line, read_chain
from options_agent.journal.entries import journal_path, marks_table, read_journal, write_entry
from options_agent.settings import load_settings
from tests.conftest import REPOSITORY

NOW = dt.datetime(2026, 3, 1, 8, tzinfo=dt.UTC)


def mark(path: Path, hours: int, equity: float = 1.0) -> None:
    write_entry(path, "mark", NOW + dt.timedelta(hours=hours), equity_coin=equity, equity_usd=equity * 9e4, index=9e4)


def test_entries_read_back_by_kind_and_time(tmp_path: Path) -> None:
    path = tmp_path / "book.jsonl"
    write_entry(path, "note", NOW, text="begun")
    for n in range(5):
        mark(path, n, 1 + n / 100)
    assert [e["text"] for e in read_journal(path, "note")] == ["begun"]
    assert len(read_journal(path, "mark", until=NOW + dt.timedelta(hours=2))) == 3
    assert marks_table(path)["equity_coin"].to_pylist() == [1.0, 1.01, 1.02, 1.03, 1.04]


def test_what_is_not_whole_is_refused_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "book.jsonl"
    with pytest.raises(DataError, match="equity_usd"):
        write_entry(path, "mark", NOW, equity_coin=1.0, index=9e4)
    with pytest.raises(DataError, match="unknown"):
        write_entry(path, "note", NOW, text="x", colour="red")
    with pytest.raises(DataError, match="without a zone"):
        write_entry(path, "note", dt.datetime(2026, 1, 1), text="x")
    assert not path.exists()
    with pytest.raises(DataError, match="cannot be a book's name"):
        journal_path(load_settings(home=tmp_path, _env_file=None), "../book")


@given(st.lists(st.text(max_size=40), min_size=2, max_size=6), st.data())
def test_any_change_of_a_line_is_found_at_or_before_it(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("chain") / "c.jsonl"
    for text in texts:
        append_line(path, {"text": text})
    lines = path.read_bytes().splitlines(keepends=True)
    which = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[which]) - 2))
    changed = bytearray(lines[which])
    changed[place] = ord("0") if changed[place] != ord("0") else ord("1")
    path.write_bytes(b"".join([*lines[:which], bytes(changed), *lines[which + 1 :]]))
    with pytest.raises(DataError, match="is not the one that was written"):
        read_chain(path)
    path.write_bytes(b"".join([*lines[:which], *lines[which + 1 :]]))
    if which < len(lines) - 1:
        with pytest.raises(DataError, match=f"line {which + 1}"):
            read_chain(path)


def test_a_torn_line_never_happened_and_the_next_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    for n in range(3):
        append_line(path, {"number": n, "long": "x" * 50_000})
    whole = path.read_bytes()
    for torn in (b'{"n": 4', b'{"n": 4, "x": "' + b"y" * 200_000):
        path.write_bytes(whole + torn)
        assert len(read_chain(path)) == 3
        assert append_line(path, {"number": 3})["n"] == 4
        assert len(read_chain(path)) == 4
    path.write_bytes(b'{"n": 1')
    assert append_line(path, {"number": 0})["n"] == 1
    path.write_bytes(b"no chain\n")
    with pytest.raises(StorageError, match="none of a chain"):
        append_line(path, {"number": 1})


def test_a_writer_killed_at_any_time_leaves_a_sound_journal(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    program = (
        "import sys; from pathlib import Path; from options_agent.journal.chain import append_line\nn = 0\n"
        "while True:\n    append_line(Path(sys.argv[1]), {'number': n}); n += 1; print(n, flush=True)"
    )
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(15):
            writer.stdout.readline()
        writer.kill()
        said = writer.stdout.read().split()
        writer.wait()
        assert len(read_chain(path)) >= 15 + len(said)
