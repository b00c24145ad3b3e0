"""Takes each wall out in turn, and shows which tests of tests/security notice.

``python scripts/walls.py`` runs, as root, for each wall of tests/security/walls.toml the tests that it names, in a
copy of the tree in which the wall is taken out. ``--only WORDS`` does so for the walls whose names have them in it,
``--all`` runs all of tests/security each time, and ``--write`` puts the table into docs/security.md.

A replacement that does not apply, and a wall that no test notices, are errors. Attacks that succeed leave files in the
machine's root folder: run it in a clean room (``scripts/clean_room.sh debian-12 walls``).
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PROJECT = Path(__file__).parents[1]
WALLS = PROJECT / "tests" / "security" / "walls.toml"
DOCUMENT = PROJECT / "docs" / "security.md"
_COPIED = ("src", "tests", "scripts", "pyproject.toml")
_BEGIN, _END = "<!-- walls: made by scripts/walls.py -->", "<!-- end of walls -->"
_SECONDS = 900  # that the tests of one wall may take
_FAILED = re.compile(r"^(?:FAILED|ERROR) tests/security/(\S+?)::(\S+?)(?:\[.*)?(?: - .*)?$", re.MULTILINE)


class Change(NamedTuple):
    file: str
    old: str
    new: str


class Wall(NamedTuple):
    """``changes`` take it out; ``tests`` are files and folders of tests/security."""

    name: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]


class NotApplicable(Exception):
    """The source no longer has what is to be replaced, or has it several times."""


def load() -> list[Wall]:
    return [_wall(entry) for entry in tomllib.loads(WALLS.read_text())["wall"]]


def _wall(entry: dict[str, Any]) -> Wall:
    changes = [Change(each["file"], each["old"], each["new"]) for each in (entry, *entry.get("also", ()))]
    return Wall(entry["name"], tuple(changes), tuple(entry["tests"]))


def take_out(wall: Wall, tree: Path) -> None:
    """Makes the changes in a copy of the source. Raises NotApplicable."""
    for change in wall.changes:
        path = tree / change.file
        text = path.read_text() if path.is_file() else ""
        if text.count(change.old) != 1:
            raise NotApplicable(f"{wall.name}: {change.file} has this {text.count(change.old)} times:\n{change.old}")
        path.write_text(text.replace(change.old, change.new))


def check_all(walls: Sequence[Wall]) -> None:
    """That each can be taken out. Raises NotApplicable."""
    for wall in walls:
        with _copy(("src",)) as tree:
            take_out(wall, tree)


def notice(wall: Wall | None, tests: Sequence[str]) -> set[str]:
    """The tests that fail without the wall, as "test_file.py: name". Without a wall, those that fail anyway."""
    with _copy() as tree:
        if wall is not None:
            take_out(wall, tree)
        output = _run(tree, [f"tests/security/{each}" for each in tests])
    return {
        f"{Path(file).name}: {name.split('::')[-1].removeprefix('test_')}" for file, name in _FAILED.findall(output)
    }


@contextlib.contextmanager
def _copy(parts: Sequence[str] = _COPIED) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wherry-walls-") as name:
        tree = Path(name)
        tree.chmod(0o755)
        for each in parts:
            if (PROJECT / each).is_dir():
                shutil.copytree(PROJECT / each, tree / each, symlinks=True)
            else:
                shutil.copy2(PROJECT / each, tree / each)
        (tree / ".cache").symlink_to(PROJECT / ".cache")
        yield tree


def _run(tree: Path, tests: Sequence[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{tree}/src:{tree}"}
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", *tests]
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # so that what the tests have made is taken away
            output, _ = process.communicate(timeout=_SECONDS)
    if "passed" not in output and "failed" not in output and "error" not in output:
        raise RuntimeError(f"pytest did not run:\n{output[-2000:]}")
    return output


def table(found: Sequence[tuple[Wall, set[str]]]) -> str:
    rows = ["| without this wall | these tests fail |", "| --- | --- |"]
    for wall, tests in found:
        by_file: dict[str, list[str]] = {}
        for file, _, name in (each.partition(": ") for each in sorted(tests)):
            by_file.setdefault(file, []).append(name)
        shown = "; ".join(f"`{file}`: {', '.join(names)}" for file, names in by_file.items())
        rows.append(f"| {wall.name} | {shown or 'NONE'} |")
    return "\n".join(rows)


def _write(text: str) -> None:
    document = DOCUMENT.read_text()
    before, begun, rest = document.partition(_BEGIN)
    _, ended, after = rest.partition(_END)
    if not begun or not ended:
        raise SystemExit(f"{DOCUMENT} has no place for the table: {_BEGIN} … {_END}")
    DOCUMENT.write_text(f"{before}{_BEGIN}\n\n{text}\n\n{_END}{after}")


def _leave_the_host_s_mounts() -> None:
    """What a wall that is missing lets happen to mounts, happens in a namespace of this script's own."""
    from wherry.linux import mounts, namespaces

    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.make_private()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", metavar="WORDS", help="the walls whose names have these words in it")
    parser.add_argument("--all", action="store_true", help="run all of tests/security for each wall")
    parser.add_argument("--write", action="store_true", help="put the table into docs/security.md")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("the tests of tests/security need root")
    _leave_the_host_s_mounts()
    walls = [wall for wall in load() if options.only.lower() in wall.name.lower()]
    check_all(walls)  # before anything runs
    everything = [""] if options.all else sorted({test for wall in walls for test in wall.tests})
    broken = notice(None, everything)
    for each in sorted(broken):
        print(f"fails with all walls, and is not counted: {each}", flush=True)
    found = []
    for wall in walls:
        found.append((wall, notice(wall, [""] if options.all else wall.tests) - broken))
        print(f"{wall.name}: {len(found[-1][1])} tests notice", flush=True)
    print(table(found))
    unnoticed = [wall.name for wall, tests in found if not tests]
    if options.write and not unnoticed:
        _write(table(found))
    for name in unnoticed:
        print(f"no test notices: {name}")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
