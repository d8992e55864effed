"""A file is read as a stream or refused with its reason: changed header, truncation, corruption, emptiness."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from options_agent.market.tardis.header import OPTIONS_CHAIN, ChangedHeaderError, DamagedFileError, header_of
from options_agent.market.tardis.stream import Read, batches
from tests.conftest import REPOSITORY
from tests.servers.tardis_files import CHAIN_HEADER, GOLDEN


def _file(folder: Path, data: bytes) -> Path:
    path = folder / "chain.csv.gz"
    path.write_bytes(data)
    return path


def _rows(path: Path) -> int:
    return sum(batch.num_rows for batch in batches(path, OPTIONS_CHAIN, Read()))


def _many(rows: int = 50_000) -> bytes:
    # numbers that do not repeat, so that a cut of the gzip is a cut in the rows
    lines = (GOLDEN.replace("9756.36", f"{9000 + n * 7919 % 1000003 / 1000}") for n in range(rows))
    return gzip.compress("\n".join([CHAIN_HEADER, *lines, ""]).encode(), 1)


def test_an_empty_gzip_is_no_data(tmp_path: Path) -> None:
    path = _file(tmp_path, gzip.compress(b""))
    assert header_of(path, OPTIONS_CHAIN) == ()
    assert _rows(path) == 0


def test_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    assert _rows(_file(tmp_path, gzip.compress(f"{CHAIN_HEADER}\n".encode()))) == 0


@pytest.mark.parametrize(
    "data", [b"", b"exchange,symbol\n" * 3, gzip.compress(CHAIN_HEADER.encode(), mtime=0)[:15]], ids=["nothing", "text", "cut"]
)
def test_what_is_no_gzip_is_damaged(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DamagedFileError):
        _rows(_file(tmp_path, data))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_gzip_is_never_taken_for_the_whole(tmp_path: Path, kept: float) -> None:
    data = _many()
    with pytest.raises(DamagedFileError, match="truncated or corrupt"):
        _rows(_file(tmp_path, data[: int(len(data) * kept)]))


def test_a_gzip_without_its_last_byte_is_truncated(tmp_path: Path) -> None:
    data = _many(1_000)
    for cut in (1, 4, 8, 9):
        with pytest.raises(DamagedFileError):
            _rows(_file(tmp_path, data[:-cut]))


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    data = bytearray(_many(5_000))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(DamagedFileError):
        _rows(_file(tmp_path, bytes(data)))


def test_a_line_with_too_few_cells_is_damage(tmp_path: Path) -> None:
    text = "\n".join([CHAIN_HEADER, GOLDEN, GOLDEN.rsplit(",", 3)[0], ""])
    with pytest.raises(DamagedFileError, match="Expected 24 columns"):
        _rows(_file(tmp_path, gzip.compress(text.encode())))


def test_a_changed_header_names_what_is_missing_and_what_is_unknown(tmp_path: Path) -> None:
    text = f"{CHAIN_HEADER}\n{GOLDEN}\n".replace("bid_iv", "bid_vol").replace(",delta", ",delta_pa")
    with pytest.raises(ChangedHeaderError, match=r"missing \['bid_iv', 'delta'\], unknown \['bid_vol', 'delta_pa'\]"):
        _rows(_file(tmp_path, gzip.compress(text.encode())))


def test_a_further_column_and_another_order_do_no_harm(tmp_path: Path) -> None:
    names, values = [*reversed(CHAIN_HEADER.split(",")), "vanna"], [*reversed(GOLDEN.split(",")), "1.5"]
    read = Read()
    (batch,) = batches(_file(tmp_path, gzip.compress(f"{','.join(names)}\n{','.join(values)}\n".encode())), OPTIONS_CHAIN, read)
    assert read.strangers == ("vanna",)
    assert batch.column("mark_price").to_pylist() == ["0.02210436"]
    assert batch.column("symbol").to_pylist() == ["BTC-9JUN20-9875-P"]


def test_the_stream_says_how_far_it_is(tmp_path: Path) -> None:
    path, read = _file(tmp_path, _many(1_000)), Read()
    list(batches(path, OPTIONS_CHAIN, read))
    assert (read.rows, read.bytes, read.size) == (1_000, path.stat().st_size, path.stat().st_size)


_DECODE = """
import json, resource, sys
import datetime as dt
from pathlib import Path
from tests.unit.market.tardis.worlds import thinned
rows = sum(len(table) for _, table in thinned(Path(sys.argv[1]), dt.date(2025, 6, 1), ("BTC",)))
print(json.dumps([rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def _ticks(path: Path, reps: int) -> None:
    """A day of 500 instruments, each heard `reps` times an hour; cheap to make, as long as it is to read."""
    strikes = [f"{50 + n}000" for n in range(250)]
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(f"{CHAIN_HEADER}\n".encode())
        for hour in range(24):
            for rep in range(reps):
                arrived = 1_748_736_000_000_000 + hour * 3_600_000_000 + rep * 1_000_000 + 1
                lines = [
                    f"deribit,BTC-27JUN25-{k}-{t[0].upper()},{arrived - 9},{arrived},{t},{k},1751011200000000,12.5,0.0105,"
                    f"0.0{hour + 10},3.1,50.5,0.0{hour + 11},4.2,51.5,0.011{rep % 10},"
                    f"51.25,SYN.BTC-27JUN25,104000.5,0.41235,0.00011,20.41237,-30.51234,1.12345\n"
                    for t in ("call", "put")
                    for k in strikes
                ]
                stream.write("".join(lines).encode())


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux only")
def test_a_file_ten_times_longer_takes_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for reps in (15, 150):  # 0.2 and 2 million rows; 36 and 360 MB of text
        path = tmp_path / f"{reps}.csv.gz"
        _ticks(path, reps)
        done = subprocess.run(
            [sys.executable, "-c", _DECODE, str(path)], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120
        )
        rows, peak = json.loads(done.stdout)
        assert rows == 24 * 500
        peaks.append(peak / 1024)
        path.unlink()
    assert peaks[1] < peaks[0] * 1.15, f"peak memory grew with the file: {peaks} MB"
