"""The list of walls fits the source: each can be taken out of it."""

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.engine import PROJECT


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("walls", PROJECT / "scripts" / "walls.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["walls"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


walls = _load()


@pytest.mark.parametrize("wall", walls.load(), ids=lambda wall: wall.name)
def test_each_can_be_taken_out(wall: "walls.Wall", tmp_path: Path) -> None:
    for change in wall.changes:
        (tmp_path / change.file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / change.file).write_text((PROJECT / change.file).read_text())
    walls.take_out(wall, tmp_path)
    for change in wall.changes:
        ast.parse((tmp_path / change.file).read_text())
    for test in wall.tests:
        file, _, name = test.partition("::")
        path = PROJECT / "tests" / "security" / file
        assert path.is_dir() or f"class {name}" in path.read_text() or not name
    (tmp_path / wall.changes[-1].file).write_text("")
    with pytest.raises(walls.NotApplicable):
        walls.take_out(wall, tmp_path)


def test_every_test_says_what_a_hole_would_look_like() -> None:
    for path in (PROJECT / "tests" / "security").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_the_table() -> None:
    wall = walls.Wall("A wall", (), ())
    shown = walls.table([(wall, {"test_b.py: two", "test_a.py: one", "test_b.py: one"}), (wall, set())])
    assert shown.splitlines()[2:] == ["| A wall | `test_a.py`: one; `test_b.py`: one, two |", "| A wall | NONE |"]
