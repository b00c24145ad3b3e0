from pathlib import Path

import pytest

from wherry.linux import user_namespaces
from wherry.linux.user_namespaces import Extent


def test_the_ranges_of_a_user_are_found_by_number_and_by_name(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("root:100000:65536\n0:300000:10\nrooty:1:1\n\nroot:x:y\nroot:5\n# a remark\n")
    assert user_namespaces.subordinate(str(file), 0) == [(100000, 65536), (300000, 10)]
    assert user_namespaces.subordinate(str(file), 987654321) == []
    assert user_namespaces.subordinate(str(tmp_path / "none"), 0) == []


def test_the_user_is_root_and_the_subordinate_ids_follow_without_a_gap() -> None:
    found = user_namespaces.own_extents(1000, [(100000, 5), (300000, 10)])
    assert found == [Extent(0, 1000, 1), Extent(1, 100000, 5), Extent(6, 300000, 10)]


@pytest.fixture
def map_of(monkeypatch: pytest.MonkeyPatch) -> object:
    def give(*extents: Extent) -> None:
        monkeypatch.setattr(user_namespaces, "extents", lambda file="": extents)

    return give


def test_what_a_map_says(map_of) -> None:  # type: ignore[no-untyped-def]
    map_of(Extent(0, 0, 4294967295))
    assert user_namespaces.is_initial() and user_namespaces.has(54321, 4294967294)
    map_of(Extent(0, 1000, 1))
    assert user_namespaces.has_one_id() and not user_namespaces.has(0, 1) and user_namespaces.last_group() == 0
    map_of(Extent(0, 1000, 1), Extent(1, 100000, 65536))
    assert user_namespaces.has(65536, 65536) and not user_namespaces.has(65537, 0)
    assert user_namespaces.last_group() == 65536 and not user_namespaces.is_initial()
    map_of(Extent(0, 1000, 10), Extent(100, 100000, 65536))
    assert user_namespaces.last_group() == 9 and not user_namespaces.has(50, 0)
