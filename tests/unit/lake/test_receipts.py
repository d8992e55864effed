from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

import pytest

from options_agent.errors import DataError
from options_agent.lake.receipts import Receipt, fingerprint, read_receipt, receipts, unchanged, write_receipt
from options_agent.lake.store import Lake, write_snapshot
from options_agent.settings import QualitySettings, load_settings
from tests.chains import chain


def receipt(lake: Lake, **changes: object) -> Receipt:
    values = {
        "stage": "harvest",
        "underlying": "BTC",
        "partition": "2026-01-31",
        "fingerprint": fingerprint("v1"),
        "counts": {"rows": 12},
        "files": (write_snapshot(lake, chain()),),
        "details": {"gaps": [1, 2], "note": "ö"},
    }
    return Receipt(**(values | changes))  # type: ignore[arg-type]


def test_a_receipt_reads_back_as_it_was_written(lake: Lake) -> None:
    assert read_receipt(lake, "harvest", "BTC", "2026-01-31") is None
    written = receipt(lake)
    write_receipt(lake, written)
    assert read_receipt(lake, "harvest", "BTC", "2026-01-31") == written
    assert "receipts/harvest/underlying=BTC/2026-01-31.json" in lake.files.find("receipts")


def test_a_partition_is_unchanged_only_while_fingerprint_and_outputs_stand(lake: Lake) -> None:
    written = receipt(lake)
    assert unchanged(lake, written, fingerprint("v1"))
    assert not unchanged(lake, None, fingerprint("v1"))
    assert not unchanged(lake, written, fingerprint("v2"))
    lake.files.write(written.files[0].path, b"torn")
    assert not unchanged(lake, written, fingerprint("v1"))
    lake.files.delete(written.files[0].path)
    assert not unchanged(lake, written, fingerprint("v1"))


def test_a_stages_receipts_are_listed_by_underlying_and_partition(lake: Lake) -> None:
    for underlying in ("ETH", "BTC"):
        for partition in ("2026-02-01", "2026-01-31"):
            write_receipt(lake, receipt(lake, underlying=underlying, partition=partition))
    write_receipt(lake, receipt(lake, stage="quality"))
    assert [(r.underlying, r.partition) for r in receipts(lake, "harvest")] == [
        ("BTC", "2026-01-31"),
        ("BTC", "2026-02-01"),
        ("ETH", "2026-01-31"),
        ("ETH", "2026-02-01"),
    ]
    assert [r.underlying for r in receipts(lake, "harvest", "ETH")] == ["ETH", "ETH"]
    assert receipts(lake, "nothing") == []


def test_fingerprints_follow_content_not_spelling() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": (1, 2), "a": 1})
    assert fingerprint("a", "b") != fingerprint("ab")
    assert fingerprint(QualitySettings()) == fingerprint(QualitySettings())
    assert fingerprint(QualitySettings()) != fingerprint(QualitySettings(iv_max=5.0))
    assert fingerprint(dt.date(2026, 1, 31), Path("x"), {3, 1}) == fingerprint("2026-01-31", "x", [1, 3])
    with pytest.raises(TypeError, match="no JSON form"):
        fingerprint(object())


def test_a_fingerprint_does_not_depend_on_a_secret() -> None:
    one, other = (load_settings(s3_secret_access_key=secret, _env_file=None) for secret in ("one", "two"))
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"receipt_version": 99}', b'{"receipt_version": 1}'])
def test_what_is_not_a_receipt_is_named(lake: Lake, content: bytes) -> None:
    lake.files.write("receipts/harvest/underlying=BTC/2026-01-31.json", content)
    with pytest.raises(DataError, match="not a receipt") as refused:
        read_receipt(lake, "harvest", "BTC", "2026-01-31")
    assert "2026-01-31.json" in str(refused.value)


@pytest.mark.parametrize("partition", ["../x", "a/b", ""])
def test_a_partition_that_would_leave_its_folder_is_refused(lake: Lake, partition: str) -> None:
    with pytest.raises(DataError, match="cannot be part of a path"):
        read_receipt(lake, "harvest", "BTC", partition)


def test_nine_hundred_receipts_list_quickly(local_lake: Lake) -> None:
    record = receipt(local_lake).files[0]
    for stage in ("harvest", "quality", "compact", "archive", "history"):
        for n in range(180):
            write_receipt(local_lake, receipt(local_lake, stage=stage, partition=f"p{n}", files=(record,) * 24))
    started = time.perf_counter()
    assert sum(len(receipts(local_lake, stage)) for stage in ("harvest", "quality", "compact", "archive", "history")) == 900
    assert time.perf_counter() - started < 3.0
