from __future__ import annotations

import datetime as dt
import json
import threading
import uuid
from pathlib import Path

import pyarrow as pa
import pytest

from options_agent.errors import DataError, StorageError
from options_agent.lake.archive import Archive, archive_day, archived, restore_day, verify
from options_agent.lake.files import sha256_of
from options_agent.lake.manifest import manifest_folder, read_manifest, versions
from options_agent.lake.receipts import read_receipt
from options_agent.lake.store import Lake, read_day, write_day
from options_agent.settings import STORAGE_CLASSES
from tests.chains import DAY, as_clean, as_quarantined, chain, chain_day
from tests.conftest import REPOSITORY


@pytest.fixture(params=["local", "memory"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    """An empty archive, in a local folder and on an object store."""
    return Archive(str(tmp_path / "archive") if request.param == "local" else f"memory://{uuid.uuid4().hex}", "synthetic")


def judged(lake: Lake, day: dt.date = DAY, *, seed: int = 0) -> None:
    quotes = pa.concat_tables(chain_day(day, hours=4, seed=seed))
    write_day(lake, "clean", "BTC", day, as_clean(quotes.slice(3)))
    write_day(lake, "quarantine", "BTC", day, as_quarantined(quotes.slice(0, 3)))


def day_files(lake: Lake) -> dict[str, bytes]:
    return {path: lake.files.read(path) for layer in ("clean", "quarantine") for path in lake.files.find(f"{layer}/quotes")}


def test_a_day_is_restored_byte_for_byte(local_lake: Lake, archive: Archive, tmp_path: Path) -> None:
    judged(local_lake)
    receipt = archive_day(local_lake, archive, "BTC", DAY)
    assert receipt.counts == {
        "files": 2,
        "bytes": sum(map(len, day_files(local_lake).values())),
        "rows": 48,
        "raw_rows": 0,
        "quotes": 45,
        "uploaded": 2,
    }
    report = restore_day(archive, "BTC", DAY, tmp_path / "elsewhere" / "synthetic")
    elsewhere = Lake(str(tmp_path / "elsewhere"), "synthetic")
    assert day_files(elsewhere) == day_files(local_lake)
    assert [proof.holds for proof in report.proofs] == [True, True]
    assert {proof.expected for proof in report.proofs} == {sha256_of(data) for data in day_files(local_lake).values()}
    assert read_day(elsewhere, "clean", "BTC", DAY).equals(read_day(local_lake, "clean", "BTC", DAY))


def test_the_manifest_has_a_line_per_object(local_lake: Lake, archive: Archive) -> None:
    judged(local_lake)
    receipt = archive_day(local_lake, archive, "BTC", DAY)
    manifest = read_manifest(archive.files, "BTC", DAY)
    assert manifest is not None
    assert [(line.lake_path.split("/")[0], line.rows, line.schema, line.schema_version) for line in manifest.lines] == [
        ("clean", 45, "clean_quotes", "1"),
        ("quarantine", 3, "quarantined_quotes", "1"),
    ]
    for line in manifest.lines:
        assert archive.files.size(line.path) == line.bytes
        assert line.sha256 in line.path
        assert sha256_of(archive.files.read(line.path)) == line.sha256
    assert receipt.details["objects"] == [line.path for line in manifest.lines]
    assert read_receipt(local_lake, "archive", "BTC", "2026-01-31") == receipt


def test_archiving_again_puts_nothing(local_lake: Lake, archive: Archive) -> None:
    judged(local_lake)
    first = archive_day(local_lake, archive, "BTC", DAY)
    objects = archive.files.find("")
    assert archive_day(local_lake, archive, "BTC", DAY) == first
    for path in local_lake.files.find("receipts"):
        local_lake.files.delete(path)
    assert archive_day(local_lake, archive, "BTC", DAY).counts["uploaded"] == 0
    assert archive.files.find("") == objects


def test_a_changed_day_becomes_a_version_beside_the_old_one(local_lake: Lake, archive: Archive, tmp_path: Path) -> None:
    judged(local_lake, seed=1)
    old = day_files(local_lake)
    archive_day(local_lake, archive, "BTC", DAY)
    judged(local_lake, seed=2)
    new = day_files(local_lake)
    assert archive_day(local_lake, archive, "BTC", DAY).details["version"] == 2
    assert versions(archive.files, "BTC", DAY) == [1, 2]
    for version, expected in ((None, new), (2, new), (1, old)):
        home = tmp_path / f"version {version}"
        assert restore_day(archive, "BTC", DAY, home / "synthetic", version=version).version == (version or 2)
        assert day_files(Lake(str(home), "synthetic")) == expected
    judged(local_lake, seed=1)
    third = archive_day(local_lake, archive, "BTC", DAY)
    assert (third.details["version"], third.counts["uploaded"]) == (3, 0), "the old bytes are there already, the history says it all"


def test_archivers_at_once_make_one_version(local_lake: Lake, archive: Archive) -> None:
    judged(local_lake)
    threads = [threading.Thread(target=archive_day, args=(local_lake, archive, "BTC", DAY)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert versions(archive.files, "BTC", DAY) == [1]
    assert all(proof.holds for proof in verify(archive))


def test_an_emptied_archive_is_noticed_and_filled_again(local_lake: Lake, archive: Archive) -> None:
    judged(local_lake)
    receipt = archive_day(local_lake, archive, "BTC", DAY)
    archive.files.delete(receipt.details["objects"][0])
    assert next(proof.found for proof in verify(archive)) is None
    assert archive_day(local_lake, archive, "BTC", DAY).counts["uploaded"] == 1
    assert all(proof.holds for proof in verify(archive))


def test_an_altered_object_is_never_restored(local_lake: Lake, archive: Archive, tmp_path: Path) -> None:
    judged(local_lake)
    path = archive_day(local_lake, archive, "BTC", DAY).details["objects"][1]
    data = bytearray(archive.files.read(path))
    data[len(data) // 2] ^= 1
    archive.files.write(path, bytes(data))
    assert [proof.holds for proof in verify(archive, "BTC", DAY)] == [True, False]
    with pytest.raises(StorageError, match="nothing was restored"):
        restore_day(archive, "BTC", DAY, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_an_object_of_another_size_under_the_name_is_noticed_and_the_day_archived_under_another(local_lake: Lake, archive: Archive) -> None:
    judged(local_lake)
    path = archive_day(local_lake, archive, "BTC", DAY).details["objects"][0]
    archive.files.write(path, b"torn")
    receipt = archive_day(local_lake, archive, "BTC", DAY)
    assert (receipt.details["version"], receipt.counts["uploaded"]) == (2, 1)
    assert archive.files.read(path) == b"torn", "nothing is overwritten"
    assert all(proof.holds for proof in verify(archive))
    assert archive_day(local_lake, archive, "BTC", DAY) == receipt, "and then there is nothing to do"


def test_rot_that_keeps_the_size_is_mended_by_whoever_distrusts(local_lake: Lake, archive: Archive, tmp_path: Path) -> None:
    judged(local_lake)
    first = archive_day(local_lake, archive, "BTC", DAY)
    path = first.details["objects"][1]
    data = bytearray(archive.files.read(path))
    data[len(data) // 2] ^= 1
    archive.files.write(path, bytes(data))
    assert archive_day(local_lake, archive, "BTC", DAY) == first, "a look at sizes does not see it"
    mended = archive_day(local_lake, archive, "BTC", DAY, distrust=True)
    assert (mended.details["version"], mended.counts["uploaded"]) == (2, 1)
    assert archive.files.read(path) == bytes(data), "nothing is overwritten"
    assert all(proof.holds for proof in verify(archive))
    restore_day(archive, "BTC", DAY, tmp_path / "synthetic")
    assert day_files(Lake(str(tmp_path), "synthetic")) == day_files(local_lake)
    assert archive_day(local_lake, archive, "BTC", DAY, distrust=True).details["version"] == 2


def test_an_archive_somebody_writes_other_bytes_into_is_said(local_lake: Lake, archive: Archive) -> None:
    judged(local_lake)
    path = archive_day(local_lake, archive, "BTC", DAY).details["objects"][0]
    for number in range(1, 10):
        archive.files.write(path if number == 1 else path.replace(".parquet", f"-{number}.parquet"), b"torn")
    with pytest.raises(StorageError, match="other bytes lie under 9 names"):
        archive_day(local_lake, archive, "BTC", DAY)


def test_a_torn_day_is_not_shipped(local_lake: Lake, archive: Archive) -> None:
    judged(local_lake)
    path = next(iter(day_files(local_lake)))
    local_lake.files.write(path, local_lake.files.read(path)[:-50])
    with pytest.raises(DataError, match="not a whole Parquet file"):
        archive_day(local_lake, archive, "BTC", DAY)
    assert archive.files.find("") == {}


def test_what_is_not_there_is_said(local_lake: Lake, archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not in the lake"):
        archive_day(local_lake, archive, "BTC", DAY)
    with pytest.raises(DataError, match="not in the archive"):
        restore_day(archive, "BTC", DAY, tmp_path)
    assert verify(archive) == []
    assert archived(archive) == []
    judged(local_lake)
    archive_day(local_lake, archive, "BTC", DAY)
    with pytest.raises(DataError, match="no version 7"):
        restore_day(archive, "BTC", DAY, tmp_path, version=7)


def test_a_damaged_manifest_is_named_and_superseded(local_lake: Lake, archive: Archive, tmp_path: Path) -> None:
    judged(local_lake)
    archive_day(local_lake, archive, "BTC", DAY)
    archive.files.write(f"{manifest_folder('BTC', DAY)}/v000001.jsonl", json.dumps({"path": "x"}).encode())
    with pytest.raises(DataError, match="not a manifest"):
        restore_day(archive, "BTC", DAY, tmp_path / "elsewhere")
    assert archive_day(local_lake, archive, "BTC", DAY).details["version"] == 2
    assert restore_day(archive, "BTC", DAY, tmp_path / "elsewhere").version == 2


def test_the_list_names_every_day_of_every_underlying(local_lake: Lake, archive: Archive) -> None:
    for offset in (1, 0):
        judged(local_lake, DAY + dt.timedelta(days=offset))
        archive_day(local_lake, archive, "BTC", DAY + dt.timedelta(days=offset))
    write_day(local_lake, "clean", "ETH", DAY, as_clean(chain(underlying="ETH")))
    archive_day(local_lake, archive, "ETH", DAY)
    assert [(name, day, len(manifest.lines)) for name, day, manifest in archived(archive)] == [
        ("BTC", DAY, 2),
        ("BTC", DAY + dt.timedelta(days=1), 2),
        ("ETH", DAY, 1),
    ]
    assert len(archived(archive, "ETH")) == 1


def test_the_lifecycle_files_are_whole_and_delete_no_archived_day() -> None:
    folder = REPOSITORY / "deploy" / "archive"
    s3, gcs = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("s3-lifecycle.json", "gcs-lifecycle.json"))
    moved = [step["StorageClass"] for rule in s3["Rules"] for step in rule.get("Transitions", ())]
    assert set(moved) <= set(STORAGE_CLASSES["s3"])
    assert not any("Expiration" in rule for rule in s3["Rules"])
    actions = [rule["action"] for rule in gcs["lifecycle"]["rule"]]
    assert {action["type"] for action in actions} == {"SetStorageClass", "AbortIncompleteMultipartUpload"}
    assert {action["storageClass"] for action in actions if "storageClass" in action} <= set(STORAGE_CLASSES["gs"])
