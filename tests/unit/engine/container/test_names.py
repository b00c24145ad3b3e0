"""Names of containers."""

import re

import pytest

from wherry.common.errors import InvalidParameter
from wherry.engine.container.store import check_name, suggest_name


def test_random_names_are_two_words() -> None:
    for _ in range(200):
        assert re.fullmatch(r"[a-z]+_[a-z]+", suggest_name(0))
        assert re.fullmatch(r"[a-z]+_[a-z]+\d", suggest_name(1))


@pytest.mark.parametrize("name", ["web", "/web", "a.b-c_1", "0x"])
def test_good_names(name: str) -> None:
    assert check_name(name) == name.removeprefix("/")


@pytest.mark.parametrize("name", ["", "a", "-web", "a b", "a/b", "//web", "wéb", "x\n"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid container name"):
        check_name(name)
