"""Files judged a row group at a time give the verdicts of all rows judged at once, however the rows are cut."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.errors import DataError
from options_agent.quality.injection import KINDS, inject
from options_agent.quality.judge import judge
from options_agent.quality.stream import judge_files, write_judged
from options_agent.quotes import CLEAN_SCHEMA, QUARANTINE_SCHEMA
from options_agent.settings import QualitySettings
from tests.unit.quality.market import NOON, rows, table

HOUR = dt.timedelta(hours=1)
STANDARD = QualitySettings()


def spoilt_market(snapshots: int = 6) -> pa.Table:
    """Some hours of two underlyings with every kind of defect put in, one on top of the other."""
    quotes = table([row for n in range(snapshots) for name in ("BTC", "ETH") for row in rows(NOON + n * HOUR, underlying=name)])
    for seed, rule in enumerate(KINDS):
        quotes = inject(quotes, rule, 0.01, seed=seed, settings=STANDARD).quotes
    return quotes


@pytest.fixture(scope="module")
def market() -> pa.Table:
    return spoilt_market()


def written(quotes: pa.Table, folder: Path, *, group: int, files: int = 1) -> list[Path]:
    paths = []
    size = -(-len(quotes) // files)
    for n in range(files):
        paths.append(folder / f"{n}.parquet")
        pq.write_table(quotes.slice(n * size, size), paths[-1], row_group_size=group)
    return paths


def said(quotes: pa.Table) -> str:
    """Rows as text: a NaN is not itself, but reads alike."""
    return repr(quotes.to_pylist())


@hypothesis_settings(max_examples=25)
@given(st.integers(1, 700), st.integers(1, 3))
def test_however_the_rows_are_cut_the_verdicts_are_those_of_all_at_once(market, tmp_path_factory, group, files) -> None:
    paths = written(market, tmp_path_factory.mktemp("cut"), group=max(group, 20), files=files)
    whole = judge(market, STANDARD, network="synthetic")
    parts = list(judge_files(paths, STANDARD, network="synthetic"))
    assert [part.first for part in parts] == list(np.cumsum([0, *(len(part.verdicts.table) for part in parts[:-1])]))
    assert np.array_equal(np.concatenate([part.verdicts.broken for part in parts]), whole.broken)
    assert said(pa.concat_tables([part.verdicts.quarantined() for part in parts])) == said(whole.quarantined())


def test_what_is_written_is_what_judge_gives(market, tmp_path) -> None:
    paths = written(market, tmp_path, group=300)
    clean, quarantine = tmp_path / "clean.parquet", tmp_path / "quarantine.parquet"
    counts = write_judged(paths, clean, quarantine, STANDARD, network="synthetic")
    whole = judge(market, STANDARD, network="synthetic")
    assert counts == whole.counts()
    assert pq.read_table(clean, schema=CLEAN_SCHEMA).equals(whole.clean())
    assert said(pq.read_table(quarantine, schema=QUARANTINE_SCHEMA)) == said(whole.quarantined())


@pytest.mark.parametrize("order", ["by contract", "backwards", "shuffled"])
def test_rows_in_any_order_are_judged_alike(market, tmp_path, order, monkeypatch) -> None:
    monkeypatch.setattr("options_agent.quality.stream._ROWS_AT_ONCE", 700)  # several pieces of so small a market
    rows = {
        "by contract": pc.sort_indices(market, sort_keys=[("instrument", "ascending"), ("snapshot", "ascending")]).to_numpy(),
        "backwards": np.arange(len(market))[::-1],
        "shuffled": np.random.default_rng(3).permutation(len(market)),
    }[order]
    disordered = market.take(pa.array(rows))
    whole = judge(disordered, STANDARD, network="synthetic")
    (judged,) = judge_files(written(disordered, tmp_path, group=300, files=2), STANDARD, network="synthetic")
    assert np.array_equal(judged.verdicts.broken, whole.broken)
    assert said(judged.verdicts.quarantined()) == said(whole.quarantined())


def test_nothing_is_written_by_half(market, tmp_path) -> None:
    paths = written(market, tmp_path, group=300, files=2)
    paths[1].write_bytes(paths[1].read_bytes()[:-2_000])
    with pytest.raises(DataError, match="not a whole Parquet file"):
        write_judged(paths, tmp_path / "c.parquet", tmp_path / "q.parquet", STANDARD)
    assert not [place for place in tmp_path.iterdir() if place.name in ("c.parquet", "q.parquet") or place.suffix == ".part"]


def test_a_file_of_something_else_or_nothing_is_refused_by_name(tmp_path) -> None:
    other, torn = tmp_path / "other.parquet", tmp_path / "torn.parquet"
    pq.write_table(pa.table({"a": [1]}), other)
    torn.write_bytes(b"PAR1")
    for path in (other, torn):
        with pytest.raises(DataError) as failure:
            list(judge_files([path], STANDARD))
        assert failure.value.place == str(path)


def test_no_files_and_empty_files_have_no_verdicts(tmp_path) -> None:
    empty = written(table([]), tmp_path, group=1)
    assert list(judge_files([], STANDARD)) == []
    assert sum(len(part.verdicts.table) for part in judge_files(empty, STANDARD)) == 0
