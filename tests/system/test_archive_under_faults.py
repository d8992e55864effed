"""The archive while the store and the network misbehave and the archiver is killed: nothing lost, torn or doubled."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import random
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from options_agent.errors import StorageError
from options_agent.lake.archive import Archive, archive_day, archived, restore_day, verify
from options_agent.lake.files import sha256_of
from options_agent.lake.manifest import read_manifest, versions
from options_agent.lake.receipts import read_receipt
from options_agent.lake.store import Lake, write_day
from tests.chains import DAY, as_clean, as_quarantined, chain_day
from tests.servers.faulty import KINDS, FaultyProxy, running_proxy
from tests.unit.lake.conftest import small_disk  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.gcs import GCSServer
    from tests.servers.s3 import S3Server

pytestmark = pytest.mark.slow
#: A hundred before a release: `FAULT_ROUNDS=100 make test ARGS=tests/system/test_archive_under_faults.py`.
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "40"))


def judged(lake: Lake, day: dt.date) -> dict[str, bytes]:
    """Write a clean and a quarantined day; their bytes by path."""
    quotes = pa.concat_tables(chain_day(day, hours=2, contracts=60))
    files = (
        write_day(lake, "clean", "BTC", day, as_clean(quotes.slice(2))),
        write_day(lake, "quarantine", "BTC", day, as_quarantined(quotes.slice(0, 2))),
    )
    return {file.path: lake.files.read(file.path) for file in files}


@pytest.fixture(params=["s3", "gcs"])
def server(request: pytest.FixtureRequest) -> S3Server | GCSServer:
    """Each object store of the session."""
    return request.getfixturevalue(f"{request.param}_server")  # type: ignore[no-any-return]


@pytest.fixture
def proxy(server: S3Server | GCSServer) -> Iterator[FaultyProxy]:
    """A proxy in front of it, without faults at first."""
    with running_proxy(server.endpoint) as proxy:
        yield proxy


def archive_at(server: S3Server | GCSServer, endpoint: str, prefix: str) -> Archive:
    options = dict(server.storage_options)
    if server.scheme == "gs":
        options["endpoint_url"] = endpoint
    else:
        options["client_kwargs"] = {**options["client_kwargs"], "endpoint_url": endpoint}
    return Archive(f"{server.scheme}://{server.bucket}/{prefix}", "synthetic", options)


@pytest.mark.parametrize("fault", KINDS)
def test_each_fault_alone_ends_in_an_error_or_in_the_truth(
    tmp_path: Path, server: S3Server | GCSServer, proxy: FaultyProxy, fault: str
) -> None:
    """Half of the requests meet the fault; then a run without: the same archive as if nothing had been."""
    if server.scheme == "gs" and fault in {"cut_request", "cut_answer", "error_500", "error_503"}:
        pytest.skip("the client waits seconds before each retry; the many rounds below are S3's")
    lake = Lake(str(tmp_path / "lake"), "synthetic")
    expected = judged(lake, DAY)
    archive = archive_at(server, proxy.endpoint, uuid.uuid4().hex)
    proxy.faults.kinds, proxy.faults.share = (fault,), 0.4
    said: list[str] = []
    for attempt in range(2):
        try:
            archive_day(lake, archive, "BTC", DAY)
            report = restore_day(archive, "BTC", DAY, tmp_path / f"back{attempt}")
        except StorageError as error:
            said.append(str(error))
        else:
            assert all(proof.holds for proof in report.proofs)
            assert {path: (tmp_path / f"back{attempt}" / path).read_bytes() for path in expected} == expected
    proxy.faults.share = 0.0
    assert all("run again" in text or "archive the day again" in text for text in said)
    archive_day(lake, archive, "BTC", DAY)
    restore_day(archive, "BTC", DAY, tmp_path / "back")
    assert {path: (tmp_path / "back" / path).read_bytes() for path in expected} == expected
    assert versions(archive.files, "BTC", DAY) == [1]
    assert len(archive.files.find("")) == 3
    assert proxy.faults.done[fault]


ARCHIVER = """
import datetime as dt, json, os, sys, time
import pyarrow.parquet, s3fs, aiobotocore.session, botocore.session
from options_agent.errors import OptionsAgentError
from options_agent.lake.archive import Archive, archive_day
from options_agent.lake.retention import retain
from options_agent.lake.store import Lake, days
from options_agent.settings import RetentionSettings

def ship(order, lake, archive):
    failed = 0
    for day in days(lake, "clean", "BTC")[-order["newest"]:]:
        try:
            archive_day(lake, archive, "BTC", day)
        except OptionsAgentError:
            failed += 1
    return failed

def free(order, lake, archive):
    keep = RetentionSettings(raw_days=order["keep"], clean_days=order["keep"], quarantine_days=order["keep"])
    outcomes = retain(lake, archive, keep, dt.date.fromisoformat(order["today"]), apply=True)
    return sum(outcome.verdict == "refused" for outcome in outcomes)

def work(order):
    lake = Lake(order["lake"], "synthetic")
    archive = Archive(order["archive"], "synthetic", order["options"])
    steps = [free, ship] if order["free_first"] else [ship, free]
    os._exit(min(sum(step(order, lake, archive) for step in steps), 100))

for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        try:
            work(order)
        finally:
            os._exit(101)
    deadline = time.monotonic() + order["kill_after"]
    ended, status = 0, 0
    while not ended:
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended and time.monotonic() > deadline:
            os.kill(child, 9)
            ended, status = os.waitpid(child, 0)
        time.sleep(0.002)
    print(status, flush=True)
"""


@dataclass
class Archiver:
    """A process that has everything imported and makes a child per round, to be killed."""

    process: subprocess.Popen[str]

    def work(self, **order: object) -> int:
        """A child at work until it ends or `kill_after` seconds have passed: 0, or the signal, or 256 times its exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture
def archiver() -> Iterator[Archiver]:
    """A running one."""
    process = subprocess.Popen(
        [sys.executable, "-c", ARCHIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    yield Archiver(process)
    assert process.stdin is not None
    process.stdin.close()
    process.wait(timeout=10)


def test_many_rounds_of_faults_and_kills_lose_tear_and_double_nothing(tmp_path: Path, s3_server: S3Server, archiver: Archiver) -> None:
    """A day comes in every round; every round the archiver ships the newest days, deletes what is old and proven, and is killed."""
    lake, dice, prefix = Lake(str(tmp_path / "lake"), "synthetic"), random.Random(42), uuid.uuid4().hex
    straight = archive_at(s3_server, s3_server.endpoint, prefix)
    written: dict[str, bytes] = {}
    killed, patience = 0, 1.0
    with running_proxy(s3_server.endpoint) as proxy:
        proxy.faults.kinds = (*KINDS, *("corrupt_read",) * 4)  # most requests read no object
        crooked = archive_at(s3_server, proxy.endpoint, prefix)
        order: dict[str, object] = {"lake": lake.root, "archive": crooked.root, "options": crooked.storage_options, "keep": 12}
        for number in range(ROUNDS):
            day = DAY + dt.timedelta(days=number)
            written |= judged(lake, day)
            proxy.faults.share = dice.choice([0.0, 0.05, 0.2])
            plan = {"free_first": number % 3 == 0, "kill_after": patience * dice.uniform(0.2, 1.5)}
            status = archiver.work(**order, **plan, newest=6, today=day.isoformat())
            killed += status == signal.SIGKILL
            patience *= 1.2 if status == signal.SIGKILL else 0.85  # about half the rounds are killed, on any machine
            if number % 20 == 19:
                assert all(proof.holds for proof in verify(straight)), "what a manifest names is whole at any time"
        faults, reached = dict(proxy.faults.done), len(archived(straight))
        proxy.faults.share = 0.0
        assert archiver.work(**order, free_first=False, newest=ROUNDS, today=day.isoformat(), kill_after=300) == 0
    print(f"{killed} of {ROUNDS} rounds killed, {reached} days archived meanwhile; faults {dict(sorted(faults.items()))}")
    assert reached > ROUNDS / 2, "most of the work was done under fire"
    assert killed > ROUNDS / 4
    assert set(faults) == set(KINDS), faults
    assert_nothing_lost(lake, straight, written)


def assert_nothing_lost(lake: Lake, archive: Archive, written: dict[str, bytes]) -> None:
    """Every file ever written is archived once, in one version of its day, byte for byte, and is here or known to be there."""
    hashes = {path: sha256_of(data) for path, data in written.items()}
    wanted = sorted({dt.date.fromisoformat(path.split("day=")[1].split("/")[0]) for path in written})
    found: dict[str, str] = {}
    for day in wanted:
        assert versions(archive.files, "BTC", day) == [1]
        manifest = read_manifest(archive.files, "BTC", day)
        assert manifest is not None
        found |= {line.lake_path: sha256_of(archive.files.read(line.path)) for line in manifest.lines}
    assert found == hashes
    assert len(archive.files.find("")) == len(written) + len(wanted), "nothing else lies there"
    gone = [path for path in hashes if lake.files.size(path) is None]
    assert len(gone) > len(hashes) / 2, "retention was at work"
    for path in gone:
        receipt = read_receipt(lake, "retention", "BTC", path.split("day=")[1].split("/")[0])
        assert receipt is not None
        assert path in {file.path for file in receipt.files}
    assert all(sha256_of(lake.files.read(path)) == digest for path, digest in hashes.items() if path not in gone)


def fill(ballast: Path) -> None:
    """Take all that is left of a disk."""
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4_096)


def test_a_full_disk_here_costs_the_receipt_only_and_restores_nothing_by_halves(
    small_disk: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    lake, archive = Lake(str(small_disk / "lake"), "synthetic"), Archive(str(tmp_path / "archive"), "synthetic")
    expected = judged(lake, DAY)
    fill(small_disk / "ballast")
    with pytest.raises(StorageError, match="the disk is full"):
        archive_day(lake, archive, "BTC", DAY)
    assert all(proof.holds for proof in verify(archive))
    for path in expected:
        lake.files.delete(path)
    fill(small_disk / "ballast")
    with pytest.raises(StorageError, match="the disk is full"):
        restore_day(archive, "BTC", DAY, small_disk / "lake" / "synthetic")
    assert all(lake.files.read(path) == expected[path] for path in lake.files.find("") if path in expected), "whole or not there"
    (small_disk / "ballast").unlink()
    restore_day(archive, "BTC", DAY, small_disk / "lake" / "synthetic")
    assert {path: lake.files.read(path) for path in expected} == expected
    assert archive_day(lake, archive, "BTC", DAY).counts["uploaded"] == 0
