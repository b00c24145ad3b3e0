"""docs/tour.md names functions: they are where it says."""

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
SOURCE = PROJECT / "src" / "wherry"
TEXT = (PROJECT / "docs" / "tour.md").read_text(encoding="utf-8")
TOUR = " ".join(TEXT.split())  # what belongs together may stand on two lines
FILES = sorted(set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", TOUR)))
NAMED = sorted(set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`:? `([A-Za-z_.]+)`", TOUR)))


def names(path: Path) -> set[str]:
    """Functions, classes and methods, as "Class.method"; attributes that methods set, too."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.add(f"{node.name}.{inner.name}")
                elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                    found.add(f"{node.name}.{inner.attr}")
    return found


@pytest.mark.parametrize("file", FILES)
def test_the_files_are_there(file: str) -> None:
    assert (SOURCE / file).is_file() or (PROJECT / file).is_file()


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_functions_are_there(file: str, name: str) -> None:
    assert name in names(SOURCE / file)


def test_there_are_three_ways_of_ten_steps() -> None:
    steps = re.findall(r"^(\d+)\. ", TEXT, re.MULTILINE)
    assert steps == [str(number) for number in range(1, 11)] * 3
    assert len(NAMED) > 40
