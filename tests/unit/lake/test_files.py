from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from options_agent.errors import StorageError
from options_agent.lake.files import Files, LocalFiles, open_files


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["local", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return open_files(str(tmp_path / "store") if request.param == "local" else f"memory://{uuid.uuid4().hex}/store")


def test_what_is_written_is_read_listed_and_deleted(files: Files) -> None:
    assert files.read_or_none("a/b.bin") is None
    assert files.size("a/b.bin") is None
    assert files.find("a") == {}
    assert files.folders("") == []
    files.write("a/b.bin", b"one")
    files.write("a/b.bin", b"three")
    files.write("a/c/d.bin", b"")
    assert files.read("a/b.bin") == b"three"
    assert files.read_many(["a/c/d.bin", "a/b.bin"]) == [b"", b"three"]
    assert files.find("a") == {"a/b.bin": 5, "a/c/d.bin": 0}
    assert files.folders("a") == ["c"]
    files.move("a/b.bin", "z/y.bin")
    files.delete("a/c/d.bin")
    files.delete("a/c/d.bin")
    assert files.find("a") == {}
    assert files.size("z/y.bin") == 5


def test_a_missing_file_is_a_storage_error_that_names_it(files: Files) -> None:
    with pytest.raises(StorageError, match=r"nowhere\.bin.*Remedy"):
        files.read("nowhere.bin")


def test_create_never_overwrites(files: Files) -> None:
    assert files.create("x/y", b"first")
    assert not files.create("x/y", b"second")
    assert files.read("x/y") == b"first"


def test_of_many_creators_at_once_exactly_one_wins(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    won: list[bool] = []
    threads = [threading.Thread(target=lambda i=i: won.append(files.create("x", str(i).encode()))) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(won) == 1
    assert names(tmp_path) == ["x"]


def test_a_killed_writer_leaves_what_readers_ignore_and_the_next_write_sweeps(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from options_agent.lake import files
files.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
files.LocalFiles(Path({str(tmp_path)!r})).write("day/file", b"half")
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    files = LocalFiles(tmp_path)
    assert len(names(tmp_path / "day")) == 1, "the temporary file is there"
    assert files.find("day") == {}
    assert files.read_or_none("day/file") is None
    files.write("day/other", b"whole")
    assert names(tmp_path / "day") == ["other"]


def test_a_sweep_spares_a_writer_that_is_still_at_work(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    at_work = files._written_beside(tmp_path / "slow", b"not yet renamed")
    files.write("quick", b"done")
    assert at_work.exists()


@pytest.mark.parametrize("verb", ["write", "create"])
def test_a_full_disk_is_said_and_nothing_is_half_written(small_disk: Path, verb: str) -> None:
    files = LocalFiles(small_disk)
    files.write("day/kept", b"k" * 1_000)
    with pytest.raises(StorageError, match=r"disk is full.*day/new.*free space"):
        getattr(files, verb)("day/new", os.urandom(1_000_000))
    assert names(small_disk / "day") == ["kept"]
    with pytest.raises(StorageError, match="disk is full"):
        files.write("day/kept", os.urandom(1_000_000))
    assert files.read("day/kept") == b"k" * 1_000
    files.write("day/new", b"small")
    assert files.find("day") == {"day/kept": 1_000, "day/new": 5}


def test_a_disk_that_fills_at_the_flush_is_said_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        LocalFiles(tmp_path).write("file", b"data")
    assert names(tmp_path) == []


def test_a_folder_in_the_way_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="taken"):
        LocalFiles(tmp_path).write("taken/file", b"data")
