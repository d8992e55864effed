"""Old files are read for ever: a file of every version so far, and the way from one version to the next."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from options_agent.errors import DataError
from options_agent.lake import encoding, layout, shape
from options_agent.lake.files import LocalFiles, sha256_of
from options_agent.lake.manifest import manifest_folder, read_manifest
from options_agent.lake.raw import snapshot_files, sweeps
from options_agent.lake.receipts import read_receipt
from options_agent.lake.store import Lake, read_day, read_range, read_raw_day, read_series
from options_agent.quotes import CLEAN_SCHEMA, QUARANTINE_SCHEMA, QUOTE_SCHEMA
from options_agent.series import SERIES
from tests.chains import DAY, as_clean, chain

FOLDER = Path(__file__).resolve().parents[2] / "data" / "schema_versions"
VERSIONS = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())

#: SHA-256 of columns, types and nullability of each schema, by name and version. A change of FIELDS lands here: raise
#: SCHEMA_VERSION, add the step to shape.UPGRADES, run tests/data/schema_versions/make_version.py, and add a line. Never edit one.
PINNED = {
    ("quotes", "1"): "964eee19d9af2422",
    ("clean_quotes", "1"): "be94a48b5094c9f2",
    ("quarantined_quotes", "1"): "49dc97b3273d5da1",
    ("prices", "1"): "f7daa617b9c24b05",
    ("dvol", "1"): "af25858d13e7ecba",
    ("trades", "1"): "70c75df355c3f9a0",
    ("funding", "1"): "9dc9f949fd14c6ef",
}


def exact(table: pa.Table) -> list[dict[str, object]]:
    spec = importlib.util.spec_from_file_location("make_version", FOLDER / "make_version.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.exact(table)  # type: ignore[no-any-return]


@pytest.fixture(params=VERSIONS)
def kept(request: pytest.FixtureRequest, local_lake: Lake) -> tuple[Lake, Path]:
    """A lake made of the kept files of a version, and their folder."""
    folder = FOLDER / request.param
    for name, path in {
        "raw_day": layout.day_path("raw", "BTC", DAY),
        "clean_day": layout.day_path("clean", "BTC", DAY),
        "quarantine_day": layout.day_path("quarantine", "BTC", DAY),
        "prices": layout.series_path("prices", "BTC", DAY),
        "dvol": layout.series_path("dvol", "BTC", DAY),
        "funding": layout.series_path("funding", "BTC", DAY),
        "trades": layout.series_path("trades", "BTC", DAY),
    }.items():
        if (folder / f"{name}.parquet").exists():  # v1 had no trades
            local_lake.files.write(path, (folder / f"{name}.parquet").read_bytes())
    local_lake.files.write(layout.receipt_path("quality", "BTC", DAY.isoformat()), (folder / "receipt.json").read_bytes())
    return local_lake, folder


def expected(folder: Path) -> dict[str, list[dict[str, object]]]:
    return json.loads((folder / "expected.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_days_of_every_version_read_the_rows_that_were_written(kept: tuple[Lake, Path]) -> None:
    lake, folder = kept
    rows = expected(folder)
    assert exact(read_raw_day(lake, "BTC", DAY)) == rows["raw_day"]
    assert len(snapshot_files(lake, "BTC", DAY)) == 2
    assert exact(read_day(lake, "clean", "BTC", DAY)) == rows["clean_day"]
    assert exact(read_day(lake, "quarantine", "BTC", DAY)) == rows["quarantine_day"]
    assert exact(read_range(lake, "clean", "BTC", DAY, DAY, ["mark", "bid"])) == [
        {"mark": r["mark"], "bid": r["bid"]} for r in rows["clean_day"]
    ]
    for name in SERIES:
        if name in rows:
            assert exact(read_series(lake, name, "BTC")) == rows[name]  # type: ignore[arg-type]
    assert len(sweeps(lake, "BTC", DAY)) == (folder.name != "v1"), "v1 had no notes of sweeps"


def test_a_snapshot_of_every_version_reads_the_rows_that_were_written(kept: tuple[Lake, Path]) -> None:
    lake, folder = kept
    lake.files.delete(layout.day_path("raw", "BTC", DAY))
    at = dt.datetime.combine(DAY, dt.time(12), dt.UTC)
    lake.files.write(layout.snapshot_path("BTC", at, "synthetic", "local"), (folder / "raw_snapshot.parquet").read_bytes())
    assert exact(read_raw_day(lake, "BTC", DAY)) == expected(folder)["raw_snapshot"]


def test_receipts_and_manifests_of_every_version_are_read(kept: tuple[Lake, Path], tmp_path: Path) -> None:
    lake, folder = kept
    receipt = read_receipt(lake, "quality", "BTC", DAY.isoformat())
    assert receipt is not None
    assert (receipt.counts, receipt.details, len(receipt.files)) == ({"rows": 18}, {"note": "kept"}, 2)
    files = LocalFiles(tmp_path / "archive")
    files.write(f"{manifest_folder('BTC', DAY)}/v000001.jsonl", (folder / "manifest.jsonl").read_bytes())
    manifest = read_manifest(files, "BTC", DAY)
    assert manifest is not None
    by_layer = {line.lake_path.split("/")[0]: line for line in manifest.lines}
    assert by_layer["clean"].sha256 == sha256_of((folder / "clean_day.parquet").read_bytes())
    assert by_layer["clean"].rows == 15


def test_the_schemas_are_those_of_their_versions() -> None:
    schemas = [QUOTE_SCHEMA, CLEAN_SCHEMA, QUARANTINE_SCHEMA, *SERIES.values()]
    found = {}
    for schema in schemas:
        assert schema.metadata is not None
        columns = [(field.name, str(field.type), field.nullable) for field in schema]
        found[(schema.metadata[b"schema"].decode(), schema.metadata[b"schema_version"].decode())] = hashlib.sha256(
            json.dumps(columns).encode()
        ).hexdigest()[:16]
    assert {key: digest for key, digest in found.items() if PINNED.get(key) != digest} == {}, "columns changed without a new version"


def test_every_version_of_the_encoding_has_its_kept_file() -> None:
    kept = {json.loads(_footer(FOLDER / version / "raw_day.parquet")).get("version", 1) for version in VERSIONS}
    assert kept == set(range(1, encoding.ENCODING_VERSION + 1))


def _footer(path: Path) -> bytes:
    import pyarrow.parquet as pq

    return pq.read_metadata(path).metadata[b"encoding"]  # type: ignore[no-any-return]


# -- the way from one version to the next, shown on versions that never were ------------------------------------------
OLD = {b"schema": b"clean_quotes", b"schema_version": b"-1"}


def step_to_zero(table: pa.Table) -> pa.Table:
    """Version -1 called the mark `price`."""
    return table.rename_columns(["mark" if name == "price" else name for name in table.column_names])


def step_to_one(table: pa.Table) -> pa.Table:
    """Version 0 had no region."""
    at = CLEAN_SCHEMA.names.index("region")
    return table.add_column(at, CLEAN_SCHEMA.field("region"), pa.array(["local"] * len(table)))


@pytest.fixture
def old_lake(local_lake: Lake) -> Lake:
    """A clean day two versions old."""
    table = as_clean(chain()).drop_columns(["region"])
    table = table.rename_columns(["price" if name == "mark" else name for name in table.column_names]).replace_schema_metadata(OLD)
    local_lake.files.write(layout.day_path("clean", "BTC", DAY), encoding.day_bytes(table, {"regions": ["local"]}))
    return local_lake


def test_an_old_day_is_brought_up_step_by_step_whole_or_by_columns(old_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shape.UPGRADES, ("clean_quotes", -1), step_to_zero)
    monkeypatch.setitem(shape.UPGRADES, ("clean_quotes", 0), step_to_one)
    before = old_lake.files.read(layout.day_path("clean", "BTC", DAY))
    assert read_day(old_lake, "clean", "BTC", DAY).equals(as_clean(chain()))
    assert read_range(old_lake, "clean", "BTC", DAY, DAY, ["region", "mark"]).equals(as_clean(chain()).select(["region", "mark"]))
    assert read_range(old_lake, "clean", "BTC", DAY, DAY).schema.equals(CLEAN_SCHEMA, check_metadata=True)
    assert old_lake.files.read(layout.day_path("clean", "BTC", DAY)) == before, "files are not rewritten"


def test_a_missing_step_and_a_version_of_tomorrow_are_said(old_lake: Lake) -> None:
    with pytest.raises(DataError, match="no step from version -1"):
        read_day(old_lake, "clean", "BTC", DAY)
    table = as_clean(chain()).replace_schema_metadata({b"schema": b"clean_quotes", b"schema_version": b"9"})
    old_lake.files.write(layout.day_path("clean", "BTC", DAY), encoding.day_bytes(table))
    with pytest.raises(DataError, match="newer release"):
        read_day(old_lake, "clean", "BTC", DAY)


def test_an_encoding_of_tomorrow_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoding.day_bytes(as_clean(chain()))
    monkeypatch.setattr(encoding, "ENCODING_VERSION", 1)
    with pytest.raises(DataError, match="newer release"):
        encoding.from_bytes(data, place="a test")
