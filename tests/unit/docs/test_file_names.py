"""Names of files: no two of a room are a letter or an ending apart, and what the documents name is there."""

import itertools
import re
from pathlib import Path

import pytest

from tests.support.engine import PROJECT

SOURCE = PROJECT / "src" / "wherry"
ROOMS = sorted(path.parent for path in SOURCE.rglob("__init__.py"))


def are_close(one: str, other: str) -> bool:
    """One letter more, fewer or another; or the shorter goes on with an ending, as exec and execute do."""
    short, long = sorted((one, other), key=len)
    if len(long) - len(short) > 1:
        return len(short) > 3 and long.startswith(short) and len(long) - len(short) < 4
    if len(short) == len(long):
        return sum(a != b for a, b in zip(short, long, strict=True)) == 1 and not long[-1].isdigit()
    return any(long[:at] + long[at + 1 :] == short for at in range(len(long)))


@pytest.mark.parametrize(
    ("one", "other", "close"),
    [("exec", "execute", True), ("monitor", "monitors", True), ("log", "lot", True), ("v1", "v2", False),
     ("build", "builder", True), ("images", "inspect", False)],
)  # fmt: skip
def test_which_names_are_close(one: str, other: str, close: bool) -> None:
    assert are_close(one, other) is close


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(SOURCE)))
def test_no_two_names_of_a_room_are_close(room: Path) -> None:
    names = [path.stem for path in room.glob("*.py")]
    assert [pair for pair in itertools.combinations(sorted(names), 2) if are_close(*pair)] == []


@pytest.mark.parametrize("document", ["architecture.md", "tour.md", "glossary.md", "networking.md"])
def test_files_that_the_documents_name_are_there(document: str) -> None:
    text = (PROJECT / "docs" / document).read_text()
    named = re.findall(
        r"`((?:api|buildkit|cli|client|common|daemon|dockerfile|engine|linux|model|network|registry|runtime|storage|scripts)/[\w/]+\.py)",
        text,
    )
    missing = [name for name in named if not (SOURCE / name).exists() and not (PROJECT / name).exists()]
    assert named and missing == []
