"""The rules of the layout, read off the imports: what may know what, and what loading a module may cost."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = "options_agent"
ORCHESTRATION = ("dagster_project", "assets", "jobs", "sensors", "resources")

#: Highest first. Imports go to a lower line only, or stay within their own room; rooms of one line do not know each other.
#: `alerts` watch what quality finds; `dictionary` prints the foundation.
LAYERS = (
    ("cli", "web", "agent"),
    ("local",),
    ("research",),
    ("llm",),
    ("tracking",),
    ("backtest", "regimes", "risk"),
    ("alerts", "exchange"),
    ("strategies", "quality", "market", "journal"),
    ("pricing", "lake"),
    ("dictionary",),
    ("compiled",),
    ("contracts", "quotes", "series", "settings", "progress", "durable", "errors"),
)
FOUNDATION = LAYERS[-1]
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}

#: Seconds each: loaded inside the functions that use them. Polars (0.1 s) and NumPy are fine; numba where kernels are.
HEAVY = ("dagster", "matplotlib", "mlflow", "openai", "pandas", "pandera", "s3fs", "scipy", "sklearn", "torch")
ALONE = ("mlflow", "openai")
MOST_LINES = 500


@dataclass(frozen=True, slots=True)
class Import:
    """One import: the importing file, the dotted name, whether it runs when the module loads."""

    path: Path
    line: int
    target: str
    at_load: bool

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]

    @property
    def room(self) -> str:
        """The room of the package imported from, or nothing for others' modules."""
        parts = self.target.split(".")
        return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else ""

    def __str__(self) -> str:
        return f"{self.path.relative_to(REPOSITORY)}:{self.line} imports {self.target}"


def _modules(folder: str = PACKAGE) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.py"))


def _imports(path: Path) -> list[Import]:
    found: list[Import] = []
    _collect(ast.parse(path.read_text(encoding="utf-8")), path, True, found)
    return found


def _collect(node: ast.AST, path: Path, at_load: bool, found: list[Import]) -> None:
    if isinstance(node, ast.Import):
        found += [Import(path, node.lineno, alias.name, at_load) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        module = _absolute(node, path)
        found += [Import(path, node.lineno, f"{module}.{alias.name}", at_load) for alias in node.names]
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for child in node.body:
            _collect(child, path, False, found)
        for child in node.orelse:
            _collect(child, path, at_load, found)
    else:
        inside = at_load and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            _collect(child, path, inside, found)


def _absolute(node: ast.ImportFrom, path: Path) -> str:
    if not node.level:
        return node.module or ""
    package = list(path.relative_to(REPOSITORY).with_suffix("").parts)
    return ".".join(package[: len(package) - node.level] + ([node.module] if node.module else []))


def _room(path: Path) -> str:
    inside = path.relative_to(REPOSITORY / PACKAGE)
    return inside.parts[0].removesuffix(".py")


IMPORTS = [found for path in _modules() for found in _imports(path)]


def test_there_is_something_to_look_at() -> None:
    assert len(IMPORTS) > 300
    assert {_room(path) for path in _modules()} >= {"cli", "backtest", "market", "lake", "pricing", "quotes"}


def test_every_room_of_the_package_has_its_place_in_the_layers() -> None:
    assert not {room for path in _modules() if (room := _room(path)) not in RANK and room != "__init__"}


def test_the_domain_knows_nothing_of_the_orchestrator() -> None:
    wrong = [str(i) for i in IMPORTS if i.top.startswith("dagster") or i.top in ORCHESTRATION]
    assert not wrong


def test_imports_go_down_only() -> None:
    wrong = []
    for found in IMPORTS:
        here, there = _room(found.path), found.room
        if there not in RANK or here == there or here == "__init__":
            continue
        both_foundation = here in FOUNDATION and there in FOUNDATION
        if RANK[there] <= RANK[here] and not both_foundation:
            wrong.append(str(found))
    assert not wrong


def test_the_foundation_has_no_cycle() -> None:
    knows = {room: {i.room for i in IMPORTS if _room(i.path) == room and i.room in FOUNDATION} for room in FOUNDATION}
    while free := [room for room, others in knows.items() if not others & knows.keys()]:
        for room in free:
            del knows[room]
    assert not knows


@pytest.mark.parametrize("library", ALONE)
def test_a_provider_is_known_to_one_module_only(library: str) -> None:
    folders = (PACKAGE, *ORCHESTRATION)
    known_to = {str(p.relative_to(REPOSITORY)) for f in folders for p in _modules(f) if any(i.top == library for i in _imports(p))}
    assert len(known_to) <= 1, known_to


def test_heavy_libraries_load_where_they_are_used() -> None:
    wrong = [str(i) for i in IMPORTS if i.at_load and i.top in HEAVY]
    assert not wrong


def test_the_foundation_loads_nothing_but_arrow_and_pydantic() -> None:
    allowed = {"pyarrow", "pydantic", "pydantic_settings", PACKAGE, *sys.stdlib_module_names}
    wrong = [str(i) for i in IMPORTS if _room(i.path) in FOUNDATION and i.at_load and i.top not in allowed]
    assert not wrong


def test_no_module_outgrows_its_one_purpose() -> None:
    long = {str(p.relative_to(REPOSITORY)): n for p in _modules() if (n := len(p.read_text().splitlines())) > MOST_LINES}
    assert not long


def test_modules_are_named_for_what_they_hold() -> None:
    nothing = {"utils", "util", "helpers", "helper", "base", "common", "misc"}
    assert not [str(p) for p in _modules() if nothing & set(p.with_suffix("").relative_to(REPOSITORY).parts)]


def test_every_module_says_what_lives_in_it() -> None:
    assert not [str(p) for p in _modules() if ast.get_docstring(ast.parse(p.read_text())) is None]


def test_the_reader_of_imports_sees_relative_nested_and_type_only_ones() -> None:
    path = REPOSITORY / PACKAGE / "lake" / "imagined.py"
    source = (
        "from typing import TYPE_CHECKING\nfrom ..market import sources\nfrom . import files\n"
        "if TYPE_CHECKING:\n    import pandas\ntry:\n    import mlflow.genai\nexcept ImportError:\n    pass\n"
        "def f():\n    import dagster as d\n"
    )
    found: list[Import] = []
    _collect(ast.parse(source), path, True, found)
    assert [(i.target, i.at_load) for i in found[1:]] == [
        ("options_agent.market.sources", True),
        ("options_agent.lake.files", True),
        ("pandas", False),
        ("mlflow.genai", True),
        ("dagster", False),
    ]
