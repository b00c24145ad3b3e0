"""Names that COPY takes by a pattern."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.storage.worker.select import translate


@given(st.text("ab*?", max_size=8), st.text("ab\n", max_size=8))
def test_stars(pattern: str, name: str) -> None:
    assert bool(translate(pattern).fullmatch(name)) == fnmatch.fnmatchcase(name, pattern)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [("*[^a-c].txt", "ad.txt", True), ("*[^a-c].txt", "ab.txt", False), (r"*\*", "a*", True), (r"*\*", "ab", False)],
)
def test_classes(pattern: str, name: str, expected: bool) -> None:
    assert bool(translate(pattern).fullmatch(name)) == expected


def test_nobody_waits_for_a_hostile_one() -> None:
    assert not translate("*a" * 40 + "b").fullmatch("a" * 255)
