"""Whose a data root is."""

from pathlib import Path

import pytest

from wherry.common.errors import EngineError
from wherry.linux import user_namespaces
from wherry.storage import data_root


@pytest.mark.parametrize(("maker_is_root", "text"), [(True, "of root's"), (False, "of an ordinary user's")])
def test_one_that_an_engine_of_the_other_kind_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maker_is_root: bool, text: str
) -> None:
    monkeypatch.setattr(user_namespaces, "is_initial", lambda: maker_is_root)
    data_root.claim(str(tmp_path))
    (tmp_path / "state.db").touch()
    data_root.claim(str(tmp_path))
    before = sorted(tmp_path.iterdir())

    monkeypatch.setattr(user_namespaces, "is_initial", lambda: not maker_is_root)
    with pytest.raises(EngineError, match=text):
        data_root.claim(str(tmp_path))
    assert sorted(tmp_path.iterdir()) == before
