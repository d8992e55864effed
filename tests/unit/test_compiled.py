"""Compiled functions: kept on disk for processes without the compiler, and never called once what they are made of has changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pytest

from options_agent.compiled import compiled
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(autouse=True)
def kept_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def run(folder: Path, source: str) -> dict[str, object]:
    """What a fresh process prints that has `source` as a module and calls its `main`."""
    (folder / "sums.py").write_text(textwrap.dedent(source))
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}", "PYTHONDONTWRITEBYTECODE": "1"}
    said = "import sys, json, sums; print(json.dumps({'answer': sums.main(), 'compiler': 'numba' in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", said], env=environment, cwd=folder, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


SUMS = """
import numpy as np
from options_agent.compiled import compiled
{inner}

@compiled()
def sum_of(values, shift):
    total = 0.0
    for value in values:
        total += weighed(value) + shift
    return total, values.size, total > 3.0

def main():
    return sum_of(np.arange(4.0), {shift})
"""
OTHER = """
from options_agent.compiled import compiled
WEIGHT = {weight}

@compiled()
def weighed(value):
    return WEIGHT * value
"""


def test_a_second_process_calls_what_the_first_compiled_without_the_compiler(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(OTHER.format(weight=2.0))
    source = SUMS.format(inner="from other import weighed", shift=0.5)
    assert run(tmp_path, source) == {"answer": [14.0, 4, True], "compiler": True}
    assert run(tmp_path, source) == {"answer": [14.0, 4, True], "compiler": False}


def test_a_change_in_another_file_that_a_function_uses_is_never_missed(tmp_path: Path) -> None:
    source = SUMS.format(inner="from other import weighed", shift=0.5)
    for weight, answer in ((2.0, 14.0), (3.0, 20.0), (2.0, 14.0)):
        (tmp_path / "other.py").write_text(OTHER.format(weight=weight))
        assert run(tmp_path, source)["answer"] == [answer, 4, True]
    assert run(tmp_path, source)["compiler"] is False, "the first version is still kept"


def test_kept_code_that_is_torn_is_compiled_anew(tmp_path: Path, kept_here: Path) -> None:
    (tmp_path / "other.py").write_text(OTHER.format(weight=2.0))
    source = SUMS.format(inner="from other import weighed", shift=0.5)
    run(tmp_path, source)
    (kept,) = kept_here.glob("*.kernel")
    kept.write_bytes(kept.read_bytes()[:-100])
    assert run(tmp_path, source) == {"answer": [14.0, 4, True], "compiler": True}
    assert run(tmp_path, source) == {"answer": [14.0, 4, True], "compiler": False}


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path, kept_here: Path) -> None:
    kept_here.write_text("a file where the folder would be")
    (tmp_path / "other.py").write_text(OTHER.format(weight=2.0))
    assert run(tmp_path, SUMS.format(inner="from other import weighed", shift=0.5)) == {"answer": [14.0, 4, True], "compiler": True}


@compiled()
def dot(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    total = 0.0
    for i in range(left.shape[0]):
        for j in range(left.shape[1]):
            total += left[i, j] * right[i, j]
    return total


@compiled()
def scale(values: NDArray[np.float64], by: float) -> None:
    for i in range(values.size):
        values[i] *= by


@compiled()
def ratio(above: int | np.int64, below: int | np.int64) -> float:
    return float(above / below)


def test_slices_transposes_and_read_only_arrays_are_read_where_they_lie() -> None:
    whole = np.random.default_rng(1).random((9, 12))
    frozen = np.ascontiguousarray(whole[:4, :3])
    frozen.flags.writeable = False
    other = whole[1:8:2, ::4]
    for left in (frozen, whole[::2, ::4][:4], np.asfortranarray(frozen), whole[:3, :4].T):
        assert dot(left, other) == pytest.approx((left * other).sum(), rel=1e-14)


def test_a_part_of_an_array_is_written_in_place() -> None:
    values = np.ones(6)
    scale(values[1::2], 3)
    assert values.tolist() == [1, 3, 1, 3, 1, 3]
    scale(np.empty(0), 2.0)


def test_numbers_of_numpy_are_numbers() -> None:
    assert ratio(np.int64(3), 4) == ratio(3, np.int64(4)) == 0.75


def test_an_error_inside_is_the_error_numba_would_raise() -> None:
    with pytest.raises(ZeroDivisionError):
        ratio(1, 0)


def test_what_no_kernel_takes_is_said() -> None:
    with pytest.raises(TypeError, match="not str"):
        ratio("1", 2)  # type: ignore[arg-type]
