"""Writes the files of the version in force, to be committed beside those of former versions and never changed again.

Run once after SCHEMA_VERSION, the encoding or a receipt changed: python tests/data/schema_versions/make_version.py v2
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from options_agent.lake.archive import Archive, archive_day
from options_agent.lake.compaction import compact_raw_day
from options_agent.lake.receipts import Receipt, write_receipt
from options_agent.lake.store import Lake, write_day, write_series, write_snapshot
from options_agent.lake.sweeps import with_sweep
from options_agent.quotes import UTC_US
from options_agent.series import SERIES
from tests.chains import DAY, NOON, as_clean, as_quarantined, chain

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path(__file__).resolve().parent
INSTANT = dt.datetime(2026, 2, 1, 0, 30, tzinfo=dt.UTC)
_SERIES = {
    "prices": {"ts": NOON, "underlying": "BTC", "price": 84_990.5, "kind": "index", "source": "synthetic"},
    "dvol": {"ts": NOON, "underlying": "BTC", "open": 0.5, "high": 0.52, "low": None, "close": 0.51, "source": "synthetic"},
    "funding": {"ts": NOON, "underlying": "BTC", "rate_8h": 0.0001, "source": "synthetic"},
    "trades": {
        "ts": NOON,
        "traded": NOON,
        "underlying": "BTC",
        "instrument": "BTC-8FEB26-80000-C",
        "price": 0.0415,
        "amount": 2.5,
        "side": "buy",
        "iv": 0.515,
        "mark": 0.0413,
        "index": None,
        "trade_id": "1",
        "source": "synthetic",
    },
}


def exact(table: pa.Table) -> list[dict[str, object]]:
    """Rows as JSON that loses nothing: floats in hex, instants in microseconds."""
    columns = {
        field.name: (column.cast(pa.int64()) if field.type == UTC_US else column).to_pylist()
        for field, column in zip(table.schema, table.columns, strict=True)
    }
    rows: Iterable[tuple[object, ...]] = zip(*columns.values(), strict=True)
    return [{name: v.hex() if isinstance(v, float) else v for name, v in zip(columns, row, strict=True)} for row in rows]


def main(version: str) -> None:
    """Write every kind of file of the version in force, and what must be read from each."""
    target = FOLDER / version
    target.mkdir()
    first, second = chain(NOON, contracts=9), chain(NOON + dt.timedelta(hours=1), contracts=9)
    judged = pa.concat_tables([first, second])
    with tempfile.TemporaryDirectory() as scratch:
        lake = Lake(f"{scratch}/lake", "synthetic")
        names = first["instrument"].to_pylist()
        noted = with_sweep(first, expected=[*names, "BTC-8FEB26-99000-P"], transport="http", started=NOON, ended=NOON, cause="a test")
        snapshot = write_snapshot(lake, noted)
        shutil.copy(lake.files.place(snapshot.path), target / "raw_snapshot.parquet")
        write_snapshot(lake, second)
        day = compact_raw_day(lake, "BTC", DAY)
        shutil.copy(lake.files.place(day.path), target / "raw_day.parquet")
        clean = write_day(lake, "clean", "BTC", DAY, as_clean(judged.slice(3)))
        quarantine = write_day(lake, "quarantine", "BTC", DAY, as_quarantined(judged.slice(0, 3)))
        shutil.copy(lake.files.place(clean.path), target / "clean_day.parquet")
        shutil.copy(lake.files.place(quarantine.path), target / "quarantine_day.parquet")
        for name, row in _SERIES.items():
            table = pa.Table.from_pylist([row], schema=SERIES[name])
            written = write_series(lake, name, "BTC", DAY, table)  # type: ignore[arg-type]
            shutil.copy(lake.files.place(written.path), target / f"{name}.parquet")
        archive = Archive(f"{scratch}/archive", "synthetic")
        manifest = archive_day(lake, archive, "BTC", DAY).details["manifest"]
        shutil.copy(archive.files.place(manifest), target / "manifest.jsonl")
        receipt = Receipt("quality", "BTC", DAY.isoformat(), "f" * 64, {"rows": 18}, (clean, quarantine), {"note": "kept"}, INSTANT)
        write_receipt(lake, receipt)
        shutil.copy(lake.files.place(f"receipts/quality/underlying=BTC/{DAY}.json"), target / "receipt.json")
    expected = {
        "raw_snapshot": exact(first),
        "raw_day": exact(judged),
        "clean_day": exact(as_clean(judged.slice(3))),
        "quarantine_day": exact(as_quarantined(judged.slice(0, 3))),
        **{name: exact(pa.Table.from_pylist([row], schema=SERIES[name])) for name, row in _SERIES.items()},
    }
    (target / "expected.json").write_text(json.dumps(expected, indent=0, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
