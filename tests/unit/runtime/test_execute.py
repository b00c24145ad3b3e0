"""Finding the program, with Docker's words and codes."""

import os
from pathlib import Path

import pytest

from wherry.runtime.execute import execute_file, find_program
from wherry.runtime.ipc import StartError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for directory in ("first", "second", "second/tool-dir"):
        (tmp_path / directory).mkdir()
    for name, mode in (("first/tool", 0o644), ("second/tool", 0o755), ("second/other", 0o755)):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    return tmp_path


def test_the_first_that_can_be_executed(tree: Path) -> None:
    search = f"{tree}/nothing:{tree}/first:{tree}/second"
    assert find_program("tool", search) == f"{tree}/second/tool"
    assert find_program("other", search) == f"{tree}/second/other"


def test_a_path_is_taken_as_it_is(tree: Path) -> None:
    assert find_program(f"{tree}/second/tool", "") == f"{tree}/second/tool"


@pytest.mark.parametrize(
    ("name", "message", "code"),
    [
        ("nope", 'exec: "nope": executable file not found in $PATH', 127),
        ("tool-dir", 'exec: "tool-dir": executable file not found in $PATH', 127),
        ('with"quote', 'exec: "with\\"quote": executable file not found in $PATH', 127),
        ("TREE/nope", 'exec: "TREE/nope": stat TREE/nope: no such file or directory', 127),
        ("TREE/second/tool/x", 'exec: "TREE/second/tool/x": stat TREE/second/tool/x: not a directory', 127),
        ("TREE/second", 'exec: "TREE/second": is a directory', 126),
        ("TREE/first/tool", 'exec: "TREE/first/tool": permission denied', 126),
    ],
)
def test_what_is_refused(tree: Path, name: str, message: str, code: int) -> None:
    with pytest.raises(StartError) as caught:
        find_program(name.replace("TREE", str(tree)), f"{tree}/first:{tree}/second")
    assert (caught.value.message, caught.value.code) == (message.replace("TREE", str(tree)), code)


def test_no_search_path_finds_nothing(monkeypatch: pytest.MonkeyPatch, tree: Path) -> None:
    monkeypatch.chdir(tree / "second")
    with pytest.raises(StartError, match=r"not found in \$PATH"):
        find_program("tool", "")


@pytest.mark.parametrize(
    ("content", "text", "code"),
    [
        ("#!/no/such/interpreter\n", "no such file or directory", 127),
        ("neither a script nor a binary", "exec format error", 126),
    ],
)
def test_a_program_that_the_kernel_refuses(tmp_path: Path, content: str, text: str, code: int) -> None:
    program = tmp_path / "program"
    program.write_text(content)
    program.chmod(0o755)
    with pytest.raises(StartError) as caught:
        execute_file(str(program), ("program",), dict(os.environ))
    assert (caught.value.message, caught.value.code) == (f"exec {program}: {text}", code)


def test_a_nul_byte_in_an_argument() -> None:
    with pytest.raises(StartError, match="NUL"):
        execute_file("/bin/true", ("true", "a\0b"), {})
