"""The archive and the lake against S3 and GCS servers: refused, missing, dead, dying, and killed clients."""

from __future__ import annotations

import datetime as dt
import random
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from options_agent.errors import OptionsAgentError, StorageError
from options_agent.lake.archive import Archive, archive_day, open_archive, restore_day, verify
from options_agent.lake.compaction import compact_raw_day
from options_agent.lake.files import open_files
from options_agent.lake.manifest import versions
from options_agent.lake.receipts import receipts
from options_agent.lake.remote import RemoteFiles
from options_agent.lake.store import Lake, days, read_range, read_raw_day, set_aside, underlyings, write_day, write_snapshot
from options_agent.quotes import sort_quotes
from options_agent.settings import load_settings
from tests.chains import DAY, as_clean, as_quarantined, chain_day
from tests.servers.gcs import running_gcs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.gcs import GCSServer
    from tests.servers.s3 import S3Server

    Server = S3Server | GCSServer

pytestmark = pytest.mark.slow


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Six judged days in a local folder."""
    lake = Lake(str(tmp_path / "lake"), "synthetic")
    for offset in range(6):
        day = DAY + dt.timedelta(days=offset)
        quotes = pa.concat_tables(chain_day(day, hours=3))
        write_day(lake, "clean", "BTC", day, as_clean(quotes.slice(2)))
        write_day(lake, "quarantine", "BTC", day, as_quarantined(quotes.slice(0, 2)))
    return lake


@pytest.fixture(params=["s3", "gcs"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each object store that the tests of a session share."""
    return request.getfixturevalue(f"{request.param}_server")  # type: ignore[no-any-return]


@pytest.fixture(params=["s3", "gcs"])
def own_server(request: pytest.FixtureRequest) -> Server:
    """Each object store, for this test alone."""
    return request.getfixturevalue(f"own_{request.param}_server")  # type: ignore[no-any-return]


@pytest.fixture
def archive(server: Server) -> Archive:
    """An empty prefix of a shared server."""
    return Archive(f"{server.scheme}://{server.bucket}/{uuid.uuid4().hex}", "synthetic", server.storage_options)


def test_a_day_goes_there_and_comes_back_byte_for_byte(lake: Lake, archive: Archive, tmp_path: Path) -> None:
    receipt = archive_day(lake, archive, "BTC", DAY)
    assert receipt.counts["uploaded"] == 2
    assert archive_day(lake, archive, "BTC", DAY) == receipt
    report = restore_day(archive, "BTC", DAY, tmp_path / "back")
    assert all(proof.holds for proof in report.proofs)
    for record in receipt.files:
        assert (tmp_path / "back" / record.path).read_bytes() == lake.files.read(record.path)


def test_a_put_is_if_absent(archive: Archive) -> None:
    assert archive.files.create("x", b"first")
    assert not archive.files.create("x", b"second")
    assert archive.files.read("x") == b"first"
    won: list[bool] = []
    threads = [threading.Thread(target=lambda i=i: won.append(archive.files.create("raced", str(i).encode()))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(won) == 1


def test_what_another_client_puts_is_seen_at_once(archive: Archive, server: Server) -> None:
    other = open_files(archive.files.url, server.storage_options)
    assert archive.files.find("") == {}
    other.write("a/b", b"new")
    assert archive.files.find("") == {"a/b": 3}
    other.write("a/b", b"newer")
    assert archive.files.size("a/b") == 5
    other.delete("a/b")
    assert archive.files.read_or_none("a/b") is None
    assert archive.files.find("") == {}


def test_the_lake_itself_can_lie_there(server: Server) -> None:
    lake = Lake(f"{server.scheme}://{server.bucket}/{uuid.uuid4().hex}", "synthetic", server.storage_options)
    assert days(lake, "raw", "BTC") == []
    tables = chain_day(hours=5)
    for table in tables:
        write_snapshot(lake, table)
        write_snapshot(lake, table)
    assert read_raw_day(lake, "BTC", DAY).equals(sort_quotes(pa.concat_tables(tables)))
    compact_raw_day(lake, "BTC", DAY)
    assert read_raw_day(lake, "BTC", DAY).equals(sort_quotes(pa.concat_tables(tables)))
    write_day(lake, "clean", "BTC", DAY, as_clean(pa.concat_tables(tables)))
    assert len(read_range(lake, "clean", "BTC", DAY, DAY, columns=["bid"])) == 60
    assert (underlyings(lake, "clean"), days(lake, "clean", "BTC")) == (["BTC"], [DAY])
    assert set_aside(lake, f"raw/quotes/underlying=BTC/day={DAY}/day.parquet", "a test").startswith("quarantine/files/raw/")
    assert days(lake, "raw", "BTC") == []


@pytest.mark.parametrize("verb", ["archive", "verify", "restore"])
@pytest.mark.parametrize("wrong", ["secret", "key"])
def test_wrong_credentials_are_a_clear_error_without_the_secret(
    lake: Lake, s3_server: S3Server, tmp_path: Path, wrong: str, verb: str
) -> None:
    options = s3_server.storage_options | {wrong: "WRONG-AND-NOT-TO-BE-SHOWN"}
    archive = Archive(f"s3://{s3_server.bucket}/x", "synthetic", options)
    with pytest.raises(StorageError, match="OPTIONS_AGENT_S3_ACCESS_KEY_ID") as refused:
        attempt(verb, lake, archive, tmp_path)
    shown = f"{refused.value!s} {refused.value!r} {archive!r}"
    assert "WRONG-AND-NOT-TO-BE-SHOWN" not in shown
    assert s3_server.secret_key not in shown
    assert receipts(lake, "archive") == []


@pytest.mark.parametrize("verb", ["archive", "verify", "restore"])
def test_a_missing_bucket_is_said_and_not_taken_for_an_empty_one(lake: Lake, server: Server, tmp_path: Path, verb: str) -> None:
    with pytest.raises(StorageError, match="create the bucket"):
        attempt(verb, lake, Archive(f"{server.scheme}://nosuchbucket/x", "synthetic", server.storage_options), tmp_path)


@pytest.mark.parametrize("verb", ["archive", "verify", "restore"])
def test_a_server_that_is_not_there_is_said_within_seconds(lake: Lake, s3_server: S3Server, tmp_path: Path, verb: str) -> None:
    client = {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"}
    archive = Archive("s3://lake/x", "synthetic", s3_server.storage_options | {"client_kwargs": client})
    started = time.monotonic()
    with pytest.raises(StorageError, match="OPTIONS_AGENT_S3_ENDPOINT_URL"):
        attempt(verb, lake, archive, tmp_path)
    assert time.monotonic() - started < 40


def test_anonymous_callers_of_a_private_bucket_are_told_which_setting(lake: Lake, tmp_path: Path) -> None:
    with running_gcs(private=True) as server:
        archive = Archive(f"gs://{server.bucket}/x", "synthetic", server.storage_options)
        for verb in ("archive", "verify", "restore"):
            with pytest.raises(StorageError, match="OPTIONS_AGENT_GCS_TOKEN"):
                attempt(verb, lake, archive, tmp_path)
    assert receipts(lake, "archive") == []


def test_days_take_the_storage_class_and_manifests_do_not(lake: Lake, server: Server) -> None:
    chosen = "NEARLINE" if server.scheme == "gs" else "STANDARD_IA"
    settings = load_settings(
        archive_root=f"{server.scheme}://{server.bucket}/{uuid.uuid4().hex}", archive_storage_class=chosen, **server.settings
    )
    archive = open_archive(settings)
    archive_day(lake, archive, "BTC", DAY)
    assert isinstance(archive.files, RemoteFiles)
    filesystem, root = archive.files._filesystem, archive.files._root
    classes = {
        path: filesystem.info(f"{root}/{path}").get("StorageClass" if server.scheme == "s3" else "storageClass")
        for path in archive.files.find("")
    }
    assert {value for path, value in classes.items() if path.endswith(".parquet")} == {chosen}
    assert {value for path, value in classes.items() if path.endswith(".jsonl")} <= {"STANDARD", None}


def attempt(verb: str, lake: Lake, archive: Archive, tmp_path: Path) -> None:
    if verb == "archive":
        archive_day(lake, archive, "BTC", DAY)
    elif verb == "verify":
        verify(archive)
    else:
        restore_day(archive, "BTC", DAY, tmp_path / "back")


def test_a_server_that_dies_midway_costs_nothing_that_was_done(lake: Lake, own_server: Server) -> None:
    archive = Archive(f"{own_server.scheme}://{own_server.bucket}/x", "synthetic", own_server.storage_options)
    local = lake.files.find("clean")
    first, second, third, *_ = days(lake, "clean", "BTC")
    archive_day(lake, archive, "BTC", first)
    archive_day(lake, archive, "BTC", second)
    own_server.kill()
    with pytest.raises(StorageError, match="_ENDPOINT_URL points at it"):
        archive_day(lake, archive, "BTC", third)
    assert len(receipts(lake, "archive")) == 2
    assert lake.files.find("clean") == local
    own_server.start()
    for day in days(lake, "clean", "BTC"):
        archive_day(lake, archive, "BTC", day)
    assert_whole(lake, archive)


ARCHIVE_EVERYTHING = """
import sys
from options_agent.lake.archive import archive_day, open_archive
from options_agent.lake.store import days, open_lake
from options_agent.settings import load_settings
settings = load_settings()
lake, archive = open_lake(settings), open_archive(settings)
archive.files.size("warm")
print("ready", flush=True)
for day in days(lake, "clean", "BTC"):
    archive_day(lake, archive, "BTC", day)
"""


def test_an_upload_killed_again_and_again_ends_complete_without_duplicates(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = f"{server.scheme}://{server.bucket}/{uuid.uuid4().hex}"
    for name, value in server.environment.items() | {("OPTIONS_AGENT_ARCHIVE_ROOT", root), ("OPTIONS_AGENT_HOME", str(tmp_path))}:
        monkeypatch.setenv(name, value)
    settings = load_settings()
    lake = Lake(settings.lake_url, "synthetic")
    for offset in range(30):
        day = DAY + dt.timedelta(days=offset)
        write_day(lake, "clean", "BTC", day, as_clean(pa.concat_tables(chain_day(day, hours=2, contracts=300))))
    dice, reached = random.Random(3), []
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", ARCHIVE_EVERYTHING], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(dice.uniform(0.005, 0.25))
        child.kill()
        child.wait()
        child.stdout.close()
        reached.append(len(receipts(lake, "archive")))
        assert all(proof.holds for proof in verify(open_archive(settings))), "what is named in a manifest is always whole"
    assert reached == sorted(reached)
    assert reached[0] < 30, "the first kill fell before the end"
    subprocess.run([sys.executable, "-c", ARCHIVE_EVERYTHING], check=True, stdout=subprocess.DEVNULL)
    assert_whole(lake, open_archive(settings))


def assert_whole(lake: Lake, archive: Archive) -> None:
    """Every judged file is archived once, whole, in one version of its day, and nothing else lies there."""
    judged = [path for layer in ("clean", "quarantine") for path in lake.files.find(f"{layer}/quotes")]
    proofs = verify(archive)
    assert sorted(proof.lake_path for proof in proofs) == sorted(judged)
    assert all(proof.holds for proof in proofs)
    wanted = days(lake, "clean", "BTC")
    assert [versions(archive.files, "BTC", day) for day in wanted] == [[1]] * len(wanted)
    assert len(archive.files.find("")) == len(judged) + len(wanted)
    assert len(receipts(lake, "archive")) == len(wanted)


def test_two_archivers_of_one_lake_do_not_get_in_each_others_way(lake: Lake, archive: Archive) -> None:
    failures: list[OptionsAgentError] = []

    def work() -> None:
        try:
            for day in days(lake, "clean", "BTC"):
                archive_day(lake, archive, "BTC", day)
        except OptionsAgentError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert_whole(lake, archive)
